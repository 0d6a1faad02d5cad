/* Rollouts: the steps by which the machines of a set (engine/rollout_set.h) get its wanted text.
 *
 * The record of a rollout, and assignments and states of the cluster view, are all that a step depends on: no
 * memory, so that the next leader continues. A transaction has the record and the assignments of a step. Only
 * a step changes the text of an assignment: no move, no boot and no replacement does. engine/plan_change.c
 * has the exceptions: a loaded unit that is a set of its own starts with the wanted text, and what runs in a
 * new lineage gets the text that its machine reported.
 *
 * A set without an instance that runs gets its wanted text at once, without a rollout. */
#pragma once

#include "fleetd/engine/rollout_budget.h"

typedef struct RolloutConditions {
        uint64_t leads_ms; /* cluster time since which this host leads: deadlines count from then on at the
                              earliest */
        bool braked;       /* the mass-failure brake is on: no step begins */
} RolloutConditions;

typedef enum RolloutChange {
        ROLLOUT_NOTHING,
        ROLLOUT_WRITE,  /* the record, or only assignments */
        ROLLOUT_DELETE, /* the record */
        ROLLOUT_REVERT, /* write the record, and the text of 'completed' as the wanted one */
} RolloutChange;

typedef struct RolloutStep {
        RolloutChange change;
        RolloutRecord next;       /* owned */
        bool has_record;          /* 'next' is to be written; otherwise only the updates */
        RolloutInstance *updates; /* owned; they get the wanted text */
        size_t n_updates;
        const ClusterUnit **followers; /* owned: without a machine; their keys get the wanted text. Also
                                          those that have it, and follow from now on */
        size_t n_followers;
        VerdictCode code;                 /* of a change of the state, for the history, as the next */
        char reason[HISTORY_REASON_SIZE]; /* "": none */
        uint64_t again_ms; /* from now until time alone changes the rollout; UINT64_MAX: never */
} RolloutStep;

void rollout_step_done(RolloutStep *step);
#define _cleanup_rollout_step_ _cleanup_(rollout_step_done)

/* Return the next step of a set, at the cluster time of the view. Pure. 0 or -ENOMEM. */
int rollout_step(const Cluster *cluster, const ClusterUnit *head, const RolloutConditions *conditions,
                 RolloutStep *ret);

/* Set why an instance of the set waits, is not available yet, or has failed; "" if it is available. 'braked':
 * the mass-failure brake is on. */
void rollout_explain(const Cluster *cluster, const RolloutSet *set, const RolloutInstance *instance,
                     bool braked, Error *ret_why);

/* A revert cannot be written because of 'cause': pause the rollout instead. */
void rollout_step_pause_instead(RolloutStep *step, const char *cause);

/* Write a step of the set of 'head', which is not ROLLOUT_NOTHING; a revert to a text that is not stored any
 * more, or that the store rejects, becomes a pause. As registry_roll(), or why the text of a revert cannot be
 * read. */
int rollout_step_write(Registry *registry, uint64_t term, const ClusterUnit *head, RolloutStep *step,
                       RegistryDone done, void *userdata);

/* -- Requests of people -- */

typedef enum RolloutVerb {
        ROLLOUT_PAUSE,
        ROLLOUT_RESUME,
        ROLLOUT_PROMOTE,
        _ROLLOUT_VERB_MAX,
        _ROLLOUT_VERB_INVALID = -EINVAL,
} RolloutVerb;

ENUM_NAMES(rollout_verb, RolloutVerb, _ROLLOUT_VERB_MAX)

typedef struct RolloutRequest {
        uint64_t now_ms, index; /* cluster time, and index of the store */
        const char *by;         /* the user; NULL: unknown */
} RolloutRequest;

/* Pause the rollout of the record: the time of a promotion stops. */
void rollout_pause(RolloutRecord *record, uint64_t now_ms, const char *why);

/* Return the record after a request; 'ret' is owned by the caller. -EALREADY: it is paused already; -EINVAL:
 * there is no rollout, or it is in another state; each with a message that has the next step. -ENOMEM. */
int rollout_ask(const ClusterUnit *head, RolloutVerb verb, const RolloutRequest *request, RolloutRecord *ret,
                Error *err);
