/* [X-Fleet]: parses options into a Placement, by a table of all names and their older spellings. */
#pragma once

#include "units/placement.h"
#include "units/unit_file.h"
#include "units/warnings.h"

enum {
        OPTION_ITEM_MAX = 1024,  /* bytes of one name, glob or pair, specifiers replaced */
        OPTION_ITEMS_MAX = 1024, /* items of one kind in one unit */
};

/* Parse sections [X-Fleet] and [X-Fleetd] of 'file'. 'name' is the unit's, for specifiers; NULL keeps
 * specifiers. 'warnings' may be NULL; up to WARNINGS_MAX are added, also on failure. Empty values have no
 * effect.
 *
 * Errors (-EINVAL) begin with "line N: ". A MachineMetadata= that is not key=value is an error: if it were
 * ignored, the unit would run on any machine. An unknown value of Move= is an error only without 'name' or
 * with 'warnings': a unit that a later version has stored stays readable (PLACEMENT_MOVE_UNKNOWN). */
int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err);

/* Return whether the option begins with the feature level of updates (units/update.h). */
bool options_begin_with_updates(const char *name);
