/* Secrets, and the contents of units with inputs (units/inputs.h): /_fleet/secret/NAME and
 * /_fleet/inputs/UNIT, written from KV_LEVEL_INPUTS on. As in units/stored_json.h. */
#pragma once

#include "units/hash.h"
#include "units/inputs.h"
#include "units/name.h"
#include "units/stored_cluster.h"
#include "units/verdict.h"

enum {
        SECRET_UNITS_MAX = 16,  /* patterns of one secret */
        INPUTS_WHAT_SIZE = 128, /* bytes; a longer one is cut */
};

/* {"by","clusterKey","lost","sealed","set","size","units":[],"version"} */
typedef struct SecretRecord {
        char by[RECORDED_BY_SIZE];
        uint64_t cluster_key; /* number of the key with which it is sealed */
        bool lost; /* the leader has no such key, and it is not the present one: the value cannot be opened */
        char *sealed;    /* owned; base64; NULL in the cluster view: it is read from the store */
        uint64_t set_ms; /* wall clock */
        uint64_t size;   /* bytes of the value */
        char (*units)[UNIT_NAME_MAX + 1]; /* owned; patterns of the units that may have it; none: all */
        size_t n_units;
        uint64_t version; /* from 1 on */
} SecretRecord;

STORED(secret, SecretRecord)

/* {"digest","number","problem","secrets","since","verdict","waits","what"}: the content of a unit, as the
 * leader last built it; "problem" is a message without a code */
typedef struct InputsRecord {
        char digest[UNIT_HASH_SIZE]; /* of the content with this number; "": there was none yet */
        uint64_t number;             /* in its set, from 1 on; 0: there was no content yet */
        Verdict problem;   /* why the present inputs give no content: the former one is in force; or none */
        bool waits;        /* the problem is an input that is missing */
        uint64_t secrets;  /* cluster_secrets_sum() of the secrets for which this record was decided */
        uint64_t since_ms; /* cluster time of the last change */
        char what[INPUTS_WHAT_SIZE]; /* the input that changed last, for people: "secret db-password",
                                        "/config/shop"; "": unknown */
} InputsRecord;

STORED(inputs, InputsRecord)

/* Return whether this may be a pattern of the units of a secret: visible ASCII, as in names of units. */
bool secret_pattern_is_valid(const char *s);
/* Return whether the secret is for this unit. */
bool secret_is_for(const SecretRecord *secret, const char *unit);
