/* What applying entries leaves for proposers and watchers: results and events, in order. Those of the open
 * transaction count only when it is committed. */
#pragma once

#include "kvstore/command/command.h"
#include "kvstore/command/cost.h"
#include "kvstore/tree/tree.h"

typedef struct AppliedResult {
        uint64_t origin, number; /* of the proposal */
        KvResult *result;        /* owned */
} AppliedResult;

/* What this replica has applied since its start, by the requested action. Commands of /_fleet are not
 * counted. */
typedef struct AppliedCounts {
        uint64_t done[_KV_ACTION_MAX], refused[_KV_ACTION_MAX];
        uint64_t deferred;   /* commands that did not fit into the budget of their entry */
        Cost cost, cost_max; /* of all entries; of the costliest one */
} AppliedCounts;

typedef struct Applied {
        /* Set by the owner: */
        bool discard;    /* keep and count neither results nor events: there is no proposer or watcher */
        bool any_origin; /* keep results of all origins, not only of 'origin' */
        uint64_t origin; /* of this daemon's proposals */
        /* Return whether a result of another origin is needed, too; NULL: none is. */
        bool (*wants)(void *userdata, uint64_t origin, uint64_t number);
        void *userdata;
        unsigned level_max; /* the feature level that this program knows, for tests; 0: KV_LEVEL_MAX */

        Cost cost; /* of the entry so far: moves with each command, at all feature levels */
        AppliedCounts counts;

        /* The open transaction owns what is not committed. */
        AppliedResult *results;
        KvEvent **events; /* owned, each with its bytes */
        size_t n_results, results_capacity, n_events, events_capacity;
        size_t n_committed_results, n_committed_events;
        size_t bytes;        /* that results and events take in memory */
        TreeMeta meta, open; /* after the last entry of commands: committed; in the open transaction */
        bool has_meta, has_open;
} Applied;

/* Add a copy. 0 or -ENOMEM. */
int applied_add_result(Applied *a, uint64_t origin, uint64_t number, const KvResult *result);
int applied_add_event(Applied *a, const KvEvent *event);

/* Drop the last results and events beyond these numbers. */
void applied_truncate(Applied *a, size_t n_results, size_t n_events);
/* The transaction is committed, or was aborted. */
void applied_commit(Applied *a);
void applied_abort(Applied *a);
/* Move results, events and meta to the caller, for applied_clear(). What the owner has set stays, and the
 * counts. */
Applied applied_take(Applied *a);
/* Free results and events. */
void applied_clear(Applied *a);
