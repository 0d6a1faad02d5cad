#include "fleetd/identity/cluster_file.h"

#include <fcntl.h>
#include <libgen.h>

#include "base/file.h"
#include "units/unit_file.h"

#define SECTION "Fleetd"
#define LISTEN  "ListenPeer"

enum { CLUSTER_FILE_MAX = 64 * 1024 };

void cluster_file_print(Text *t, const char *listen_peer, const char *join) {
        text_append(t, "# Written by fleetd: the other hosts of this cluster, for a start without memory of "
                       "it.\n[" SECTION "]\n");
        if (listen_peer[0])
                text_printf(t, LISTEN "=%s\n", listen_peer);
        if (join[0])
                text_printf(t, "Join=%s\n", join);
}

void cluster_file_read_listen(const char *path, char ret[static ADDRESS_SIZE]) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_free_ char *text = NULL;
        const char *value = NULL;
        size_t size;

        if (path[0] && read_file_at(AT_FDCWD, path, CLUSTER_FILE_MAX, &text, &size) >= 0 &&
            unit_file_parse(text, size, UNIT_FILE_SYSTEMD, &file, NULL) >= 0)
                value = unit_file_get(&file, SECTION, LISTEN);
        snprintf(ret, ADDRESS_SIZE, "%s", value ?: "");
}

/* Open the folder of the file, and create it. *ret_name is a part of *ret_base, which the caller frees. */
static int cluster_file_open(const char *path, char **ret_base, const char **ret_name) {
        _cleanup_free_ char *dir = strdup(path), *base = strdup(path);
        int fd;

        if (!dir || !base)
                return -ENOMEM;
        fd = TRY(open_dir(dirname(dir), 0755));
        *ret_name = basename(base);
        *ret_base = TAKE_PTR(base);
        return fd;
}

int cluster_file_check(const char *path, Error *err) {
        _cleanup_close_ int dir_fd = -1;
        _cleanup_free_ char *base = NULL;
        char staged[FILE_TEMPORARY_SIZE];
        const char *name;
        int r;

        if (!path[0])
                return 0;
        dir_fd = cluster_file_open(path, &base, &name);
        r = dir_fd < 0 ? dir_fd : stage_file_at(dir_fd, name, "", 0, 0644);
        if (r >= 0) {
                file_temporary_name(name, staged);
                r = unlinkat(dir_fd, staged, 0) < 0 ? -errno : 0;
        }
        return r < 0 ? error_set(err, r,
                                 "Failed to write %s: %s; create its folder, let fleetd write it, and start "
                                 "fleetd again (ClusterFile= in fleetd.conf)",
                                 path, strerror(-r)) :
                       0;
}

int cluster_file_write(const char *path, const char *text) {
        _cleanup_close_ int dir_fd = -1;
        _cleanup_free_ char *base = NULL;
        const char *name;

        dir_fd = TRY(cluster_file_open(path, &base, &name));
        return file_holds_at(dir_fd, name, text, strlen(text)) ?
                       0 :
                       write_file_at(dir_fd, name, text, strlen(text), 0644);
}
