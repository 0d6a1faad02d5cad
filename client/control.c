/* load, start, stop, unload, destroy, restart: each sets what is wanted, and waits until it is so. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "client/client.h"
#include "client/files.h"
#include "client/suggest.h"
#include "client/wait.h"
#include "client/verbs.h"

static int no_units(void) {
        fputs("No units given\n", stderr);
        return EXIT_DONE;
}

/* fleet waited for no global unit, and scripts know it; people, and who says --wait, are told how far it is.
 */
static bool waits_for(const Client *c, bool global) {
        return !c->options.no_block && (!global || c->options.wait || progress_is_possible());
}

/* Says what was triggered; units that are to be waited for go into 'waiting'. */
static int note_trigger(Client *c, const char *name, bool global, const char *verb, Names *waiting) {
        if (waits_for(c, global))
                return names_add(waiting, name, strlen(name));
        printf("Triggered %sunit %s %s\n", global ? "global " : "", name, verb);
        return 0;
}

/* After a wait that failed: fleet's line about the wait, and the verb's own. On a terminal one is enough, and
 * 'live' lines have said it already when systemd did. Who was interrupted ends as the shell expects it. */
static int fail_wait(int r, const Progress *live, const Error *err) {
        if (r == -EINTR) {
                fprintf(stderr, "fleetctl: %s\n", error_text(err, r));
                (void) fflush(NULL);
                (void) signal(SIGINT, SIG_DFL);
                (void) raise(SIGINT);
                return EXIT_FAILED;
        }
        if (r == -ENOEXEC && live)
                return EXIT_FAILED;
        if (r != -ETIMEDOUT && r != -ENOEXEC)
                return client_fail(r, err, "Error waiting for units: ");
        if (stdout_is_terminal()) {
                fprintf(stderr, "fleetctl: %s\n", error_text(err, r));
                return EXIT_FAILED;
        }
        fprintf(stderr, "Error waiting for units: %s\n", error_text(err, r));
        fprintf(stderr, "%s%s\n",
                r == -ENOEXEC ? "Error waiting for systemd unit states, err: " :
                                "Error waiting for unit states, exit status: ",
                error_text(err, r));
        return EXIT_FAILED;
}

/* -- What is there -- */

enum { MANY = 8 }; /* units from which on one list is asked for instead of many questions */

/* A unit as it was found. */
typedef struct Found {
        char *name;
        bool exists, global;
        TargetState desired, current;
        uint64_t before_ms; /* 'since' of the state that is reported, which may be left from another time; 0:
                               none is */
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

static void note_unit(Found *f, const ApiUnit *unit) {
        f->exists = true;
        f->global = unit->global;
        f->desired = unit->desired_state;
        f->current = unit->current_state == _TARGET_INVALID ? TARGET_INACTIVE : unit->current_state;
}

static void note_states(Found *f, const Listing *states) {
        for (size_t i = 0; i < states->n; i++)
                if (states->states[i].name && streq(states->states[i].name, f->name))
                        f->before_ms = MAX(f->before_ms, states->states[i].since_ms);
}

static int look_up_one(Client *c, Found *f, bool named, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};
        int r;

        r = client_unit(c, f->name, &unit, err);
        if (r == -EREMOTEIO && named)
                return error_prefix(err, r, "error retrieving unit %s from registry", f->name);
        if (r <= 0)
                return r;
        note_unit(f, &unit);
        r = client_states(c, f->name, &states, err);
        if (r >= 0)
                note_states(f, &states);
        return r;
}

static int look_up_all(Client *c, FoundUnits *found, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};
        int r;

        r = client_units(c, &units, err);
        if (r >= 0)
                r = client_states(c, NULL, &states, err);
        for (size_t i = 0; i < found->n && r >= 0; i++) {
                for (size_t k = 0; k < units.n && !found->items[i].exists; k++)
                        if (units.units[k].name && streq(units.units[k].name, found->items[i].name))
                                note_unit(&found->items[i], &units.units[k]);
                note_states(&found->items[i], &states);
        }
        return r;
}

/* All of 'names', in order, whether they exist or not. 'named': errors name the unit, as fleet's do where
 * units are raised. */
static int look_up(Client *c, const Names *names, bool named, FoundUnits *ret, Error *err) {
        int r = 0;

        ret->items = NEW0(Found, names->n + 1);
        if (!ret->items)
                return -ENOMEM;
        for (size_t i = 0; i < names->n; i++) {
                ret->items[i].name = strdup(names->items[i]);
                if (!ret->items[i].name)
                        return -ENOMEM;
                ret->n++;
        }
        if (ret->n > MANY)
                return look_up_all(c, ret, err);
        for (size_t i = 0; i < ret->n && r >= 0; i++)
                r = look_up_one(c, &ret->items[i], named, err);
        return r;
}

/* -- Up -- */

/* load and start: what is not wanted yet in that state is wanted so from now on. */
static int raise_units(Client *c, char **args, size_t n, TargetState target, const char *verb) {
        const char *what = target == TARGET_LAUNCHED ? "Error starting units: " : "Error loading units: ";
        _cleanup_names_ Names names = {}, waiting = {};
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_free_ uint64_t *before_ms = NULL;
        _cleanup_free_ ApiUnit *changes = NULL;
        _cleanup_live_ Progress *live = NULL;
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
        r = before_ms && changes ? look_up(c, &names, true, &found, &err) : -ENOMEM;
        for (size_t i = 0; i < found.n && r >= 0; i++) {
                const Found *f = &found.items[i];

                if (!f->exists)
                        r = error_set(&err, -ENOENT, "unable to find unit %s", f->name);
                if (f->desired == target)
                        continue;
                changes[n_changes] = API_UNIT_EMPTY;
                changes[n_changes].name = f->name;
                changes[n_changes].global = f->global;
                changes[n_changes++].desired_state = target;
        }
        if (r >= 0)
                r = client_change(c, changes, n_changes, &err);
        for (size_t i = 0; i < found.n && r >= 0; i++) {
                const Found *f = &found.items[i];
                bool is_so = f->desired == target;

                if (is_so && !c->options.wait) /* nothing has changed, and nothing is said */
                        continue;
                if (waits_for(c, f->global))
                        before_ms[waiting.n] = is_so || target != TARGET_LAUNCHED ? 0 : f->before_ms;
                r = note_trigger(c, f->name, f->global, verb, &waiting);
        }
        if (r < 0)
                return client_fail(r, &err, "%s", what);

        live = progress_new(&waiting);
        r = wait_for(c,
                     &(WaitRequest) { .goal = c->options.wait           ? WAIT_ENDED :
                                              target == TARGET_LAUNCHED ? WAIT_RUNNING :
                                                                          WAIT_STATE,
                                      .target = target,
                                      .names = &waiting,
                                      .before_ms = before_ms,
                                      .live = live },
                     &err);
        return r < 0 ? fail_wait(r, live, &err) : EXIT_DONE;
}

int verb_load(Client *c, char **args, size_t n) {
        return raise_units(c, args, n, TARGET_LOADED, "load");
}

int verb_start(Client *c, char **args, size_t n) {
        return raise_units(c, args, n, TARGET_LAUNCHED, "start");
}

/* -- Down -- */

/* Those of the arguments that are in the cluster, in order; the others are passed over. An exit status above
 * 0 is said already. */
static int find_units(Client *c, char **args, size_t n, FoundUnits *ret) {
        _cleanup_names_ Names names = {};
        size_t kept = 0;
        Error err = {};
        int r;

        r = files_names(args, n, &names);
        if (r >= 0)
                r = look_up(c, &names, false, ret, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        for (size_t i = 0; i < ret->n; i++) {
                if (ret->items[i].exists)
                        ret->items[kept++] = ret->items[i];
                else
                        free(ret->items[i].name);
        }
        ret->n = kept;
        if (ret->n == 0) {
                fputs("Units not found in registry\n", stderr);
                for (size_t i = 0; i < names.n; i++)
                        suggest_unit(c, names.items[i]);
        }
        return EXIT_DONE;
}

static void append_names(Text *t, const Names *names) {
        text_append_char(t, '[');
        for (size_t i = 0; i < names->n; i++)
                text_printf(t, "%s%s", i > 0 ? " " : "", names->items[i]);
        text_append_char(t, ']');
}

/* fleet's words; and for people what to do about a unit that waits for a machine. */
static int refuse_to_stop(const Found *f) {
        fprintf(stderr, "Unable to stop unit %s in state inactive\n", f->name);
        if (f->desired > TARGET_INACTIVE)
                fprintf(stderr,
                        "fleetctl: %s is wanted and waits for a machine: fleetctl unload %s takes that "
                        "back\n",
                        f->name, f->name);
        return EXIT_FAILED;
}

/* stop and unload: what is above 'target' goes down to it. */
static int lower_units(Client *c, char **args, size_t n, TargetState target, const char *verb,
                       const char *done) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_names_ Names changed = {}, waiting = {};
        _cleanup_free_ ApiUnit *changes = NULL;
        _cleanup_live_ Progress *live = NULL;
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
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE)
                        return refuse_to_stop(&found.items[i]);

        changes = NEW0(ApiUnit, found.n + 1);
        r = changes ? 0 : -ENOMEM;
        for (size_t i = 0; i < found.n && r >= 0; i++) {
                const Found *u = &found.items[i];

                /* Of a global unit fleet said so every time. */
                if (u->desired <= target && (u->global ? progress_is_possible() : u->current <= target))
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
        live = progress_new(&waiting);
        if (r >= 0)
                r = wait_for(
                        c,
                        &(WaitRequest) {
                                .goal = WAIT_STOPPED, .target = target, .names = &waiting, .live = live },
                        &err);
        if (list.error < 0)
                return client_fail(list.error, NULL, "%s", "");

        if (r == -EINTR)
                return fail_wait(r, live, &err);
        if (r == -EREMOTEIO && client_talks_to_people())
                return client_fail(r, &err, "%s", "");
        if (r < 0) {
                fprintf(stderr, "Failed to %s units %s. err: %s\n", verb, list.chars, error_text(&err, r));
                return EXIT_FAILED;
        }
        if (!progress_is_possible() || c->options.no_block) /* else it has been seen */
                fprintf(stderr, "Successfully %s units %s.\n", done, list.chars);
        return EXIT_DONE;
}

int verb_stop(Client *c, char **args, size_t n) {
        return lower_units(c, args, n, TARGET_LOADED, "stop", "stopped");
}

int verb_unload(Client *c, char **args, size_t n) {
        return lower_units(c, args, n, TARGET_INACTIVE, "unload", "unloaded");
}

/* In the order in which they were named; fleet's line for each. */
static int wait_gone(Client *c, const Names *names) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < names->n; i++) {
                const Names one = { .items = &names->items[i], .n = 1 };
                Error err = {};
                int r;

                r = c->options.no_block ?
                            0 :
                            wait_for(c, &(WaitRequest) { .goal = WAIT_GONE, .names = &one, .quiet = true },
                                     &err);
                if (r == -EINTR)
                        return fail_wait(r, NULL, &err);
                if (r < 0) {
                        fprintf(stderr, "Error destroying units: %s\n", error_text(&err, r));
                        status = EXIT_FAILED;
                } else
                        printf("Destroyed %s\n", names->items[i]);
                (void) fflush(stdout);
        }
        return status;
}

typedef struct Destroyed {
        Names going;
        int status;
} Destroyed;

static int on_destroyed(void *userdata, const char *name, int r, const Error *err) {
        Destroyed *d = userdata;

        if (r >= 0)
                return names_add(&d->going, name, strlen(name));
        d->status = client_fail(r, err, "Error destroying units: ");
        return 0;
}

static void destroyed_done(Destroyed *d) {
        names_done(&d->going);
}

int verb_destroy(Client *c, char **args, size_t n) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_(destroyed_done) Destroyed destroyed = { .status = EXIT_DONE };
        _cleanup_names_ Names names = {};
        _cleanup_live_ Progress *live = NULL;
        Error err = {};
        int r;

        if (n == 0)
                return no_units();
        r = find_units(c, args, n, &found);
        if (r != EXIT_DONE)
                return r;

        /* All go at once, then each is waited for: they stop side by side. */
        r = 0;
        for (size_t i = 0; i < found.n && r >= 0; i++)
                r = names_add(&names, found.items[i].name, strlen(found.items[i].name));
        if (r >= 0)
                r = client_destroy_all(c, &names, on_destroyed, &destroyed);
        if (r < 0)
                return client_fail(r, NULL, "%s", "");
        live = c->options.no_block ? NULL : progress_new(&destroyed.going);
        if (!live)
                return wait_gone(c, &destroyed.going) ?: destroyed.status;
        r = wait_for(c, &(WaitRequest) { .goal = WAIT_GONE, .names = &destroyed.going, .live = live }, &err);
        return r < 0 ? fail_wait(r, live, &err) : destroyed.status;
}

/* -- Down and up again -- */

enum { START_AGAIN_S = 60, RETRY_MS = 500 };

/* The second half of a restart: the unit is stopped, and must not stay so because the cluster has no leader
 * just now. Try for START_AGAIN_S; a target that another client has changed meanwhile stays. */
static int start_again(Client *c, const Found *f, Error *err) {
        const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000 };
        _cleanup_api_unit_ ApiUnit known = API_UNIT_EMPTY;
        ApiUnit change = API_UNIT_EMPTY;
        struct timespec begun, now;
        int r;

        change.name = f->name;
        change.desired_state = TARGET_LAUNCHED;
        change.expected_state = TARGET_LOADED;
        (void) clock_gettime(CLOCK_MONOTONIC, &begun);
        do {
                *err = (Error) {};
                r = client_change(c, &change, 1, err);
                if (!client_may_retry(r, err))
                        break;
                (void) nanosleep(&pause, NULL);
                (void) clock_gettime(CLOCK_MONOTONIC, &now);
        } while (now.tv_sec - begun.tv_sec < START_AGAIN_S);

        /* An earlier try may have been done without an answer. */
        if (r == -EREMOTEIO && client_unit(c, f->name, &known, NULL) > 0 &&
            known.desired_state == TARGET_LAUNCHED)
                return 0;
        return r;
}

/* Down to loaded, until systemd has stopped it, and up again. */
static int restart_one(Client *c, Found *f, Progress *live, Error *err) {
        const Names one = { .items = &f->name, .n = 1 };
        bool stops = f->global || f->current == TARGET_LAUNCHED;
        _cleanup_listing_ Listing states = {};
        int r;

        if (stops) {
                r = client_set_state(c, f->name, TARGET_LOADED, err);
                if (r < 0)
                        return r;
                r = wait_for(c,
                             &(WaitRequest) { .goal = WAIT_STOPPED,
                                              .target = TARGET_LOADED,
                                              .names = &one,
                                              .quiet = true,
                                              .live = live,
                                              .more = true,
                                              .interrupted = "%s is being stopped, and nobody starts it "
                                                             "again (fleetctl start does)" },
                             err);
                if (r < 0)
                        return r;
        }
        f->before_ms = 0;
        if (client_states(c, f->name, &states, NULL) >= 0)
                note_states(f, &states);
        r = stops ? start_again(c, f, err) : client_set_state(c, f->name, TARGET_LAUNCHED, err);
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
                                         .live = live,
                                         .more = c->options.wait,
                                         .before_ms = &f->before_ms },
                        err);
}

/* With the names of those that were not begun. */
static int fail_restart(int r, const FoundUnits *found, size_t at, const Progress *live, const Error *err) {
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
        return fail_wait(r, live, err);
}

int verb_restart(Client *c, char **args, size_t n) {
        _cleanup_(found_done) FoundUnits found = {};
        _cleanup_names_ Names names = {}, begun = {};
        _cleanup_free_ uint64_t *before_ms = NULL;
        _cleanup_live_ Progress *live = NULL;
        Error err = {};
        int r;

        if (n == 0)
                return no_units();
        r = files_submit(c, args, n, TARGET_LAUNCHED, &names);
        if (r == EXIT_DONE)
                r = find_units(c, args, n, &found);
        if (r != EXIT_DONE)
                return r;

        before_ms = NEW0(uint64_t, found.n + 1);
        r = before_ms ? 0 : -ENOMEM;
        for (size_t i = 0; i < found.n && r >= 0; i++) {
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE)
                        fprintf(stderr, "Unable to restart unit %s in state inactive\n", found.items[i].name);
                else
                        r = names_add(&begun, found.items[i].name, strlen(found.items[i].name));
        }
        if (r < 0)
                return client_fail(r, NULL, "%s", "");
        (void) signal(SIGHUP,
                      SIG_IGN); /* a login that ends between the two halves does not leave a unit stopped */
        live = progress_new(&begun);
        for (size_t i = 0, k = 0; i < found.n; i++) {
                if (!found.items[i].global && found.items[i].current == TARGET_INACTIVE)
                        continue;
                r = restart_one(c, &found.items[i], live, &err);
                if (r < 0)
                        return fail_restart(r, &found, i, live, &err);
                before_ms[k++] = found.items[i].before_ms;
        }
        if (!c->options.wait)
                return EXIT_DONE;
        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_ENDED,
                                      .target = TARGET_LAUNCHED,
                                      .names = &begun,
                                      .quiet = true,
                                      .live = live,
                                      .before_ms = before_ms },
                     &err);
        return r < 0 ? fail_wait(r, live, &err) : EXIT_DONE;
}
