/* How many instances of a set may be unavailable. */
#pragma once

#include "fleetd/engine/rollout_set.h"

typedef struct RolloutBudget {
        const char *name; /* of the set; borrowed */
        size_t n, available;
        unsigned max, min; /* MaxUnavailable=, MinAvailable= */
} RolloutBudget;

/* Return the policy of the rollout of the wanted text: that of the unit, and what was requested with the
 * text. It borrows all. */
UpdatePolicy rollout_policy(const ClusterUnit *head);
/* 0 or -ENOMEM. */
int rollout_read_budget(const Cluster *cluster, const ClusterUnit *head, RolloutBudget *ret);
/* Return whether an available instance of the set may be stopped although it does not run elsewhere first; if
 * not, state why. 'n_stopping': instances that are stopped at the same time, and still available in the view.
 */
bool rollout_permits(const RolloutBudget *budget, size_t n_stopping, Error *ret_why);
/* Return how many instances of those that run, or are to run, are unavailable, or in an unfinished step.
 * Their number is the sum with those that are available. 'record' of the set, or NULL. */
size_t rollout_unavailable(const RolloutSet *set, const RolloutRecord *record);
size_t rollout_available(const RolloutSet *set);
/* Return whether the record is paused for a failure of this instance. */
bool rollout_is_paused_by(const RolloutRecord *record, const char *unit, const char *machine);
