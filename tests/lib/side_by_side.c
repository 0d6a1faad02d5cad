#include "tests/lib/side_by_side.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/memory.h"

enum { AT_ONCE = 4, LIMIT_S = 300 };

typedef struct Child {
        const struct CMUnitTest *test;
        pid_t pid;  /* 0: not started */
        int output; /* what it prints */
        bool ended;
        int status;
} Child;

static Child *children;
static size_t n_children;

static void run(Child *child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(LIMIT_S);
        dup2(child->output, STDOUT_FILENO);
        dup2(child->output, STDERR_FILENO);
        exit(_cmocka_run_group_tests("a process of its own", child->test, 1, NULL, NULL));
}

static void start(Child *child) {
        child->output = memfd_create("output", MFD_CLOEXEC);
        fflush(NULL);
        child->pid = fork();
        if (child->pid == 0)
                run(child);
        if (child->pid < 0 || child->output < 0)
                abort();
}

/* Start those from 'first' on, as many as may run at the same time; those before it have ended. */
static void start_from(const Child *first) {
        size_t n = 0;

        for (size_t i = first - children; i < n_children && n < AT_ONCE; i++) {
                if (!children[i].pid)
                        start(&children[i]);
                n += !children[i].ended;
        }
}

static void await_one(void) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);

        if (pid < 0)
                abort();
        for (size_t i = 0; i < n_children; i++)
                if (children[i].pid == pid) {
                        children[i].ended = true;
                        children[i].status = status;
                }
}

static void passes(void **state) {
        Child *child = *state;
        char text[4096];
        ssize_t size;
        int status;

        start_from(child);
        while (!child->ended) {
                await_one();
                start_from(child);
        }
        status = child->status;
        lseek(child->output, 0, SEEK_SET);
        while (status != 0 && (size = read(child->output, text, sizeof(text))) > 0)
                fprintf(stderr, "%.*s", (int) size, text);
        close(child->output);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
                fail_msg("it was still running after %d s", LIMIT_S);
        if (status != 0)
                fail_msg("its process ended with the status 0x%x", (unsigned) status);
}

/* As cmocka's own filter: '*' for any characters, '?' for one. */
static bool matches(const char *name, const char *pattern) {
        if (*pattern == '*')
                return matches(name, pattern + 1) || (*name && matches(name + 1, pattern));
        return *pattern ? *name && (*pattern == '?' || *pattern == *name) && matches(name + 1, pattern + 1) :
                          !*name;
}

int run_side_by_side(const struct CMUnitTest *tests, size_t n, const char *filter) {
        _cleanup_free_ struct CMUnitTest *waits = NEW0(struct CMUnitTest, n);
        int r;

        children = NEW0(Child, n);
        if (!waits || !children)
                abort();
        signal(SIGCHLD,
               SIG_DFL); /* if the parent process ignored it, the exit status of a child would be lost */
        n_children = 0;
        for (size_t i = 0; i < n; i++)
                if (!filter || matches(tests[i].name, filter)) {
                        children[n_children] = (Child) { .test = &tests[i] };
                        waits[n_children] = (struct CMUnitTest) { .name = tests[i].name,
                                                                  .test_func = passes,
                                                                  .initial_state = &children[n_children] };
                        n_children++;
                }
        r = _cmocka_run_group_tests("tests", waits, n_children, NULL, NULL);
        free(children);
        return r;
}
