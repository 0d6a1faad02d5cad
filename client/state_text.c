#include "client/state_text.h"

static const char *state_or(const char *s, const char *otherwise) {
        return s && *s ? s : otherwise;
}

bool state_cannot_load(const char *load) {
        static const char *const permanent[] = { "bad-setting", "error", "masked" };

        for (size_t i = 0; load && i < ELEMENTS(permanent); i++)
                if (streq(load, permanent[i]))
                        return true;
        return false;
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

StateKind state_kind(const ApiState *s) {
        const char *active = state_or(s->active, "inactive");

        if (s->finished)
                return STATE_ENDED;
        if (streq(active, "active") || streq(active, "reloading"))
                return STATE_RUNS;
        if (streq(active, "failed") || state_is_restarting(s) || state_is_conflicting(s))
                return STATE_TROUBLE;
        if (!streq(active, "inactive"))
                return STATE_CHANGING;
        return state_cannot_load(s->load) || s->job || s->reason ? STATE_TROUBLE : STATE_INACTIVE;
}

/* Append the last event, without its time. Return true if it happened at the time of the last change. */
static bool append_event(Text *t, const ApiState *s, const char *machine) {
        const char *active = state_or(s->active, "inactive"), *name = s->name ?: "";
        bool failed = streq(active, "failed") || state_is_restarting(s);

        if (s->finished || (failed && !s->job)) {
                text_printf(t, "%s %s on %s", name, failed ? "failed" : "ended successfully", machine);
                return true;
        }
        if (s->job && streq(s->job, STATE_JOB_REFUSED))
                text_printf(t, "systemd refused to start %s on %s", name, machine);
        else if (state_is_conflicting(s))
                text_printf(t, "%s is not started on %s", name, machine);
        else if (state_cannot_load(s->load))
                text_printf(t, "systemd cannot load %s on %s (%s)", name, machine, s->load);
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

const char *state_next_verb(const ApiState *s) {
        StateKind kind = state_kind(s);

        if (kind == STATE_ENDED)
                return "restart";
        if (kind != STATE_TROUBLE)
                return NULL;
        if (state_is_conflicting(s) || state_cannot_load(s->load))
                return "status";
        return s->active && streq(s->active, "inactive") ? "restart" : "journal";
}
