#include "fleetd/scheduler/scheduler.h"

#include <assert.h>
#include <stdio.h>

#include "base/parse.h"
#include "fleetd/scheduler/rules.h"

/* What the pass has decided about one unit on one machine; it goes before the picture. */
typedef struct Decision {
        const ClusterUnit *unit;
        bool there;
        bool stranger; /* the unit is none of the picture's: a draft */
        UT_hash_handle hh;
} Decision;

typedef struct ViewMachine {
        const ClusterMachine *machine;
        size_t load;
        Decision *decisions; /* table by the unit's name */
        size_t n_strangers;  /* of them */
} ViewMachine;

struct SchedulerView {
        const Cluster *cluster;
        ViewMachine *machines; /* one allocation; by ClusterMachine.slot */
        size_t n;
        ViewMachine **sorted; /* by load, then id: whoever fits first is the one; made for the first pick */
        bool is_sorted;
        size_t work; /* machines, patterns and units that were looked at */
};

/* -- The view -- */

static int compare(const ViewMachine *a, const ViewMachine *b) {
        if (a->load != b->load)
                return a->load < b->load ? -1 : 1;
        return strcmp(a->machine->id, b->machine->id);
}

static int by_load(const void *a, const void *b) {
        return compare(*(ViewMachine *const *) a, *(ViewMachine *const *) b);
}

SchedulerView *scheduler_view_free(SchedulerView *view) {
        if (!view)
                return NULL;
        for (size_t i = 0; i < view->n; i++) {
                Decision *d, *next;

                HASH_ITER(hh, view->machines[i].decisions, d, next) {
                        HASH_DEL(view->machines[i].decisions, d);
                        free(d);
                }
        }
        free(view->machines);
        free(view->sorted);
        free(view);
        return NULL;
}

DEFINE_CLEANUP(SchedulerView *, scheduler_view_free)

int scheduler_view_new(const Cluster *cluster, SchedulerView **ret) {
        _cleanup_(scheduler_view_freep) SchedulerView *view = NEW0(SchedulerView, 1);
        size_t n = HASH_COUNT(cluster->machines);

        if (!view)
                return -ENOMEM;

        view->cluster = cluster;
        view->machines = NEW0(ViewMachine, n + 1);
        view->sorted = NEW0(ViewMachine *, n + 1);
        if (!view->machines || !view->sorted)
                return -ENOMEM;

        /* Every view of one picture gives the same slots, so that several may live side by side. */
        for (ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                ViewMachine *v = &view->machines[view->n];

                m->slot = view->n;
                v->machine = m;
                v->load = m->load;
                view->sorted[view->n++] = v;
        }

        *ret = TAKE_PTR(view);
        return 0;
}

static ViewMachine *find(const SchedulerView *view, const ClusterMachine *m) {
        assert(m->slot < view->n && view->machines[m->slot].machine == m);
        return &view->machines[m->slot];
}

static Decision *decided(const ViewMachine *v, const char *unit) {
        Decision *d;

        HASH_FIND_STR(v->decisions, unit, d);
        return d;
}

/* Says nothing that the view did not say before. */
static void count_work(const SchedulerView *view, size_t n) {
        ((SchedulerView *) view)->work += n;
}

size_t scheduler_view_work(const SchedulerView *view) {
        return view->work;
}

static bool has(const ViewMachine *v, const char *unit) {
        const Decision *d = decided(v, unit);
        ClusterAssignment *o;

        if (d)
                return d->there;
        HASH_FIND_STR(v->machine->assignments, unit, o);
        return o && cluster_assignment_is_active(o);
}

/* The first position that 'v', with the load it has now, may take; without 'v' itself the array is sorted. */
static void reorder(SchedulerView *view, ViewMachine *v, size_t old_load) {
        size_t low = 0, high = view->n, from, to;
        ViewMachine was = *v;

        was.load = old_load;
        while (low < high) {
                size_t middle = (low + high) / 2;
                int c = view->sorted[middle] == v ? 0 : compare(view->sorted[middle], &was);

                if (c == 0) {
                        low = middle;
                        break;
                }
                if (c < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        from = low;
        assert(view->sorted[from] == v);

        if (v->load > old_load) {
                low = from;
                high = view->n - 1;
                while (low < high) { /* the last one that is before v */
                        size_t middle = (low + high + 1) / 2;

                        if (compare(view->sorted[middle], v) < 0)
                                low = middle;
                        else
                                high = middle - 1;
                }
                to = low;
                memmove(&view->sorted[from], &view->sorted[from + 1], (to - from) * sizeof(*view->sorted));
        } else {
                low = 0;
                high = from;
                while (low < high) { /* the first one that is behind v */
                        size_t middle = (low + high) / 2;

                        if (compare(view->sorted[middle], v) > 0)
                                high = middle;
                        else
                                low = middle + 1;
                }
                to = low;
                memmove(&view->sorted[to + 1], &view->sorted[to], (from - to) * sizeof(*view->sorted));
        }
        view->sorted[to] = v;
}

static int add_decision(SchedulerView *view, ViewMachine *v, const ClusterUnit *unit, bool there) {
        Decision *d = NEW0(Decision, 1);

        if (!d)
                return -ENOMEM;
        *d = (Decision) { .unit = unit,
                          .there = there,
                          .stranger = cluster_any_unit(view->cluster, unit->name) != unit };
        HASH_ADD_KEYPTR(hh, v->decisions, unit->name, strlen(unit->name), d);
        if (!TABLE_ADDED(d)) {
                free(d);
                return -ENOMEM;
        }
        v->n_strangers += d->stranger;
        return 0;
}

static int decide(SchedulerView *view, const char *machine_id, const ClusterUnit *unit, bool there) {
        ViewMachine *v = find(view, cluster_machine(view->cluster, machine_id));
        Decision *d = decided(v, unit->name);
        bool was = has(v, unit->name);
        int r;

        if (d)
                d->there = there;
        else {
                r = add_decision(view, v, unit, there);
                if (r < 0)
                        return r;
        }
        if (was != there) {
                v->load += there ? 1 : -1;
                if (view->is_sorted)
                        reorder(view, v, there ? v->load - 1 : v->load + 1);
        }
        return 0;
}

int scheduler_view_place(SchedulerView *view, const char *machine_id, const ClusterUnit *unit) {
        return decide(view, machine_id, unit, true);
}

int scheduler_view_remove(SchedulerView *view, const char *machine_id, const ClusterUnit *unit) {
        return decide(view, machine_id, unit, false);
}

/* -- Who is there -- */

typedef struct Visit {
        const SchedulerView *view;
        const ViewMachine *machine;
        ClusterRule rule;
        const char *name; /* of the unit that others may name */
        SchedulerViewEach each;
        void *userdata;
        const Pattern *pattern;
        size_t n; /* units that have a pattern which matches */
        bool ended;
} Visit;

static ClusterAssignment *order_of(const ViewMachine *v, const char *unit) {
        ClusterAssignment *o;

        HASH_FIND_STR(v->machine->assignments, unit, o);
        return o;
}

/* The unit of that name, if it is there in any way. */
static bool is_placed(const ViewMachine *v, const char *unit, Placed *ret) {
        const Decision *d = decided(v, unit);
        const ClusterAssignment *o = order_of(v, unit);

        if (!o && (!d || !d->there))
                return false;
        *ret = o ? (Placed) { .unit = o->of,
                              .assignment = o,
                              .stopping = d ? !d->there : !cluster_assignment_is_active(o) } :
                   (Placed) { .unit = d->unit };
        return true;
}

/* 'unit' NULL: whichever has that name there. */
static void visit(Visit *v, const char *name, const ClusterUnit *unit, const char *pattern) {
        Placed placed;

        count_work(v->view, 1);
        if (v->ended || !is_placed(v->machine, name, &placed) || (unit && placed.unit != unit))
                return;
        v->ended = !v->each(v->userdata, &placed, pattern);
}

/* Everything there, one by one; 'pattern' tells for each what matches, or NULL. */
static void visit_all(Visit *v, const char *(*pattern)(const Visit *v, const ClusterUnit *unit),
                      bool strangers_only) {
        const Decision *decisions = !strangers_only || v->machine->n_strangers > 0 ? v->machine->decisions :
                                                                                     NULL;
        const char *matching;

        for (const ClusterAssignment *o = strangers_only ? NULL : v->machine->machine->assignments;
             o && !v->ended; o = o->hh.next) {
                count_work(v->view, 1);
                matching = pattern(v, o->of);
                if (matching)
                        visit(v, o->unit, NULL, matching);
        }
        for (const Decision *d = decisions; d && !v->ended; d = d->hh.next) {
                count_work(v->view, 1);
                if ((strangers_only && !d->stranger) || order_of(v->machine, d->unit->name))
                        continue;
                matching = pattern(v, d->unit);
                if (matching)
                        visit(v, d->unit->name, NULL, matching);
        }
}

static size_t count_there(const ViewMachine *v) {
        return HASH_COUNT(v->machine->assignments) + HASH_COUNT(v->decisions);
}

/* As glob_match(), and counts what the comparison takes. */
static bool matches(const SchedulerView *view, const char *pattern, const char *name) {
        size_t steps = 0;
        bool result = glob_match_counted(pattern, name, &steps);

        count_work(view, 1 + steps / PATTERNS_STEPS);
        return result;
}

static const char *named(const Visit *v, const ClusterUnit *unit) {
        return matches(v->view, v->name, unit->name) ? v->name : NULL;
}

void scheduler_view_each_named(const SchedulerView *view, const ClusterMachine *machine, const char *pattern,
                               SchedulerViewEach each, void *userdata) {
        Visit v = { .view = view,
                    .machine = find(view, machine),
                    .name = pattern,
                    .each = each,
                    .userdata = userdata };
        ClusterUnit *const *units;
        size_t start = pattern_start(pattern), n;

        if (!pattern[start]) {
                visit(&v, pattern, NULL, pattern);
                return;
        }
        units = cluster_units_that_begin(view->cluster, pattern, start, &n);
        if (n > count_there(v.machine)) {
                visit_all(&v, named, false);
                return;
        }
        for (size_t i = 0; i < n && !v.ended; i++)
                if (matches(view, pattern, units[i]->name))
                        visit(&v, units[i]->name, NULL, pattern);
        visit_all(&v, named, true);
}

/* The first pattern that matches, or NULL. */
static const char *matching(const SchedulerView *view, const Names *patterns, const char *name) {
        for (size_t i = 0; patterns && i < patterns->n; i++)
                if (matches(view, patterns->items[i], name))
                        return patterns->items[i];
        return NULL;
}

static const char *names_it(const Visit *v, const ClusterUnit *unit) {
        return matching(v->view, unit->unit ? cluster_rule(&unit->unit->placement, v->rule) : NULL, v->name);
}

static bool count_pattern(void *userdata, const Pattern *pattern) {
        ((Visit *) userdata)->n += pattern->n;
        return true;
}

static bool visit_pattern(void *userdata, const Pattern *pattern) {
        Visit *v = userdata;

        for (size_t i = 0; i < pattern->n && !v->ended; i++)
                visit(v, pattern->units[i]->name, pattern->units[i], pattern->text);
        return !v->ended;
}

void scheduler_view_each_naming(const SchedulerView *view, const ClusterMachine *machine, ClusterRule rule,
                                const char *name, SchedulerViewEach each, void *userdata) {
        Visit v = { .view = view,
                    .machine = find(view, machine),
                    .rule = rule,
                    .name = name,
                    .each = each,
                    .userdata = userdata };

        count_work(view, patterns_match(&view->cluster->rules[rule], name, count_pattern, &v));
        if (v.n > count_there(v.machine)) {
                visit_all(&v, names_it, false);
                return;
        }
        if (v.n > 0)
                count_work(view, patterns_match(&view->cluster->rules[rule], name, visit_pattern, &v));
        visit_all(&v, names_it, true);
}

uint64_t scheduler_view_now_ms(const SchedulerView *view) {
        return view->cluster->now_ms;
}

bool scheduler_view_has(const SchedulerView *view, const ClusterMachine *machine, const char *unit) {
        return has(find(view, machine), unit);
}

/* -- Replaces -- */

typedef struct Replacer {
        const SchedulerView *view;
        const ClusterUnit *unit;
        const ClusterUnit *found;
} Replacer;

static bool no_replacer(void *userdata, const Placed *other, const char *pattern) {
        Replacer *r = userdata;

        /* Each naming the other is no relation (fleet's rule), nor is one that names itself. */
        if (other->stopping || matching(r->view, &r->unit->unit->placement.replaces, other->unit->name))
                return true;
        r->found = other->unit;
        return false;
}

const ClusterUnit *scheduler_replaced_by(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine) {
        Replacer r = { .view = view, .unit = unit };

        scheduler_view_each_naming(view, machine, CLUSTER_REPLACES, unit->name, no_replacer, &r);
        return r.found;
}

/* -- Picking -- */

enum {
        EXPLAIN_MAX = 100,
        GROUPS_MAX = 6,
        NAMES_MAX = 4
}; /* machines counted, sentences told, names told with each */

typedef struct Refusals {
        struct {
                char sentence[ERROR_MESSAGE_MAX];
                Text names;
                size_t n;
        } groups[GROUPS_MAX];
        size_t n;
} Refusals;

static void refusals_done(Refusals *refusals) {
        for (size_t i = 0; i < refusals->n; i++)
                text_done(&refusals->groups[i].names);
}

static void refusals_add(Refusals *refusals, const ClusterMachine *m, const Error *why) {
        size_t i = 0;

        while (i < refusals->n && !streq(refusals->groups[i].sentence, why->message))
                i++;
        if (i == GROUPS_MAX)
                return;
        if (i == refusals->n)
                snprintf(refusals->groups[refusals->n++].sentence, ERROR_MESSAGE_MAX, "%s", why->message);
        if (refusals->groups[i].n++ < NAMES_MAX)
                text_printf(&refusals->groups[i].names, "%s%s", refusals->groups[i].n > 1 ? ", " : "",
                            cluster_machine_name(m));
}

static void refusals_tell(const Refusals *refusals, Error *ret) {
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < refusals->n; i++) {
                size_t n = refusals->groups[i].n;

                text_printf(&t, "%s%s", i > 0 ? "; " : "",
                            refusals->groups[i].names.chars ? refusals->groups[i].names.chars : "");
                if (n > NAMES_MAX)
                        text_printf(&t, " and %zu more", n - NAMES_MAX);
                text_printf(&t, ": %s", refusals->groups[i].sentence);
        }
        error_set(ret, -ENOENT, "%s", t.chars ? t.chars : "there is no machine");
}

/* Says nothing that the view did not say before. */
static void sort_machines(SchedulerView *view) {
        qsort(view->sorted, view->n, sizeof(*view->sorted), by_load);
        view->is_sorted = true;
}

int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why) {
        _cleanup_(refusals_done) Refusals refusals = {};
        const ViewMachine *best = NULL, *second = NULL; /* 'second': somebody there replaces it */
        size_t fitting = 0;
        bool explain = ret_why && view->n <= EXPLAIN_MAX;

        if (!view->is_sorted)
                sort_machines((SchedulerView *) view);

        for (size_t i = 0; i < view->n && (!best || explain); i++) {
                const ViewMachine *v = view->sorted[i];
                Error why = {};

                count_work(view, 1);
                if (has(v, unit->name)) {
                        if (v->machine->presence == PRESENCE_UP)
                                error_set(&why, -ENOENT, "it is there");
                        else
                                error_set(&why, -ENOENT, "it was there, and the machine is %s",
                                          presence_to_string(v->machine->presence));
                        refusals_add(&refusals, v->machine, &why);
                        continue;
                }
                if (!scheduler_fits(view, unit, v->machine, false, ret_why ? &why : NULL)) {
                        if (ret_why)
                                refusals_add(&refusals, v->machine, &why);
                        continue;
                }
                fitting++;
                if (!best && !scheduler_replaced_by(view, unit, v->machine))
                        best = v;
                else if (!second)
                        second = v;
        }
        if (!best)
                best = second;
        if (!best) {
                refusals_tell(&refusals, ret_why);
                return -ENOENT;
        }

        if (!explain)
                error_set(ret_why, 0, "%s had the fewest units (%zu) of those that qualify",
                          cluster_machine_name(best->machine), best->load);
        else if (fitting == 1)
                error_set(ret_why, 0, "%s is the only machine that qualifies",
                          cluster_machine_name(best->machine));
        else
                error_set(ret_why, 0, "%s had the fewest units (%zu) of %zu machines that qualify",
                          cluster_machine_name(best->machine), best->load, fitting);
        *ret = best->machine;
        return 0;
}
