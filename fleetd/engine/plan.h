/* What should change in the cluster: pure. A picture in, orders out, each with its reason. Planning twice
 * gives nothing the second time; a full pass equals the incremental one. */
#pragma once

#include "fleetd/registry/registry.h"
#include "fleetd/scheduler/scheduler.h"

typedef struct EnginePlan {
        AssignmentChange *changes;
        size_t n, capacity;
        bool more;         /* full: there is more to plan once this is written, */
        Names rest;        /* of these units */
        size_t work;       /* that it took: scheduler_view_work(), and one for each unit */
        uint64_t freed;    /* which lost hosts the brake has let go; 0: none */
        uint64_t again_ms; /* cluster ms from now after which time alone changes the plan (brake, rest);
                              UINT64_MAX: never */
} EnginePlan;

enum { ENGINE_PLAN_MAX = 10000 }; /* changes; a unit more or less */

void engine_plan_done(EnginePlan *plan);

/* What changes may concern, not yet turned into units. All zero is none. */
typedef struct EngineMark EngineMark;
typedef struct EngineMarks {
        EngineMark *units, *machines; /* tables by name and by id */
        bool all, waiting, lost;      /* each unit; those that wait for a place; those of lost machines */
} EngineMarks;

void engine_marks_done(EngineMarks *marks);
bool engine_marks_any(const EngineMarks *marks);
int engine_marks_add(EngineMarks *marks, const Cluster *cluster,
                     const RegistryChange *change); /* 0 or -ENOMEM: take it for all of them */
/* Call 'add' with the name of each unit that a plan has to look at again, until it returns a negative errno,
 * and clear the marks; 'add' with NULL means all of them. Names may come twice. On failure the marks stay. */
int engine_marks_expand(EngineMarks *marks, const Cluster *cluster,
                        int (*add)(void *userdata, const char *unit), void *userdata);

/* 'units': names to look at (NULL: all), and those of hosts whose turn it is to be replaced, and what the
 * decisions concern. 'brake_ms': for how long nothing moves when many hosts vanish together (rule 20). */
typedef struct EnginePlanLimits {
        bool (*is_held)(void *userdata, const char *unit); /* nothing is planned of these; NULL: of none */
        void *userdata;
        size_t work_max; /* after so much work (scheduler_view_work(), and a unit is one) the rest is left;
                            one unit is planned at least; 0: no limit */
        uint64_t freed;  /* of the plan before: units of hosts that the brake lets go are looked at when it is
                            another */
} EnginePlanLimits;

int engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret);
/* The same without limits. */
int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                EnginePlan *ret);

/* What the engine makes of an active order as things are: the judgement that its plans go by, for `why`. */
typedef enum EngineVerdict {
        ENGINE_STAYS,    /* it is where it is to be; or its machine is away, and nothing moves yet */
        ENGINE_FINISHED, /* ended as it should: it is run nowhere again */
        ENGINE_BRAKED,   /* its machine is lost, with so many others that nothing moves for now */
        ENGINE_GONE,     /* its machine is lost, or has left: another one is to take it over */
        ENGINE_UNFIT,    /* its machine is not for it any more: likewise */
} EngineVerdict;

/* 'why': of ENGINE_UNFIT. 0 or -ENOMEM. */
int engine_judge(const SchedulerView *view, const Cluster *cluster, const ClusterAssignment *order,
                 uint64_t brake_ms, EngineVerdict *ret, Error *ret_why);
