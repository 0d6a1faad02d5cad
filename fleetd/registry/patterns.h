/* Index of patterns: which units name a given unit in their Conflicts=, Replaces= or MachineOf=.
 *
 * A pattern is filed under what stands before its first special character. A name is looked up by each of its
 * beginnings, so that only patterns which begin as the name does are compared, however many there are. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "base/table.h"

enum {
        PATTERNS_NAME_MAX = 255, /* what begins with more matches no unit */
        PATTERNS_STEPS =
                64, /* steps of glob_match_counted() that take the time in which a pattern is found */
};

struct ClusterUnit;

/* One pattern, and the units that have it; a unit that has it twice is there twice. */
typedef struct Pattern {
        struct ClusterUnit **units; /* borrowed */
        size_t n, capacity;
        LIST_ENTRY(Pattern) alike; /* with the same beginning */
        UT_hash_handle hh;         /* by text */
        char text[];
} Pattern;

typedef struct PatternStart PatternStart;

typedef struct Patterns {
        Pattern *all;                            /* table by text */
        PatternStart *starts;                    /* table by beginning */
        size_t n_by_size[PATTERNS_NAME_MAX + 1]; /* beginnings of that many bytes */
} Patterns;

int patterns_add(Patterns *p, const char *text, struct ClusterUnit *unit); /* 0 or -ENOMEM */
/* Return how many units of that pattern were passed. */
size_t patterns_remove(Patterns *p, const char *text, const struct ClusterUnit *unit);

/* Remove up to 'n' patterns with all their units. Return how many there were. */
size_t patterns_drain(Patterns *p, size_t n);

/* NULL: no unit has that text. */
Pattern *patterns_find(const Patterns *p, const char *text);

/* Call 'each' for each pattern that matches 'name' until it returns false. Return the work: one of each
 * pattern that was compared, and of PATTERNS_STEPS steps of their comparisons. */
size_t patterns_match(const Patterns *p, const char *name,
                      bool (*each)(void *userdata, const Pattern *pattern), void *userdata);

/* The bytes of a pattern that stand for themselves, before the first that does not; all of them: it matches
 * that name alone. */
size_t pattern_start(const char *text);
