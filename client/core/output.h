/* Tables and other output: the format of fleet in a pipe, with tabs; aligned and coloured on a terminal. The
 * only file that includes libsmartcols. */
#pragma once

#include "base/text.h"
#include "units/lists.h"

/* A table keeps its first failure: table_print() returns it. */
typedef struct Table {
        Names headers;
        Names cells; /* row by row */
        int error;
        unsigned right; /* bits: columns whose cells end at the right, on a terminal */
} Table;

/* Names of columns are separated by commas, and printed in upper case up to a slash. ">" before a name: its
 * cells are numbers, which end at the right. */
Table table_begin(const char *headers);
void table_done(Table *t);
#define _cleanup_table_ _cleanup_(table_done)

/* Add a cell, from left to right, row by row. table_row() has all cells of a row. "" is printed as "-", but
 * not by table_add_text(). */
void table_add_text(Table *t, const char *text);
void table_add(Table *t, const Text *cell);
void table_cell(Table *t, const char *format, ...) _printf_(2, 3);
void table_row(Table *t, const char *first, ...);

/* Return whether the table is wider than the terminal; false in a pipe. */
bool table_is_too_wide(const Table *t);

/* Remove columns while the table is wider than the terminal: first those of 'headers', separated by commas,
 * that have only "-", then the others, from left to right. A pipe keeps all columns. */
void table_fit(Table *t, const char *headers);

/* Append what a terminal would show, without the last newline, with its control characters for colours. */
int table_append(const Table *t, bool legend, Text *ret);

/* Print to stdout. Return 0 or a negative errno. */
int table_print(const Table *t, bool legend);

/* Replace stdout and stderr if they are terminals. fleetctl prints text of others: keys, values, journals,
 * reasons, error answers. On a terminal all bytes that control it are then escaped, except newline and tab
 * (text_append_printable_bytes()). A pipe gets the bytes unchanged. */
void output_init(void);

/* Write terminal control sequences to stdout: colours, lines that are redrawn. The caller has escaped all
 * text of others. Return 0 or a negative errno. */
int output_control(const char *s);

/* Write to stdout. output_name() also escapes newline and tab on a terminal. Return 0 or a negative errno. */
int output_name(const void *bytes, size_t size);
int output_text(const void *bytes, size_t size);
int output_line(const char *s);  /* adds a newline */
int output_built(const Text *t); /* the same; returns the error of a text, which output_finish() reports */

/* Write what follows to nowhere, as if stdout were no terminal, or again to stdout. 0 or a negative errno. */
int output_discard(bool discards);

/* Return whether some output could not be written. */
bool output_has_failed(void);

int output_flush(void); /* stdout, now. Return 0 or a negative errno */

/* Flush stdout. Return 'status', or print an error and return 1 if some output could not be written. */
int output_finish(int status);

/* Return the columns of the terminal; 0 in a pipe, or if they are unknown. */
size_t output_columns(void);
size_t output_rows(void); /* the same for its rows */

/* Return the columns of 's' on a terminal. */
size_t output_width(const char *s);

/* Append at most 'width' columns of 's', with an ellipsis for a cut. Names are cut in the middle, if there is
 * enough space: names of units differ at their ends. */
void output_cut(Text *t, const char *s, size_t width, bool in_middle);

/* Return the size of the part of 's' that fits into 'width' columns: whole words, if the first one fits. */
size_t output_line_size(const char *s, size_t width);

/* Print a line after 'first' spaces, and its rest in lines with 'indent' of them; 'columns' 0: none. */
void output_wrap(const char *s, size_t columns, size_t first, size_t indent);

/* Print a line. A terminal continues it, at a word, after 'indent' columns. If the text has an error,
 * output_finish() reports it. */
void output_words(const Text *t, size_t indent);

/* Print a line that ends with 'gap' and 'last'. On a narrow terminal 'last', a command, has a line of its
 * own.
 */
void output_words_and(const Text *t, const char *gap, const Text *last, size_t indent);

/* Return whether stdout is a terminal with colours, and the user has not disabled them
 * (https://no-color.org). */
bool output_has_colours(void);

/* Return the escape sequence for the colour of a state: green for active states, red for failed ones, yellow
 * for transitions, "" for all others. */
const char *output_state_colour(const char *state);
#define COLOUR_OFF "\033[0m"
