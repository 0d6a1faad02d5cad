/* The identity of a unit's contents: SHA-1 of the canonical text, as fleet computed it, so that a hash seen
 * there is the hash seen here. It tells contents apart; it protects nothing. */
#pragma once

#include "base/error.h"
#include "units/unit_file.h"

enum {
        UNIT_HASH_SIZE = 41,
        UNIT_HASH_SHORT = 7
}; /* 40 hex digits and the terminator; digits shown in lists */

/* Of the whole file. */
int unit_file_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]);

/* Of what systemd reads: without the sections that are ours. Units with equal ones run the same thing. */
int unit_file_systemd_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]);
