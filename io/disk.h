/* The disk under the Raft log: a folder of files, written at an offset and synced. Two implementations:
 * disk_real(), one folder of a real file system, and the simulator's, which can lose and tear what was not
 * synced.
 *
 * All calls block; long ones are made off the loop (loop_work()). Errors are negative errnos. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Disk Disk;
typedef struct DiskFile DiskFile;

typedef struct DiskOps {
        /* Opens, or makes with 'size' bytes of zeroes, in place and durable, and the folder synced. */
        int (*open)(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret);
        void (*close)(DiskFile *file);
        int (*size)(DiskFile *file, uint64_t *ret);
        int (*read)(DiskFile *file, void *bytes, size_t size, uint64_t offset); /* -ENODATA beyond the end */
        int (*write)(DiskFile *file, const void *bytes, size_t size,
                     uint64_t offset);                               /* durable when it returns 0 */
        int (*remove)(Disk *disk, const char *name);                 /* and syncs the folder */
        int (*rename)(Disk *disk, const char *from, const char *to); /* and syncs the folder */
        /* Whatever memory holds of the files and the medium does not is forgotten; errors of writing back are
         * told. No file of the folder is open. */
        int (*settle)(Disk *disk);
        int (*room)(Disk *disk, uint64_t *ret_free, uint64_t *ret_total); /* bytes, for us and in all */
        /* Names in byte order; the caller frees each and the array. */
        int (*list)(Disk *disk, char ***ret, size_t *ret_n);
} DiskOps;

struct Disk {
        const DiskOps *ops;
};

struct DiskFile {
        const DiskOps *ops;
};

/* The folder at 'path', made with mode 0700 if it is not there; locked for this process (-EBUSY: another has
 * it). */
int disk_real_open(const char *path, Disk **ret);
Disk *disk_real_close(Disk *disk); /* NULL allowed; returns NULL */
