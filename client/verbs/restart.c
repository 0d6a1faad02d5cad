/* restart: stop and start units one after the other. A unit that restart has stopped is started again, also
 * if the command fails or is interrupted meanwhile. */
#include <signal.h>

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/subprocess.h"
#include "client/core/unit.h"
#include "client/verbs/found.h"
#include "client/verbs/submit.h"

/* What follows a wait for the stop that ended early. */
#define RESTARTED                                                                                           \
        "has not stopped yet; its target state is launched again: it keeps running, or starts when it has " \
        "stopped"

enum { START_AGAIN_MS = 60000, RESTART_RETRY_MS = 500, RESTART_QUIET_MS = 1000 };

/* Return whether one of these machines is not up: it would not stop the unit. Then print which one, and the
 * next step. 'all' is the list of machines; it is read again if a machine is missing. */
static bool restart_is_refused(Client *c, const char *name, const Names *machines, Listing *all) {
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

/* Block the signals that would end the program between stop and start; *ret is the former mask. */
static void restart_block_signals(sigset_t *ret) {
        sigset_t signals;

        subprocess_ending_signals(&signals);
        (void) sigprocmask(SIG_BLOCK, &signals, ret);
}

/* Permit them again. After a failed step ('r' is negative), one that has arrived is in c->signal. */
static void restart_unblock_signals(Client *c, const sigset_t *before, int r) {
        sigset_t signals;
        int signal;

        subprocess_ending_signals(&signals);
        /* Before the message about a failure, a signal would end the program. */
        while (r < 0 && (signal = sigtimedwait(&signals, NULL, &(struct timespec) {})) > 0)
                c->signal = c->signal ?: signal;
        (void) sigprocmask(SIG_SETMASK, before, NULL);
}

static bool restart_is_interrupted(void) {
        sigset_t pending;

        return sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM));
}

/* Start a unit that was stopped. It must not stay stopped because the cluster has no leader for a moment:
 * retry for a minute, or until a blocked signal arrives. A target state that another client has changed
 * meanwhile stays. */
static int restart_start(Client *c, const char *name, Error *err) {
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

        /* WaitRequest.interrupted is in the message. */
        if (started >= 0 && (r == -EINTR || r == -EACCES || (r == -ETIMEDOUT && c->options.timeout_ms > 0)))
                return r;
        if (started >= 0)
                return error_set(err, r, "%s; %s " RESTARTED, error_text(&failed, r), name);
        return error_set(err, r == -EINTR ? r : -ECANCELED,
                         "%s stops and is not started again: %s; to start it: fleetctl start %s", name,
                         error_text(&why, started), name);
}

/* Stop a unit, and wait until it has stopped. If that wait ends early, set the target state launched again;
 * the message says so. Errors are those of wait_for(); -ECANCELED if it is not started again. */
static int restart_stop(Client *c, const char *name, Progress *progress, Error *err) {
        const Names one = { .items = (char **) &name, .n = 1 };
        int r;

        TRY(client_set_state(c, name, TARGET_LOADED, err));
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

static int stop_and_start(Client *c, Found *f, Progress *progress, Error *err) {
        bool stops = f->global || f->current == TARGET_LAUNCHED;
        _cleanup_listing_ Listing states = {};

        if (stops)
                TRY(restart_stop(c, f->name, progress, err));
        f->before_ms = 0;
        if (client_states(c, f->name, &states, NULL) >= 0)
                found_set_states(f, &states);
        return stops ? restart_start(c, f->name, err) : client_set_state(c, f->name, TARGET_LAUNCHED, err);
}

static int restart_one(Client *c, Found *f, Progress *progress, Error *err) {
        const Names one = { .items = (char **) &f->name, .n = 1 };
        sigset_t before;
        int r;

        restart_block_signals(&before);
        r = stop_and_start(c, f, progress, err);
        restart_unblock_signals(c, &before, r);
        if (r < 0)
                return r;
        if (!found_waits_for(c, f->global)) {
                printf("Triggered global unit %s restart\n", f->name);
                return 0;
        }
        return wait_for(c,
                        &(WaitRequest) { .goal = WAIT_RUNNING,
                                         .target = TARGET_LAUNCHED,
                                         .names = &one,
                                         .progress = progress,
                                         .more = c->options.wait,
                                         .before_ms = &f->before_ms },
                        err);
}

/* Print the error, and the units whose restart has not begun. */
static int fail_restart(const Client *c, int r, const FoundUnits *found, size_t at, const Error *err) {
        _cleanup_text_ Text t = {};
        size_t i;

        for (i = at + 1; i < found->n && t.size < 100; i++)
                text_printf(&t, "%s %s", t.size > 0 ? "," : "", found->items[i].name);
        if (t.size > 0)
                fprintf(stderr, "fleetctl: not restarted:%s%s\n", t.chars, i < found->n ? ", ..." : "");
        if (r == -EREMOTEIO) {
                fprintf(stderr, "Error setting target state for unit %s: %s\n", found->items[at].name,
                        err->message);
                return EXIT_FAILED;
        }
        return wait_print_error(c, r, found->progress, err);
}

static bool can_restart(const Found *f) {
        return f->global || f->current != TARGET_INACTIVE;
}

/* Print the next step, and in a pipe, or for a unit that is not to run, the message of fleet. */
static void refuse_to_restart(const Found *f) {
        bool wanted = f->desired > TARGET_INACTIVE;

        if (!wanted || !client_is_interactive())
                fprintf(stderr, "Unable to restart unit %s in state inactive\n", f->name);
        if (wanted)
                found_note_waiting(f, "; fleetctl why ");
        else
                client_note("%s is on no machine; to start it: fleetctl start %s", f->name, f->name);
}

static int restart_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_found_ FoundUnits found = {};
        _cleanup_listing_ Listing machines = {};
        _cleanup_names_ Names names = {};
        bool refused = false;
        int r;

        r = submit_files(c, args, n, TARGET_LAUNCHED, &(Submitted) { .names = &names }, err);
        if (r != EXIT_DONE)
                return r;
        r = TRY_DONE(found_find(c, args, n, &found, err));

        /* Check all units before the first one changes. */
        for (size_t i = 0; i < found.n; i++) {
                const Found *f = &found.items[i];
                const char *reason = reason_after_waiting(f->reason);

                if (f->held)
                        client_note("%s cannot be restarted now%s%s (fleetctl cluster)", f->name,
                                    *reason ? ": " : "", reason);
                refused |= f->held || restart_is_refused(c, f->name, &f->machines, &machines);
        }
        if (refused) {
                client_note("nothing was restarted");
                return EXIT_FAILED;
        }
        for (size_t i = 0; i < found.n; i++) {
                if (!can_restart(&found.items[i]))
                        refuse_to_restart(&found.items[i]);
                else if (names_add(&found.waiting, found.items[i].name, strlen(found.items[i].name)) < 0)
                        return -ENOMEM;
        }
        (void) signal(SIGHUP, SIG_IGN); /* a lost terminal must not leave a unit stopped */
        found.progress = progress_new(&found.waiting);
        for (size_t i = 0, k = 0; i < found.n; i++) {
                if (!can_restart(&found.items[i]))
                        continue;
                r = restart_one(c, &found.items[i], found.progress, err);
                if (r < 0)
                        return fail_restart(c, r, &found, i, err);
                found.before_ms[k++] = found.items[i].before_ms;
        }
        if (!c->options.wait)
                return EXIT_DONE;
        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_ENDED,
                                      .target = TARGET_LAUNCHED,
                                      .names = &found.waiting,
                                      .quiet = true,
                                      .progress = found.progress,
                                      .before_ms = found.before_ms },
                     err);
        return r < 0 ? wait_print_error(c, r, found.progress, err) : EXIT_DONE;
}

VERB(restart, "restart", "fleet attempts wait patterns report", "UNIT...",
     "Stop and start one or more units in the cluster, one after the other.",
     "The next unit is stopped when the previous one is active. A global unit is restarted on all\n"
     "machines at once.\n",
     restart_run);
