/* Pictures of clusters for tests of the pure rooms, written through the very keys and values that the store
 * would hold. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/registry/cluster.h"

/* A picture and the store's index that its next key gets. */
typedef struct ClusterView {
        Cluster cluster;
        uint64_t index;
} ClusterView;

/* "A" is the machine "aaaa..." (32 digits) of name A; letters A to F, so ids sort as the names do. "A1" is
 * another one: the letter, then digits. */
const char *cluster_view_id(char ret[static MACHINE_ID_SIZE], const char *machine);

void cluster_view_machine(ClusterView *p, const char *machine, const char *metadata,
                          Presence presence);                                       /* facts and presence */
void cluster_view_presence(ClusterView *p, const char *machine, Presence presence); /* since now */
void cluster_view_unit(ClusterView *p, const char *name, const char *options,
                       TargetState target); /* lines of [X-Fleet], "" for none */
void cluster_view_text(ClusterView *p, const char *name, const char *options,
                       const char *command); /* the unit's text alone */
void cluster_view_target(ClusterView *p, const char *name, TargetState target);
void cluster_view_destroy(ClusterView *p, const char *name);
void cluster_view_assign(ClusterView *p, const char *machine, const char *unit, AssignmentKind kind);
void cluster_view_state(ClusterView *p, const char *machine, const char *unit,
                        const char *active); /* NULL: the key goes */
void cluster_view_conflicting(ClusterView *p, const char *machine,
                              const char *unit); /* it has one of that name from elsewhere */
void cluster_view_done(ClusterView *p, const char *machine, const char *unit); /* it has finished there */
void cluster_view_put(ClusterView *p, const char *key, const char *value);
void cluster_view_remove(ClusterView *p, const char *key);
/* A value that this program cannot read, as one of a later version would be. 'unit' is the key of metadata,
 * too. */
void cluster_view_unreadable(ClusterView *p, LayoutKind kind, const char *unit, const char *machine);
void cluster_view_free(ClusterView *p);

/* Writes a plan into the picture as the registry would, all at one index. */
void cluster_view_apply(ClusterView *p, const EnginePlan *plan);

/* What agents do of the orders in the picture: machines that are up run what they shall, and obey orders to
 * stop. */
void cluster_view_execute(ClusterView *p);

/* Plans all (brake 30 s) and tells it: "run a.service A; stop a.service B", sorted by unit, then machine. The
 * plan is applied if asked to. The caller frees it. */
char *cluster_view_plan(ClusterView *p, bool apply);
