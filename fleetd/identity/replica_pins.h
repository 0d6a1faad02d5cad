/* The public keys of the members, as this host knew them last: identity/replicas below the state directory, a
 * line "MACHINE PIN [PIN]" for each member. The modification time of the file is the time of the cluster when
 * the list was last confirmed: earlier versions neither write nor read a time, and reject other lines.
 *
 * A replica that starts knows its tree up to its last checkpoint, which may be older than each of the hosts,
 * and an attached host that starts has no tree. With this file they still authenticate the members, also if
 * the root of the cluster has changed since. Both calls block, and transfer little. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "kvstore/kvstore.h"

typedef struct ReplicaPins {
        struct {
                char machine[MACHINE_ID_SIZE];
                Pins pins;
        } items[KV_MEMBERS_MAX];
        size_t n;
        uint64_t confirmed_ms; /* by the wall clocks of leaders; 0: not known */
} ReplicaPins;

/* Write the members of the cluster view into *ret, in the order of their IDs, without a time. Pure. */
void replica_pins_of(const Cluster *c, ReplicaPins *ret);
/* Return whether two lists have the same members and pins. */
bool replica_pins_equal(const ReplicaPins *a, const ReplicaPins *b);
/* Return the pins of a machine, or NULL. */
const Pins *replica_pins_find(const ReplicaPins *pins, const char *machine_id);

/* -ENOENT: no file. -EBADMSG: other content; *ret is unchanged. The time of a file of an earlier version is
 * that of its last change, by the clock of this host. */
int replica_pins_read(const char *state_directory, ReplicaPins *ret, Error *err);
/* Replace the file durably; without a time, it gets that of this host. -ENOENT: this host has no identity. */
int replica_pins_write(const char *state_directory, const ReplicaPins *pins, Error *err);
/* The content of the file, without its time. 0 or -EBADMSG. Pure, for any bytes. */
int replica_pins_parse(const char *text, size_t size, ReplicaPins *ret);
