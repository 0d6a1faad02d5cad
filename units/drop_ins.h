/* Drop-ins: parts of a unit file that lie in files of their own, NAME.d/FILE.conf beside it.
 *
 * For the cluster a unit is one text: the file, then its drop-ins in the order of their file names, each
 * behind a comment that names it. Sections repeat then, which systemd reads as it reads drop-ins: a later
 * value goes over an earlier one, lists add up, an empty value empties a list. The folders are systemd's, and
 * so is their rank: those of the unit and of its template, of each prefix that ends in a dash
 * (web-.service.d; for an instance web-@1.service.d and web-@.service.d, too), of the type (service.d). Of
 * several with one file name that of the most special folder counts; an empty file takes the others away, and
 * adds nothing.
 *
 * Source: systemd.unit(5); the lab compares with DropInPaths. */
#pragma once

#include "base/file.h"
#include "base/text.h"
#include "units/name.h"

enum { DROP_INS_MAX = 64 /* in one folder */ };

#define DROP_IN_SUFFIX ".conf"

typedef struct DropInFolder {
        char name[UNIT_NAME_MAX + 3]; /* "web@.service.d" */
        bool of_instance;             /* its template has not got it */
        bool lent;                    /* the files are somebody else's */
        FolderFile *files;            /* sorted by name, as read_folder_at() gives them */
        size_t n;
        int error; /* why they could not be read, for who reads; 0: they were, or there are none */
} DropInFolder;

typedef struct DropIns {
        DropInFolder *folders; /* from the special to the general */
        size_t n, capacity;
} DropIns;

/* Without files yet, the folders that concern a unit of that name. 0 or -ENOMEM. */
int drop_ins_init(DropIns *d, const char *name);
void drop_ins_done(DropIns *d);
#define _cleanup_drop_ins_ _cleanup_(drop_ins_done)

/* Whether drop-ins of some unit may lie in a folder of that name. */
bool drop_ins_folder_check(const char *folder);

/* Appends them to the text of the unit's file; nothing is appended where there is none. -EBADMSG and others
 * with a sentence that begins with folder and file: each has to be a unit file by itself, so that no line of
 * it falls into another's section. */
int drop_ins_append(const DropIns *d, Text *t, Error *err);
