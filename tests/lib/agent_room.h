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

typedef struct Room {
        Host *host;
        World *world;
        WorldLoop *loop;
        SimSystemd *systemd;
        Systemd *bus; /* what the agent has of it */
        Agent *agent;
        unsigned n_others; /* units that nothing happens to */
} Room;

extern Room *running;
extern unsigned n_starts, n_stops; /* of processes */
extern unsigned n_unnoted;         /* starts of what was not on disk */
extern unsigned n_slow;            /* starts of slow.service */

/* A host without units, and its agent. */
Room *room_new(void);
void room_free(Room *room);
void open_agent(Room *room);
/* As a daemon that is stopped; its last write is over. */
void close_agent(Room *room);

void run_ms(Room *room, uint64_t ms);
/* Virtual time goes on while the store answers in real time; the test fails when 25 s of it have passed. */
#define UNTIL(room, expression)                                                        \
        for (uint64_t until_ms_ = world_now_ms((room)->world) + 25000; !(expression);) \
        room_turn(room, until_ms_)
void room_turn(Room *room, uint64_t until_ms);
/* The store has answered, and the agent has processed that. */
void settle(Room *room);
/* Up to the next of the agent's rounds over all: none comes in the ten seconds behind it. */
void await_round(Room *room);

void order(Room *room, const char *name);
void order_to(Room *room, const char *name, const char *text, OrderKind kind);
/* It has been ordered to run, and its note is being written since a second. */
void order_slowly(Room *room, const char *name);
/* Ordered to run, and published as active. */
void run_unit(Room *room, const char *name);
bool says(Room *room, const char *unit, const char *active);
const UnitState *state_of(Room *room, const char *unit); /* as published; NULL: it is not */
bool has_order(Room *room, const char *unit);
bool is_gone(Room *room, const char *unit);
/* Whether the notes on disk say of 'unit' that it is to run, and was started; whether they contain 'part'. */
bool is_noted(Room *room, const char *unit);
bool notes_say(Room *room, const char *part);
/* The first value behind 'field' in the notes on disk becomes 'value'. */
void change_note(Room *room, const char *field, const char *value);

/* Messages that contain 'part' are counted; NULL: no more. */
extern unsigned n_said;
void count_messages(const char *part);

/* -- What systemd does otherwise than the simulated one, in SystemdOps that a test changes -- */

extern const SystemdOps *real_ops;
/* The agent of in_a_bent_room() has these, which a test may change: the real ones, and list_pretended(). It
 * follows a leader. */
extern SystemdOps bent;
extern SystemdEvents events; /* of that agent */

int bent_room_setup(void **state);
int bent_room_teardown(void **state);
#define in_a_bent_room(f) cmocka_unit_test_setup_teardown(f, bent_room_setup, bent_room_teardown)

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
void until_calls(Room *room, unsigned n, uint64_t ms);

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
