/* The engine: on the leader, makes orders out of what is wanted and who is there.
 *
 * Dirty, snapshot, plan, execute: changes of the registry mark it dirty, one pass later it plans
 * (engine/plan.h, pure) and writes one transaction; each is valid only in the term it was planned in. It
 * starts when the store is ready as leader and the picture is whole, and stops with leadership. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Engine Engine;

typedef struct EngineOptions {
        uint64_t brake_ms;                                      /* BrakeSec=, 0: 30 s */
        uint64_t away_closed_ms, away_hung_ms, away_stopped_ms; /* 0: 30 s, 60 s, 10 min; see liveness */
} EngineOptions;

int engine_new(Engine **ret, Loop *loop, Registry *registry, const EngineOptions *options);
Engine *engine_free(Engine *engine);
/* What it did since the daemon's start. */
typedef struct EngineCounts {
        uint64_t leader_since_s; /* wall clock; 0: it does not lead */
        uint64_t scheduled, unscheduled, schedule_failures, unschedule_failures; /* orders */
        uint64_t passes, pass_failures;
} EngineCounts;

void engine_counts(const Engine *engine, EngineCounts *ret);
uint64_t engine_brake(const Engine *engine); /* what it is */
void engine_set_brake(Engine *engine,
                      uint64_t brake_ms);  /* as EngineOptions; a brake that holds is looked at again */
void engine_state_changed(Engine *engine); /* the store's on_state */
