#include "client/restart.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* What follows a wait for the stop that ended early. */
#define RESTARTED                                                                                           \
        "has not stopped yet; its target state is launched again: it keeps running, or starts when it has " \
        "stopped"

enum { START_AGAIN_MS = 60000, RESTART_RETRY_MS = 500, RESTART_QUIET_MS = 1000 };

bool restart_is_refused(Client *c, const char *name, const Names *machines, Listing *all) {
        for (size_t i = 0; i < machines->n; i++) {
                _cleanup_text_ Text t = {};
                const ApiMachine *m;

                client_load_machine(c, all, machines->items[i], true);
                m = listing_machine(all, machines->items[i]);
                if (!m)
                        continue;
                append_machine_name(&t, all, m->id);
                if (!append_absence(&t, c, m))
                        continue;
                if (machine_is_there(m))
                        text_append(
                                &t,
                                ", and does not stop it: start fleetd there first: systemctl start fleetd");
                else
                        text_printf(&t, ", and cannot restart it; where it runs next: fleetctl why %s", name);
                client_note("%s: %s", name, t.chars ?: "");
                return true;
        }
        return false;
}

void restart_block_signals(sigset_t *ret) {
        sigset_t signals;

        wait_ending_signals(&signals);
        (void) sigprocmask(SIG_BLOCK, &signals, ret);
}

void restart_unblock_signals(Client *c, const sigset_t *before, int r) {
        sigset_t signals;
        int signal;

        wait_ending_signals(&signals);
        /* Before the message about a failure, a signal would end the program. */
        while (r < 0 && (signal = sigtimedwait(&signals, NULL, &(struct timespec) {})) > 0)
                c->signal = c->signal ?: signal;
        (void) sigprocmask(SIG_SETMASK, before, NULL);
}

static bool restart_is_interrupted(void) {
        sigset_t pending;

        return sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM));
}

int restart_start(Client *c, const char *name, Error *err) {
        uint64_t began_ms = clock_monotonic_ms(), passed_ms;
        _cleanup_api_unit_ ApiUnit current = API_UNIT_EMPTY;
        ApiUnit change = client_change_of(name);
        bool reported = false;
        int r;

        change.desired_state = TARGET_LAUNCHED;
        change.expected_state = TARGET_LOADED;
        do {
                *err = (Error) {};
                r = client_change(c, &change, 1, err);
                if (r >= 0 || r == -ENOMEM || r == -EFBIG || r == -E2BIG ||
                    (r == -EREMOTEIO && !client_is_about_daemon(r, err)))
                        break; /* no temporary failure */
                (void) usleep(RESTART_RETRY_MS * 1000);
                passed_ms = clock_monotonic_ms() - began_ms;
                if (!reported && passed_ms >= RESTART_QUIET_MS) {
                        client_note("%s is not started again yet, trying for %d s: %s", name,
                                    START_AGAIN_MS / 1000, error_text(err, r));
                        reported = true;
                }
        } while (passed_ms < START_AGAIN_MS && !restart_is_interrupted());

        /* A try whose answer was lost may have taken effect. */
        if (r == -EREMOTEIO && client_unit(c, name, &current, NULL) > 0 &&
            current.desired_state == TARGET_LAUNCHED)
                return 0;
        return r;
}

/* Set the target state launched after the wait for the stop has ended with 'r'. */
static int restart_resume(Client *c, const char *name, int r, Error *err) {
        Error failed = *err, why = {};
        int started = restart_start(c, name, &why);

        if (started >= 0 && strstr(failed.message, RESTARTED))
                return r;
        if (started >= 0)
                return error_set(err, r, "%s; %s " RESTARTED, error_text(&failed, r), name);
        return error_set(err, r == -EINTR ? r : -ECANCELED,
                         "%s stops and is not started again: %s; to start it: fleetctl start %s", name,
                         error_text(&why, started), name);
}

int restart_stop(Client *c, const char *name, Progress *progress, Error *err) {
        const Names one = { .items = (char **) &name, .n = 1 };
        int r;

        r = client_set_state(c, name, TARGET_LOADED, err);
        if (r < 0)
                return r;
        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_STOPPED,
                                      .target = TARGET_LOADED,
                                      .names = &one,
                                      .quiet = true,
                                      .progress = progress,
                                      .more = true,
                                      .interrupted = RESTARTED },
                     err);
        return r >= 0 || r == -ECANCELED ? r : restart_resume(c, name, r, err);
}
