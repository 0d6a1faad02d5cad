/* The agent makes this host match its assignments, and reports the result.
 *
 * Registry and systemd only mark units dirty. A pass plans the next step of each dirty unit (agent_plan()),
 * executes the steps, and refreshes the units. Steps are batched: all files, one link, one reload if systemd
 * requires it, all starts.
 *
 * Assignments count only while this host follows a leader and has passed a ReadIndex check since; otherwise
 * no unit is touched. Nor do they count while the lineage of the cluster differs from the records': it was
 * recovered or restored. Then the agent reports what runs, so that the engine adopts it, and takes over the
 * new lineage. */
#pragma once

#include "base/duration.h"
#include "fleetd/features/health/checks.h"
#include "fleetd/agent/plan.h"
#include "fleetd/host/component.h"
#include "fleetd/registry/set_health.h"
#include "fleetd/systemd/systemd.h"

typedef struct Agent Agent;

/* Cost of the passes. */
typedef struct AgentCounts {
        uint64_t passes, listings;   /* listings requested from systemd */
        uint64_t refreshed, planned; /* units in listings; units planned, each time */
        uint64_t done[_AGENT_STEP_MAX], failed[_AGENT_STEP_MAX]; /* steps, per unit, that call systemd */
        DurationCounts starts; /* from the assignment until the unit that the agent started was active */
} AgentCounts;

int agent_new(Agent **ret, ComponentHost *host, Error *err);
/* Free the agent, and touch no unit. Calls to systemd and a write of the records that are under way continue;
 * their results are ignored. Return NULL. */
void *agent_free(void *agent);
/* For simulation: end as by a crash; the result of a write under way is never reported. Accepts NULL; returns
 * NULL. */
void *agent_crash(void *agent);
void agent_state_changed(void *agent); /* on_state of the store */
const AgentCounts *agent_counts(const Agent *agent);
/* Return the counts of health checks; NULL: there are none. */
const ChecksCounts *agent_checks(const Agent *agent);
/* The answer to ComponentHost.ask_set: the set without the instance of this host. */
void agent_take_set(Agent *agent, const char *unit, const SetHealth *others);
/* Return whether a unit that must not run twice (Move=stop-first, Singleton=) has not stopped on this host.
 * *ret_stopping: one of them is being stopped. */
bool agent_awaits_stop(const Agent *agent, bool *ret_stopping);
/* Call 'each' with the last listing of each unit whose file is in force here. */
void agent_each_unit(const Agent *agent, void (*each)(void *userdata, const SystemdUnit *unit),
                     void *userdata);
/* Plan and publish the unit again soon; for components with a duty. */
void agent_wake_unit(Agent *agent, const char *unit);
/* Return whether the assignments of this host count: its view is not older than a check by a majority. */
bool agent_is_fresh(const Agent *agent);
/* records_holders() of this host. */
const struct HeldPort *agent_port_holders(const Agent *agent, uint16_t number, PortProtocol protocol,
                                          size_t *ret_n);
/* Return whether the last listing had a conflicting unit of this name. */
bool agent_has_conflict(Agent *agent, const char *unit);
