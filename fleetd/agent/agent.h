/* The agent: makes this host what its orders say, and says what became of them.
 *
 * Dirty, snapshot, plan, execute: registry and systemd only mark units dirty; a pass asks agent_plan() for
 * the next step of each unit in the dirty set, takes the steps in batches (all files first, then one link,
 * one reload where systemd says so, then all starts), and looks again. Orders are obeyed only while this host
 * follows a leader and has caught up with it once since it does; otherwise nothing is touched. Nor is it
 * while the cluster is of another lineage than the notes (it was recovered, or restored): for a while the
 * agent only says what runs, so that the engine adopts it, and then takes that lineage for its own. */
#pragma once

#include "fleetd/registry/registry.h"
#include "fleetd/systemd/systemd.h"

typedef struct Agent Agent;

typedef struct AgentOptions {
        const char *machine_id, *boot_id; /* copied */
        const char *directory;            /* where the notes are kept */
        uint64_t boot_wait_ms;            /* BootWaitSec= */
        uint64_t adopt_ms;                /* in a new lineage: only say what runs, so long; 0: 30 s */
} AgentOptions;

/* What its passes cost. */
typedef struct AgentCounts {
        uint64_t passes, listings;   /* questions to systemd about units */
        uint64_t refreshed, planned; /* units in them, each time */
} AgentCounts;

int agent_new(Agent **ret, Loop *loop, Registry *registry, Systemd *systemd, const AgentOptions *options,
              Error *err);
/* Touches no unit. Calls to systemd that are under way go on, and so does a write of the notes; their answers
 * are forgotten. Returns NULL. */
Agent *agent_free(Agent *agent);
/* For simulation: gone at once, as by a crash; a write of the notes never comes back. NULL allowed; returns
 * NULL. */
Agent *agent_crash(Agent *agent);
void agent_state_changed(Agent *agent); /* the store's on_state */
const AgentCounts *agent_counts(const Agent *agent);
/* Whether this name was the host's own, not the cluster's, when systemd was asked last. */
bool agent_sees_foreign(Agent *agent, const char *unit);
