/* Why a unit is on its machine, or on none, and what it waits for: in words for people, by the decisions of
 * the plan. Pure. */
#pragma once

#include "fleetd/engine/plan.h"

/* Work of the scheduler (scheduler_view_work()) after which the reasons of one answer end. */
enum { EXPLAIN_WORK_MAX = 2000000 };

/* A unit that is to leave its machine: that is being drained, or by a requested move. */
typedef enum DrainedUnit {
        DRAINED_UNIT_MOVES,  /* another machine has it */
        DRAINED_UNIT_STOPS,  /* it is being stopped */
        DRAINED_UNIT_QUEUED, /* another machine fits, and gets it in its turn */
        DRAINED_UNIT_WAITS,  /* it stays for now, and has a reason */
        _DRAINED_UNIT_MAX,
} DrainedUnit;

ENUM_NAMES(drained_unit, DrainedUnit, _DRAINED_UNIT_MAX)

enum { DRAINED_UNIT_BLOCKED = -EHOSTDOWN, DRAINED_UNIT_BOUND = -EBUSY, DRAINED_UNIT_STAYS = -ENOTEMPTY };

/* *ret_to: its other machine, or NULL; 'ret_why': of DRAINED_UNIT_WAITS, and for what a unit that is active
 * on its other machine waits there. Its code is DRAINED_UNIT_BLOCKED if neither --force nor --deadline ends
 * the wait: the message has the step that does; DRAINED_UNIT_BOUND: Move=no holds it; DRAINED_UNIT_STAYS: its
 * data is there. */
DrainedUnit engine_explain_drain(const SchedulerView *view, const ClusterUnit *unit,
                                 const ClusterMachine *where, const ClusterMachine **ret_to, Error *ret_why);
/* Return the first unit by name of a machine that waits, with its reason, and their number, up to
 * EXPLAIN_WORK_MAX. NULL: none waits. */
const ClusterAssignment *engine_first_waiting(const SchedulerView *view, const ClusterMachine *machine,
                                              size_t *ret_n, Error *ret_why);
/* Add the first units by name, up to 100 and EXPLAIN_WORK_MAX, that stay on a machine that leaves the cluster
 * until people act: no other machine qualifies, or they have Move=no, or their data is there, or their key
 * cannot be read. 0 or -ENOMEM. */
int engine_blocked_units(const SchedulerView *view, const ClusterMachine *machine, Names *ret);

/* The same as engine_explain_drain() of a unit with a requested move. 'braked': the mass-failure brake is on.
 */
DrainedUnit engine_explain_move(const SchedulerView *view, const ClusterUnit *unit, bool braked,
                                Error *ret_why);
/* Return the assignment that a unit with a requested move is to leave; NULL: none is left. */
const ClusterAssignment *engine_move_from(const ClusterUnit *unit);

/* Set the reason why a unit is on its machine, or on none. Return its kind, API_REASON_*, or NULL.
 * 'brake_ms': see engine/brake.c; 'wall_ms': the time of day, for its end. */
const char *engine_explain_unit(const SchedulerView *view, const ClusterUnit *unit, uint64_t brake_ms,
                                uint64_t wall_ms, Error *ret);
