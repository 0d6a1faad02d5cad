/* Unit: a name, the text as submitted, and the values parsed from it. Immutable.
 *
 * The text keeps every byte, comments included; the hash is that of the canonical form. */
#pragma once

#include "units/class.h"
#include "units/effect.h"
#include "units/hash.h"
#include "units/options.h"
#include "units/placement.h"
#include "units/revision.h"
#include "units/unit_file.h"

enum {
        UNIT_JSON_MAX = 2 * 1024 * 1024, /* json_size of a unit that is submitted */
        /* Bytes of its value below /_fleet, which fits into one log entry. */
        RECORD_SIZE_MAX = 224 * 1024,
};

typedef struct Unit {
        char *name;
        char *text; /* as submitted; terminated */
        size_t text_size;
        size_t json_size; /* approximate size in an answer of the API, where each option repeats its section
                           */
        char hash[UNIT_HASH_SIZE];         /* of the canonical text: fleet's, shown to people */
        char systemd_hash[UNIT_HASH_SIZE]; /* of the same without [X-Fleet] */
        UnitFile file;
        Placement placement; /* specifiers replaced */
        UnitClass class;
        Warnings warnings; /* only after unit_check() */
        char *owner;     /* id of the machine whose unit directory has the file; NULL: submitted by people */
        char *path;      /* of that file; NULL: none */
        char *from;      /* the template that it follows; NULL: none */
        size_t own_size; /* the last bytes of the text: drop-ins of its own, after the text of that template
                          */
        uint64_t own;    /* their hash, 53 bits; 0: none */
        char base[UNIT_HASH_SIZE]; /* hash of the text without them */
        Revisions revisions;       /* of a stored unit; the numbers are 0 otherwise */
} Unit;

/* Parse and check a submitted unit: name, grammar, [X-Fleet], combinations, size. An error begins with "line
 * N: " if a line breaks the rule. The caller adds the unit's name (error_prefix(err, r, "%s", name)).
 * -EINVAL, -EBADMSG, -EFBIG, -ENOMEM. */
int unit_parse(const char *name, const char *text, size_t size, Unit **ret, Error *err);

/* Check the rules of unit_parse() that unit_read() does not. A stored unit need not pass: the version that
 * stored it may have had other rules and limits. A submitted unit that equals the stored one is not checked.
 *
 * *steps counts comparisons (placement_check()). It is 0 before the first unit of a request; the units of a
 * request share the limit. */
int unit_check(Unit *unit, size_t *steps, Error *err);

/* Check the options of updates, health and services that have specifiers, or rules for the name, which are
 * accepted without a name, with the name of the unit or of an instance that follows it. */
int unit_check_expanded(const Unit *unit, const char *name, Error *err);

/* Reject a number of instances of the template whose texts exceed UNIT_REPLICAS_BYTES_MAX. -EINVAL. */
int unit_check_replicas(const Unit *unit, unsigned n, Error *err);

/* Reject an option that belongs into a template, if the unit has it: 0, or -EINVAL with its line. */
int unit_refuse_of_template(const Unit *unit, const char *option, Error *err);

/* Return whether the option makes systemd start, or look for, the units that it names. */
bool unit_option_starts(const UnitOption *option);

/* Add every fault for which unit_parse() would reject the text, not only the first, and every warning. A text
 * that does not parse as a file has one fault. Line 0: the file as a whole. Return 0 or -ENOMEM. */
int unit_verify(const char *name, const char *text, size_t size, Warnings *faults, Warnings *warnings);

/* Parse a unit that was accepted before, perhaps by a version with fewer rules: only a text that does not
 * parse is an error. Collects no warnings. */
int unit_read(const char *name, const char *text, size_t size, Unit **ret, Error *err);

/* Accepts NULL and half-built units. Returns NULL. */
Unit *unit_free(Unit *unit);
DEFINE_CLEANUP(Unit *, unit_free)
#define _cleanup_unit_ _cleanup_(unit_freep)

int unit_set_owner(Unit *unit, const char *owner, const char *path); /* copies; NULL: none. 0 or -ENOMEM */

/* Return whether an instance may follow the template: it has its text, alone or followed by drop-ins of its
 * own and nothing else. *ret_own: their size. */
bool unit_has_text_of(const Unit *unit, const Unit *template, size_t *ret_own);
/* Append the drop-ins of the instance itself that its text has, without those of its template. 0 or -ENOMEM.
 */
int unit_append_own_drop_ins(Text *t, const char *name, const char *text);
/* Return the hash of the text without the drop-ins of the instance itself at its end. 0 or a negative errno.
 */
int unit_hash_without_own(const Unit *unit, char ret[static UNIT_HASH_SIZE]);
/* Its last bytes are drop-ins of its own. */
void unit_set_own(Unit *unit, size_t size);
/* Read the text that an instance gets from the template: with the drop-ins of its own. 0 or a negative errno.
 */
int unit_compose(const Unit *instance, const Unit *template, Unit **ret);

bool unit_finishes(const Unit *unit); /* by its class */
/* Return the unit that a trigger starts, borrowed; NULL: it is none. */
const char *unit_triggered(const Unit *unit);

bool unit_equal(const Unit *a, const Unit *b); /* same hash */
/* Return the effect of a text on the running unit that has the former text (units/effect.h). A singleton has
 * a guard from its start on, so a change of Singleton= restarts. The time after which another host starts a
 * singleton follows from its text, so its process keeps the text with which it was started: no option is
 * live. Without memory, options of systemd restart. */
UnitEffect unit_effect(const Unit *former, const Unit *unit);
/* Return whether a process that runs with one text need not be restarted for the other. */
bool unit_runs_same(const Unit *a, const Unit *b);

/* The value of /_fleet/unit/NAME and of /_fleet/revision/NAME/NUMBER:
 * {"by","from","hash","how","own","owner","path","rev","revs":[{"by","hash","how","rev","since"}],"since",
 * "text"}.
 * Other hosts, also with older and newer versions, read it; an unknown member is ignored. Without a number,
 * no revision is written. */
void stored_unit_write(Text *t, const Unit *unit);
int stored_unit_read(const char *name, const char *json, size_t size, Unit **ret, Error *err);
