/* The problems that a daemon finds, for the API and for metrics. */
#pragma once

#include "fleetd/problems/problems.h"

/* Begin with what the search of a daemon is given. 0 or -ENOMEM. */
int problems_begin(ProblemSearch *s, const ComponentHost *host);
/* Append "10.0.0.1:2380: REASON" about a host that this one dials, and that rejects it or is rejected;
 * nothing if there is none. 'peers' may be NULL. */
void problems_append_rejection(const Peers *peers, Text *t);

extern const Component problems_component;

/* Return the number of problems by row, of the last search; NULL: none has ended. The next one begins. */
const size_t *problems_counts(struct Problems *problems);
