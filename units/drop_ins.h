/* Drop-ins: parts of a unit file that lie in files of their own, NAME.d/FILE.conf beside it.
 *
 * For the cluster a unit is one text: the file, then its drop-ins in the order of their file names, each behind a comment that names
 * it. Sections repeat then, which systemd reads as it reads drop-ins: a later value goes over an earlier one, lists add up, an empty
 * value empties a list. An instance has those of its template (web@.service.d), too; of two with one file name that of the instance
 * counts. An empty file takes the other away, and adds nothing. */
#pragma once

#include "base/file.h"
#include "base/text.h"
#include "units/name.h"

enum { DROP_IN_FOLDERS = 2, DROP_INS_MAX = 64 /* in one folder */ };

#define DROP_IN_SUFFIX ".conf"

typedef struct DropIns {
        struct {
                char name[UNIT_NAME_MAX + 3]; /* "web@.service.d" */
                FolderFile *files;            /* owned; sorted by name, as read_folder_at() gives them */
                size_t n;
        } folders[DROP_IN_FOLDERS];           /* from the general to the special */
        size_t n;
} DropIns;

/* Without files yet, the folders that concern a unit of that name. */
void drop_ins_init(DropIns *d, const char *name);
void drop_ins_done(DropIns *d);
#define _cleanup_drop_ins_ _cleanup_(drop_ins_done)

/* Appends them to the text of the unit's file; nothing is appended where there is none. -EBADMSG and others with a sentence that begins
 * with folder and file: each has to be a unit file by itself, so that no line of it falls into another's section. */
int drop_ins_append(const DropIns *d, Text *t, Error *err);
