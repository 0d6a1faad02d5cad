#include "units/stored_rollout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "units/json.h"

const char *const rollout_state_names[_ROLLOUT_STATE_MAX] = {
        [ROLLOUT_CANARY] = "canary",   [ROLLOUT_HELD] = "held",     [ROLLOUT_ROLLING] = "rolling",
        [ROLLOUT_PAUSING] = "pausing", [ROLLOUT_PAUSED] = "paused", [ROLLOUT_REVERTING] = "reverting",
        [ROLLOUT_DONE] = "done",
};

static const JsonWords state_words = { rollout_state_names, _ROLLOUT_STATE_MAX, -EBADMSG };

static_assert(sizeof(RolloutState) == sizeof(int), "JSON_FIELD_WORD reads and writes an int");

void rollout_record_done(RolloutRecord *rollout) {
        free(rollout->failed);
        *rollout = (RolloutRecord) {};
}

int rollout_record_copy(const RolloutRecord *rollout, RolloutRecord *ret) {
        RolloutRecord copy = *rollout;

        copy.failed = NULL;
        if (copy.n_failed > 0) {
                copy.failed = calloc(copy.n_failed, sizeof(*copy.failed));
                if (!copy.failed)
                        return -ENOMEM;
                memcpy(copy.failed, rollout->failed, copy.n_failed * sizeof(*copy.failed));
        }
        *ret = copy;
        return 0;
}

void rollout_record_clear_failures(RolloutRecord *rollout) {
        free(rollout->failed);
        rollout->failed = NULL;
        rollout->n_failed = 0;
        rollout->why[0] = 0;
        rollout->retry = 0;
}

static const JsonField failure_fields[] = {
        { "machine", JSON_FIELD_CHARS, offsetof(RolloutFailure, machine), .size = MACHINE_ID_SIZE },
        { "unit", JSON_FIELD_CHARS, offsetof(RolloutFailure, unit), .size = UNIT_NAME_MAX + 1 },
        { "why", JSON_FIELD_CHARS_CUT, offsetof(RolloutFailure, why), .size = ROLLOUT_WHY_SIZE },
};

static void failures_write(Text *t, const RolloutRecord *rollout) {
        if (rollout->n_failed == 0)
                return;
        json_open(t, "failed", '[');
        for (size_t i = 0; i < rollout->n_failed; i++)
                json_write_object(t, JSON_FIELDS(failure_fields), &rollout->failed[i]);
        json_close(t, ']');
}

static int failures_read(const JsonValue *object, RolloutRecord *ret, Error *err) {
        const JsonValue *array = json_value_member(object, "failed");
        size_t n = array ? json_value_count(array) : 0;
        int r;

        if (!array || n == 0)
                return 0;
        if (json_value_type(array) != JSON_VALUE_ARRAY || n > ROLLOUT_FAILURES_MAX)
                return error_set(err, -EBADMSG, "failed: expected a list of at most %d objects",
                                 ROLLOUT_FAILURES_MAX);
        ret->failed = calloc(n, sizeof(*ret->failed));
        if (!ret->failed)
                return -ENOMEM;
        for (; ret->n_failed < n; ret->n_failed++) {
                const JsonValue *item = json_value_item(array, ret->n_failed);

                if (json_value_type(item) != JSON_VALUE_OBJECT)
                        return error_set(err, -EBADMSG, "failed: expected objects");
                r = json_read_fields(item, JSON_FIELDS(failure_fields), &ret->failed[ret->n_failed], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

#define FIELD(member) offsetof(RolloutRecord, member)

/* Without the failed instances. */
static const JsonField rollout_fields[] = {
        { "added", JSON_FIELD_U64, FIELD(added) },
        { "available", JSON_FIELD_U64, FIELD(available) },
        { "before", JSON_FIELD_WORD, FIELD(before), .words = &state_words },
        { "begun", JSON_FIELD_U64, FIELD(begun) },
        { "by", JSON_FIELD_CHARS_CUT, FIELD(by), .size = RECORDED_BY_SIZE },
        { "completed", JSON_FIELD_U64, FIELD(completed.number) },
        { "completedHash", JSON_FIELD_CHARS, FIELD(completed.hash), .size = UNIT_HASH_SIZE },
        { "from", JSON_FIELD_U64, FIELD(from.number) },
        { "fromHash", JSON_FIELD_CHARS, FIELD(from.hash), .size = UNIT_HASH_SIZE },
        { "hold", JSON_FIELD_U64, FIELD(hold_ms) },
        { "placed", JSON_FIELD_U64, FIELD(placed) },
        { "progress", JSON_FIELD_U64, FIELD(progress_ms) },
        { "retry", JSON_FIELD_U64, FIELD(retry) },
        { "reverted", JSON_FIELD_U64, FIELD(reverted.number) },
        { "revertedHash", JSON_FIELD_CHARS, FIELD(reverted.hash), .size = UNIT_HASH_SIZE },
        { "served", JSON_FIELD_U64, FIELD(served) },
        { "since", JSON_FIELD_U64, FIELD(since_ms) },
        { "state", JSON_FIELD_WORD, FIELD(state), .required = true, .words = &state_words },
        { "to", JSON_FIELD_U64, FIELD(to.number), .required = true },
        { "toHash", JSON_FIELD_CHARS, FIELD(to.hash), .required = true, .size = UNIT_HASH_SIZE },
        { "until", JSON_FIELD_U64, FIELD(until_ms) },
        { "why", JSON_FIELD_CHARS_CUT, FIELD(why), .size = ROLLOUT_WHY_SIZE },
};

void stored_rollout_write(Text *t, const RolloutRecord *rollout) {
        json_open(t, NULL, '{');
        json_write_fields(t, JSON_FIELDS(rollout_fields), rollout);
        failures_write(t, rollout);
        json_close(t, '}');
}

int stored_rollout_read(const char *json, size_t size, RolloutRecord *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_rollout_ RolloutRecord rollout = {};
        int r;

        r = json_object_parse(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_fields(root, JSON_FIELDS(rollout_fields), &rollout, err);
        if (r >= 0)
                r = failures_read(root, &rollout, err);
        if (r < 0)
                return r;
        *ret = rollout;
        rollout = (RolloutRecord) {};
        return 0;
}
