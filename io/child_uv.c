/* Child processes on the real loop: fork, a pipe for their output, a pidfd for their end.
 *
 * Not uv_spawn(): a child must die with the daemon, however that ends, and PR_SET_PDEATHSIG has to be set
 * between fork and exec.
 *
 * A thread of libuv's pool forks: the copy of the page tables, and what a fork waits for while memory is
 * short, do not stop the loop. The signal of PR_SET_PDEATHSIG comes when the thread that forked ends
 * (prctl(2)); libuv keeps the threads of its pool until the process ends. Nothing waits for the program to
 * begin, which a busy host may delay by seconds: the loop reads the outcome of exec from a pipe. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/pidfd.h>
#include <linux/close_range.h>
#include <linux/ioprio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

#include "io/child_uv.h"

#include "io/loop_uv.h"

/* libuv repeats a read that fills the buffer, up to 32 times. A pipe that holds less than the buffer is read
 * once per turn. */
enum { CHILD_PIPE_SIZE = LOOP_UV_BUFFER_SIZE / 2 };

/* A start: the thread uses this, and nothing else, until the loop gets it back. */
typedef struct Start {
        char **argv, **environment; /* one allocation each; the strings of the second one are borrowed */
        ChildClass class;
        unsigned cpu_s;
        pid_t parent;
        int input_fd, messages_fd; /* duplicates; -1: none */
        atomic_bool cancelled;     /* by the loop, meanwhile */

        int error; /* the outcome; 0: all below is valid */
        pid_t pid;
        int pid_fd, output_fd, error_fd;
} Start;

struct Child {
        UvLoop *loop;
        const ChildEvents *events; /* NULL: cancelled */
        void *userdata;
        Start start;
        Work work;
        bool starting; /* 'work' is in flight */
        bool stopped;  /* by child_stop() */
        bool ending;   /* only its end is watched */
        bool paused, begun, exited;
        int error; /* it was not executed, or cannot be watched or read; 0: none */
        int status;
        uv_poll_t exit;   /* readable when the process has ended; open until then */
        uv_pipe_t begin;  /* the error of exec; ends with a successful one */
        uv_pipe_t output; /* read after that */
        unsigned n_open;  /* of these three */
};

/* Return whether a child inherits this variable; not NOTIFY_SOCKET, LISTEN_FDS, WATCHDOG_USEC and similar
 * ones. */
static bool environment_keeps(const char *variable) {
        static const char *const kept[] = { "PATH=", "HOME=", "USER=", "LANG=", "LC_", "TZ=", "TMPDIR=" };

        for (size_t i = 0; i < ELEMENTS(kept); i++)
                if (starts_with(variable, kept[i]))
                        return true;
        return false;
}

static char **environment_clean(void) {
        size_t n = 0, m = 0;
        char **clean;

        while (environ && environ[n])
                n++;
        clean = NEW0(char *, n + 1);
        if (!clean)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (environment_keeps(environ[i]))
                        clean[m++] = environ[i];
        return clean;
}

/* Reset the OOM score: a protection of the daemon must not apply to children, which may need much memory. */
static void child_reset_oom_score(void) {
        _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        if (fd >= 0 && write(fd, "0", 1) < 0)
                errno = 0; /* not fatal: the child keeps the score of the daemon */
}

/* The caller has decided how much the child may disturb (ChildClass). Where a sandbox or a lower limit of the
 * daemon itself refuses one of these, the others hold. */
static void child_restrict(const Start *s) {
        if (s->cpu_s > 0) /* the signal of the first limit can be recognised, the second one is SIGKILL */
                (void) setrlimit(RLIMIT_CPU, &(struct rlimit) { s->cpu_s, s->cpu_s + 1 });
        if (s->class == CHILD_BRIEF)
                (void) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + WORK_NICE_PATIENT);
        if (s->class == CHILD_IDLE) {
                (void) sched_setscheduler(0, SCHED_IDLE, &(struct sched_param) {});
                (void) syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                               IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
        }
        errno = 0;
}

/* Runs between fork and exec: async-signal-safe calls only. Report an error through 'error_fd', which a
 * successful exec closes. */
_Noreturn static void child_become(const Start *s, int output_fd, int error_fd) {
        int input_fd = s->input_fd, messages_fd = s->messages_fd < 0 ? output_fd : s->messages_fd;
        sigset_t none;
        int error;

        for (int n = 1; n < NSIG; n++)
                if (n != SIGKILL && n != SIGSTOP)
                        signal(n, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);

        if (input_fd < 0)
                input_fd = open("/dev/null", O_RDONLY);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != s->parent)
                _exit(127);
        child_reset_oom_score();
        child_restrict(s);
        if (input_fd >= 0 && dup2(input_fd, 0) == 0 && dup2(output_fd, 1) == 1 && dup2(messages_fd, 2) == 2) {
                if (input_fd > 2)
                        close(input_fd);
                /* LMDB opens a descriptor of its file without close-on-exec. */
                (void) close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
                execvpe(s->argv[0], s->argv, s->environment);
        }
        error = errno;
        if (write(error_fd, &error, sizeof(error)) != sizeof(error))
                _exit(126);
        _exit(127);
}

static void reap(pid_t pid) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

/* Signals are blocked meanwhile: a handler of the daemon must not run in the child. _Fork() takes no lock of
 * the allocator, for which the loop would wait. */
static pid_t start_fork(const Start *s, int output_fd, int error_fd) {
        sigset_t all, before;
        pid_t pid;

        sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = _Fork();
        if (pid == 0)
                child_become(s, output_fd, error_fd);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        return pid < 0 ? -errno : pid;
}

static int start_try(Start *s) {
        _cleanup_close_ int output_read = -1, output_write = -1, error_read = -1, error_write = -1;
        int fds[2], r;

        if (atomic_load(&s->cancelled))
                return -ECANCELED;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        output_read = fds[0];
        output_write = fds[1];
        (void) fcntl(output_read, F_SETPIPE_SZ, CHILD_PIPE_SIZE);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        error_read = fds[0];
        error_write = fds[1];

        s->pid = start_fork(s, output_write, error_write);
        if (s->pid < 0)
                return s->pid;
        s->pid_fd = pidfd_open(s->pid, 0);
        if (s->pid_fd < 0) {
                r = -errno;
                kill(s->pid, SIGKILL);
                reap(s->pid);
                return r;
        }
        s->output_fd = TAKE_FD(output_read);
        s->error_fd = TAKE_FD(error_read);
        return 0;
}

static void start_run(void *userdata) {
        Start *s = &((Child *) userdata)->start;

        s->error = start_try(s);
}

static void start_close(int *fd) {
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

/* Free what only the start needs. */
static void start_done(Start *s) {
        start_close(&s->input_fd);
        start_close(&s->messages_fd);
        free(s->argv);
        free(s->environment);
        s->argv = s->environment = NULL;
}

static char **arguments_copy(const char *const argv[]) {
        size_t n = 0, size = 0;
        char **copy, *at;

        for (; argv[n]; n++)
                size += strlen(argv[n]) + 1;
        copy = malloc((n + 1) * sizeof(*copy) + size);
        if (!copy)
                return NULL;
        at = (char *) (copy + n + 1);
        for (size_t i = 0; i < n; i++) {
                copy[i] = at;
                at = stpcpy(at, argv[i]) + 1;
        }
        copy[n] = NULL;
        return copy;
}

static int start_fill(Start *s, const char *const argv[], const ChildOptions *options) {
        const ChildFiles *files = options->files;

        *s = (Start) { .class = options->class,
                       .cpu_s = options->cpu_s,
                       .parent = getpid(),
                       .argv = arguments_copy(argv),
                       .environment = environment_clean(),
                       .input_fd = -1,
                       .messages_fd = -1,
                       .pid_fd = -1,
                       .output_fd = -1,
                       .error_fd = -1 };
        if (!s->argv || !s->environment)
                return -ENOMEM;
        if (files && files->input_fd >= 0) {
                s->input_fd = fcntl(files->input_fd, F_DUPFD_CLOEXEC, 3);
                if (s->input_fd < 0)
                        return -errno;
        }
        if (files && files->messages_fd >= 0) {
                s->messages_fd = fcntl(files->messages_fd, F_DUPFD_CLOEXEC, 3);
                if (s->messages_fd < 0)
                        return -errno;
        }
        return 0;
}

/* -- On the loop -- */

/* All is over: the process is gone, and so are its handles. */
static void child_on_gone(void *userdata) {
        Child *child = userdata;

        start_close(&child->start.pid_fd);
        start_close(&child->start.output_fd);
        start_close(&child->start.error_fd);
        loop_uv_enter(child->loop);
        if (child->events && child->stopped)
                child->events->on_gone(child->userdata);
        else if (child->events)
                child->events->on_exit(child->userdata, child->error ?: child->status);
        loop_uv_leave(child->loop, "end of a child");
        free(child);
}

static void child_reap(void *userdata) {
        reap(((Child *) userdata)->start.pid);
}

/* The handles are closed. A process that the loop could not watch is reaped in a thread. */
static void child_finish(Child *child) {
        if (!child->exited) {
                kill(child->start.pid, SIGKILL);
                child->work = WORK(child_reap, child_on_gone, child);
                if (loop_work(loop_uv_base(child->loop), &child->work) == 0)
                        return;
                child_reap(child);
        }
        child_on_gone(child);
}

static void child_on_closed(uv_handle_t *handle) {
        Child *child = handle->data;

        if (--child->n_open == 0)
                child_finish(child);
}

static void child_close(void *handle) {
        if (!uv_is_closing(handle))
                uv_close(handle, child_on_closed);
}

static void child_on_exit(uv_poll_t *poll, int status, int events) {
        Child *child = poll->data;
        int wait_status;

        if (waitpid(child->start.pid, &wait_status, WNOHANG) != child->start.pid)
                return;
        child->exited = true;
        child->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
        if (child->ending)
                loop_uv_expect_end(child->loop, -1);
        child_close(poll);
}

/* Kill it, and watch nothing but its end. */
static void child_end(Child *child) {
        atomic_store(&child->start.cancelled, true);
        if (child->starting || child->ending)
                return;
        child->ending = true;
        if (!uv_is_closing((uv_handle_t *) &child->exit))
                loop_uv_expect_end(child->loop, 1);
        if (!child->exited)
                kill(child->start.pid, SIGKILL);
        child_close(&child->begin);
        child_close(&child->output);
}

/* It cannot be watched or read. */
static void child_fail(Child *child, int error) {
        child->error = error;
        child_end(child);
}

static void child_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
        Child *child = handle->data;

        *buffer = uv_buf_init(loop_uv_buffer(child->loop), LOOP_UV_BUFFER_SIZE);
}

static void child_on_output(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
        Child *child = stream->data;

        loop_uv_enter(child->loop);
        if (size > 0) {
                child->events->on_output(child->userdata, buffer->base, size);
                explicit_bzero(buffer->base, (size_t) size); /* it may be a key */
        }
        loop_uv_leave(child->loop, "output of a child");
        if (size < 0)
                child_close(stream);
}

static void child_read(Child *child) {
        int r = uv_read_start((uv_stream_t *) &child->output, child_on_alloc, child_on_output);

        if (r < 0)
                child_fail(child, r);
}

/* The pipe has the error of exec, or nothing: then the program runs. */
static void child_on_begin(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
        Child *child = stream->data;
        int error;

        if (size == sizeof(error)) {
                memcpy(&error, buffer->base, sizeof(error));
                child->error = -error;
        }
        if (size >= 0)
                return;
        child_close(stream);
        child->begun = true;
        if (child->error == 0 && child->events->on_begin) {
                loop_uv_enter(child->loop);
                child->events->on_begin(child->userdata);
                loop_uv_leave(child->loop, "begin of a child");
        }
        if (!child->ending && !child->paused)
                child_read(child);
}

/* Watch the end, the begin, and after it the output. */
static int child_watch(Child *child) {
        Start *s = &child->start;
        int r;

        r = uv_poll_start(&child->exit, UV_READABLE, child_on_exit);
        if (r < 0) {
                child_close(&child->exit);
                return r;
        }
        TRY(uv_pipe_open(&child->begin, s->error_fd));
        s->error_fd = -1; /* libuv's now */
        TRY(uv_pipe_open(&child->output, s->output_fd));
        s->output_fd = -1;
        return uv_read_start((uv_stream_t *) &child->begin, child_on_alloc, child_on_begin);
}

static void child_on_started(void *userdata) {
        Child *child = userdata;
        Start *s = &child->start;
        int r;

        child->starting = false;
        start_done(s);
        child->error = s->error;
        if (s->error < 0) {
                child_on_gone(child);
                return;
        }
        r = uv_poll_init(loop_uv_handle(child->loop), &child->exit, s->pid_fd);
        if (r < 0) {
                child->error = r;
                child_finish(child);
                return;
        }
        uv_pipe_init(loop_uv_handle(child->loop), &child->begin, 0);
        uv_pipe_init(loop_uv_handle(child->loop), &child->output, 0);
        child->exit.data = child->begin.data = child->output.data = child;
        child->n_open = 3;
        r = child_watch(child);
        if (r < 0)
                child_fail(child, r);
        else if (atomic_load(&s->cancelled))
                child_end(child);
}

int child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                const ChildEvents *events, void *userdata, Error *err) {
        Child *child = NEW0(Child, 1);
        int r;

        if (!child)
                return error_set(err, -ENOMEM, "Failed to run %s: out of memory", argv[0]);
        *child = (Child) { .loop = loop_uv(loop), .events = events, .userdata = userdata, .starting = true };
        child->work = (Work) { .name = LOOP_NAME(child_on_started),
                               .work = start_run,
                               .done = child_on_started,
                               .userdata = child };
        r = start_fill(&child->start, argv, options);
        if (r >= 0)
                r = loop_work(loop, &child->work);
        if (r < 0) {
                start_done(&child->start);
                free(child);
                return error_set(err, r, "Failed to run %s: %s", argv[0], strerror(-r));
        }
        *ret = child;
        return 0;
}

void child_pause(Child *child, bool paused) {
        if (child->paused == paused)
                return;

        child->paused = paused;
        if (!child->begun || uv_is_closing((uv_handle_t *) &child->output))
                return;
        if (paused)
                uv_read_stop((uv_stream_t *) &child->output);
        else
                child_read(child);
}

void child_stop(Child *child) {
        child->stopped = true;
        child_end(child);
}

Child *child_kill(Child *child) {
        if (!child)
                return NULL;

        child->events = NULL;
        child_end(child);
        return NULL;
}
