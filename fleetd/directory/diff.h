/* The files of a unit directory compared with the units that it owns: what to submit, adopt, remove, or hold
 * until an operator decides. Pure. */
#pragma once

#include "base/file.h"
#include "units/named.h"
#include "fleetd/registry/cluster.h"
#include "units/name.h"

/* One file of the directory. */
typedef struct DirectoryFile {
        char name[UNIT_NAME_MAX + 1];
        FileStamp stamp;
        uint64_t drop_ins_sum; /* of the drop-ins that it was read with */
        bool reread;           /* with the next scan, even if the stamp is unchanged */
        bool has_error;        /* NAME.error exists */
        uint64_t error_sum;    /* of the contents of NAME.error; 0: unknown */
        size_t previous; /* during a scan: the same file in the previous scan, counted from 1; 0: none */
        Unit *unit;      /* NULL: unreadable, or not a unit; then it changes nothing */
        char *fault; /* why the unit may not be submitted; NULL: it may. A unit that is stored already remains
                      */
        char *error; /* the message for NAME.error; NULL: none */
        ProblemKind kind; /* of the error */
        bool unfinished;  /* being written: it changes nothing, and its problem remains */
} DirectoryFile;

/* Return the file of that name, or NULL. 'files' is sorted by name. */
DirectoryFile *directory_file_find(DirectoryFile *files, size_t n, const char *name);

/* A file that this daemon has seen in this very directory. */
typedef struct SeenFile {
        Named file;
        bool there; /* while the record is updated: the file exists */
} SeenFile;

/* The directory as scanned. */
typedef struct DirectoryView {
        const char *machine_id, *path;
        DirectoryFile *
                files; /* sorted by name; the diff sets 'error' where another owner has a unit of that name */
        size_t n_files;
        const Named *record; /* SeenFile, by name */
        bool complete;       /* a file that is not listed does not exist */
        bool same;           /* the record is about this directory */
} DirectoryView;

typedef enum DirectoryTaskKind {
        DIRECTORY_SUBMIT,    /* the cluster has no unit of that name */
        DIRECTORY_UPDATE,    /* another text */
        DIRECTORY_ADOPT,     /* the same unit, whose owner is gone */
        DIRECTORY_TAKE_OVER, /* the unit of another owner: an operator has confirmed it */
        DIRECTORY_REMOVE,
        _DIRECTORY_TASK_MAX,
} DirectoryTaskKind;

typedef struct DirectoryTask {
        DirectoryTaskKind kind;
        const char *name; /* borrowed from file or cluster */
        const Unit *unit; /* borrowed; NULL for removals */
        bool retargets;   /* an update, with another TargetState= */
        uint64_t expected_index;
} DirectoryTask;

/* A unit that remains although its file is gone. */
typedef struct DirectoryHeld {
        const ClusterUnit *unit; /* borrowed */
        char *text;              /* the message for people; owned; NULL before the unit is judged */
        bool seen; /* in this directory, and too many files disappeared at once; else in another directory */
} DirectoryHeld;

typedef struct DirectoryDiff {
        DirectoryTask *tasks;
        size_t n, capacity;
        DirectoryHeld *held; /* by name */
        size_t n_held, held_capacity;
        size_t checked; /* by cluster_check_followers() */
} DirectoryDiff;

void directory_diff_done(DirectoryDiff *diff);

/* Compute the tasks. If a third of the files, and at least three, disappear at once, their units are held
 * until the file returns or an operator confirms (the problem key of this machine records both). A unit of
 * another machine's directory is adopted by a machine with the same file, when the owner has left or is lost
 * for ten minutes. 0 or -ENOMEM. */
int directory_diff(const Cluster *cluster, const DirectoryView *view, DirectoryDiff *ret);
