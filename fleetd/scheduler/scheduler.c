#include "fleetd/scheduler/scheduler.h"

#include <assert.h>
#include <stdio.h>

#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scores.h"

SchedulerRule scheduler_refusal(const SchedulerView *view, const ClusterUnit *unit,
                                const ClusterMachine *machine, bool staying, Error *ret_why) {
        assert(unit->unit);

        const Candidate c = { .view = view,
                              .unit = unit,
                              .placement = &unit->unit->placement,
                              .machine = machine,
                              .staying = staying };

        for (SchedulerRule rule = 0; rule < _RULE_MAX; rule++)
                if (scheduler_filters[rule].check(&c, ret_why) < 0)
                        return rule;
        return RULE_NONE;
}

bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why) {
        return scheduler_refusal(view, unit, machine, staying, ret_why) == RULE_NONE;
}

bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        SchedulerRule rule = scheduler_refusal(view, unit, machine, false, NULL);

        return rule == RULE_NONE || rule == RULE_FLAP_DAMPING;
}

/* -- Replaces= -- */

typedef struct ReplacerSearch {
        const SchedulerView *view;
        const ClusterUnit *unit;
        const ClusterUnit *found;
} ReplacerSearch;

static bool scheduler_on_replacer(void *userdata, const Placed *other, const char *pattern) {
        ReplacerSearch *s = userdata;

        if (other->stopping ||
            scheduler_view_match(s->view, &s->unit->unit->placement.replaces, other->unit->name))
                return true;
        s->found = other->unit;
        return false;
}

const ClusterUnit *scheduler_replaced_by(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine) {
        ReplacerSearch s = { .view = view, .unit = unit };

        scheduler_view_each_naming(view, machine, CLUSTER_REPLACES, unit->name, scheduler_on_replacer, &s);
        return s.found;
}

/* -- Selection -- */

enum {
        EXPLAIN_MAX = 100, /* machines; of more, the answer does not state how many qualify */
        GROUPS_MAX = 6,    /* reasons of refusal */
        NAMES_MAX = 4,     /* machines named with each */
};

typedef struct Refusals {
        struct {
                char reason[ERROR_MESSAGE_MAX];
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

        while (i < refusals->n && !streq(refusals->groups[i].reason, why->message))
                i++;
        if (i == GROUPS_MAX)
                return;
        if (i == refusals->n)
                snprintf(refusals->groups[refusals->n++].reason, ERROR_MESSAGE_MAX, "%s", why->message);
        if (refusals->groups[i].n++ < NAMES_MAX)
                text_printf(&refusals->groups[i].names, "%s%s", refusals->groups[i].n > 1 ? ", " : "",
                            cluster_machine_name(m));
}

static void refusals_describe(const Refusals *refusals, Error *ret) {
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < refusals->n; i++) {
                size_t n = refusals->groups[i].n;

                text_printf(&t, "%s%s", i > 0 ? "; " : "", refusals->groups[i].names.chars ?: "");
                if (n > NAMES_MAX)
                        text_printf(&t, " and %zu more", n - NAMES_MAX);
                text_printf(&t, ": %s", refusals->groups[i].reason);
        }
        error_set(ret, -ENOENT, "%s", t.chars ?: "there is no machine");
}

/* Return whether the machine may get the unit. */
static bool scheduler_qualifies(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                                Error *ret_why) {
        if (!scheduler_view_has(view, m, unit->name))
                return scheduler_fits(view, unit, m, false, ret_why);
        if (m->presence == PRESENCE_UP)
                error_set(ret_why, -ENOENT, "it is there");
        else
                error_set(ret_why, -ENOENT, "it was there, and the machine is %s",
                          presence_to_string(m->presence));
        return false;
}

/* No machine qualifies: report why. Reasons are formatted here only, because most selections succeed. The
 * selection has counted this work already. */
static void scheduler_explain(const SchedulerView *view, const ClusterUnit *unit, Error *ret_why) {
        _cleanup_(refusals_done) Refusals refusals = {};
        size_t work = scheduler_view_work(view);

        for (size_t i = 0; i < scheduler_view_n_machines(view); i++) {
                const ClusterMachine *m = scheduler_view_by_load(view, i);
                Error why = {};

                (void) scheduler_qualifies(view, unit, m, &why);
                refusals_add(&refusals, m, &why);
        }
        scheduler_view_set_work(view, work);
        refusals_describe(&refusals, ret_why);
}

int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why) {
        size_t n = scheduler_view_n_machines(view), n_qualified = 0;
        const ClusterMachine *best = NULL;
        uint64_t lowest = UINT64_MAX;
        const Score *first = &scheduler_scores[0];
        bool explain = ret_why && n <= EXPLAIN_MAX;

        for (size_t i = 0; i < n; i++) {
                const ClusterMachine *m = scheduler_view_by_load(view, i);
                bool can_win = !best || scores_bound(view, unit, m) < lowest;

                if (!can_win && !explain)
                        break;
                scheduler_view_count_work(view, 1);
                if (!scheduler_qualifies(view, unit, m, NULL))
                        continue;
                n_qualified++;
                if (!can_win)
                        continue;

                uint64_t sum = scores_sum(view, unit, m);

                if (sum < lowest) {
                        lowest = sum;
                        best = m;
                }
        }
        if (!best) {
                if (ret_why)
                        scheduler_explain(view, unit, ret_why);
                return -ENOENT;
        }

        /* The reason states the first score: it decides wherever the heavier scores are equal. */
        if (explain && n_qualified == 1)
                error_set(ret_why, 0, "%s is the only machine that qualifies", cluster_machine_name(best));
        else if (explain)
                error_set(ret_why, 0, "%s %s (%llu) of %zu machines that qualify", cluster_machine_name(best),
                          first->name, (unsigned long long) first->cost(view, unit, best), n_qualified);
        else
                error_set(ret_why, 0, "%s %s (%llu) of those that qualify", cluster_machine_name(best),
                          first->name, (unsigned long long) first->cost(view, unit, best));
        *ret = best;
        return 0;
}
