/* A Disk in memory that can die at any write: of that write any part of 512-byte sectors is there, then every
 * call fails, until the machine is started again. */
#pragma once

#include "base/clock.h"
#include "io/disk.h"

typedef struct MemoryFile MemoryFile;

typedef struct MemoryDisk {
        Disk base;
        MemoryFile *files; /* sorted by name */
        size_t n, capacity;
        unsigned calls;  /* that changed something */
        unsigned die_at; /* the call at which it dies; 0: never */
        int fail;        /* negative errno that changing calls get instead, 0: none */
        bool fails_once; /* only the next one */
        bool dead;
        Random random;
} MemoryDisk;

void memory_disk_init(MemoryDisk *disk, uint64_t seed);
void memory_disk_done(MemoryDisk *disk);
void memory_disk_start_again(MemoryDisk *disk); /* after it died; handles of before are gone */

/* The bytes of a file, to be looked at and damaged; NULL when absent. */
uint8_t *memory_disk_file(MemoryDisk *disk, const char *name, size_t *ret_size);
int memory_disk_put(MemoryDisk *disk, const char *name, const void *bytes, size_t size);
