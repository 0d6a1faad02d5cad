/* The machines as one pass of the engine sees them: the assignments of the cluster view, overridden by the
 * decisions of this pass.
 *
 * The view borrows the cluster, which does not change while the view exists. */
#pragma once

#include "fleetd/registry/cluster.h"

typedef struct SchedulerView SchedulerView;

/* 'now_ms' is cluster time. 0 or -ENOMEM. */
int scheduler_view_new(const Cluster *cluster, uint64_t now_ms, SchedulerView **ret);
SchedulerView *scheduler_view_free(SchedulerView *view);

/* Record a decision of this pass: 'unit' is, or is no longer, on that machine. 0 or -ENOMEM. */
int scheduler_view_decide(SchedulerView *view, const ClusterMachine *machine, const ClusterUnit *unit,
                          bool there);

/* The same for a unit that is no longer there and has stopped, so that it is no obstacle. It does not return.
 * 0 or -ENOMEM. */
int scheduler_view_remove(SchedulerView *view, const ClusterMachine *machine, const ClusterUnit *unit);

/* Judge the machine by other metadata (borrowed) than that of the cluster view. */
void scheduler_view_set_metadata(SchedulerView *view, const ClusterMachine *machine, const Pairs *metadata);
const Pairs *scheduler_view_metadata(const SchedulerView *view, const ClusterMachine *machine);

const Cluster *scheduler_view_cluster(const SchedulerView *view);
uint64_t scheduler_view_now_ms(const SchedulerView *view);
/* Return whether an active assignment, or a decision of this pass, has the unit on the machine. */
bool scheduler_view_has(const SchedulerView *view, const ClusterMachine *machine, const char *unit);
/* Return whether the cluster has the unit, or a decision of this pass places it. */
bool scheduler_view_knows(const SchedulerView *view, const char *unit);
/* Return the number of units that run or are loaded on the machine. */
size_t scheduler_view_load(const SchedulerView *view, const ClusterMachine *machine);

/* Sizes and siblings do not count below KV_LEVEL_SCHEDULING. */
static inline bool cluster_is_former(const Cluster *cluster) {
        return cluster->level > 0 && cluster->level < KV_LEVEL_SCHEDULING;
}
/* Sizes count, and the capacity of a machine is known. */
bool scheduler_view_has_sizes(const SchedulerView *view);
/* Return what units may use of the machine; 0: unknown. That of a restricted host is at most the median of
 * the ordinary ones. */
Resources scheduler_view_capacity(const SchedulerView *view, const ClusterMachine *machine);
/* Return the sizes of the units that run or are loaded there. */
Sums scheduler_view_sized(const SchedulerView *view, const ClusterMachine *machine);
/* Return the requests of the units there, those that are being stopped included, without one unit. */
Sums scheduler_view_requested(const SchedulerView *view, const ClusterMachine *machine, const char *except);

enum { FULLNESS_ONE = 1 << 20 }; /* a whole machine */

/* Write the larger part of memory and CPU that a request is of the median machine, in FULLNESS_ONE, at least
 * 1; 0: no capacity is known. 0 or -ENOMEM. */
int scheduler_view_part(SchedulerView *view, Resources request, uint64_t *ret);

/* Return the larger part of memory and CPU in use with a unit of that size more, in FULLNESS_ONE; 0: the
 * capacity is unknown. */
uint64_t scheduler_view_fullness(const SchedulerView *view, const ClusterMachine *machine, Resources more);
/* Return the least of that of the machine, and of each one after it in the order of
 * scheduler_view_by_load(). */
uint64_t scheduler_view_fullness_bound(const SchedulerView *view, const ClusterMachine *machine,
                                       Resources more);
size_t scheduler_view_n_machines(const SchedulerView *view);
/* Return the machine at a position of the order by fullness with a unit of default size (unknown ones
 * first), then by load, then by machine ID. */
const ClusterMachine *scheduler_view_by_load(const SchedulerView *view, size_t position);
/* Return the machine at a position of the order by name, which no decision changes. */
const ClusterMachine *scheduler_view_by_name(const SchedulerView *view, size_t position);

enum { SPREAD_BITS = 16 }; /* of a key in the row of Spread= */

/* Return the keys by which the instances of the unit's template are spread (borrowed): without Spread=,
 * those with Replicas= by "machine". */
const Names *scheduler_spread_keys(const ClusterUnit *unit);
/* Return the row of Spread=: for each key, the other instances of the template in the domain of the machine,
 * each counted at its newest active assignment, decisions of the pass included; then whether the machine has
 * no such key. Rows of one unit compare as numbers, the lowest is the best. 0: the unit is not spread, or
 * there is no memory. After a decision, the first call for a unit costs one pass over the machines; the first
 * one of a template also one over its instances. */
uint64_t scheduler_view_spread(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine);
/* Return the lowest row of all machines. */
uint64_t scheduler_view_least_spread(const SchedulerView *view, const ClusterUnit *unit);
/* Return the part of the key at that position: twice the number of instances, plus 1 without the key. */
static inline unsigned scheduler_spread_part(uint64_t row, size_t key) {
        return row >> (SPREAD_BITS * (SPREAD_KEYS_MAX - 1 - key)) & ((1u << SPREAD_BITS) - 1);
}

/* Return the number of machines, patterns and units examined so far. The number depends on the view and the
 * calls alone, so that a caller can limit the time of a pass. */
size_t scheduler_view_work(const SchedulerView *view);
void scheduler_view_count_work(const SchedulerView *view, size_t n);
void scheduler_view_set_work(const SchedulerView *view, size_t work);
/* End each call at 'max' more work; its result is then void. The work of scheduler_explain() counts, too. */
void scheduler_view_limit(const SchedulerView *view, size_t max);
bool scheduler_view_is_spent(const SchedulerView *view); /* the limit is reached */

/* A unit on a machine, in the state of the view. */
typedef struct Placed {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* NULL: decided in this pass */
        bool stopping; /* has a stop assignment, and is not gone yet: it still excludes new units, and no
                          longer excludes a unit that is there */
} Placed;

/* Called for each unit found, with the pattern that matched. Return false to end the iteration. */
typedef bool (*SchedulerViewEach)(void *userdata, const Placed *placed, const char *pattern);

/* Iterate over the units on the machine whose names match 'pattern'. */
void scheduler_view_each_named(const SchedulerView *view, const ClusterMachine *machine, const char *pattern,
                               SchedulerViewEach each, void *userdata);
/* Iterate over the units on the machine whose option of that rule matches 'name'. */
void scheduler_view_each_naming(const SchedulerView *view, const ClusterMachine *machine, ClusterRule rule,
                                const char *name, SchedulerViewEach each, void *userdata);
/* Return the first of 'patterns' that matches 'name', or NULL, and count the work. */
const char *scheduler_view_match(const SchedulerView *view, const Names *patterns, const char *name);
