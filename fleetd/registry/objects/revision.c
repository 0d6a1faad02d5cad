#include "fleetd/registry/revision_view.h"

#include "fleetd/registry/cluster_parts.h"
#include "fleetd/registry/protect.h"

static void revision_free_inputs(void *inputs) {
        if (inputs)
                input_policy_done(inputs);
        free(inputs);
}

/* A text is read when it is needed, except for its paths of keys; one that cannot be read has none: no host
 * reads keys by it either. */
static int revision_decode(const LayoutKey *k, KvBytes bytes, void **ret, Error *err) {
        _cleanup_unit_ Unit *unit = NULL;
        InputPolicy *inputs;
        int r;

        if (!memmem(bytes.data, bytes.size, "Keys", 4)) /* most texts need not be parsed */
                return 0;
        r = stored_unit_read(k->unit, bytes.data, bytes.size, &unit, NULL);
        if (r < 0 || !input_policy_protected(&unit->placement.inputs, 0))
                return r == -ENOMEM ? r : 0;
        inputs = NEW0(InputPolicy, 1);
        if (!inputs)
                return -ENOMEM;
        *inputs = TAKE_STRUCT(unit->placement.inputs);
        *ret = inputs;
        return 0;
}

ClusterRevision *cluster_revision(const ClusterUnit *u, uint64_t number) {
        ClusterRevision *x;

        LIST_FOREACH(x, &u->revisions, of_unit)
                if (x->number == number)
                        return x;
        return NULL;
}

static int revision_set_inputs(Cluster *c, ClusterUnit *u, ClusterRevision *x, InputPolicy *inputs) {
        if (x->inputs)
                (void) protect_file(c, CLUSTER_FORMER_PATHS, u, x->inputs, false);
        revision_free_inputs(x->inputs);
        x->inputs = inputs;
        return inputs ? protect_file(c, CLUSTER_FORMER_PATHS, u, inputs, true) : 0;
}

static int revision_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterRevision *x = cluster_revision(e->unit, revision_parse_number(k->machine));

        if (!x) {
                x = NEW0(ClusterRevision, 1);
                if (!x)
                        return -ENOMEM;
                x->number = revision_parse_number(k->machine);
                LIST_INSERT_HEAD(&e->unit->revisions, x, of_unit);
        }
        x->size = v->size;
        return revision_set_inputs(c, e->unit, x, TAKE_PTR(v->record));
}

static void revision_remove(ClusterRevision *x) {
        LIST_REMOVE(x, of_unit);
        revision_free_inputs(x->inputs);
        free(x);
}

static int revision_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterRevision *x = cluster_revision(e->unit, revision_parse_number(k->machine));

        if (x) {
                (void) revision_set_inputs(c, e->unit, x, NULL);
                revision_remove(x);
        }
        return 0;
}

static int revision_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
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

KIND(revision, "revision/%u/%n", "revision", CHANGED_REVISION, OF_UNIT, KV_LEVEL_REVISIONS, SLICE_NONE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .decode = revision_decode,
     .free = revision_free_inputs, .apply = revision_apply, .clear = revision_clear, .each = revision_each);

/* Whether a machine has the text, or a rollout may return to it. */
static bool revision_is_in_use(const ClusterUnit *u, uint64_t number) {
        const ClusterAssignment *a;

        if (u->rollout && (u->rollout->to.number == number || u->rollout->from.number == number ||
                           u->rollout->completed.number == number))
                return true;
        LIST_FOREACH(a, &u->assignments, of_unit)
                if (a->revision == number && cluster_assignment_is_active(a))
                        return true;
        return false;
}

/* A key with the number of the wanted revision is about to be named, or was: the next text replaces it. */
bool cluster_revision_is_surplus(const ClusterUnit *u, const ClusterRevision *revision) {
        const Revisions *all = u->unit ? &u->unit->revisions : NULL;

        if (cluster_unit_has_unreadable(u, LAYOUT_UNIT) || cluster_unit_has_unreadable(u, LAYOUT_ROLLOUT))
                return false;
        if (!all)
                return true;
        return revision->number != revisions_wanted(all) && !revisions_find(all, revision->number, NULL) &&
               !revision_is_in_use(u, revision->number);
}

bool cluster_unit_has_surplus(const ClusterUnit *u) {
        const ClusterRevision *x;

        LIST_FOREACH(x, &u->revisions, of_unit)
                if (cluster_revision_is_surplus(u, x))
                        return true;
        return false;
}

static size_t revisions_kept(const Placement *p) {
        return p->keep_revisions > 0 ? p->keep_revisions : REVISIONS_KEPT;
}

/* What the present text keeps is deleted only after the next one, which may keep fewer. */
bool cluster_revisions_are_full(const ClusterUnit *known, const Placement *next) {
        size_t n = 1, keep = MAX(revisions_kept(next), revisions_kept(&known->unit->placement));
        const ClusterRevision *x;

        LIST_FOREACH(x, &known->revisions, of_unit)
                n++;
        return n >= 2 * keep;
}
