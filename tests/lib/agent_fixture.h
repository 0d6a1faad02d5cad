/* The agent between a real registry, whose store has one member, and a simulated systemd in virtual time. A
 * test may let calls to systemd fail or have no effect, and change the state that systemd reports. */
#pragma once

#include "fleetd/agent/agent.h"
#include "tests/lib/host.h"
#include "tests/sim/prober.h"
#include "tests/sim/systemd.h"
#include "tests/sim/world.h"

enum {
        FIXTURE_BOOT_WAIT_MS = 60000,
        WRITE_MS = 2000, /* a write to a slow disk */
        START_MS = 3500, /* the simulated systemd may take three seconds */
};

typedef struct Fixture {
        Host *host;
        ComponentHost components; /* of the agent */
        World *world;
        WorldLoop *loop;
        SimSystemd *systemd;
        Systemd *bus; /* as the agent uses it */
        Agent *agent;
        unsigned n_others; /* units without changes */
        SimProber *prober;
        SimProbe probed;                /* the outcome of each probe; at first it passes */
        unsigned n_probes, probed_port; /* of the last one */
        char checks[128];               /* reported: how they exceed the limits of the host */
        unsigned n_reports;
        unsigned n_asked; /* for the health of a set */
} Fixture;

extern Fixture *running;
extern unsigned n_starts, n_stops; /* of processes */
extern unsigned n_unrecorded;      /* starts without a record on disk */
extern unsigned n_slow;            /* starts of slow.service */

/* A host without units, and its agent. */
Fixture *fixture_new(void);
void fixture_free(Fixture *fixture);
void open_agent(Fixture *fixture);
/* Close the agent as a daemon that is stopped; its last write has ended. */
void close_agent(Fixture *fixture);
/* The agent with the services of its host, at 10.0.0.2. The teardown of a faulty fixture closes them. */
void open_services(Fixture *fixture);
void close_services(Fixture *fixture);

void run_ms(Fixture *fixture, uint64_t ms);
/* Run the virtual time while the store replies in real time; the test fails after 25 s of it. */
#define UNTIL(fixture, expression)                                                        \
        for (uint64_t until_ms_ = world_now_ms((fixture)->world) + 25000; !(expression);) \
        fixture_turn(fixture, until_ms_)
void fixture_turn(Fixture *fixture, uint64_t until_ms);
/* Wait until the store has replied, and the agent has processed that. */
void run_pending(Fixture *fixture);
/* Wait for the next resync of the agent: the next ten seconds have none. */
void await_round(Fixture *fixture);

void assign(Fixture *fixture, const char *name);
void assign_to(Fixture *fixture, const char *name, const char *text, AssignmentKind kind);
/* Assign the unit to run; its record is being written since a second. */
void assign_slowly(Fixture *fixture, const char *name);
/* Assign the unit to run, and wait until it is published as active. */
void run_unit(Fixture *fixture, const char *name);
bool is_published(Fixture *fixture, const char *unit, const char *active);
const UnitState *state_of(Fixture *fixture, const char *unit); /* as published; NULL: it is not */
bool has_assignment(Fixture *fixture, const char *unit);
bool is_gone(Fixture *fixture, const char *unit);
/* Return whether the records on disk have 'unit' as started; whether they contain 'part'. */
bool is_recorded(Fixture *fixture, const char *unit);
bool records_contain(Fixture *fixture, const char *part);
/* Replace the first value after 'field' in the records on disk by 'value'. */
void change_record(Fixture *fixture, const char *field, const char *value);

/* Begin (KV_SET) or end (KV_DELETE) the adoption, as fleetd --recover leaves it: the cluster waits until its
 * hosts have published their units. */
void write_adopting(Fixture *fixture, KvOp op);
/* Delete the key of the unit, of this host, as after the restore of a backup without it. */
void delete_key(Fixture *fixture, LayoutKind kind, const char *unit);

/* Count messages that contain 'part'; NULL: stop counting. */
extern unsigned n_logged;
void count_messages(const char *part);

/* -- Deviations from the simulated systemd, in SystemdOps that a test changes -- */

extern const SystemdOps *real_ops;
/* The agent of in_a_faulty_fixture() uses these, which a test may change: the real ones, and
 * list_pretended(). It follows a leader. */
extern SystemdOps bent;
extern SystemdEvents events; /* of that agent */

int faulty_fixture_setup(void **state);
int faulty_fixture_teardown(void **state);
#define in_a_faulty_fixture(f) \
        cmocka_unit_test_setup_teardown(f, faulty_fixture_setup, faulty_fixture_teardown)

/* Calls about one unit: they are written down, and fail or have no effect. */
typedef struct Vain {
        const char *unit; /* NULL: none */
        int error;
        const char *message; /* NULL: "" */
        bool held;           /* without a reply */
        unsigned n;
        uint64_t at_ms[20];
        SystemdDone done; /* of the last one */
        void *userdata;
} Vain;

extern Vain vain;

/* Reply to a call as 'vain' has it. */
int take_in_vain(SystemdDone done, void *userdata);
int start_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata);
int stop_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata);
int link_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int unlink_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int write_in_vain(Systemd *s, const char *name, const char *text, size_t size);
void until_calls(Fixture *fixture, unsigned n, uint64_t ms);

/* The state that systemd reports of one unit. */
typedef struct Pretence {
        const char *unit, *active; /* 'active' NULL: the real state */
        SystemdEnd end;
        bool held;
        void (*change)(SystemdUnit *seen); /* the other members; NULL: unchanged */
        int error;                         /* of each listing */
} Pretence;

extern Pretence pretence;

int list_pretended(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                   void *userdata);
