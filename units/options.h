/* [X-Fleet]: parses options into a Placement, by a table of all names and their older spellings. */
#pragma once

#include "units/placement.h"
#include "units/unit_file.h"

enum {
        OPTION_ITEM_MAX = 1024,  /* bytes of one name, glob or pair, specifiers replaced */
        OPTION_ITEMS_MAX = 1024, /* items of one kind in one unit */
        WARNINGS_MAX = 20,       /* per unit; further ones are only counted */
};

/* A line that is valid but probably a mistake. fleetctl prints it after the unit's name:
 * "line 11: warning: [X-Fleet] has no option Conflict; did you mean Conflicts?" */
typedef struct Warning {
        unsigned line;
        char *message; /* owned; without the line */
} Warning;

typedef struct Warnings {
        Warning *items;
        size_t n, capacity;
        size_t n_left_out;      /* beyond WARNINGS_MAX */
        unsigned left_out_line; /* of the first */
} Warnings;

void warnings_done(Warnings *warnings);
int warnings_add(Warnings *warnings, unsigned line, const char *message); /* copies; 0 or -ENOMEM */
/* Add a warning with the number of those left out, if there are any. Return 0 or -ENOMEM. */
int warnings_add_rest(Warnings *warnings);
#define _cleanup_warnings_ _cleanup_(warnings_done)

/* Parse sections [X-Fleet] and [X-Fleetd] of 'file'. 'name' is the unit's, for specifiers; NULL keeps
 * specifiers. 'warnings' may be NULL; up to WARNINGS_MAX are added, also on failure. Empty values have no
 * effect.
 *
 * Errors (-EINVAL) begin with "line N: ". A MachineMetadata= that is not key=value is an error: if it were
 * ignored, the unit would run on any machine. An unknown value of Move= is an error only without 'name' or
 * with 'warnings': a unit that a later version has stored stays readable (PLACEMENT_MOVE_UNKNOWN). */
int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err);
