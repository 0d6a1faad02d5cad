/* The drain of a machine, as its maintenance key and the rest of the cluster view show it: no memory, so that
 * the next leader continues.
 *
 *   cordoned   the machine gets no units, and keeps its own
 *   draining   its ordinary units move to other machines, a few at a time
 *   drained    no ordinary unit is left
 *
 * Global units stay. At the deadline, the ordinary units that are left stop.
 *
 * The scheduler's rule RULE_MAINTENANCE decides which units leave. While the mass-failure brake is on, or a
 * new lineage is adopted, no unit begins to move, and none stops at a deadline. A unit counts as starting
 * elsewhere until it runs there. One that stops first does so without an assignment that names the machine it
 * has left: until it runs, or DRAIN_START_MS after it has got a machine, it counts for each drain. A leave is
 * a drain, too: sessions/leaving.h takes the steps after it. From a machine that is shutting down, units
 * move at once, and without a limit; it is drained as soon as none of them can move.
 *
 * A unit whose data is there stays, and the drain ends beside it: it stops with the host, or at the deadline,
 * until "uncordon". A unit with Move=no stays, but for --force: at the deadline it is stopped, and waits
 * (plan_keep()). At the deadline of a planned reboot, what no other machine can run stays, too: systemd stops
 * it, and it starts with the boot. */
#pragma once

#include "fleetd/engine/plan.h"

enum {
        DRAIN_MACHINE_MAX = 8,  /* units of one machine that start elsewhere at a time */
        DRAIN_CLUSTER_MAX = 32, /* the same of all machines */
        DRAIN_RETRY_MS = 30000, /* after a failed move; doubles with each failure, up to */
        DRAIN_RETRY_MAX_MS = 600000,
        DRAIN_START_MS = 120000, /* in which a unit begins to start on its new machine */
        DRAIN_AWAY_MS = 30000, /* in which a machine that is away returns, before a unit that moves to it goes
                                  back */
};

/* Return why no unit begins to leave a machine, or NULL. 'braked': the mass-failure brake is on. */
const char *drain_held(const Cluster *cluster, bool braked);

/* Return whether the drain of its machine moves the unit of an assignment. */
bool drain_moves(const ClusterAssignment *assignment, uint64_t now_ms);

/* Return the assignment to run or to load the unit on another machine than 'where' that is up; NULL: none. */
const ClusterAssignment *drain_successor(const ClusterUnit *unit, const ClusterMachine *where);

typedef struct DrainStep {
        MaintenanceRecord next; /* the present mode: nothing changes */
        const char *reason;     /* of a change, for the history */
        size_t n_left;          /* ordinary units that run there, or are being stopped */
} DrainStep;

/* Return whether another machine than this one may get units. */
bool drain_has_others(const Cluster *cluster, const ClusterMachine *machine);

/* Return the step that is due of a machine with a maintenance record, at the cluster time of the view. Pure.
 * The record of a leave does not change here. A drain that ends early leaves neither its deadline nor its
 * force to the next one. */
DrainStep drain_step(const Cluster *cluster, const ClusterMachine *machine);

/* Return whether the unit of an assignment stays on its machine, because its data is there. */
bool drain_stays(const ClusterAssignment *assignment);

/* Return whether an assignment keeps the drain of its machine from its end: neither that of a global unit,
 * nor of one that has finished, nor of one that has stopped and waits for the machine (Move=no), nor, except
 * for a leave, of one that stays. */
bool drain_awaits(const ClusterAssignment *assignment);

/* Return whether the drain is that of a planned reboot. */
bool drain_is_for_reboot(const ClusterMachine *machine);

/* Return the number of assignments on the machine that do so. */
size_t drain_left(const ClusterMachine *machine);

/* Return the cluster time after which a unit is moved again that failed on another machine; 0: at once, as by
 * a request. */
uint64_t drain_retry_ms(const ClusterAssignment *assignment, uint64_t now_ms);
/* If it is not moved at once, set which move failed, and when the next one follows. Return whether it is so.
 */
bool drain_explain_retry(const Cluster *cluster, const ClusterAssignment *assignment, Error *ret);
