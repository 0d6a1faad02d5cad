/* Updates of the cluster view, key by key. Only the registry calls these. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Set the value of a key; a key of no known kind is skipped. Return 0; -ENOMEM; or -EBADMSG with a message in
 * 'err': the value does not parse, so the key is unreadable from now on. */
int cluster_put(Cluster *c, const KvNode *node, Error *err);
/* Remove a key, or all keys below a directory. */
int cluster_remove(Cluster *c, KvBytes key);
bool cluster_is_unreadable(const Cluster *c, KvBytes key);

void cluster_done(Cluster *c);
/* Release about 'n' entries of a cluster view that is no longer in use. Return true after the last one. */
bool cluster_drain(Cluster *c, size_t n);
