/* Revisions in the cluster view: the keys of former texts, and which of them are kept. */
#include "fleetd/registry/kinds.h"

/* The view has the number only: a text is read when it is needed. */
int kind_revision_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return 0;
}

static ClusterRevision *revision_of(const ClusterUnit *u, const LayoutKey *k) {
        uint64_t number = revision_parse_number(k->machine);
        ClusterRevision *x;

        LIST_FOREACH(x, &u->revisions, of_unit)
                if (x->number == number)
                        return x;
        return NULL;
}

int kind_revision_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterRevision *x;

        if (revision_of(e->unit, k))
                return 0;
        x = NEW0(ClusterRevision, 1);
        if (!x)
                return -ENOMEM;
        x->number = revision_parse_number(k->machine);
        LIST_INSERT_HEAD(&e->unit->revisions, x, of_unit);
        return 0;
}

static void revision_remove(ClusterRevision *x) {
        LIST_REMOVE(x, of_unit);
        free(x);
}

int kind_revision_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterRevision *x = revision_of(e->unit, k);

        if (x)
                revision_remove(x);
        return 0;
}

int kind_revision_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        char digits[REVISION_NUMBER_SIZE];
        const ClusterRevision *x;
        int r = 0;

        for (x = LIST_FIRST(&e->unit->revisions); x && r == 0; x = LIST_NEXT(x, of_unit))
                r = found(userdata, LAYOUT_REVISION, e->unit->name, revision_print_number(x->number, digits));
        return r;
}

void cluster_revisions_free(ClusterUnit *u) {
        while (!LIST_EMPTY(&u->revisions))
                revision_remove(LIST_FIRST(&u->revisions));
}

/* A key with the number of the wanted revision is about to be named, or was: the next text replaces it. */
bool cluster_revision_is_surplus(const ClusterUnit *u, const ClusterRevision *revision) {
        const Revisions *all = u->unit ? &u->unit->revisions : NULL;

        if (cluster_unit_has_unreadable(u, LAYOUT_UNIT))
                return false;
        return !all ||
               (revision->number != revisions_wanted(all) && !revisions_find(all, revision->number, NULL));
}

bool cluster_unit_has_surplus(const ClusterUnit *u) {
        const ClusterRevision *x;

        LIST_FOREACH(x, &u->revisions, of_unit)
                if (cluster_revision_is_surplus(u, x))
                        return true;
        return false;
}

bool cluster_revisions_are_full(const ClusterUnit *known, const Placement *next) {
        size_t n = 1, keep = next->keep_revisions > 0 ? next->keep_revisions : REVISIONS_KEPT;
        const ClusterRevision *x;

        LIST_FOREACH(x, &known->revisions, of_unit)
                n++;
        return n >= 2 * keep;
}
