#include "client/child.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { EXIT_CANNOT_RUN = 127, EXIT_SIGNAL = 128 };

int child_wait_signal(const sigset_t *set, uint64_t ms) {
        struct timespec span = { .tv_sec = (time_t) (ms / 1000), .tv_nsec = (long) (ms % 1000) * 1000000 };
        int signal = sigtimedwait(set, NULL, &span);

        return signal > 0 ? signal : 0;
}

void child_signals(sigset_t *ret) {
        sigemptyset(ret);
        sigaddset(ret, SIGCHLD);
        sigaddset(ret, SIGINT);
        sigaddset(ret, SIGTERM);
        sigaddset(ret, SIGHUP);
}

static int spawn(const char *const *command, const sigset_t *mask, pid_t *ret) {
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

int child_run(const char *const *command, const char *const environment[], uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata) {
        uint64_t tick_ms = 3600000;
        sigset_t ours, before, mask;
        int status = 0, r, signal;
        pid_t pid;

        for (; environment && environment[0] && environment[1]; environment += 2)
                (void) setenv(environment[0], environment[1], true);
        child_signals(&ours);
        (void) sigprocmask(SIG_BLOCK, &ours, &before);
        mask = before;
        for (signal = 1; signal < NSIG; signal++)
                if (sigismember(&ours, signal) == 1)
                        (void) sigdelset(&mask, signal);
        (void) fflush(stdout);
        r = spawn(command, &mask, &pid);
        if (r < 0) {
                fprintf(stderr, "fleetctl: cannot run %s: %s\n", command[0], strerror(-r));
                (void) sigprocmask(SIG_SETMASK, &before, NULL);
                return EXIT_CANNOT_RUN;
        }
        while (waitpid(pid, &status, WNOHANG) == 0) {
                signal = 0;
                if (tick)
                        tick_ms = tick(userdata, &signal);
                if (signal == 0)
                        signal = child_wait_signal(&ours, tick_ms);
                if (signal != 0 && signal != SIGCHLD)
                        (void) kill(pid, signal);
        }
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}
