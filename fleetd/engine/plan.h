/* The changes of assignments that the cluster requires. Pure: the cluster view in, changes with their reasons
 * out. A second plan of the result is empty, and incremental plans reach the result of a full one. */
#pragma once

#include "units/named.h"
#include "fleetd/registry/registry.h"
#include "fleetd/scheduler/scheduler.h"

/* A unit that was planned. */
typedef struct EngineWait {
        const ClusterUnit *unit; /* borrowed from the cluster view */
        Verdict *why; /* owned: it has no machine to run on, or to move to; NULL: it does not wait */
} EngineWait;

typedef struct EnginePlan {
        AssignmentChange *changes;
        size_t n, capacity;
        EngineWait *waits; /* of each unit that was planned completely */
        size_t n_waits;
        MoveEnd *ends; /* of requested moves; nothing else of these units is planned */
        size_t n_ends, ends_capacity;
        bool more; /* a limit was reached, and these units are not planned: */
        Names rest;
        size_t work;       /* scheduler_view_work(), and one for each unit */
        uint64_t freed;    /* identifies the lost hosts that the brake has released; 0: none */
        uint64_t again_ms; /* cluster time from now after which time alone changes the plan (brake, flap
                              damping); UINT64_MAX: never */
} EnginePlan;

/* Changes; the changes of one unit may exceed it. */
enum { ENGINE_PLAN_MAX = 10000 };

void engine_plan_done(EnginePlan *plan);

/* The changes of the cluster view since the last plan, by the objects that they may affect. All zero: none.
 */
typedef struct EngineMarks {
        Named *units, *machines; /* tables by name and by ID */
        bool all;                /* all units */
        bool waiting;            /* units that wait for a machine */
        bool lost;               /* units of lost machines */
        bool started; /* units of drained machines, and those with a requested move: one of them may run
                         elsewhere, and the next one may start there */
} EngineMarks;

void engine_marks_done(EngineMarks *marks);
bool engine_marks_any(const EngineMarks *marks);
/* Without memory, all units are marked. */
void engine_marks_add(EngineMarks *marks, const Cluster *cluster, const RegistryChange *change);
/* Call 'add' for each unit that the changes may affect, and clear the marks. NULL stands for all units; a
 * name may occur twice. A negative errno of 'add' is returned, and the marks remain. */
int engine_marks_expand(EngineMarks *marks, const Cluster *cluster,
                        int (*add)(void *userdata, const char *unit), void *userdata);

typedef struct EnginePlanLimits {
        bool (*is_held)(void *userdata, const char *unit); /* the unit is not planned; NULL: all are */
        void *userdata;
        size_t work_max;   /* work after which the plan ends, with one unit at least; 0: no limit */
        bool names_texts;  /* assignments name the text of their unit, and rollouts alone change it */
        uint64_t leads_ms; /* cluster time since which this host leads: no earlier leader has granted a
                              singleton's lease since */
        uint64_t freed; /* of the previous plan: if it differs, the units of the released hosts are planned,
                           too */
} EnginePlanLimits;

/* Plan the units of these names (NULL: all), the units of hosts that the brake has released since the
 * previous plan, and the units that their changes affect. 'brake_ms': see engine/brake.c. 0 or -ENOMEM. */
int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                const EnginePlanLimits *limits, EnginePlan *ret);

/* Return whether the engine may move or stop the unit. A unit that has finished stays assigned. */
bool engine_may_leave(const ClusterAssignment *assignment);

/* Return whether it is up, and no check of it is failing, or has still to pass. */
bool plan_is_healthy(const ClusterAssignment *o);
/* Return whether the unit has finished there, or had on its former machine, and the new one has not reported
 * yet: it needs no other machine to run, and no process of it ends. */
bool plan_stays_finished(const ClusterAssignment *o);
/* Return Assignment.hold_ms of an assignment of the unit that replaces 'o', which may be NULL. */
uint64_t plan_hold_ms(const Cluster *cluster, const Unit *text, const ClusterAssignment *o,
                      AssignmentKind kind);

/* A new lineage begins. The tree may be a week old: its contents about a host mean nothing until that host
 * has reported. */

/* Cluster time after which the engine no longer waits for reports. */
enum { ADOPTION_MS = 5 * 60 * 1000 };

/* Return whether the engine has to wait. *ret_missing is a known host that has not reported its units;
 * *ret_again_ms is the time from now after which the wait ends. */
bool engine_awaits_reports(const Cluster *cluster, const ClusterMachine **ret_missing,
                           uint64_t *ret_again_ms);

/* The mass-failure brake (engine/brake.c) while it holds back all moves from lost hosts. */
typedef struct EngineBrake {
        uint64_t until_ms;      /* cluster time of its end; 0: it is off, or releases host by host */
        size_t n_lost, n_total; /* hosts that were lost within a minute, of all that have not left */
} EngineBrake;

/* 0 or -ENOMEM. */
int engine_brake_state(const Cluster *cluster, uint64_t brake_ms, EngineBrake *ret);
/* Return whether the brake is on; without memory, too: nothing moves as long as that is unknown. */
bool engine_is_braked(const Cluster *cluster, uint64_t brake_ms);

/* Return whether it is healthy for UpdateWatchSec= on a machine that is up, or has finished, or is loaded as
 * assigned. 'published': the cluster is at KV_LEVEL_UPDATES, and machines publish that; otherwise, it is up.
 */
bool move_is_available(const ClusterAssignment *o, bool published);
