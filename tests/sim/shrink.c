#include "tests/sim/shrink.h"

#include <sys/wait.h>

#include "base/text.h"

Verdict shrink_try(void (*run)(void *userdata), void *userdata) {
        Verdict verdict = {};
        char line[512];
        FILE *said;
        int fds[2], status;
        pid_t pid;

        fflush(stdout);
        if (pipe(fds) < 0 || (pid = fork()) < 0)
                abort();
        if (pid == 0) {
                close(fds[0]);
                if (dup2(fds[1], STDOUT_FILENO) < 0 || !freopen("/dev/null", "w", stderr))
                        _exit(2);
                run(userdata);
                _exit(0);
        }
        close(fds[1]);
        said = fdopen(fds[0], "r");
        while (said && fgets(line, sizeof(line), said)) {
                unsigned long long at = 0;

                if (sscanf(line, "FAILED %63s seed=%*u at %llu", verdict.checker, &at) == 2)
                        verdict.at_s = at + 1;
        }
        if (said)
                fclose(said);
        if (waitpid(pid, &status, 0) < 0)
                abort();
        if (!WIFEXITED(status) && !verdict.checker[0])
                snprintf(verdict.checker, sizeof(verdict.checker), "crash");
        return verdict;
}

bool shrink_same(const Verdict *a, const Verdict *b) {
        return a->checker[0] && streq(a->checker, b->checker);
}
