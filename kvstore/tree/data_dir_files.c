#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kvstore/tree/data_dir_internal.h"

char *data_dir_path(const DataDir *folder, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", folder->path, name) < 0 ? NULL : path;
}

int data_dir_make(const DataDir *folder, const char *name) {
        return mkdirat(folder->fd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int data_dir_sync(const DataDir *folder, const char *name) {
        _cleanup_close_ int fd = openat(folder->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fsync_dir(fd);
}

int data_dir_sync_file(const DataDir *folder, const char *name) {
        _cleanup_close_ int fd = openat(folder->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int data_dir_copy_file(const DataDir *folder, const char *from, const char *to) {
        _cleanup_close_ int in = openat(folder->fd, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_close_ int out = -1;
        _cleanup_free_ char *buffer = NULL;
        const size_t chunk = 1024 * 1024;
        uint64_t offset = 0;
        bool cannot_share = false;

        if (in < 0)
                return -errno;

        out = openat(folder->fd, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (out < 0)
                return -errno;

        for (;;) {
                ssize_t n;

                if (folder->cancelled)
                        return -ECANCELED;
                if (!cannot_share) {
                        n = copy_file_range(in, NULL, out, NULL, chunk, 0);
                        if (n < 0 && offset == 0 &&
                            (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
                                cannot_share = true;
                                continue;
                        }
                        if (n < 0)
                                return -errno;
                } else {
                        if (!buffer && !(buffer = malloc(chunk)))
                                return -ENOMEM;
                        n = pread(in, buffer, chunk, (off_t) offset);
                        if (n < 0)
                                return -errno;
                        TRY(pwrite_all(out, buffer, (size_t) n, offset));
                }
                if (n == 0)
                        return 0;
                offset += (uint64_t) n;
        }
}
