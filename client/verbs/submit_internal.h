/* The submission of files, before the first unit is submitted: client/verbs/submit.c and
 * client/verbs/submit_check.c. */
#pragma once

#include "client/core/files.h"
#include "client/verbs/replace.h"

/* One argument, its local file, and its text in the cluster. */
typedef struct Submission {
        const char *given; /* the argument; borrowed */
        char *argument;    /* with the type of the unit */
        char *name;
        Unit *unit;         /* of the local file; NULL: there is none */
        bool from_template; /* 'unit' is of the local template */
        char *text;    /* to submit: of the template in the cluster, with the drop-ins of this instance; NULL:
                          the text of 'unit' */
        Text drop_ins; /* of the instance, not of its template */
        bool exists;   /* in the cluster */
        bool runs;     /* on a host, from this file, and without the cluster */
        bool launched; /* with target state launched, and it is replaced */
        bool loaded;   /* with target state loaded, which it keeps, and it is replaced */
        bool rolls;    /* its text is replaced step by step, by the daemons; its target state stays */
        const char *follows; /* with 'rolls': the template with the same text; NULL: none. Borrowed from
                                Submissions.templates */
        bool leaves;         /* the template that it follows */
        const char *goal; /* hash of the text of the set that it follows; "": of any; NULL: it follows none.
                             Borrowed */
        char *note;       /* that it follows a template, or no longer; NULL: there is nothing to note */
        size_t set;       /* with 'rolls': the first submission of the same set */
        bool differs;     /* its file has another text than the unit, which stays, and can replace it */
        bool due;         /* has to be submitted */
} Submission;

typedef struct Submissions {
        Submission *items;
        size_t n;
        bool rolls; /* the daemons roll texts out */
        ReplaceTemplates templates;
        Names instances; /* that units start, and that were looked up for warnings */
        Names required;  /* units that others require, and whose places were read for warnings */
        Names paths;     /* of keys: submit_add_paths() */
} Submissions;

/* Warn of a unit that is required, and may run on another machine: systemd would not find it; and of an
 * instance that is no unit of the cluster, as its template is. Each such unit is asked for once. */
void submit_warn_required(Client *c, Submissions *all, const Submission *s);

/* Warn of texts whose last rollout failed or was reverted. */
void submit_warn_failed(Client *c, const Submissions *all);

/* Print which instances leave their templates, and which units the new texts stop, because no machine
 * qualifies for them, and ask at a terminal; elsewhere, both are warnings. 0 or an
 * error; -ECANCELED: the answer was no. */
int submit_confirm(Client *c, const Submissions *all, Error *err);
