/* Revisions: each text that a unit has had is stored with a number, from 1. Texts with one hash are one
 * revision. The key of the unit has the wanted revision, and lists the others; /_fleet/revision/NAME/NUMBER
 * has each of them, as the key of the unit had it. Pure. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "units/hash.h"
#include "units/json.h"
#include "units/update.h"

enum {
        REVISIONS_KEPT_MIN = 2, /* with the wanted one */
        REVISIONS_KEPT = 10,
        REVISIONS_KEPT_MAX = 100,
        REVISION_BY_SIZE = 33,
        REVISION_NUMBER_SIZE = 21, /* in digits */
};

typedef enum RevisionHow {
        REVISION_SUBMITTED,
        REVISION_DIRECTORY, /* from a unit directory */
        REVISION_REVERTED,
        _REVISION_HOW_MAX,
        _REVISION_HOW_INVALID = -EINVAL,
} RevisionHow;

ENUM_NAMES(revision_how, RevisionHow, _REVISION_HOW_MAX)

typedef struct Revision {
        uint64_t number;   /* 0, of the wanted one: stored below KV_LEVEL_REVISIONS, which counts as 1 */
        uint64_t since_ms; /* wall clock: when it became the wanted one; 0: unknown */
        char by[REVISION_BY_SIZE]; /* user; "": unknown, or a unit directory */
        RevisionHow how;
        char hash[UNIT_HASH_SIZE]; /* of a former one */
        UpdateRequest update;      /* of the wanted one of a unit that follows no template */
} Revision;

typedef struct Revisions {
        Revision wanted;
        Revision *former; /* owned; in the order in which they ceased to be wanted */
        size_t n_former;
} Revisions;

void revisions_done(Revisions *revisions);
#define _cleanup_revisions_ _cleanup_(revisions_done)

uint64_t revisions_wanted(const Revisions *revisions); /* its number: never 0 */
/* Return the former revision of that number or, if number is 0, of that hash; NULL: none. */
const Revision *revisions_find(const Revisions *revisions, uint64_t number, const char *hash);
/* 1 or more digits without a leading zero, below 2^63. Return 0 for another text. */
uint64_t revision_parse_number(const char *text);
const char *revision_print_number(uint64_t number, char ret[static REVISION_NUMBER_SIZE]); /* returns ret */

/* Find the revisions after a text with 'hash' has replaced the wanted one, with 'wanted_hash'. *ret has the
 * number of the new text, and no origin, unless the hashes are equal. 'keep' is the number of revisions that
 * are stored, with the new one: the oldest others are not in *ret any more. Return 0 or -ENOMEM. */
int revisions_next(const Revisions *all, const char *wanted_hash, const char *hash, size_t keep,
                   Revisions *ret);

void revisions_drop_older_half(Revisions *revisions); /* of the former ones, at least one */

/* The members "rev", "revs" and "since" of an object. */
void revisions_write(Text *t, const Revisions *revisions);
/* Read these, "by", "canary", "how" and "onFailure". -EBADMSG. The caller frees what was read, also after an
 * error. */
int revisions_read(const JsonValue *object, Revisions *ret, Error *err);
