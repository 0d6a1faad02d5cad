/* Tables: in a pipe fleet's, with tabs; on a terminal aligned to its width, with colour. The only home of
 * libsmartcols. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

typedef struct Table Table;

/* Headers are copied. NULL without memory; so for the rows below -ENOMEM. */
Table *table_new(const char *const *headers, size_t n_columns);
Table *table_free(Table *t); /* returns NULL */
DEFINE_CLEANUP(Table *, table_free)
#define _cleanup_table_ _cleanup_(table_freep)

/* Adds a cell, from left to right, row by row; "" and NULL are shown as nothing. */
int table_add(Table *t, const char *text);

/* Would it be wider than this terminal? False in a pipe. */
bool table_is_too_wide(const Table *t);

/* Prints to stdout. 0 or a negative errno. */
int table_print(const Table *t, bool legend);

/* What fleetctl prints is in part the text of others: keys, values, journals, reasons, errors of a server.
 * From here on a terminal gets all that is written to stdout and stderr with what it would act upon escaped,
 * but for newline and tab (base/text.h). A pipe gets the bytes as they are. */
void output_init(void);

/* Write to stdout what drives a terminal: colours, and lines that are written again. What is in it from
 * others is escaped already. 0 or a negative errno. */
int output_control(const char *s);

/* Print a name: on a terminal newline and tab are escaped, too. 0 or a negative errno, as of all these. */
int output_name(const void *bytes, size_t size);
int output_text(const void *bytes, size_t size);
int output_line(const char *s); /* output_text() and a newline */

/* Has something that was printed not been written? */
bool output_has_failed(void);
/* Write what is left. 'status', or 1 and a message on stderr where not all of the output could be written. */
int output_finish(int status);

/* Columns of a terminal that 's' takes: a character is one. */
size_t output_width(const char *s);

/* Has this terminal colours, and does its owner want them? (https://no-color.org) */
bool output_has_colours(void);

/* The colour of a state as an escape sequence: green for what runs, red for what failed; "" for all others.
 */
const char *output_state_colour(const char *state);
#define COLOUR_OFF "\033[0m"
