#include "fleetd/registry/kinds.h"

#define KIND_ENTRY(number, name, ...) [number] = &kind_##name,
const Kind *const kinds[_LAYOUT_MAX] = { KINDS(KIND_ENTRY) };

#define KIND_NAME(number, name, ...) [number] = #name,
static const char *const kind_names[_LAYOUT_MAX] = { KINDS(KIND_NAME) };

#define TABLE_PLACE(member, number)                                                                        \
        static_assert(offsetof(Cluster, member) == offsetof(Cluster, tables[number - KIND_FIRST_BY_NAME]), \
                      "the members have the order of kind_list.h")
TABLE_PLACE(tokens, LAYOUT_TOKEN);
TABLE_PLACE(denied, LAYOUT_DENIED);
TABLE_PLACE(principals, LAYOUT_PRINCIPAL);
TABLE_PLACE(lineages, LAYOUT_LINEAGE);
static_assert(offsetof(ClusterToken, record) == offsetof(ClusterNamed, record), "as of the other tables");

bool kind_stays(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return false;
}

bool kind_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return true;
}

/* -- Values -- */

static void kind_free(const Kind *kind, void *record) {
        if (kind->record)
                json_record_free(kind->record, record);
        else if (kind->text)
                free(record);
        else if (record)
                kind->free(record);
}

int kind_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        const Kind *kind = kinds[k->kind];

        ret->kind = k->kind;
        ret->size = bytes.size;
        if (kind->name_is_valid && !kind->name_is_valid(k->unit))
                return error_set(err, -EBADMSG, "invalid name");
        if (kind->record)
                return json_record_new(kind->record, bytes.data, bytes.size, &ret->record, err);
        if (!kind->text)
                return kind->decode(k, bytes, &ret->record, err);
        ret->record = strndup(bytes.data ?: "", bytes.size);
        return ret->record ? kind->text(k, ret->record, bytes.size, err) : -ENOMEM;
}

void kind_value_done(KindValue *v) {
        if (v->record)
                kind_free(kinds[v->kind], v->record);
        v->record = NULL;
}

/* -- Slots: one record of a unit, of a machine, or of the cluster -- */

const KindSlot *kind_slot(const Cluster *c, const KindEntries *e, LayoutKind kind) {
        if (kind < KIND_FIRST_OF_MACHINES)
                return &e->unit->slots[kind];
        if (kind < KIND_FIRST_OF_CLUSTER)
                return &e->machine->slots[kind - KIND_FIRST_OF_MACHINES];
        return kind < KIND_FIRST_BY_NAME ? &c->slots[kind - KIND_FIRST_OF_CLUSTER] : NULL;
}

static int slot_apply(Cluster *c, const KindEntries *e, LayoutKind kind, KindValue *v) {
        KindSlot *slot = (KindSlot *) kind_slot(c, e, kind), was = *slot;
        int r = 0;

        *slot = (KindSlot) { v->record, v->modified };
        if (kinds[kind]->applied)
                r = kinds[kind]->applied(c, e, was.record, v);
        v->record = NULL;
        kind_free(kinds[kind], was.record);
        return r;
}

/* -- Tables of the cluster by the name in the key -- */

static ClusterNamed **table_of(const Cluster *c, LayoutKind kind) {
        return (ClusterNamed **) &c->tables[kind - KIND_FIRST_BY_NAME];
}

static ClusterNamed *table_find(const Cluster *c, const LayoutKey *k) {
        return TABLE_FIND(*table_of(c, k->kind), k->unit);
}

static ClusterNamed *table_new(Cluster *c, const LayoutKey *k) {
        ClusterNamed *x = (ClusterNamed *) NEW0(char, sizeof(*x) + kinds[k->kind]->record->size);

        if (!x)
                return NULL;
        snprintf(x->name, sizeof(x->name), "%s", k->unit);
        HASH_ADD_STR(*table_of(c, k->kind), name, x);
        return TABLE_ADDED_OR_FREED(x) ? x : NULL;
}

static int table_apply(Cluster *c, const LayoutKey *k, KindValue *v) {
        const JsonRecord *type = kinds[k->kind]->record;
        ClusterNamed *x = table_find(c, k) ?: table_new(c, k);

        if (!x)
                return -ENOMEM;
        if (kinds[k->kind]->applied)
                TRY(kinds[k->kind]->applied(c, NULL, x->record, v));
        json_record_done(type, x->record);
        memcpy(x->record, v->record, type->size);
        free(TAKE_PTR(v->record)); /* its contents are the entry's now */
        x->index = v->modified;
        return 0;
}

static void table_remove(Cluster *c, LayoutKind kind, ClusterNamed *x) {
        HASH_DEL(*table_of(c, kind), x);
        json_record_done(kinds[kind]->record, x->record);
        free(x);
}

/* -- Effects -- */

static bool kind_is_by_name(LayoutKind kind) {
        return kind >= KIND_FIRST_BY_NAME && kind < KIND_FIRST_OF_VIEW;
}

int kind_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        if (kind_is_by_name(k->kind))
                return table_apply(c, k, v);
        return kinds[k->kind]->apply ? kinds[k->kind]->apply(c, e, k, v) : slot_apply(c, e, k->kind, v);
}

int kind_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterNamed *x;

        if (kinds[k->kind]->clear)
                return kinds[k->kind]->clear(c, e, k);
        if (!kind_is_by_name(k->kind))
                return kind_apply(c, e, k, &(KindValue) { .kind = k->kind });
        x = table_find(c, k);
        if (x)
                table_remove(c, k->kind, x);
        return 0;
}

int kind_apply_unreadable(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        const Kind *kind = kinds[k->kind];

        if (!kind->unreadable)
                return 0;
        kind_value_done(v);
        v->record = NEW0(char, kind->record->size);
        if (!v->record)
                return -ENOMEM;
        kind->unreadable(v->record);
        return kind_apply(c, e, k, v);
}

/* -- Enumeration -- */

static int table_each(LayoutKind kind, const Cluster *c, KindFound *found, void *userdata) {
        int r = 0;

        for (const ClusterNamed *x = *table_of(c, kind); x && r == 0; x = x->hh.next)
                r = found(userdata, kind, x->name, NULL);
        return r;
}

int kinds_each_of(LayoutKind kind, const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const Kind *row = kinds[kind];
        const char *owner = (const char *) c;
        uint64_t present;

        if (e->unit ? !(row->of & OF_UNIT) :
                      (row->of & (OF_UNIT | OF_MACHINE)) != (e->machine ? OF_MACHINE : 0))
                return 0;
        if (row->each)
                return row->each(c, e, found, userdata);
        if (kind_is_by_name(kind))
                return table_each(kind, c, found, userdata);
        if (e->unit)
                owner = (const char *) e->unit;
        else if (e->machine)
                owner = (const char *) e->machine;
        present = row->present > 0 ? *(const uint64_t *) (owner + row->present) :
                                     kind_slot(c, e, kind)->index;
        return present != 0 ? found(userdata, kind, e->unit ? e->unit->name : NULL,
                                    e->machine ? e->machine->id : NULL) :
                              0;
}

int kinds_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const ClusterUnreadable *x;
        int r = 0;

        for (LayoutKind kind = 0; kind < _LAYOUT_MAX && r == 0; kind++)
                r = kinds_each_of(kind, c, e, found, userdata);

        if (e->unit)
                x = LIST_FIRST(&e->unit->unreadable);
        else if (e->machine)
                x = LIST_FIRST(&e->machine->unreadable);
        else
                x = LIST_FIRST(&c->unreadable);
        for (; x && r == 0; x = LIST_NEXT(x, of_owner))
                r = found(userdata, x->key.kind, x->key.unit, x->key.machine);
        return r;
}

RegistryChange kinds_change(const LayoutKey *k, uint64_t index, bool removed) {
        const Kind *kind = kinds[k->kind];

        return (RegistryChange) {
                .kind = kind->change,
                .unit = kind->of & (OF_UNIT | NAMES_UNIT) ? k->unit : NULL,
                .machine = kind->of & (OF_MACHINE | NAMES_MACHINE) ? k->machine : NULL,
                .index = index,
                .removed = removed,
                .key = k,
        };
}

/* -- Release -- */

static void slots_done(KindSlot *slots, LayoutKind first, size_t n) {
        for (size_t i = 0; i < n; i++)
                kind_free(kinds[first + i], slots[i].record);
}

void kinds_done_unit(ClusterUnit *u) {
        slots_done(u->slots, 0, UNIT_SLOTS);
}

void kinds_done_machine(ClusterMachine *m) {
        slots_done(m->slots, KIND_FIRST_OF_MACHINES, MACHINE_SLOTS);
}

void kinds_done(Cluster *c) {
        slots_done(c->slots, KIND_FIRST_OF_CLUSTER, CLUSTER_SLOTS);
        for (LayoutKind kind = KIND_FIRST_BY_NAME; kind < KIND_FIRST_OF_VIEW; kind++)
                while (*table_of(c, kind))
                        table_remove(c, kind, *table_of(c, kind));
}

/* -- The descriptors themselves -- */

/* Return the first member that the descriptor lacks, or that its list in kind_list.h does not permit; NULL:
 * it is complete. */
static const char *kind_lacks(LayoutKind number, const Kind *k) {
        const KindRights *r = &k->rights;
        unsigned of = number < KIND_FIRST_OF_MACHINES ? OF_UNIT :
                      number < KIND_FIRST_OF_CLUSTER  ? OF_MACHINE :
                      number < KIND_FIRST_OF_VIEW     ? OF_CLUSTER :
                                                        k->of;
        const struct {
                bool is_there;
                const char *name;
        } members[] = {
                { k->path, "path" },
                { k->event, "event" },
                { k->change != CHANGED_ALL, "change" },
                { k->of != 0 && k->of == of, "of" },
                { k->level > 0, "level" },
                { k->slice > 0, "slice" },
                { r->leader || r->own_set + r->own_remove + r->set + r->remove > 0, "rights" },
                { k->on_removal > 0, "on_removal" },
                { k->in_new_lineage, "in_new_lineage" },
                { !!k->record + !!k->text + !!k->decode == 1, "value: one of record, text and decode" },
                { kind_is_by_name(number) ? k->name_is_valid && k->record : !k->name_is_valid,
                  "name_is_valid" },
                { !k->unreadable || k->record, "record for 'unreadable'" },
                { number < KIND_FIRST_OF_VIEW ? !k->apply : !!k->apply, "apply" },
                { number < KIND_FIRST_OF_VIEW || k->each || k->present > 0, "each" },
        };

        for (size_t i = 0; i < ELEMENTS(members); i++)
                if (!members[i].is_there)
                        return members[i].name;
        if (!strstr(k->path, "%m") == !!(k->of & (OF_MACHINE | NAMES_MACHINE)))
                return "of";
        return k->on_removal == REMOVAL_KEEPS || strstr(k->path, "%m") ? NULL : "on_removal";
}

int kinds_check(const Kind *const table[static _LAYOUT_MAX], Error *err) {
        for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++) {
                const char *lacks = kind_lacks(kind, table[kind]);

                if (lacks)
                        return error_set(err, -EINVAL, "the kind of key '%s' has no valid %s",
                                         kind_names[kind], lacks);
                for (LayoutKind other = 0; other < kind; other++)
                        if (streq(table[kind]->path, table[other]->path))
                                return error_set(err, -EINVAL,
                                                 "the kinds of keys '%s' and '%s' have one path",
                                                 kind_names[other], kind_names[kind]);
        }
        return 0;
}
