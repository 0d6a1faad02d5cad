/* Why no machine qualifies for a unit, in one message: machines with the same cause are named together. */

#include "fleetd/registry/presence.h"
#include "fleetd/scheduler/filters.h"

enum {
        CAUSES_MAX = 8,
        NAMES_MAX = 4, /* machines named with each */
};

/* The machines with one cause. */
typedef struct Cause {
        Refusal refusal;
        const ClusterMachine *machines[NAMES_MAX];
        size_t n; /* may exceed NAMES_MAX */
} Cause;

typedef struct Causes {
        Cause items[CAUSES_MAX];
        size_t n;
        size_t n_others; /* machines with causes that are not listed */
} Causes;

static bool cause_is(const Cause *cause, const Refusal *refusal) {
        if (cause->refusal.conflict || refusal->conflict)
                return cause->refusal.conflict == refusal->conflict;
        return verdict_equal(&cause->refusal.why, &refusal->why) ||
               (refusal->why.code == VERDICT_OTHER_ID && cause->refusal.why.code == VERDICT_OTHER_ID);
}

static void causes_add(Causes *all, const ClusterMachine *m, const Refusal *refusal) {
        size_t i = 0;

        while (i < all->n && !cause_is(&all->items[i], refusal))
                i++;
        if (i == CAUSES_MAX) {
                all->n_others++;
                return;
        }
        if (i == all->n)
                all->items[all->n++].refusal = *refusal;
        if (all->items[i].n < NAMES_MAX)
                all->items[i].machines[all->items[i].n] = m;
        all->items[i].n++;
}

/* -- The message -- */

/* Append "alpha, beta and gamma", or "alpha, beta, gamma, delta and 3 more". */
static void cause_append_names(const Cause *cause, Text *t) {
        size_t named = MIN(cause->n, (size_t) NAMES_MAX);

        for (size_t i = 0; i < named; i++) {
                if (i > 0)
                        text_append(t, i + 1 == cause->n ? " and " : ", ");
                text_append(t, cluster_machine_name(cause->machines[i]));
        }
        if (cause->n > named)
                text_printf(t, " and %zu more", cause->n - named);
}

/* Append the units that exclude this one: "web@2 is on newton, web@3 on alpha". */
static void causes_append_conflicts(const Causes *all, Text *t) {
        bool first = true;

        for (size_t i = 0; i < all->n; i++) {
                const Cause *cause = &all->items[i];
                const char *name, *type;

                if (!cause->refusal.conflict)
                        continue;
                name = cause->refusal.conflict->name;
                type = strrchr(name, '.');
                text_append(t, first ? "" : ", ");
                text_append_bytes(t, name,
                                  type && streq(type, ".service") ? (size_t) (type - name) : strlen(name));
                text_append(t, first ? " is on " : " on ");
                cause_append_names(cause, t);
                first = false;
        }
}

static void causes_append(const Causes *all, Text *t) {
        causes_append_conflicts(all, t);
        for (size_t i = 0; i < all->n; i++) {
                if (all->items[i].refusal.conflict)
                        continue;
                text_append(t, t->size > 0 ? "; " : "");
                if (all->items[i].refusal.why.code != VERDICT_NO_SUCH_UNIT) {
                        cause_append_names(&all->items[i], t);
                        text_append_char(t, ' ');
                }
                verdict_append_predicate(t, &all->items[i].refusal.why, all->items[i].n > 1);
        }
        if (all->n_others > 0)
                text_printf(t, "; %zu more for other reasons", all->n_others);
}

/* -- The machines -- */

static void causes_read(Causes *all, const SchedulerView *view, const ClusterUnit *unit,
                        const ClusterMachine *except, bool long_lost) {
        uint64_t now_ms = scheduler_view_now_ms(view);

        for (size_t i = 0; i < scheduler_view_n_machines(view) && !scheduler_view_is_spent(view); i++) {
                const ClusterMachine *m = scheduler_view_by_name(view, i);
                bool has_it = m->presence == PRESENCE_UP && scheduler_view_has(view, m, unit->name);
                Refusal refusal = {};
                SchedulerRule rule;

                if (m == except || cluster_machine_is_removed(m) ||
                    presence_is_omitted(m, now_ms) != long_lost)
                        continue;
                rule = scheduler_check(0, view, unit, m, has_it, &refusal);
                if (rule == RULE_NONE) {
                        if (!has_it)
                                continue;
                        refusal.why.code = VERDICT_HAS_IT;
                } else if (rule != RULE_CONFLICTS) /* the message has the port, or the number */
                        refusal.conflict = NULL;
                causes_add(all, m, &refusal);
        }
}

void scheduler_explain(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *except,
                       Error *ret_why) {
        const char *other = except ? "other " : "";
        size_t work = scheduler_view_work(view); /* the selection has counted it already */
        _cleanup_text_ Text t = {};
        Causes all = {};

        causes_read(&all, view, unit, except, false);
        if (all.n == 0)
                causes_read(&all, view, unit, except, true);
        scheduler_view_set_work(view, work);
        causes_append(&all, &t);
        if (all.n == 0)
                error_set(ret_why, -ENOENT, "there is no %smachine", other);
        else
                error_set(ret_why, t.error < 0 ? t.error : -ENOENT, "no %smachine qualifies (%s)", other,
                          t.error < 0 ? strerror(-t.error) : t.chars);
}
