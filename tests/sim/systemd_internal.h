/* The units of the simulated systemd, for its files: systemd.c has calls and processes, dependencies.c what
 * one unit does to another. */
#pragma once

#include <sys/queue.h>

#include "tests/sim/systemd.h"
#include "units/unit.h"

typedef struct SimUnit {
        char name[256];
        char file[41];    /* hash of the file in our folder; "" none */
        char loaded[41];  /* hash that systemd holds; "" not loaded */
        char running[41]; /* hash of what runs; "" nothing */
        bool linked, failed, job;
        SystemdEnd end;                                   /* how it ended last */
        bool held;                                        /* what it is bound to does not run */
        bool singleton;                                   /* of the file */
        SimQuality file_quality, loaded_quality, quality; /* of 'file', 'loaded', 'running' */
        bool starting, stopping;                          /* its start job, or its stop job, runs */
        uint64_t due_ms; /* the world's time at which it behaves by its quality; 0: never */
        uint32_t n_restarts;
        bool ending;       /* its guard has ended */
        uint64_t stop_ms;  /* of a singleton: its stop takes that long at most */
        uint64_t lease_ms; /* the world's time when its guard's lease ends; 0: it has none */
        uint64_t invocation;
        Unit **texts; /* owned: of all files so far */
        size_t n_texts;
        /* Its drop-ins, as the three hashes: owned; NULL: none. */
        char *file_drop_ins[_DROP_IN_MAX], *loaded_drop_ins[_DROP_IN_MAX], *drop_ins[_DROP_IN_MAX];
        LIST_ENTRY(SimUnit) of_systemd;
} SimUnit;

struct SimCall;

struct SimSystemd {
        Systemd base;
        World *world;
        WorldLoop *loop; /* NULL: no daemon */
        char name[32];
        SimSystemdHooks hooks;
        SystemdEvents events;
        LIST_HEAD(, SimUnit) units; /* by name */
        LIST_HEAD(, SimCall) calls;
        bool ready;
        char era[32];
        unsigned n_eras;
        uint64_t soft_reboots; /* of this boot */
        uint64_t invocations, attached;
        bool shows_stops; /* of units that are being stopped, as systemd does: they are deactivating */
};

/* -- systemd.c -- */

SimUnit *sim_unit_find(const SimSystemd *s, const char *name);
SimUnit *sim_unit_get(SimSystemd *s, const char *name);
const Unit *sim_unit_text(const SimUnit *u, const char *hash);
/* systemd has the unit, or reads it now. */
bool sim_unit_load(SimSystemd *s, const char *name);
/* 'asked': by the daemon. -ENOENT: systemd rejects the call; -ENOLCK, -ENOEXEC: the job has the result
 * "dependency", or "failed", and the unit stays inactive. */
int sim_unit_start(SimSystemd *s, const char *name, bool asked);
void sim_unit_stop(SimSystemd *s, SimUnit *u, bool asked);
void sim_unit_changed(SimSystemd *s, const char *unit);
void sim_job_removed(SimSystemd *s, const char *unit, const char *result);

/* -- dependencies.c -- */

/* Return the unit that this one starts: of a timer, a path, a socket or an automount; NULL: none. */
const char *sim_unit_triggers(const SimUnit *u);
bool sim_unit_is_oneshot(const SimUnit *u);
bool sim_unit_remains(const SimUnit *u); /* RemainAfterExit= */
/* Return whether a trigger that runs names the unit, so that systemd does not unload it. */
bool sim_unit_is_held(const SimSystemd *s, const SimUnit *u);
/* Start what a unit requires, before it starts. 0, or as sim_unit_start(). */
int sim_unit_start_required(SimSystemd *s, const SimUnit *u);
/* The unit was stopped by a job: stop what requires it. */
void sim_unit_stop_requiring(SimSystemd *s, const char *name);
bool sim_unit_is_timer(const SimUnit *u);
/* Start what the unit triggers; it fails if systemd does not have that. */
void sim_unit_trigger(SimSystemd *s, SimUnit *u);
