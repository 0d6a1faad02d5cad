/* The queue of planned reboots, as the reboot keys of the machines and the rest of the cluster view show it:
 * no memory, so that the next leader continues, and no lock that a lost host could keep.
 *
 *   queued      waits for its turn
 *   draining    its units move away: its maintenance key is that of a drain, which drain_control() ends
 *               (engine/drain.h), with the mode "drained"
 *   rebooting   none is left; the host of that boot calls logind
 *   down        the host was lost or has left
 *   back        it is up after another boot, until its units that were available before have been available
 *               again for REBOOT_STEADY_MS
 *   rejected    logind has rejected it
 *   failed      the queue stops, until a user resumes or cancels it
 *
 * The order is that of the requests, with the leader's host last, and in a request zone by zone if the
 * request names a key of machine metadata. A host that is not up is skipped until it is, and the leader's
 * host waits for it. A voter begins only if all others are reachable and caught up, and no other one is about
 * to reboot; this counts again when it is drained. While a new lineage is adopted, no host begins; hosts that
 * were queued in another lineage are not rebooted. When only global units are left, the budgets of their sets
 * permit that they stop, or the deadline of the drain has passed. After the deadline, what no other machine
 * can run is left, too. A record that cannot be read stops the queue. No time frees the place of a host that
 * has not returned. */
#pragma once

#include "fleetd/host/component.h"

enum {
        REBOOTS_MAX = 1000,       /* in a request, and in an answer */
        REBOOT_STEADY_MS = 30000, /* in which the units of a host that is back have to remain available */
        REBOOT_RETURN_MS = 15 * 60000, /* in which a host has to be back, if the request names no time */
        REBOOT_LAG_MAX = 1000,         /* entries that a voter may lag behind */
};

typedef struct RebootStep {
        const ClusterMachine *machine; /* NULL: nothing is due */
        RebootRecord next;
        bool ends; /* the reboot is done or cancelled, and the record is deleted */
        RebootMaintenance maintenance;
        Verdict row; /* of the history */
} RebootStep;

/* Return the step that is due, at the cluster time of the view. 'state' is that of the leader. While the
 * mass-failure brake is on ('braked'), no host begins, and none goes down. Pure. */
RebootStep reboot_step(const Cluster *cluster, const KvState *state, bool braked);

/* Return false if the host is queued or drained, and something holds the next state: the brake, other hosts,
 * the votes, a budget; or if it is back, and one of its units is not available. Then set the reason. Pure. */
bool reboot_may_go_on(const Cluster *cluster, const KvState *state, bool braked,
                      const ClusterMachine *machine, Error *ret_why);
bool reboot_is_drained(const ClusterMachine *machine);

/* Return whether 'a' is before 'b' in the queue; both have a record. */
bool reboot_is_before(const KvState *state, const ClusterMachine *a, const ClusterMachine *b);

/* Return the first queued machine that is up; hosts that are not up are skipped. NULL: none. */
const ClusterMachine *reboot_first(const Cluster *cluster, const KvState *state);

/* Return whether the drain of the host has begun, and its reboot has neither ended nor failed. */
bool reboot_is_active(const ClusterMachine *machine);

/* Return whether the host runs in another boot than the one in which its drain began. */
bool reboot_has_booted(const ClusterMachine *machine);
