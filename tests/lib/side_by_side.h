/* Tests of one program that mostly wait, several at a time. */
#pragma once

#include <stddef.h>

struct CMUnitTest;

/* Run the tests whose names match 'filter' (NULL: all), each in a process of its own, several at the same
 * time. Results are printed in the order of the tests; of one that fails, also its output. A test that does
 * not end is killed, and fails. Return the number of tests that failed. */
int run_side_by_side(const struct CMUnitTest *tests, size_t n, const char *filter);
