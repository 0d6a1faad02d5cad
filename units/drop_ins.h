/* Drop-ins: parts of a unit file in files of their own, NAME.d/FILE.conf in the same folder.
 *
 * In the cluster, a unit is one text: the file, then its drop-ins in the order of their file names, each
 * after a comment with its name. Sections repeat in this text, and systemd treats that as it treats drop-ins:
 * a later value overrides an earlier one, lists are extended, an empty value resets a list.
 *
 * Folders and their priority are systemd's: those of the unit and of its template, of each prefix that ends
 * in a dash (web-.service.d; for an instance also web-@1.service.d and web-@.service.d), of the type
 * (service.d). Of several files with one name, that of the most specific folder counts; an empty file masks
 * the others.
 *
 * Source: systemd.unit(5). */
#pragma once

#include "base/file.h"
#include "base/text.h"
#include "units/name.h"

enum { DROP_INS_MAX = 64 /* in one folder */ };

#define DROP_IN_SUFFIX ".conf"

typedef struct DropInFolder {
        char name[UNIT_NAME_MAX + 3]; /* "web@.service.d" */
        bool of_instance;             /* the template of the unit has no such folder */
        bool lent;                    /* 'files' is borrowed */
        FolderFile *files;            /* sorted by name, as read_folder_at() gives them */
        size_t n;
        int error; /* of reading the files, for the caller that reads; 0: none */
} DropInFolder;

typedef struct DropIns {
        DropInFolder *folders; /* the most specific one first */
        size_t n, capacity;
        int error;                    /* of drop_ins_init(): 0 or -ENOMEM */
        const DropInFolder **by_name; /* sorted, by drop_ins_sort() */
        size_t compared;              /* names, by drop_ins_find() */
} DropIns;

/* Set the folders for a unit of that name, without files. Return 0 or -ENOMEM. */
int drop_ins_init(DropIns *d, const char *name);
void drop_ins_done(DropIns *d);
#define _cleanup_drop_ins_ _cleanup_(drop_ins_done)

/* Prepare drop_ins_find(). 0 or -ENOMEM. */
int drop_ins_sort(DropIns *d);
/* Return the folder that 'path' begins with, followed by a slash; NULL: none. A text of a client may have a
 * path in each line, and a name with many dashes has hundreds of folders: few names are compared. */
const DropInFolder *drop_ins_find(DropIns *d, const char *path);

/* Whether a folder of that name may contain drop-ins of a unit. */
bool drop_ins_folder_check(const char *folder);

/* Append the drop-ins to the text of the unit's file. Each has to be a valid unit file of its own, so that
 * its lines do not extend a section of the file before. Errors (-EBADMSG and others) begin with folder and
 * file. */
int drop_ins_append(const DropIns *d, Text *t, Error *err);
