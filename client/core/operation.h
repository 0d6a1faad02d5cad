/* Work of the cluster that continues without the command: starts, stops, moves, drains, leaves, reboots and
 * rollouts. The command waits for its end, and prints each change once. */
#pragma once

#include "client/core/client.h"
#include "client/core/progress.h"
#include "units/lists.h"

typedef enum OperationEnd { OPERATION_INTERRUPTED, OPERATION_TIMED_OUT, OPERATION_SILENT } OperationEnd;

typedef struct OperationType {
        /* Read it, and print changes. Return an exit status when it has ended, -EAGAIN while it continues,
         * -ENODATA without an answer for now, or another error, which ends the wait. */
        int (*look)(void *userdata, Error *err);
        /* Print that it continues after the end of the wait, with the next command. NULL: a signal, also
         * SIGTERM, ends the wait with -EINTR, and is in the client's 'signal'. */
        void (*left)(void *userdata, OperationEnd end);
        /* Print why no state comes, and that the work continues; the wait goes on for 'silent_ms'. NULL: no
         * message. */
        void (*lost)(void *userdata, const char *why);
        uint64_t silent_ms;
        StreamLine on_event; /* gets the events of the cluster, which begin the next look. NULL: none */
} OperationType;

typedef struct Operation {
        Client *client;
        uint64_t began_ms;  /* on the monotonic clock */
        Names items;        /* what has lines: units, hosts */
        char **lines;       /* of each item, as printed last; NULL: none was */
        size_t capacity;    /* of 'lines' */
        Progress *progress; /* on a terminal, while it waits; NULL until the first line is set */
        bool waits;
        uint64_t limit_ms; /* of the wait; 0: none */
        uint64_t next_ms;  /* of the next look, set by each; 0: after a pause */
        Stream *events;    /* NULL: none, or lost */
} Operation;

Operation operation_begin(Client *c);
void operation_done(Operation *o);

/* Return the begin of a message about the end of a wait: "timed out: ". */
const char *operation_end(OperationEnd end);

/* Find the item of this name, or add it. 0 or -ENOMEM. */
int operation_item(Operation *o, const char *name, size_t *ret);
/* Return 1 if the line of an item is news, 0 if it differs at most in times that are left and in the order of
 * its words from the one before, or -ENOMEM. */
int operation_has_news(Operation *o, const char *name, const Text *line);

/* Print "web.service → beta starting: REASON" if that is news; on a terminal, set its progress line, which
 * operation_draw() draws. An empty place is left out. 0 or -ENOMEM. */
int operation_show(Operation *o, const char *name, ProgressMark mark, const char *place, const char *word,
                   const char *note);
void operation_draw(const Operation *o);
void operation_append_elapsed(const Operation *o, Text *t); /* "12.3 s" */

/* Return the exit status of 'look', EXIT_CONTINUES after 'limit_ms', without an answer for 'silent_ms', or
 * after an interrupt, or an error. */
int operation_wait(Operation *o, const OperationType *type, void *userdata, Error *err);
