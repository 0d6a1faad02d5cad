/* The state of the cluster for status without arguments, and the problems that it contains. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

/* Read by several requests. */
typedef struct View {
        Listing machines; /* also lost ones */
        Reply answer;     /* about the cluster */
        JsonValue *cluster;
        JsonValue **pages; /* of the problems */
        size_t n_pages, pages_capacity;
        const JsonValue **problems; /* in the pages */
        size_t n_problems, problems_capacity;
        JsonValue **history; /* the oldest first; none if the daemon keeps no history */
        size_t n_history, history_capacity;
} View;

enum {
        VIEW_RECENT_MS = 3600000, /* rows of this time are read, */
        VIEW_RECENT_MAX = 1000,   /* up to this number */
};

/* Read all but the history. */
int view_read(Client *c, View *v, Error *err);
/* Read the last 'max' rows of the time 'span_ms' until now into v->history: those of one unit, or with NULL
 * all. Older daemons and lower feature levels have none. 0 or an error. */
int view_read_history(Client *c, View *v, const char *unit, uint64_t span_ms, unsigned max, Error *err);
void view_done(View *v);

/* Return whether a member of "voters" votes: older daemons list voters only. */
bool member_is_voter(const JsonValue *member);

/* Return whether the cluster was recovered or restored, and waits for the report of the machine, whose
 * presence is that of the backup. 'cluster': the answer about it. */
bool cluster_awaits(const JsonValue *cluster, const Listing *machines, const ApiMachine *m);

/* Print the cluster, its problems first, for status without arguments. Return EXIT_FAILED if there are any.
 */
int overview(Client *c, Error *err);
