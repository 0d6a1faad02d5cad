/* Unit: a name, the text as its owner gave it, and everything the text means. Immutable once made; the text
 * is kept to the byte, since people want their comments back, while the hash is that of the canonical form.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "units/hash.h"
#include "units/options.h"
#include "units/placement.h"
#include "units/unit_file.h"

enum { UNIT_JSON_MAX = 2 * 1024 * 1024 }; /* json_size of a unit that is submitted */

typedef struct Unit {
        char *name;
        char *text; /* as given; terminated */
        size_t text_size;
        size_t json_size; /* about the bytes of text and options in an answer of the API, where each option
                             has the name of its section */
        char hash[UNIT_HASH_SIZE];         /* of the canonical text: fleet's, shown to people */
        char systemd_hash[UNIT_HASH_SIZE]; /* of the same without [X-Fleet] */
        UnitFile file;
        Placement placement; /* specifiers put in */
        Warnings warnings;   /* only after unit_check() */
        char *owner;         /* the machine whose directory it comes from, or NULL: people's */
        char *path;          /* the file there, or NULL */
} Unit;

/* Checks and makes a unit from what somebody submits: name, grammar, [X-Fleet], combinations, size. Errors
 * begin with "line N: " where there is a line, and never with the unit's name: that, the caller puts in front
 * where it is not plain from elsewhere (error_prefix(err, r, "%s", name)). -EINVAL, -EBADMSG, -EFBIG,
 * -ENOMEM. */
int unit_parse(const char *name, const char *text, size_t size, Unit **ret, Error *err);

/* What unit_parse() checks beyond unit_read(). A unit that is stored need not pass: the version that stored
 * it may have had other rules and limits. A caller that has read the same unit as the stored one does not
 * check it, since nothing new is stored.
 *
 * *steps counts what is compared (placement_check()): 0 before the first unit of a request, whose units share
 * the limit. */
int unit_check(Unit *unit, size_t *steps, Error *err);

/* All that unit_parse() would refuse, and not only the first: a text that cannot be read as a file has one
 * fault, any other as many as it has options that are wrong. Line 0: of the file as a whole. Both are added
 * to; 0 or -ENOMEM. */
int unit_verify(const char *name, const char *text, size_t size, Warnings *faults, Warnings *warnings);

/* The same for what was accepted before, perhaps by a version with fewer rules: only what cannot be read at
 * all is an error, and no warnings are collected. */
int unit_read(const char *name, const char *text, size_t size, Unit **ret, Error *err);

/* NULL and half-built units are fine; returns NULL. */
Unit *unit_free(Unit *unit);
DEFINE_CLEANUP(Unit *, unit_free)
#define _cleanup_unit_ _cleanup_(unit_freep)

int unit_set_owner(Unit *unit, const char *owner, const char *path); /* copies; NULL: none */

bool unit_has_install(const Unit *unit);        /* has [Install]: fleet enables such units */
const char *unit_description(const Unit *unit); /* Description=, or ""; borrowed */
bool unit_equal(const Unit *a, const Unit *b);  /* same hash: nothing to do */
bool unit_runs_same(const Unit *a,
                    const Unit *b); /* they differ in [X-Fleet] at most: no running process need know */
