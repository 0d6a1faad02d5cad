/* What the rules of placements say about two units, and whether two placements are equal, by a plain search:
 * the product has an index of the patterns (fleetd/registry/). */
#pragma once

#include "base/parse.h"
#include "units/placement.h"

/* Return the first glob that matches the name, borrowed, or NULL. */
_unused_ static const char *placement_match(const Names *globs, const char *name) {
        for (size_t i = 0; i < globs->n; i++)
                if (glob_match(globs->items[i], name))
                        return globs->items[i];
        return NULL;
}

/* Return the glob by which one of two units conflicts with the other, or NULL. */
_unused_ static const char *placement_conflict(const Placement *a, const char *a_name, const Placement *b,
                                               const char *b_name) {
        return placement_match(&a->conflicts, b_name) ?: placement_match(&b->conflicts, a_name);
}

_unused_ static bool placement_equal(const Placement *a, const Placement *b) {
        return same_string(a->machine_id, b->machine_id) && names_equal(&a->machine_of, &b->machine_of) &&
               pairs_equal(&a->metadata, &b->metadata) && names_equal(&a->conflicts, &b->conflicts) &&
               names_equal(&a->replaces, &b->replaces) && a->global == b->global &&
               a->singleton == b->singleton && a->move == b->move &&
               a->replace_after_ms == b->replace_after_ms && a->stops_alone == b->stops_alone &&
               a->stop_after_ms == b->stop_after_ms && a->keeps_old == b->keeps_old &&
               a->keep_revisions == b->keep_revisions && update_policy_equal(&a->update, &b->update) &&
               health_policy_equal(&a->health, &b->health);
}
