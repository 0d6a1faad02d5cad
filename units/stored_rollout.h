/* Rollouts: a new text replaces the former one on the machines of a set, step by step.
 *
 * A set is what one rollout updates: the instances that follow a template, a global unit on its machines, or
 * one ordinary unit. Its record is /_fleet/rollout/NAME, by the name of the template or of the unit. Written
 * from KV_LEVEL_UPDATES on. As in units/stored_json.h. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "base/sizes.h"
#include "base/text.h"
#include "units/hash.h"
#include "units/name.h"
#include "units/revision.h"
#include "units/stored_cluster.h"
#include "units/verdict.h"

typedef enum RolloutState {
        ROLLOUT_CANARY,          /* the first instances are updated */
        ROLLOUT_HELD,            /* they are available; the others wait for a promotion */
        ROLLOUT_ROLLING,         /* the others are updated */
        ROLLOUT_BETWEEN_BATCHES, /* UpdatePauseSec=; in the API "pausing" */
        ROLLOUT_PAUSED,          /* by a failure or a user */
        ROLLOUT_REVERTING,       /* to the last text that was completed */
        ROLLOUT_DONE,
        _ROLLOUT_STATE_MAX,
        _ROLLOUT_STATE_INVALID = -EINVAL,
} RolloutState;

ENUM_NAMES(rollout_state, RolloutState, _ROLLOUT_STATE_MAX)

/* How the last rollout of a text ended. */
typedef enum RolloutResult {
        ROLLOUT_COMPLETED, /* all instances that were reachable had the text, and were available */
        ROLLOUT_FAILED,
        ROLLOUT_REVERTED,
        _ROLLOUT_RESULT_MAX,
        _ROLLOUT_RESULT_INVALID = -EINVAL,
} RolloutResult;

ENUM_NAMES(rollout_result, RolloutResult, _ROLLOUT_RESULT_MAX)

enum {
        ROLLOUT_OUTCOMES_MAX = REVISIONS_KEPT_MAX,
        ROLLOUT_FAILURES_MAX = 16,
        ROLLOUT_WHY_SIZE = 160,
};

/* A revision: its number and the hash of its text, and with OnChange=restart the content of the set: the
 * highest number of its units. Number 0: none. */
typedef struct RolloutText {
        uint64_t number;
        char hash[UNIT_HASH_SIZE];
        uint64_t inputs; /* 0: of a set that is not restarted for a content */
} RolloutText;

typedef struct RolloutFailure {
        char unit[UNIT_NAME_MAX + 1];
        char machine[MACHINE_ID_SIZE];
        char why[ROLLOUT_WHY_SIZE];
} RolloutFailure;

/* Of a stored text: the numbers of a unit that was destroyed and submitted again name other texts. */
typedef struct RolloutOutcome {
        char hash[UNIT_HASH_SIZE];
        RolloutResult result;
} RolloutOutcome;

/* {"added","available","before","begun","by","code","completed","completedHash","completedInputs",
 * "failed":[{"machine","unit","why"}],"from","fromHash","fromInputs","hold","left",
 * "outcomes":[{"hash","result"}],"placed","progress","retry","reverted","revertedHash","revertedInputs",
 * "revertedWhy","served","since","state","to","toHash","toInputs","until","why"} */
typedef struct RolloutRecord {
        RolloutState state;
        RolloutState before;   /* of ROLLOUT_PAUSED: the state that continues */
        RolloutText to;        /* the text that the instances get */
        RolloutText from;      /* the one that they had; none: unknown */
        RolloutText completed; /* the last one that all instances had and were available with */
        RolloutText reverted;  /* the last one that was abandoned because it failed */
        uint64_t hold_ms;      /* Assignment.hold_ms of an instance that has 'completed'; 0: no singleton */
        uint64_t since_ms;     /* cluster time of the begin of the rollout */
        uint64_t progress_ms;  /* cluster time at which the last instance became available */
        uint64_t until_ms;     /* cluster time of the end of UpdatePauseSec= or of Promote=; 0: none; of
                                  ROLLOUT_PAUSED: ms that are left until then */
        /* Instances at 'progress_ms' that were available with 'to', or had left the set: */
        uint64_t available;
        uint64_t begun; /* index of the store at which 'to' became the text of the rollout: it has not touched
                           assignments up to this index */
        uint64_t placed; /* instances that had a machine at the begin of the rollout, or got one since */
        uint64_t added;  /* instances in 'placed' that got their machine since the begin */
        uint64_t left;   /* instances in 'placed' that are not in the set any more */
        uint64_t served; /* instances that were available at the begin of the rollout */
        uint64_t retry;  /* failed instances whose assignments precede this index are updated again */
        char by[RECORDED_BY_SIZE];           /* who requested the text */
        VerdictCode code;                    /* VERDICT_INSTANCE_FAILED: 'why' is the first of 'failed';
                                                VERDICT_ROLLOUT_PAUSED_BY: a user has paused it; or none */
        char why[ROLLOUT_WHY_SIZE];          /* of ROLLOUT_PAUSED, or of the revert */
        char reverted_why[ROLLOUT_WHY_SIZE]; /* of 'reverted'; "": 'why' has it, of an older daemon */
        RolloutFailure *failed;              /* owned */
        size_t n_failed;                     /* at most ROLLOUT_FAILURES_MAX */
        RolloutOutcome *outcomes;            /* owned; of the stored texts, by the order of their ends */
        size_t n_outcomes;                   /* at most ROLLOUT_OUTCOMES_MAX */
} RolloutRecord;

STORED(rollout, RolloutRecord)
#define _cleanup_rollout_ _cleanup_(rollout_record_done)

/* Return whether its instances have the text already, and get another content. */
bool rollout_record_is_of_content(const RolloutRecord *rollout);
/* Set what they get, for people: "revision 3", "content 2". */
enum { ROLLOUT_LABEL_SIZE = 32 };
void rollout_record_label(const RolloutRecord *rollout, char ret[static ROLLOUT_LABEL_SIZE]);

/* Remove the failed instances and the reason. */
void rollout_record_clear_failures(RolloutRecord *rollout);

/* Return why 'reverted' was abandoned. */
const char *rollout_record_reverted_why(const RolloutRecord *rollout);

/* Keep how the rollout of a text ended, instead of an earlier end. 0 or -ENOMEM. */
int rollout_record_end(RolloutRecord *rollout, const char *hash, RolloutResult result);
/* Drop the outcomes of texts that are not stored any more: neither of 'wanted' nor a former one. */
void rollout_record_drop_outcomes(RolloutRecord *rollout, const char *wanted, const Revisions *revisions);
/* Return the outcome of a text; NULL: unknown. */
const RolloutOutcome *rollout_record_outcome(const RolloutRecord *rollout, const char *hash);
