/* The unit directory on disk: its files as units, and NAME.error beside a file that is rejected. */
#pragma once

#include <dirent.h>

#include "fleetd/directory/diff.h"
#include "units/drop_ins.h"

enum { DIRECTORY_FILES_MAX = 10000 };

typedef struct DirectoryFolder {
        DirectoryFile *files; /* sorted by name */
        size_t n;
        bool complete;           /* false: there are more than DIRECTORY_FILES_MAX */
        bool drop_ins_truncated; /* the same of 'drop_ins': a folder that is not listed may exist */
        DropInFolder *drop_ins;  /* sorted by name */
        size_t n_drop_ins, drop_ins_capacity;
        Names errors; /* NAME of each NAME.error; unsorted */
} DirectoryFolder;

/* Return whether the name is a unit's. Temporary files of editors and of fleetd are none. */
bool directory_folder_name_is_unit(const char *name);

/* Return whether the name is no unit's, but seems to be meant as one: "my app.service", "c.servce". */
bool directory_folder_name_is_misspelt(const char *name);

void directory_folder_done(DirectoryFolder *folder);
#define _cleanup_directory_folder_ _cleanup_(directory_folder_done)

/* Return the file of that name, or NULL. */
DirectoryFile *directory_folder_find(const DirectoryFolder *folder, const char *name);
/* Read the file again with the next scan. NULL: all files. */
void directory_folder_touch(DirectoryFolder *folder, const char *name);

/* A scan in steps, each of limited work. It reads files whose stamp has changed since the previous scan, and
 * files that changed so recently that a further change may leave the stamp as it is. */
typedef struct DirectoryScan {
        const char *path, *machine_id;                           /* borrowed; of the owner of the units */
        unsigned level;                                          /* of the cluster; 0: not known yet */
        bool (*is_unfinished)(void *userdata, const char *name); /* the file is being written */
        void *userdata;
        int dir_fd;  /* borrowed */
        DIR *dir;    /* NULL: all names are read */
        Names names; /* of units */
        DirectoryFolder found;
        size_t at_drop_in, at_file;
        size_t n_read; /* files */
        size_t work;   /* of the last step: names, stamps and files */
} DirectoryScan;

/* The other members are set before. 0 or a negative errno. */
int directory_scan_begin(DirectoryScan *scan, int dir_fd);
/* Execute one step. 'now_ms' is wall-clock time. Returns 1: more steps follow; 0: the scan is complete, and
 * *folder is its result; or a negative errno: *folder is unchanged. */
int directory_scan_step(DirectoryScan *scan, DirectoryFolder *folder, uint64_t now_ms);
void directory_scan_done(DirectoryScan *scan);

/* Write or remove NAME.error, and log a new error. 'index': of the revision in the cluster, or 0. A name that
 * is too long for NAME.error is logged only, unless the problem is 'published'. Return whether the disk was
 * accessed. */
bool directory_folder_write_error(int dir_fd, const char *path, DirectoryFile *file, uint64_t index,
                                  bool published);
/* Remove NAME.error of a file that is gone. */
void directory_folder_remove_error(int dir_fd, const char *name);
