/* Shared by the handlers of fleet's API. Within fleetd/api only. */
#pragma once

#include "fleetd/api/handlers.h"
#include "units/api_json.h"

enum {
        PAGE_SIZE = 100,
        PAGE_BYTES = 1024 * 1024, /* a page ends with the item that reaches it ... */
        PAGE_WORK = 100000,       /* ... or that exceeds this work of the scheduler (scheduler_view_work()):
                                     about 10 ms */
        PLAN_WORK_MAX = 2000000,  /* the same of one plan, which is made in steps; 1000 units with a pattern
                                     each need less */
        BATCH_MAX = 1000,         /* units */
        OPTIONS_READ_MAX = 45000, /* options and sections in the texts of one plan or batch, about 100 ms; one
                                     text of UNIT_SIZE_MAX has fewer */
};

/* Add the options and sections of a text to *n; it is 0 before the first unit of a request. -E2BIG above
 * OPTIONS_READ_MAX. */
int units_count_options(const Unit *unit, size_t *n, Error *err);

/* Check a parameter "unit", a name or a pattern, and count it; few are permitted. 0 or -EINVAL. */
int parameter_check_pattern(const HttpParameter *p, size_t *n, Error *err);

/* A plan of a feature, which plan_steps.c makes as those of units: in steps, paced for its sender. */
typedef struct PlanType {
        const char *list; /* of the answer: {"LIST":[...]} */
        /* Go on with a new view, to which nothing is added yet: the cluster view has changed. 0 or -ENOMEM.
         */
        int (*renew)(void *self, SchedulerView *view);
        /* Do little more, and write what is planned by it. 1; 2: the view is to be renewed; 0 at the end; or
         * an error for request_refused(); -ENOENT is 404. */
        int (*step)(void *self, Text *t, Error *err);
        void (*free)(void *self);
} PlanType;

/* Make the plan, and answer; 'self' is taken. Return 0. */
unsigned plan_of(Request *request, const PlanType *type, void *self);

enum {
        PAGE_KEY_SIZE = UNIT_NAME_MAX + 1 + MACHINE_ID_SIZE, /* "NAME" of a unit or "NAME/ID" of a state */
        PAGE_TOKEN_SIZE = (PAGE_KEY_SIZE + 8 + 2) / 3 * 4 + 1,
};

/* The requested page of a list. */
typedef struct Page {
        size_t first, n;             /* position of its first item, and items so far */
        unsigned number;             /* from 1 on */
        size_t skip;                 /* items until the first one */
        bool full;                   /* may be set by the caller, when it has one item at least */
        char after[PAGE_KEY_SIZE];   /* key of the item before it; a caller that begins there sets 'skip' to 0
                                      */
        char last[PAGE_KEY_SIZE];    /* key of its last item */
        char token[PAGE_TOKEN_SIZE]; /* of the next one */
} Page;

/* Read which page is requested. False: the token is invalid; then set the reason, for status 400. */
bool page_of(const Request *request, Page *ret, Error *err);
/* Return whether there is room for one more item. */
bool page_wants(const Page *page);
/* Return whether the next item of the list precedes the page. */
bool page_skips(Page *page);
/* Count an item. 'machine': of the key of a state, or NULL; 'name': NULL if no page begins after a key. */
void page_add(Page *page, const char *name, const char *machine);
/* Return the token of the next page, which borrows from 'page'; NULL on the last one: without 'more' items.
 */
const char *page_next(Page *page, bool more);

/* Wait for a change of the registry, whose userdata is the request, and whose 'done' is change_on_done().
 * That answers 'success' with an empty body of 'type' (may be NULL), or the error, which names the 'subject'
 * of the change: "the unit". Both are static. 'r' is what the registry returned; if it is negative, answer
 * 500. Return 0. */
unsigned change_sent(Request *request, const char *subject, int r);
void change_on_done(void *request, KvStatus status, const char *message, uint64_t index);
/* The same; if another change came first, the route decides again on the view that has it. */
void change_on_decided(void *request, KvStatus status, const char *message, uint64_t index);

/* The same for changes that the journal gets, one line each, when the outcome is known. 'n': how many there
 * are; NULL: out of memory. The request owns the result, as its state. */
typedef struct ChangeLines ChangeLines;
ChangeLines *change_lines_new(Request *request, size_t n);
/* Return the text of the next line, to append the change to. Its fields are the unit or the machine; the
 * other one is NULL. */
Text *change_lines_add(ChangeLines *lines, const char *unit, const char *machine);
unsigned change_lines_sent(Request *request, const char *subject, unsigned success, const char *type, int r);
void change_lines_on_done(void *request, KvStatus status, const char *message, uint64_t index);

/* Write "moves": the requested moves that have waited for a minute, with their reasons, up to a limit.
 * Nothing if there is none. */
void moves_write(Text *t, const Request *request);

/* Write as "waiting" the ordinary units of a machine in maintenance for which no other one qualifies, up to
 * a limit of names and work. */
void leave_write_waiting(Text *t, const SchedulerView *view, const ClusterMachine *m);

/* Write "maintenance": the machines that are cordoned, draining or drained, with the number of units that
 * wait; of the leave of a host, cluster_v1.c writes the state. Nothing if there is none. */
void maintenance_write(Text *t, const Cluster *cluster);

/* Write "warnings", the bounds that the set of 'head' cannot satisfy with 'n' instances. Nothing if there are
 * none. */
void plan_write_warnings(Text *t, const ClusterUnit *head, size_t n);

/* Return the unit of a path as /fleet/v1/units/NAME/move, or NULL, with the message for 404. */
const ClusterUnit *request_unit_of(const Request *request, Error *err);

/* Answer with all records of KINDS_BY_NAME of a kind, in the order of their names. */
unsigned request_answer_named(Request *request, const char *name, LayoutKind kind,
                              void (*write)(Text *t, const Cluster *c, const ClusterNamed *x));

/* Return whether the machine may not be removed; then set the reason, and what to do, with the code 409.
 * 'force': it need not be gone for long. */
bool machine_removal_is_refused(const Request *request, const ClusterMachine *m, bool force, Error *ret);

/* A JSON patch of the metadata of machines. The changes borrow from the other members, and have no user. */
typedef struct MetadataPatch {
        MetadataChange *changes;
        size_t n;
        char (*ids)[MACHINE_ID_SIZE];
        JsonValue *root;
} MetadataPatch;

void metadata_patch_done(MetadataPatch *patch);
/* Read and check the patch in the body of a request. Return 0, or the status of the error. */
unsigned metadata_patch_read(const Request *request, MetadataPatch *ret, Error *err);

/* -- Operations of the authority (tokens_v1.c) -- */

/* Return the status for an error (all but 400, 404, 409 and 500 are temporary: 503), and complete its
 * message. */
unsigned authority_refused(int error, Error *err);
/* The same of one that has not begun; or wait for its result. */
unsigned authority_awaited(Request *request, int r, Error *err);
/* Its result is here. Return whether it has failed: that is answered. */
bool authority_failed(Request *request, int error, const char *message);
