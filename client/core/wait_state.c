/* The state of the units of a wait: first in the cluster, then in systemd. */
#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"
#include "client/core/wait_internal.h"

enum {
        WAIT_SILENCE_MS = 10000, /* without any answer: until the wait fails */
        LAG_MS = 3000,           /* a daemon may lag behind the daemon that answered before */
};

static int wait_copy(char **field, const char *value) {
        char *copy = NULL;

        if (value && *value) {
                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*field);
        *field = copy;
        return 0;
}

static void set_word(WaitUnit *u, const char *word) {
        snprintf(u->word, sizeof(u->word), "%s", word);
}

/* Set "active (running)", or "failed" alone if the sub state is the same. */
static void set_state(WaitUnit *u, const char *active, const char *sub) {
        if (!sub || !*sub || streq(sub, active))
                snprintf(u->state, sizeof(u->state), "%.24s", active);
        else
                snprintf(u->state, sizeof(u->state), "%.24s (%.24s)", active, sub);
}

/* A limited wait in a pipe names machines as fleet does. */
static void wait_append_place(Wait *w, const char *machine, bool failed, Text *t) {
        if (isatty(STDOUT_FILENO) || (failed && w->allowed_ms == 0))
                append_machine_name(t, &w->machines, machine);
        else
                append_machine_legend(t, &w->machines, machine, false);
}

static void wait_finish(Wait *w, WaitUnit *u, WaitPhase phase) {
        u->phase = phase;
        w->n_left--;
}

void wait_fail(Wait *w, WaitUnit *u, int code, const char *format, ...) {
        char message[ERROR_MESSAGE_MAX];
        char *next = w->client->next;
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        wait_finish(w, u, PHASE_FAILED);
        u->timed_out = code == -ETIMEDOUT;
        if (w->result < 0)
                return;
        *next = 0;
        if (w->client->options.timeout_ms == 0 || code != -ETIMEDOUT) /* that message has its command */
                snprintf(next, sizeof(w->client->next), "fleetctl %s %s",
                         code == -ENOEXEC && !u->refused && !streq(u->state, "not reported") ? "journal" :
                                                                                               "why",
                         u->name);
        /* A limited wait in a pipe has the messages of fleet first: wait_print_error(). */
        if (*next && (isatty(STDOUT_FILENO) || (w->allowed_ms == 0 && code == -ENOEXEC))) {
                w->result = error_set(w->err, code, "%s; %s", message, next);
                *next = 0;
        } else
                w->result = error_set(w->err, code, "%s", message);
}

void wait_fail_active(Wait *w, WaitUnit *u, const char *middle) {
        _cleanup_text_ Text place = {};

        if (u->machine)
                wait_append_place(w, u->machine, true, &place);
        else
                text_append(&place, u->global ? "some of its machines" : "no machine");
        wait_fail(w, u, -ENOEXEC, "Failed to find an active unit %s%s it is %s on %s%s%s", u->name, middle,
                  u->state, place.chars ?: "", u->cause ? ": " : "", u->cause ?: "");
}

static void wait_print_arrival(Wait *w, const WaitUnit *u) {
        _cleanup_text_ Text t = {};

        if (w->request->quiet || w->request->progress)
                return;
        text_printf(&t, "Unit %s %s", u->name, target_state_to_string(w->request->target));
        if (u->global && w->request->target > TARGET_INACTIVE)
                text_printf(&t, " on %zu of %zu machines", u->n_reached, u->n_expected);
        else if (u->machine && listing_machine(&w->machines, u->machine)) {
                text_append(&t, " on ");
                wait_append_place(w, u->machine, false, &t);
        }
        if (t.error >= 0)
                puts(t.chars);
        else if (w->result >= 0)
                w->result = t.error;
        (void) fflush(stdout);
}

static bool is_active(const ApiState *s) {
        return s && active_state_is_up(s->active);
}

/* Return whether the state may be that of the previous run: it is reported until the machine has started the
 * unit again. A run that ends the same way within one report has the same state, so it counts after STALE_MS.
 * While a text is awaited, the state of another one is that of the previous run. */
static bool is_stale(const Wait *w, const WaitUnit *u, const ApiState *s) {
        if (w->request->hash && s->hash && !streq(s->hash, w->request->hash))
                return true;
        return u->before_ms > 0 && s->since_ms <= u->before_ms &&
               clock_monotonic_ms() - u->launched_ms < STALE_MS;
}

static void wait_take_cause(Wait *w, WaitUnit *u, const ApiState *s) {
        u->refused = s && (s->job || state_is_unprovided(s));
        if (wait_copy(&u->cause, s ? s->reason : NULL) < 0 && w->result >= 0)
                w->result = -ENOMEM;
}

uint64_t wait_stable_ms(const WaitUnit *u) {
        return u->active_ms + (u->restarted ? AGAIN_MS : STABLE_MS);
}

static bool is_stable(WaitUnit *u) {
        if (u->active_ms == 0)
                u->active_ms = clock_monotonic_ms();
        return clock_monotonic_ms() >= wait_stable_ms(u);
}

/* Return whether systemd restarts the unit again and again: the wait for it is over. That it ended
 * successfully each time is a start, too. */
static bool wait_check_restarts(Wait *w, WaitUnit *u, const ApiState *s) {
        uint64_t now_ms = clock_monotonic_ms();

        if (!state_is_between_runs(s)) {
                u->restarted = u->restarting_ms > 0;
                return false;
        }
        if (u->restarting_ms == 0)
                u->restarting_ms = now_ms;
        if (now_ms - u->restarting_ms < (u->restarted ? LOOP_MS : PAUSE_MAX_MS))
                return false;
        set_word(u, s->sub);
        if (state_is_restarting(s))
                wait_fail_active(w, u, ": it fails and is restarted,");
        else
                wait_finish(w, u, PHASE_DONE);
        return true;
}

/* Return whether the machine of the unit is away: what it last reported may be over. */
static bool wait_is_away(Wait *w, const WaitUnit *u) {
        for (unsigned i = 0; i < 2; i++) {
                const ApiMachine *m = u->machine ? listing_machine(&w->machines, u->machine) : NULL;

                if (!m || !same_string(m->presence, "away"))
                        return false;
                if (i == 0) { /* it may be back since */
                        listing_done(&w->machines);
                        (void) client_all_machines(w->client, &w->machines, NULL);
                }
        }
        return true;
}

/* The active unit has run for long enough, unless that is the state before the start, of a machine that is
 * away. */
static void wait_check_stable(Wait *w, WaitUnit *u, const ApiState *s) {
        bool later = w->request->hash || (u->before_ms > 0 && s->since_ms > u->before_ms);
        _cleanup_text_ Text place = {};

        if (later || !wait_is_away(w, u)) {
                wait_finish(w, u, PHASE_DONE);
                return;
        }
        set_word(u, "unknown");
        wait_append_place(w, u->machine, true, &place);
        wait_fail(w, u, -EHOSTDOWN, "%s: %s is away, and last reported it %s: whether it runs is not known",
                  u->name, place.chars ?: "", u->state);
}

/* Check the state of a launched unit on its machine. */
static void wait_check_started(Wait *w, WaitUnit *u, const ApiState *s) {
        bool to_its_end = w->request->goal == WAIT_ENDED;

        if (!s || !s->active || is_stale(w, u, s))
                return;
        if (is_active(s)) {
                u->ran = true;
                u->restarted = u->restarting_ms > 0;
                u->idle_ms = 0;
                set_word(u, s->sub ? s->sub : s->active);
                if (is_stable(u) && !to_its_end)
                        wait_check_stable(w, u, s);
                return;
        }
        u->active_ms = 0;
        if (!to_its_end && (w->allowed_ms == 0 || w->client->options.timeout_ms > 0) &&
            wait_check_restarts(w, u, s))
                return;
        if (!streq(s->active, "inactive"))
                u->idle_ms = 0;
        else if (u->idle_ms == 0)
                u->idle_ms = clock_monotonic_ms();
        if (s->finished ||
            (to_its_end && u->ran && u->idle_ms > 0 && clock_monotonic_ms() - u->idle_ms >= STALE_MS)) {
                set_word(u, s->finished ? "finished" : "ended");
                wait_finish(w, u, PHASE_DONE);
        } else if (streq(s->active, "failed")) {
                set_word(u, "failed");
                wait_fail_active(w, u, ":");
        } else if (streq(s->active, "inactive") && state_cannot_load(s->load)) {
                set_word(u, s->load);
                wait_fail_active(w, u, ": systemd cannot load it,");
        } else if (streq(s->active, "inactive") && s->job) {
                char middle[80];

                snprintf(middle, sizeof(middle), ": systemd did not start it (%.24s),", s->job);
                set_word(u, s->job);
                wait_fail_active(w, u, middle);
        } else if (state_is_unprovided(s)) {
                set_word(u, "not started");
                wait_fail_active(w, u, ":");
        } else {
                u->ran = u->ran || !streq(s->active, "inactive");
                set_word(u, streq(s->active, "inactive") ? "starting" : s->active);
        }
}

/* A unit that is unloaded or destroyed has no machine in the cluster: set the only one that reports it, while
 * it is to stop it. */
static void wait_take_machine(Wait *w, WaitUnit *u, const ApiState *only, size_t n_active) {
        bool gone = w->request->goal == WAIT_GONE;

        if (!gone && (w->request->goal != WAIT_STOPPED || u->machine || u->global))
                return;
        if (wait_copy(&u->machine, only && (gone || n_active > 0) ? only->machine_id : NULL) < 0 &&
            w->result >= 0)
                w->result = -ENOMEM;
        if (isatty(STDOUT_FILENO))
                client_load_machine(w->client, &w->machines, u->machine, true);
}

/* Check the states of a unit on its machine, or for WAIT_GONE on any machine. */
static void wait_check_states(Wait *w, WaitUnit *u, const Listing *states) {
        const ApiState *state = NULL, *s;
        size_t n_reached = 0, n_active = 0, at = 0;

        while ((s = listing_next_state(states, u->name, &at))) {
                n_reached++;
                if (!u->machine || (s->machine_id && streq(s->machine_id, u->machine)) ||
                    w->request->goal == WAIT_GONE)
                        state = s;
                n_active += s->active && !streq(s->active, "inactive") && !streq(s->active, "failed");
        }
        u->n_expected = MAX(u->n_expected, n_reached);
        u->n_reached = u->n_expected - (w->request->target == TARGET_LOADED && w->request->goal != WAIT_GONE ?
                                                n_active :
                                                n_reached);
        wait_take_machine(w, u, n_reached == 1 ? state : NULL, n_active);
        wait_take_cause(w, u, state && !is_stale(w, u, state) ? state : NULL);
        if (state && state->active)
                set_state(u, state->active, state->sub);
        else
                snprintf(u->state, sizeof(u->state), "not reported");

        switch (w->request->goal) {
        case WAIT_GONE:
                set_word(u, state ? "stopping" : "destroyed");
                if (!state)
                        wait_finish(w, u, PHASE_DONE);
                return;
        case WAIT_STOPPED:
                /* A global unit is unloaded when systemd no longer reports it. */
                if (n_active > 0 || (u->global && w->request->target == TARGET_INACTIVE && n_reached > 0)) {
                        set_word(u, "stopping");
                        return;
                }
                set_word(u, w->request->target == TARGET_LOADED ? "stopped" :
                                                                  target_state_to_string(w->request->target));
                wait_print_arrival(w, u);
                wait_finish(w, u, PHASE_DONE);
                return;
        default:
                wait_check_started(w, u, state);
        }
}

/* -- Global units -- */

static const ApiState *state_on(const Listing *states, const char *unit, const char *machine) {
        const ApiState *s;
        size_t at = 0;

        while ((s = listing_next_state(states, unit, &at)))
                if (same_string(s->machine_id, machine))
                        return s;
        return NULL;
}

/* The machines of a global unit: that it fits, that have reached the state, where it has ended. */
typedef struct GlobalCount {
        size_t n_expected, n_reached, n_ended;
        bool failed; /* on one of them */
} GlobalCount;

static void count_machine(Wait *w, WaitUnit *u, const ApiState *s, GlobalCount *count) {
        if (!s || !s->active || (w->request->target == TARGET_LAUNCHED && is_stale(w, u, s)))
                return;
        if (w->request->target == TARGET_LOADED) {
                count->n_reached += s->load && streq(s->load, "loaded") && streq(s->active, "inactive");
                return;
        }
        if (streq(s->active, "failed") || (streq(s->active, "inactive") && state_cannot_load(s->load))) {
                set_state(u, s->active, state_cannot_load(s->load) ? s->load : s->sub);
                wait_take_cause(w, u, s);
                count->failed = true;
                count->n_ended++;
                return;
        }
        count->n_reached += is_active(s) || s->finished;
        count->n_ended += s->finished;
}

/* Return the state of a global unit that has reached its goal on all machines. */
static const char *global_word(const Wait *w, const WaitUnit *u) {
        if (u->n_expected == 0)
                return "nowhere";
        if (w->request->target == TARGET_LOADED)
                return "loaded";
        return w->request->goal == WAIT_ENDED ? "finished" : "running";
}

/* Check a global unit that is loaded or started: it has to reach the state on all machines that it fits. */
static int wait_check_global(Wait *w, WaitUnit *u, const Listing *states, Error *err) {
        bool to_its_end = w->request->goal == WAIT_ENDED, pending;
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};
        const JsonValue *machines;
        GlobalCount count = {};
        size_t n_decided;

        TRY(client_get_json(w->client, client_path_of(&path, "/fleet/v1/why/", u->name, ""), &root, err));
        machines = json_value_member(root, "machines");
        JSON_EACH(m, machines) {
                if (!member_bool(m, "fits"))
                        continue;
                count.n_expected++;
                count_machine(w, u, state_on(states, u->name, member_text(m, "id")), &count);
        }
        u->n_reached = count.n_reached;
        u->n_expected = count.n_expected;

        n_decided = to_its_end ? count.n_ended : count.n_reached;
        if (!to_its_end && count.failed)
                n_decided += count.n_ended;
        pending = n_decided < count.n_expected;
        if (count.failed)
                set_word(u, "failed");
        else if (pending)
                set_word(u, to_its_end && count.n_reached == count.n_expected ? "running" : "starting");
        if (pending) {
                u->active_ms = 0;
                return 0;
        }
        if (count.failed) {
                wait_fail_active(w, u, ":");
                return 0;
        }
        if (!to_its_end && w->request->target == TARGET_LAUNCHED && !is_stable(u))
                return 0;
        set_word(u, global_word(w, u));
        wait_print_arrival(w, u);
        wait_finish(w, u, PHASE_DONE);
        return 0;
}

/* -- The state in the cluster -- */

/* Return whether another client has changed the target state: the wait for the unit is over. It may have done
 * so before the first read; only for LAG_MS, another target state may be the one before this command. */
static bool wait_is_overruled(Wait *w, WaitUnit *u, TargetState desired) {
        if (desired == w->request->target) {
                u->target_seen = true;
                return false;
        }
        if (!u->target_seen && clock_monotonic_ms() - w->started_ms < LAG_MS)
                return false;
        if (w->request->goal == WAIT_ENDED) { /* stopped by another client: also an end */
                set_word(u, "stopped");
                wait_finish(w, u, PHASE_DONE);
                return true;
        }
        set_word(u, "overruled");
        wait_fail(w, u, -ECANCELED, "%s: another client has changed the target state to %s", u->name,
                  target_state_to_string(desired) ?: "an unknown state");
        return true;
}

/* Return whether the unit has another text than the awaited one: not yet, on a daemon that lags, or no
 * longer.
 */
static bool wait_lacks_text(Wait *w, WaitUnit *u, const ApiUnit *unit) {
        if (!w->request->hash || same_string(unit->hash, w->request->hash)) {
                u->text_seen = true;
                return false;
        }
        if (u->text_seen || clock_monotonic_ms() - w->started_ms >= LAG_MS)
                wait_fail(w, u, -ECANCELED, "%s: another client has changed its text", u->name);
        return true;
}

static void wait_check_destroyed(Wait *w, WaitUnit *u) {
        /* A lagging daemon does not have a unit that was submitted just before. Units of all other goals did
         * exist, but for LAG_MS the daemon may lag, too. */
        if (!u->target_seen) {
                uint64_t now_ms = clock_monotonic_ms();

                if (u->missing_ms == 0)
                        u->missing_ms = now_ms;
                if (w->request->goal == WAIT_STATE || now_ms - u->missing_ms < LAG_MS)
                        return;
        }
        set_word(u, "destroyed");
        if (w->request->goal == WAIT_ENDED || w->request->goal == WAIT_STOPPED) {
                wait_finish(w, u, PHASE_DONE);
                return;
        }
        wait_fail(w, u, -ECANCELED, "%s: another client has destroyed the unit", u->name);
}

/* Check the state of a unit in the cluster, then on its machine. The unit may lose its machine while it
 * starts: then both checks start again for the next machine. */
static int wait_check_unit(Wait *w, WaitUnit *u, const ApiUnit *unit, const Listing *states, Error *err) {
        bool moved = unit->machine_id && (!u->machine || !streq(u->machine, unit->machine_id));
        TargetState state = unit->current_state;

        u->global = unit->global;
        u->waits = reason_is_of_wait(unit->reason_kind);
        if (u->global)
                state = unit->desired_state;
        client_load_machine(w->client, &w->machines, unit->machine_id, false);
        if (isatty(STDOUT_FILENO)) /* the machine may be lost or shut down: its name, too */
                client_load_machine(w->client, &w->machines, unit->machine_id, true);
        if (wait_copy(&u->machine, unit->machine_id) < 0 || wait_copy(&u->reason, unit->reason) < 0)
                return -ENOMEM;
        if (wait_is_overruled(w, u, unit->desired_state) || wait_lacks_text(w, u, unit))
                return 0;
        if (state == _TARGET_INVALID)
                state = TARGET_INACTIVE;
        if (state != w->request->target) {
                if (unit->machine_id && *unit->machine_id)
                        set_word(u, target_state_to_string(state));
                else
                        set_word(u, w->request->target == TARGET_INACTIVE ? "stopping" : "waiting");
                u->phase = PHASE_STATE;
                return 0;
        }

        if (u->phase != PHASE_SYSTEMD || moved) {
                set_word(u, target_state_to_string(state));
                if (w->request->goal != WAIT_STOPPED && (!u->global || state == TARGET_INACTIVE))
                        wait_print_arrival(w, u);
                if (w->request->goal == WAIT_STATE && (!u->global || state == TARGET_INACTIVE)) {
                        wait_finish(w, u, PHASE_DONE);
                        return 0;
                }
                u->phase = PHASE_SYSTEMD;
                u->active_ms = u->idle_ms = u->restarting_ms = 0;
                u->ran = u->restarted = false;
                u->launched_ms = clock_monotonic_ms();
                if (w->client->options.timeout_ms == 0) /* that one limits the whole wait */
                        u->deadline_ms = w->allowed_ms > 0 && w->request->goal != WAIT_ENDED ?
                                                 u->launched_ms + w->allowed_ms :
                                                 0;
        }
        if (u->global && w->request->goal != WAIT_STOPPED)
                return wait_check_global(w, u, states, err);
        wait_check_states(w, u, states);
        return 0;
}

/* -- Reading -- */

/* Ignore temporary failures: an error answer during an election, and a missing answer for SILENCE_MS while a
 * daemon restarts. */
static int wait_tolerate(Wait *w, int r, const Error *err) {
        uint64_t now_ms = clock_monotonic_ms();

        if (r >= 0 || (r == -EREMOTEIO && !client_is_final(w->client, r))) {
                w->answered_ms = now_ms;
                return 0;
        }
        if (connection_is_lost(r) && now_ms - w->answered_ms < WAIT_SILENCE_MS)
                return 0;
        *w->err = *err;
        return r;
}

/* 'unit' NULL: the cluster does not have it. */
static int wait_check(Wait *w, WaitUnit *u, const ApiUnit *unit, const Listing *states, Error *err) {
        if (w->request->goal != WAIT_GONE && unit)
                return wait_check_unit(w, u, unit, states, err);
        if (w->request->goal == WAIT_GONE)
                wait_check_states(w, u, states);
        else
                wait_check_destroyed(w, u);
        return 0;
}

static int wait_read_unit(Wait *w, WaitUnit *u, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};
        bool gone = w->request->goal == WAIT_GONE, exists = false;
        int r;

        if (!gone) {
                r = TRY(client_unit(w->client, u->name, &unit, err));
                exists = r > 0;
        }
        /* A submitted unit without a machine has no states. */
        if (gone || (exists && (w->request->goal != WAIT_STATE || w->request->target != TARGET_INACTIVE)))
                TRY(client_states(w->client, u->name, &states, err));
        return wait_check(w, u, exists ? &unit : NULL, &states, err);
}

/* Read the lists that the goal needs, and check all pending units. */
static int wait_refresh_listed(Wait *w, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};
        int r = 0;

        if (w->request->goal != WAIT_GONE)
                r = client_units(w->client, &units, err);
        if (r < 0)
                return wait_tolerate(w, r, err);
        r = client_states(w->client, NULL, &states, err);
        if (r < 0)
                return wait_tolerate(w, r, err);
        for (size_t i = 0; i < w->n; i++) {
                WaitUnit *u = &w->units[i];
                Error of_unit = {};

                if (u->phase >= PHASE_DONE)
                        continue;
                r = wait_check(w, u, listing_unit(&units, u->name), &states, &of_unit);
                TRY(wait_tolerate(w, r, &of_unit));
        }
        return 0;
}

int wait_refresh_all(Wait *w) {
        Error err = {};

        if (w->n_left > UNITS_MANY)
                return wait_refresh_listed(w, &err);
        for (size_t i = 0; i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE) {
                        Error of_unit = {};
                        int r = wait_read_unit(w, &w->units[i], &of_unit);

                        TRY(wait_tolerate(w, r, &of_unit));
                }
        return 0;
}
