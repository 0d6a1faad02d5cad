/* [X-Fleet]: from options to a Placement, through a table of every name and its older spellings. */
#pragma once

#include "base/error.h"
#include "units/placement.h"
#include "units/unit_file.h"

enum {
        OPTION_ITEM_MAX = 1024,  /* bytes of one name, glob or pair, specifiers put in */
        OPTION_ITEMS_MAX = 1024, /* items of one kind in one unit */
        WARNINGS_MAX = 20,       /* of one unit; the others are counted */
};

/* Something that is allowed but hardly meant. Shown to whoever submits, after the unit's name:
 * "line 11: warning: [X-Fleet] has no option Conflict; did you mean Conflicts?" */
typedef struct Warning {
        unsigned line;
        char *sentence; /* owned; without the line */
} Warning;

typedef struct Warnings {
        Warning *items;
        size_t n, capacity;
        size_t n_left_out;      /* beyond WARNINGS_MAX */
        unsigned left_out_line; /* of the first */
} Warnings;

void warnings_done(Warnings *warnings);
int warnings_add(Warnings *warnings, unsigned line, const char *sentence); /* copies; 0 or -ENOMEM */
int warnings_add_rest(
        Warnings *warnings); /* one more that says how many are left out, if any are; 0 or -ENOMEM */
#define _cleanup_warnings_ _cleanup_(warnings_done)

/* Reads sections [X-Fleet] and [X-Fleetd] of 'file'. 'name' is the unit's, for its specifiers; NULL
 * leaves them as they are. 'warnings' may be NULL; at most WARNINGS_MAX are added to it, also on failure.
 * Errors
 * (-EINVAL) begin with "line N: ": a MachineMetadata= that is not key=value is one, since a unit that asked
 * for something in vain would run anywhere. Empty values ask for nothing. */
int options_read(const UnitFile *file, const char *name, Placement *ret, Warnings *warnings, Error *err);
