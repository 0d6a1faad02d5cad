/* The watched folder on disk: its files as units, and what people see beside them. */
#pragma once

#include <dirent.h>

#include "fleetd/directory/diff.h"
#include "units/drop_ins.h"

enum { DIRECTORY_FILES_MAX = 10000 };

typedef struct DirectoryFolder {
        DirectoryFile *files; /* sorted by name */
        size_t n;
        bool complete;          /* false: there are more than DIRECTORY_FILES_MAX */
        DropInFolder *drop_ins; /* all that are there, sorted by name */
        size_t n_drop_ins, drop_ins_capacity;
        Names errors; /* NAME of each NAME.error that is there; unsorted */
} DirectoryFolder;

/* Editors' and our own files are nobody's units; neither is what has no unit's name. */
bool directory_folder_name_is_unit(const char *name);

void directory_folder_done(DirectoryFolder *folder);
#define _cleanup_directory_folder_ _cleanup_(directory_folder_done)

DirectoryFile *directory_folder_find(const DirectoryFolder *folder,
                                     const char *name); /* NULL: it is not there */
/* The file is read at the next scan. NULL: all of them. */
void directory_folder_touch(DirectoryFolder *folder, const char *name);

/* A scan of the folder in steps, so that no turn of the loop is long. Only what has another stamp than at the
 * scan before is read, and what was changed so lately that its stamp may stay the same. */
typedef struct DirectoryScan {
        const char *path, *machine_id;                           /* borrowed; units are of these */
        bool (*is_unfinished)(void *userdata, const char *name); /* somebody writes that file */
        void *userdata;
        int dir_fd;  /* borrowed */
        DIR *dir;    /* NULL: all names are known */
        Names names; /* of units */
        DirectoryFolder found;
        size_t at_drop_in, at_file;
        size_t n_read; /* files */
        size_t work;   /* of the last step: names, stamps, and what was read */
} DirectoryScan;

int directory_scan_begin(DirectoryScan *scan,
                         int dir_fd); /* the other members are set before; 0 or a negative errno */
/* One step; 'now_ms' of the wall clock. 1: there is more, 0: the scan is through, and *folder is what it
 * found; or a negative errno: nothing is known. */
int directory_scan_step(DirectoryScan *scan, DirectoryFolder *folder, uint64_t now_ms);
void directory_scan_done(DirectoryScan *scan);

/* All steps at once. */
int directory_folder_read(int dir_fd, const char *path, const char *machine_id,
                          bool (*is_unfinished)(void *userdata, const char *name), void *userdata,
                          DirectoryFolder *ret);

/* NAME.error beside a file that is refused, and the journal; when it is in order again it goes. 'index' of
 * the version that the cluster has, or 0. A name that leaves no room for ".error" has no such file: the
 * journal alone says it, unless it was 'told'. Returns whether the disk was asked. */
bool directory_folder_write_error(int dir_fd, const char *path, DirectoryFile *file, uint64_t index,
                                  bool told);
void directory_folder_remove_error(int dir_fd, const char *name); /* of a file that is gone */
