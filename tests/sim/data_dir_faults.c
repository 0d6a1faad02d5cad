#include "tests/sim/data_dir_faults.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/memory.h"
#include "tests/sim/world.h"

enum { FOLDERS_MAX = 8 };

/* What a whole program's calls ask, there is one of. */
static struct {
        const char *folder;
        int error;
} faults[FOLDERS_MAX];
static unsigned n_failed;

void folder_fault(const char *folder, int error) {
        size_t at = FOLDERS_MAX;

        for (size_t i = 0; i < FOLDERS_MAX; i++) {
                if (faults[i].folder == folder) {
                        at = i;
                        break;
                }
                if (!faults[i].folder && at == FOLDERS_MAX)
                        at = i;
        }
        if (at == FOLDERS_MAX)
                abort();
        faults[at].folder = error < 0 ? folder : NULL;
        faults[at].error = error;
}

static uint64_t room = UINT64_MAX;

void folder_room_left(uint64_t bytes) {
        room = bytes;
}

int fstatvfs(int fd, struct statvfs *ret) {
        struct statfs s;
        int r = (int) syscall(SYS_fstatfs, fd, &s);

        if (r < 0)
                return r;
        *ret = (struct statvfs) { .f_bsize = 1,
                                  .f_frsize = 1,
                                  .f_blocks = (uint64_t) s.f_blocks * (uint64_t) s.f_bsize };
        ret->f_bavail = ret->f_bfree = MIN(room, (uint64_t) s.f_bavail * (uint64_t) s.f_bsize);
        return 0;
}

int fstatvfs64(int fd, struct statvfs64 *ret);
int fstatvfs64(int fd, struct statvfs64 *ret) {
        return fstatvfs(fd, (struct statvfs *) ret);
}

unsigned folder_faults(void) {
        return n_failed;
}

static bool fails(int fd) {
        char link[64], path[512];

        for (size_t i = 0; i < FOLDERS_MAX; i++) {
                ssize_t n;

                if (!faults[i].folder)
                        continue;
                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, path, sizeof(path) - 1);
                if (n < 0)
                        return false;
                path[n] = 0;
                if (strncmp(path, faults[i].folder, strlen(faults[i].folder)) == 0) {
                        n_failed++;
                        errno = -faults[i].error;
                        return true;
                }
        }
        return false;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset);
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
        return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset);
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
        return fails(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t offset) {
        return fails(fd) ? -1 : syscall(SYS_pwritev, fd, parts, n, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t offset) {
        return fails(fd) ? -1 : syscall(SYS_pwritev, fd, parts, n, offset, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
        return fails(fd) ? -1 : syscall(SYS_writev, fd, parts, n);
}

/* A tree's copies. */
ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
        ssize_t n = fails(out) ? -1 :
                                 syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);

        world_read(n > 0 ? (uint64_t) n : 0);
        return n;
}
