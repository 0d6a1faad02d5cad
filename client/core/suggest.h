/* The most similar name to a mistyped one. Messages use it on terminals only: scripts read stderr. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct Suggestion {
        const char *typed;   /* borrowed */
        const char *nearest; /* borrowed; NULL: no candidate is similar */
        size_t distance;     /* of 'nearest' */
} Suggestion;

/* Keep 'candidate' if it is more similar than all before. */
void suggest_consider(Suggestion *s, const char *candidate);

/* The same for names of units: the part before "@" and the type counts first, then the whole name. */
void suggest_consider_unit(Suggestion *s, const char *candidate);

/* Return the first item of the row whose words, separated by spaces, have this one; NULL: there is none. */
const char *words_find(const char *const (*rows)[2], size_t n, const char *word);
