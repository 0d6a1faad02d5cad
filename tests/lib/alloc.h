/* The n-th allocation fails, alone or with those behind it: how everything that allocates is shown to say so,
 * and to give back what it holds. Link with $(FAILING_ALLOCATIONS), which leads malloc() and its relatives
 * here; those inside shared libraries go on undisturbed. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* From now on the n-th allocation fails, once; 0: none does. */
void alloc_fail_at(unsigned n);
/* The n-th and the count - 1 behind it fail (UINT_MAX: all of them). */
void alloc_fail_span(unsigned n, unsigned count);

/* From now on none fails, and those are noted that come from a line of the program that no noted one has come
 * from before. */
void alloc_note_new(void);
/* Their numbers, for alloc_fail_at(). */
size_t alloc_noted(const unsigned **ret);

/* Until it is called with false, none fails and none counts: for what a scenario prepares, and looks at. */
void alloc_pause(bool paused);

/* As if something allocated here: true when that fails. For edges that a simulation stands in for. */
bool alloc_fails(void);

/* Has one failed since? False means that the code under test needs fewer than n. */
bool alloc_has_failed(void);

/* Runs 'scenario' with its first, second, third ... allocation failing; first that one alone, then with all
 * behind it; until none has failed. It has to return 0 or -ENOMEM (another answer fails the test), must leave
 * nothing behind (the leak checker looks each time), and is run again undisturbed, which must succeed.
 * 'stride' 1: all of them; more: each so manieth, for slow ones (CHECK_ALL=yes in the environment makes it
 * 1). Returns how many failures were survived. */
unsigned alloc_fail_each(const char *name, int (*scenario)(void *userdata), void *userdata, unsigned stride);
