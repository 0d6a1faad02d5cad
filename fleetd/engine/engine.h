/* The engine: on the leader, it turns target states and presences into assignments.
 *
 * Changes of the registry mark units dirty. The next pass plans them (engine/plan.h, pure) and writes one
 * transaction, which is valid only in the term of the plan. The engine starts when the store is ready as
 * leader and the cluster view is complete, and stops with the leadership. */
#pragma once

#include "fleetd/host/component.h"

typedef struct Engine Engine;

/* 'host': its loop, its registry, and the components with controllers. 'brake_ms': BrakeSec=, 0: 30 s. */
int engine_new(Engine **ret, const ComponentHost *host, uint64_t brake_ms);
void *engine_free(void *engine);

/* Since the daemon's start. */
typedef struct EngineCounts {
        uint64_t leader_since_s;         /* wall clock; 0: not leading */
        uint64_t scheduled, unscheduled; /* assignments written: to run or load, to stop */
        uint64_t schedule_failures, unschedule_failures;
        uint64_t passes, pass_failures;
        uint64_t moves[_MOVE_REASON_MAX]; /* assignments written that move a unit from another machine */
} EngineCounts;

void engine_counts(const Engine *engine, EngineCounts *ret);
uint64_t engine_brake(const Engine *engine); /* in force */
/* Return whether the mass-failure brake is on; NULL: false. */
bool engine_brakes(const Engine *engine);
/* Change it, also of a brake that is on. */
void engine_set_brake(Engine *engine, uint64_t brake_ms);
void engine_state_changed(void *engine); /* the store's on_state */
/* Let the controllers look again: something has changed that is no change of the registry. NULL allowed. */
void engine_wake_controllers(Engine *engine);
