/* Index of patterns: the units that name a given unit in their Conflicts=, Replaces= or MachineOf=; or, as
 * patterns without a wildcard, other objects.
 *
 * A pattern is filed under its literal prefix. The search for a name tries each prefix of the name, so that
 * it compares only the patterns with such a prefix, however many others there are. */
#pragma once

#include <sys/queue.h>

#include "base/table.h"

enum {
        PATTERNS_NAME_MAX = 255, /* bytes of a name, and of the prefixes under which patterns are filed */
        PATTERNS_STEPS = 64,     /* steps of glob_match_counted() that take as long as finding a pattern */
};

struct ClusterUnit;

/* One pattern and its units; a unit that has the pattern twice is there twice. */
typedef struct Pattern {
        struct ClusterUnit **units; /* borrowed */
        size_t n, capacity;
        LIST_ENTRY(Pattern) of_prefix;
        UT_hash_handle hh; /* by text */
        char text[];
} Pattern;

typedef struct PatternPrefix PatternPrefix;

typedef struct Patterns {
        Pattern *all;                            /* table by text */
        PatternPrefix *prefixes;                 /* table by prefix */
        size_t n_by_size[PATTERNS_NAME_MAX + 1]; /* prefixes of that many bytes */
} Patterns;

int patterns_add(Patterns *p, const char *text, struct ClusterUnit *unit); /* 0 or -ENOMEM */
/* Remove one reference of the unit. Return the number of the pattern's units that were compared. */
size_t patterns_remove(Patterns *p, const char *text, const struct ClusterUnit *unit);

/* Remove up to 'n' patterns with all their units. Return how many there were. */
size_t patterns_drain(Patterns *p, size_t n);

/* NULL: no unit has that pattern. */
Pattern *patterns_find(const Patterns *p, const char *text);
Pattern *patterns_find_bytes(const Patterns *p, const char *bytes, size_t size); /* the same */

/* Call 'each' for each pattern that matches 'name' until it returns false. Return the work: 1 for each
 * compared pattern, and 1 for each PATTERNS_STEPS steps of the comparisons. */
size_t patterns_match(const Patterns *p, const char *name,
                      bool (*each)(void *userdata, const Pattern *pattern), void *userdata);

/* Return the size of the literal prefix of a pattern; the whole size for a name. */
size_t pattern_start(const char *text);
