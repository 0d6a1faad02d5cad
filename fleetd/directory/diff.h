/* Files against units that this folder owns: what to submit, what to adopt, what to remove, and what only
 * people can decide. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "units/name.h"

/* By which a file is known again without being read: what changes it changes one of these, at least when some
 * time has gone by. */
typedef struct FileStamp {
        uint64_t device, inode, size;
        int64_t modified_ns, changed_ns;
} FileStamp;

/* One file of the folder as it was read. */
typedef struct DirectoryFile {
        char name[UNIT_NAME_MAX + 1];
        FileStamp stamp;
        uint64_t drop_ins; /* sum of the drop-ins that it was read with */
        bool again;        /* to be read at the next scan, whatever its stamp says */
        bool has_error;    /* NAME.error lies beside it */
        uint64_t told;     /* sum of what it says; 0: not known */
        size_t same; /* while it is scanned: of the file of the scan before that it is, counted from 1 */
        Unit *unit;  /* NULL: it could not be read or is no unit; then it changes nothing */
        char *fault; /* why the unit may not be submitted, as text for NAME.error; NULL: it may. One that is
                        stored already stays */
        char *error; /* a sentence for NAME.error; NULL when all is well */
        ProblemKind kind; /* of the error */
        bool unfinished;  /* somebody writes it: it changes nothing, and what is said of it stays */
} DirectoryFile;

/* What this daemon remembers to have seen in this very folder. */
typedef struct SeenFile {
        char name[UNIT_NAME_MAX + 1];
        bool there; /* a file has this name: while a record is brought up to date */
        UT_hash_handle hh;
} SeenFile;

/* The folder at one look. */
typedef struct DirectoryView {
        const char *machine_id, *path;
        DirectoryFile *files; /* sorted by name; 'error' is set where somebody else has a unit of that name */
        size_t n_files;
        const SeenFile *record;
        bool complete; /* all of it could be read: what is not among the files is not there */
        bool same;     /* it is the folder of the record */
} DirectoryView;

typedef enum DirectoryTaskKind {
        DIRECTORY_SUBMIT,    /* the cluster has none of that name */
        DIRECTORY_UPDATE,    /* another text */
        DIRECTORY_ADOPT,     /* the same unit, whose owner is gone */
        DIRECTORY_TAKE_OVER, /* somebody else's: people have said so */
        DIRECTORY_REMOVE,
        _DIRECTORY_TASK_MAX,
} DirectoryTaskKind;

typedef struct DirectoryTask {
        DirectoryTaskKind kind;
        const char *name; /* borrowed from file or cluster */
        const Unit *unit; /* borrowed; NULL for removals */
        uint64_t expected_index;
} DirectoryTask;

/* A unit that is kept though its file is gone. */
typedef struct DirectoryHeld {
        const ClusterUnit *unit; /* borrowed */
        bool seen; /* its file was seen in this folder: too many have gone at once; else the folder is another
                    */
} DirectoryHeld;

typedef struct DirectoryDiff {
        DirectoryTask *tasks;
        size_t n, capacity;
        DirectoryHeld *held; /* by name (rule 37) */
        size_t n_held, held_capacity;
} DirectoryDiff;

void directory_diff_done(DirectoryDiff *diff);

/* A third of the files, at least three, do not go at once; who is held once stays so until the file is back,
 * or people confirm (the problem key of this machine says both). A unit of another machine's directory is
 * adopted, by who has the same, when that one has left, or is lost for ten minutes. 0 or -ENOMEM. */
int directory_diff(const Cluster *cluster, const DirectoryView *view, DirectoryDiff *ret);

DirectoryFile *directory_file(const DirectoryView *view, const char *name); /* NULL: it is not there */
