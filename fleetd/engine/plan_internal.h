/* The parts that the plans of ordinary and of global units share. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/scheduler/scheduler.h"

/* A unit to plan, after the units that its placement depends on. */
typedef struct PlanItem {
        const ClusterUnit *unit;
        enum {
                PHASE_REPLACING, /* Replaces= */
                PHASE_PLAIN,
                PHASE_FOLLOWING, /* MachineOf= */
        } phase;
        uint64_t part; /* scheduler_view_part() of its request; 0: it has none */
        bool planned;  /* has changes in this plan; the next plan considers it again */
        bool done;     /* considered in this round of its phase */
        Verdict *wait; /* owned: EngineWait.why */
        UT_hash_handle hh;
} PlanItem;

/* brake.c: the mass-failure brake. */
typedef struct Brake {
        const ClusterMachine **hosts; /* that vanished together, by the time of their loss; borrowed */
        size_t n;
        size_t n_free;     /* of these, the first ones are released */
        size_t n_total;    /* hosts of the cluster that have not left */
        uint64_t until_ms; /* cluster time until which no unit moves away from them */
        uint64_t again_ms; /* from now until time alone changes this; UINT64_MAX: never */
} Brake;

/* drain.c: how many units of drained machines, and units whose move was requested, start elsewhere; counted
 * when first needed. */
typedef struct Drains {
        size_t *starting; /* owned: by ClusterMachine.slot; NULL: not counted yet */
        size_t n_total;
} Drains;

/* One plan in the making. */
typedef struct Pass {
        const Cluster *cluster;
        const EnginePlanLimits *limits;
        SchedulerView *view;
        EnginePlan *plan;
        Brake brake;
        Drains drains;
        struct PlanBudget *budgets; /* table by head; read when first needed */
        PlanItem *items;            /* table by unit; in the order of the plan when 'sorted' */
        bool sorted;
        size_t n_planned;
        ClusterMachine **machines; /* by ID; read when first needed */
        size_t n_machines;
        int error; /* the last failure; the plan then ends, and is discarded */
} Pass;

/* plan_state.c. Time alone changes the plan after 'after_ms'. */
void plan_again(const Pass *pass, uint64_t after_ms);
bool plan_names_texts(const Pass *pass);
bool plan_has_finished(const ClusterAssignment *o);
/* Return whether the unit is in the state that the assignment requires. */
bool plan_is_up(const ClusterAssignment *o);
/* Return whether the assignment is of the wanted text of the unit. One that names no text is of the unit key
 * that it was planned on: the agent also waits for its turn with a text that differs in comments only. */
bool plan_is_current(const ClusterAssignment *o);
/* Return whether the assignment has another text than the wanted one of its unit, and names it: the options
 * of the wanted one do not apply to it. */
bool plan_has_former_text(const ClusterAssignment *o);
/* Return whether a published state is of the content that the assignment requires. An instance that is not
 * restarted for a content has any. */
bool plan_has_content(const ClusterAssignment *o, const UnitState *state);
AssignmentKind plan_wanted_kind(const ClusterUnit *u);
bool plan_is_wanted(const ClusterUnit *u);
/* Return whether the machine reports a unit without an assignment: after a restore, or a partition. */
bool plan_is_stray(const ClusterState *s);
/* Return whether the deadline of the machine's drain has passed. While the mass-failure brake is on,
 * no deadline passes. */
bool plan_is_overdue(const Pass *pass, const ClusterMachine *machine);
/* Return whether it has finished on one of its machines (plan_stays_finished()): its next one gets its file,
 * and does not run it. */
bool plan_is_of_finished(const ClusterUnit *u);
bool plan_takes_finished(const ClusterMachine *m);

/* plan_change.c */
/* Add a change of the unit's assignment on the machine, or a new one, and return it; NULL: out of memory. The
 * code and its arguments are the reason, as in verdict_set(). */
AssignmentChange *plan_change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, AssignmentKind kind,
                              VerdictCode why, const char *args, ...) _printf_(6, 7);
/* Record why no machine qualifies for the unit. */
void plan_wait(Pass *pass, const ClusterUnit *u, VerdictCode why, const char *args, ...) _printf_(4, 5);
/* Bring an assignment that remains to the current target state and text of its unit. */
void plan_keep(Pass *pass, const ClusterAssignment *o);
/* Stop the unit in an assignment that 'by', on another machine, has replaced. */
void plan_stop_replaced(Pass *pass, const ClusterAssignment *o, const ClusterAssignment *by);
/* Return whether the unit has changes in this plan already. */
bool plan_has_changes(const Pass *pass, const ClusterUnit *u);
void plan_stop_strays(Pass *pass, const ClusterUnit *u, VerdictCode why);
/* Return whether it is not known which text a unit without one gets: a later version of fleetd has written
 * the rollout of its set. Then it waits. */
bool plan_lacks_text(Pass *pass, const ClusterUnit *u);
/* Let a change name the text of an assignment. */
void plan_set_text(AssignmentChange *change, const ClusterAssignment *of);

/* brake.c. Return whether so many hosts are lost that the brake may hold some; without it, each plan would
 * search for them. */
bool brake_is_possible(const Cluster *cluster);
/* Compute which hosts the brake holds. 0 or -ENOMEM. */
int brake_update(Pass *pass, uint64_t brake_ms);
/* Return whether no unit moves away from the machine. */
bool brake_holds(const Brake *brake, const ClusterMachine *machine);
void brake_done(Brake *brake);

/* drain.c. Return whether the unit of an assignment may begin to leave its machine, which is being drained,
 * or whose unit has a requested move; if not, set what it waits for. */
bool drain_admits(Pass *pass, const ClusterAssignment *assignment, Error *ret_why);
/* Count a unit that begins to leave the machine of the assignment in this plan. */
void drain_count(Pass *pass, const ClusterAssignment *assignment);
/* Record in the assignment that the unit failed on the machine to which it moved. The text that runs remains.
 */
void drain_note_failure(Pass *pass, const ClusterAssignment *old, const ClusterMachine *failed);
/* scheduler_pick() of another machine than the one on which the unit failed, if there is one. */
int drain_pick(Pass *pass, const ClusterAssignment *old, const ClusterMachine **ret, Error *ret_why);

/* reported.c. Return the hash of the text that runs on the machine, by its report to a restored or recovered
 * cluster, if the assignment there is older, and has another text or is missing; else NULL. */
const char *reported_text(const Pass *pass, const ClusterMachine *machine, const ClusterUnit *u);
void reported_set_text(AssignmentChange *c, const ClusterUnit *head, const char *hash);

typedef enum PositionState {
        POSITION_FITS, /* the machine is up, and the unit fits there */
        POSITION_HELD, /* nothing moves now: the machine is away, the brake is on, or the unit has finished */
        POSITION_REPLACED, /* fits, but another unit there replaces it */
        POSITION_UNFIT,    /* the machine is up, and rejects the unit */
        POSITION_GONE,     /* the machine is lost, or has left */
} PositionState;

/* One active assignment of the unit. */
typedef struct Position {
        const ClusterAssignment *assignment;
        PositionState state;
        SchedulerRule rule; /* POSITION_UNFIT */
        Error why;
} Position;

/* position.c. Judge p->assignment. */
void position_judge(Pass *pass, Position *p);
/* Return why the unit leaves the position: VERDICT_LEAVES_*. */
VerdictCode position_cause(const Position *p);
MoveReason position_reason(const Position *p);
/* Return whether the unit leaves the position because its machine is being drained. */
bool position_is_drained(const Position *p);
/* The same, or because its move to another machine was requested: it leaves in the same way. */
bool position_leaves(const Position *p);
/* Return whether the unit has to leave its machine, which is being drained, wherever it runs then. */
bool position_is_overdue(const Pass *pass, const Position *p);
/* Return whether the budget of its set permits that the unit stops first. At the deadline of a drain, and
 * while its machine shuts down, it does. */
bool position_has_budget(Pass *pass, const Position *from, Error *ret_why);
void position_budgets_done(Pass *pass);
/* Record that the unit has to leave the position, and why it waits there. */
void position_wait(Pass *pass, const Position *p, const Error *why);
/* The same if no other machine qualifies. */
void position_explain_wait(Pass *pass, const ClusterUnit *u, const Position *p);
/* Stop the unit in a position that no longer qualifies. */
void position_stop_unfit(Pass *pass, const Position *p);
/* Stop the unit in a position that bound_is_rejected(): it waits there. */
void position_wait_bound(Pass *pass, const Position *p);

/* move_start.c */
/* Return for how long the unit may still become available there, from now on: until UpdateDeadlineSec=, or if
 * it does not begin to start, less; 0: that has passed, its start has failed, or it fails its checks;
 * UINT64_MAX: without a limit, or the machine is lost or has left. */
uint64_t move_start_left_ms(const Pass *pass, const ClusterAssignment *o);
/* Return whether it has failed there, or is being restarted after its end; not a start that systemd did not
 * execute. */
bool move_ran_there(const ClusterAssignment *o);
/* Return whether it has failed there, its start too, or it fails its checks. */
bool move_has_failed_there(const ClusterAssignment *o);
/* Return whether it runs there, or starts, and was not available within UpdateDeadlineSec=. */
bool move_is_late(const Pass *pass, const ClusterAssignment *o);
#define MOVE_RUNS_AGAIN "it has finished, and an older fleetd would run it again"
/* Return whether the machine of an assignment was not up when the unit got another machine. */
bool move_was_away(const ClusterAssignment *kept, const ClusterAssignment *other);
/* Return whether the newer of two positions continues, too, until the unit is available there, or fails: the
 * older one was away meanwhile, and what its machine has published may be of before. */
bool move_awaits_newer(Pass *pass, const Position *old, const Position *newer);
/* Return whether the machine has not published yet that it stops the unit, which no user has stopped. With a
 * start there, the state of before would count as available. */
bool move_awaits_stop(Pass *pass, const ClusterAssignment *o);

/* bound.c: units with Move=no. Return whether only people, or the loss of its machine, move the unit away
 * from it. */
bool bound_is(const ClusterAssignment *o);
/* Return whether its machine has stopped, and the unit waits for that until people move it. */
bool bound_awaits(const ClusterAssignment *o);
/* Return what the unit does on its machine: the target state, or from the deadline of a drain until that
 * ends, it is loaded only, and so keeps the machine. For a reboot or a shutdown, systemd stops it. */
AssignmentKind bound_kind(const Pass *pass, const ClusterAssignment *o);
/* Return whether it has stopped, and waits for the end of the drain, or does not run because the machine has
 * another unit of that name. */
bool bound_waits(const ClusterAssignment *o);
/* Return whether it stays in the position although its machine rejects it. One with MachineOf= goes to the
 * machine of that unit. */
bool bound_is_rejected(const Position *p);
/* Return how long the unit still waits for its machine, which is lost (ReplaceAfterSec=) or was shut down
 * (Move=no): 0: no longer; UINT64_MAX: for ever, as for its data. Else none waits for a machine that people
 * have removed. */
uint64_t bound_left_ms(const Pass *pass, const ClusterAssignment *o);

/* reconnect.c. The last change of the plan stops the unit: on a lost machine it may hold only if the unit
 * does not run there. */
void reconnect_defer(Pass *pass, const ClusterUnit *u, const ClusterAssignment *o);
/* Decide about the instances on machines that have returned. */
void reconnect_unit(Pass *pass, const ClusterUnit *u);

/* move_end.c. Return whether the requested move of the unit ends, which is added to the plan. */
bool move_ends(Pass *pass, const ClusterUnit *u);

/* Plan an ordinary unit. */
void move_unit(Pass *pass, const ClusterUnit *u);
/* Plan a unit with Singleton=yes. */
void singleton_unit(Pass *pass, const ClusterUnit *u);
/* Return whether at most one process of the unit may run: by the options of the text that it has, or while
 * one with a guard may not have ended. */
bool singleton_is(const ClusterUnit *u);
/* Plan a global unit. A full plan sets 'more'. */
void global_unit(Pass *pass, const ClusterUnit *u);
