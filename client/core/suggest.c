#include "client/core/suggest.h"

#include "base/text.h"
#include "units/name.h"

enum { STEM_WEIGHT = 1000 };

/* Return the distance of 'b' from 'a', 0 for equal words, at most 1 if 'b' begins with 'a'; SIZE_MAX if they
 * are not similar. */
static size_t suggest_distance(const char *a, const char *b) {
        size_t size = strlen(a), distance = text_distance(a, b);

        if (size >= 2 && starts_with(b, a) && distance > 1)
                distance = 1;
        return distance <= (size <= 4 ? 1u : size <= 7 ? 2u : 3u) && distance < size ? distance : SIZE_MAX;
}

static void suggest_keep(Suggestion *s, const char *candidate, size_t distance) {
        if (distance == SIZE_MAX || (s->nearest && distance >= s->distance))
                return;
        s->nearest = candidate;
        s->distance = distance;
}

void suggest_consider(Suggestion *s, const char *candidate) {
        suggest_keep(s, candidate, suggest_distance(s->typed, candidate));
}

/* Write "web" for "web@1.service". */
static void suggest_stem(const char *name, char ret[static UNIT_NAME_MAX + 1]) {
        snprintf(ret, UNIT_NAME_MAX + 1, "%.*s", (int) strcspn(name, "@."), name);
}

void suggest_consider_unit(Suggestion *s, const char *candidate) {
        char stem[UNIT_NAME_MAX + 1], other[UNIT_NAME_MAX + 1];
        size_t distance;

        suggest_stem(s->typed, stem);
        suggest_stem(candidate, other);
        distance = suggest_distance(stem, other);
        if (distance < SIZE_MAX)
                distance = STEM_WEIGHT * distance +
                           MIN(text_distance(s->typed, candidate), (size_t) STEM_WEIGHT - 1);
        suggest_keep(s, candidate, distance);
}

const char *words_find(const char *const (*rows)[2], size_t n, const char *word) {
        for (size_t i = 0; i < n; i++)
                if (text_has_word(rows[i][1], word))
                        return rows[i][0];
        return NULL;
}
