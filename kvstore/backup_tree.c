#include "kvstore/backup_tree.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "kvstore/command/command.h"
#include "kvstore/tree/tree.h"

int backup_tree_check(const char *folder, const char *file, BackupDescription *ret, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_free_ char *data = NULL;
        _cleanup_close_ int fd = -1;
        TreeMeta meta;
        int r;

        if (asprintf(&data, "%s/data.mdb", folder) < 0)
                return -ENOMEM;
        fd = open(data, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_set(err, -errno, "Failed to open %s: %s", data, strerror(errno));
        TRY(backup_file_check(fd, file, &d, err));

        r = tree_check_copy(folder, NULL, &meta, err);
        if (r == -ENOTSUP || (r >= 0 && meta.level > KV_LEVEL_MAX))
                return error_set(err, -ENOTSUP, "%s was written by a newer fleetd; upgrade this host", file);
        if (r < 0)
                return error_prefix(err, r, "%s", file);
        if (meta.cluster_id == 0)
                return error_set(err, -EINVAL, "%s is not a backup: it has no cluster ID", file);
        *ret = d;
        d = (BackupDescription) {};
        return 0;
}

int backup_check_new_file(const char *file, Error *err) {
        const char *slash = strrchr(file, '/');
        _cleanup_free_ char *folder = NULL, *workshop = NULL;
        struct stat st;

        folder = !slash ? strdup(".") : strndup(file, slash == file ? 1 : (size_t) (slash - file));
        if (!folder || asprintf(&workshop, "%s.new", file) < 0)
                return -ENOMEM;
        if (stat(folder, &st) < 0)
                return error_set(err, -errno, "Failed to write %s: the folder %s: %s; create it first", file,
                                 folder, strerror(errno));
        if (!S_ISDIR(st.st_mode))
                return error_set(err, -ENOTDIR, "Failed to write %s: %s is not a folder; choose another name",
                                 file, folder);
        if (lstat(file, &st) == 0)
                return error_set(err, -EEXIST,
                                 "%s exists: a backup does not replace a file; choose another name", file);
        if (lstat(workshop, &st) == 0)
                return error_set(
                        err, -EEXIST,
                        "%s exists, in which a backup would be prepared: remove it if an interrupted "
                        "backup has left it, or choose another name",
                        workshop);
        return 0;
}
