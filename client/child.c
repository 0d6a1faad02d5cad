#include "client/child.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/memory.h"

extern char **environ;

int child_run(const char *const *argv, Error *err) {
        struct sigaction ignore = { .sa_handler = SIG_IGN }, interrupt, quit;
        int r, status;
        pid_t pid;

        /* Ctrl-C is the program's, as with system(3). */
        (void) sigaction(SIGINT, &ignore, &interrupt);
        (void) sigaction(SIGQUIT, &ignore, &quit);
        r = -posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *) argv, environ);
        while (r == 0 && waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        r = -errno;
        (void) sigaction(SIGINT, &interrupt, NULL);
        (void) sigaction(SIGQUIT, &quit, NULL);
        if (r < 0)
                return error_set(err, r, "cannot run %s: %s", argv[0], strerror(-r));
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
