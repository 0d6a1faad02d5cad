/* Names of states, and the state of a unit that a machine reports. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* The state that people request for a unit; also fleet's word for the current state. */
typedef enum TargetState {
        TARGET_INACTIVE, /* on no machine */
        TARGET_LOADED,   /* loaded by systemd on a machine, not started */
        TARGET_LAUNCHED, /* started */
        _TARGET_MAX,
        _TARGET_INVALID = -EINVAL,
} TargetState;

extern const char *const target_state_names[_TARGET_MAX];
const char *target_state_to_string(TargetState state); /* NULL for an invalid one */
TargetState target_state_from_string(const char *s);   /* _TARGET_INVALID for another name */

/* What an assignment directs a machine to do with a unit. */
typedef enum AssignmentKind {
        ASSIGNMENT_LOAD, /* load it into systemd */
        ASSIGNMENT_RUN,  /* load it, and start it once per assignment */
        ASSIGNMENT_STOP, /* stop and remove it; without an assignment, the agent does nothing */
        _ASSIGNMENT_MAX,
        _ASSIGNMENT_INVALID = -EINVAL,
} AssignmentKind;

extern const char *const assignment_kind_names[_ASSIGNMENT_MAX];
const char *assignment_kind_to_string(AssignmentKind kind);
AssignmentKind assignment_kind_from_string(const char *s);

typedef enum Presence {
        PRESENCE_UP,
        PRESENCE_AWAY, /* its daemon does not answer, its kernel does: its units stay for now */
        PRESENCE_LOST, /* neither answers */
        PRESENCE_LEFT, /* announced that it leaves */
        _PRESENCE_MAX,
        _PRESENCE_INVALID = -EINVAL,
} Presence;

extern const char *const presence_names[_PRESENCE_MAX];
const char *presence_to_string(Presence presence);
Presence presence_from_string(const char *s);

/* Why a file of a unit directory is not the unit of that name. */
typedef enum ProblemKind {
        PROBLEM_REFUSED, /* the file is not a valid unit of the cluster */
        PROBLEM_TAKEN,   /* the name belongs to a unit of another owner, which keeps it unless people decide
                            otherwise */
        PROBLEM_HELD, /* the file vanished under suspicious circumstances; the unit stays unless people decide
                         otherwise */
        _PROBLEM_MAX,
        _PROBLEM_INVALID = -EINVAL,
} ProblemKind;

extern const char *const problem_kind_names[_PROBLEM_MAX];
const char *problem_kind_to_string(ProblemKind kind);
ProblemKind problem_kind_from_string(const char *s);

/* The load state of a conflicting unit, which fleet leaves unchanged. The other states are systemd's,
 * unchanged. */
#define STATE_FOREIGN "foreign"

enum { UNIT_STATE_JOB_SIZE = 16 };

typedef struct UnitState {
        char *load, *active, *sub; /* owned; "loaded", "active", "running" */
        char *hash;                /* 40 hex digits: of the text that runs; NULL: unknown */
        uint64_t since_ms;         /* wall clock of the last change of load, active or sub */
        /* Why its last start failed before the unit began ("dependency", "unsupported", ...); "": it did not.
         */
        char job[UNIT_STATE_JOB_SIZE];
        bool done; /* ended successfully: not to be run again, on any machine */
} UnitState;

void unit_state_done(UnitState *state);
#define _cleanup_unit_state_ _cleanup_(unit_state_done)

int unit_state_init(UnitState *ret, const char *load, const char *active, const char *sub, const char *hash,
                    uint64_t since_ms, bool done); /* copies; 0 or -ENOMEM */
int unit_state_copy(const UnitState *from, UnitState *ret);

/* Whether publishing 'b' after 'a' is unnecessary: they differ in 'since_ms' at most. */
bool unit_state_equal(const UnitState *a, const UnitState *b);
