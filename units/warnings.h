/* Warnings about the lines of a unit file. */
#pragma once

#include "base/error.h"

enum {
        WARNINGS_MAX = 20, /* per unit; further ones are only counted */
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
/* Return whether no further warning is added, and then count it. */
bool warnings_are_full(Warnings *warnings, unsigned line);
/* Add a warning with the number of those left out, if there are any. Return 0 or -ENOMEM. */
int warnings_add_rest(Warnings *warnings);
#define _cleanup_warnings_ _cleanup_(warnings_done)
