/* The disk of the Raft log: a folder of files that are written at an offset and synced. Two implementations:
 * a folder of a real file system, and the simulator's, which can lose and tear writes that were not synced.
 *
 * All calls block; run long ones off the loop (loop_work()). Errors are negative errnos. */
#pragma once

#include "base/memory.h"

typedef struct Disk Disk;
typedef struct DiskFile DiskFile;

typedef struct DiskOps {
        /* Open a file, or create it with 'size' zero bytes, which are allocated and durable, as is its name.
         */
        int (*open)(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret);
        void (*close)(DiskFile *file);
        int (*size)(DiskFile *file, uint64_t *ret);
        int (*read)(DiskFile *file, void *bytes, size_t size,
                    uint64_t offset); /* -ENODATA: the file is shorter */
        int (*write)(DiskFile *file, const void *bytes, size_t size, uint64_t offset); /* durable on return */
        int (*remove)(Disk *disk, const char *name);                                   /* durable on return */
        int (*rename)(Disk *disk, const char *from, const char *to);                   /* durable on return */
        /* Drop cached content of the files that differs from the medium, and report errors of earlier
         * writeback. No file of the folder may be open. */
        int (*drop_caches)(Disk *disk);
        int (*space)(Disk *disk, uint64_t *ret_free,
                     uint64_t *ret_total); /* bytes: available, and in total */
        /* Return the names in byte order; the caller frees each and the array. */
        int (*list)(Disk *disk, char ***ret, size_t *ret_n);
} DiskOps;

struct Disk {
        const DiskOps *ops;
};

struct DiskFile {
        const DiskOps *ops;
};

/* Open the folder at 'path', create it with mode 0700 if it does not exist, and lock it. -EBUSY: another
 * process has locked it. */
int disk_real_open(const char *path, Disk **ret);
Disk *disk_real_close(Disk *disk); /* NULL allowed; returns NULL */
