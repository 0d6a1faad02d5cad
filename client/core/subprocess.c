#include "client/core/subprocess.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/memory.h"

extern char **environ;

enum { EXIT_CANNOT_RUN = 127, EXIT_SIGNAL = 128 };

int subprocess_wait_signal(const sigset_t *set, uint64_t ms) {
        struct timespec span = { .tv_sec = (time_t) (ms / 1000), .tv_nsec = (long) (ms % 1000) * 1000000 };
        int signal = sigtimedwait(set, NULL, &span);

        return signal > 0 ? signal : 0;
}

void subprocess_signals(sigset_t *ret) {
        sigemptyset(ret);
        sigaddset(ret, SIGCHLD);
        sigaddset(ret, SIGINT);
        sigaddset(ret, SIGTERM);
        sigaddset(ret, SIGHUP);
}

static int child_spawn(const char *const *command, const sigset_t *mask, pid_t *ret) {
        posix_spawnattr_t attributes;
        int r;

        r = posix_spawnattr_init(&attributes);
        if (r != 0)
                return -r;
        (void) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        (void) posix_spawnattr_setsigmask(&attributes, mask);
        r = posix_spawnp(ret, command[0], NULL, &attributes, (char *const *) command, environ);
        (void) posix_spawnattr_destroy(&attributes);
        return -r;
}

/* -- Descendants of a command --
 *
 * Orphaned descendants become children of fleetctl (PR_SET_CHILD_SUBREAPER), so that all are found. A process
 * group would miss descendants with a group of their own, and take the terminal from the command. */

typedef struct Process {
        pid_t pid, parent;
        bool descends; /* from fleetctl */
} Process;

typedef struct Processes {
        Process *items; /* sorted by 'pid' */
        size_t n, capacity;
} Processes;

static void processes_done(Processes *p) {
        free(p->items);
}

static int process_compare(const void *a, const void *b) {
        const Process *x = a, *y = b;

        return (x->pid > y->pid) - (x->pid < y->pid);
}

static Process *processes_find(const Processes *p, pid_t pid) {
        return p->n > 0 ?
                       bsearch(&(Process) { .pid = pid }, p->items, p->n, sizeof(Process), process_compare) :
                       NULL;
}

/* Parse proc_pid_stat(5): the name of the program may contain any byte, so its end is the last parenthesis.
 */
static bool process_read(int proc_fd, const char *pid, Process *ret) {
        char path[64], line[512], *name_end;
        _cleanup_close_ int fd = -1;
        int number, parent;
        ssize_t n;

        if (sscanf(pid, "%d", &number) != 1 ||
            (size_t) snprintf(path, sizeof(path), "%s/stat", pid) >= sizeof(path))
                return false;
        fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
        if (n < 0)
                return false;
        line[n] = 0;
        name_end = strrchr(line, ')');
        if (!name_end || sscanf(name_end + 1, " %*c %d", &parent) != 1)
                return false;
        *ret = (Process) { .pid = number, .parent = parent, .descends = parent == getpid() };
        return true;
}

/* Read all processes; without /proc there are none. Processes among 'before' and their descendants are not
 * marked as descendants. */
static void processes_read(Processes *p, const Processes *before) {
        DIR *proc = opendir("/proc");
        const struct dirent *entry;
        bool more = true;
        Process one;

        p->n = 0;
        while (proc && (entry = readdir(proc)))
                if (process_read(dirfd(proc), entry->d_name, &one) &&
                    GROW(p->items, p->capacity, p->n + 1) == 0) {
                        if (before && processes_find(before, one.pid))
                                one.descends = false;
                        p->items[p->n++] = one;
                }
        if (proc)
                (void) closedir(proc);
        if (p->n > 0)
                qsort(p->items, p->n, sizeof(Process), process_compare);
        while (more) {
                more = false;
                for (size_t i = 0; i < p->n; i++) {
                        const Process *parent = p->items[i].descends ? NULL :
                                                                       processes_find(p, p->items[i].parent);

                        if (parent && parent->descends)
                                more = p->items[i].descends = true;
                }
        }
}

/* -- One command -- */

typedef struct Child {
        pid_t pid;
        bool whole; /* signals go to all descendants, too */
        bool ended, signalled;
        int status;
        Processes *before; /* earlier children of fleetctl: the tunnel; borrowed */
} Child;

static void read_children(Processes *ret) {
        size_t n = 0;

        processes_read(ret, NULL);
        for (size_t i = 0; i < ret->n; i++)
                if (ret->items[i].parent == getpid())
                        ret->items[n++] = ret->items[i];
        ret->n = n;
}

/* Reap orphans of the command that have ended. */
static void child_reap(const Child *c) {
        siginfo_t info = {};

        while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 &&
               info.si_pid != c->pid && !processes_find(c->before, info.si_pid)) {
                (void) waitpid(info.si_pid, NULL, WNOHANG);
                info.si_pid = 0;
        }
}

/* Send a signal to all descendants, or with signal 0 only reap those that have ended. Return the number of
 * others. */
static size_t child_signal_descendants(Child *c, int signal) {
        _cleanup_(processes_done) Processes all = {};
        size_t n = 0;

        processes_read(&all, c->before);
        for (size_t i = 0; i < all.n; i++) {
                const Process *p = &all.items[i];

                if (!p->descends ||
                    (p->parent == getpid() && p->pid != c->pid && waitpid(p->pid, NULL, WNOHANG) > 0))
                        continue;
                n++;
                if (p->pid != c->pid)
                        (void) kill(p->pid, signal);
        }
        return n;
}

static void child_signal(Child *c, int signal) {
        c->signalled = true;
        if (!c->ended)
                (void) kill(c->pid, signal);
        if (c->whole)
                (void) child_signal_descendants(c, signal);
}

static bool child_has_ended(Child *c) {
        if (!c->ended)
                c->ended = waitpid(c->pid, &c->status, WNOHANG) != 0;
        if (c->whole)
                child_reap(c);
        return c->ended && (!c->whole || !c->signalled || child_signal_descendants(c, 0) == 0);
}

int subprocess_run(const char *const *command, const char *const environment[],
                   uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata, int *ret_signal) {
        _cleanup_(processes_done) Processes earlier = {};
        Child child = { .whole = tick != NULL, .before = &earlier };
        uint64_t tick_ms = 3600000;
        sigset_t ours, before, mask;
        int r, signal, received = 0;

        for (; environment && environment[0] && environment[1]; environment += 2)
                (void) setenv(environment[0], environment[1], true);
        subprocess_signals(&ours);
        (void) sigprocmask(SIG_BLOCK, &ours, &before);
        mask = before;
        for (signal = 1; signal < NSIG; signal++)
                if (sigismember(&ours, signal) == 1)
                        (void) sigdelset(&mask, signal);
        (void) fflush(stdout);
        if (child.whole) {
                (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
                read_children(&earlier);
        }
        r = child_spawn(command, &mask, &child.pid);
        if (r < 0) {
                fprintf(stderr, "fleetctl: Failed to run %s: %s\n", command[0], strerror(-r));
                (void) sigprocmask(SIG_SETMASK, &before, NULL);
                return EXIT_CANNOT_RUN;
        }
        while (!child_has_ended(&child)) {
                signal = 0;
                if (tick)
                        tick_ms = tick(userdata, &signal);
                if (signal != 0)
                        child_signal(&child, signal);
                signal = subprocess_wait_signal(&ours, tick_ms);
                if (signal != 0 && signal != SIGCHLD)
                        child_signal(&child, received = signal);
        }
        if (ret_signal)
                *ret_signal = received;
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return WIFSIGNALED(child.status) ? EXIT_SIGNAL + WTERMSIG(child.status) : WEXITSTATUS(child.status);
}

void subprocess_ending_signals(sigset_t *ret) {
        static const int signals[] = { SIGINT, SIGTERM };

        sigemptyset(ret);
        for (size_t i = 0; i < ELEMENTS(signals); i++) {
                struct sigaction action;

                if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        sigaddset(ret, signals[i]);
        }
}
