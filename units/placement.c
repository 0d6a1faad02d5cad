#include "units/placement.h"

#include "units/machine.h"

void placement_done(Placement *placement) {
        free(placement->machine_id);
        names_done(&placement->machine_of);
        names_done(&placement->triggers);
        names_done(&placement->ports);
        names_done(&placement->published);
        pairs_done(&placement->metadata);
        names_done(&placement->conflicts);
        names_done(&placement->replaces);
        update_policy_done(&placement->update);
        health_policy_done(&placement->health);
        service_policy_done(&placement->service);
        input_policy_done(&placement->inputs);
        names_done(&placement->spread);
        free(placement->data);
        free(placement->host_path);
        *placement = (Placement) {};
}

/* A name of MachineOf=, and its first place there. */
typedef struct Peer {
        const char *name; /* borrowed */
        size_t place;
} Peer;

static int peer_by_name(const void *a, const void *b) {
        return strcmp(((const Peer *) a)->name, ((const Peer *) b)->name);
}

static int peer_by_name_and_place(const void *a, const void *b) {
        const Peer *x = a, *y = b;

        return strcmp(x->name, y->name) ?: x->place < y->place ? -1 : 1;
}

/* Sorted by name, each name once. NULL: no memory. */
static Peer *placement_sort_peers(const Names *names, size_t *ret_n) {
        Peer *peers = NEW0(Peer, names->n);
        size_t n = 0;

        for (size_t i = 0; peers && i < names->n; i++)
                peers[i] = (Peer) { names->items[i], i };
        if (peers)
                qsort(peers, names->n, sizeof(*peers), peer_by_name_and_place);
        for (size_t i = 0; peers && i < names->n; i++)
                if (n == 0 || !streq(peers[i].name, peers[n - 1].name))
                        peers[n++] = peers[i];
        *ret_n = n;
        return peers;
}

/* Reject the first name of MachineOf= that a pattern matches, with the first pattern that does. Adds the
 * steps of patterns to *steps, and returns -E2BIG above PEER_STEPS_MAX. Full names are looked up instead;
 * OPTION_ITEMS_MAX bounds them. */
static int placement_check_peers(const Names *machine_of, const Names *globs, const char *word, size_t *steps,
                                 Error *err) {
        _cleanup_free_ Peer *peers = NULL;
        size_t n, found = machine_of->n;
        const char *glob = NULL;

        if (machine_of->n == 0 || globs->n == 0)
                return 0;
        peers = placement_sort_peers(machine_of, &n);
        if (!peers)
                return -ENOMEM;
        for (size_t i = 0; i < globs->n; i++) {
                const char *pattern = globs->items[i];

                if (!strpbrk(pattern, "*?[\\")) {
                        const Peer *same = bsearch(&(Peer) { .name = pattern }, peers, n, sizeof(*peers),
                                                   peer_by_name);

                        if (same && same->place < found) {
                                found = same->place;
                                glob = pattern;
                        }
                        continue;
                }
                for (size_t k = 0; k < found; k++) {
                        if (glob_match_counted(pattern, machine_of->items[k], steps)) {
                                found = k;
                                glob = pattern;
                        }
                        if (*steps > PEER_STEPS_MAX)
                                return -E2BIG;
                }
        }
        if (glob)
                return error_set(err, -EINVAL, "unresolvable requirements: peer \"%s\" matches %s \"%s\"",
                                 machine_of->items[found], word, glob);
        return 0;
}

/* The messages are fleet's: "Peers" is MachineOf=. */
int placement_check(const Placement *p, size_t *steps, Error *err) {
        bool peers = p->machine_of.n > 0, conflicts = p->conflicts.n > 0, replaces = p->replaces.n > 0;
        bool surges = p->update.max_surge.value > 0, sticky = p->sticky == STICKY_YES;
        bool replicas = p->replicas >= 0, limited = p->max_per_machine > 0, spread = p->spread.n > 0;
        const struct {
                bool broken;
                const char *text;
        } rules[] = {
                { p->machine_id && peers, "MachineID cannot be used with Peers" },
                { p->machine_id && conflicts, "MachineID cannot be used with Conflicts" },
                { p->machine_id && p->global, "MachineID cannot be used with Global" },
                { p->machine_id && replaces, "MachineID cannot be used with Replaces" },
                { p->global && peers, "Global cannot be used with Peers" },
                { p->global && replaces, "Global cannot be used with Replaces" },
                { conflicts && replaces, "Conflicts cannot be used with Replaces" },
                { p->singleton && p->global, "Singleton cannot be used with Global" },
                { p->singleton && p->move == PLACEMENT_START_FIRST,
                  "Move=start-first with Singleton=yes: both instances would run" },
                { surges && p->global, "MaxSurge= with Global=yes: each machine already runs an instance" },
                { surges && p->singleton, "MaxSurge= with Singleton=yes: both instances would run" },
                { surges && p->machine_id, "MaxSurge= with MachineID=: no other machine may run the unit" },
                { surges && p->move == PLACEMENT_STAYS,
                  "MaxSurge= with Move=no: an update would move the unit to another machine" },
                { replicas && p->global, "Replicas cannot be used with Global" },
                { replicas && p->machine_id, "Replicas cannot be used with MachineID" },
                { limited && p->global, "MaxPerMachine cannot be used with Global" },
                { limited && p->machine_id, "MaxPerMachine cannot be used with MachineID" },
                { spread && p->global, "Spread cannot be used with Global" },
                { spread && p->machine_id, "Spread cannot be used with MachineID" },
                { sticky && p->global, "Sticky=yes with Global=yes: each machine has its own data" },
                { sticky && peers, "Sticky=yes with MachineOf=: the data is where that unit is" },
                { sticky && surges, "Sticky=yes with MaxSurge=: no other machine may run the unit" },
        };
        const struct {
                const Names *globs;
                const char *option, *word;
        } lists[] = { { &p->conflicts, "Conflicts", "conflict" }, { &p->replaces, "Replaces", "replace" } };
        bool first = *steps == 0;

        for (size_t i = 0; i < ELEMENTS(lists); i++) {
                int r = placement_check_peers(&p->machine_of, lists[i].globs, lists[i].word, steps, err);

                if (r == -E2BIG && !first)
                        return error_set(err, -EINVAL,
                                         "the units of one request have too many names and patterns to "
                                         "compare in MachineOf=, Conflicts= and Replaces= (more than %d "
                                         "steps): send fewer units at once",
                                         PEER_STEPS_MAX);
                if (r == -E2BIG)
                        return error_set(
                                err, -EINVAL,
                                "MachineOf= and %s= have too many names and patterns to compare: %zu x %zu "
                                "take more than %d steps; use fewer patterns, or full names",
                                lists[i].option, p->machine_of.n, lists[i].globs->n, PEER_STEPS_MAX);
                if (r < 0)
                        return r;
        }

        for (size_t i = 0; i < ELEMENTS(rules); i++)
                if (rules[i].broken)
                        return error_set(err, -EINVAL, "%s", rules[i].text);
        return 0;
}

static int placement_check_globs(const Names *globs, const char *option, Error *err) {
        size_t bytes = 0;

        for (size_t i = 0; i < globs->n; i++) {
                const char *special = strpbrk(globs->items[i], "*[");

                bytes += special ? strlen(special + 1) : 0;
        }
        if (bytes > PATTERN_BYTES_MAX)
                return error_set(err, -EINVAL,
                                 "%s= has patterns with %zu bytes behind the first * or [, at most %d are "
                                 "taken: use fewer or shorter ones",
                                 option, bytes, PATTERN_BYTES_MAX);
        return 0;
}

int placement_check_patterns(const Placement *p, Error *err) {
        TRY(placement_check_globs(&p->conflicts, "Conflicts", err));
        return placement_check_globs(&p->replaces, "Replaces", err);
}

uint64_t placement_stop_after_ms(const Placement *p) {
        return p->stop_after_ms ?: STOP_AFTER_MS;
}

bool placement_stops_first(const Placement *placement) {
        return placement->singleton || placement->move == PLACEMENT_STOP_FIRST ||
               placement->move == PLACEMENT_STAYS;
}

bool placement_machine_id_fits(const Placement *placement, const char *machine_id) {
        const char *asked = placement->machine_id;

        if (!asked)
                return true;
        return streq(asked, machine_id) ||
               (strlen(asked) == MACHINE_ID_SHORT && strncmp(asked, machine_id, MACHINE_ID_SHORT) == 0);
}

static bool machine_has(const Pairs *metadata, const char *key, const char *value) {
        for (size_t i = 0; i < metadata->n; i++)
                if (streq(metadata->items[i].key, key) && streq(metadata->items[i].value, value))
                        return true;
        return false;
}

bool placement_metadata_fits(const Placement *placement, const Pairs *metadata, const char **ret_key) {
        const Pair *asked = placement->metadata.items;

        /* The pairs are sorted, so that those of one key are adjacent. */
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
