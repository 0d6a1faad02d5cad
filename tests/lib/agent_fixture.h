/* The agent between a real registry, whose store is alone, and a simulated systemd in virtual time. A test
 * may have calls to systemd fail or come to nothing, and change what systemd says of a unit. */
#pragma once

#include "fleetd/agent/agent.h"
#include "tests/lib/host.h"
#include "tests/sim/systemd.h"
#include "tests/sim/world.h"

enum {
        WRITE_MS = 2000, /* a write to a slow disk */
        START_MS = 3500, /* the simulated systemd may take three seconds */
};

typedef struct Fixture {
        Host *host;
        World *world;
        WorldLoop *loop;
        SimSystemd *systemd;
        Systemd *bus; /* what the agent has of it */
        Agent *agent;
        unsigned n_others; /* units that nothing happens to */
} Fixture;

extern Fixture *running;
extern unsigned n_starts, n_stops; /* of processes */
extern unsigned n_unrecorded;      /* starts of what was not on disk */
extern unsigned n_slow;            /* starts of slow.service */

/* A host without units, and its agent. */
Fixture *fixture_new(void);
void fixture_free(Fixture *room);
void open_agent(Fixture *room);
/* As a daemon that is stopped; its last write is over. */
void close_agent(Fixture *room);

void run_ms(Fixture *room, uint64_t ms);
/* Virtual time goes on while the store answers in real time; the test fails when 25 s of it have passed. */
#define UNTIL(room, expression)                                                        \
        for (uint64_t until_ms_ = world_now_ms((room)->world) + 25000; !(expression);) \
        fixture_turn(room, until_ms_)
void fixture_turn(Fixture *room, uint64_t until_ms);
/* The store has answered, and the agent has processed that. */
void settle(Fixture *room);
/* Up to the next of the agent's rounds over all: none comes in the ten seconds behind it. */
void await_round(Fixture *room);

void order(Fixture *room, const char *name);
void order_to(Fixture *room, const char *name, const char *text, AssignmentKind kind);
/* It has been ordered to run, and its note is being written since a second. */
void order_slowly(Fixture *room, const char *name);
/* Ordered to run, and published as active. */
void run_unit(Fixture *room, const char *name);
bool says(Fixture *room, const char *unit, const char *active);
const UnitState *state_of(Fixture *room, const char *unit); /* as published; NULL: it is not */
bool has_order(Fixture *room, const char *unit);
bool is_gone(Fixture *room, const char *unit);
/* Whether the notes on disk say of 'unit' that it is to run, and was started; whether they contain 'part'. */
bool is_recorded(Fixture *room, const char *unit);
bool records_say(Fixture *room, const char *part);
/* The first value behind 'field' in the notes on disk becomes 'value'. */
void change_record(Fixture *room, const char *field, const char *value);

/* Messages that contain 'part' are counted; NULL: no more. */
extern unsigned n_said;
void count_messages(const char *part);

/* -- What systemd does otherwise than the simulated one, in SystemdOps that a test changes -- */

extern const SystemdOps *real_ops;
/* The agent of in_a_faulty_fixture() has these, which a test may change: the real ones, and list_pretended().
 * It follows a leader. */
extern SystemdOps bent;
extern SystemdEvents events; /* of that agent */

int faulty_fixture_setup(void **state);
int faulty_fixture_teardown(void **state);
#define in_a_faulty_fixture(f) \
        cmocka_unit_test_setup_teardown(f, faulty_fixture_setup, faulty_fixture_teardown)

/* Calls about one unit: they are written down, and fail, or come to nothing. */
typedef struct Vain {
        const char *unit; /* NULL: none */
        int error;
        bool held; /* without an answer */
        unsigned n;
        uint64_t at_ms[20];
        SystemdDone done; /* of the last one */
        void *userdata;
} Vain;

extern Vain vain;

int start_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata);
int stop_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata);
int link_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int unlink_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int write_in_vain(Systemd *s, const char *name, const char *text, size_t size);
void until_calls(Fixture *room, unsigned n, uint64_t ms);

/* What systemd says of one unit instead of the truth. */
typedef struct Pretence {
        const char *unit, *active; /* 'active' NULL: the truth */
        SystemdEnd end;
        bool held;
        void (*change)(SystemdUnit *seen); /* the rest; NULL: nothing */
        int error;                         /* of each listing */
} Pretence;

extern Pretence pretence;

int list_pretended(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                   void *userdata);
