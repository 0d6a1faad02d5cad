/* [X-Fleet]: parses options into a Placement, by a table of all names and their older spellings. */
#pragma once

#include "units/placement.h"
#include "units/unit_file.h"
#include "units/warnings.h"

enum {
        OPTION_ITEM_MAX = 1024,  /* bytes of one name, glob or pair, specifiers replaced */
        OPTION_ITEMS_MAX = 1024, /* items of one kind in one unit */

        /* Feature levels (kvstore/command/command.h) */
        OPTION_LEVEL_UPDATES = 9,
        OPTION_LEVEL_SERVICES = 11,
        OPTION_LEVEL_SCHEDULING = 12,
        OPTION_LEVEL_INPUTS = 13,
};

/* Parse sections [X-Fleet] and [X-Fleetd] of 'file'. 'name' is the unit's, for specifiers; NULL keeps
 * specifiers. 'warnings' may be NULL; up to WARNINGS_MAX are added, also on failure. Empty values have no
 * effect.
 *
 * Errors (-EINVAL) begin with "line N: ". A MachineMetadata= that is not key=value is an error: if it were
 * ignored, the unit would run on any machine. An unknown value of Move= is an error only without 'name' or
 * with 'warnings': a unit that a later version has stored stays readable (PLACEMENT_MOVE_UNKNOWN). Rules of
 * Service= and Port= that depend on the unit's name are checked with both. */
int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err);

/* Return the feature level of the cluster at which the option begins; 0: it has always existed, or does not
 * exist. */
unsigned options_level(const char *name);
