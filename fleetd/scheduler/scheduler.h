/* Selection of a machine for a unit.
 *
 * Pure: the result depends on the arguments only. Hard rules are a table of filters, soft rules a table of
 * scores. The engine selects by these tables, and `why` and the API explain by the same tables. Source of the
 * rules: the scheduler of CoreOS fleet (engine/scheduler.go, agent/state.go). */
#pragma once

#include "fleetd/registry/data.h"
#include "fleetd/scheduler/view.h"

/* The rule that rejects a machine, for callers that act differently on one of them. */
typedef enum SchedulerRule {
        RULE_PRESENCE,
        RULE_QUADLET,
        RULE_MACHINE_ID,
        RULE_STICKY, /* the data of the unit is on another machine */
        RULE_METADATA,
        RULE_MACHINE_OF,
        RULE_CONFLICTS,
        RULE_PORT, /* as a conflict, of two units with one port; a unit that runs there is adopted */
        RULE_MAX_PER_MACHINE, /* a unit that is there stays */
        RULE_FOREIGN, /* the machine reports a conflicting unit; the assignment remains until another machine
                         has the unit, or the name is free */
        RULE_MAINTENANCE, /* the machine gets no units. A unit that is to move away stays until another
                             machine  has it */
        RULE_MOVE, /* the unit is to move to another machine, by a request; it stays until that one has it */
        RULE_RESOURCES, /* the machine has no room for what the unit requests; a unit that is there stays */
        RULE_FLAP_DAMPING, /* last: no other rule rejects the machine */
        _RULE_MAX,
        RULE_NONE = -1,
} SchedulerRule;

/* Return whether the unit excludes, or is excluded by, another one on the machine. */
static inline bool scheduler_is_conflict(SchedulerRule rule) {
        return rule == RULE_CONFLICTS || rule == RULE_PORT;
}

/* Return the first rule that forbids 'unit' to run on 'machine', with the reason ("Conflicts=web@*.service,
 * and web@1.service is there"), or RULE_NONE.
 *
 * 'staying' checks a unit that is already there. The machine then need not be up, and a unit that is being
 * stopped is no obstacle. Of two units in conflict only the one with the newer text (ClusterUnit.index) is
 * rejected; of two instances of one template, only the later one. The same holds for two units with one port.
 */
SchedulerRule scheduler_refusal(const SchedulerView *view, const ClusterUnit *unit,
                                const ClusterMachine *machine, bool staying, Error *ret_why);
/* Return the unit on the machine that excludes 'unit' by Conflicts= of either, or by a port, if that is the
 * first rule that rejects the machine; or NULL. */
const ClusterUnit *scheduler_conflict_on(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine);
/* Set 'ret' to the units on the machine that exclude 'unit' by Conflicts= of either, or by a port. Return
 * their number, or 'max' + 1 if there are more. */
size_t scheduler_conflicts_on(const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine, const ClusterUnit **ret, size_t max);
/* Return whether units on the machine exclude a new unit by Conflicts= or a port, or by what they request,
 * and no other rule rejects it. */
bool scheduler_would_fit_freed(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine);
/* Return what the machine lacks of what a new unit requests; 0: nothing, or its capacity is unknown. */
Resources scheduler_lack(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
/* Return the least MaxPerMachine= with which a new unit that does not fit would; above the greatest one:
 * with none. */
unsigned scheduler_max_needed(const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine);
/* Return whether no rule rejects the machine. */
bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why);
/* Return whether a unit that is on the machine without an active assignment may get one: the rules for new
 * units, except flap damping, which affects no unit that is already there. */
bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
/* Return whether a new unit would fit on the machine without its maintenance, and people can end that: the
 * machine neither leaves the cluster, nor shuts down, nor reboots. */
bool scheduler_would_fit_uncordoned(const SchedulerView *view, const ClusterUnit *unit,
                                    const ClusterMachine *machine);
/* Return whether the machine is lost or shut down, and would qualify for a new unit if it were up.
 * *ret_cordoned: only without its maintenance, which people end; that of a shutdown or a reboot ends itself.
 */
bool scheduler_would_fit_started(const SchedulerView *view, const ClusterUnit *unit,
                                 const ClusterMachine *machine, bool *ret_cordoned);
/* As scheduler_may_return(), of a unit that runs there without an assignment: a port of another unit,
 * maintenance of the machine, or a requested move to another one, does not forbid it either. The unit is then
 * moved; scheduler_fits() with 'staying' states whether it does. */
bool scheduler_may_adopt(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);

/* Return a unit there whose Replaces= names 'unit', or NULL. Two units that name each other replace nothing.
 * A unit that is replaced moves to another machine if there is one. */
const ClusterUnit *scheduler_replaced_by(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine);

/* Return whether no drain, shutdown, reboot or deadline moves the unit away from the machine: its data is
 * there, or it has Move=no, and the machine is not drained with --force. */
bool scheduler_is_bound(const ClusterUnit *unit, const ClusterMachine *machine);

/* Return whether the text of the unit, which is readable, has Type=oneshot. */
bool scheduler_is_oneshot(const ClusterUnit *unit);

/* Return why a unit stays on a machine that is being drained although it could move ("Move=no"), borrowed;
 * NULL: it moves, or the machine is not being drained. At the deadline, one that is not bound leaves. */
const char *scheduler_drain_spares(const ClusterUnit *unit, const ClusterMachine *machine, uint64_t now_ms);

/* The same of a unit that is to move to another machine by a request; NULL: it moves. */
const char *scheduler_move_spares(const ClusterUnit *unit, const ClusterMachine *machine);

/* Select the machine with the lowest scores, the first row first, among those that fit, are up and do not
 * have the unit yet. Among equals, select the smallest machine ID. Fullness does not count if one of them has
 * no known capacity.
 *
 * On success, 'ret_why' states the reason of the selection. Otherwise it states why no machine qualifies
 * (scheduler_explain()): -EAGAIN if a machine qualifies after its hold-off (flap damping), -ENOENT if none
 * does, -E2BIG at the limit of the view. */
int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why);

/* State why no machine qualifies, by cause: "no machine qualifies (web@2 is on alpha, web@3 on beta; gamma
 * has no metadata ssd=true)". Machines that have been lost for an hour are omitted, unless all are. 'except'
 * (may be NULL) is a machine of which the caller has stated the cause: "no other machine qualifies (...)". */
void scheduler_explain(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *except,
                       Error *ret_why);
