/* The engine without a store. The test simulates the registry, leadership, timers and deferred calls; plans
 * are real. Nothing runs by itself, and time does not advance. With a real store: test-registry. */
#pragma once

#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/plan.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/cluster_view.h"

enum {
        TERM = 5,          /* of the leader */
        CHANGES_MAX = 150, /* in one transaction */
        CALLS_MAX = 16,
        PLANS_MAX = 32,
        TURNS_MAX = 50,
};

/* A timer of the engine. */
typedef struct Clock {
        Timer *timer;
        bool armed;
        uint64_t delay_ms; /* of the last start */
} Clock;

/* A request of the engine to the registry. */
typedef struct Call {
        size_t n; /* changes; 0: the end of the adoption */
        uint64_t term;
        unsigned n_plans; /* before the call */
} Call;

typedef struct Planned {
        size_t n, work;
        char names[64]; /* of the first units, each followed by a space */
        uint64_t brake_ms, work_max, freed;
} Planned;

/* Fields of a change. */
typedef enum Field {
        FIELD_NONE,
        FIELD_MACHINE,
        FIELD_ASSIGNMENT,
        FIELD_UNIT,
        FIELD_PRESENCE,
        _FIELD_MAX
} Field;

typedef struct Fixture {
        ClusterView view;
        ManualLoop loop;
        Engine *engine;
        RegistryObserver *listener;
        Deferred *wake;
        bool woken, ready, current;
        unsigned n_wakes;
        Clock retry, resync, waits;
        bool without_timers; /* timers fail to start */
        KvState state;
        Call calls[CALLS_MAX];
        unsigned n_calls;
        int error;   /* of the next call */
        size_t fits; /* changes that fit into one transaction; 0: all */
        AssignmentChange changes[CHANGES_MAX];
        size_t n_changes;
        RegistryDone done; /* of the call without an answer; NULL: none */
        void *userdata;
        const char *refused; /* the unit whose change the registry rejects; NULL: none */
        Field other;         /* in which the rejected change differs */
        AssignmentChange refusal;
        Planned plans[PLANS_MAX];
        unsigned n_plans;
        int plan_error;      /* of the next plan */
        const char *rest[2]; /* of the next plan, in addition to its own */
        size_t n_rest;
        unsigned fail_after_plan; /* the allocation that fails after the next plan */
        uint64_t freed, again_ms; /* of each plan; again_ms 0: its own */
        unsigned n_warnings, n_logged, n_notices;
        char notice[256];
        unsigned n_notes; /* rows of the history */
        char note[256];   /* the last one */
} Fixture;

extern Fixture fixture;

int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_on_log(void *userdata, int priority, const LogFields *fields, const char *message);

void fixture_engine(void); /* a new engine before its first pass */
void fixture_begin(void);  /* a new engine after its first pass */
void fixture_end(void);    /* free the engine; nothing of it remains */
void fixture_turn(void);   /* run all passes that need neither an answer nor time */
void fixture_fire(Clock *c);
void fixture_report(RegistryChange change); /* report a change, without a pass */
void fixture_changed(
        RegistryChange change); /* the cluster view becomes current, and the engine is notified */
void fixture_answer_at(KvStatus status, uint64_t index);
void fixture_answer(KvStatus status); /* the events of the change follow with fixture_notify() */
void fixture_notify(void);
void fixture_complete(void);
void fixture_reject(void); /* reject the transaction, and wait for the retry */
