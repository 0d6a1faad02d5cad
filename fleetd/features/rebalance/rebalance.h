/* Moves that would balance the cluster. Pure: a scheduler view in, moves with their reasons out; people
 * request them, and from there on each is a requested move (engine/move_request.h).
 *
 * No move relies on another one: each target qualifies while all units of the plan are still where they were,
 * and those planned before it are on their targets, too. So any part of a plan, in any order, is admissible.
 * What a move improves is judged as if the ones before it were made. Each lowers this measure, by its first
 * figure that changes: instances above MaxPerMachine=; the sum of the squares of siblings by domain, key by
 * key (Spread=); the fullness of the machines, sorted downward. So plans end. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

enum {
        REBALANCE_MOVES_MAX = 100,
        REBALANCE_WORK_MAX = 20000000, /* after it, the moves that were found are the plan */
};

typedef struct Rebalance Rebalance;

typedef struct RebalanceMove {
        const ClusterUnit *unit;
        const ClusterMachine *from, *to;
        Verdict reason;
} RebalanceMove;

/* 'patterns' of names, which are taken; {}: all units, except those that stop before they start elsewhere.
 * 'max': moves. 0 or -ENOMEM. */
int rebalance_new(Names *patterns, size_t max, Rebalance **ret);
void rebalance_free(void *self);
/* Begin, or continue on a new view, to which the moves planned so far are added. The view is borrowed; its
 * work is that of the plan. 0 or -ENOMEM. */
int rebalance_renew(void *self, SchedulerView *view);
/* Continue. 'ret': the next move, best first; its 'unit' NULL: none is found yet. 1, 0 at the end, -ENOENT
 * (no unit has a name that matches) or -ENOMEM. */
int rebalance_step(Rebalance *r, RebalanceMove *ret, Error *err);

/* Return whether nothing is moved now; then set the reason, with the next step. 'braked': the mass-failure
 * brake is on. */
bool rebalance_is_refused(const Cluster *cluster, bool braked, Error *ret);
