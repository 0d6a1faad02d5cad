/* Operations instead of the daemon: recovery from a lost majority, backup, restore (kvstore/offline.h). */
#pragma once

#include "fleetd/daemon.h"

static inline bool maintenance_is_requested(const Settings *s) {
        return s->recover || s->reset || s->backup || s->restore;
}

/* Verify a backup: its checksum, its description, and the tree in it; and that a file of cluster keys (NULL:
 * none) is of the same cluster. Needs no settings and no state. Print the result. */
int maintenance_verify(const char *file, const char *keys, Error *err);

/* Write the cluster keys of this host to a new file, beside a running daemon. Print the result. -ENOENT: this
 * host has none. */
int maintenance_write_keys(const Settings *settings, Error *err);

/* Perform the operation in 'settings' and print the result, or what would be done. The disk is that of raft/,
 * and excludes a running daemon; of 'io', network, systemd and key are not used. */
int maintenance_run(const Settings *settings, const DaemonIo *io, Error *err);
