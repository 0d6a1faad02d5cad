/* The slice of a machine: the keys below /_fleet that an attached host receives. It has the host's own keys,
 * its assignments, the units that these name or that its unit directory owns, and the settings, members and
 * roots of the cluster; endpoints, unless the host is restricted; if it accepts users, these. It has nothing
 * that the host does not need.
 *
 * The table of kinds says which machines a key concerns. A slice is the current state of its keys: a change
 * that concerns a machine names a key, and the reader of the slice reads that key again. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Return which of SLICE_SERVICES and SLICE_USERS, as bits, the slice of a machine has, in addition to own
 * keys. */
unsigned slice_groups(const Cluster *c, const char *machine);

/* Return whether the slice of a machine has the key, if the key exists. */
bool slice_has(const Cluster *c, const char *machine, const LayoutKey *key);

/* Enumerate the keys of the slice that exist in the cluster view; an unreadable one may be reported twice.
 * Return 0, or the first non-zero result of 'found'. States that this program cannot read are omitted: their
 * host publishes them again. */
typedef int SliceFound(void *userdata, const LayoutKey *key);
int slice_each(const Cluster *c, const char *machine, SliceFound *found, void *userdata);

/* Enumerate the slices that a change may concern, and their keys: 'machine' NULL is each machine. A key may
 * be reported that the slice does not have, or does not have any more. Without change->key, all keys of all
 * slices may have changed; nothing is reported. */
typedef void SliceTouched(void *userdata, const char *machine, const LayoutKey *key);
void slice_route(const Cluster *c, const RegistryChange *change, SliceTouched *touched, void *userdata);
