/* load, start: set higher target states, and wait until the units reach them. */
#include "base/clock.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"
#include "client/verbs/found.h"
#include "client/verbs/replace.h"
#include "client/verbs/submit.h"

enum {
        CLEAR_MS = 3000,    /* a unit that another client starts is inactive for less */
        CLEAR_GAP_MS = 200, /* between two reads of it */
};

static int raise_targets(Client *c, FoundUnits *found, TargetState target, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, found->n + 1);
        size_t n_changes = 0;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < found->n; i++) {
                Found *f = &found->items[i];

                if (f->is_slot)
                        continue;
                if (!f->exists)
                        return error_set(err, -ENOENT, "unable to find unit %s", f->name);
                f->as_requested = f->desired == target && !names_have(&found->created, f->name) && !f->is_set;
                if (f->desired != target || f->is_set ||
                    (found_is_triggered(f, target) && !c->options.replace))
                        found_add_change(changes, &n_changes, f, target);
        }
        TRY(client_change(c, changes, n_changes, err));
        TRY(found_await_slots(c, found, err));

        for (size_t i = 0; i < found->n; i++) {
                const Found *f = &found->items[i];

                if (f->is_set)
                        continue;
                /* fleet did not wait for a unit that was started before, and scripts rely on it. One that
                 * waits does not run: a repeated command waits as the first one. */
                if (f->as_requested && !c->options.wait && !(f->waits && found_waits_for(c, f->global)))
                        continue;
                TRY(found_add_changed(c, found, f->name, f->global,
                                      f->as_requested || f->desired == target || target != TARGET_LAUNCHED ||
                                                      names_have(&found->created, f->name) ?
                                              0 :
                                              f->before_ms));
                if (f->global && !found_waits_for(c, true))
                        client_note_nowhere(c, f->name);
        }
        return 0;
}

/* Read the states of a unit. A unit that another client has just started is inactive for a moment: wait until
 * 'end_ms'. */
static int read_clear_states(Client *c, const Found *f, uint64_t end_ms, Listing *ret, Error *err) {
        for (;;) {
                bool clear = true;

                TRY(client_states(c, f->name, ret, err));
                for (size_t i = 0; i < ret->n; i++)
                        clear = clear && state_kind(&ret->states[i]) != STATE_INACTIVE;
                if (clear || c->options.no_block || clock_monotonic_ms() >= end_ms)
                        return 0;
                listing_done(ret);
                *ret = (Listing) {};
                (void) usleep(CLEAR_GAP_MS * 1000);
        }
}

/* Print the state of each unit that was to run already and does not, or may not: its assignment is not
 * repeated. Without 'start', print those on a machine that is away. Return an exit status, or a negative
 * errno. */
static int report_as_requested(Client *c, const FoundUnits *found, bool start, Error *err) {
        uint64_t end_ms = clock_monotonic_ms() + CLEAR_MS;
        _cleanup_listing_ Listing machines = {};
        int status = EXIT_DONE;

        for (size_t i = 0; i < found->n; i++) {
                const Found *f = &found->items[i];
                _cleanup_listing_ Listing states = {};
                int r;

                if (!f->as_requested)
                        continue;
                r = TRY(f->global || f->machines.n == 0 || (f->waits && !c->options.no_block) ?
                                0 :
                                state_report_away(c, f->name, f->machines.items[0], &machines, err));
                if (r > 0 && start && !c->options.no_block)
                        status = EXIT_FAILED;
                if (r > 0 || f->runs || !start)
                        continue;
                if (f->waits) {
                        if (c->options.no_block)
                                found_note_waiting(f, "; to cancel: fleetctl unload ");
                        continue;
                }
                TRY(read_clear_states(c, f, end_ms, &states, err));
                if (states.n == 0 && !f->global) /* it has ended, perhaps on a machine that was removed */
                        client_note("no machine reports %s: fleetctl why %s", f->name, f->name);
                for (size_t k = 0; k < states.n; k++) {
                        client_load_machine(c, &machines, states.states[k].machine_id, true);
                        if (state_report(&states.states[k], f->global, found->differing.items[i],
                                         &machines) != EXIT_DONE)
                                status = EXIT_FAILED;
                }
        }
        return status;
}

static int raise_run(Client *c, char **args, size_t n, Error *err) {
        bool start = streq(c->verb->name, "start");
        const char *what = start ? "Error starting units: " : "Error loading units: ";
        WaitRequest request = { .goal = start ? WAIT_RUNNING : WAIT_STATE,
                                .target = start ? TARGET_LAUNCHED : TARGET_LOADED };
        _cleanup_found_ FoundUnits found = {};
        _cleanup_rollout_goals_ RolloutGoals rolled = {};
        int r, waited, status;

        r = submit_files(c, args, n, request.target,
                         &(Submitted) { .names = &found.names,
                                        .created = &found.created,
                                        .differing = &found.differing,
                                        .rolled = &rolled },
                         err);
        if (r != EXIT_DONE)
                return r;
        TRY_VERB(found_add_slots(c, &found, err), err, "%s", what);
        TRY_VERB(found_read(c, &found, true, err), err, "%s", what);
        TRY_VERB(raise_targets(c, &found, request.target, err), err, "%s", what);

        if (c->options.wait)
                request.goal = WAIT_ENDED;
        TRY_DONE(replace_wait(c, &rolled, err));
        for (size_t i = 0; start && i < found.waiting.n && i < DATA_NOTES_MAX; i++)
                client_note_data(c, found.waiting.items[i]);
        waited = found_wait(c, &found, &request, err);
        status = waited < 0 ? wait_print_error(c, waited, found.progress, err) : EXIT_DONE;
        if (c->options.wait || waited == -EINTR)
                return status;
        r = TRY_VERB(report_as_requested(c, &found, start, err), err, "%s", what);
        return status ?: r;
}

VERB(load, "load", "fleet replace no-block attempts report", "UNIT...",
     "Schedule one or more units in the cluster, first submitting them if necessary.",
     "The units get a machine and are loaded into its systemd, but not started.\n" FOUND_WAITING, raise_run);

VERB(start, "start", "fleet replace no-block attempts wait report update", "UNIT...",
     "Start one or more units in the cluster, first submitting and loading if necessary.",
     "Returns when systemd reports the units active, or with status 1 when one has failed and the others\n"
     "are decided. A job that ends successfully counts as active. --wait returns when the units have\n"
     "ended.\n"
     "A unit that has failed or was stopped since its start is reported with the reason and\n"
     "exit status 1; restart starts it again. A global unit is started again by systemctl start on "
     "that\n"
     "machine: restart restarts it on all machines.\n" FOUND_WAITING "\n"
     "Start a single unit, and three of one template:\n"
     "fleetctl start foo.service web@{1..3}.service\n",
     raise_run);
