/* The engine without a store: the registry, leadership, timers and deferred calls are played by the test, the
 * cluster view is a picture, and plans are the real ones. Nothing happens by itself, and time stands still.
 * With a real store: test-registry. */
#pragma once

#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/plan.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/cluster_view.h"

enum {
        TERM = 5,         /* of the leader */
        ORDERS_MAX = 150, /* in one transaction */
        CALLS_MAX = 16,
        PLANS_MAX = 32,
        TURNS_MAX = 50,
};

/* A timer of the engine's. */
typedef struct Clock {
        Timer *timer;
        bool armed;
        uint64_t delay_ms; /* of the last start */
} Clock;

/* A request of the engine to the registry. */
typedef struct Call {
        size_t n; /* orders; 0: that the adoption ends */
        uint64_t term;
        unsigned n_plans; /* that were made before it */
} Call;

typedef struct Planned {
        size_t n, work;
        char names[64]; /* the first of them, each with a space behind it */
        uint64_t brake_ms, work_max, freed;
} Planned;

/* Fields of an order. */
typedef enum Field { FIELD_NONE, FIELD_MACHINE, FIELD_ORDER, FIELD_UNIT, FIELD_PRESENCE, _FIELD_MAX } Field;

typedef struct Fixture {
        ClusterView picture;
        ManualLoop loop;
        Engine *engine;
        RegistryObserver *listener;
        Deferred *wake;
        bool woken, ready, current;
        unsigned n_wakes;
        Clock again, sweep;
        bool without_timers; /* no memory for them */
        KvState state;
        Call calls[CALLS_MAX];
        unsigned n_calls;
        int error; /* of the next call */
        AssignmentChange changes[ORDERS_MAX];
        size_t n_changes;
        RegistryDone done; /* of the call that is not answered yet; NULL: none */
        void *userdata;
        const char *refused; /* the unit whose order a transaction is refused for; NULL: none */
        Field other;         /* in which the refused order is another one */
        AssignmentChange refusal;
        Planned plans[PLANS_MAX];
        unsigned n_plans;
        int plan_error;      /* of the next plan */
        const char *rest[2]; /* of the next plan, besides its own */
        size_t n_rest;
        unsigned fail_after_plan; /* the allocation that fails after the next plan */
        uint64_t freed, again_ms; /* of each plan; again_ms 0: its own */
        unsigned n_warnings, n_told, n_notices;
        char notice[256];
} Fixture;

extern Fixture room;

int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_on_log(void *userdata, int priority, const LogFields *fields, const char *sentence);

void fixture_engine(void); /* a new one that has not run yet */
void fixture_begin(void);  /* with its first pass */
void fixture_end(void);    /* nothing of the engine is left */
void fixture_turn(void);   /* all passes that need neither an answer nor time */
void fixture_fire(Clock *c);
void fixture_hear(RegistryChange change); /* without a pass */
void fixture_changed(
        RegistryChange change); /* the cluster view follows the picture, and the engine is told of it */
void fixture_answer_at(KvStatus status, uint64_t index);
void fixture_answer(KvStatus status); /* the events of the change come later, by fixture_tell() */
void fixture_tell(void);
void fixture_carry_out(void);
void fixture_refuse(void); /* and the time until the next try is over */
