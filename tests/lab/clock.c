/* The clock of one host of a lab: a library for LD_PRELOAD, with which CLOCK_MONOTONIC, CLOCK_BOOTTIME and
 * the timeouts of poll() and epoll_wait() are faster or slower than those of the kernel, which all hosts have
 * in common.
 *
 * The file FLEETD_LAB_CLOCK has records: from which time on (ns of the kernel's CLOCK_BOOTTIME), by how much
 * the clock is ahead then (ns), and by how much it is faster (millionths). A record is written before its
 * time, so that all processes of the host change over together. */
#define _GNU_SOURCE /* ppoll() */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RECORDS_SIZE = 16384, NS = 1000000000, MILLION = 1000000 };

typedef struct Record {
        int64_t from_ns, ahead_ns, faster;
} Record;

static const Record *records;

static void clock_open(void) {
        const char *path = getenv("FLEETD_LAB_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *p = fd < 0 ? MAP_FAILED : mmap(NULL, RECORDS_SIZE, PROT_READ, MAP_SHARED, fd, 0);

        if (p == MAP_FAILED)
                abort();
        close(fd);
        __atomic_store_n(&records, p, __ATOMIC_RELEASE);
}

static int64_t kernel_ns(clockid_t id) {
        struct timespec ts;

        if (syscall(SYS_clock_gettime, id, &ts) < 0)
                abort();
        return (int64_t) ts.tv_sec * NS + ts.tv_nsec;
}

/* Return by how much the clock is faster now. *ret_ahead_ns: by how much it is ahead. */
static int64_t clock_faster(int64_t *ret_ahead_ns) {
        int64_t now_ns = kernel_ns(CLOCK_BOOTTIME);
        const Record *r;

        if (!__atomic_load_n(&records, __ATOMIC_ACQUIRE))
                clock_open();
        for (r = records; (size_t) (r + 2 - records) * sizeof(*r) <= RECORDS_SIZE && r[1].from_ns > 0 &&
                          r[1].from_ns <= now_ns;
             r++)
                ;
        *ret_ahead_ns = r->ahead_ns + (int64_t) ((__int128) (now_ns - r->from_ns) * r->faster / MILLION);
        return r->faster;
}

int clock_gettime(clockid_t id, struct timespec *ret) {
        int64_t ns, ahead_ns;

        if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE && id != CLOCK_BOOTTIME)
                return (int) syscall(SYS_clock_gettime, id, ret);
        (void) clock_faster(&ahead_ns);
        /* A slow clock with coarse steps would go back between them. */
        ns = kernel_ns(id == CLOCK_BOOTTIME ? id : CLOCK_MONOTONIC) + ahead_ns;
        *ret = (struct timespec) { .tv_sec = ns / NS, .tv_nsec = ns % NS };
        return 0;
}

/* In ms, rounded up. */
static int kernel_timeout(int timeout) {
        int64_t ahead_ns, scale;

        if (timeout <= 0)
                return timeout;
        scale = MILLION + clock_faster(&ahead_ns);
        return (int) (((int64_t) timeout * MILLION + scale - 1) / scale);
}

int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask) {
        return (int) syscall(SYS_epoll_pwait, fd, events, n, kernel_timeout(timeout), mask, (size_t) 8);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
        return epoll_pwait(fd, events, n, timeout, NULL);
}

int poll(struct pollfd *fds, nfds_t n, int timeout) {
        struct timespec ts;

        timeout = kernel_timeout(timeout);
        ts = (struct timespec) { .tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * MILLION };
        return ppoll(fds, n, timeout < 0 ? NULL : &ts, NULL);
}
