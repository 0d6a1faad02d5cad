/* load, start, stop, unload, destroy, restart: each sets target states and waits until the units reach them.
 */
#include "base/clock.h"
#include "client/files.h"
#include "client/replace.h"
#include "client/restart.h"
#include "client/state_text.h"
#include "client/wait.h"

/* Return whether to wait for a unit. fleet waited for no global unit, and scripts rely on it; a terminal and
 * --wait include global units. */
static bool waits_for(const Client *c, bool global) {
        return !c->options.no_block && (!global || c->options.wait || progress_is_possible());
}

/* -- The units before the change -- */

enum {
        CLEAR_MS = 3000,    /* a unit that another client starts is inactive for less */
        CLEAR_GAP_MS = 200, /* between two reads of it */
};

typedef struct Found {
        const char *name; /* borrowed */
        bool exists, global;
        TargetState desired, current;
        bool as_requested; /* it had the requested target state already */
        bool waits;        /* for a machine, or for one that reports it: its machine may be lost */
        char *reason;      /* of its placement; owned */
        bool has_wait;     /* 'reason' states what it waits for */
        bool held;         /* nothing is started now: after a restore, for example */
        Names machines;    /* IDs: of its assignment; of a global unit, those that report it */
        bool runs;         /* reported as active; a global unit on all machines that report it */
        bool active;       /* reported as active or in transition, on any machine */
        uint64_t
                before_ms; /* 'since' of the reported state, perhaps of an earlier run; 0: none is reported */
} Found;

typedef struct FoundUnits {
        Names names, created; /* 'created': with the requested target state, by this command */
        Names differing;      /* of each of 'names': see FilesSubmitted */
        Found *items;
        size_t n;

        Names waiting;       /* units that were changed, to wait for */
        Names loaded;        /* of 'waiting': their former target state */
        uint64_t *before_ms; /* of each of 'waiting' */
        Progress *progress;  /* of 'waiting', or NULL */
} FoundUnits;

static void found_done(FoundUnits *found) {
        progress_free(found->progress);
        names_done(&found->waiting);
        names_done(&found->loaded);
        free(found->before_ms);
        names_done(&found->names);
        names_done(&found->created);
        names_done(&found->differing);
        for (size_t i = 0; i < found->n; i++) {
                free(found->items[i].reason);
                names_done(&found->items[i].machines);
        }
        free(found->items);
}

static int found_set_unit(Found *f, const ApiUnit *unit) {
        const char *reason = unit->reason ?: "", *machine = unit->machine_id ?: "",
                   *kind = reason_kind_of(unit->reason_kind, reason);

        f->exists = true;
        f->global = unit->global;
        f->desired = unit->desired_state;
        f->current = unit->current_state == _TARGET_INVALID ? TARGET_INACTIVE : unit->current_state;
        f->waits = !f->global && f->desired > TARGET_INACTIVE && !unit_has_finished(unit);
        f->has_wait = reason_is_of_wait(kind);
        f->held = streq(kind, API_REASON_HELD);
        if (*machine && names_add(&f->machines, machine, strlen(machine)) < 0)
                return -ENOMEM;
        if (!f->waits)
                return 0;
        f->reason = strdup(reason);
        return f->reason ? 0 : -ENOMEM;
}

static void found_set_states(Found *f, const Listing *states) {
        size_t n = 0, n_running = 0, n_idle = 0, at = 0;
        const ApiState *s;

        while ((s = listing_next_state(states, f->name, &at))) {
                f->before_ms = MAX(f->before_ms, s->since_ms);
                n++;
                n_running += state_kind(s) == STATE_RUNS;
                n_idle += state_kind(s) == STATE_INACTIVE;
                f->active |= s->active && !streq(s->active, "inactive") && !streq(s->active, "failed");
        }
        f->waits = f->waits && (n == 0 || (f->held && n_idle == n));
        f->runs = f->global ? n > 0 && n == n_running :
                              n_running > 0; /* it may also be elsewhere, in a move */
}

static int found_add_states(Found *f, const Listing *states) {
        const ApiState *s;
        size_t at = 0;

        found_set_states(f, states);
        while (f->global && (s = listing_next_state(states, f->name, &at)))
                if (s->machine_id && names_add(&f->machines, s->machine_id, strlen(s->machine_id)) < 0)
                        return -ENOMEM;
        return 0;
}

/* With 'named', prefix an error answer with the name of the unit, as fleet does for load and start. */
static int found_read_one(Client *c, Found *f, bool named, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};
        int r;

        r = client_unit(c, f->name, &unit, err);
        if (r == -EREMOTEIO && named)
                return error_prefix(err, r, "error retrieving unit %s from registry", f->name);
        if (r <= 0)
                return r;
        r = found_set_unit(f, &unit);
        if (r >= 0)
                r = client_states(c, f->name, &states, err);
        return r < 0 ? r : found_add_states(f, &states);
}

/* Read all units of found->names, in order, whether they exist or not. */
static int found_read(Client *c, FoundUnits *found, bool named, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};
        bool many = found->names.n > UNITS_MANY;
        int r = 0;

        found->items = NEW0(Found, found->names.n + 1);
        found->before_ms = NEW0(uint64_t, found->names.n + 1);
        if (!found->items || !found->before_ms)
                return -ENOMEM;
        if (many) {
                r = client_units(c, &units, err);
                if (r < 0)
                        return r;
                r = client_states(c, NULL, &states, err);
        }
        for (; r >= 0 && found->n < found->names.n; found->n++) {
                Found *f = &found->items[found->n];
                const ApiUnit *unit;

                f->name = found->names.items[found->n];
                if (!many) {
                        r = found_read_one(c, f, named, err);
                        continue;
                }
                unit = listing_unit(&units, f->name);
                if (unit)
                        r = found_set_unit(f, unit);
                if (r >= 0)
                        r = found_add_states(f, &states);
        }
        return r;
}

/* -- load, start -- */

/* Add a unit that was changed to those to wait for, or print that its change was triggered. */
static int add_changed(Client *c, FoundUnits *found, const char *name, bool global, uint64_t before_ms) {
        if (waits_for(c, global)) {
                found->before_ms[found->waiting.n] = before_ms;
                return names_add(&found->waiting, name, strlen(name));
        }
        printf("Triggered %sunit %s %s\n", global ? "global " : "", name, c->verb->name);
        if (global && c->verb->run == verb_raise)
                client_note_nowhere(c, name);
        return 0;
}

static int wait_for_changed(Client *c, FoundUnits *found, WaitRequest *request, Error *err) {
        request->names = &found->waiting;
        request->before_ms = found->before_ms;
        request->loaded = request->target < TARGET_LOADED ? &found->loaded : NULL;
        request->progress = found->progress = progress_new(&found->waiting);
        return wait_for(c, request, err);
}

static void add_change(ApiUnit *changes, size_t *n, const Found *f, TargetState target) {
        ApiUnit *change = &changes[(*n)++];

        *change = client_change_of(f->name);
        change->global = f->global;
        change->desired_state = target;
}

/* Return whether a unit runs that is only to be loaded: the same target state, requested again, stops it. */
static bool found_is_triggered(const Found *f, TargetState target) {
        return target == TARGET_LOADED && f->desired == TARGET_LOADED && f->active;
}

static int raise_targets(Client *c, FoundUnits *found, TargetState target, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, found->n + 1);
        size_t n_changes = 0;
        int r;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < found->n; i++) {
                Found *f = &found->items[i];

                if (!f->exists)
                        return error_set(err, -ENOENT, "unable to find unit %s", f->name);
                f->as_requested = f->desired == target && !names_have(&found->created, f->name);
                if (f->desired != target || (found_is_triggered(f, target) && !c->options.replace))
                        add_change(changes, &n_changes, f, target);
        }
        r = client_change(c, changes, n_changes, err);
        if (r < 0)
                return r;

        for (size_t i = 0; i < found->n; i++) {
                const Found *f = &found->items[i];

                /* fleet did not wait for a unit that was started before, and scripts rely on it. One that
                 * waits does not run: a repeated command waits as the first one. */
                if (f->as_requested && !c->options.wait && !(f->waits && waits_for(c, f->global)))
                        continue;
                r = add_changed(c, found, f->name, f->global,
                                f->as_requested || target != TARGET_LAUNCHED ||
                                                names_have(&found->created, f->name) ?
                                        0 :
                                        f->before_ms);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* -- Units that were started before -- */

/* Read the states of a unit. A unit that another client has just started is inactive for a moment: wait until
 * 'end_ms'. */
static int read_clear_states(Client *c, const Found *f, uint64_t end_ms, Listing *ret, Error *err) {
        for (;;) {
                bool clear = true;
                int r;

                r = client_states(c, f->name, ret, err);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < ret->n; i++)
                        clear = clear && state_kind(&ret->states[i]) != STATE_INACTIVE;
                if (clear || c->options.no_block || clock_monotonic_ms() >= end_ms)
                        return 0;
                listing_done(ret);
                *ret = (Listing) {};
                (void) usleep(CLEAR_GAP_MS * 1000);
        }
}

/* Print why a unit does not run yet, and the next step, which the name of the unit completes. */
static void note_waiting(const Found *f, const char *next) {
        const char *reason = reason_after_waiting(f->reason);

        if (!f->has_wait && f->machines.n > 0) { /* it has a machine, which is away or about to start it */
                bool cancels = strstr(next, "unload");

                client_note("no machine reports %s yet: fleetctl why %s%s%s", f->name, f->name,
                            cancels ? next : "", cancels ? f->name : "");
                return;
        }
        client_note("%s waits%s%s%s%s%s", f->name, f->held ? "" : " for a machine", *reason ? ": " : "",
                    reason, next, f->name);
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
                r = f->global || f->machines.n == 0 || (f->waits && !c->options.no_block) ?
                            0 :
                            state_report_away(c, f->name, f->machines.items[0], &machines, err);
                if (r < 0)
                        return r;
                if (r > 0 && start && !c->options.no_block)
                        status = EXIT_FAILED;
                if (r > 0 || f->runs || !start)
                        continue;
                if (f->waits) {
                        if (c->options.no_block)
                                note_waiting(f, "; to cancel: fleetctl unload ");
                        continue;
                }
                r = read_clear_states(c, f, end_ms, &states, err);
                if (r < 0)
                        return r;
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

int verb_raise(Client *c, char **args, size_t n, Error *err) {
        bool start = streq(c->verb->name, "start");
        const char *what = start ? "Error starting units: " : "Error loading units: ";
        WaitRequest request = { .goal = start ? WAIT_RUNNING : WAIT_STATE,
                                .target = start ? TARGET_LAUNCHED : TARGET_LOADED };
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_rollout_goals_ RolloutGoals rolled = {};
        int r, waited, status;

        r = files_submit(c, args, n, request.target,
                         &(FilesSubmitted) { .names = &found.names,
                                             .created = &found.created,
                                             .differing = &found.differing,
                                             .rolled = &rolled },
                         err);
        if (r != EXIT_DONE)
                return r;
        r = found_read(c, &found, true, err);
        if (r < 0)
                return client_fail_after(r, err, "%s", what);
        r = raise_targets(c, &found, request.target, err);
        if (r < 0)
                return client_fail_after(r, err, "%s", what);

        if (c->options.wait)
                request.goal = WAIT_ENDED;
        r = replace_wait(c, &rolled, err);
        if (r != EXIT_DONE)
                return r;
        waited = wait_for_changed(c, &found, &request, err);
        status = waited < 0 ? wait_print_error(c, waited, found.progress, err) : EXIT_DONE;
        if (c->options.wait || waited == -EINTR)
                return status;
        r = report_as_requested(c, &found, start, err);
        if (r < 0)
                return client_fail_after(r, err, "%s", what);
        return status ?: r;
}

/* -- stop, unload -- */

static bool found_has(const FoundUnits *found, const char *name) {
        for (size_t i = 0; i < found->n; i++)
                if (streq(found->items[i].name, name))
                        return true;
        return false;
}

/* Print that the argument of this unit name is a machine, if there is one. */
static void note_machine(Client *c, char **args, size_t n, const char *name) {
        size_t size = strlen(name) - strlen(unit_name_type(name)) - 1;
        _cleanup_listing_ Listing machines = {};

        for (size_t i = 0; i < n; i++) {
                if (strlen(args[i]) != size || strncmp(args[i], name, size) != 0)
                        continue;
                if (client_machines(c, &machines, NULL) < 0)
                        return;
                for (size_t k = 0; k < machines.n; k++)
                        if (same_string(machines.machines[k].hostname, args[i])) {
                                client_note("%s is a machine: fleetctl help maintain", args[i]);
                                return;
                        }
                return;
        }
}

/* Print a message about each argument that is no unit, and read the units among the arguments that exist, in
 * order. The result is that of a verb. */
static int find_units(Client *c, char **args, size_t n, FoundUnits *ret, Error *err) {
        size_t kept = 0, n_absent = 0;
        int r;

        r = files_names(args, n, &ret->names);
        if (r < 0)
                return r;
        r = found_read(c, ret, false, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ret->n; i++)
                if (ret->items[i].exists)
                        ret->items[kept++] = ret->items[i];
                else
                        n_absent++;
        ret->n = kept;
        if (ret->n == 0 && !client_is_interactive())
                fputs("Units not found in registry\n", stderr);
        for (size_t i = 0; n_absent > 0 && i < ret->names.n; i++) {
                const char *name = ret->names.items[i];

                if (found_has(ret, name))
                        continue;
                client_note("%s: %s", name,
                            strpbrk(name, "*?[") ? "no unit of the cluster matches" :
                                                   "the cluster has no such unit");
                client_suggest_unit(c, name);
                note_machine(c, args, n, name);
        }
        return EXIT_DONE;
}

/* Print the message of fleet, and the next step for a unit that waits for a machine. */
static int refuse_to_stop(const Found *f) {
        fprintf(stderr, "Unable to stop unit %s in state inactive\n", f->name);
        if (f->desired > TARGET_INACTIVE)
                note_waiting(f, "; to cancel: fleetctl unload ");
        else
                client_note("%s is on no machine: nothing was stopped", f->name);
        return EXIT_FAILED;
}

/* Lower the target states above 'target'. 'list' becomes the names that fleet lists: of all units but global
 * ones. */
static int lower_targets(Client *c, FoundUnits *found, TargetState target, Text *list, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, found->n + 1);
        size_t n_changes = 0;
        int r;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < found->n; i++) {
                const Found *f = &found->items[i];

                /* fleet changed and reported global units every time. */
                if (f->desired <= target && !found_is_triggered(f, target) &&
                    (f->global ? progress_is_possible() : f->current <= target))
                        continue;
                add_change(changes, &n_changes, f, target);
                if (f->desired == TARGET_LOADED && names_add(&found->loaded, f->name, strlen(f->name)) < 0)
                        return -ENOMEM;
                if (f->global)
                        continue;
                text_append(list, list->size > 0 ? " " : "");
                text_append_printable(list, f->name);
        }
        if (list->error < 0)
                return list->error;
        r = client_change(c, changes, n_changes, err);
        for (size_t i = 0; i < n_changes && r >= 0; i++)
                r = add_changed(c, found, changes[i].name, changes[i].global, 0);
        return r;
}

int verb_lower(Client *c, char **args, size_t n, Error *err) {
        bool stop = streq(c->verb->name, "stop");
        WaitRequest request = { .goal = WAIT_STOPPED, .target = stop ? TARGET_LOADED : TARGET_INACTIVE };
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_text_ Text list = {};
        int r;

        r = find_units(c, args, n, &found, err);
        if (r != EXIT_DONE || found.n == 0)
                return r;

        /* Check all units before the first one changes. */
        for (size_t i = 0; stop && i < found.n; i++)
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE)
                        return refuse_to_stop(&found.items[i]);

        r = lower_targets(c, &found, request.target, &list, err);
        if (r >= 0)
                r = wait_for_changed(c, &found, &request, err);

        if (wait_was_ended(c, r))
                return wait_print_error(c, r, found.progress, err);
        if (r == -EREMOTEIO && (client_is_interactive() || client_is_about_daemon(r, err)))
                return r;
        if (r < 0) {
                fprintf(stderr, "Failed to %s units [%s]. err: %s\n", c->verb->name, list.chars ?: "",
                        error_text(err, r));
                return EXIT_FAILED;
        }
        if (!progress_is_possible() || c->options.no_block) /* progress lines show the result */
                fprintf(stderr, "Successfully %s units [%s].\n", stop ? "stopped" : "unloaded",
                        list.chars ?: "");
        return EXIT_DONE;
}

/* -- destroy -- */

/* Wait for the units in the given order and print the line of fleet for each. */
static int wait_gone(Client *c, const Names *names) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < names->n; i++) {
                const Names one = { .items = &names->items[i], .n = 1 };
                Error err = {};
                int r = 0;

                if (!c->options.no_block)
                        r = wait_for(c, &(WaitRequest) { .goal = WAIT_GONE, .names = &one, .quiet = true },
                                     &err);
                if (wait_was_ended(c, r))
                        return wait_print_error(c, r, NULL, &err);
                if (r < 0) {
                        fprintf(stderr, "Error destroying units: %s\n", error_text(&err, r));
                        status = EXIT_FAILED;
                } else
                        printf("Destroyed %s\n", names->items[i]);
                (void) fflush(stdout);
        }
        return status;
}

/* Destroy units, and add those that are destroyed to found->waiting. Return an exit status; errors are
 * printed. */
static int destroy_units(Client *c, FoundUnits *found) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, found->n + 1);
        int status = EXIT_DONE;

        if (!units)
                return client_fail(-ENOMEM, NULL);
        for (size_t i = 0; i < found->n; i++) {
                units[i] = client_change_of(found->items[i].name);
                units[i].destroy = true;
        }
        for (size_t i = 0, end; i < found->n; i = end) {
                bool all;

                end = MIN(found->n, i + BATCH_UNITS);
                all = end - i > 1 && client_destroy(c, units + i, end - i, NULL) >= 0;
                for (size_t k = i; k < end; k++) {
                        Error err = {};
                        /* After a rejected transaction, single requests find the unit that was rejected. A
                         * daemon without transactions needs single requests, too. */
                        int r = all ? 0 : client_destroy(c, &units[k], 1, &err);

                        if (r < 0)
                                status = client_fail_after(r, &err, "Error destroying units: ");
                        else if (names_add(&found->waiting, units[k].name, strlen(units[k].name)) < 0)
                                return client_fail(-ENOMEM, NULL);
                }
        }
        return status;
}

int verb_destroy(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(found_done) FoundUnits found = {};
        int r, status;

        r = find_units(c, args, n, &found, err);
        if (r != EXIT_DONE)
                return r;

        /* Destroy all before the first wait, so that they stop at the same time. */
        status = destroy_units(c, &found);
        if (c->options.no_block || !progress_is_possible())
                return wait_gone(c, &found.waiting) ?: status;
        r = wait_for_changed(c, &found, &(WaitRequest) { .goal = WAIT_GONE }, err);
        return r < 0 ? wait_print_error(c, r, found.progress, err) : status;
}

/* -- restart -- */

static int stop_and_start(Client *c, Found *f, Progress *progress, Error *err) {
        bool stops = f->global || f->current == TARGET_LAUNCHED;
        _cleanup_listing_ Listing states = {};
        int r;

        if (stops) {
                r = restart_stop(c, f->name, progress, err);
                if (r < 0)
                        return r;
        }
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
        if (!waits_for(c, f->global)) {
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
                note_waiting(f, "; fleetctl why ");
        else
                client_note("%s is on no machine; to start it: fleetctl start %s", f->name, f->name);
}

int verb_restart(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_listing_ Listing machines = {};
        _cleanup_names_ Names names = {};
        bool refused = false;
        int r;

        r = files_submit(c, args, n, TARGET_LAUNCHED, &(FilesSubmitted) { .names = &names }, err);
        if (r != EXIT_DONE)
                return r;
        r = find_units(c, args, n, &found, err);
        if (r != EXIT_DONE)
                return r;

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
