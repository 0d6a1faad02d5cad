/* A Disk in memory, which fails, loses power and decays as a test demands. Writes are durable when they
 * return; a power cut leaves any sectors of a write under way, and any part of a name's creation, removal or
 * renaming. */
#pragma once

#include "base/clock.h"
#include "io/disk.h"

enum { MEMORY_DISK_UNDO_MAX = 16 };

typedef struct MemoryFile MemoryFile;

typedef enum MemoryDiskState {
        MEMORY_DISK_WORKS,
        MEMORY_DISK_DYING, /* power is cut: a changing call is done in part, and fails */
        MEMORY_DISK_DEAD,  /* nothing is done any more */
} MemoryDiskState;

typedef enum MemoryDiskDamage {
        MEMORY_DISK_FLIP_BIT,
        MEMORY_DISK_LOSE_SECTOR,
        MEMORY_DISK_SWAP_SECTORS,
} MemoryDiskDamage;

/* The bytes that a write replaced. */
typedef struct MemoryDiskUndo {
        char *name;
        uint8_t *bytes;
        uint64_t size, offset;
} MemoryDiskUndo;

typedef struct MemoryDisk {
        Disk base;
        MemoryFile *files; /* sorted by name */
        size_t n, capacity;
        MemoryDiskState state;
        unsigned calls;  /* that changed something */
        unsigned die_at; /* the call that a power cut interrupts; 0: none */
        int fail;        /* negative errno of changing calls; -ENOSPC: of those that need space; 0: none */
        int read_fail;   /* negative errno of reads; 0: none */
        bool fails_once; /* only the next call fails */
        bool in_memory;  /* a failing write is read back until caches are dropped or power is lost, as when a
                            sync fails */
        bool unsynced;   /* a sync does nothing: a power cut also loses some of the last writes */
        MemoryDiskUndo undo[MEMORY_DISK_UNDO_MAX]; /* the last writes of an unsynced disk */
        unsigned n_undo;
        void (*on_read)(uint64_t bytes); /* NULL: no observer */
        Random *random;                  /* borrowed, or 'own' */
        Random own;
} MemoryDisk;

void memory_disk_init(MemoryDisk *disk, uint64_t seed);
void memory_disk_done(MemoryDisk *disk);

/* On the heap, with the randomness of a simulation. */
MemoryDisk *memory_disk_new(Random *random, void (*on_read)(uint64_t bytes));
MemoryDisk *memory_disk_copy(const MemoryDisk *disk); /* an image of the files */
MemoryDisk *memory_disk_free(MemoryDisk *disk);

/* Cut the power: what memory alone holds is lost. */
void memory_disk_cut_power(MemoryDisk *disk);
void memory_disk_start_again(MemoryDisk *disk); /* handles of before the power cut are not used any more */

/* Let changing calls fail with 'error' (0: none); see the members 'fail' and 'in_memory'. */
void memory_disk_set_error(MemoryDisk *disk, int error, bool in_memory);

/* Return the bytes of a file, to be read or corrupted; NULL if there is none. */
uint8_t *memory_disk_file(MemoryDisk *disk, const char *name, size_t *ret_size);
int memory_disk_put(MemoryDisk *disk, const char *name, const void *bytes, size_t size);

/* Corrupt bytes of some log file that an earlier write made durable. The last write of each file is spared:
 * no reader can distinguish its damage from a torn write. -ENOENT: no file has an earlier write. */
int memory_disk_damage(MemoryDisk *disk, MemoryDiskDamage damage);
