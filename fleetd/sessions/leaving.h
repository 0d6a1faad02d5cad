/* The leave of a host, as its maintenance key and the rest of the cluster view show it: no memory, so that
 * the next leader continues.
 *
 *   1. "fleetctl leave" writes the key: draining. From then on, the host submits no units of its unit
 *      directory; if the directory has one, the host cancels the leave. The engine moves the ordinary units:
 *      each runs elsewhere before it stops on this host.
 *   2. The leader writes drained. The engine stops the global units.
 *   3. The voters change (voters.h): another host takes the vote first. If the host leads, it transfers
 *      leadership.
 *   4. The leader writes the tombstone, which deletes the member key, so that the standby is removed from the
 *      configuration. The host applies the tombstone, or other hosts reject it as removed: it moves its state
 *      to old/ and starts empty.
 *
 * While the mass-failure brake is on, or a new lineage is adopted, the leader takes no step. */
#pragma once

#include "fleetd/directory/directory.h"
#include "fleetd/registry/cluster.h"
#include "kvstore/kvstore.h"

typedef enum LeavingStep {
        LEAVING_NOT,
        LEAVING_OWNER,    /* a unit of its unit directory is in the cluster: the host cancels the leave */
        LEAVING_UNITS,    /* ordinary units are on it */
        LEAVING_DRAIN,    /* none any more: the key follows */
        LEAVING_GLOBAL,   /* its global units stop */
        LEAVING_VOTE,     /* it votes */
        LEAVING_TRANSFER, /* it leads, and another host can */
        LEAVING_WAIT,     /* another host that was told to leave before has not left yet */
        LEAVING_END,      /* the tombstone follows */
        _LEAVING_STEP_MAX,
        _LEAVING_STEP_INVALID = -EINVAL,
} LeavingStep;

/* Names for the API. */
ENUM_NAMES(leaving_step, LeavingStep, _LEAVING_STEP_MAX)

/* Return the step that is due, or waited for, of a machine. 'state' is that of any host; only the leader can
 * find LEAVING_TRANSFER. *ret_other: the host that leads next, or that leaves first; NULL: none. Pure. */
LeavingStep leaving_step(const Cluster *cluster, const KvState *state, const ClusterMachine *machine,
                         const ClusterMachine **ret_other);

/* Return whether the unit directory of a machine has units, which it would run again after the leave, and set
 * in 'ret' which: those that it has submitted, and unit files. 'directory' is that of the machine; NULL:
 * none. */
bool leaving_owns_units(const Cluster *cluster, const ClusterMachine *machine, const Directory *directory,
                        Error *ret);

/* Return the name of an ordinary unit on the machine, the first by name; NULL: none is left. */
const char *leaving_unit(const ClusterMachine *machine, size_t *ret_n);
