#include "client/follow.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/client.h"
#include "client/subprocess.h"

static int follow_poll(const Follow *f, const sigset_t *interrupts, Error *err) {
        uint64_t began_ms = clock_monotonic_ms(), answered_ms = began_ms;

        for (;;) {
                int r = f->look(f->userdata, err);
                uint64_t now_ms = clock_monotonic_ms();

                if (r != -EAGAIN && r != -ENODATA)
                        return r;
                if (r == -EAGAIN)
                        answered_ms = now_ms;
                else if (now_ms - answered_ms > f->silent_ms)
                        return client_fail_after(-EHOSTDOWN, err, "%s", f->unknown);
                if (f->timeout_ms > 0 && now_ms - began_ms >= f->timeout_ms) {
                        f->left(f->userdata, "timed out: ");
                        return EXIT_CONTINUES;
                }
                if (subprocess_wait_signal(interrupts, f->poll_ms) > 0) {
                        f->left(f->userdata, "");
                        return EXIT_CONTINUES;
                }
        }
}

int follow(const Follow *f, Error *err) {
        sigset_t interrupts, before;
        int r;

        sigemptyset(&interrupts);
        if (isatty(STDERR_FILENO))
                sigaddset(&interrupts, SIGINT);
        (void) sigprocmask(SIG_BLOCK, &interrupts, &before);
        r = follow_poll(f, &interrupts, err);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}
