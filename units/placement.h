/* What a unit asks of a machine: the plain values behind [X-Fleet], and the small questions that the
 * scheduler's rules are made of. Pure; which machine it is to be, fleetd/scheduler/ says.
 *
 * Source: fleet.unit(5), and fleet's own matching (job/job.go, engine/scheduler.go). */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"
#include "units/lists.h"

enum {
        PEER_STEPS_MAX = 2000000, /* of comparing MachineOf= with Conflicts= and Replaces=
                                     (glob_match_counted()) in one request: some milliseconds */
        PATTERN_BYTES_MAX =
                16 * 1024, /* of Conflicts=, and of Replaces=, behind the first '*' or '[' of each pattern */
};

typedef struct Placement {
        char *machine_id; /* MachineID=: 32 hex digits, or their first 8; NULL: any */
        Names machine_of; /* MachineOf=: units that must be on the same machine, all of them */
        Pairs metadata;   /* MachineMetadata=: keys are ANDed, values of one key ORed */
        Names conflicts;  /* Conflicts=: globs of units that must not be there */
        Names replaces;   /* Replaces=: globs of units that have to go from there */
        bool global;      /* Global=: on every machine that fits */
} Placement;

void placement_done(Placement *placement);
#define _cleanup_placement_ _cleanup_(placement_done)

bool placement_equal(const Placement *a, const Placement *b);

/* Combinations that cannot be meant; -EINVAL with fleet's text, the first failing rule wins. What takes more
 * than PEER_STEPS_MAX to judge is refused, too: *steps has those of the placements judged before, which share
 * the limit. Takes the values before specifiers are put in (options_read() with name NULL). */
int placement_check(const Placement *placement, size_t *steps, Error *err);

/* Refuse patterns that take long to compare with a single name (PATTERN_BYTES_MAX): what follows a '*' may be
 * tried at each place of it, and a class may be long. Takes the values with specifiers put in. -EINVAL. */
int placement_check_patterns(const Placement *placement, Error *err);

/* MachineID=: is it this machine? True if nothing is asked. */
bool placement_machine_id_fits(const Placement *placement, const char *machine_id);

/* MachineMetadata=: has the machine each key with one of its values? If not, *ret_key (may be NULL) is the
 * first key that misses; it borrows from 'placement'. */
bool placement_metadata_fits(const Placement *placement, const Pairs *metadata, const char **ret_key);

/* "zone=a|b": what is asked under one key, as people read it. */
void placement_metadata_describe(const Placement *placement, const char *key, Text *t);

/* Does a glob of the list match the name? Returns the glob (borrowed) or NULL. A unit never conflicts with
 * itself: callers do not ask for its own name. */
const char *placement_match(const Names *globs, const char *name);

/* Two units that may not be on one machine, whoever says so. *ret_glob (may be NULL) is the glob that says
 * it. */
bool placement_conflict(const Placement *a, const char *a_name, const Placement *b, const char *b_name,
                        const char **ret_glob);
