/* What is so: the cluster's word about a unit, then systemd's, and what follows from both for who waits. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "client/wait_internal.h"

enum {
        MANY = 8,           /* units from which on one list is asked for instead of many questions */
        SILENCE_MS = 10000, /* without any answer, until it is an error */
        LAG_MS = 1000,      /* so far a daemon may be behind the one that was asked before */
};

static int keep(char **field, const char *value) {
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

static void set_word(Waited *u, const char *word) {
        snprintf(u->word, sizeof(u->word), "%s", word);
}

static void append_place(Wait *w, const char *machine, Text *t) {
        if (stdout_is_terminal())
                append_machine_name(t, &w->machines, machine);
        else
                append_legend(t, &w->machines, machine, false);
}

static void finish(Wait *w, Waited *u, WaitPhase phase) {
        u->phase = phase;
        w->n_left--;
}

void wait_fail(Wait *w, Waited *u, int code, const char *sentence) {
        finish(w, u, PHASE_FAILED);
        if (w->result >= 0)
                w->result = error_set(w->err, code, "%s", sentence);
}

void wait_fail_active(Wait *w, Waited *u, const char *middle) {
        _cleanup_text_ Text t = {}, place = {};

        if (u->machine)
                append_place(w, u->machine, &place);
        text_printf(&t, "Failed to find an active unit %s%s it is %s on %s", u->name, middle, u->state,
                    place.chars ? place.chars :
                    u->global   ? "some of its machines" :
                                  "no machine");
        wait_fail(w, u, -ENOEXEC, t.chars ? t.chars : u->name);
}

static void print_arrival(Wait *w, const Waited *u, const char *state) {
        _cleanup_text_ Text t = {};

        if (w->request->quiet || w->request->live)
                return;
        text_printf(&t, "Unit %s %s", u->name, state);
        if (u->global && w->request->target > TARGET_INACTIVE)
                text_printf(&t, " on %zu of %zu machines", u->n_there, u->n_meant);
        else if (u->machine && listing_machine(&w->machines, u->machine)) {
                text_append(&t, " on ");
                append_place(w, u->machine, &t);
        }
        if (t.error >= 0)
                puts(t.chars);
        else if (w->result >= 0)
                w->result = t.error;
        (void) fflush(stdout);
}

/* The machines are read when one is named that is not known yet. */
static void know_machine(Wait *w, const char *id) {
        Listing machines = {};

        if (!id || !*id || listing_machine(&w->machines, id))
                return;
        if (client_machines(w->client, &machines, NULL) >= 0) {
                listing_done(&w->machines);
                w->machines = machines;
        }
}

/* Load states that nothing but another text will change. */
static bool cannot_load(const char *load) {
        static const char *const hopeless[] = { "bad-setting", "error", "masked" };

        for (size_t i = 0; load && i < ELEMENTS(hopeless); i++)
                if (streq(load, hopeless[i]))
                        return true;
        return false;
}

static bool is_active(const ApiState *s) {
        return s && s->active && (streq(s->active, "active") || streq(s->active, "reloading"));
}

/* How it ended last time is still reported until the machine has begun anew. It may also have ended in the
 * same way again, too fast to be reported as a change; so it is believed after a while. */
static bool is_stale(const Waited *u, const ApiState *s) {
        return u->before_ms > 0 && s->since_ms <= u->before_ms &&
               clock_monotonic_ms() - u->launched_ms < STALE_MS;
}

/* Active, and for long enough. */
static bool has_settled(Waited *u) {
        if (u->active_ms == 0)
                u->active_ms = clock_monotonic_ms();
        return clock_monotonic_ms() - u->active_ms >= SETTLE_MS;
}

/* What has become of a unit that is launched, on its machine. */
static void judge_started(Wait *w, Waited *u, const ApiState *s) {
        bool to_its_end = w->request->goal == WAIT_ENDED;

        if (!s || !s->active || is_stale(u, s))
                return;
        if (is_active(s)) {
                u->ran = true;
                u->idle_ms = 0;
                set_word(u, s->sub ? s->sub : s->active);
                if (has_settled(u) && !to_its_end)
                        finish(w, u, PHASE_DONE);
                return;
        }
        u->active_ms = 0;
        if (!streq(s->active, "inactive"))
                u->idle_ms = 0;
        else if (u->idle_ms == 0)
                u->idle_ms = clock_monotonic_ms();
        if (s->finished ||
            (to_its_end && u->ran && u->idle_ms > 0 && clock_monotonic_ms() - u->idle_ms >= STALE_MS)) {
                set_word(u, s->finished ? "finished" : "ended");
                finish(w, u, PHASE_DONE);
        } else if (streq(s->active, "failed")) {
                set_word(u, "failed");
                wait_fail_active(w, u, ":");
        } else if (streq(s->active, "inactive") && cannot_load(s->load)) {
                set_word(u, s->load);
                wait_fail_active(w, u, ": systemd cannot load it,");
        } else if (streq(s->active, "inactive") && s->job) {
                char middle[80];

                snprintf(middle, sizeof(middle), ": systemd did not start it (%.24s),", s->job);
                set_word(u, s->job);
                wait_fail_active(w, u, middle);
        } else {
                u->ran = u->ran || !streq(s->active, "inactive");
                set_word(u, streq(s->active, "inactive") ? "starting" : s->active);
        }
}

/* The state of a unit on its machine; for WAIT_GONE anywhere. */
static void judge_states(Wait *w, Waited *u, const Listing *states) {
        const ApiState *state = NULL;
        size_t n_there = 0, n_active = 0;

        for (size_t i = 0; i < states->n; i++) {
                const ApiState *s = &states->states[i];

                if (!s->name || !streq(s->name, u->name))
                        continue;
                n_there++;
                if (!u->machine || (s->machine_id && streq(s->machine_id, u->machine)) ||
                    w->request->goal == WAIT_GONE)
                        state = s;
                n_active += s->active && !streq(s->active, "inactive") && !streq(s->active, "failed");
        }
        u->n_meant = MAX(u->n_meant, n_there);
        u->n_there = u->n_meant - (w->request->target == TARGET_LOADED && w->request->goal != WAIT_GONE ?
                                           n_active :
                                           n_there);
        if (state && state->active)
                snprintf(u->state, sizeof(u->state), "%.24s (%.24s)", state->active,
                         state->sub ? state->sub : "");
        else
                snprintf(u->state, sizeof(u->state), "not reported");

        switch (w->request->goal) {
        case WAIT_GONE:
                set_word(u, state ? "stopping" : "destroyed");
                if (!state)
                        finish(w, u, PHASE_DONE);
                return;
        case WAIT_STOPPED:
                /* Of a global unit there is no other word than systemd's for its being unloaded. */
                if (n_active > 0 || (u->global && w->request->target == TARGET_INACTIVE && n_there > 0)) {
                        set_word(u, "stopping");
                        return;
                }
                set_word(u, w->request->target == TARGET_LOADED ? "stopped" :
                                                                  target_state_to_string(w->request->target));
                print_arrival(w, u, target_state_to_string(w->request->target));
                finish(w, u, PHASE_DONE);
                return;
        default:
                judge_started(w, u, state);
        }
}

/* -- Global units: on each machine that they fit -- */

static const ApiState *state_on(const Listing *states, const char *unit, const char *machine) {
        for (size_t i = 0; i < states->n; i++) {
                const ApiState *s = &states->states[i];

                if (s->name && s->machine_id && streq(s->name, unit) && streq(s->machine_id, machine))
                        return s;
        }
        return NULL;
}

static int ask_why(Client *c, const char *name, JsonValue **ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/fleet/v1/why/");
        append_escaped(&path, name, false);
        r = path.error < 0 ? path.error :
                             connection_request(c->connection, "GET", path.chars, NULL, NULL, &reply, err);
        if (r >= 0)
                r = reply_check(&reply, err);
        return r < 0 ? r : json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

/* load, start: it is to be so on all machines that it fits. Those it does not fit are nobody's business. */
static int judge_global(Wait *w, Waited *u, const Listing *states, Error *err) {
        bool failed = false, ended = w->request->goal == WAIT_ENDED;
        size_t n_there = 0, n_over = 0, n_meant = 0;
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *machines;
        int r;

        r = ask_why(w->client, u->name, &root, err);
        if (r < 0)
                return r;
        machines = json_value_member(root, "machines");
        for (size_t i = 0; i < json_value_count(machines); i++) {
                const JsonValue *m = json_value_item(machines, i);
                const ApiState *s = state_on(states, u->name,
                                             json_value_string(json_value_member(m, "id")) ?: "");
                bool fits = false;

                (void) json_read_bool(m, "fits", &fits, NULL);
                n_meant += fits;
                if (!fits || !s || !s->active || (w->request->target == TARGET_LAUNCHED && is_stale(u, s)))
                        continue;
                if (w->request->target == TARGET_LOADED)
                        n_there += s->load && streq(s->load, "loaded") && streq(s->active, "inactive");
                else if (streq(s->active, "failed") ||
                         (streq(s->active, "inactive") && cannot_load(s->load))) {
                        snprintf(u->state, sizeof(u->state), "%.24s (%.24s)", s->active,
                                 cannot_load(s->load) ? s->load :
                                 s->sub               ? s->sub :
                                                        "");
                        failed = true;
                        n_over++;
                } else {
                        n_there += is_active(s) || s->finished;
                        n_over += s->finished;
                }
        }
        u->n_there = n_there;
        u->n_meant = n_meant;
        if (ended ? n_over < n_meant : n_there + (failed ? n_over : 0) < n_meant) {
                set_word(u, failed ? "failed" : ended && n_there == n_meant ? "running" : "starting");
                u->active_ms = 0;
                return 0;
        }
        if (failed) {
                set_word(u, "failed");
                wait_fail_active(w, u, ":");
                return 0;
        }
        if (!ended && w->request->target == TARGET_LAUNCHED && !has_settled(u))
                return 0;
        set_word(u, n_meant == 0                        ? "nowhere" :
                    w->request->target == TARGET_LOADED ? "loaded" :
                    ended                               ? "finished" :
                                                          "running");
        print_arrival(w, u, target_state_to_string(w->request->target));
        finish(w, u, PHASE_DONE);
        return 0;
}

/* -- The cluster's word -- */

/* Somebody else has asked for something else since. True: there is nothing more to wait for. */
static bool is_overruled(Wait *w, Waited *u, TargetState desired) {
        _cleanup_text_ Text t = {};

        if (desired == w->request->target) {
                u->wanted = true;
                return false;
        }
        if (!u->wanted)
                return false;
        if (w->request->goal == WAIT_ENDED) { /* it was stopped, which is an end like others */
                set_word(u, "stopped");
                finish(w, u, PHASE_DONE);
                return true;
        }
        text_printf(&t, "%s is to be %s by now: somebody else has asked for it", u->name,
                    target_state_to_string(desired) ?: "something else");
        set_word(u, "overruled");
        wait_fail(w, u, -ECANCELED, t.chars ? t.chars : u->name);
        return true;
}

static void note_destroyed(Wait *w, Waited *u) {
        _cleanup_text_ Text t = {};

        /* Of what was just submitted the daemon may not know yet. All others were there, but a daemon that is
         * asked may lag. */
        if (!u->wanted) {
                uint64_t now_ms = clock_monotonic_ms();

                if (u->missing_ms == 0)
                        u->missing_ms = now_ms;
                if (w->request->goal == WAIT_STATE || now_ms - u->missing_ms < LAG_MS)
                        return;
        }
        set_word(u, "destroyed");
        if (w->request->goal == WAIT_ENDED || w->request->goal == WAIT_STOPPED) {
                finish(w, u, PHASE_DONE);
                return;
        }
        text_printf(&t, "%s is no more: somebody else has destroyed it", u->name);
        wait_fail(w, u, -ECANCELED, t.chars ? t.chars : u->name);
}

/* What the cluster says of a unit; and once that is as wanted, what its machine says. The unit may lose its
 * machine again while it starts: then all begins anew on another one. */
static int judge_unit(Wait *w, Waited *u, const ApiUnit *unit, const Listing *states, Error *err) {
        bool moved = unit->machine_id && (!u->machine || !streq(u->machine, unit->machine_id));
        TargetState state = unit->current_state;

        u->global = unit->global;
        if (u->global)
                state = unit->desired_state;
        know_machine(w, unit->machine_id);
        if (keep(&u->machine, unit->machine_id) < 0 || keep(&u->reason, unit->reason) < 0)
                return -ENOMEM;
        if (is_overruled(w, u, unit->desired_state))
                return 0;
        if (state == _TARGET_INVALID)
                state = TARGET_INACTIVE;
        if (state != w->request->target) {
                set_word(u, unit->machine_id && *unit->machine_id ? target_state_to_string(state) :
                            w->request->target == TARGET_INACTIVE ? "stopping" :
                                                                    "waiting");
                u->phase = PHASE_STATE;
                return 0;
        }

        if (u->phase != PHASE_SYSTEMD || moved) {
                set_word(u, target_state_to_string(state));
                if (w->request->goal != WAIT_STOPPED && (!u->global || state == TARGET_INACTIVE))
                        print_arrival(w, u, target_state_to_string(state));
                if (w->request->goal == WAIT_STATE && (!u->global || state == TARGET_INACTIVE)) {
                        finish(w, u, PHASE_DONE);
                        return 0;
                }
                u->phase = PHASE_SYSTEMD;
                u->active_ms = u->idle_ms = 0;
                u->ran = false;
                u->launched_ms = clock_monotonic_ms();
                u->deadline_ms = w->allowed_ms > 0 && w->request->goal != WAIT_ENDED ?
                                         u->launched_ms + w->allowed_ms :
                                         0;
        }
        if (u->global && w->request->goal != WAIT_STOPPED)
                return judge_global(w, u, states, err);
        judge_states(w, u, states);
        return 0;
}

/* -- Looking -- */

/* An answer that is an error only means "not yet": a leader is being elected. So does no answer, for a while:
 * a daemon is being restarted. */
static int pass_over(Wait *w, int r, const Error *err) {
        uint64_t now_ms = clock_monotonic_ms();

        if (r >= 0 || r == -EREMOTEIO) {
                w->answered_ms = now_ms;
                return 0;
        }
        if ((r == -ETIMEDOUT || r == -ECONNRESET || r == -ECONNREFUSED) &&
            now_ms - w->answered_ms < SILENCE_MS)
                return 0;
        *w->err = *err;
        return r;
}

int wait_look(Wait *w, Waited *u) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};
        Error err = {};
        bool found = true;
        int r = 0;

        u->dirty = false;
        if (w->request->goal != WAIT_GONE) {
                r = client_unit(w->client, u->name, &unit, &err);
                found = r > 0;
        }
        if (r >= 0 && !found)
                note_destroyed(w, u);
        /* A unit that is only to be submitted has no states. */
        if (r >= 0 && found && !(w->request->goal == WAIT_STATE && w->request->target == TARGET_INACTIVE))
                r = client_states(w->client, u->name, &states, &err);
        if (r >= 0 && found && w->request->goal == WAIT_GONE)
                judge_states(w, u, &states);
        else if (r >= 0 && found)
                r = judge_unit(w, u, &unit, &states, &err);
        return pass_over(w, r, &err);
}

static const ApiUnit *unit_named(const Listing *units, const char *name) {
        for (size_t i = 0; i < units->n; i++)
                if (units->units[i].name && streq(units->units[i].name, name))
                        return &units->units[i];
        return NULL;
}

int wait_look_all(Wait *w) {
        _cleanup_listing_ Listing units = {}, states = {};
        Error err = {};
        int r = 0;

        if (w->n_left <= MANY) {
                for (size_t i = 0; i < w->n && r >= 0; i++)
                        r = w->units[i].phase < PHASE_DONE ? wait_look(w, &w->units[i]) : 0;
                return r;
        }

        if (w->request->goal != WAIT_GONE)
                r = client_units(w->client, &units, &err);
        if (r >= 0)
                r = client_states(w->client, NULL, &states, &err);
        if (r < 0)
                return pass_over(w, r, &err);
        for (size_t i = 0; i < w->n; i++) {
                Waited *u = &w->units[i];
                const ApiUnit *unit = w->request->goal == WAIT_GONE ? NULL : unit_named(&units, u->name);

                u->dirty = false;
                if (u->phase >= PHASE_DONE)
                        continue;
                r = 0;
                if (w->request->goal == WAIT_GONE)
                        judge_states(w, u, &states);
                else if (unit)
                        r = judge_unit(w, u, unit, &states, &err);
                else
                        note_destroyed(w, u);
                r = pass_over(w, r, &err);
                if (r < 0)
                        return r;
        }
        return 0;
}
