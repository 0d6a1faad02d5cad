/* The simulated disk of the Raft log: files in memory that outlive the daemon. Writes are durable when they
 * return (the log writes with O_DSYNC); a power cut may leave a prefix of one that was under way. */
#pragma once

#include "io/disk.h"
#include "tests/sim/world.h"

Disk *sim_disk_new(World *w);
Disk *sim_disk_copy(Disk *disk); /* an image, as it is now */
Disk *sim_disk_free(Disk *disk);
void sim_disk_tear(
        Disk *disk,
        bool torn); /* from now on writes leave a prefix only, and fail: the moment of a power cut */
/* All writes fail with it (-ENOSPC, -EIO); 0: no more. 'in_memory': as when syncing fails; what was written
 * is read until the disk is settled, or the power goes. */
void sim_disk_set_error(Disk *disk, int error, bool in_memory);
void sim_disk_set_read_error(Disk *disk, int error); /* all reads fail with it; 0: no more */

/* Acknowledge each sync without one: the last writes before a power cut are lost by it. */
void sim_disk_never_sync(Disk *disk);

typedef enum SimDamage { SIM_FLIP_BIT, SIM_LOSE_SECTOR, SIM_SWAP_SECTORS } SimDamage;

/* Rot in what an earlier write made durable; the last write of each file is spared, since no reader could
 * tell that from one that was torn. -ENOENT: nothing there is older than that. */
int sim_disk_damage(Disk *disk, SimDamage damage);
