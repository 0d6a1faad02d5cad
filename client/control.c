/* load, start, stop, unload, destroy, restart: each sets what is wanted, and waits until it is so. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/files.h"
#include "client/wait.h"

static int no_units(void) {
        fputs("No units given\n", stderr);
        return EXIT_DONE;
}

/* Says what was triggered; ordinary units that are to be waited for go into 'waiting'. */
static int note_trigger(Client *c, const char *name, bool global, const char *verb, Names *waiting) {
        if (global)
                printf("Triggered global unit %s %s\n", name, verb);
        else if (c->options.no_block)
                printf("Triggered unit %s %s\n", name, verb);
        else
                return names_add(waiting, name, strlen(name));
        return 0;
}

/* After a wait that failed: fleet's line about the wait, and the verb's own. On a terminal one is enough. */
static int fail_wait(int r, const Error *err) {
        if (r != -ETIMEDOUT && r != -ENOEXEC)
                return client_fail(r, err, "Error waiting for units: ");
        if (stdout_is_terminal()) {
                fprintf(stderr, "fleetctl: %s\n", error_text(err, r));
                return EXIT_FAILED;
        }
        fprintf(stderr, "Error waiting for units: %s\n", error_text(err, r));
        fprintf(stderr, "%s%s\n",
                r == -ENOEXEC ? "Error waiting for systemd unit states, err: " : "Error waiting for unit states, exit status: ",
                error_text(err, r));
        return EXIT_FAILED;
}

/* Since when the unit is in the state that is reported before it is started, which may be left from another time; 0: none
 * is. */
static int state_before(Client *c, const char *name, uint64_t *ret_ms, Error *err) {
        _cleanup_listing_ Listing states = {};
        int r;

        r = client_states(c, name, &states, err);
        if (r < 0)
                return r;
        *ret_ms = 0;
        for (size_t i = 0; i < states.n; i++)
                *ret_ms = MAX(*ret_ms, states.states[i].since_ms);
        return 0;
}

/* load and start: what is not wanted yet in that state is wanted so from now on. */
static int raise_units(Client *c, char **args, size_t n, TargetState target, const char *verb) {
        const char *what = target == TARGET_LAUNCHED ? "Error starting units: " : "Error loading units: ";
        _cleanup_names_ Names names = {}, waiting = {};
        _cleanup_free_ uint64_t *before_ms = NULL;
        _cleanup_free_ ApiUnit *changes = NULL;
        size_t n_changes = 0;
        Error err = {};
        int r;

        if (n == 0)
                return no_units();
        r = files_submit(c, args, n, target, &names);
        if (r != EXIT_DONE)
                return r;
        before_ms = NEW0(uint64_t, names.n + 1);
        changes = NEW0(ApiUnit, names.n + 1);
        if (!before_ms || !changes)
                return client_fail(-ENOMEM, NULL, "%s", "");

        for (size_t i = 0; i < names.n; i++) {
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;

                r = client_unit(c, names.items[i], &unit, &err);
                if (r == 0)
                        r = error_set(&err, -ENOENT, "unable to find unit %s", names.items[i]);
                else if (r == -EREMOTEIO)
                        (void) error_prefix(&err, r, "error retrieving unit %s from registry", names.items[i]);
                if (r > 0 && unit.desired_state == target)
                        continue;
                if (r > 0 && target == TARGET_LAUNCHED)
                        r = state_before(c, names.items[i], &before_ms[n_changes], &err);
                if (r < 0)
                        return client_fail(r, &err, "%s", what);
                changes[n_changes] = API_UNIT_EMPTY;
                changes[n_changes].name = names.items[i];
                changes[n_changes].global = unit_is_global(&unit);
                changes[n_changes++].desired_state = target;
        }
        r = client_change(c, changes, n_changes, &err);
        for (size_t i = 0; i < n_changes && r >= 0; i++) {
                size_t n_before = waiting.n;

                r = note_trigger(c, changes[i].name, changes[i].global, verb, &waiting);
                if (waiting.n > n_before)
                        before_ms[n_before] = before_ms[i];
        }
        if (r < 0)
                return client_fail(r, &err, "%s", what);

        r = wait_for(c, &(WaitRequest) { .goal = target == TARGET_LAUNCHED ? WAIT_RUNNING : WAIT_STATE, .target = target,
                                         .names = &waiting, .before_ms = before_ms }, &err);
        return r < 0 ? fail_wait(r, &err) : EXIT_DONE;
}

int verb_load(Client *c, char **args, size_t n) {
        return raise_units(c, args, n, TARGET_LOADED, "load");
}

int verb_start(Client *c, char **args, size_t n) {
        return raise_units(c, args, n, TARGET_LAUNCHED, "start");
}

/* A unit that is in the cluster, as it was found. */
typedef struct Found {
        char *name;
        TargetState current;
        bool global;
} Found;

typedef struct FoundUnits {
        Found *items;
        size_t n;
} FoundUnits;

static void found_done(FoundUnits *found) {
        for (size_t i = 0; found->items && i < found->n; i++)
                free(found->items[i].name);
        free(found->items);
}

/* Those of the arguments that are in the cluster, in order; the others are passed over. An exit status above 0 is said
 * already. */
static int find_units(Client *c, char **args, size_t n, FoundUnits *ret) {
        _cleanup_names_ Names names = {};
        Error err = {};
        int r;

        r = files_names(args, n, &names);
        ret->items = NEW0(Found, n + 1);
        if (r < 0 || !ret->items)
                return client_fail(-ENOMEM, NULL, "%s", "");
        for (size_t i = 0; i < names.n; i++) {
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;

                r = client_unit(c, names.items[i], &unit, &err);
                if (r < 0)
                        return client_fail(r, &err, "%s", "");
                if (r == 0)
                        continue;
                ret->items[ret->n++] = (Found) {
                        .name = TAKE_PTR(names.items[i]), .global = unit_is_global(&unit),
                        .current = unit.current_state == _TARGET_INVALID ? TARGET_INACTIVE : unit.current_state,
                };
        }
        if (ret->n == 0)
                fputs("Units not found in registry\n", stderr);
        return EXIT_DONE;
}

static void append_names(Text *t, const Names *names) {
        text_append_char(t, '[');
        for (size_t i = 0; i < names->n; i++)
                text_printf(t, "%s%s", i > 0 ? " " : "", names->items[i]);
        text_append_char(t, ']');
}

/* stop and unload: what is above 'target' goes down to it. */
static int lower_units(Client *c, char **args, size_t n, TargetState target, const char *verb, const char *done) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_names_ Names changed = {}, waiting = {};
        _cleanup_free_ ApiUnit *changes = NULL;
        _cleanup_text_ Text list = {};
        size_t n_changes = 0;
        Error err = {};
        int r;

        if (n == 0)
                return no_units();
        r = find_units(c, args, n, &found);
        if (r != EXIT_DONE || found.n == 0)
                return r;

        /* All are looked at before the first is touched. */
        for (size_t i = 0; i < found.n && target == TARGET_LOADED; i++)
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE) {
                        fprintf(stderr, "Unable to stop unit %s in state inactive\n", found.items[i].name);
                        return EXIT_FAILED;
                }

        changes = NEW0(ApiUnit, found.n + 1);
        r = changes ? 0 : -ENOMEM;
        for (size_t i = 0; i < found.n && r >= 0; i++) {
                const Found *u = &found.items[i];

                if (!u->global && u->current <= target)
                        continue;
                changes[n_changes] = API_UNIT_EMPTY;
                changes[n_changes].name = u->name;
                changes[n_changes].global = u->global;
                changes[n_changes++].desired_state = target;
                if (!u->global)
                        r = names_add(&changed, u->name, strlen(u->name));
        }
        if (r >= 0)
                r = client_change(c, changes, n_changes, &err);
        for (size_t i = 0; i < n_changes && r >= 0; i++)
                r = note_trigger(c, changes[i].name, changes[i].global, verb, &waiting);
        append_names(&list, &changed);
        if (r >= 0)
                r = wait_for(c, &(WaitRequest) { .goal = WAIT_STOPPED, .target = target, .names = &waiting }, &err);
        if (list.error < 0)
                return client_fail(list.error, NULL, "%s", "");

        if (r < 0) {
                fprintf(stderr, "Failed to %s units %s. err: %s\n", verb, list.chars, error_text(&err, r));
                return EXIT_FAILED;
        }
        fprintf(stderr, "Successfully %s units %s.\n", done, list.chars);
        return EXIT_DONE;
}

int verb_stop(Client *c, char **args, size_t n) {
        return lower_units(c, args, n, TARGET_LOADED, "stop", "stopped");
}

int verb_unload(Client *c, char **args, size_t n) {
        return lower_units(c, args, n, TARGET_INACTIVE, "unload", "unloaded");
}

int verb_destroy(Client *c, char **args, size_t n) {
        _cleanup_(found_done) FoundUnits found = {};
        int r, status = EXIT_DONE;

        if (n == 0)
                return no_units();
        r = find_units(c, args, n, &found);
        if (r != EXIT_DONE)
                return r;

        /* All go at once, then each is waited for: they stop side by side. */
        for (size_t i = 0; i < found.n; i++) {
                Error err = {};

                r = client_destroy(c, found.items[i].name, &err);
                if (r < 0) {
                        status = client_fail(r, &err, "Error destroying units: ");
                        free(TAKE_PTR(found.items[i].name));
                }
        }
        for (size_t i = 0; i < found.n; i++) {
                const Names one = { .items = &found.items[i].name, .n = 1 };
                Error err = {};

                if (!found.items[i].name)
                        continue;
                r = c->options.no_block ? 0 : wait_for(c, &(WaitRequest) { .goal = WAIT_GONE, .names = &one, .quiet = true }, &err);
                if (r < 0) {
                        fprintf(stderr, "Error destroying units: %s\n", error_text(&err, r));
                        status = EXIT_FAILED;
                } else
                        printf("Destroyed %s\n", found.items[i].name);
                (void) fflush(stdout);
        }
        return status;
}

/* Down to loaded, until systemd has stopped it, and up again. */
static int restart_one(Client *c, Found *u, Error *err) {
        const Names one = { .items = &u->name, .n = 1 };
        uint64_t before_ms = 0;
        int r = 0;

        if (u->global || u->current == TARGET_LAUNCHED) {
                r = client_set_state(c, u->name, TARGET_LOADED, err);
                if (r >= 0)
                        r = wait_for(c, &(WaitRequest) { .goal = WAIT_STOPPED, .target = TARGET_LOADED, .names = &one,
                                                         .quiet = true }, err);
        }
        if (r >= 0 && !u->global)
                r = state_before(c, u->name, &before_ms, err);
        if (r >= 0)
                r = client_set_state(c, u->name, TARGET_LAUNCHED, err);
        if (r >= 0 && u->global)
                printf("Triggered global unit %s restart\n", u->name);
        else if (r >= 0)
                r = wait_for(c, &(WaitRequest) { .goal = WAIT_RUNNING, .target = TARGET_LAUNCHED, .names = &one,
                                                 .before_ms = &before_ms }, err);
        return r;
}

int verb_restart(Client *c, char **args, size_t n) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_names_ Names names = {};
        int r;

        if (n == 0)
                return no_units();
        r = files_submit(c, args, n, TARGET_LAUNCHED, &names);
        if (r == EXIT_DONE)
                r = find_units(c, args, n, &found);
        if (r != EXIT_DONE)
                return r;

        for (size_t i = 0; i < found.n; i++) {
                Error err = {};

                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE) {
                        fprintf(stderr, "Unable to restart unit %s in state inactive\n", found.items[i].name);
                        continue;
                }
                r = restart_one(c, &found.items[i], &err);
                if (r == -EREMOTEIO) {
                        fprintf(stderr, "Error setting target state for unit %s: %s\n", found.items[i].name, err.message);
                        return EXIT_FAILED;
                }
                if (r < 0)
                        return fail_wait(r, &err);
        }
        return EXIT_DONE;
}
