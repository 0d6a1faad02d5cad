/* Files against units that this folder owns: what to submit, what to remove. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"

/* One file of the folder as it was read. */
typedef struct DirectoryFile {
        char name[256];
        Unit *unit;   /* NULL: it could not be read or is no unit; then it changes nothing */
        char *error;  /* a sentence for NAME.error; NULL when all is well */
} DirectoryFile;

/* What this daemon remembers to have seen in this very folder. */
typedef struct DirectoryRecord {
        char name[256];
        UT_hash_handle hh;
} DirectoryRecord;

typedef struct DirectoryTask {
        enum { DIRECTORY_SUBMIT, DIRECTORY_UPDATE, DIRECTORY_REMOVE } kind;
        const char *name;      /* borrowed from file or record */
        const Unit *unit;      /* borrowed; NULL for removals */
        uint64_t expected_index;
} DirectoryTask;

typedef struct DirectoryDiff {
        DirectoryTask *tasks;
        size_t n, capacity;
        size_t n_held;         /* removals that were not made: too many at once (rule 37) */
} DirectoryDiff;

void directory_diff_done(DirectoryDiff *diff);

/* 'files' sorted by name, their 'error' is set where somebody else has a unit of that name. 'complete': the folder could be
 * read as a whole, and it is the one of the record; only then is an absent file a removal. */
int directory_diff(const Cluster *cluster, const char *machine_id, DirectoryFile *files, size_t n_files, const DirectoryRecord *record,
                   bool complete, DirectoryDiff *ret);
