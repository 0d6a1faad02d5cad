/* What fleetd does instead of running: recovery from a lost majority, backup, restore (kvstore/offline.h). */
#pragma once

#include "fleetd/settings.h"
#include "io/disk.h"
#include "io/loop.h"

static inline bool maintenance_is_requested(const Settings *s) {
        return s->recover || s->backup || s->restore;
}

/* Does what 'settings' ask for and says on stdout what was done, or would be. The disk is raft/'s: who has it
 * open is alone. */
int maintenance_run(const Settings *settings, Loop *loop, Disk *log_disk, const char *boot_id,
                    const char *hardware_id, Error *err);
