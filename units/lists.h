/* Lists: names in insertion order, and pairs sorted by key. */
#pragma once

#include "base/memory.h"

typedef struct Names {
        char **items; /* owned */
        size_t n, capacity;
} Names;

void names_done(Names *names);
int names_add(Names *names, const char *name, size_t size); /* copies 'size' bytes; 0 or -ENOMEM */
void names_cut(Names *names, size_t n); /* keeps the first 'n'; there are at least that many */
bool names_have(const Names *names, const char *name);
/* Split a value into words, as a shell without expansions: white space and continued lines separate them,
 * single and double quotes keep it, a backslash outside of single quotes keeps the next character. Return 0,
 * -EINVAL (a quote that does not end, no word) or -ENOMEM. */
int names_split(const char *value, Names *ret);
bool names_equal(const Names *a, const Names *b); /* same names in the same order */

typedef struct Pair {
        char *key, *value; /* owned */
} Pair;

/* Sorted by key, then by value, so that equal sets print as equal bytes. */
typedef struct Pairs {
        Pair *items;
        size_t n, capacity;
} Pairs;

void pairs_done(Pairs *pairs);
/* Add a value, and keep other values of the key; an existing pair is not added again. */
int pairs_add(Pairs *pairs, const char *key, const char *value);
/* Replace all values of the key; 'value' NULL removes the key. */
int pairs_set(Pairs *pairs, const char *key, const char *value);
int pairs_copy(const Pairs *from, Pairs *ret);
bool pairs_equal(const Pairs *a, const Pairs *b);
const char *pairs_get(const Pairs *pairs, const char *key); /* the first value of 'key', or NULL; borrowed */

#define _cleanup_names_ _cleanup_(names_done)
#define _cleanup_pairs_ _cleanup_(pairs_done)
