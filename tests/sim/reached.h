/* Which states of a table the simulated worlds reach, with losses of the leader and of the quorum in each. */
#pragma once

#include "tests/sim/cluster.h"

enum { REACHED_MAX = 16 };

typedef struct ReachedState {
        const char *name; /* NULL: no such state */
        /* Of a hundred times that it is entered, in which the leader's daemon ends, or those of a majority:
         * more for a state that is rare. */
        unsigned leader_percent, quorum_percent;
        uint64_t n, n_leader, n_quorum;
} ReachedState;

typedef struct Reached {
        const char *table;
        ReachedState states[REACHED_MAX];
} Reached;

/* The state begins. Count it, and maybe end daemons for a moment. */
void reached_enter(Reached *r, SimCluster *c, unsigned state);
/* Print a line of each state; test-cluster.sh adds those of its programs, and fails if a figure is 0. */
void reached_print(const Reached *r);
bool reached_all(const Reached *r); /* no figure is 0 */
