/* Choosing a machine for a unit. Pure: the answer depends on the arguments alone.
 *
 * Hard rules are a table of predicates, each with a name and a sentence for its refusal; soft rules a table
 * of scores. The engine picks by it, and `why` and the API explain by the same table. Rules: fleet's
 * (reference: its engine's decisions). */
#pragma once

#include "fleetd/registry/cluster.h"

/* A machine as one pass of the engine sees it: its orders, and what the pass has already decided. */
typedef struct SchedulerView SchedulerView;

int scheduler_view_new(const Cluster *cluster, SchedulerView **ret);
SchedulerView *scheduler_view_free(SchedulerView *view);
/* How much was looked at: machines, patterns, units. It depends on the view alone, so that whoever plans can
 * end in time. */
size_t scheduler_view_work(const SchedulerView *view);
/* Decided in this pass: 'unit' is (no longer) on that machine. */
int scheduler_view_place(SchedulerView *view, const char *machine_id, const ClusterUnit *unit);
int scheduler_view_remove(SchedulerView *view, const char *machine_id, const ClusterUnit *unit);

/* Whether 'unit' may run on 'machine'; if not, one sentence why ("Conflicts=web@*.service, and web@1.service
 * runs here"). 'staying': it is there already and shall only be checked again: then the machine need not be
 * up, what is being stopped there is no obstacle any more, and of two that conflict the one that came later
 * yields (a global one always does). */
bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why);

/* Which rule refused, for those who act differently on it. */
typedef enum SchedulerRule {
        RULE_PRESENCE,
        RULE_QUADLET,
        RULE_MACHINE_ID,
        RULE_METADATA,
        RULE_MACHINE_OF,
        RULE_CONFLICTS,
        RULE_FOREIGN, /* said by the machine itself of what was ordered there: its order stays until another
                         one has it, or the name is free */
        RULE_FLAP_DAMPING, /* last: all else is well */
        _RULE_MAX,
        RULE_NONE = -1,
} SchedulerRule;
SchedulerRule scheduler_refusal(const SchedulerView *view, const ClusterUnit *unit,
                                const ClusterMachine *machine, bool staying, Error *ret_why);

/* The same for a unit that is there already, but without an order to run: for newcomers' rules, except that a
 * machine which keeps getting lost keeps what it has. */
bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);

/* A unit there that names 'unit' in its Replaces= (and is not named by it in turn), or NULL: 'unit' should go
 * to another machine if there is one. */
const ClusterUnit *scheduler_replaced_by(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine);

/* The machine with the fewest units among those that fit, are up and do not have it yet (of those, first the
 * ones where nobody replaces it); among equals the smallest id. -ENOENT: none; 'ret_why' sums up: "alpha and
 * beta: Conflicts=...; gamma: no metadata ssd=true". On success 'ret_why' says why there. */
int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why);
