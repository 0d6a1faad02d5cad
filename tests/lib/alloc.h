/* The n-th allocation fails: how constructors are shown to give back what they hold. Link with $(FAILING_ALLOCATIONS),
 * which leads malloc() and its relatives here; those inside shared libraries go on undisturbed. */
#pragma once

#include <stdbool.h>

/* From now on the n-th allocation fails, once; 0: none does. */
void alloc_fail_at(unsigned n);

/* Has it failed since? False means that the code under test needs fewer than n. */
bool alloc_has_failed(void);
