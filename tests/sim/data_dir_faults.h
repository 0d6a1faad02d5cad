/* Faults of the real folders that contain the trees of simulated hosts: writes of LMDB and of the store fail.
 * The calls of libc are replaced in the whole program: link this file only where faults are needed. */
#pragma once

#include <stdint.h>

/* Let all writes to files below 'folder' (borrowed) fail with 'error' (-ENOSPC, -EIO); 0: end the fault. At
 * most a few folders at a time. */
void folder_fault(const char *folder, int error);
unsigned folder_faults(void); /* number of failed writes so far */
void folder_room_left(
        uint64_t bytes); /* limit the free space that file systems report; UINT64_MAX: no limit */
