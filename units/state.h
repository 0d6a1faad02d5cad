/* Names of states, and the state of a unit that a machine reports. */
#pragma once

#include "base/parse.h"
#include "base/sizes.h"
#include "units/verdict.h"

/* The state that people request for a unit; also fleet's word for the current state. */
typedef enum TargetState {
        TARGET_INACTIVE, /* on no machine */
        TARGET_LOADED,   /* loaded by systemd on a machine, not started */
        TARGET_LAUNCHED, /* started */
        _TARGET_MAX,
        _TARGET_INVALID = -EINVAL,
} TargetState;

ENUM_NAMES(target_state, TargetState, _TARGET_MAX)

/* What an assignment directs a machine to do with a unit. */
typedef enum AssignmentKind {
        ASSIGNMENT_LOAD, /* load it into systemd */
        ASSIGNMENT_RUN,  /* load it, and start it once per assignment */
        ASSIGNMENT_STOP, /* stop and remove it; without an assignment, the agent does nothing */
        _ASSIGNMENT_MAX,
        _ASSIGNMENT_INVALID = -EINVAL,
} AssignmentKind;

ENUM_NAMES(assignment_kind, AssignmentKind, _ASSIGNMENT_MAX)

typedef enum Presence {
        PRESENCE_UP,
        PRESENCE_AWAY, /* its daemon does not answer, its kernel does: its units stay for now */
        PRESENCE_LOST, /* neither answers */
        PRESENCE_LEFT, /* announced that it leaves */
        _PRESENCE_MAX,
        _PRESENCE_INVALID = -EINVAL,
} Presence;

ENUM_NAMES(presence, Presence, _PRESENCE_MAX)

bool presence_is_down(Presence presence); /* lost, or left */

/* Whether a unit that a machine reports is healthy. Written from KV_LEVEL_UPDATES on. */
typedef enum UnitHealth {
        UNIT_HEALTH_NONE,     /* unknown, of an older daemon, or of a unit that does not run */
        UNIT_HEALTH_STARTING, /* activating, or a check has not passed yet */
        UNIT_HEALTH_PASSING,  /* active, and all checks pass */
        UNIT_HEALTH_FAILING,  /* failed, a check is failing, or systemd restarts it again and again */
        _UNIT_HEALTH_MAX,
        _UNIT_HEALTH_INVALID = -EINVAL,
} UnitHealth;

ENUM_NAMES(unit_health, UnitHealth, _UNIT_HEALTH_MAX) /* "" for UNIT_HEALTH_NONE */

/* Why a file of a unit directory is not the unit of that name. */
typedef enum ProblemKind {
        PROBLEM_REFUSED, /* the file is not a valid unit of the cluster */
        PROBLEM_TAKEN, /* a unit of another owner has the name, and keeps it unless people decide otherwise */
        PROBLEM_HELD,  /* the file vanished in an implausible way; the unit stays unless people decide */
        PROBLEM_REVERTED, /* from KV_LEVEL_UPDATES on: its text failed, and is not submitted again unless
                             people decide otherwise */
        PROBLEM_PAUSED,   /* the rollout of its text failed, and waits for people */
        PROBLEM_WARNED,   /* it is the unit, and has a warning, as of a line without effect */
        PROBLEM_UNOWNED,  /* it has the text of a unit that a user submitted: its removal changes nothing */
        _PROBLEM_MAX,
        _PROBLEM_INVALID = -EINVAL,
} ProblemKind;

ENUM_NAMES(problem_kind, ProblemKind, _PROBLEM_MAX)

/* The load state of a conflicting unit, which fleet leaves unchanged. The other states are systemd's. */
#define STATE_FOREIGN "foreign"

/* Return whether a unit in this ActiveState of systemd is up: "active", "reloading", or "refreshing", a state
 * of newer versions of systemd, in which the mounts of an active unit are updated. NULL is unknown: false.
 *
 * Source: `systemctl is-active`, which counts these three. */
bool active_state_is_up(const char *active);
/* Return whether no process of a unit is left: "inactive" or "failed". NULL is unknown: false. */
bool active_state_is_down(const char *active);

enum {
        UNIT_STATE_JOB_SIZE = 16,
        UNIT_STATE_REASON_SIZE = 256, /* of a published reason; longer ones are cut, and end with "..." */
};

/* The 'job' of a start that systemd refused. */
#define STATE_JOB_REFUSED "refused"

/* Return whether a unit is not started, or runs with its former content, because its host cannot write its
 * secrets and configuration. */
static inline bool state_code_is_of_inputs(VerdictCode code) {
        return code == VERDICT_SECRET_UNSEALED || code == VERDICT_INPUTS_UNWRITTEN;
}

typedef struct UnitState {
        char *load, *active, *sub; /* owned; "loaded", "active", "running" */
        char *hash;                /* 40 hex digits: of the text that runs; NULL: unknown */
        bool available; /* healthy without interruption for UpdateWatchSec=, in this invocation and with
                           'hash' */
        char invocation[INVOCATION_ID_SIZE]; /* of an active unit; "": unknown, or of an older daemon */
        uint64_t since_ms; /* wall clock of the last change of load, active, sub or invocation */
        /* Why its last start failed before the unit began ("refused", "dependency", ...); "": it did not. */
        char job[UNIT_STATE_JOB_SIZE];
        char *reason; /* owned; why the unit failed, was not started, is not loaded, or runs with its former
                         content: one line; NULL: none */
        VerdictCode code; /* VERDICT_STOPPED_BY_HAND to VERDICT_ENDED_ITSELF, or state_code_is_of_inputs(), of
                             the reason; or none */
        bool done;        /* ended successfully: not to be run again, on any machine */
        UnitHealth health;
        char *why;     /* owned; why a unit is failing that systemd reports as active or activating: one
                          line; NULL: none */
        uint64_t kept; /* index of the assignment to stop unless it runs (Assignment.unless_running), although
                          which it runs; 0: none */
        uint64_t inputs; /* number of the content that it had at its start; 0: none */
        bool lapsed;     /* it was available with 'hash', and is not any more, without having been stopped */
        bool unchecked;  /* its host cannot run a check ('why'): 'health' is that of before */
} UnitState;

void unit_state_done(UnitState *state);
#define _cleanup_unit_state_ _cleanup_(unit_state_done)

int unit_state_init(UnitState *ret, const char *load, const char *active, const char *sub, const char *hash,
                    uint64_t since_ms, bool done); /* copies, without a reason; 0 or -ENOMEM */
/* Set the reason to a copy of the first line of 'reason', up to UNIT_STATE_REASON_SIZE or to the first byte
 * that is not UTF-8; "" is none. 0 or -ENOMEM. */
int unit_state_set_reason(UnitState *state, const char *reason);
int unit_state_set_why(UnitState *state, const char *why); /* the same for 'why' */

/* Whether publishing 'b' after 'a' is unnecessary: they differ in 'since_ms' at most, or the invocation is
 * unknown in 'b' only. The time of a failure counts: it is another failure. */
bool unit_state_equal(const UnitState *a, const UnitState *b);
/* Whether a unit in state 'b' may be in it since 'a': load, active and sub state are equal, and so is the
 * invocation, unless it is unknown in one of them. */
bool unit_state_lasts(const UnitState *a, const UnitState *b);
/* Whether an active unit was started again between 'a' and 'b'. */
bool unit_state_restarted(const UnitState *a, const UnitState *b);
/* Whether a failed unit was started between 'a' and 'b', and failed again, as far as its daemon ran. */
bool unit_state_failed_again(const UnitState *a, const UnitState *b);
