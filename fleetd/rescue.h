/* What fleetd does instead of running: recovery from a lost majority, backup, restore (kvstore/rescue.h). */
#pragma once

#include "fleetd/settings.h"
#include "io/disk.h"
#include "io/loop.h"

static inline bool rescue_is_wanted(const Settings *s) {
        return s->recover || s->backup || s->restore;
}

/* Does what 'settings' ask for and says on stdout what was done, or would be. The disk is raft/'s: who has it
 * open is alone. */
int rescue_run(const Settings *settings, Loop *loop, Disk *log_disk, const char *boot_id,
               const char *hardware_id, Error *err);
