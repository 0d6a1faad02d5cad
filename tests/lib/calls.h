/* System calls that fail: the n-th of a kind answers with an error of its manual page, or does half of what
 * it was asked. The program that links calls.c has these functions in the place of libc's, for itself and for
 * the shared libraries that it uses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { CALL_SHORT = -1, CALL_ERRORS_MAX = 8 };

typedef struct CallFaults {
        const char *name;
        int errors[CALL_ERRORS_MAX]; /* errno, or CALL_SHORT; ends with 0 */
} CallFaults;

extern const CallFaults call_faults[];
extern const size_t n_call_faults;

/* The n-th call of that kind from now on, by any thread, gives 'error', once; n 0: none does. */
void call_fail_at(size_t kind, int error, unsigned n);
bool call_has_failed(void);
