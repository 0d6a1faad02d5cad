/* The watched folder of unit files: what appears is started, what changes is updated, what its owner removes
 * goes.
 *
 * inotify only wakes it; then the whole folder is scanned, some files a turn: what has another stamp (inode,
 * size, times) than before is read. Only a scan that is through is compared with what it owns in the
 * registry; a change of the registry compares again without a scan, and what is to be removed is looked for
 * once more by its name. A file that is refused leaves NAME.error beside it and changes nothing. Absence is
 * not deletion: a unit goes only if this daemon's own record saw its file in this very folder (device,
 * inode), and a third of the files, at least three, do not go at once. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Directory Directory;

typedef struct DirectoryOptions {
        const char *path;       /* the folder; may be absent, and come later */
        const char *record_dir; /* where the record is kept */
        const char *machine_id;
} DirectoryOptions;

int directory_new(Directory **ret, Loop *loop, Registry *registry, const DirectoryOptions *options,
                  Error *err);
Directory *directory_free(Directory *d);

/* Since it was made. */
typedef struct DirectoryCounts {
        uint64_t scans, read; /* of the folder; files */
} DirectoryCounts;

DirectoryCounts directory_counts(const Directory *d);
