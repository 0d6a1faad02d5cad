/* Revisions in changes of units, and their end. */
#include <stdio.h>

#include "fleetd/registry/transaction.h"

enum { DELETED_MAX = 500 }; /* revisions in one transaction */

/* -- A new text -- */

/* Write the unit that 't' replaces as a revision, if no other request has changed it meanwhile. */
static void revision_keep(Transaction *t, Transaction *former, const ClusterUnit *known) {
        uint64_t number = revisions_wanted(&known->unit->revisions);
        char digits[REVISION_NUMBER_SIZE];
        Unit unit = *known->unit; /* it borrows all */
        _cleanup_text_ Text value = {};

        unit.revisions = (Revisions) { .wanted = unit.revisions.wanted };
        unit.revisions.wanted.number = number;
        stored_unit_write(&value, &unit);
        transaction_check(t, KV_CHECK_MODIFIED, known->index, LAYOUT_UNIT, known->name, NULL);
        transaction_check(former, KV_CHECK_MODIFIED, known->index, LAYOUT_UNIT, known->name, NULL);
        transaction_write(former, KV_SET, LAYOUT_REVISION, known->name, revision_print_number(number, digits),
                          transaction_text(former, &value));
}

/* Set the revisions of the new text. Return 1 if it replaces another revision, 0 if not, or a negative errno.
 */
static int revisions_of_change(Registry *r, const UnitChange *change, const ClusterUnit *known,
                               Revisions *ret) {
        bool by_directory = change->user && streq(change->user, HISTORY_DIRECTORY);
        unsigned keep = change->unit->placement.keep_revisions;
        const Unit *wanted = known ? known->unit : NULL;
        int e;

        *ret = (Revisions) { .wanted.number = 1 };
        if (wanted) {
                e = revisions_next(&wanted->revisions, wanted->hash, change->unit->hash,
                                   keep > 0 ? keep : REVISIONS_KEPT, ret);
                if (e < 0 || unit_equal(wanted, change->unit))
                        return e;
                if (cluster_revisions_are_full(known, &change->unit->placement))
                        return -EBUSY;
        }
        ret->wanted.since_ms = registry_wall_ms(r);
        if (by_directory)
                ret->wanted.how = REVISION_DIRECTORY;
        else if (wanted && revisions_find(&wanted->revisions, ret->wanted.number, NULL))
                ret->wanted.how = REVISION_REVERTED;
        if (!by_directory)
                snprintf(ret->wanted.by, sizeof(ret->wanted.by), "%s", change->user ?: "");
        return wanted != NULL;
}

/* Fewer revisions of a very large text are kept: the value has to fit into a key. */
static void unit_write_fitting(Text *t, Unit *unit) {
        stored_unit_write(t, unit);
        while (t->size > KV_VALUE_MAX && unit->revisions.n_former > 0) {
                revisions_drop_older_half(&unit->revisions);
                text_clear(t);
                stored_unit_write(t, unit);
        }
}

void transaction_write_unit(Transaction *t, Transaction *former, Registry *r, const UnitChange *change) {
        const ClusterUnit *known = change->only_if_absent ?
                                           NULL :
                                           cluster_unit(registry_cluster(r), change->unit->name);
        Unit wanted = *change->unit; /* it borrows all but its revisions */
        _cleanup_text_ Text value = {};
        KvState state;
        int e = 0;

        wanted.revisions = (Revisions) {};
        kv_state(registry_store(r), &state);
        if (state.level >= KV_LEVEL_REVISIONS)
                e = revisions_of_change(r, change, known, &wanted.revisions);
        if (e > 0)
                revision_keep(t, former, known);
        t->error = MIN(t->error, e);
        unit_write_fitting(&value, &wanted);
        transaction_write(t, change->only_if_absent ? KV_CREATE : KV_SET, LAYOUT_UNIT, wanted.name, NULL,
                          transaction_text(t, &value));
        revisions_done(&wanted.revisions);
}

/* -- The end of revisions -- */

/* The key of the unit must not change meanwhile: it might name the revision. */
static void revision_delete_surplus(Transaction *t, const ClusterUnit *u) {
        char digits[REVISION_NUMBER_SIZE];
        const ClusterRevision *x;

        transaction_check(t, u->unit ? KV_CHECK_MODIFIED : KV_CHECK_ABSENT, u->unit ? u->index : 0,
                          LAYOUT_UNIT, u->name, NULL);
        LIST_FOREACH(x, &u->revisions, of_unit)
                if (cluster_revision_is_surplus(u, x))
                        transaction_write(t, KV_DELETE, LAYOUT_REVISION, u->name,
                                          revision_print_number(x->number, digits), NO_VALUE);
}

int registry_delete_surplus(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        const ClusterUnit *u;
        int e;

        LIST_FOREACH(u, &registry_cluster(r)->lists[CLUSTER_SURPLUS], lists[CLUSTER_SURPLUS])
                if (t.n_writes < DELETED_MAX)
                        revision_delete_surplus(&t, u);
        if (t.n_writes == 0)
                return 0;
        e = transaction_send(r, &t, term, done, userdata);
        return e < 0 ? e : 1;
}
