/* The public keys of the members, as this host knew them last: identity/replicas below the state directory, a
 * line "MACHINE PIN [PIN]" for each member.
 *
 * A replica that starts knows its tree up to its last checkpoint, which may be older than each of the hosts.
 * With this file it still authenticates the members, also if the root of its cluster has changed since. Both
 * calls block, and transfer little. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "kvstore/kvstore.h"

typedef struct ReplicaPins {
        struct {
                char machine[MACHINE_ID_SIZE];
                Pins pins;
        } items[KV_MEMBERS_MAX];
        size_t n;
} ReplicaPins;

/* Write the members of the cluster view into *ret, in the order of their IDs. Pure. */
void replica_pins_of(const Cluster *c, ReplicaPins *ret);
/* Return the pins of a machine, or NULL. */
const Pins *replica_pins_find(const ReplicaPins *pins, const char *machine_id);

/* -ENOENT: no file. -EBADMSG: other content; *ret is unchanged. */
int replica_pins_read(const char *state_directory, ReplicaPins *ret, Error *err);
/* Replace the file durably. -ENOENT: this host has no identity. */
int replica_pins_write(const char *state_directory, const ReplicaPins *pins, Error *err);
/* The content of the file. 0 or -EBADMSG. Pure, for any bytes. */
int replica_pins_parse(const char *text, size_t size, ReplicaPins *ret);
