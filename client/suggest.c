#include "client/suggest.h"

#include <stdio.h>

bool is_spelt_alike(const char *a, const char *b, size_t *ret) {
        size_t size = strlen(a), distance = text_distance(a, b);

        if (size >= 2 && starts_with(b, a) && distance > 1)
                distance = 1;
        *ret = distance;
        return distance <= (size <= 4 ? 2 : 3) && distance < size;
}

/* "web" of "web@1.service". */
static void stem_of(const char *name, char ret[static 256]) {
        snprintf(ret, 256, "%.*s", (int) strcspn(name, "@."), name);
}

void suggest_unit(Client *c, const char *name) {
        _cleanup_listing_ Listing units = {};
        size_t best_distance = SIZE_MAX;
        const char *best = NULL;
        char stem[256];

        if (!isatty(STDERR_FILENO) || client_units(c, &units, NULL) < 0)
                return;
        stem_of(name, stem);
        for (size_t i = 0; i < units.n; i++) {
                const char *other = units.units[i].name;
                char other_stem[256];
                size_t distance;

                if (!other)
                        continue;
                stem_of(other, other_stem);
                if (!is_spelt_alike(stem, other_stem, &distance))
                        continue;
                distance = 1000 * distance +
                           MIN(text_distance(name, other), (size_t) 999); /* among equals the whole name */
                if (distance < best_distance) {
                        best_distance = distance;
                        best = other;
                }
        }
        if (best)
                fprintf(stderr, "fleetctl: did you mean %s?\n", best);
}
