#include "units/state.h"

const char *const target_state_names[_TARGET_MAX] = {
        [TARGET_INACTIVE] = "inactive",
        [TARGET_LOADED] = "loaded",
        [TARGET_LAUNCHED] = "launched",
};

const char *const assignment_kind_names[_ASSIGNMENT_MAX] = {
        [ASSIGNMENT_LOAD] = "load",
        [ASSIGNMENT_RUN] = "run",
        [ASSIGNMENT_STOP] = "stop",
};

const char *const presence_names[_PRESENCE_MAX] = {
        [PRESENCE_UP] = "up",
        [PRESENCE_AWAY] = "away",
        [PRESENCE_LOST] = "lost",
        [PRESENCE_LEFT] = "left",
};

const char *const problem_kind_names[_PROBLEM_MAX] = {
        [PROBLEM_REFUSED] = "refused",   [PROBLEM_TAKEN] = "taken",   [PROBLEM_HELD] = "held",
        [PROBLEM_REVERTED] = "reverted", [PROBLEM_PAUSED] = "paused", [PROBLEM_WARNED] = "warning",
        [PROBLEM_UNOWNED] = "unowned",
};

const char *const unit_health_names[_UNIT_HEALTH_MAX] = {
        [UNIT_HEALTH_NONE] = "",
        [UNIT_HEALTH_STARTING] = "starting",
        [UNIT_HEALTH_PASSING] = "passing",
        [UNIT_HEALTH_FAILING] = "failing",
};

bool presence_is_down(Presence presence) {
        return presence == PRESENCE_LOST || presence == PRESENCE_LEFT;
}

bool active_state_is_up(const char *active) {
        return active &&
               (streq(active, "active") || streq(active, "reloading") || streq(active, "refreshing"));
}

bool active_state_is_down(const char *active) {
        return active && (streq(active, "inactive") || streq(active, "failed"));
}

int unit_state_init(UnitState *ret, const char *load, const char *active, const char *sub, const char *hash,
                    uint64_t since_ms, bool done) {
        _cleanup_unit_state_ UnitState state = {
                .load = strdup(load),
                .active = strdup(active),
                .sub = strdup(sub),
                .hash = hash ? strdup(hash) : NULL,
                .since_ms = since_ms,
                .done = done,
        };

        if (!state.load || !state.active || !state.sub || (hash && !state.hash))
                return -ENOMEM;

        *ret = TAKE_STRUCT(state);
        return 0;
}

/* Bytes that JSON would replace would make each comparison with the stored state fail. */
static int unit_state_set_line(char **line, const char *text) {
        size_t size = 0, left = strcspn(text, "\n"), n;
        char line_text[UNIT_STATE_REASON_SIZE], *copy = NULL;

        while (size < left && (n = utf8_length(text + size, left - size)) > 0 &&
               size < UNIT_STATE_REASON_SIZE)
                size += n;
        if (size > 0) {
                text_format(line_text, sizeof(line_text), "%.*s", (int) size, text);
                copy = strdup(line_text);
                if (!copy)
                        return -ENOMEM;
        }
        free(*line);
        *line = copy;
        return 0;
}

int unit_state_set_reason(UnitState *state, const char *reason) {
        return unit_state_set_line(&state->reason, reason);
}

int unit_state_set_why(UnitState *state, const char *why) {
        return unit_state_set_line(&state->why, why);
}

bool unit_state_restarted(const UnitState *a, const UnitState *b) {
        return a->invocation[0] && b->invocation[0] && !streq(a->invocation, b->invocation);
}

bool unit_state_lasts(const UnitState *a, const UnitState *b) {
        return streq(a->load, b->load) && streq(a->active, b->active) && streq(a->sub, b->sub) &&
               !unit_state_restarted(a, b);
}

bool unit_state_failed_again(const UnitState *a, const UnitState *b) {
        return streq(a->active, "failed") && streq(b->active, "failed") && a->since_ms != b->since_ms;
}

bool unit_state_equal(const UnitState *a, const UnitState *b) {
        return unit_state_lasts(a, b) && !unit_state_failed_again(a, b) &&
               (a->invocation[0] || !b->invocation[0]) && same_string(a->hash, b->hash) &&
               a->done == b->done && streq(a->job, b->job) && same_string(a->reason, b->reason) &&
               a->health == b->health && same_string(a->why, b->why) && a->available == b->available &&
               a->kept == b->kept && a->inputs == b->inputs && a->lapsed == b->lapsed &&
               a->unchecked == b->unchecked;
}
