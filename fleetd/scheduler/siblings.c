/* Counters of the instances of each template by machine, and the row of the score that spreads them. */
#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/view.h"
#include "fleetd/scheduler/view_internal.h"

/* A number for each machine, by its slot. Of a template: how many instances count there. Of a key of
 * metadata: twice the first slot of its domain, plus 1 if the machine has no such key; then the sums by first
 * slots, for siblings_read(). */
typedef struct Slots {
        Named name;
        uint32_t n[];
} Slots;

typedef struct Arrival {
        Named name;
        const ViewMachine *at; /* NULL: its assignments count */
        bool is_new;           /* the unit is not in the cluster view */
} Arrival;

void siblings_clear(SchedulerView *view) {
        named_clear(&view->siblings);
        named_clear(&view->domains);
        view->spread.of = NULL;
}

/* Write the name of the template of an instance; "": it is none. */
static const char *siblings_template(const char *unit, char ret[static UNIT_NAME_MAX + 1]) {
        bool is = unit_name_is_instance(unit);

        snprintf(ret, UNIT_NAME_MAX + 1, "%.*s%s", is ? (int) (strchr(unit, '@') + 1 - unit) : 0, unit,
                 is ? strrchr(unit, '.') : "");
        return ret;
}

/* Add 'n' where a unit counts, if it is an instance of that template. */
static void siblings_add(const SchedulerView *view, Slots *s, const char *unit, int n) {
        const ClusterAssignment *newest = NULL;
        char template[UNIT_NAME_MAX + 1];
        const Arrival *arrival;
        const ViewMachine *at;
        const ClusterUnit *u;

        if (!s || !streq(siblings_template(unit, template), s->name.name))
                return;
        arrival = named_find(view->arrivals, unit);
        at = arrival ? arrival->at : NULL;
        u = cluster_any_unit(view->cluster, unit);
        for (const ClusterAssignment *a = u && !at ? LIST_FIRST(&u->assignments) : NULL; a;
             a = LIST_NEXT(a, of_unit))
                if (view_has(view_find(view, a->machine), unit) &&
                    (!newest || cluster_assignment_is_newer(a, newest)))
                        newest = a;
        if (at || newest)
                s->n[(at ? at->machine : newest->machine)->slot] += (uint32_t) n;
}

int siblings_decide(SchedulerView *view, const ViewMachine *v, Decision *d, bool there) {
        char template[UNIT_NAME_MAX + 1];
        Slots *s = view->siblings ? named_find(view->siblings, siblings_template(d->name.name, template)) :
                                    NULL;
        Arrival *arrival = named_get(&view->arrivals, d->name.name, sizeof(*arrival));

        if (!arrival)
                return -ENOMEM;
        siblings_add(view, s, d->name.name, -1);
        if (there != d->there && (there || arrival->at == v))
                arrival->at = there ? v : NULL;
        arrival->is_new = !cluster_any_unit(view->cluster, d->name.name);
        d->there = there;
        siblings_add(view, s, d->name.name, 1);
        view->spread.of = NULL;
        return 0;
}

/* Return the counters of the template of the instance, read in one pass at first. NULL without memory. */
static Slots *siblings_of(SchedulerView *view, const char *unit) {
        char template[UNIT_NAME_MAX + 1];
        Slots *s = named_find(view->siblings, siblings_template(unit, template));
        UnitPosition at;

        if (s || !(s = named_get(&view->siblings, template, sizeof(*s) + view->n * sizeof(*s->n))))
                return s;
        for (size_t n = unit_order_instances(&view->cluster->by_name, template, &at); n > 0;
             n--, view->work++)
                siblings_add(view, s, unit_order_next(&view->cluster->by_name, &at)->name, 1);
        for (const Named *d = view->arrivals; d; d = d->hh.next)
                if (((const Arrival *) d)->is_new)
                        siblings_add(view, s, d->name, 1);
        return s;
}

enum { SLOTS_OF_WORK = 8 }; /* machines counted as one examined, as each costs little */

/* The first slot of a domain, by the value of its key. */
typedef struct Domain {
        Named name;
        uint32_t end; /* the slot after; 0: not set */
} Domain;

/* Return the domains of the key: the machines without it are one. NULL without memory. */
static Slots *siblings_domains(SchedulerView *view, const char *key) {
        Slots *d = named_find(view->domains, key);
        Domain none = {};
        Named *values = NULL;

        if (d || !(d = named_get(&view->domains, key, sizeof(*d) + 2 * view->n * sizeof(*d->n))))
                return d;
        for (uint32_t i = 0; i < view->n; i++) {
                const char *value = pairs_get(view->machines[i].metadata, key);
                bool is_machine = streq(key, "machine");
                Domain *of = value && !is_machine ? named_get(&values, value, sizeof(*of)) : &none;

                if (is_machine || !of)
                        none.end = 0; /* without memory, a domain of its own */
                of = of ?: &none;
                of->end = of->end ?: i + 1;
                d->n[i] = 2 * (of->end - 1) + (!value && !is_machine);
        }
        named_clear(&values);
        view->work += view->n;
        return d;
}

const Names *scheduler_spread_keys(const ClusterUnit *unit) {
        static char machine[] = "machine", *keys[] = { machine };
        static const Names by_default = { .items = keys, .n = 1 };
        const Placement *p = &unit->unit->placement;

        return p->spread.n == 0 && p->replicas >= 0 ? &by_default : &p->spread;
}

/* Without memory, siblings do not count. */
static void siblings_read(SchedulerView *view, const ClusterUnit *unit) {
        const Names *keys = scheduler_spread_keys(unit);
        uint64_t *rows = view->spread.rows;
        bool spreads = keys->n > 0 && !cluster_is_former(view->cluster) && unit_name_is_instance(unit->name);
        Slots *s = spreads ? siblings_of(view, unit->name) : NULL;

        view->spread.of = unit;
        view->spread.text = unit->unit;
        memset(rows, 0, view->n * sizeof(*rows));
        siblings_add(view, s, unit->name, -1); /* it does not count itself */
        for (size_t k = 0; k < keys->n && s; k++, view->work += 1 + view->n / SLOTS_OF_WORK) {
                Slots *d = siblings_domains(view, keys->items[k]);

                for (size_t i = 0; d && i < view->n; i++)
                        d->n[view->n + i] = 0;
                for (size_t i = 0; d && i < view->n; i++)
                        d->n[view->n + d->n[i] / 2] += s->n[i];
                for (size_t i = 0; d && i < view->n; i++)
                        rows[i] |= (uint64_t) (2 * MIN(d->n[view->n + d->n[i] / 2], (uint32_t) INT16_MAX) +
                                               d->n[i] % 2)
                                   << (SPREAD_BITS * (SPREAD_KEYS_MAX - 1 - k));
        }
        siblings_add(view, s, unit->name, 1);
        view->spread.least = rows[0];
        for (size_t i = 1; i < view->n; i++)
                view->spread.least = MIN(view->spread.least, rows[i]);
}

uint64_t scheduler_view_least_spread(const SchedulerView *view, const ClusterUnit *unit) {
        if (scheduler_spread_keys(unit)->n == 0)
                return 0;
        if (view->spread.of != unit || view->spread.text != unit->unit)
                siblings_read((SchedulerView *) view, unit); /* changes no answer */
        return view->spread.least;
}

uint64_t scheduler_view_spread(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        if (scheduler_spread_keys(unit)->n == 0)
                return 0;
        (void) scheduler_view_least_spread(view, unit);
        return view->spread.rows[machine->slot];
}
