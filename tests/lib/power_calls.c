#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/lib/power_internal.h"

/* -- Recording -- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Power *recorded; /* under the mutex */

static void lock(void) {
        MUST(pthread_mutex_lock(&mutex) == 0);
}

static void unlock(void) {
        int error = errno;

        MUST(pthread_mutex_unlock(&mutex) == 0);
        errno = error;
}

/* Return the path below the root, or NULL. Under the mutex. */
static const char *below(int dir_fd, const char *name, char path[static PATH_SIZE]) {
        char link[64];
        size_t size;
        ssize_t n = 0;

        if (!recorded)
                return NULL;
        if (!name || name[0] != '/') {
                if (dir_fd == AT_FDCWD)
                        return NULL;
                snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
                n = readlink(link, path, PATH_SIZE - 1);
                if (n < 0)
                        return NULL;
        }
        if (name)
                n += snprintf(path + n, PATH_SIZE - n, "%s%s", n > 0 ? "/" : "", name);
        MUST(n < PATH_SIZE);
        path[n] = 0;
        size = strlen(recorded->root);
        if (strncmp(path, recorded->root, size) != 0 || ends_with(path, " (deleted)"))
                return NULL;
        if (path[size] == 0)
                return ".";
        return path[size] == '/' && path[size + 1] ? path + size + 1 : NULL;
}

static Call *write_down(CallKind kind, const char *path) {
        Call *call;

        MUST(GROW(recorded->calls, recorded->calls_capacity, recorded->n_calls + 1) == 0);
        call = &recorded->calls[recorded->n_calls++];
        *call = (Call) { .kind = kind, .path = strdup(path) };
        MUST(call->path);
        return call;
}

static void written(int fd, const void *bytes, size_t size, off_t offset) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);
        Call *call;

        if (!path)
                return;
        call = write_down(CALL_WRITE, path);
        call->bytes = malloc(size + 1);
        MUST(call->bytes);
        memcpy(call->bytes, bytes, size);
        call->size = size;
        call->offset = offset;
        call->syncs = fcntl(fd, F_GETFL) & O_DSYNC;
}

static void sized(int fd, off_t size, bool only_grows) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);
        struct stat st;

        if (path && fstat(fd, &st) == 0 && (!only_grows || st.st_size == size))
                write_down(CALL_SIZE, path)->offset = size;
}

static void synced(int fd) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);

        if (path)
                write_down(CALL_SYNC, path);
}

void power_begin(const char *root) {
        Power *p = NEW0(Power, 1);

        MUST(p && !recorded && (p->root = realpath(root, NULL)));
        lock();
        recorded = p;
        unlock();
}

void power_promise(const char *promise) {
        lock();
        write_down(CALL_PROMISE, promise);
        unlock();
}

Power *power_end(void) {
        Power *p;

        lock();
        p = TAKE_PTR(recorded);
        unlock();
        return p;
}

size_t power_moments(const Power *p) {
        return p->n_calls;
}

/* -- libc's -- */

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
        ssize_t n;

        lock();
        n = syscall(SYS_pwrite64, fd, bytes, size, offset);
        if (n > 0)
                written(fd, bytes, n, offset);
        unlock();
        return n;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
        return pwrite(fd, bytes, size, offset);
}

static bool is_file(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Return the offset of the next write to a file. */
static off_t position(int fd) {
        struct stat st;

        return fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &st) == 0 ? st.st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *bytes, size_t size) {
        off_t offset;
        ssize_t n;

        if (!is_file(fd)) /* not under the mutex: the reader of a pipe may need it for a write to a file */
                return syscall(SYS_write, fd, bytes, size);
        lock();
        offset = position(fd);
        n = syscall(SYS_write, fd, bytes, size);
        if (n > 0)
                written(fd, bytes, n, offset);
        unlock();
        return n;
}

static void written_parts(int fd, const struct iovec *parts, int n_parts, ssize_t n, off_t offset) {
        for (int i = 0; i < n_parts && n > 0; i++) {
                size_t size = MIN((size_t) n, parts[i].iov_len);

                written(fd, parts[i].iov_base, size, offset);
                offset += size;
                n -= size;
        }
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts) {
        off_t offset;
        ssize_t n;

        if (!is_file(fd))
                return syscall(SYS_writev, fd, parts, n_parts);
        lock();
        offset = position(fd);
        n = syscall(SYS_writev, fd, parts, n_parts);
        written_parts(fd, parts, n_parts, n, offset);
        unlock();
        return n;
}

ssize_t pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset) {
        ssize_t n;

        lock();
        n = syscall(SYS_pwritev, fd, parts, n_parts, offset, 0);
        written_parts(fd, parts, n_parts, n, offset);
        unlock();
        return n;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int n_parts, off64_t offset) {
        return pwritev(fd, parts, n_parts, offset);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
        uint8_t *bytes;
        off_t offset;
        ssize_t n;

        lock();
        offset = out_offset ? *out_offset : position(out);
        n = syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);
        if (n > 0 && recorded) {
                char link[64];
                int again;

                /* Read the copied bytes from the target. */
                snprintf(link, sizeof(link), "/proc/self/fd/%d", out);
                again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
                bytes = malloc(n);
                MUST(again >= 0 && bytes && syscall(SYS_pread64, again, bytes, n, offset) == n);
                written(out, bytes, n, offset);
                free(bytes);
                close(again);
        }
        unlock();
        return n;
}

int fsync(int fd) {
        int r;

        lock();
        r = syscall(SYS_fsync, fd);
        if (r == 0)
                synced(fd);
        unlock();
        return r;
}

int fdatasync(int fd) {
        return fsync(fd);
}

int ftruncate(int fd, off_t size) {
        int r;

        lock();
        r = syscall(SYS_ftruncate, fd, size);
        if (r == 0)
                sized(fd, size, false);
        unlock();
        return r;
}

int ftruncate64(int fd, off64_t size) {
        return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
        int r;

        lock();
        r = syscall(SYS_fallocate, fd, mode, offset, size);
        if (r == 0)
                sized(fd, offset + size, true);
        unlock();
        return r;
}

static int open_at(int dir_fd, const char *name, int flags, mode_t mode) {
        char buffer[PATH_SIZE];
        const char *path;
        struct stat st;
        bool was_there;
        int fd;

        lock();
        was_there = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        fd = syscall(SYS_openat, dir_fd, name, flags, mode);
        path = fd >= 0 && flags & (O_CREAT | O_TRUNC) ? below(dir_fd, name, buffer) : NULL;
        if (path && !was_there)
                write_down(CALL_MAKE, path);
        else if (path && flags & O_TRUNC)
                write_down(CALL_SIZE, path)->offset = 0;
        unlock();
        return fd;
}

static mode_t mode_of(int flags, va_list ap) {
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int openat(int dir_fd, const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(AT_FDCWD, path, flags, mode);
}

int mkdirat(int dir_fd, const char *name, mode_t mode) {
        char buffer[PATH_SIZE];
        const char *path;
        int r;

        lock();
        r = syscall(SYS_mkdirat, dir_fd, name, mode);
        path = r == 0 ? below(dir_fd, name, buffer) : NULL;
        if (path)
                write_down(CALL_MAKE_DIR, path);
        unlock();
        return r;
}

int mkdir(const char *path, mode_t mode) {
        return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dir_fd, const char *name, int flags) {
        char buffer[PATH_SIZE];
        const char *path;
        int r;

        lock();
        path = below(dir_fd, name, buffer);
        r = syscall(SYS_unlinkat, dir_fd, name, flags);
        if (r == 0 && path)
                write_down(CALL_REMOVE, path);
        unlock();
        return r;
}

int unlink(const char *path) {
        return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
        return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
        char from_buffer[PATH_SIZE], to_buffer[PATH_SIZE];
        const char *from_path, *to_path;
        int r;

        lock();
        from_path = below(from_fd, from, from_buffer);
        to_path = below(to_fd, to, to_buffer);
        r = syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
        MUST(!from_path == !to_path);
        if (r == 0 && from_path) {
                Call *call = write_down(flags & RENAME_EXCHANGE ? CALL_EXCHANGE : CALL_RENAME, from_path);

                call->to = strdup(to_path);
                MUST(call->to);
        }
        unlock();
        return r;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        return renameat2(from_fd, from, to_fd, to, 0);
}

int rename(const char *from, const char *to) {
        return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
