#include "units/stored_rollout.h"

#include "units/verdict_former.h"

const char *const rollout_state_names[_ROLLOUT_STATE_MAX] = {
        [ROLLOUT_CANARY] = "canary",   [ROLLOUT_HELD] = "held",
        [ROLLOUT_ROLLING] = "rolling", [ROLLOUT_BETWEEN_BATCHES] = "pausing",
        [ROLLOUT_PAUSED] = "paused",   [ROLLOUT_REVERTING] = "reverting",
        [ROLLOUT_DONE] = "done",
};

const char *const rollout_result_names[_ROLLOUT_RESULT_MAX] = {
        [ROLLOUT_COMPLETED] = "completed",
        [ROLLOUT_FAILED] = "failed",
        [ROLLOUT_REVERTED] = "reverted",
};

static const JsonWords result_words = { rollout_result_names, _ROLLOUT_RESULT_MAX, -EBADMSG };

static const JsonWords rollout_state_words = { rollout_state_names, _ROLLOUT_STATE_MAX, -EBADMSG };

bool rollout_record_is_of_content(const RolloutRecord *r) {
        return r->from.number > 0 && streq(r->from.hash, r->to.hash) && r->from.inputs != r->to.inputs;
}

void rollout_record_label(const RolloutRecord *r, char ret[static ROLLOUT_LABEL_SIZE]) {
        bool content = rollout_record_is_of_content(r);

        snprintf(ret, ROLLOUT_LABEL_SIZE, "%s %llu", content ? "content" : "revision",
                 (unsigned long long) (content ? r->to.inputs : r->to.number));
}

void rollout_record_clear_failures(RolloutRecord *rollout) {
        free(rollout->failed);
        rollout->failed = NULL;
        rollout->n_failed = 0;
        rollout->why[0] = 0;
        rollout->code = VERDICT_NONE;
        rollout->retry = 0;
}

const char *rollout_record_reverted_why(const RolloutRecord *rollout) {
        return *rollout->reverted_why ? rollout->reverted_why : rollout->why;
}

static void outcomes_remove(RolloutRecord *rollout, size_t i) {
        rollout->n_outcomes--;
        memmove(&rollout->outcomes[i], &rollout->outcomes[i + 1],
                (rollout->n_outcomes - i) * sizeof(*rollout->outcomes));
}

int rollout_record_end(RolloutRecord *rollout, const char *hash, RolloutResult result) {
        const RolloutOutcome *before = rollout_record_outcome(rollout, hash);
        RolloutOutcome *grown;

        if (before)
                outcomes_remove(rollout, (size_t) (before - rollout->outcomes));
        else if (rollout->n_outcomes == ROLLOUT_OUTCOMES_MAX)
                outcomes_remove(rollout, 0);
        grown = realloc(rollout->outcomes, (rollout->n_outcomes + 1) * sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        rollout->outcomes = grown;
        grown[rollout->n_outcomes] = (RolloutOutcome) { .result = result };
        snprintf(grown[rollout->n_outcomes++].hash, UNIT_HASH_SIZE, "%s", hash);
        return 0;
}

void rollout_record_drop_outcomes(RolloutRecord *rollout, const char *wanted, const Revisions *revisions) {
        for (size_t i = rollout->n_outcomes; i > 0; i--) {
                const char *hash = rollout->outcomes[i - 1].hash;

                if (!streq(hash, wanted) && !revisions_find(revisions, 0, hash))
                        outcomes_remove(rollout, i - 1);
        }
}

const RolloutOutcome *rollout_record_outcome(const RolloutRecord *rollout, const char *hash) {
        for (size_t i = 0; i < rollout->n_outcomes; i++)
                if (streq(rollout->outcomes[i].hash, hash))
                        return &rollout->outcomes[i];
        return NULL;
}

static const JsonField failure_fields[] = {
        { "machine", JSON_FIELD_CHARS, offsetof(RolloutFailure, machine), .size = MACHINE_ID_SIZE },
        { "unit", JSON_FIELD_CHARS, offsetof(RolloutFailure, unit), .size = UNIT_NAME_MAX + 1 },
        { "why", JSON_FIELD_CHARS_CUT, offsetof(RolloutFailure, why), .size = ROLLOUT_WHY_SIZE },
};

static const JsonField outcome_fields[] = {
        { "hash", JSON_FIELD_CHARS, offsetof(RolloutOutcome, hash), true, .size = UNIT_HASH_SIZE },
        { "result", JSON_FIELD_WORD, offsetof(RolloutOutcome, result), true, .words = &result_words },
};

static const JsonList failures_list = { JSON_FIELDS(failure_fields), sizeof(RolloutFailure),
                                        ROLLOUT_FAILURES_MAX, offsetof(RolloutRecord, n_failed), true };
static const JsonList outcomes_list = { JSON_FIELDS(outcome_fields), sizeof(RolloutOutcome),
                                        ROLLOUT_OUTCOMES_MAX, offsetof(RolloutRecord, n_outcomes), true };

#define FIELD(member) offsetof(RolloutRecord, member)

static const JsonField rollout_fields[] = {
        { "added", JSON_FIELD_U64, FIELD(added) },
        { "available", JSON_FIELD_U64, FIELD(available) },
        { "before", JSON_FIELD_WORD, FIELD(before), .words = &rollout_state_words },
        { "begun", JSON_FIELD_U64, FIELD(begun) },
        { "by", JSON_FIELD_CHARS_CUT, FIELD(by), .size = RECORDED_BY_SIZE },
        { "code", JSON_FIELD_OTHER, FIELD(code), .size = sizeof(VerdictCode), .write = verdict_code_write,
          .read = verdict_code_read },
        { "completed", JSON_FIELD_U64, FIELD(completed.number) },
        { "completedHash", JSON_FIELD_CHARS, FIELD(completed.hash), .size = UNIT_HASH_SIZE },
        { "completedInputs", JSON_FIELD_U64, FIELD(completed.inputs) },
        { "from", JSON_FIELD_U64, FIELD(from.number) },
        { "fromHash", JSON_FIELD_CHARS, FIELD(from.hash), .size = UNIT_HASH_SIZE },
        { "fromInputs", JSON_FIELD_U64, FIELD(from.inputs) },
        { "hold", JSON_FIELD_U64, FIELD(hold_ms) },
        { "left", JSON_FIELD_U64, FIELD(left) },
        { "placed", JSON_FIELD_U64, FIELD(placed) },
        { "progress", JSON_FIELD_U64, FIELD(progress_ms) },
        { "retry", JSON_FIELD_U64, FIELD(retry) },
        { "reverted", JSON_FIELD_U64, FIELD(reverted.number) },
        { "revertedHash", JSON_FIELD_CHARS, FIELD(reverted.hash), .size = UNIT_HASH_SIZE },
        { "revertedInputs", JSON_FIELD_U64, FIELD(reverted.inputs) },
        { "revertedWhy", JSON_FIELD_CHARS_CUT, FIELD(reverted_why), .size = ROLLOUT_WHY_SIZE },
        { "served", JSON_FIELD_U64, FIELD(served) },
        { "since", JSON_FIELD_U64, FIELD(since_ms) },
        { "state", JSON_FIELD_WORD, FIELD(state), .required = true, .words = &rollout_state_words },
        { "to", JSON_FIELD_U64, FIELD(to.number), .required = true },
        { "toHash", JSON_FIELD_CHARS, FIELD(to.hash), .required = true, .size = UNIT_HASH_SIZE },
        { "toInputs", JSON_FIELD_U64, FIELD(to.inputs) },
        { "until", JSON_FIELD_U64, FIELD(until_ms) },
        { "why", JSON_FIELD_CHARS_CUT, FIELD(why), .size = ROLLOUT_WHY_SIZE },
        { "failed", JSON_FIELD_LIST, FIELD(failed), .list = &failures_list },
        { "outcomes", JSON_FIELD_LIST, FIELD(outcomes), .list = &outcomes_list },
};

static int rollout_check(void *record, Error *err) {
        RolloutRecord *r = record;

        if (r->code == VERDICT_NONE && r->n_failed > 0)
                r->code = verdict_read_former_failure(r->failed[0].unit, r->why);
        return 0;
}

const JsonRecord rollout_record = { JSON_FIELDS(rollout_fields), sizeof(RolloutRecord), rollout_check };
