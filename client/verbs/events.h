/* The history of the cluster. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"
#include "units/verdict.h"

/* A row. Its strings are owned; "" for none. */
typedef struct EventRow {
        uint64_t first_ms, last_ms, count, index;
        char *unit, *machine; /* the ID of the machine */
        char *text;           /* what happened, without repetitions */
        char *line;           /* as received */
        bool bad;             /* a problem */
        bool requested;       /* by a user, or a unit directory */
} EventRow;

void event_row_done(EventRow *row);
/* Read a line of the API. 'root' is its value. -ENOMEM. */
int event_row_read(const JsonValue *root, const char *line, size_t size, EventRow *ret);

/* Set what the row states, also one of an older daemon. */
void row_verdict(const JsonValue *row, Verdict *ret);

/* The widths of columns, which only grow. */
typedef struct EventColumns {
        uint64_t now_ms; /* times of another day have a date */
        size_t time, unit, machine, text;
} EventColumns;

/* Adapt the columns to a row. 0 or -ENOMEM. */
int event_columns_fit(EventColumns *c, const EventRow *row, const char *machine);

/* Print the row: aligned, and wrapped to the terminal; in a pipe with tabs and full dates. 'followed': at
 * once. */
int event_row_print(const EventColumns *c, const EventRow *row, const char *machine, bool followed);

/* No entry of "log" has these matches: print which unit (UNIT=) or machine (MACHINE=) of them nothing knows.
 * 'partly': other machines have not answered. The result is that of a verb. */
int events_explain_matches(Client *c, const Listing *machines, char **args, size_t n, bool partly,
                           Error *err);
/* Print which of the fields of these matches fleetd never writes. */
void events_note_fields(char **args, size_t n);

/* Append the latest changes in the presence of machines, oldest first: "12:04:11 beta is lost    12:09:40
 * beta is up". 'rows' are those of the history, oldest first. 0 or -ENOMEM. */
int events_append_recent(JsonValue *const *rows, size_t n, const Listing *machines, Text *ret);
