/* The watched folder on disk: its files as units, and what people see beside them. */
#pragma once

#include "fleetd/directory/diff.h"
#include "units/drop_ins.h"

enum { UNIT_FOLDER_MAX = 10000 };

typedef struct UnitFolder {
        DirectoryFile *files; /* sorted by name */
        size_t n;
        bool complete;        /* false: there are more than UNIT_FOLDER_MAX */
        DropInFolder *drop_ins; /* all that are there, sorted by name */
        size_t n_drop_ins;
} UnitFolder;

/* Editors' and our own files are nobody's units; neither is what has no unit's name. */
bool unit_folder_name_is_unit(const char *name);

/* Reads all of it. 'is_unfinished' says of a name that somebody writes that file. Units are of 'machine_id' and 'path'. */
int unit_folder_read(int dir_fd, const char *path, const char *machine_id, bool (*is_unfinished)(void *userdata, const char *name), void *userdata,
                UnitFolder *ret);
void unit_folder_done(UnitFolder *folder);
#define _cleanup_unit_folder_ _cleanup_(unit_folder_done)

/* NAME.error beside a file that is refused, and the journal; when it is in order again it goes. 'index' of the version that the
 * cluster has, or 0. */
void unit_folder_write_error(int dir_fd, const char *path, const DirectoryFile *file, uint64_t index);
void unit_folder_remove_error(int dir_fd, const char *name); /* of a file that is gone */
