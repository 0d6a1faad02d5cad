/* Faults of the real folders in which simulated hosts keep their trees: writes that LMDB and we make below a
 * folder fail as told. The calls of libc are taken over for the whole program, so it is linked in by who
 * wants faults, and by nobody else. */
#pragma once

#include <stdint.h>

/* All writes to files below 'folder' (borrowed) fail with 'error' (-ENOSPC, -EIO); 0: no more. At most a few
 * folders at a time. */
void folder_fault(const char *folder, int error);
unsigned folder_faults(void);          /* how many writes have failed so far */
void folder_room_left(uint64_t bytes); /* all file systems have at most so many free, by what they say;
                                          UINT64_MAX: what they have */
