#include "client/core/state_text.h"

#include "client/core/machines.h"
#include "client/core/times.h"
#include "units/verdict_former.h"

bool state_is_stopped_for(const ApiState *s, Text *ret) {
        bool stopped = api_state_code(s) == VERDICT_STOPPED_FOR;

        if (ret && stopped)
                verdict_read_former_stopper(s->reason ?: "", ret);
        return stopped;
}

bool state_is_unprovided(const ApiState *s) {
        return state_code_is_of_inputs(api_state_code(s));
}

bool reason_is_of_wait(const char *kind) {
        return same_string(kind, API_REASON_WAITING) || same_string(kind, API_REASON_HELD) ||
               same_string(kind, API_REASON_INPUTS);
}

const char *reason_after_waiting(const char *reason) {
        static const char waiting[] = "waiting: ";

        if (!reason)
                return "";
        return starts_with(reason, waiting) ? reason + strlen(waiting) : reason;
}

bool unit_has_finished(const ApiUnit *unit) {
        return same_string(unit->reason_kind, API_REASON_FINISHED);
}

static const char *state_or(const char *s, const char *otherwise) {
        return s && *s ? s : otherwise;
}

bool state_cannot_load(const char *load) {
        static const char *const permanent[] = { "bad-setting", "error", "masked" };

        return load && IS_AMONG(load, permanent);
}

bool state_is_between_runs(const ApiState *s) {
        return s->sub && starts_with(s->sub, "auto-restart");
}

bool state_is_restarting(const ApiState *s) {
        return state_is_between_runs(s) && s->reason && *s->reason;
}

static bool state_is_conflicting(const ApiState *s) {
        return s->load && streq(s->load, STATE_FOREIGN);
}

ApiState state_reported(const JsonValue *why, const JsonValue *machine) {
        ApiState s = { .name = member_text(why, "name"), .finished = member_bool(machine, "finished") };

        s.since_ms = member_number(machine, "since");
        (void) json_read_string(machine, "systemdActiveState", &s.active, NULL);
        (void) json_read_string(machine, "systemdSubState", &s.sub, NULL);
        (void) json_read_string(machine, "systemdLoadState", &s.load, NULL);
        (void) json_read_string(machine, "job", &s.job, NULL);
        (void) json_read_string(machine, "stateReason", &s.reason, NULL);
        (void) json_read_string(machine, "stateReasonCode", &s.reason_code, NULL);
        (void) json_read_string(machine, "health", &s.health, NULL);
        (void) json_read_string(machine, "why", &s.why, NULL);
        s.available = member_bool(machine, "available");
        return s;
}

const char *state_place(const JsonValue *machine) {
        return *member_text(machine, "label") ? member_text(machine, "label") :
                                                member_name(machine, "hostname");
}

StateKind state_kind(const ApiState *s) {
        const char *active = state_or(s->active, "inactive");

        if (s->finished)
                return STATE_ENDED;
        if (active_state_is_up(active))
                return STATE_RUNS;
        if (streq(active, "failed") || state_is_restarting(s) || state_is_conflicting(s))
                return STATE_TROUBLE;
        if (!streq(active, "inactive"))
                return STATE_CHANGING;
        return state_cannot_load(s->load) || s->job || s->reason ? STATE_TROUBLE : STATE_INACTIVE;
}

bool state_is_unhealthy(const ApiState *s) {
        return state_kind(s) == STATE_RUNS && same_string(s->health, "failing");
}

/* Append the health of a unit that runs. */
static void append_health(Text *t, const ApiState *s) {
        if (state_kind(s) != STATE_RUNS || !s->health)
                return;
        if (state_is_unhealthy(s))
                text_printf(t, ", and unhealthy: %s", state_or(s->why, "a check is failing"));
        else if (streq(s->health, "starting"))
                text_printf(t, ", and not healthy yet%s%s", s->why ? ": " : "", s->why ?: "");
        else if (streq(s->health, "unknown"))
                text_append(t, ", with unknown health");
        else if (streq(s->health, "passing"))
                text_printf(t, ", %s%s%s", s->available ? "and available" : "healthy, and not available yet",
                            s->why ? "; " : "", s->why ?: "");
}

/* Append the last event, without its time. Return true if it happened at the time of the last change. */
static bool append_event(Text *t, const ApiState *s, const char *machine) {
        const char *active = state_or(s->active, "inactive"), *name = s->name ?: "";
        bool failed = streq(active, "failed") || state_is_restarting(s);

        if (s->finished || (failed && !s->job)) {
                text_printf(t, "%s %s on %s", name, failed ? "failed" : "ended successfully", machine);
                return true;
        }
        if (state_is_unprovided(s) && active_state_is_up(active))
                text_printf(t, "%s runs with its former content on %s", name, machine);
        else if (state_is_conflicting(s) || state_is_unprovided(s))
                text_printf(t, "%s is not started on %s", name, machine);
        else if (state_cannot_load(s->load)) /* its start is also refused: that is the consequence */
                text_printf(t, "systemd cannot load %s on %s (%s)", name, machine, s->load);
        else if (s->job && streq(s->job, STATE_JOB_REFUSED))
                text_printf(t, "systemd refused to start %s on %s", name, machine);
        else if (s->job)
                text_printf(t, "systemd did not start %s on %s", name, machine);
        else
                text_printf(t, "%s is %s (%s) on %s", name, active, state_or(s->sub, "dead"), machine);
        return false;
}

void append_state(Text *t, const ApiState *s, const char *machine) {
        const char *reason = s->reason;

        if (!reason && s->job && !streq(s->job, STATE_JOB_REFUSED))
                reason = s->job; /* of an older daemon */
        if (append_event(t, s, machine))
                append_age(t, s->since_ms);
        if (state_is_restarting(s))
                text_append(t, ", and is restarted");
        append_health(t, s);
        if (reason && *reason) {
                size_t size = strlen(reason);

                /* The message of systemd ends with a period, and this one continues. */
                text_printf(t, ": %.*s", (int) (size - (reason[size - 1] == '.')), reason);
        }
        if (state_kind(s) == STATE_TROUBLE || s->finished || s->since_ms == 0)
                return;
        text_append(t, "; last change");
        append_age(t, s->since_ms);
}

NextStep state_next_step(const ApiState *s) {
        StateKind kind = state_kind(s);

        if (kind == STATE_ENDED)
                return NEXT_RESTART;
        if (state_is_unhealthy(s))
                return NEXT_JOURNAL;
        if (kind != STATE_TROUBLE)
                return state_is_unprovided(s) ? NEXT_HOST : NEXT_NONE;
        if (state_is_conflicting(s))
                return NEXT_STATUS;
        if (state_cannot_load(s->load))
                return streq(s->load, "masked") ? NEXT_STATUS : NEXT_JOURNAL; /* with the bad line */
        if (s->job && streq(s->job, STATE_JOB_REFUSED))
                return NEXT_CORRECT;
        if (state_is_stopped_for(s, NULL))
                return NEXT_WHY;
        if (state_is_unprovided(s))
                return NEXT_HOST;
        if (s->job && text_has_word("assert condition", s->job)) /* the journal names it */
                return NEXT_JOURNAL;
        return s->active && streq(s->active, "inactive") ? NEXT_RESTART : NEXT_JOURNAL;
}

/* That restarts a global unit on all machines, so for one machine it is systemctl. */
static void append_start_again(Text *t, const ApiState *s, const char *global_on) {
        if (global_on)
                text_printf(t, "systemctl start %s on %s", s->name ?: "", global_on);
        else
                text_printf(t, "fleetctl restart %s", s->name ?: "");
}

/* The agent repeats a start that systemd refuses: it may lack something on its host only. */
static void append_correction(Text *t, const ApiState *s, const char *global_on) {
        text_append(t, "fleetd tries again at least once a minute; provide what is missing on that host "
                       "(to start it at once: ");
        append_start_again(t, s, global_on);
        text_printf(t, "), or correct the file, then fleetctl start --replace %s", s->name ?: "");
}

void append_next_step(Text *t, const ApiState *s, const char *global_on) {
        static const char *const words[] = {
                [NEXT_JOURNAL] = "fleetctl journal",
                [NEXT_STATUS] = "fleetctl status",
                [NEXT_WHY] = "fleetctl why",
        };
        NextStep step = state_next_step(s);

        if (step == NEXT_RESTART)
                append_start_again(t, s, global_on);
        else if (step == NEXT_CORRECT)
                append_correction(t, s, global_on);
        else if (step == NEXT_HOST)
                text_append(t,
                            "fleetd tries again at least once a minute; on that host: journalctl -u fleetd");
        else if (step != NEXT_NONE)
                text_printf(t, "%s %s", words[step], s->name ?: "");
}

int state_report(const ApiState *s, bool global, const char *file, const Listing *machines) {
        _cleanup_text_ Text t = {}, place = {};
        StateKind kind = state_kind(s);
        NextStep step = state_next_step(s);

        if (kind == STATE_RUNS)
                return EXIT_DONE;
        append_machine_name(&place, machines, s->machine_id ?: "");
        append_state(&t, s, place.chars ?: "");
        if (*file && kind == STATE_TROUBLE && step != NEXT_STATUS && step != NEXT_WHY && step != NEXT_HOST)
                text_printf(&t, "; to start it with the local file: fleetctl start --replace %s", file);
        else if (step == NEXT_STATUS || step == NEXT_CORRECT || step == NEXT_HOST || step == NEXT_WHY ||
                 (step == NEXT_JOURNAL && state_cannot_load(s->load))) {
                text_append(&t, "; ");
                append_next_step(&t, s, global ? place.chars : NULL);
        } else if (kind == STATE_TROUBLE || kind == STATE_ENDED) {
                text_append(&t, "; to start it again: ");
                append_start_again(&t, s, global ? place.chars : NULL);
        } else if (kind == STATE_INACTIVE)
                text_printf(&t, "; see: fleetctl why %s", s->name);
        client_note("%s", t.chars ?: "");
        return kind == STATE_TROUBLE ? EXIT_FAILED : EXIT_DONE;
}

enum { RESTART_MS = 5000 }; /* a machine is away for less than that while its daemon is restarted */

/* 's' NULL: the machine has reported no state of the unit. */
static void report_absence(Client *c, const char *unit, const ApiState *s, const ApiMachine *m,
                           const Listing *machines) {
        _cleanup_text_ Text t = {}, place = {};

        append_machine_name(&place, machines, m->id);
        if (s) {
                append_state(&t, s, place.chars ?: "");
                text_printf(&t, ", as last reported: %s", place.chars ?: "");
        } else
                text_printf(&t, "%s is assigned to %s, which", unit, place.chars ?: "");
        (void) append_absence(&t, c, m);
        if (!s)
                text_printf(&t, ": it %s the unit when it is back",
                            streq(c->verb->name, "load") ? "loads" : "starts");
        client_note("%s; on that host: systemctl start fleetd; see: fleetctl why %s", t.chars ?: "", unit);
}

int state_report_away(Client *c, const char *unit, const char *machine, Listing *machines, Error *err) {
        _cleanup_json_ JsonValue *cluster = NULL;
        _cleanup_listing_ Listing states = {};
        const ApiState *s = NULL;
        const ApiMachine *m;

        m = listing_machine(machines, machine);
        if (!m) {
                listing_done(machines);
                if (client_all_machines(c, machines, NULL) == -ENOMEM)
                        return -ENOMEM;
                m = listing_machine(machines, machine);
        }
        if (!m || !same_string(m->presence, "away"))
                return 0;
        (void) client_get_json(c, "/fleet/v1/cluster", &cluster, NULL);
        if (cluster && machine_age(cluster, m) < RESTART_MS)
                return 0;
        TRY(client_states(c, unit, &states, err));
        for (size_t i = 0; i < states.n; i++)
                if (same_string(states.states[i].machine_id, machine))
                        s = &states.states[i];
        if (s && state_kind(s) == STATE_ENDED)
                return 0;
        report_absence(c, unit, s, m, machines);
        return 1;
}
