/* Who may write the keys that units read: EnvironmentKeys= and ConfigKeys= (units/inputs.h).
 *
 * Such a key becomes a variable or a file of a service that runs as root on several machines. While a unit
 * names a path, only senders with a right of their own write at, above and below it: operators, and groups
 * and users with keys-write. Anonymous clients of the loopback listener, and all clients of a restricted
 * host, do not. A template names what its instances will read, up to the first component that depends on
 * the instance: it counts before they exist. A stored text names its paths while an assignment has it, and
 * while a rollout may return to it; its table is another one, as the leader watches, by the same table, what
 * the present texts name. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "fleetd/registry/principal.h"

/* File the paths of a text of the unit, and what is above them, in c->rules[rule]; or remove them. 0 or
 * -ENOMEM, after which some are filed. */
int protect_file(Cluster *c, ClusterRule rule, ClusterUnit *u, const InputPolicy *inputs, bool add);

/* Return whether a sender that may write a key may write it also while a unit names it: it has the right by
 * itself, not by ClientAccess= or the prefixes of its host. */
static inline bool inputs_permits(const Principal *principal, bool is_restricted) {
        return principal->kind != PRINCIPAL_ANONYMOUS && !is_restricted;
}

/* Return 0 if the sender may write all keys of the command that it may write otherwise. 'is_restricted': its
 * host is. -EPERM, and a message. */
int inputs_check_write(const Cluster *c, const Principal *principal, bool is_restricted, const KvCommand *cmd,
                       Error *err);
