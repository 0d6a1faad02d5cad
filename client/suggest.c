#include "client/suggest.h"

#include <stdio.h>

#include "base/text.h"
#include "units/name.h"

enum { STEM_WEIGHT = 1000 };

/* Return whether 'b' is similar to 'a', or begins with it; *ret is the distance, 0 for equal words. */
static bool suggest_is_similar(const char *a, const char *b, size_t *ret) {
        size_t size = strlen(a), distance = text_distance(a, b);

        if (size >= 2 && starts_with(b, a) && distance > 1)
                distance = 1;
        *ret = distance;
        return distance <= (size <= 4 ? 2 : 3) && distance < size;
}

static void suggest_keep(Suggestion *s, const char *candidate, size_t distance) {
        if (s->nearest && distance >= s->distance)
                return;
        s->nearest = candidate;
        s->distance = distance;
}

void suggest_consider(Suggestion *s, const char *candidate) {
        size_t distance;

        if (suggest_is_similar(s->typed, candidate, &distance))
                suggest_keep(s, candidate, distance);
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
        if (suggest_is_similar(stem, other, &distance))
                suggest_keep(s, candidate,
                             STEM_WEIGHT * distance +
                                     MIN(text_distance(s->typed, candidate), (size_t) STEM_WEIGHT - 1));
}
