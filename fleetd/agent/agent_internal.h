/* What the files of the agent share: agent.c decides (the pass and what sets it off), execute.c asks systemd
 * and carries steps out, units.c keeps what is known of each unit. Each calls only those after it. Nobody
 * outside this folder includes this file. */
#pragma once

#include <sys/queue.h>

#include "fleetd/agent/agent.h"
#include "base/sizes.h"
#include "fleetd/agent/plan.h"
#include "fleetd/agent/publish.h"
#include "units/name.h"

/* What the agent knows of one unit on this host. */
typedef struct AgentUnit {
        char name[UNIT_NAME_MAX + 1];
        SystemdUnit seen;
        bool looked; /* 'seen' was read at all */
        bool look;   /* and must be read again before anything is decided by it */
        bool hinted; /* systemd said that it may have changed: it is read again soon, and counts until then */
        bool asked;  /* and is being read */
        bool answered;      /* and was read since the last pass */
        bool busy;          /* a step is under way */
        bool planned;       /* in this pass: there was nothing to do */
        bool told;          /* in this pass: the registry has its state */
        uint64_t spent_ms;  /* up to when the gaps of all its refreshes so far reach */
        bool job_ended;     /* a job of it ended well since we started it, or since this daemon began */
        uint64_t done_save; /* the save of the notes that has that it is done: told after that; 0: none */
        bool refused;       /* its name is the host's, as the last pass found; that is logged */
        uint64_t unproven;  /* what runs during a replacement may have begun before systemd had read the new
                             * text: this listing, or a later one, says; 0: it was  said */
        char outdated[INVOCATION_ID_SIZE]; /* the invocation that may have; "": none */
        bool taken; /* not started, since its file or a name of its [Install] would go over what the host has:
                       systemd was not asked, or refused */
        char trouble[256];         /* what systemd said to the last call that failed */
        unsigned failures, writes; /* in a row, under this order: */
        uint64_t order_index;      /* 0: none */
        uint64_t retry_ms;         /* no step before */
        uint64_t try_ms; /* of one that waits for others: it is looked at, or started again, then; 0: it does
                            not */
        uint64_t again_ms;   /* and not started again before; */
        unsigned agains;     /* so many such starts did not make it run, in a row */
        uint64_t passing_ms; /* since when it has been on its way to another state that is not told, short
                                rests included; 0: it is not */
        uint64_t steady_ms;  /* since when it rests; 0: it does not */
        uint64_t since_ms;   /* wall clock of the last change of its three states */
        bool dirty;          /* in the dirty set */
        TAILQ_ENTRY(AgentUnit) dirty_units;
        UT_hash_handle hh;
} AgentUnit;

typedef struct AgentCall AgentCall;

struct Agent {
        Loop *loop; /* borrowed, as the next two */
        Registry *registry;
        Systemd *systemd;
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        AssignmentRecords notes;
        AgentUnit *units; /* by name */
        TAILQ_HEAD(, AgentUnit)
        dirty; /* what a pass goes over: units of which something is still to be read, done or told */
        bool all_dirty; /* every unit that anything names: the next pass finds them */
        Publisher *publisher;
        RegistryListener listener;
        Deferred pass;
        Timer period, wake, boot_wait, adopt;
        uint64_t adopt_ms;
        bool adopting;  /* the cluster's lineage is new, or another one than the notes': we say what runs, and
                           obey nothing */
        bool reporting; /* that all of it is said, is on its way */
        KvSync sync;
        bool syncing, fresh, use_saved, look_all, closing;
        unsigned calls; /* operations whose answers are to come; the last one frees a closing agent */
        bool looking, removing;
        unsigned writing;    /* calls that put texts in force */
        int note_error;      /* of the last save, said once */
        RecordsWrite *write; /* the save under way, off the loop; NULL: none */
        Work save_work;
        uint64_t n_saves, n_saved;                 /* begun; ended */
        uint64_t n_listings;                       /* begun, after links too */
        TAILQ_HEAD(AgentCalls, AgentCall) waiting; /* for a save */
        AgentCounts counts;
#ifdef PLANTED_BUGS
        const char *bug;
        uint64_t leader_id;
#endif
};

/* -- units.c -- */

/* A pass is due: over the dirty set; over this unit, too; over all units. */
void agent_wake(Agent *a);
size_t agent_count_dirty(const Agent *a);
void agent_dirty(Agent *a, AgentUnit *u);
void agent_dirty_all(Agent *a);
/* A pass is due at 'due_ms' (loop_now_ms()), or before. */
void agent_wake_at(Agent *a, uint64_t due_ms);
/* A pass is due soon, since something could not be begun: for want of memory, or of an answer. */
void agent_again(Agent *a);
/* NULL: not known, or with 'make' no memory. */
AgentUnit *agent_unit(Agent *a, const char *name, bool make);
/* Puts each unit that an order, a state or a note names into the dirty set, and each that is known. */
void agent_collect(Agent *a);
/* Takes the units out of the dirty set of which nothing is to be read, done or told; forgets those of which
 * nothing is left. */
void agent_settle(Agent *a);
/* When it may be read again: a few times in a row, then at most every 100 ms. 'agent_refreshed': it is, now.
 * What we did to it ourselves is looked at at once (agent_refresh_now()). */
uint64_t agent_refresh_due_ms(const AgentUnit *u);
void agent_refreshed(Agent *a, AgentUnit *u);
void agent_refresh_now(Agent *a, AgentUnit *u);
/* A step failed: says so once, and puts off the next one. */
void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *sentence);
/* 'listing': of a->n_listings, that it was in. */
void agent_refresh_unit(Agent *a, const SystemdUnit *seen, uint64_t listing);
/* What was read is used although it may have changed since, or a unit that changes all the time would never
 * be planned; but what is done to a unit is decided by what it was just now. */
bool agent_is_stale(const AgentUnit *u);
/* agent_plan() of it, as all is known now. */
AgentStep agent_next_step(Agent *a, const AgentUnit *u, const char **ret_reason);

/* -- execute.c -- */

/* Reads those of the dirty set again that want to be looked at, and may be. */
void agent_refresh(Agent *a);
/* Carries out steps[i] on units[i]: notes first, and once they are on disk calls to systemd, in batches where
 * it can be. What cannot be noted or called without memory is put off. True: there are notes by which to plan
 * again. */
bool agent_execute(Agent *a, AgentUnit **units, AgentStep *steps, size_t n);
/* No job came of the start of 'u' that was noted: it is still to be made. */
void agent_cancel_start(Agent *a, AssignmentRecord *note, AgentUnit *u);
/* Has the notes written if they changed; says once why it cannot. */
void agent_save(Agent *a);
/* Forgets the calls that wait for a save. 'save': the notes are on disk as they are, when this returns; else
 * a worker that has begun to write them never comes back. */
void agent_end_saves(Agent *a, bool save);
#ifdef PLANTED_BUGS
void agent_plant_restart(Agent *a);
#endif
