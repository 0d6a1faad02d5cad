/* The instances of a set, as the cluster view shows them. rollout_budget.h has how many may be unavailable.
 *
 * With OnChange=restart, an instance has the wanted text only if it has the content of its unit, too: a
 * former content is as a former text.
 *
 * An instance is one unit of the set on one machine; of a global unit, one assignment. It is
 *
 *   old           available, with another text
 *   bad           not available, with another text: it is updated first, without budget
 *   unreachable   its machine was not up before its step: it is skipped, and updated after its return; or it
 *                 reboots as planned
 *   surging       it is updated on another machine, and its former instance is available meanwhile
 *   updating      it has the wanted text, and is not available yet
 *   available     it has the wanted text
 *   failed        it has the wanted text, and failed
 *   skipped       it has the wanted text, and a condition of that is not met on its machine: it does not run
 *   ended         it has finished its work: it is not touched
 *   unreadable    a key of it cannot be read: it is not touched */
#pragma once

#include "fleetd/registry/registry.h"

typedef enum RolloutInstanceState {
        INSTANCE_IDLE, /* assigned to be loaded only: it gets the text without a budget */
        INSTANCE_OLD,
        INSTANCE_BAD,
        INSTANCE_UNREACHABLE,
        INSTANCE_SURGING,
        INSTANCE_UPDATING,
        INSTANCE_AVAILABLE,
        INSTANCE_FAILED,
        INSTANCE_SKIPPED,
        INSTANCE_ENDED,
        INSTANCE_UNREADABLE,
        INSTANCE_LOADED, /* as INSTANCE_IDLE, and it has the text */
        _INSTANCE_STATE_MAX,
} RolloutInstanceState;

typedef struct RolloutInstance {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* the newest active one; of a global unit, this one */
        const char *machine;                 /* its name, borrowed */
        RolloutInstanceState state;
        bool had_text;            /* INSTANCE_UNREACHABLE, and had the text before the rollout */
        const char *why;          /* of INSTANCE_FAILED; borrowed, or static */
        const ClusterMachine *to; /* of an update: where it starts, while the former instance runs on; NULL:
                                     in place */
} RolloutInstance;

/* The instances of a set. After rollout_set_sort() they are in the order of their updates without zones: by
 * the name of the unit, or of the machine. */
typedef struct RolloutSet {
        const ClusterUnit *head;     /* the unit, or the template */
        const InputsRecord *content; /* with the highest number of the units that are restarted for another
                                        one; NULL: none is */
        RolloutInstance *instances;
        size_t n, n_of[_INSTANCE_STATE_MAX];
        bool unsorted;
        const ClusterUnit **followers; /* owned: without a machine, and with another text in their keys; first
                                          those to be launched */
        size_t n_followers, n_launched; /* all followers, and those to be launched */
        const ClusterUnit **joiners;    /* owned: they have the wanted text, and do not follow yet; or only
                                           their keys have another one */
        size_t n_joiners;
        size_t n_waiting; /* units to be launched that have no machine, and are not in 'instances' */
        size_t n_moving;  /* waiting units that are being stopped on their former machines */
        size_t n_missing; /* waiting units that had a machine: they are not available. A unit that never had
                             one is no instance yet */
        size_t n_kept;    /* unreadable instances that are available */
        size_t n_leaving; /* available instances whose machines shut down, or reboot as planned */
        size_t n_absent;  /* of a global unit, instances whose machines are down for another reason than a
                             planned reboot: no budget counts on them */
        size_t n_passed;  /* absent instances that are unreachable */
        size_t n_arrived; /* available instances whose former instances are still to run on other machines */
        size_t n_doubled; /* updating and unreachable instances whose former instances are to run */
        size_t n_untouched; /* failed instances that had the text before the rollout */
        size_t n_had_text;  /* unreachable instances that had the text before: they are not behind */
        size_t n_finished;  /* available instances that have finished their work: they have the text, and do
                               not run */
} RolloutSet;

/* Return the state for people: that of an available instance that has finished its work is "finished". */
const char *rollout_instance_word(const RolloutInstance *p);

/* Return the unit that names the set of a unit: its template if it follows one, else itself. Never NULL. */
const ClusterUnit *rollout_head(const Cluster *cluster, const ClusterUnit *unit);

/* Return the number of the content that the instances of a unit have to have; 0: any, as without
 * OnChange=restart. */
uint64_t rollout_content(const ClusterUnit *unit);
/* Return the highest one of the set. */
static inline uint64_t rollout_set_content(const RolloutSet *set) {
        return set->content ? set->content->number : 0;
}

/* Return whether the update of an instance in place to this text requests a start, also if the text takes
 * effect without a restart: it has the text and has failed, or systemd reports that it has failed; or it has
 * to have another content, and does not run. */
bool rollout_starts_again(const Unit *text, const RolloutInstance *instance);

/* The hash by which the set of this head knows the text of an assignment. */
const char *rollout_hash_of(const ClusterUnit *head, const ClusterAssignment *a);

/* Return whether the budget counts the instance as available: another one may always be stopped. */
bool rollout_is_counted(const Cluster *cluster, const ClusterAssignment *assignment);

/* Return whether systemd has not started it: a condition, as ConditionPathExists=, is not met there. */
bool rollout_is_skipped(const ClusterAssignment *assignment);
/* Return whether a machine that is up has not started what it was assigned, or not yet. */
bool rollout_is_unexecuted(const ClusterAssignment *assignment);
/* Return whether a machine is the cause that an instance in progress is not available, and why: it cannot run
 * a check, or, although it is up, does not execute the assignment (systemd stands still, /run is full). */
bool rollout_is_hindered(const RolloutSet *set, char *ret_why, size_t size);

/* Return the assignment that a surge instance replaces when it is available, or NULL. */
const ClusterAssignment *rollout_replaced(const ClusterAssignment *surge);
/* Return whether a rollout still updates that instance: a surge instance ends with its rollout. */
bool rollout_surges(const Cluster *cluster, const ClusterAssignment *surge);
/* Read the text that a step gives to a unit of the set. 1, 0 and no change of *ret, which is NULL: that of
 * the head, or a negative errno. */
int rollout_compose(const ClusterUnit *head, const ClusterUnit *u, Unit **ret);
/* Return whether its machine has published a state with the text and the content of the assignment. */
bool rollout_is_executed(const ClusterAssignment *assignment);
/* Return whether the text that an assignment names is available on its machine. */
bool rollout_is_available(const ClusterAssignment *assignment);
/* Return whether it was, by the last state that a machine published which is not up now. */
bool rollout_was_available(const ClusterAssignment *assignment);
/* Return whether an instance on a machine that is up has failed with the text that it is assigned, and was
 * not available before. */
bool rollout_has_failed(const ClusterAssignment *assignment);

/* Return whether a change of the unit may change the rollout of its set, of this head. */
bool rollout_is_due(const ClusterUnit *unit, const ClusterUnit *head);

/* 0 or -ENOMEM. */
int rollout_set_read(const Cluster *cluster, const ClusterUnit *head, RolloutSet *ret);
/* Order all instances: for lists. A step needs those of one state, and many steps none. */
void rollout_set_sort(RolloutSet *set);
void rollout_set_done(RolloutSet *set);

/* The instances of a set in one state, in the order of their updates. */
typedef struct RolloutOrder {
        const RolloutInstance **items; /* owned */
        size_t n, at;
        bool is_heap; /* 'items' are of a set that is not in this order */
} RolloutOrder;

/* 0 or -ENOMEM. The set must not change meanwhile. */
int rollout_order_begin(const RolloutSet *set, RolloutInstanceState state, RolloutOrder *ret);
/* Return the next instance, or NULL after the last one. */
const RolloutInstance *rollout_order_next(RolloutOrder *order);
void rollout_order_done(RolloutOrder *order);
#define _cleanup_rollout_order_ _cleanup_(rollout_order_done)

/* Return whether the instance is one of RolloutSet.n_absent: of a global unit, only machines that are up
 * count, and those that reboot as planned. */
bool rollout_is_absent(const RolloutSet *set, const RolloutInstance *instance);
/* Return whether it has a text that the cluster does not have (engine/reported.c). */
bool rollout_has_unknown_text(const ClusterAssignment *assignment);
/* Return whether an instance that runs with a text of its own has joined the set: its key has the wanted
 * text, and its assignment not. A step writes both. Also whether its text is unknown. */
bool rollout_joins(const RolloutSet *set, const RolloutInstance *instance);
/* Return whether the record has it as failed, of a text that was not reverted. */
bool rollout_failed_before(const RolloutRecord *record, const RolloutInstance *instance);
/* Return how many instances have joined, for which an ended rollout begins again. One that failed on another
 * machine, and runs on with its former text, has not. */
size_t rollout_joining(const RolloutSet *set, const RolloutRecord *record);
/* Return how many instances were available when the text of the record was begun, and do not run because a
 * condition of it is not met; 0 after 'resume', which accepts that. */
size_t rollout_lost(const RolloutSet *set, const RolloutRecord *record);

#define _cleanup_rollout_set_ _cleanup_(rollout_set_done)
