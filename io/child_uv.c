/* Child processes on the real loop: fork, a pipe for their output, a pidfd for their end.
 *
 * Not uv_spawn(): a child must die with the daemon, however that ends, and PR_SET_PDEATHSIG has to be set
 * between fork and exec. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <uv.h>

#include "io/loop_uv.h"

/* libuv repeats a read that fills the buffer, up to 32 times. A pipe that holds less than the buffer is read
 * once per turn. */
enum { CHILD_PIPE_SIZE = LOOP_UV_BUFFER_SIZE / 2 };

struct Child {
        UvLoop *loop;
        const ChildEvents *events; /* NULL once killed */
        void *userdata;
        pid_t pid;
        int pid_fd;
        uv_poll_t exit;
        uv_pipe_t output;
        bool paused;
        bool output_ended, exited;
        int status;
        unsigned closing;
        Work reap;
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

/* Runs between fork and exec: async-signal-safe calls only. Report an error through 'error_fd', which a
 * successful exec closes. */
_Noreturn static void child_become(const char *const argv[], char **environment, pid_t parent,
                                   const ChildFiles *files, int output_fd, int error_fd) {
        int input_fd = files->input_fd, messages_fd = files->messages_fd < 0 ? output_fd : files->messages_fd;
        sigset_t none;
        int error;

        for (int s = 1; s < NSIG; s++)
                if (s != SIGKILL && s != SIGSTOP)
                        signal(s, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);

        if (input_fd < 0)
                input_fd = open("/dev/null", O_RDONLY);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(127);
        child_reset_oom_score();
        if (input_fd >= 0 && dup2(input_fd, 0) == 0 && dup2(output_fd, 1) == 1 && dup2(messages_fd, 2) == 2) {
                if (input_fd > 2)
                        close(input_fd);
                /* LMDB opens a descriptor of its file without close-on-exec. */
                (void) close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
                execvpe(argv[0], (char *const *) argv, environment);
        }
        error = errno;
        if (write(error_fd, &error, sizeof(error)) != sizeof(error))
                _exit(126);
        _exit(127);
}

static int child_fork(const char *const argv[], const ChildFiles *files, pid_t *ret_pid, int *ret_output_fd) {
        _cleanup_free_ char **environment = environment_clean();
        _cleanup_close_ int output_read = -1, output_write = -1, error_read = -1, error_write = -1;
        pid_t parent = getpid(), pid;
        int fds[2], error;
        ssize_t n;

        if (!environment)
                return -ENOMEM;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        output_read = fds[0];
        output_write = fds[1];
        (void) fcntl(output_read, F_SETPIPE_SZ, CHILD_PIPE_SIZE);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        error_read = fds[0];
        error_write = fds[1];

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child_become(argv, environment, parent, files, output_write, error_write);

        close(error_write);
        error_write = -1;
        do
                n = read(error_read, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        if (n == sizeof(error)) {
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                return -error;
        }
        *ret_pid = pid;
        *ret_output_fd = TAKE_FD(output_read);
        return 0;
}

static void child_reap(void *userdata) {
        Child *child = userdata;

        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

static void child_on_closed(uv_handle_t *handle) {
        Child *child = handle->data;

        if (--child->closing > 0)
                return;
        close(child->pid_fd);
        if (!child->exited) { /* killed: wait for its end off the loop */
                child->reap = (Work) {
                        .name = LOOP_NAME(child_reap), .work = child_reap, .done = free, .userdata = child
                };
                if (loop_work(loop_uv_base(child->loop), &child->reap) == 0)
                        return;
                child_reap(child);
        } else if (child->events) {
                loop_uv_enter(child->loop);
                child->events->on_exit(child->userdata, child->status);
                loop_uv_leave(child->loop, "end of a child");
        }
        free(child);
}

static void child_close(Child *child) {
        child->closing = 2;
        uv_close((uv_handle_t *) &child->exit, child_on_closed);
        uv_close((uv_handle_t *) &child->output, child_on_closed);
}

static void child_on_exit(uv_poll_t *poll, int status, int events) {
        Child *child = poll->data;
        int wait_status;

        if (waitpid(child->pid, &wait_status, WNOHANG) != child->pid)
                return;
        uv_poll_stop(poll);
        child->exited = true;
        child->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
        if (child->output_ended)
                child_close(child);
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
        if (size >= 0)
                return;

        child->output_ended = true;
        uv_read_stop(stream);
        if (child->exited)
                child_close(child);
}

/* Watch the end and the output of a child. Takes *output_fd if libuv has accepted it. */
static int child_watch(Child *child, int *output_fd) {
        int r;

        r = uv_pipe_open(&child->output, *output_fd);
        if (r < 0)
                return r;
        (void) TAKE_FD(*output_fd);
        r = uv_poll_start(&child->exit, UV_READABLE, child_on_exit);
        if (r < 0)
                return r;
        return uv_read_start((uv_stream_t *) &child->output, child_on_alloc, child_on_output);
}

int child_spawn_with(Child **ret, UvLoop *loop, const char *const argv[], const ChildFiles *files,
                     const ChildEvents *events, void *userdata, Error *err) {
        _cleanup_free_ Child *child = NEW0(Child, 1);
        _cleanup_close_ int output_fd = -1;
        int r;

        if (!child)
                return -ENOMEM;
        *child = (Child) { .loop = loop, .events = events, .userdata = userdata };
        loop_count_child(loop_uv_base(loop));
        r = child_fork(argv, files, &child->pid, &output_fd);
        if (r < 0)
                return error_set(err, r, "Failed to run %s: %s", argv[0], strerror(-r));

        child->pid_fd = pidfd_open(child->pid, 0);
        r = child->pid_fd < 0 ? -errno : uv_poll_init(loop_uv_handle(loop), &child->exit, child->pid_fd);
        if (r < 0) {
                if (child->pid_fd >= 0)
                        close(child->pid_fd);
                kill(child->pid, SIGKILL);
                child_reap(child);
                return error_set(err, r, "Failed to monitor %s: %s", argv[0], strerror(-r));
        }
        uv_pipe_init(loop_uv_handle(loop), &child->output, 0);
        child->exit.data = child->output.data = child;
        r = child_watch(child, &output_fd);
        if (r < 0) {
                (void) child_kill(TAKE_PTR(child));
                return error_set(err, r, "Failed to read the output of %s: %s", argv[0], strerror(-r));
        }
        *ret = TAKE_PTR(child);
        return 0;
}

int child_spawn(Child **ret, UvLoop *loop, const char *const argv[], const ChildEvents *events,
                void *userdata, Error *err) {
        return child_spawn_with(ret, loop, argv, &(ChildFiles) { .input_fd = -1, .messages_fd = -1 }, events,
                                userdata, err);
}

void child_pause(Child *child, bool paused) {
        if (child->paused == paused || child->output_ended)
                return;

        child->paused = paused;
        if (paused)
                uv_read_stop((uv_stream_t *) &child->output);
        else
                (void) uv_read_start((uv_stream_t *) &child->output, child_on_alloc, child_on_output);
}

Child *child_kill(Child *child) {
        if (!child)
                return NULL;

        child->events = NULL;
        if (!child->exited)
                kill(child->pid, SIGKILL);
        if (child->closing == 0)
                child_close(child);
        return NULL;
}
