/* Operations instead of the daemon: recovery from a lost majority, backup, restore (kvstore/offline.h). */
#pragma once

#include "fleetd/settings.h"
#include "io/disk.h"
#include "io/loop.h"

static inline bool maintenance_is_requested(const Settings *s) {
        return s->recover || s->backup || s->restore;
}

/* Perform the operation in 'settings' and print the result, or what would be done. The disk is that of raft/,
 * and excludes a running daemon. */
int maintenance_run(const Settings *settings, Loop *loop, Disk *log_disk, const char *boot_id,
                    const char *hardware_id, Error *err);
