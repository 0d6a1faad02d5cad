/* States by name, both ways, and what a machine reports of a unit. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What people want of a unit; by the same words, what became of it. */
typedef enum TargetState {
        TARGET_INACTIVE, /* known; on no machine */
        TARGET_LOADED,   /* on a machine, in systemd, not started */
        TARGET_LAUNCHED, /* started there */
        _TARGET_MAX,
        _TARGET_INVALID = -EINVAL,
} TargetState;

extern const char *const target_state_names[_TARGET_MAX];
const char *target_state_to_string(TargetState state); /* NULL for none of them; so for all below */
TargetState target_state_from_string(const char *s); /* _TARGET_INVALID for no such name; so for all below */

/* What the engine tells one machine about one unit. */
typedef enum AssignmentKind {
        ASSIGNMENT_LOAD, /* have it in systemd */
        ASSIGNMENT_RUN,  /* and start it, once per order */
        ASSIGNMENT_STOP, /* stop and remove it; the absence of an order is none */
        _ASSIGNMENT_MAX,
        _ASSIGNMENT_INVALID = -EINVAL,
} AssignmentKind;

extern const char *const assignment_kind_names[_ASSIGNMENT_MAX];
const char *assignment_kind_to_string(AssignmentKind kind);
AssignmentKind assignment_kind_from_string(const char *s);

typedef enum Presence {
        PRESENCE_UP,
        PRESENCE_AWAY, /* its daemon is silent, its kernel is not: nothing moves yet */
        PRESENCE_LOST, /* all of it is silent */
        PRESENCE_LEFT, /* said so */
        _PRESENCE_MAX,
        _PRESENCE_INVALID = -EINVAL,
} Presence;

extern const char *const presence_names[_PRESENCE_MAX];
const char *presence_to_string(Presence presence);
Presence presence_from_string(const char *s);

/* What stands between a file of a unit directory and its unit. */
typedef enum ProblemKind {
        PROBLEM_REFUSED, /* the file is no unit that the cluster takes */
        PROBLEM_TAKEN,   /* its name is that of another's unit, which keeps it until people say otherwise */
        PROBLEM_HELD,    /* the file is gone in a way that is not believed; the unit stays until people say
                            otherwise */
        _PROBLEM_MAX,
        _PROBLEM_INVALID = -EINVAL,
} ProblemKind;

extern const char *const problem_kind_names[_PROBLEM_MAX];
const char *problem_kind_to_string(ProblemKind kind);
ProblemKind problem_kind_from_string(const char *s);

/* systemd's three states of a unit on one machine, in systemd's words, passed on as they are; and as load
 * state our own word where the host has a unit of that name from elsewhere, which is left alone. */
#define STATE_FOREIGN "foreign"

enum { UNIT_STATE_JOB_SIZE = 16 };

typedef struct UnitState {
        char *load, *active, *sub;     /* owned; "loaded", "active", "running" */
        char *hash;                    /* 40 hex digits: of the text that runs there; NULL if unknown */
        uint64_t since_ms;             /* wall clock of the last change of the three */
        char job[UNIT_STATE_JOB_SIZE]; /* how its last start ended without beginning ("dependency",
                         "unsupported", ...); "": it did not */
        bool done;                     /* ended as it should: not to be run again, here or elsewhere */
} UnitState;

void unit_state_done(UnitState *state);
#define _cleanup_unit_state_ _cleanup_(unit_state_done)

int unit_state_init(UnitState *ret, const char *load, const char *active, const char *sub, const char *hash,
                    uint64_t since_ms, bool done); /* copies; 0 or -ENOMEM */
int unit_state_copy(const UnitState *from, UnitState *ret);

/* Worth publishing again? 'since_ms' alone is not. */
bool unit_state_equal(const UnitState *a, const UnitState *b);
