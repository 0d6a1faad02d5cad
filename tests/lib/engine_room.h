/* The engine without a store: the registry, leadership, timers and deferred calls are played by the test, the
 * cluster view is a picture, and plans are the real ones. Nothing happens by itself, and time stands still.
 * With a real store: test-registry. */
#pragma once

#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/plan.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/picture.h"

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

typedef struct Room {
        Picture picture;
        ManualLoop loop;
        Engine *engine;
        RegistryListener *listener;
        Deferred *wake;
        bool woken, ready, current;
        unsigned n_wakes;
        Clock again, sweep;
        bool without_timers; /* no memory for them */
        KvState state;
        Call calls[CALLS_MAX];
        unsigned n_calls;
        int error; /* of the next call */
        OrderChange changes[ORDERS_MAX];
        size_t n_changes;
        RegistryDone done; /* of the call that is not answered yet; NULL: none */
        void *userdata;
        const char *refused; /* the unit whose order a transaction is refused for; NULL: none */
        Field other;         /* in which the refused order is another one */
        OrderChange refusal;
        Planned plans[PLANS_MAX];
        unsigned n_plans;
        int plan_error;      /* of the next plan */
        const char *rest[2]; /* of the next plan, besides its own */
        size_t n_rest;
        unsigned fail_after_plan; /* the allocation that fails after the next plan */
        uint64_t freed, again_ms; /* of each plan; again_ms 0: its own */
        unsigned n_warnings, n_told, n_notices;
        char notice[256];
} Room;

extern Room room;

int room_setup(void **state);
int room_teardown(void **state);
void room_on_log(void *userdata, int priority, const LogFields *fields, const char *sentence);

void room_engine(void); /* a new one that has not run yet */
void room_begin(void);  /* with its first pass */
void room_end(void);    /* nothing of the engine is left */
void room_turn(void);   /* all passes that need neither an answer nor time */
void room_fire(Clock *c);
void room_hear(RegistryChange change); /* without a pass */
void room_changed(
        RegistryChange change); /* the cluster view follows the picture, and the engine is told of it */
void room_answer_at(KvStatus status, uint64_t index);
void room_answer(KvStatus status); /* the events of the change come later, by room_tell() */
void room_tell(void);
void room_carry_out(void);
void room_refuse(void); /* and the time until the next try is over */
