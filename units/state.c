#include "units/state.h"

#include "base/memory.h"

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
        [PROBLEM_REFUSED] = "refused",
        [PROBLEM_TAKEN] = "taken",
        [PROBLEM_HELD] = "held",
};

static const char *to_string(const char *const *table, size_t n, int value) {
        return value >= 0 && (size_t) value < n ? table[value] : NULL;
}

static int from_string(const char *const *table, size_t n, const char *s) {
        for (size_t i = 0; i < n; i++)
                if (streq(table[i], s))
                        return i;
        return -EINVAL;
}

const char *target_state_to_string(TargetState state) {
        return to_string(target_state_names, _TARGET_MAX, state);
}

TargetState target_state_from_string(const char *s) {
        return from_string(target_state_names, _TARGET_MAX, s);
}

const char *assignment_kind_to_string(AssignmentKind kind) {
        return to_string(assignment_kind_names, _ASSIGNMENT_MAX, kind);
}

AssignmentKind assignment_kind_from_string(const char *s) {
        return from_string(assignment_kind_names, _ASSIGNMENT_MAX, s);
}

const char *presence_to_string(Presence presence) {
        return to_string(presence_names, _PRESENCE_MAX, presence);
}

Presence presence_from_string(const char *s) {
        return from_string(presence_names, _PRESENCE_MAX, s);
}

const char *problem_kind_to_string(ProblemKind kind) {
        return to_string(problem_kind_names, _PROBLEM_MAX, kind);
}

ProblemKind problem_kind_from_string(const char *s) {
        return from_string(problem_kind_names, _PROBLEM_MAX, s);
}

void unit_state_done(UnitState *state) {
        free(state->load);
        free(state->active);
        free(state->sub);
        free(state->hash);
        *state = (UnitState) {};
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

        *ret = state;
        state = (UnitState) {};
        return 0;
}

int unit_state_copy(const UnitState *from, UnitState *ret) {
        int r = unit_state_init(ret, from->load, from->active, from->sub, from->hash, from->since_ms,
                                from->done);

        if (r < 0)
                return r;
        memcpy(ret->job, from->job, sizeof(ret->job));
        return 0;
}

bool unit_state_equal(const UnitState *a, const UnitState *b) {
        return streq(a->load, b->load) && streq(a->active, b->active) && streq(a->sub, b->sub) &&
               streq(a->hash ? a->hash : "", b->hash ? b->hash : "") && a->done == b->done &&
               streq(a->job, b->job);
}
