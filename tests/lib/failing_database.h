/* The n-th call of LMDB fails. Link with $(FAILING_DATABASE), which leads its functions here; further calls
 * can be counted with them. */
#pragma once

#include <stdbool.h>

/* The calls since failing_call(), in the order in which they are made: not for several threads at once. */
typedef struct FailingCalls {
        bool counts;
        unsigned n, fail_at;
        int code;    /* LMDB's, or an errno */
        bool failed; /* one has */
} FailingCalls;

extern FailingCalls failing;

/* From now on, until failing_calls_end(), the n-th call fails with 'code', once. */
void failing_call(unsigned n, int code);
void failing_calls_end(void);

/* Counts this call: true when it is the one that fails. */
bool call_fails(void);
