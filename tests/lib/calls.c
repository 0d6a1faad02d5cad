#include "tests/lib/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The order is that of the table. */
enum {
        READ,
        PREAD,
        WRITE,
        PWRITE,
        WRITEV,
        FSYNC,
        FDATASYNC,
        FTRUNCATE,
        FALLOCATE,
        COPY_FILE_RANGE,
        OPEN,
        OPENAT,
        MKDIR,
        MKDIRAT,
        UNLINKAT,
        RENAMEAT,
        FCHMOD,
        FLOCK,
        MMAP,
        PIPE2,
        SOCKET,
        BIND,
        LISTEN,
        ACCEPT4,
        CONNECT,
        RECVMSG,
        SENDMSG,
        EPOLL_PWAIT,
        INOTIFY_INIT1,
        INOTIFY_ADD_WATCH,
        _CALLS,
};

const CallFaults call_faults[] = {
        [READ] = { "read", { EIO, EINTR, ECONNRESET, CALL_SHORT } },
        [PREAD] = { "pread", { EIO, EINTR, CALL_SHORT } },
        [WRITE] = { "write", { EIO, ENOSPC, EDQUOT, EINTR, CALL_SHORT } },
        [PWRITE] = { "pwrite", { EIO, ENOSPC, EDQUOT, EINTR, CALL_SHORT } },
        [WRITEV] = { "writev", { EPIPE, ECONNRESET, CALL_SHORT } },
        [FSYNC] = { "fsync", { EIO, ENOSPC, EDQUOT } },
        [FDATASYNC] = { "fdatasync", { EIO, ENOSPC } },
        [FTRUNCATE] = { "ftruncate", { EIO, ENOSPC } },
        [FALLOCATE] = { "fallocate", { EIO, ENOSPC, EOPNOTSUPP } },
        [COPY_FILE_RANGE] = { "copy_file_range", { EIO, ENOSPC, EXDEV, CALL_SHORT } },
        [OPEN] = { "open", { EIO, EMFILE, ENFILE, ENOSPC } },
        [OPENAT] = { "openat", { EIO, EMFILE, ENFILE, ENOSPC } },
        [MKDIR] = { "mkdir", { EIO, ENOSPC, EDQUOT } },
        [MKDIRAT] = { "mkdirat", { EIO, ENOSPC, EDQUOT } },
        [UNLINKAT] = { "unlinkat", { EIO, EBUSY } },
        [RENAMEAT] = { "renameat", { EIO, ENOSPC, EDQUOT } },
        [FCHMOD] = { "fchmod", { EIO } },
        [FLOCK] = { "flock", { ENOLCK } },
        [MMAP] = { "mmap", { ENOMEM, EMFILE } },
        [PIPE2] = { "pipe2", { EMFILE, ENFILE } },
        [SOCKET] = { "socket", { EMFILE, ENFILE, ENOBUFS } },
        [BIND] = { "bind", { EADDRINUSE, ENOMEM } },
        [LISTEN] = { "listen", { EADDRINUSE } },
        [ACCEPT4] = { "accept4", { ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EINTR } },
        [CONNECT] = { "connect", { ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL } },
        [RECVMSG] = { "recvmsg", { ECONNRESET, ENOMEM, EINTR } },
        [SENDMSG] = { "sendmsg", { EPIPE, ECONNRESET, ENOBUFS } },
        [EPOLL_PWAIT] = { "epoll_pwait", { EINTR } },
        [INOTIFY_INIT1] = { "inotify_init1", { EMFILE, ENFILE } },
        [INOTIFY_ADD_WATCH] = { "inotify_add_watch", { ENOSPC, ENOMEM, ENOENT } },
};
const size_t n_call_faults = _CALLS;

static atomic_uint countdown;
static atomic_int chosen_kind = -1, chosen_error;
static atomic_bool failed;

void call_fail_at(size_t kind, int error, unsigned n) {
        atomic_store(&countdown, 0);
        atomic_store(&failed, false);
        atomic_store(&chosen_kind, (int) kind);
        atomic_store(&chosen_error, error);
        atomic_store(&countdown, n);
}

bool call_has_failed(void) {
        return atomic_load(&failed);
}

/* 0: go on; CALL_SHORT; else the error. */
static int fault(int kind) {
        unsigned n = atomic_load(&countdown);

        if (n == 0 || atomic_load(&chosen_kind) != kind)
                return 0;
        while (n > 0 && !atomic_compare_exchange_weak(&countdown, &n, n - 1))
                ;
        if (n != 1)
                return 0;
        atomic_store(&failed, true);
        return atomic_load(&chosen_error);
}

/* Fails with the drawn error; of a short one, half is asked for. */
#define FAULT(kind, failure, size)                      \
        do {                                            \
                int _error = fault(kind);               \
                if (_error > 0) {                       \
                        errno = _error;                 \
                        return failure;                 \
                }                                       \
                if (_error == CALL_SHORT && (size) > 1) \
                        (size) /= 2;                    \
        } while (false)
#define FAIL(kind, failure)                  \
        do {                                 \
                size_t _size = 0;            \
                FAULT(kind, failure, _size); \
        } while (false)

/* Files, sockets and pipes; the loop's own event descriptors do not fail. */
static bool can_fail(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) != 0;
}

ssize_t read(int fd, void *bytes, size_t size) {
        if (can_fail(fd))
                FAULT(READ, -1, size);
        return syscall(SYS_read, fd, bytes, size);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t offset) {
        FAULT(PREAD, -1, size);
        return syscall(SYS_pread64, fd, bytes, size, offset);
}

ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset) {
        return pread(fd, bytes, size, offset);
}

ssize_t write(int fd, const void *bytes, size_t size) {
        if (can_fail(fd))
                FAULT(WRITE, -1, size);
        return syscall(SYS_write, fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
        FAULT(PWRITE, -1, size);
        return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
        return pwrite(fd, bytes, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
        struct iovec one;
        int error = fault(WRITEV);

        if (error > 0) {
                errno = error;
                return -1;
        }
        if (error == CALL_SHORT && n > 0 && parts[0].iov_len > 1) {
                one = (struct iovec) { parts[0].iov_base, parts[0].iov_len / 2 };
                return syscall(SYS_writev, fd, &one, 1);
        }
        return syscall(SYS_writev, fd, parts, n);
}

int fsync(int fd) {
        FAIL(FSYNC, -1);
        return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
        FAIL(FDATASYNC, -1);
        return syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size) {
        FAIL(FTRUNCATE, -1);
        return syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size) {
        return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
        FAIL(FALLOCATE, -1);
        return syscall(SYS_fallocate, fd, mode, offset, size);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
        FAULT(COPY_FILE_RANGE, -1, size);
        return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);
}

static mode_t mode_of(int flags, va_list ap) {
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        FAIL(OPEN, -1);
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open(path, flags, mode);
}

int openat(int dir_fd, const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        FAIL(OPENAT, -1);
        return syscall(SYS_openat, dir_fd, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
        FAIL(MKDIR, -1);
        return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int mkdirat(int dir_fd, const char *path, mode_t mode) {
        FAIL(MKDIRAT, -1);
        return syscall(SYS_mkdirat, dir_fd, path, mode);
}

int unlinkat(int dir_fd, const char *path, int flags) {
        FAIL(UNLINKAT, -1);
        return syscall(SYS_unlinkat, dir_fd, path, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        FAIL(RENAMEAT, -1);
        return syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int fchmod(int fd, mode_t mode) {
        FAIL(FCHMOD, -1);
        return syscall(SYS_fchmod, fd, mode);
}

int flock(int fd, int operation) {
        FAIL(FLOCK, -1);
        return syscall(SYS_flock, fd, operation);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
        if (fd >= 0)
                FAIL(MMAP, MAP_FAILED);
        return (void *) syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset) {
        return mmap(address, size, protection, flags, fd, offset);
}

int pipe2(int fds[2], int flags) {
        FAIL(PIPE2, -1);
        return syscall(SYS_pipe2, fds, flags);
}

int socket(int domain, int type, int protocol) {
        FAIL(SOCKET, -1);
        return syscall(SYS_socket, domain, type, protocol);
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t size) {
        FAIL(BIND, -1);
        return syscall(SYS_bind, fd, address.__sockaddr__, size);
}

int listen(int fd, int backlog) {
        FAIL(LISTEN, -1);
        return syscall(SYS_listen, fd, backlog);
}

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict size, int flags) {
        FAIL(ACCEPT4, -1);
        return syscall(SYS_accept4, fd, address.__sockaddr__, size, flags);
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t size) {
        FAIL(CONNECT, -1);
        return syscall(SYS_connect, fd, address.__sockaddr__, size);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
        FAIL(RECVMSG, -1);
        return syscall(SYS_recvmsg, fd, message, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        FAIL(SENDMSG, -1);
        return syscall(SYS_sendmsg, fd, message, flags);
}

int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask) {
        FAIL(EPOLL_PWAIT, -1);
        return syscall(SYS_epoll_pwait, fd, events, n, timeout, mask, 8);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
        return epoll_pwait(fd, events, n, timeout, NULL);
}

int inotify_init1(int flags) {
        FAIL(INOTIFY_INIT1, -1);
        return syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask) {
        FAIL(INOTIFY_ADD_WATCH, -1);
        return syscall(SYS_inotify_add_watch, fd, path, mask);
}
