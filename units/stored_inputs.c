#include "units/stored_inputs.h"

bool secret_pattern_is_valid(const char *s) {
        size_t size = 0;

        while (s[size] > ' ' && s[size] <= '~')
                size++;
        return size > 0 && size <= UNIT_NAME_MAX && s[size] == 0;
}

static const JsonList secret_units = { NULL,
                                       0,
                                       UNIT_NAME_MAX + 1,
                                       SECRET_UNITS_MAX,
                                       offsetof(SecretRecord, n_units),
                                       true,
                                       .is_valid = secret_pattern_is_valid };

static const JsonField secret_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(SecretRecord, by), .size = RECORDED_BY_SIZE },
        { "clusterKey", JSON_FIELD_U64, offsetof(SecretRecord, cluster_key), true },
        { "lost", JSON_FIELD_BOOL, offsetof(SecretRecord, lost) },
        { "sealed", JSON_FIELD_OWNED_OR_NULL, offsetof(SecretRecord, sealed) },
        { "set", JSON_FIELD_U64, offsetof(SecretRecord, set_ms) },
        { "size", JSON_FIELD_U64, offsetof(SecretRecord, size), true },
        { "units", JSON_FIELD_LIST, offsetof(SecretRecord, units), .list = &secret_units },
        { "version", JSON_FIELD_U64, offsetof(SecretRecord, version), true },
};

static int secret_check(void *record, Error *err) {
        const SecretRecord *secret = record;

        return secret->size <= SECRET_SIZE_MAX ?
                       0 :
                       error_set(err, -EBADMSG, "size: expected at most %d", SECRET_SIZE_MAX);
}

const JsonRecord secret_record = { JSON_FIELDS(secret_fields), sizeof(SecretRecord), secret_check };

bool secret_is_for(const SecretRecord *secret, const char *unit) {
        for (size_t i = 0; i < secret->n_units; i++)
                if (glob_match(secret->units[i], unit))
                        return true;
        return secret->n_units == 0;
}

static const JsonField inputs_fields[] = {
        { "digest", JSON_FIELD_CHARS, offsetof(InputsRecord, digest), .size = UNIT_HASH_SIZE },
        { "number", JSON_FIELD_U64, offsetof(InputsRecord, number) },
        { "problem", JSON_FIELD_OTHER, offsetof(InputsRecord, problem), .size = sizeof(Verdict),
          .write = verdict_add_said, .read = verdict_read_said },
        { "secrets", JSON_FIELD_U64, offsetof(InputsRecord, secrets) },
        { "since", JSON_FIELD_U64, offsetof(InputsRecord, since_ms) },
        { "verdict", JSON_FIELD_OTHER, offsetof(InputsRecord, problem), .size = sizeof(Verdict),
          .write = verdict_write, .read = verdict_read },
        { "waits", JSON_FIELD_BOOL, offsetof(InputsRecord, waits) },
        { "what", JSON_FIELD_CHARS_CUT, offsetof(InputsRecord, what), .size = INPUTS_WHAT_SIZE },
};

const JsonRecord inputs_record = { JSON_FIELDS(inputs_fields), sizeof(InputsRecord) };
