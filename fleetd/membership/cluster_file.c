#include "fleetd/membership/cluster_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>

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

int cluster_file_write(const char *path, const char *text) {
        _cleanup_free_ char *dir = strdup(path), *base = strdup(path);
        _cleanup_close_ int dir_fd = -1;
        const char *name;

        if (!dir || !base)
                return -ENOMEM;
        name = basename(base);
        dir_fd = open_dir(dirname(dir), 0755);
        if (dir_fd < 0)
                return dir_fd;
        return file_holds_at(dir_fd, name, text, strlen(text)) ?
                       0 :
                       write_file_at(dir_fd, name, text, strlen(text), 0644);
}
