#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fault_point.h"
#include "base/table.h"
#include "base/text.h"

enum { FILE_FIRST_READ = 4096 }; /* bytes: the least block that is read */

int read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *bytes = NULL;
        struct stat st;
        size_t size = 0, capacity;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if (st.st_size > (off_t) max)
                return -EFBIG;

        /* The file may grow meanwhile, and files in /proc report size 0: the block grows, at last to one byte
         * more than 'max'. */
        capacity = MIN(max, MAX((size_t) st.st_size, (size_t) FILE_FIRST_READ)) + 1;
        bytes = malloc(capacity);
        if (!bytes)
                return -ENOMEM;
        while (size <= max) {
                ssize_t n;

                if (size == capacity) {
                        char *more;

                        capacity = MIN(2 * capacity, max + 1);
                        more = realloc(bytes, capacity);
                        if (!more)
                                return -ENOMEM;
                        bytes = more;
                }
                n = read(fd, bytes + size, capacity - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += n;
        }
        if (size > max)
                return -EFBIG;

        bytes[size] = 0;
        *ret = realloc(bytes, size + 1) ?: bytes;
        bytes = NULL;
        if (ret_size)
                *ret_size = size;
        return 0;
}

void strings_free(char **strings, size_t n) {
        for (size_t i = 0; i < n; i++)
                free(strings[i]);
        free(strings);
}

static int read_names(DIR *dir, const char *suffix, size_t max, char ***names, size_t *n) {
        size_t capacity = 0;
        struct dirent *e;

        while (errno = 0, e = readdir(dir)) {
                if (suffix ? e->d_name[0] == '.' || !ends_with(e->d_name, suffix) :
                             streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                if (*n >= max)
                        return -E2BIG;
                if (GROW(*names, capacity, *n + 1) < 0 || !((*names)[*n] = strdup(e->d_name)))
                        return -ENOMEM;
                (*n)++;
        }
        return -errno;
}

int list_folder_at(int dir_fd, const char *folder, const char *suffix, size_t max, char ***ret,
                   size_t *ret_n) {
        int fd = openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        char **names = NULL;
        size_t n = 0;

        if (!dir) {
                r = -errno;
                closep(&fd);
                return r;
        }
        r = read_names(dir, suffix, max, &names, &n);
        closedir(dir);
        if (r < 0) {
                strings_free(names, n);
                return r;
        }
        if (n > 0)
                qsort(names, n, sizeof(*names), text_compare);
        *ret = names;
        *ret_n = n;
        return 0;
}

int read_folder_at(int dir_fd, const char *folder, const char *suffix, size_t max_files, size_t max_size,
                   FolderFile **ret, size_t *ret_n) {
        _cleanup_close_ int fd = openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        FolderFile *files;
        char **names;
        size_t n;

        if (fd < 0)
                return -errno;
        TRY(list_folder_at(fd, ".", suffix, max_files, &names, &n));

        files = n > 0 ? NEW0(FolderFile, n) : NULL;
        for (size_t i = 0; files && i < n; i++) {
                files[i].name = TAKE_PTR(names[i]);
                files[i].error = read_file_at(fd, files[i].name, max_size, &files[i].text, &files[i].size);
        }
        strings_free(names, n);
        if (n > 0 && !files)
                return -ENOMEM;
        *ret = files;
        *ret_n = n;
        return 0;
}

void folder_files_free(FolderFile *files, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(files[i].name);
                free(files[i].text);
        }
        free(files);
}
int write_all(int fd, const void *bytes, size_t size) {
        const char *p = bytes;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        p += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

/* Transfer all bytes between 'bytes' and the file. */
static int transfer_all(int fd, char *bytes, size_t size, uint64_t offset, bool writes) {
        while (size > 0) {
                ssize_t n = writes ? pwrite(fd, bytes, size, offset) : pread(fd, bytes, size, offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return writes ? -EIO : -ENODATA;
                bytes += n;
                offset += n;
                size -= n;
        }
        return 0;
}

int pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset) {
        return transfer_all(fd, (char *) bytes, size, offset, true);
}

int pread_all(int fd, void *bytes, size_t size, uint64_t offset) {
        return transfer_all(fd, bytes, size, offset, false);
}

int fsync_dir(int dir_fd) {
        return fsync(dir_fd) < 0 ? -errno : 0;
}

int space_at(int fd, uint64_t *ret_free, uint64_t *ret_total) {
        struct statvfs st;

        if (fstatvfs(fd, &st) < 0)
                return -errno;
        *ret_free = (uint64_t) st.f_bavail * st.f_frsize;
        *ret_total = (uint64_t) st.f_blocks * st.f_frsize;
        return 0;
}

static int64_t file_time_ns(const struct timespec *t) {
        return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

int file_stamp_at(int dir_fd, const char *name, FileStamp *ret) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = (FileStamp) { st.st_dev, st.st_ino, (uint64_t) st.st_size, file_time_ns(&st.st_mtim),
                             file_time_ns(&st.st_ctim) };
        return 0;
}

bool file_holds_at(int dir_fd, const char *name, const void *bytes, size_t size) {
        _cleanup_free_ char *found = NULL;
        size_t found_size;

        return read_file_at(dir_fd, name, size, &found, &found_size) == 0 && found_size == size &&
               memcmp(found, bytes, size) == 0;
}

void file_temporary_name(const char *name, char ret[static FILE_TEMPORARY_SIZE]) {
        snprintf(ret, FILE_TEMPORARY_SIZE, ".%016llx.tmp",
                 (unsigned long long) XXH3_64bits(name, strlen(name)));
}

int stage_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode) {
        _cleanup_close_ int fd = -1;
        char tmp[FILE_TEMPORARY_SIZE];
        int r;

        file_temporary_name(name, tmp);
        if (unlinkat(dir_fd, tmp, 0) < 0 && errno != ENOENT)
                return -errno;
        fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd < 0)
                return -errno;

        fault_point_of("file-made", name);
        r = pwrite_all(fd, bytes, size, 0);
        fault_point_of("file-written", name);
        if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
                r = -errno;
        fault_point_of("file-synced", name);
        if (r < 0)
                (void) unlinkat(dir_fd, tmp, 0);
        return r;
}

int commit_file_at(int dir_fd, const char *name) {
        char tmp[FILE_TEMPORARY_SIZE];
        int r;

        file_temporary_name(name, tmp);
        if (renameat(dir_fd, tmp, dir_fd, name) < 0) {
                r = -errno;
                (void) unlinkat(dir_fd, tmp, 0);
                return r;
        }
        fault_point_of("file-renamed", name);
        return fsync_dir(dir_fd);
}

int write_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode) {
        int r;

        r = stage_file_at(dir_fd, name, bytes, size, mode);
        return r < 0 ? r : commit_file_at(dir_fd, name);
}

/* Create the folder if it does not exist, and sync its name: otherwise files that are synced in it could be
 * lost with it. */
static int make_dir(const char *path, mode_t mode) {
        _cleanup_free_ char *copy = NULL;
        _cleanup_close_ int parent_fd = -1;

        if (mkdir(path, mode) < 0)
                return errno == EEXIST ? 0 : -errno;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        parent_fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return errno == EACCES ? 0 : -errno; /* a folder that is not readable cannot be synced */
        return fsync_dir(parent_fd);
}

int open_dir(const char *path, mode_t mode) {
        _cleanup_free_ char *copy = strdup(path);
        int fd;

        if (!copy)
                return -ENOMEM;

        for (char *p = copy + 1; *copy && *p; p++) {
                if (*p != '/')
                        continue;
                *p = 0;
                TRY(make_dir(copy, mode));
                *p = '/';
        }
        TRY(make_dir(copy, mode));

        fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int reopen_dir(const char *path, mode_t mode, int *fd) {
        struct stat ours, there;
        int again;

        if (fstat(*fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino)
                return 0;
        again = TRY(open_dir(path, mode));
        close(*fd);
        *fd = again;
        return 1;
}

/* Allocates nothing: it also cleans up when memory is short. */
int remove_tree_at(int dir_fd, const char *name) {
        struct dirent *d;
        DIR *dir;
        int fd, r = 0;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                if (errno == ENOENT)
                        return 0;
                return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
        }
        dir = fdopendir(fd);
        if (!dir) {
                close(fd);
                return -ENOMEM;
        }
        while (r == 0 && (d = readdir(dir)))
                if (!streq(d->d_name, ".") && !streq(d->d_name, ".."))
                        r = remove_tree_at(fd, d->d_name);
        closedir(dir);
        if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
                r = -errno;
        return r;
}

void open_standard_descriptors(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDONLY); /* without O_CLOEXEC: child processes inherit it */
        while (fd >= STDIN_FILENO && fd <= STDERR_FILENO);
        closep(&fd);
}
