/* Cluster views for tests of pure code, written by the same keys and values as in the store. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/registry/cluster_keys.h"

/* A cluster view, and the store's index of its last key. */
typedef struct ClusterView {
        Cluster cluster;
        uint64_t index;
        bool below_updates; /* the cluster is below KV_LEVEL_UPDATES: assignments name no text, and machines
                               publish no health */
        bool announced;     /* of the presences that are set: the host has announced its stop */
        Resources capacity; /* of the machines that are set; 0: unknown */
} ClusterView;

/* As a cluster of the present level plans. */
extern const EnginePlanLimits cluster_view_limits;

/* "A" is the machine with the name A and the id "aaaa..." (32 digits). With letters A to F, ids sort as names
 * do. "A1" is another machine: a letter, then digits. */
const char *cluster_view_id(char ret[static MACHINE_ID_SIZE], const char *machine);

void cluster_view_machine(ClusterView *p, const char *machine, const char *metadata,
                          Presence presence); /* facts and presence */
void cluster_view_facts(ClusterView *p, const char *machine, const char *metadata);
void cluster_view_presence(ClusterView *p, const char *machine, Presence presence); /* since now */
void cluster_view_unit(ClusterView *p, const char *name, const char *options,
                       TargetState target); /* lines of [X-Fleet], "" for none */
void cluster_view_text(ClusterView *p, const char *name, const char *options,
                       const char *command); /* the unit's text alone */
/* Assign the wanted text of the unit to its machines, as a rollout does. */
void cluster_view_roll(ClusterView *p, const char *name);
void cluster_view_target(ClusterView *p, const char *name, TargetState target);
void cluster_view_destroy(ClusterView *p, const char *name);
void cluster_view_assign(ClusterView *p, const char *machine, const char *unit, AssignmentKind kind);
void cluster_view_state(ClusterView *p, const char *machine, const char *unit,
                        const char *active); /* NULL: the key goes; "active": it is available, too */
/* It is active there, and is not available yet; 'health': "passing", "starting" or "failing". */
void cluster_view_active(ClusterView *p, const char *machine, const char *unit, const char *health);
void cluster_view_conflicting(ClusterView *p, const char *machine,
                              const char *unit); /* it has one of that name from elsewhere */
void cluster_view_done(ClusterView *p, const char *machine, const char *unit); /* it has finished there */
void cluster_view_put(ClusterView *p, const char *key, const char *value);
void cluster_view_remove(ClusterView *p, const char *key);
/* Put a value that this program cannot read, as a later version might write it. 'unit' may be a key of
 * metadata. */
void cluster_view_unreadable(ClusterView *p, LayoutKind kind, const char *unit, const char *machine);
void cluster_view_free(ClusterView *p);
#define _cleanup_cluster_view_ _cleanup_(cluster_view_free)

/* Write a plan as the registry does, all at one index, after the ends of moves. */
void cluster_view_apply(ClusterView *p, const EnginePlan *plan);

/* Execute the assignments of all machines that are up, as their agents do: what they start is available at
 * once. */
void cluster_view_execute(ClusterView *p);

/* Plan all units (brake 30 s), and return the plan as "run a.service A; stop a.service B", sorted by unit,
 * then machine, after the ends of moves ("moved to B"). 'apply': also apply it. The caller frees the result.
 */
char *cluster_view_plan(ClusterView *p, bool apply);
