/* Revisions in changes of units, and their end. */

#include "fleetd/registry/revision_view.h"
#include "fleetd/registry/transaction_parts.h"
#include "fleetd/registry/unit_order.h"
#include "units/name.h"

/* Of one transaction: with the longest names it fits into a command, and the cost of a command is limited
 * (kvstore/command/cost.h). */
enum {
        DELETED_MAX = 300,               /* revisions */
        DELETED_BYTES_MAX = 1024 * 1024, /* of their values */
};

/* -- A new text -- */

/* Write the unit that 't' replaces as a revision, if no other request has changed it meanwhile. */
static void revision_keep(Transaction *t, Transaction *former, const ClusterUnit *known) {
        uint64_t number = revisions_wanted(&known->unit->revisions);
        char digits[REVISION_NUMBER_SIZE];
        Unit unit = *known->unit; /* it borrows all */
        _cleanup_text_ Text value = {};

        unit.revisions = (Revisions) { .wanted = unit.revisions.wanted };
        unit.revisions.wanted.number = number;
        unit.revisions.wanted.update = (UpdateRequest) {};
        stored_unit_write(&value, &unit);
        transaction_check(t, KV_CHECK_MODIFIED, known->index, LAYOUT_UNIT, known->name, NULL);
        transaction_check(former, KV_CHECK_MODIFIED, known->index, LAYOUT_UNIT, known->name, NULL);
        transaction_write(former, KV_SET, LAYOUT_REVISION, known->name, revision_print_number(number, digits),
                          transaction_text(former, &value));
}

/* Return the template that a unit with this text follows from KV_LEVEL_UPDATES on, or NULL, and the size of
 * the drop-ins of its own. */
static const ClusterUnit *revision_template(const Registry *r, const Unit *unit, unsigned level,
                                            size_t *ret_own) {
        const ClusterUnit *template = level >= KV_LEVEL_UPDATES ?
                                              cluster_template(registry_cluster(r), unit->name) :
                                              NULL;

        return template && unit_has_text_of(unit, template->unit, ret_own) ? template : NULL;
}

/* Return the former revision of the template that the instance follows until now, if its text, with drop-ins
 * of the instance, is the new one; or NULL, also without memory. */
static const Revision *revision_of_template(const Registry *r, const ClusterUnit *known, const Unit *unit) {
        const ClusterUnit *template = known->unit->from ?
                                              cluster_unit(registry_cluster(r), known->unit->from) :
                                              NULL;
        char base[UNIT_HASH_SIZE];

        if (!template || unit_hash_without_own(unit, base) < 0 || streq(base, known->unit->base))
                return NULL;
        return revisions_find(&template->unit->revisions, 0, base);
}

uint64_t registry_former_revision(const Registry *r, const Unit *unit) {
        const ClusterUnit *known = cluster_unit(registry_cluster(r), unit->name);
        const Revision *former;

        if (!known || !known->unit || unit_equal(known->unit, unit))
                return 0;
        former = revisions_find(&known->unit->revisions, 0, unit->hash);
        if (!former)
                former = revision_of_template(r, known, unit);
        return former ? former->number : 0;
}

/* Set the revisions of the new text. Return 1 if it replaces another revision, 0 if not, or a negative errno.
 */
static int revisions_of_change(Registry *r, const UnitChange *change, const ClusterUnit *known,
                               Revisions *ret) {
        bool by_directory = change->user && streq(change->user, HISTORY_DIRECTORY);
        unsigned keep = change->unit->placement.keep_revisions;
        const Unit *wanted = known ? known->unit : NULL;
        const Revision *former = NULL;
        int e;

        *ret = (Revisions) { .wanted.number = 1 };
        if (wanted) {
                e = revisions_next(&wanted->revisions, wanted->hash, change->unit->hash,
                                   keep > 0 ? keep : REVISIONS_KEPT, ret);
                if (e < 0 || unit_equal(wanted, change->unit))
                        return e;
                if (cluster_revisions_are_full(known, &change->unit->placement))
                        return -EBUSY;
                former = revision_of_template(r, known, change->unit);
                if (former && !revisions_find(ret, former->number, NULL))
                        ret->wanted.number = former->number;
        }
        ret->wanted.since_ms = registry_wall_ms(r);
        if (by_directory)
                ret->wanted.how = REVISION_DIRECTORY;
        else if (wanted && (former || revisions_find(&wanted->revisions, ret->wanted.number, NULL)))
                ret->wanted.how = REVISION_REVERTED;
        if (!by_directory)
                snprintf(ret->wanted.by, sizeof(ret->wanted.by), "%s", change->user ?: "");
        ret->wanted.update = change->unit->revisions.wanted.update;
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

void transaction_write_follower(Transaction *t, const ClusterUnit *u, const ClusterUnit *template,
                                const Unit *text) {
        _cleanup_text_ Text value = {};
        Unit next = *text; /* it borrows all */

        next.owner = u->unit->owner;
        next.path = u->unit->path;
        next.from = template->unit->name;
        next.revisions = (Revisions) { .wanted = template->unit->revisions.wanted };
        next.revisions.wanted.number = revisions_wanted(&template->unit->revisions);
        stored_unit_write(&value, &next);
        transaction_write(t, KV_UPDATE, LAYOUT_UNIT, u->name, NULL, transaction_text(t, &value));
}

void transaction_follow(Transaction *t, Registry *r, AssignmentChange *change) {
        const ClusterUnit *u = cluster_unit(registry_cluster(r), change->unit), *template;
        Unit text = u && u->unit ? *u->unit : (Unit) {}; /* it borrows all */

        template = u && u->unit && !u->unit->from ?
                           revision_template(r, u->unit, KV_LEVEL_UPDATES, &text.own_size) :
                           NULL;
        if (!template)
                return;
        unit_set_own(&text, text.own_size);
        transaction_write_follower(t, u, template, &text);
        if (!streq(change->hash, u->unit->hash))
                return;
        change->revision = revisions_wanted(&template->unit->revisions);
        memcpy(change->base, template->unit->hash, sizeof(change->base));
        change->own = text.own;
}

/* The template of the unit as it is after the request. */
typedef struct Template {
        const Unit *text; /* NULL: there is none */
        Revision wanted;
} Template;

static int revision_template_after(Registry *r, const UnitRequest *request, const char *name, Template *ret) {
        const ClusterUnit *known = cluster_template(registry_cluster(r), name);
        _cleanup_free_ char *template = unit_name_template(name);
        Revisions next = {};
        int e;

        if (!template)
                return -ENOMEM;
        *ret = (Template) { known ? known->unit : NULL };
        if (ret->text) {
                ret->wanted = known->unit->revisions.wanted;
                ret->wanted.number = revisions_wanted(&known->unit->revisions);
        }
        for (size_t i = 0; i < request->n; i++) {
                const UnitChange *c = &request->changes[i];

                if (!streq(c->unit ? c->unit->name : c->name ?: "", template))
                        continue;
                if (c->remove)
                        ret->text = NULL;
                if (!c->unit || (ret->text && unit_equal(ret->text, c->unit)))
                        continue;
                e = revisions_of_change(r, c, c->only_if_absent ? NULL : known, &next);
                if (e >= 0)
                        *ret = (Template) { c->unit, next.wanted };
                revisions_done(&next);
                if (e < 0)
                        return e;
        }
        return 0;
}

/* Let the unit follow its template, if it has its text. 1, 0 if it does not, or a negative errno. */
static int revision_follow(Registry *r, const UnitRequest *request, unsigned level, Unit *unit) {
        Template template = {};
        int e;

        if (level < KV_LEVEL_UPDATES || !unit_name_is_instance(unit->name))
                return 0;
        e = revision_template_after(r, request, unit->name, &template);
        if (e < 0 || !template.text || !unit_has_text_of(unit, template.text, &unit->own_size))
                return e;
        unit->from = template.text->name;
        unit->revisions.wanted = template.wanted;
        return 1;
}

uint64_t transaction_write_unit(Transaction *t, Transaction *former, Registry *r, const UnitRequest *request,
                                const UnitChange *change) {
        const ClusterUnit *known = change->only_if_absent ?
                                           NULL :
                                           cluster_unit(registry_cluster(r), change->unit->name);
        Unit wanted = *change->unit; /* it borrows all but its revisions */
        _cleanup_text_ Text value = {};
        uint64_t number;
        KvState state;
        int e;

        wanted.revisions = (Revisions) {};
        wanted.own_size = 0;
        wanted.from = NULL;
        kv_state(registry_store(r), &state);
        e = revision_follow(r, request, state.level, &wanted);
        if (e == 0 && state.level >= KV_LEVEL_REVISIONS) {
                e = revisions_of_change(r, change, known, &wanted.revisions);
                if (e > 0)
                        revision_keep(t, former, known);
        }
        t->error = MIN(t->error, e);
        unit_write_fitting(&value, &wanted);
        transaction_write(t, change->only_if_absent ? KV_CREATE : KV_SET, LAYOUT_UNIT, wanted.name, NULL,
                          transaction_text(t, &value));
        number = wanted.revisions.wanted.number;
        revisions_done(&wanted.revisions);
        return number;
}

/* -- Reading -- */

typedef struct Reading {
        const char *name;
        Unit *unit; /* owned */
} Reading;

static int revision_on_node(void *userdata, const KvNode *node) {
        Reading *reading = userdata;

        return stored_unit_read(reading->name, node->value.data, node->value.size, &reading->unit, NULL);
}

int registry_read_revision(Registry *r, const char *unit, uint64_t number, Unit **ret) {
        char path[LAYOUT_KEY_MAX], digits[REVISION_NUMBER_SIZE];
        Reading reading = { .name = unit };
        int e = kv_local_get(
                registry_store(r),
                kv_string(layout_key(path, LAYOUT_REVISION, unit, revision_print_number(number, digits))),
                revision_on_node, &reading);

        if (e >= 0) {
                registry_count(r, 1, reading.unit->text_size);
                *ret = TAKE_PTR(reading.unit);
        }
        unit_free(reading.unit);
        return MIN(e, 0);
}

int registry_read_former_text(Registry *r, const ClusterAssignment *a, Unit **ret) {
        const Unit *wanted = a->of->unit;
        _cleanup_unit_ Unit *read = NULL;

        if (!cluster_assignment_has_former_text(a) ||
            registry_read_revision(r, wanted->from ?: wanted->name, a->revision, &read) < 0)
                return 0;
        if (!wanted->from) {
                *ret = TAKE_PTR(read);
                return 0;
        }
        return MIN(unit_compose(wanted, read, ret), 0) == -ENOMEM ? -ENOMEM : 0;
}

/* -- The end of revisions -- */

static bool revisions_can_delete(const Transaction *t, size_t n_bytes) {
        return t->n_writes < DELETED_MAX && n_bytes < DELETED_BYTES_MAX;
}

/* Whether an instance that follows the template has the text: the machine to which it moves reads it. */
static bool revision_has_follower(const Cluster *c, const ClusterUnit *u, uint64_t number) {
        UnitPosition at = {};
        size_t n = unit_name_is_template(u->name) ? unit_order_instances(&c->by_name, u->name, &at) : 0;

        for (; n > 0; n--) {
                const ClusterUnit *follower = unit_order_next(&c->by_name, &at);
                const ClusterAssignment *a;

                if (!follower || !follower->unit || !same_string(follower->unit->from, u->name))
                        continue;
                LIST_FOREACH(a, &follower->assignments, of_unit)
                        if (a->revision == number && cluster_assignment_is_active(a))
                                return true;
        }
        return false;
}

/* The key of the unit must not change meanwhile: it might name the revision. */
static void revision_delete_surplus(Transaction *t, const Cluster *c, const ClusterUnit *u, size_t *n_bytes) {
        char digits[REVISION_NUMBER_SIZE];
        const ClusterRevision *x;

        transaction_check(t, u->unit ? KV_CHECK_MODIFIED : KV_CHECK_ABSENT, u->unit ? u->index : 0,
                          LAYOUT_UNIT, u->name, NULL);
        LIST_FOREACH(x, &u->revisions, of_unit) {
                if (!cluster_revision_is_surplus(u, x) || !revisions_can_delete(t, *n_bytes) ||
                    revision_has_follower(c, u, x->number))
                        continue;
                transaction_delete(t, LAYOUT_REVISION, u->name, revision_print_number(x->number, digits));
                *n_bytes += x->size;
        }
}

int registry_delete_surplus(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        const ClusterUnit *u;
        size_t n_bytes = 0;
        int e;

        LIST_FOREACH(u, &registry_cluster(r)->lists[CLUSTER_SURPLUS], lists[CLUSTER_SURPLUS])
                if (revisions_can_delete(&t, n_bytes))
                        revision_delete_surplus(&t, registry_cluster(r), u, &n_bytes);
        if (t.n_writes == 0)
                return 0;
        e = transaction_send(r, &t, term, done, userdata);
        return e < 0 ? e : 1;
}
