/* Rows of the history, as events prints them: shared by events.c and events_row.c. */
#pragma once

#include "client/core/client.h"

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

/* Return how a move ended (move_result_names), of an older daemon by the text of the row; "": of another row.
 */
const char *row_move_result(const JsonValue *row);
/* Append the presence of a machine that the row reports: "up", "lost"; nothing for other rows. */
void append_presence_of(Text *t, const JsonValue *row);

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

/* Append a time as hours, minutes and seconds; with a date unless it is of the day of 'now_ms'; 0: always. */
void append_event_time(Text *t, uint64_t ms, uint64_t now_ms);
