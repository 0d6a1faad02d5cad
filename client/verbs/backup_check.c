#include "client/verbs/backup_check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "client/core/subprocess.h"
#include "client/core/times.h"

enum { EXIT_NOT_FOUND = 127, HOSTS_NAMED_MAX = 20 };

int backup_read(const char *file, BackupDescription *ret, Error *err) {
        _cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return error_set(err, -errno, "Failed to open %s: %s", file, strerror(errno));
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, "%s is no file: expected a backup", file);
        return backup_file_check(fd, file, ret, err);
}

int backup_open_tree(const char *file) {
        static const char script[] =
                "PATH=$PATH:/usr/local/sbin:/usr/sbin; command -v fleetd >/dev/null || exit 127; "
                "exec fleetd --verify=\"$1\" >/dev/null";
        int status = subprocess_run((const char *[]) { "sh", "-c", script, "sh", file, NULL }, NULL, NULL,
                                    NULL, NULL);

        if (status != EXIT_NOT_FOUND)
                return status;
        client_note("the checksum is correct; the tree in it was not opened, because fleetd is not installed "
                    "here");
        return EXIT_DONE;
}

void backup_append_description(Text *t, const BackupDescription *d) {
        char when[32], cluster[HEX64_SIZE], lineage[HEX64_SIZE];

        text_printf(t, "cluster %s, lineage %s, index %llu, feature level %llu, written %s",
                    hex64_print(d->cluster_id, cluster), hex64_print(d->lineage, lineage),
                    (unsigned long long) d->index, (unsigned long long) MAX(d->level, (uint64_t) 1),
                    times_date(d->wall_ms, when));
        for (size_t i = 0; i < d->n_hosts && i < HOSTS_NAMED_MAX; i++) {
                text_printable(t, "%s%s", i == 0 ? ", of " : ", ", d->hosts[i]);
        }
        if (d->n_hosts > HOSTS_NAMED_MAX)
                text_printf(t, " and %zu more hosts", d->n_hosts - HOSTS_NAMED_MAX);
}
