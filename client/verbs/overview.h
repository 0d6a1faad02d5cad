/* The state of the cluster for status without arguments, and the problems that it contains. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

/* Read by several requests. */
typedef struct View {
        Listing machines; /* also lost ones */
        Listing units, states;
        Reply answer; /* about the cluster */
        JsonValue *cluster;
        JsonValue *directories; /* NULL: the daemon does not report them */
        JsonValue **history;    /* rows of the last hour; none if the daemon keeps no history */
        size_t n_history, history_capacity;
} View;

/* Read the rows of the last hour into v->history: those of one unit, or with NULL all. Older daemons and
 * lower feature levels have none. 0 or an error. */
int view_read_history(Client *c, View *v, const char *unit, Error *err);
void view_done(View *v);

/* Return whether the row counts restarts that continue. Of frequent ones, not all are published. */
bool history_is_loop(const JsonValue *row);
/* Append the loop on the machine named 'place': "restarts in a loop on beta: at least 9 times since 12:04,
 * last 2 s ago". */
void history_append_loop(Text *t, const JsonValue *row, const char *place);

/* One row of the screen. */
typedef struct Condition {
        const char *kind;  /* a word for programs, listed in fleetctl(1); borrowed */
        char *name, *what; /* the object and the description, with text of others */
        char *next;        /* arguments of fleetctl for the next step; "" for none */
} Condition;

typedef struct Conditions {
        Condition *items;
        size_t n, capacity;
        int error; /* -ENOMEM: incomplete */
} Conditions;

void conditions_done(Conditions *all);

/* Return whether a member of "voters" votes: older daemons list voters only. */
bool member_is_voter(const JsonValue *member);

/* Return whether the machine is this host, of which no presence was recorded yet: it has just founded the
 * cluster, and was never lost. */
bool view_is_new(const View *v, const ApiMachine *m);
/* Return whether this host was removed from the cluster: its view of the others is of no use. */
bool view_is_removed(const View *v);
/* Return whether the cluster was recovered or restored, and waits for the report of the machine: the line of
 * that problem names it, and its presence is that of the backup. */
bool view_awaits(const View *v, const ApiMachine *m);
/* The same, with the answer about the cluster. */
bool cluster_awaits(const JsonValue *cluster, const Listing *machines, const ApiMachine *m);
/* Return whether the unit is on another machine now: a failure on this one is no present problem. */
bool view_has_left(const View *v, const char *name, const char *machine);
/* Return whether the rollout of this name is paused. */
bool view_has_paused(const View *v, const char *name);
/* Return whether a rollout is paused because the unit is in this state, for the same reason. */
bool view_is_paused_by(const View *v, const ApiState *s);
/* Return whether the machine of this ID is up. */
bool view_is_up(const View *v, const char *id);
/* Append where the file of a paused rollout is, if it is in a unit directory: "; its file is on alpha". */
void append_paused_file(Text *t, const View *v, const char *name);
/* Find all problems; those of the whole cluster come first. */
void conditions_find(const View *v, Conditions *ret);

/* Print the cluster, its problems first, for status without arguments. Return EXIT_FAILED if there are any.
 */
int overview(Client *c, Error *err);
