/* Policy: what a principal may do to a resource.
 *
 * Pure: one table of principals and rights, and what cluster and settings state about the principal. The
 * server (fleetd/api/server.c) determines the sender of each request, the table of routes
 * (fleetd/api/routes.c) names the right that a route requires, and handlers ask for keys. What the table does
 * not grant is denied. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "fleetd/registry/principal.h"
#include "fleetd/registry/rights.h"

/* The statements of cluster and settings about a principal. Zero denies everything that is not in the table.
 */
typedef struct PolicyFacts {
        bool is_removed;  /* a machine or user that is not, or no longer, of this cluster; the host of a local
                           * or anonymous sender */
        bool is_operator; /* a local sender: root, the user of the daemon, or group fleet */
        bool is_replica;  /* a machine with a replica */
        bool is_restricted; /* the machine, or the host of the sender: it grants no more than its token */
        bool reads, writes; /* an anonymous sender: ClientAccess= */
        RightList *granted; /* to the user, or to the groups of a local sender */
        char of_host[PREFIXES_SIZE]; /* of a restricted host: the prefixes of its token */
} PolicyFacts;

/* The object of a right. */
typedef struct Resource {
        KvBytes key;         /* of a right to keys; size 0: to at least one key */
        const char *machine; /* that the unit or the report belongs to; NULL: the cluster as a whole */
} Resource;

/* Add what the cluster view states: about the user, or about the machine or host of the principal. A host
 * without certificates, whose key does not exist, is an ordinary one. 0 or -ENOMEM. */
int policy_facts_read(const Cluster *cluster, const Principal *principal, PolicyFacts *facts);

/* Return whether a host may send requests of a principal: of a user, whose rights the cluster view has, or of
 * its own clients. */
bool policy_may_claim(const Principal *principal, const char *machine);
/* Set what counts for a request that a host forwards: the lesser of its claim, for which 'claimed' is what
 * the settings of the host state, and of the rights of the host. ret->granted is a new reference. 0, -ENOMEM;
 * -EACCES: the host may not claim this. */
int policy_facts_forwarded(const Cluster *cluster, const char *machine, const Principal *principal,
                           const PolicyFacts *claimed, PolicyFacts *ret);

/* Return whether 'principal' has 'right' to the resource. Only the registry writes keys below /_fleet, by
 * internal commands: no principal has RIGHT_KEYS_WRITE there, and the state machine refuses such a command as
 * well. */
bool policy_allows(const Principal *principal, Right right, Resource on, const PolicyFacts *facts);

/* Return whether the principal may know that a node exists. It sees the keys that it may read, and the
 * directories above them, so that what it sees is a tree. */
bool policy_shows(const Principal *principal, KvBytes key, bool is_dir, const PolicyFacts *facts);
