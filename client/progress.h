/* The lines of what is waited for, on a terminal that can write them again: one a unit, with place, state,
 * and how long it takes or why it takes so long.
 *
 * What does not fit is cut, never wrapped, and of more units than the window has lines those are shown that
 * people have to look at: what failed, then what is under way. The cursor always stands below the last line,
 * so that whatever ends the program leaves a terminal as it should be. */
#pragma once

#include <stdbool.h>

#include "base/memory.h"
#include "units/lists.h"

typedef enum ProgressMark { PROGRESS_IDLE, PROGRESS_UNDERWAY, PROGRESS_DONE, PROGRESS_FAILED } ProgressMark;

typedef struct Progress Progress;

/* One line for each name; the time of a line begins when it is first set. NULL where standard output is no
 * such terminal (or there is no memory): then nothing is to be shown, and NULL is taken by all below. 'names'
 * is copied. */
Progress *progress_new(const Names *names);
Progress *progress_free(Progress *l); /* returns NULL */
DEFINE_CLEANUP(Progress *, progress_free)
#define _cleanup_live_ _cleanup_(progress_freep)

/* What the line of 'name' says from now on. 'place' "" is shown as a dash; 'note' stands where the time does,
 * "" for the time. A line that is done or failed keeps the time it took, until it is under way again. */
void progress_set(Progress *l, const char *name, ProgressMark mark, const char *place, const char *word,
                  const char *note);

void progress_draw(Progress *l);

/* Makes room for other words: whatever an interrupt has left in the line of the cursor goes. */
void progress_break(const Progress *l);

/* Would progress_new() give lines? */
bool progress_is_possible(void);
