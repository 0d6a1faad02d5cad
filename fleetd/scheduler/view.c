#include "fleetd/scheduler/view.h"

#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/view_internal.h"

static int view_compare(const void *a, const void *b) {
        const ViewMachine *x = *(ViewMachine *const *) a, *y = *(ViewMachine *const *) b;

        if (x->fullness != y->fullness)
                return x->fullness < y->fullness ? -1 : 1;
        if (x->load != y->load)
                return x->load < y->load ? -1 : 1;
        return strcmp(x->machine->id, y->machine->id);
}

static int view_compare_names(const void *a, const void *b) {
        const ClusterMachine *x = *(const ClusterMachine *const *) a, *y = *(const ClusterMachine *const *) b;
        int r = strcmp(cluster_machine_name(x), cluster_machine_name(y));

        return r != 0 ? r : strcmp(x->id, y->id);
}

SchedulerView *scheduler_view_free(SchedulerView *view) {
        if (!view)
                return NULL;
        for (size_t i = 0; i < view->n; i++)
                named_clear(&view->machines[i].decisions);
        named_clear(&view->arrivals);
        siblings_clear(view);
        free(view->spread.rows);
        free(view->machines);
        free(view->sorted);
        free(view->named);
        free(view);
        return NULL;
}

DEFINE_CLEANUP(SchedulerView *, scheduler_view_free)

/* -- Sizes -- */

enum { SUM_MAX_BITS = 42 }; /* so that a fraction cannot overflow */

static uint64_t fraction(uint64_t sum, uint32_t capacity) {
        return MIN(sum, UINT64_C(1) << SUM_MAX_BITS) * FULLNESS_ONE / capacity;
}

static uint64_t view_fullness(const ViewMachine *v, Resources more) {
        if (!resources_are_set(v->capacity))
                return 0;
        return MAX(fraction(v->sized.memory_mib + more.memory_mib, v->capacity.memory_mib),
                   fraction(v->sized.cpu_percent + more.cpu_percent, v->capacity.cpu_percent));
}

static int compare_numbers(const void *a, const void *b) {
        const uint32_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

/* Read the median of memory, and of CPU, of the ordinary machines whose capacity is known. -ENOMEM. */
static int view_read_median(SchedulerView *view) {
        _cleanup_free_ uint32_t *memory = NEW0(uint32_t, view->n + 1), *cpu = NEW0(uint32_t, view->n + 1);
        size_t n = 0;

        if (!memory || !cpu)
                return -ENOMEM;
        for (size_t i = 0; i < view->n; i++) {
                const ViewMachine *v = &view->machines[i];

                if (!resources_are_set(v->capacity) || cluster_machine_is_restricted(v->machine))
                        continue;
                memory[n] = v->capacity.memory_mib;
                cpu[n++] = v->capacity.cpu_percent;
        }
        qsort(memory, n, sizeof(*memory), compare_numbers);
        qsort(cpu, n, sizeof(*cpu), compare_numbers);
        if (n > 0)
                view->median = (Resources) { memory[(n - 1) / 2], cpu[(n - 1) / 2] };
        view->has_median = true;
        return 0;
}

/* A restricted host cannot draw units by what it says about itself, nor switch sizes off: its capacity counts
 * as at most the median of the ordinary ones. -ENOMEM. */
static int view_restrict(SchedulerView *view) {
        TRY(view_read_median(view));
        for (size_t i = 0; i < view->n; i++) {
                Resources *c = &view->machines[i].capacity;

                if (!cluster_machine_is_restricted(view->machines[i].machine))
                        continue;
                if (resources_are_set(*c))
                        *c = (Resources) { MIN(c->memory_mib, view->median.memory_mib),
                                           MIN(c->cpu_percent, view->median.cpu_percent) };
                else
                        *c = view->median;
        }
        return 0;
}

static int view_read_capacities(SchedulerView *view) {
        if (cluster_is_former(view->cluster))
                return 0;
        for (size_t i = 0; i < view->n; i++)
                if (view->machines[i].machine->facts)
                        view->machines[i].capacity = view->machines[i].machine->facts->capacity;
        if (view->cluster->counts[MACHINES_RESTRICTED] > 0)
                TRY(view_restrict(view));
        view->least = (Resources) { UINT32_MAX, UINT32_MAX };
        for (size_t i = 0; i < view->n; i++) {
                Resources c = view->machines[i].capacity;

                if (!resources_are_set(c))
                        continue;
                view->has_sizes = true;
                view->least = (Resources) { MIN(view->least.memory_mib, c.memory_mib),
                                            MIN(view->least.cpu_percent, c.cpu_percent) };
                view->most = (Resources) { MAX(view->most.memory_mib, c.memory_mib),
                                           MAX(view->most.cpu_percent, c.cpu_percent) };
                view->machines[i].fullness = view_fullness(&view->machines[i], resources_default);
        }
        return 0;
}

int scheduler_view_new(const Cluster *cluster, uint64_t now_ms, SchedulerView **ret) {
        _cleanup_(scheduler_view_freep) SchedulerView *view = NEW0(SchedulerView, 1);
        size_t n = HASH_COUNT(cluster->machines);

        if (!view)
                return -ENOMEM;

        view->cluster = cluster;
        view->now_ms = now_ms;
        view->machines = NEW0(ViewMachine, n + 1);
        view->sorted = NEW0(ViewMachine *, n + 1);
        view->named = NEW0(const ClusterMachine *, n + 1);
        view->spread.rows = NEW0(uint64_t, n + 1);
        if (!view->machines || !view->sorted || !view->named || !view->spread.rows)
                return -ENOMEM;

        /* Each view of one cluster assigns the same slots, so that several views can exist at once. */
        for (ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                ViewMachine *v = &view->machines[view->n];

                m->slot = view->n;
                v->machine = m;
                v->metadata = &m->metadata;
                v->load = m->load;
                v->requested = m->requested;
                v->sized = m->sized;
                view->n++;
        }
        TRY(view_read_capacities(view));

        *ret = TAKE_PTR(view);
        return 0;
}

void scheduler_view_set_metadata(SchedulerView *view, const ClusterMachine *machine, const Pairs *metadata) {
        view_find(view, machine)->metadata = metadata;
        siblings_clear(view);
}

const Pairs *scheduler_view_metadata(const SchedulerView *view, const ClusterMachine *machine) {
        return view_find(view, machine)->metadata;
}

/* The work changes no answer of the view, so that reading functions may count it. */
void scheduler_view_count_work(const SchedulerView *view, size_t n) {
        ((SchedulerView *) view)->work += n;
}

void scheduler_view_set_work(const SchedulerView *view, size_t work) {
        if (view->work_max == 0)
                ((SchedulerView *) view)->work = work;
}

size_t scheduler_view_work(const SchedulerView *view) {
        return view->work;
}

void scheduler_view_limit(const SchedulerView *view, size_t max) {
        ((SchedulerView *) view)->work_max = view->work + max;
}

bool scheduler_view_is_spent(const SchedulerView *view) {
        return view->work_max > 0 && view->work >= view->work_max;
}

const Cluster *scheduler_view_cluster(const SchedulerView *view) {
        return view->cluster;
}

uint64_t scheduler_view_now_ms(const SchedulerView *view) {
        return view->now_ms;
}

size_t scheduler_view_load(const SchedulerView *view, const ClusterMachine *machine) {
        return view_find(view, machine)->load;
}

bool scheduler_view_has_sizes(const SchedulerView *view) {
        return view->has_sizes;
}

Resources scheduler_view_capacity(const SchedulerView *view, const ClusterMachine *machine) {
        return view_find(view, machine)->capacity;
}

Sums scheduler_view_sized(const SchedulerView *view, const ClusterMachine *machine) {
        return view_find(view, machine)->sized;
}

Sums scheduler_view_requested(const SchedulerView *view, const ClusterMachine *machine, const char *except) {
        const ViewMachine *v = view_find(view, machine);
        const Decision *d = named_find(v->decisions, except);
        const ClusterAssignment *o = d ? NULL : cluster_assignment_on(machine, except);
        Resources part = d ? d->request : o ? o->request : (Resources) {};
        Sums sums = v->requested;

        sums_replace(&sums, &part, (Resources) {});
        return sums;
}

int scheduler_view_part(SchedulerView *view, Resources request, uint64_t *ret) {
        if (!view->has_median)
                TRY(view_read_median(view));
        *ret = resources_are_set(view->median) ?
                       1 + MAX(fraction(request.memory_mib, view->median.memory_mib),
                               fraction(request.cpu_percent, view->median.cpu_percent)) :
                       0;
        return 0;
}

uint64_t scheduler_view_fullness(const SchedulerView *view, const ClusterMachine *machine, Resources more) {
        return view_fullness(view_find(view, machine), more);
}

/* The part that the sizes differ by is the smallest on the largest machine if the unit is larger. */
static int64_t fraction_least(uint32_t size, uint32_t common, uint32_t least, uint32_t most) {
        return size >= common ? (int64_t) fraction(size - common, most) :
                                -(int64_t) fraction(common - size, least);
}

uint64_t scheduler_view_fullness_bound(const SchedulerView *view, const ClusterMachine *machine,
                                       Resources more) {
        int64_t memory = fraction_least(more.memory_mib, resources_default.memory_mib, view->least.memory_mib,
                                        view->most.memory_mib),
                cpu = fraction_least(more.cpu_percent, resources_default.cpu_percent, view->least.cpu_percent,
                                     view->most.cpu_percent),
                bound = (int64_t) view_find(view, machine)->fullness + MIN(memory, cpu);

        if (resources_equal(more, resources_default))
                return (uint64_t) bound;
        return bound > 2 ? (uint64_t) bound - 2 : 0; /* each fraction is rounded down */
}

size_t scheduler_view_n_machines(const SchedulerView *view) {
        return view->n;
}

const ClusterMachine *scheduler_view_by_load(const SchedulerView *view, size_t position) {
        if (!view->is_sorted) {
                for (size_t i = 0; i < view->n; i++)
                        view->sorted[i] = &view->machines[i];
                qsort(view->sorted, view->n, sizeof(*view->sorted), view_compare);
                ((SchedulerView *) view)->is_sorted = true; /* changes no answer */
        }
        return view->sorted[position]->machine;
}

const ClusterMachine *scheduler_view_by_name(const SchedulerView *view, size_t position) {
        if (!view->is_named) {
                for (size_t i = 0; i < view->n; i++)
                        view->named[i] = view->machines[i].machine;
                qsort(view->named, view->n, sizeof(*view->named), view_compare_names);
                ((SchedulerView *) view)->is_named = true; /* changes no answer */
        }
        return view->named[position];
}

bool scheduler_view_has(const SchedulerView *view, const ClusterMachine *machine, const char *unit) {
        return view_has(view_find(view, machine), unit);
}

bool scheduler_view_knows(const SchedulerView *view, const char *unit) {
        return cluster_any_unit(view->cluster, unit) || named_find(view->arrivals, unit);
}

/* -- Decisions -- */

/* Return the first position of [low, high) whose machine does not sort before 'v', or 'high'. */
static size_t view_position(const SchedulerView *view, size_t low, size_t high, const ViewMachine *v) {
        while (low < high) {
                size_t middle = (low + high) / 2;

                if (view_compare(&view->sorted[middle], &v) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* Replace what a decision counts on the machine, and the number of its units. */
static void view_count(SchedulerView *view, ViewMachine *v, Decision *d, size_t load, Resources request,
                       Resources size) {
        size_t from = view->is_sorted ? view_position(view, 0, view->n, v) : 0, to;

        sums_replace(&v->requested, &d->request, request);
        sums_replace(&v->sized, &d->size, size);
        v->load = load;
        v->fullness = view_fullness(v, resources_default);
        if (!view->is_sorted)
                return;
        assert(view->sorted[from] == v);

        if (from + 1 < view->n && view_compare(&view->sorted[from + 1], &v) < 0) {
                to = view_position(view, from + 1, view->n, v) - 1;
                memmove(&view->sorted[from], &view->sorted[from + 1], (to - from) * sizeof(*view->sorted));
        } else {
                to = view_position(view, 0, from, v);
                memmove(&view->sorted[to + 1], &view->sorted[to], (from - to) * sizeof(*view->sorted));
        }
        view->sorted[to] = v;
}

int scheduler_view_decide(SchedulerView *view, const ClusterMachine *machine, const ClusterUnit *unit,
                          bool there) {
        ViewMachine *v = view_find(view, machine);
        bool was_there = view_has(v, unit->name);
        Decision *d = named_get(&v->decisions, unit->name, sizeof(Decision));
        const ClusterAssignment *o = cluster_assignment_on(machine, unit->name);
        Resources request = {}, size = {};

        if (!d)
                return -ENOMEM;
        if (!d->unit) {
                d->unit = unit;
                d->there = was_there;
                d->is_draft = cluster_any_unit(view->cluster, unit->name) != unit;
                d->request = o ? o->request : request;
                d->size = o ? o->size : size;
                v->n_drafts += d->is_draft;
        }
        TRY(siblings_decide(view, v, d, there));
        if (there) {
                request = unit->unit ? unit->unit->placement.request : request;
                size = unit->unit ? unit->unit->placement.size : resources_default;
        } else if (o && !d->gone) /* it is being stopped */
                request = d->request;
        view_count(view, v, d, v->load + there - was_there, request, size);
        return 0;
}

int scheduler_view_remove(SchedulerView *view, const ClusterMachine *machine, const ClusterUnit *unit) {
        Decision *d;

        TRY(scheduler_view_decide(view, machine, unit, false));
        d = (Decision *) named_find(view_find(view, machine)->decisions, unit->name);
        d->gone = true;
        view_count(view, view_find(view, machine), d, view_find(view, machine)->load, (Resources) {},
                   (Resources) {});
        return 0;
}

/* -- The units on a machine -- */

typedef struct Visit {
        const SchedulerView *view;
        const ViewMachine *machine;
        ClusterRule rule;
        const char *name; /* the unit's name, or the pattern, that is searched */
        SchedulerViewEach each;
        void *userdata;
        size_t n; /* units that have a pattern which matches */
        bool ended;
} Visit;

/* Return whether the unit of that name is on the machine in any state. */
static bool view_is_placed(const ViewMachine *v, const char *unit, Placed *ret) {
        const Decision *d = named_find(v->decisions, unit);
        const ClusterAssignment *o = cluster_assignment_on(v->machine, unit);

        if ((!o && (!d || !d->there)) || (d && d->gone))
                return false;
        *ret = o ? (Placed) { .unit = o->of,
                              .assignment = o,
                              .stopping = d ? !d->there : !cluster_assignment_is_active(o) } :
                   (Placed) { .unit = d->unit };
        return true;
}

/* 'unit' NULL: any unit of that name. */
static void visit_unit(Visit *v, const char *name, const ClusterUnit *unit, const char *pattern) {
        Placed placed;

        scheduler_view_count_work(v->view, 1);
        if (v->ended || !view_is_placed(v->machine, name, &placed) || (unit && placed.unit != unit))
                return;
        v->ended = !v->each(v->userdata, &placed, pattern);
}

/* Visit each unit on the machine, or the drafts only, for which 'match' returns a pattern. */
static void visit_all(Visit *v, const char *(*match)(const Visit *v, const ClusterUnit *unit),
                      bool drafts_only) {
        const Named *decisions = !drafts_only || v->machine->n_drafts > 0 ? v->machine->decisions : NULL;
        const char *pattern;

        for (const ClusterAssignment *o = drafts_only ? NULL : v->machine->machine->assignments;
             o && !v->ended && !scheduler_view_is_spent(v->view); o = o->hh.next) {
                scheduler_view_count_work(v->view, 1);
                pattern = match(v, o->of);
                if (pattern)
                        visit_unit(v, o->unit, NULL, pattern);
        }
        for (const Named *n = decisions; n && !v->ended; n = n->hh.next) {
                const Decision *d = (const Decision *) n;

                scheduler_view_count_work(v->view, 1);
                if ((drafts_only && !d->is_draft) || cluster_assignment_on(v->machine->machine, n->name))
                        continue;
                pattern = match(v, d->unit);
                if (pattern)
                        visit_unit(v, d->unit->name, NULL, pattern);
        }
}

static size_t view_count_units(const ViewMachine *v) {
        return HASH_COUNT(v->machine->assignments) + HASH_COUNT(v->decisions);
}

/* As glob_match(); count the work of the comparison. */
static bool view_glob_match(const SchedulerView *view, const char *pattern, const char *name) {
        size_t steps = 0;
        bool result = glob_match_counted(pattern, name, &steps);

        scheduler_view_count_work(view, 1 + steps / PATTERNS_STEPS);
        return result;
}

const char *scheduler_view_match(const SchedulerView *view, const Names *patterns, const char *name) {
        for (size_t i = 0; patterns && i < patterns->n; i++)
                if (view_glob_match(view, patterns->items[i], name))
                        return patterns->items[i];
        return NULL;
}

static const char *visit_match_name(const Visit *v, const ClusterUnit *unit) {
        return view_glob_match(v->view, v->name, unit->name) ? v->name : NULL;
}

void scheduler_view_each_named(const SchedulerView *view, const ClusterMachine *machine, const char *pattern,
                               SchedulerViewEach each, void *userdata) {
        Visit v = { .view = view,
                    .machine = view_find(view, machine),
                    .name = pattern,
                    .each = each,
                    .userdata = userdata };
        size_t start = pattern_start(pattern), n;
        UnitPosition position;

        scheduler_view_count_work(view, view->work_max > 0); /* takes time also where no unit is */
        if (!pattern[start]) {
                visit_unit(&v, pattern, NULL, pattern);
                return;
        }
        n = unit_order_prefix(&view->cluster->by_name, pattern, start, &position);
        if (n > view_count_units(v.machine)) {
                visit_all(&v, visit_match_name, false);
                return;
        }
        for (; n > 0 && !v.ended; n--) {
                const ClusterUnit *u = unit_order_next(&view->cluster->by_name, &position);

                if (view_glob_match(view, pattern, u->name))
                        visit_unit(&v, u->name, NULL, pattern);
        }
        visit_all(&v, visit_match_name, true);
}

static const char *visit_match_option(const Visit *v, const ClusterUnit *unit) {
        return scheduler_view_match(
                v->view, unit->unit ? cluster_rule(&unit->unit->placement, v->rule) : NULL, v->name);
}

static bool visit_count_pattern(void *userdata, const Pattern *pattern) {
        ((Visit *) userdata)->n += pattern->n;
        return true;
}

static bool visit_pattern(void *userdata, const Pattern *pattern) {
        Visit *v = userdata;

        for (size_t i = 0; i < pattern->n && !v->ended; i++)
                visit_unit(v, pattern->units[i]->name, pattern->units[i], pattern->text);
        return !v->ended;
}

void scheduler_view_each_naming(const SchedulerView *view, const ClusterMachine *machine, ClusterRule rule,
                                const char *name, SchedulerViewEach each, void *userdata) {
        Visit v = { .view = view,
                    .machine = view_find(view, machine),
                    .rule = rule,
                    .name = name,
                    .each = each,
                    .userdata = userdata };
        const Patterns *patterns = &view->cluster->rules[rule];

        scheduler_view_count_work(view, patterns_match(patterns, name, visit_count_pattern, &v));
        if (v.n > view_count_units(v.machine)) {
                visit_all(&v, visit_match_option, false);
                return;
        }
        if (v.n > 0)
                scheduler_view_count_work(view, patterns_match(patterns, name, visit_pattern, &v));
        visit_all(&v, visit_match_option, true);
}
