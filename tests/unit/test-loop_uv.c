/* Children and guests of the real loop, and each call that fails below them: nothing is left behind, and the
 * next one works. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/child_uv.h"
#include "io/loop_uv.h"

enum { PATIENCE_MS = 20000 };

/* -- Calls that fail -- */

static const char *failing; /* the call of this name, ... */
static unsigned countdown;  /* ... that comes after so many others, ... */
static int failure;         /* ... has this error */

static void fail_call(const char *name, unsigned nth, int error) {
        failing = name;
        countdown = nth;
        failure = error;
}

static bool fails(const char *name) {
        return failing && streq(failing, name) && countdown > 0 && --countdown == 0;
}

/* Those that set errno, and those of libuv, which return it. */
#define CALL(name, parameters, ...)                                                                \
        int __real_##name parameters;                                                              \
        int __wrap_##name parameters;                                                              \
        int __wrap_##name parameters {                                                             \
                if (!fails(#name))                                                                 \
                        return __real_##name(__VA_ARGS__);                                         \
                errno = failure;                                                                   \
                return starts_with(#name, "uv_") || starts_with(#name, "random_") ? -failure : -1; \
        }
CALL(pipe2, (int fds[2], int flags), fds, flags)
CALL(pidfd_open, (pid_t pid, unsigned flags), pid, flags)
CALL(dup2, (int from, int to), from, to)
CALL(uv_poll_init, (uv_loop_t * loop, uv_poll_t *poll, int fd), loop, poll, fd)
CALL(uv_poll_start, (uv_poll_t * poll, int events, uv_poll_cb cb), poll, events, cb)
CALL(uv_pipe_open, (uv_pipe_t * pipe, uv_file fd), pipe, fd)
CALL(uv_read_start, (uv_stream_t * s, uv_alloc_cb alloc, uv_read_cb read), s, alloc, read)
CALL(uv_queue_work, (uv_loop_t * loop, uv_work_t *req, uv_work_cb work, uv_after_work_cb done), loop, req,
     work, done)
CALL(uv_signal_init, (uv_loop_t * loop, uv_signal_t *s), loop, s)
CALL(uv_signal_start, (uv_signal_t * s, uv_signal_cb cb, int number), s, cb, number)
CALL(uv_loop_init, (uv_loop_t * loop), loop)
CALL(random_seed_from_system, (Random * r), r)

static pid_t forked_by;   /* thread */
static int begin_fd = -1; /* a child reads a byte before it becomes the program; -1: it does not */

pid_t __real__Fork(void);
pid_t __wrap__Fork(void);
pid_t __wrap__Fork(void) {
        forked_by = gettid();
        errno = failure;
        return fails("_Fork") ? -1 : __real__Fork();
}

pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options) {
        if (!fails("waitpid"))
                return __real_waitpid(pid, status, options);
        errno = failure;
        return -1;
}

ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size) {
        if (!fails("read"))
                return __real_read(fd, bytes, size);
        errno = failure;
        return -1;
}

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size) {
        if (!fails("write"))
                return __real_write(fd, bytes, size);
        errno = failure;
        return -1;
}

pid_t __real_getppid(void);
pid_t __wrap_getppid(void);
pid_t __wrap_getppid(void) {
        return fails("getppid") ? 1 : __real_getppid();
}

int __real_prctl(int option, unsigned long value);
int __wrap_prctl(int option, unsigned long value);
int __wrap_prctl(int option, unsigned long value) {
        char byte;

        if (begin_fd >= 0 && __real_read(begin_fd, &byte, 1) < 0)
                abort();
        if (!fails("prctl"))
                return __real_prctl(option, value);
        errno = failure;
        return -1;
}

/* -- A loop and its children -- */

typedef struct Lab {
        UvLoop *uv;
        Loop *loop;
        Timer tick;
        Child *child;
        Text output;
        unsigned begins, exits, gone;
        int status;
        bool kills; /* it, at its first output */
} Lab;

static void on_tick(void *userdata) {
        loop_uv_stop(((Lab *) userdata)->uv);
}

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        failing = NULL;
        signal(SIGCHLD, SIG_IGN); /* as a parent process may do */
        assert_int_equal(loop_uv_new(&lab->uv), 0);
        lab->loop = loop_uv_base(lab->uv);
        lab->tick = (Timer) { .fire = on_tick, .userdata = lab };
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        failing = NULL;
        timer_stop(&lab->tick);
        loop_uv_free(lab->uv);
        text_done(&lab->output);
        free(lab);
        return 0;
}

#define UNTIL(lab, expression)                                                          \
        do {                                                                            \
                uint64_t end_ms_ = loop_now_ms((lab)->loop) + PATIENCE_MS;              \
                while (!(expression)) {                                                 \
                        assert_true(loop_now_ms((lab)->loop) < end_ms_);                \
                        assert_int_equal(timer_start(&(lab)->tick, (lab)->loop, 1), 0); \
                        assert_true(loop_uv_run((lab)->uv) >= 0);                       \
                }                                                                       \
        } while (false)

static void on_output(void *userdata, const void *bytes, size_t size) {
        Lab *lab = userdata;

        text_append_bytes(&lab->output, bytes, size);
        if (lab->kills)
                lab->child = child_kill(lab->child);
}

static void on_exit_of(void *userdata, int status) {
        Lab *lab = userdata;

        lab->exits++;
        lab->status = status;
}

static void on_begin(void *userdata) {
        ((Lab *) userdata)->begins++;
}

static void on_gone(void *userdata) {
        ((Lab *) userdata)->gone++;
}

static const ChildEvents events = {
        .on_begin = on_begin, .on_output = on_output, .on_exit = on_exit_of, .on_gone = on_gone
};

static int spawn_with(Lab *lab, const char *const argv[], const ChildOptions *options) {
        text_clear(&lab->output);
        text_append(&lab->output, "");
        lab->begins = lab->exits = lab->gone = 0;
        lab->child = NULL;
        return child_spawn(&lab->child, lab->loop, argv, options, &events, lab, NULL);
}

static int spawn(Lab *lab, const char *const argv[]) {
        return spawn_with(lab, argv, &(ChildOptions) {});
}

/* Runs a script to its end; returns its status. */
static int run(Lab *lab, const char *script) {
        const char *const argv[] = { "/bin/sh", "-c", script, NULL };

        assert_int_equal(spawn(lab, argv), 0);
        UNTIL(lab, lab->exits > 0);
        assert_int_equal(lab->exits, 1);
        return lab->status;
}

static bool has_children(void) {
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static unsigned count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

/* Return the status of a child that is not stopped. */
static int status_of(Lab *lab, const char *const argv[]) {
        assert_int_equal(spawn(lab, argv), 0);
        UNTIL(lab, lab->exits > 0);
        assert_int_equal(lab->exits, 1);
        return lab->status;
}

static void a_failed_spawn_reports_its_reason_and_leaks_nothing(void **state) {
        static const struct {
                const char *call;
                unsigned nth;
                int error;
        } rows[] = {
                { "pipe2", 1, EMFILE },         { "pipe2", 2, ENFILE },
                { "_Fork", 1, EAGAIN },         { "dup2", 1, EIO },
                { "dup2", 2, EBUSY },           { "dup2", 3, EIO },
                { "pidfd_open", 1, EMFILE },    { "uv_poll_init", 1, ENOMEM },
                { "uv_poll_start", 1, EBADF },  { "uv_pipe_open", 1, ENOTSOCK },
                { "uv_pipe_open", 2, EBADF },   { "uv_read_start", 1, EINVAL },
                { "uv_read_start", 2, ENOMEM },
        };
        static const char *const argv[] = { "sleep", "1000", NULL };
        Lab *lab = *state;
        Error err = {};
        unsigned before;

        assert_int_equal(run(lab, "exit 0"), 0); /* what is opened once is open */
        before = count_descriptors();
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                fail_call(rows[i].call, rows[i].nth, rows[i].error);
                assert_int_equal(status_of(lab, argv), -rows[i].error);
                failing = NULL;
                assert_false(has_children());
                UNTIL(lab, count_descriptors() == before);
                assert_int_equal(run(lab, "echo next; exit 2"), 2);
                assert_string_equal(lab->output.chars, "next\n");
                UNTIL(lab, !has_children() && count_descriptors() == before);
        }
        fail_call("uv_queue_work", 1, EAGAIN);
        assert_int_equal(child_spawn(&lab->child, lab->loop, argv, &(ChildOptions) {}, &events, lab, &err),
                         -EAGAIN);
        assert_string_equal(err.message, "Failed to run sleep: Resource temporarily unavailable");
}

/* It would not end with the daemon: then it does not begin. */
static void a_child_without_parent_death_signal_executes_nothing(void **state) {
        static const char *const calls[] = { "prctl", "getppid" };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(calls); i++) {
                fail_call(calls[i], 1, EINVAL);
                assert_int_equal(run(lab, "echo it runs"), 127);
                assert_string_equal(lab->output.chars, "");
        }
}

static void a_wake_up_for_nothing_is_no_end(void **state) {
        Lab *lab = *state;

        fail_call("waitpid", 1, ECHILD);
        assert_int_equal(run(lab, "exit 6"), 6);
}

static void a_failed_oom_score_write_does_not_stop_the_child(void **state) {
        static const char *const nothing[] = { "/nonexistent/program", NULL };
        Lab *lab = *state;

        fail_call("write", 1, EACCES); /* its oom_score_adj */
        assert_int_equal(run(lab, "echo it runs"), 0);
        assert_string_equal(lab->output.chars, "it runs\n");

        fail_call("write", 2, EPIPE); /* the reason why it cannot run: no process reads it */
        assert_int_equal(status_of(lab, nothing), 126);
}

static void a_status_distinguishes_exit_codes_and_signals(void **state) {
        static const struct {
                const char *script;
                int status;
        } rows[] = {
                { "exit 0", 0 },
                { "exit 255", 255 },
                { "kill -TERM $$", 128 + SIGTERM },
                { "kill -KILL $$", 128 + SIGKILL },
                { "exec >&- 2>&-; sleep 0.05; exit 4",
                  4 }, /* says that it says no more long before its end */
        };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(run(lab, rows[i].script), rows[i].status);
        assert_false(has_children());
}

/* What a child has started may write on when it is gone. */
static void a_child_has_ended_when_its_output_has_no_writer(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "sleep 30 & echo $!; exit 5", NULL };
        Lab *lab = *state;
        pid_t writer;

        for (unsigned round = 0; round < 2; round++) {
                assert_int_equal(spawn(lab, argv), 0);
                UNTIL(lab, strchr(lab->output.chars, '\n') && !has_children());
                assert_int_equal(lab->exits, 0);
                writer = atoi(lab->output.chars);
                assert_true(writer > 1);
                if (round == 1)
                        lab->child = child_kill(lab->child);
                assert_int_equal(kill(writer, SIGKILL), 0);
                if (round == 0)
                        UNTIL(lab, lab->exits > 0);
                assert_int_equal(lab->exits, 1 - round);
                assert_int_equal(lab->status, 5);
        }
}

static void a_child_may_be_killed_from_its_own_output(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "echo one; exec sleep 1000", NULL };
        Lab *lab = *state;
        unsigned before;

        assert_int_equal(run(lab, "exit 0"), 0);
        before = count_descriptors();
        lab->kills = true;
        assert_int_equal(spawn(lab, argv), 0);
        UNTIL(lab, lab->output.size > 0);
        UNTIL(lab, !has_children() && count_descriptors() == before);
        assert_string_equal(lab->output.chars, "one\n");
        assert_int_equal(lab->exits, 0);
}

/* However long a fork takes, and a program until it begins. */
static void the_loop_runs_while_a_child_starts(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "echo one; exit 3", NULL };
        Lab *lab = *state;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(fcntl(fds[1], F_SETFD, FD_CLOEXEC), 0);
        begin_fd = fds[0];
        assert_int_equal(spawn(lab, argv), 0);
        UNTIL(lab, has_children());
        assert_int_not_equal(forked_by, getpid());
        child_pause(lab->child, true);
        child_pause(lab->child, false);
        for (unsigned i = 0; i < 10; i++) {
                assert_int_equal(timer_start(&lab->tick, lab->loop, 1), 0);
                assert_true(loop_uv_run(lab->uv) >= 0);
        }
        assert_int_equal(lab->begins + lab->output.size + lab->exits, 0);
        begin_fd = -1;
        assert_int_equal(write(fds[1], "", 1), 1);
        UNTIL(lab, lab->exits > 0);
        assert_int_equal(lab->begins, 1);
        assert_int_equal(lab->status, 3);
        close(fds[0]);
        close(fds[1]);
}

/* Before the thread has it, while it starts, and while it runs. */
static void a_stopped_child_is_gone_when_it_is_reaped(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "echo one; exec sleep 1000", NULL };
        Lab *lab = *state;
        unsigned before;

        assert_int_equal(run(lab, "exit 0"), 0);
        before = count_descriptors();
        for (unsigned turns = 0; turns < 20; turns++) {
                assert_int_equal(spawn(lab, argv), 0);
                for (unsigned i = 0; i < turns && !lab->begins; i++)
                        uv_run(loop_uv_handle(lab->uv), UV_RUN_NOWAIT);
                if (turns > 15)
                        UNTIL(lab, lab->output.size > 0);
                child_stop(lab->child);
                assert_int_equal(lab->gone, 0);
                text_clear(&lab->output);
                UNTIL(lab, lab->gone > 0);
                assert_false(has_children());
                assert_int_equal(lab->gone, 1);
                assert_int_equal(lab->exits + lab->output.size, 0);
        }
        UNTIL(lab, count_descriptors() == before);
}

static void a_child_is_scheduled_by_its_class(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "echo $$; exec sleep 1000", NULL };
        static const struct {
                ChildOptions options;
                int policy, nice, io;
        } rows[] = {
                { { .class = CHILD_NEEDED }, SCHED_OTHER, 0, IOPRIO_CLASS_NONE },
                { { .class = CHILD_BRIEF, .cpu_s = 5 }, SCHED_OTHER, 10, IOPRIO_CLASS_NONE },
                { { .class = CHILD_IDLE, .cpu_s = 60 }, SCHED_IDLE, 0, IOPRIO_CLASS_IDLE },
        };
        static const char *const endless[] = { "/bin/sh", "-c", "while :; do :; done", NULL };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                struct rlimit limit = {};
                pid_t pid;

                assert_int_equal(spawn_with(lab, argv, &rows[i].options), 0);
                UNTIL(lab, strchr(lab->output.chars, '\n'));
                pid = atoi(lab->output.chars);
                assert_int_equal(sched_getscheduler(pid), rows[i].policy);
                assert_int_equal(getpriority(PRIO_PROCESS, pid),
                                 MIN(getpriority(PRIO_PROCESS, 0) + rows[i].nice, 19));
                assert_int_equal(IOPRIO_PRIO_CLASS(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid)),
                                 rows[i].io);
                assert_int_equal(prlimit(pid, RLIMIT_CPU, NULL, &limit), 0);
                if (rows[i].options.cpu_s > 0)
                        assert_int_equal(limit.rlim_cur, rows[i].options.cpu_s);
                lab->child = child_kill(lab->child);
        }
        assert_int_equal(spawn_with(lab, endless, &(ChildOptions) { .cpu_s = 1 }), 0);
        UNTIL(lab, lab->exits > 0);
        assert_int_equal(lab->status, 128 + SIGXCPU);
}

static void a_child_has_its_own_signals_descriptors_and_environment(void **state) {
        _cleanup_free_ char *path = strdup(getenv("PATH") ?: "/usr/bin:/bin");
        static const char *const empty[] = { "/usr/bin/env", NULL };
        static const struct {
                const char *name;
                bool kept;
        } variables[] = {
                { "HOME", true },    { "NOTIFY_SOCKET" }, { "USER", true },
                { "LANG", true },    { "LC_ALL", true },  { "LC" },
                { "TZ", true },      { "TMPDIR", true },  { "LISTEN_FDS" },
                { "WATCHDOG_USEC" }, { "HOMEX" },         { "USERNAME" },
                { "LANGUAGE" },
        };
        _cleanup_text_ Text expected = {};
        Lab *lab = *state;
        uint64_t blocks, ignores;
        sigset_t blocked;
        int fd = open("/dev/null", O_RDONLY);

        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigprocmask(SIG_BLOCK, &blocked, NULL);
        signal(SIGHUP, SIG_IGN);
        signal(SIGRTMAX, SIG_IGN);
        assert_int_equal(run(lab, "exec grep -E '^Sig(Blk|Ign):' /proc/self/status"), 0);
        assert_int_equal(sscanf(lab->output.chars, "SigBlk: %" SCNx64 " SigIgn: %" SCNx64, &blocks, &ignores),
                         2);
        assert_int_equal(blocks, 0);
        assert_int_equal(ignores & ~(UINT64_C(1) << 31 | UINT64_C(1) << 32),
                         0); /* 32 and 33 belong to the C library, which rejects changes */
        sigprocmask(SIG_UNBLOCK, &blocked, NULL);
        signal(SIGHUP, SIG_DFL);
        signal(SIGRTMAX, SIG_DFL);

        assert_true(fd >= 0);
        assert_int_equal(run(lab, "exec ls /proc/self/fd"), 0);
        assert_string_equal(lab->output.chars, "0\n1\n2\n3\n"); /* the last one is that of ls */
        close(fd);

        clearenv();
        assert_int_equal(spawn(lab, empty), 0);
        UNTIL(lab, lab->exits > 0);
        assert_string_equal(lab->output.chars, "");
        setenv("PATH", path, 1);
        text_printf(&expected, "PATH=%s\n", path);
        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                setenv(variables[i].name, "value", 1);
                if (variables[i].kept)
                        text_printf(&expected, "%s=value\n", variables[i].name);
        }
        assert_int_equal(spawn(lab, empty), 0);
        UNTIL(lab, lab->exits > 0);
        assert_string_equal(lab->output.chars, expected.chars);
        unsetenv("TMPDIR");
}

static void pausing_twice_equals_pausing_once(void **state) {
        static const char *const argv[] = { "/bin/sh", "-c", "echo one; exit 3", NULL };
        Lab *lab = *state;

        assert_int_equal(spawn(lab, argv), 0);
        child_pause(lab->child, false); /* it is not paused */
        child_pause(lab->child, true);
        child_pause(lab->child, true);
        child_pause(lab->child, false);
        UNTIL(lab, lab->exits > 0);
        assert_string_equal(lab->output.chars, "one\n");
        assert_int_equal(lab->status, 3);
}

/* -- Guests -- */

typedef struct TestGuest {
        Guest *guest;
        int fd, wants_error, broken;
        short events;
        unsigned works, busy; /* it has work for so many rounds */
        unsigned stops_at;    /* the loop, when it has worked so often */
        UvLoop *uv;
        uint64_t timeout_ms;
} TestGuest;

static int guest_wants(void *lib, int *fd, short *wanted, uint64_t *timeout_ms) {
        TestGuest *g = lib;

        *fd = g->fd;
        *wanted = g->events;
        *timeout_ms = g->timeout_ms;
        return g->wants_error;
}

static int guest_work(void *lib) {
        TestGuest *g = lib;

        if (++g->works == g->stops_at)
                loop_uv_stop(g->uv);
        if (g->busy == 0)
                return 0;
        g->busy--;
        return 1;
}

static void guest_broken(void *lib, int error) {
        ((TestGuest *) lib)->broken = error;
}

static const GuestOps guest_ops = { .wants = guest_wants, .work = guest_work, .broken = guest_broken };

static void each_failure_of_a_guest_is_reported(void **state) {
        static const struct {
                const char *call;
                int wants_error, broken;
        } rows[] = { { NULL, -ENOTCONN, -ENOTCONN },
                     { "uv_poll_init", 0, -EPERM },
                     { "uv_poll_start", 0, -EPERM },
                     { NULL, 0, 0 } };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                TestGuest g = { .events = POLLIN,
                                .timeout_ms = UINT64_MAX,
                                .wants_error = rows[i].wants_error };
                unsigned works, turns = 0;
                int fds[2];

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
                g.fd = fds[0];
                if (rows[i].call)
                        fail_call(rows[i].call, 1, EPERM);
                assert_int_equal(guest_open(&g.guest, lab->uv, &guest_ops, &g), 0);
                UNTIL(lab, rows[i].broken ? g.broken != 0 : g.works > 2);
                assert_int_equal(g.broken, rows[i].broken);
                works = g.works;
                UNTIL(lab, turns++ > 3);
                if (rows[i].broken) /* it is left alone from then on */
                        assert_int_equal(g.works, works);
                g.guest = guest_close(g.guest);
                close(fds[0]);
                close(fds[1]);
        }
}

static void a_guest_waits_for_its_events_which_may_change(void **state) {
        Lab *lab = *state;
        int fds[2], others[2];
        TestGuest g = { .uv = lab->uv, .timeout_ms = UINT64_MAX };
        char byte;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others), 0);
        g.fd = fds[0];
        assert_int_equal(guest_open(&g.guest, lab->uv, &guest_ops, &g), 0);
        for (unsigned step = 0; step < 5; step++) {
                static const short wanted[] = { POLLIN, 0, POLLOUT, POLLIN, POLLPRI };
                bool ready = step == 0 || step == 2 || step == 3; /* a byte is there, or room for one */
                unsigned works;

                if (step == 3)
                        g.fd = others[0];
                g.events = wanted[step];
                assert_int_equal(send(g.fd == fds[0] ? fds[1] : others[1], "x", 1, 0), 1);
                works = g.works;
                UNTIL(lab, g.works > works + 1); /* it has said what it wants now */
                works = g.works;
                g.stops_at = ready ? works + 10 : 0; /* awake at once, again and again: it takes nothing */
                assert_int_equal(timer_start(&lab->tick, lab->loop, ready ? PATIENCE_MS : 30), 0);
                assert_true(loop_uv_run(lab->uv) >= 0);
                assert_in_range(g.works - works, ready ? 10 : 0, ready ? 10 : 3);
        }
        assert_int_equal(recv(others[0], &byte, 1, 0), 1);
        g.guest = guest_close(g.guest);
        for (unsigned i = 0; i < 2; i++) {
                close(fds[i]);
                close(others[i]);
        }
}

static void note_works(void *userdata) {
        TestGuest *g = userdata;

        g->events = (short) MIN(g->works, 1000u);
}

static void a_busy_guest_yields_after_some_rounds(void **state) {
        Lab *lab = *state;
        TestGuest g = { .fd = -1, .timeout_ms = UINT64_MAX, .busy = 100000 };
        Deferred other = { .run = note_works, .userdata = &g };

        assert_int_equal(guest_open(&g.guest, lab->uv, &guest_ops, &g), 0);
        loop_defer(lab->loop, &other);
        UNTIL(lab, g.events > 0);
        assert_in_range(g.events, 1, 64);
        UNTIL(lab, g.busy == 0);
        g.guest = guest_close(g.guest);
}

/* -- The loop itself -- */

/* A callback that uses much CPU time, and whether the turn has budget after it, and when it runs again:
 * twice, as the first call may be in the same turn. */
typedef struct Burning {
        Loop *loop;
        Deferred deferred;
        unsigned n;
        bool had[3];
} Burning;

static uint64_t cpu_ns(void) {
        struct timespec ts;

        assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts), 0);
        return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void burn(void *userdata) {
        Burning *b = userdata;
        uint64_t end_ns = cpu_ns() + 2ull * TURN_TIME_MS * 1000 * 1000;

        while (b->n == 0 && cpu_ns() < end_ns)
                ;
        b->had[b->n++] = loop_has_budget(b->loop);
        if (b->n < ELEMENTS(b->had))
                loop_defer(b->loop, &b->deferred);
}

static void a_turn_that_has_used_its_time_has_no_budget(void **state) {
        Lab *lab = *state;
        Burning b = { .loop = lab->loop };

        b.deferred = DEFERRED(burn, &b);
        loop_defer(lab->loop, &b.deferred);
        UNTIL(lab, b.n == ELEMENTS(b.had));
        assert_false(b.had[0]);
        assert_true(b.had[2]);
}

static void no_work(void *userdata) {}

static void on_signal(void *userdata, int signal_number) {}

static void an_error_of_libuv_is_returned(void **state) {
        Work work = { .work = no_work, .done = no_work };
        Lab *lab = *state;
        UvLoop *another = NULL;

        fail_call("uv_queue_work", 1, EAGAIN);
        assert_int_equal(loop_work(lab->loop, &work), -EAGAIN);
        fail_call("uv_signal_init", 1, ENOMEM);
        assert_int_equal(loop_uv_on_signal(lab->uv, SIGUSR1, on_signal, NULL), -ENOMEM);
        fail_call("uv_signal_start", 1, EINVAL);
        assert_int_equal(loop_uv_on_signal(lab->uv, SIGUSR1, on_signal, NULL), -EINVAL);
        fail_call("random_seed_from_system", 1, EIO);
        assert_int_equal(loop_uv_new(&another), -EIO);
        fail_call("uv_loop_init", 1, EMFILE);
        assert_int_equal(loop_uv_new(&another), -EMFILE);
        assert_null(another);
        assert_null(loop_uv_free(NULL));
        assert_null(guest_close(NULL));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(a_failed_spawn_reports_its_reason_and_leaks_nothing),
                T(a_child_without_parent_death_signal_executes_nothing),
                T(a_wake_up_for_nothing_is_no_end),
                T(a_failed_oom_score_write_does_not_stop_the_child),
                T(a_status_distinguishes_exit_codes_and_signals),
                T(a_child_has_ended_when_its_output_has_no_writer),
                T(a_child_may_be_killed_from_its_own_output),
                T(the_loop_runs_while_a_child_starts),
                T(a_stopped_child_is_gone_when_it_is_reaped),
                T(a_child_is_scheduled_by_its_class),
                T(a_child_has_its_own_signals_descriptors_and_environment),
                T(pausing_twice_equals_pausing_once),
                T(each_failure_of_a_guest_is_reported),
                T(a_guest_waits_for_its_events_which_may_change),
                T(a_busy_guest_yields_after_some_rounds),
                T(a_turn_that_has_used_its_time_has_no_budget),
                T(an_error_of_libuv_is_returned),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("loop_uv", tests, NULL, NULL);
}
