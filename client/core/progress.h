/* Progress lines of a wait, redrawn on a terminal: one line per unit with its machine, its state, and the
 * elapsed time or the reason of the delay.
 *
 * Long lines are cut, never wrapped. If the window is too small, failed units come first, then pending ones.
 * The cursor always stays below the last line: the terminal is usable however the program ends. */
#pragma once

#include "units/lists.h"

typedef enum ProgressMark { PROGRESS_IDLE, PROGRESS_UNDERWAY, PROGRESS_DONE, PROGRESS_FAILED } ProgressMark;

typedef struct Progress Progress;

/* Create a line for each name; its time starts with the first progress_set(). 'names' is borrowed, and
 * the caller may add names. Return NULL if stdout is not such a terminal, or without memory: all functions
 * below accept NULL and do nothing. */
Progress *progress_new(const Names *names);
Progress *progress_free(Progress *p); /* returns NULL */
DEFINE_CLEANUP(Progress *, progress_free)
#define _cleanup_progress_ _cleanup_(progress_freep)

/* Set the line of 'name'. An empty 'place' is drawn as a dash; an empty 'note' as the elapsed time. The time
 * of a line stops while it is done or failed. */
void progress_set(Progress *p, const char *name, ProgressMark mark, const char *place, const char *word,
                  const char *note);

void progress_draw(Progress *p);

/* Return whether the window is too narrow for a note. */
bool progress_is_cut(const Progress *p);

/* Clear the line of the cursor, which may contain "^C", before other output. */
void progress_break(const Progress *p);

/* Return whether stdout is a terminal that can redraw lines. */
bool progress_is_possible(void);
