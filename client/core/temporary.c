#include "client/core/temporary.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/memory.h"

enum { PATHS_MAX = 4 };

/* A signal handler has no argument for it. */
static const char *volatile paths[PATHS_MAX];

/* A folder is removed by another program: a handler may neither allocate nor read a folder. _Fork() takes no
 * lock, which the interrupted code may hold. */
static void temporary_remove(const char *path) {
        pid_t child;

        if (unlink(path) == 0 || errno != EISDIR)
                return;
        child = _Fork();
        if (child == 0) {
                (void) execl("/bin/rm", "rm", "-rf", "--", path, NULL);
                _exit(127);
        }
        (void) waitpid(child, NULL, 0);
}

/* The default action of the signal follows (SA_RESETHAND). */
static void temporary_on_signal(int number) {
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (paths[i])
                        temporary_remove(paths[i]);
        (void) raise(number);
}

static void temporary_handle(int number) {
        const struct sigaction ours = { .sa_handler = temporary_on_signal, .sa_flags = (int) SA_RESETHAND };
        struct sigaction now;

        if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
                (void) sigaction(number, &ours, NULL);
}

void temporary_add(const char *path) {
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (!paths[i]) {
                        paths[i] = path;
                        break;
                }
        temporary_handle(SIGINT);
        temporary_handle(SIGTERM);
        temporary_handle(SIGHUP);
}

void temporary_forget(const char *path) {
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (paths[i] == path)
                        paths[i] = NULL;
}
