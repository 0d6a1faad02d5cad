#include "fleetd/scheduler/view.h"

#include "fleetd/registry/unit_order.h"
#include "units/named.h"

/* A decision of the pass about one unit on one machine. */
typedef struct Decision {
        Named name; /* of the unit */
        const ClusterUnit *unit;
        bool there;
        bool gone;     /* it has stopped, too */
        bool is_draft; /* the unit is not in the cluster view, so that no index finds it */
} Decision;

typedef struct ViewMachine {
        const ClusterMachine *machine;
        const Pairs *metadata; /* borrowed */
        size_t load;
        Named *decisions; /* Decision, by the unit's name */
        size_t n_drafts;  /* of them */
} ViewMachine;

struct SchedulerView {
        const Cluster *cluster;
        uint64_t now_ms;
        ViewMachine *machines; /* one allocation; by ClusterMachine.slot */
        size_t n;
        ViewMachine **sorted; /* by load, then machine ID; from the first selection on */
        bool is_sorted;
        const ClusterMachine **named; /* by name; from the first explanation on */
        bool is_named;
        Named *drafts;   /* of the decisions: names of units that are not in the cluster view */
        size_t work;     /* machines, patterns and units examined */
        size_t work_max; /* 0: no limit */
};

static int view_compare(const void *a, const void *b) {
        const ViewMachine *x = *(ViewMachine *const *) a, *y = *(ViewMachine *const *) b;

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
        named_clear(&view->drafts);
        free(view->machines);
        free(view->sorted);
        free(view->named);
        free(view);
        return NULL;
}

DEFINE_CLEANUP(SchedulerView *, scheduler_view_free)

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
        if (!view->machines || !view->sorted || !view->named)
                return -ENOMEM;

        /* Each view of one cluster assigns the same slots, so that several views can exist at once. */
        for (ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                ViewMachine *v = &view->machines[view->n];

                m->slot = view->n;
                v->machine = m;
                v->metadata = &m->metadata;
                v->load = m->load;
                view->n++;
        }

        *ret = TAKE_PTR(view);
        return 0;
}

static ViewMachine *view_find(const SchedulerView *view, const ClusterMachine *m) {
        assert(m->slot < view->n && view->machines[m->slot].machine == m);
        return &view->machines[m->slot];
}

void scheduler_view_set_metadata(SchedulerView *view, const ClusterMachine *machine, const Pairs *metadata) {
        view_find(view, machine)->metadata = metadata;
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

static bool view_has(const ViewMachine *v, const char *unit) {
        const Decision *d = named_find(v->decisions, unit);
        const ClusterAssignment *o;

        if (d)
                return d->there;
        o = cluster_assignment_on(v->machine, unit);
        return o && cluster_assignment_is_active(o);
}

bool scheduler_view_has(const SchedulerView *view, const ClusterMachine *machine, const char *unit) {
        return view_has(view_find(view, machine), unit);
}

bool scheduler_view_knows(const SchedulerView *view, const char *unit) {
        return cluster_any_unit(view->cluster, unit) || named_find(view->drafts, unit);
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

static void view_set_load(SchedulerView *view, ViewMachine *v, size_t load) {
        size_t from = view->is_sorted ? view_position(view, 0, view->n, v) : 0, to;
        bool grows = load > v->load;

        v->load = load;
        if (!view->is_sorted)
                return;
        assert(view->sorted[from] == v);

        if (grows) {
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

        if (!d)
                return -ENOMEM;
        if (!d->unit) {
                d->unit = unit;
                d->is_draft = cluster_any_unit(view->cluster, unit->name) != unit;
                v->n_drafts += d->is_draft;
                if (d->is_draft && !named_get(&view->drafts, unit->name, sizeof(Named)))
                        return -ENOMEM;
        }
        d->there = there;
        if (was_there != there)
                view_set_load(view, v, there ? v->load + 1 : v->load - 1);
        return 0;
}

int scheduler_view_remove(SchedulerView *view, const ClusterMachine *machine, const ClusterUnit *unit) {
        int r = scheduler_view_decide(view, machine, unit, false);

        if (r >= 0)
                ((Decision *) named_find(view_find(view, machine)->decisions, unit->name))->gone = true;
        return r;
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
