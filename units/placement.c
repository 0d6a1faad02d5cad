#include "units/placement.h"

#include <errno.h>

#include "base/parse.h"
#include "units/machine.h"

void placement_done(Placement *placement) {
        free(placement->machine_id);
        names_done(&placement->machine_of);
        pairs_done(&placement->metadata);
        names_done(&placement->conflicts);
        names_done(&placement->replaces);
        *placement = (Placement) {};
}

bool placement_equal(const Placement *a, const Placement *b) {
        return streq(a->machine_id ? a->machine_id : "", b->machine_id ? b->machine_id : "")
                && names_equal(&a->machine_of, &b->machine_of) && pairs_equal(&a->metadata, &b->metadata)
                && names_equal(&a->conflicts, &b->conflicts) && names_equal(&a->replaces, &b->replaces)
                && a->global == b->global;
}

/* Report the first name of MachineOf= that a pattern matches, and the first pattern that does. Adds to *steps those of patterns;
 * names in full are compared at once, and OPTION_ITEMS_MAX bounds them. */
static int check_peers(const Placement *p, const Names *globs, const char *option, const char *word, size_t *steps, Error *err) {
        size_t found = p->machine_of.n;
        const char *glob = NULL;

        for (size_t i = 0; i < globs->n; i++) {
                const char *pattern = globs->items[i];
                bool exact = !strpbrk(pattern, "*?[\\");

                for (size_t k = 0; k < found; k++) {
                        const char *name = p->machine_of.items[k];

                        if (exact ? streq(pattern, name) : glob_match_counted(pattern, name, steps)) {
                                found = k;
                                glob = pattern;
                        }
                        if (*steps > PEER_STEPS_MAX)
                                return error_set(err, -EINVAL,
                                                 "MachineOf= and %s= have too many names and patterns to compare: %zu x %zu take more than %d steps",
                                                 option, p->machine_of.n, globs->n, PEER_STEPS_MAX);
                }
        }
        if (glob)
                return error_set(err, -EINVAL, "unresolvable requirements: peer \"%s\" matches %s \"%s\"",
                                 p->machine_of.items[found], word, glob);
        return 0;
}

/* The texts are fleet's: "Peers" is MachineOf=. */
int placement_check(const Placement *p, Error *err) {
        bool peers = p->machine_of.n > 0, conflicts = p->conflicts.n > 0, replaces = p->replaces.n > 0;
        const struct {
                bool broken;
                const char *text;
        } rules[] = {
                { p->machine_id && peers,     "MachineID cannot be used with Peers" },
                { p->machine_id && conflicts, "MachineID cannot be used with Conflicts" },
                { p->machine_id && p->global, "MachineID cannot be used with Global" },
                { p->machine_id && replaces,  "MachineID cannot be used with Replaces" },
                { p->global && peers,         "Global cannot be used with Peers" },
                { p->global && replaces,      "Global cannot be used with Replaces" },
                { conflicts && replaces,      "Conflicts cannot be used with Replaces" },
        };
        size_t steps = 0;
        int r;

        r = check_peers(p, &p->conflicts, "Conflicts", "conflict", &steps, err);
        if (r < 0)
                return r;
        r = check_peers(p, &p->replaces, "Replaces", "replace", &steps, err);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ELEMENTS(rules); i++)
                if (rules[i].broken)
                        return error_set(err, -EINVAL, "%s", rules[i].text);
        return 0;
}

static int check_patterns(const Names *globs, const char *option, Error *err) {
        size_t bytes = 0;

        for (size_t i = 0; i < globs->n; i++) {
                const char *special = strpbrk(globs->items[i], "*[");

                bytes += special ? strlen(special + 1) : 0;
        }
        if (bytes > PATTERN_BYTES_MAX)
                return error_set(err, -EINVAL, "%s= has patterns with %zu bytes behind the first * or [, at most %d are taken", option, bytes,
                                 PATTERN_BYTES_MAX);
        return 0;
}

int placement_check_patterns(const Placement *p, Error *err) {
        int r = check_patterns(&p->conflicts, "Conflicts", err);

        return r < 0 ? r : check_patterns(&p->replaces, "Replaces", err);
}

bool placement_machine_id_fits(const Placement *placement, const char *machine_id) {
        const char *asked = placement->machine_id;

        if (!asked)
                return true;
        return streq(asked, machine_id)
                || (strlen(asked) == MACHINE_ID_SHORT && strncmp(asked, machine_id, MACHINE_ID_SHORT) == 0);
}

static bool machine_has(const Pairs *metadata, const char *key, const char *value) {
        for (size_t i = 0; i < metadata->n; i++)
                if (streq(metadata->items[i].key, key) && streq(metadata->items[i].value, value))
                        return true;
        return false;
}

bool placement_metadata_fits(const Placement *placement, const Pairs *metadata, const char **ret_key) {
        const Pair *asked = placement->metadata.items;

        /* The pairs are sorted: those of one key stand together. */
        for (size_t i = 0, next; i < placement->metadata.n; i = next) {
                bool fits = false;

                for (next = i; next < placement->metadata.n && streq(asked[next].key, asked[i].key); next++)
                        fits = fits || machine_has(metadata, asked[next].key, asked[next].value);
                if (!fits) {
                        if (ret_key)
                                *ret_key = asked[i].key;
                        return false;
                }
        }
        return true;
}

void placement_metadata_describe(const Placement *placement, const char *key, Text *t) {
        const char *before = "=";

        text_append(t, key);
        for (size_t i = 0; i < placement->metadata.n; i++)
                if (streq(placement->metadata.items[i].key, key)) {
                        text_append(t, before);
                        text_append(t, placement->metadata.items[i].value);
                        before = "|";
                }
}

const char *placement_match(const Names *globs, const char *name) {
        for (size_t i = 0; i < globs->n; i++)
                if (glob_match(globs->items[i], name))
                        return globs->items[i];
        return NULL;
}

bool placement_conflict(const Placement *a, const char *a_name, const Placement *b, const char *b_name,
                        const char **ret_glob) {
        const char *glob = placement_match(&a->conflicts, b_name);

        if (!glob)
                glob = placement_match(&b->conflicts, a_name);
        if (glob && ret_glob)
                *ret_glob = glob;
        return glob;
}
