/* The parts of a step of a rollout. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/features/rollout/rollout.h"

/* One step in the making. */
typedef struct Rolling {
        const Cluster *cluster;
        const RolloutConditions *conditions;
        UpdatePolicy policy; /* it borrows all */
        RolloutSet set;
        RolloutStep *step;
        RolloutRecord *next;
        size_t max_unavailable, min_available, max_surge, canary, max_failures;
        SchedulerView *view; /* owned; made when a surge instance needs a machine */
        Placement *common;   /* owned: of the wanted text of instances without drop-ins */
        bool own_placements; /* each instance has another one: of its specifiers */
        size_t n_nowhere;    /* of these, for which no machine was found */
        bool changed;        /* the record */
} Rolling;

/* rollout_choose.c: free what was read of the wanted text. */
void rolling_done_placement(Rolling *x);

static inline size_t rolling_behind(const Rolling *x) {
        const size_t *n = x->set.n_of;

        return n[INSTANCE_OLD] + n[INSTANCE_BAD] + n[INSTANCE_IDLE];
}

/* Instances that run, or are to run. */
static inline size_t rolling_count(const Rolling *x) {
        return rollout_unavailable(&x->set, x->next) + rollout_available(&x->set);
}

/* Those that a condition of the text has stopped have failed, too. */
static inline size_t rolling_failures(const Rolling *x) {
        return x->set.n_of[INSTANCE_FAILED] + rollout_lost(&x->set, x->next);
}

/* Instances that run twice for their update: available ones whose former instances are still to stop, too. */
static inline size_t rolling_surging(const Rolling *x) {
        return x->set.n_of[INSTANCE_SURGING] + x->set.n_arrived + (x->max_surge > 0 ? x->set.n_doubled : 0);
}

/* Instances in an unfinished step. */
static inline size_t rolling_steps(const Rolling *x) {
        return x->set.n_of[INSTANCE_UPDATING] + x->set.n_of[INSTANCE_SURGING];
}

static inline void rolling_again(Rolling *x, uint64_t at_ms) {
        uint64_t now_ms = x->cluster->now_ms;

        x->step->again_ms = MIN(x->step->again_ms, at_ms > now_ms ? at_ms - now_ms : 0);
}

/* rollout_choose.c. Return whether a step may begin: the one place of all reasons to wait, which the choosing
 * functions ask. */
bool rolling_may_begin(const Rolling *x);
/* Add instances without the wanted text to the step, at most 'max': first unavailable ones, not within the
 * budget, but at most MaxUnavailable= at a time; then available ones. Also all that are loaded only, and
 * those without a machine. 0 or -ENOMEM. */
int rolling_choose_all(Rolling *x, size_t max);
/* Of the instances in this state, add those that may be updated now, 'max' at most. An unavailable one is
 * always updated, at most as many at a time as may be unavailable; an available one needs budget. */
int rolling_choose(Rolling *x, RolloutInstanceState state, size_t max);
/* Return whether an instance runs, and passes its checks, but not for long enough to be available: with
 * MaxSurge=, it is updated as an available one. */
bool rolling_serves(const Rolling *x, const RolloutInstance *p);
/* Find the machine for the wanted text of an instance. 1: its own one (*ret is NULL), or another one, on
 * which it starts first; 0: none qualifies; -EAGAIN: it is still being stopped there; -EBUSY: the step has
 * searched for long enough; -ENOMEM. A text does not start on a machine that it excludes while another one
 * qualifies, but for one that stops first: that is moved afterwards. */
int rolling_place(Rolling *x, const RolloutInstance *p, const ClusterMachine **ret);
/* Return whether an instance that is being updated waits for a secret or key: nothing has failed. */
bool rolling_awaits_inputs(const RolloutInstance *p);
/* Return whether an instance waits for inputs; or no step is possible, only because instances on machines
 * that are not up hold the budget. */
bool rolling_awaits_others(const Rolling *x);
/* Let the first n followers without a machine get the wanted text, from which they start. */
int rolling_choose_followers(Rolling *x, size_t n);
/* Let instances that have the wanted text follow the template, in every state of the rollout: no process and
 * no assignment changes. Choose all others first. */
int rolling_choose_joiners(Rolling *x);
/* Of the instances whose machines are down, update those with a text that has failed or was reverted: their
 * machines would start it once more, however often it has ended them. Once the wanted text has run. 0 or
 * -ENOMEM. */
int rolling_choose_abandoned(Rolling *x);
/* Return whether the text has failed: it is none to which a revert can return. */
bool rolling_has_failed(const RolloutRecord *r, const RolloutText *text);
/* Another text is wanted: note the ones that failed and never ended a rollout, as the first of a unit. */
void rolling_note_failed_texts(Rolling *x);
/* Return how many instances have no machine, and fit none. They are not unavailable because of that; one that
 * moves has a machine soon. */
size_t rolling_count_stuck(Rolling *x);

/* rollout_failure.c. Keep the failed instances in the record. 0 or -ENOMEM. */
int rolling_store_failures(Rolling *x);
/* Write why the rollout fails: its first failure, or what kept it until its deadline. */
void rolling_describe_failure(Rolling *x, char *ret, size_t size);
