/* Any keys and values as the registry's: lines of "KEY VALUE", and "-KEY" for a removed one. The cluster view
 * takes them in any order, plans follow its rules, a second plan equals the first, the steps of rollouts,
 * drains and reboots can be computed, and the view is empty when all keys are removed. */

#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"
#include "fleetd/features/reboot/reboot.h"
#include "fleetd/features/rollout/rollout.h"
#include "fleetd/registry/cluster_keys.h"
#include "fleetd/registry/endpoints.h"
#include "fleetd/registry/layout.h"
#include "fleetd/scheduler/scheduler.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void put_line(Cluster *c, const char *line, size_t size, uint64_t index) {
        const char *space;
        Error err = {};
        int r;

        if (size > 0 && line[0] == '-') {
                r = cluster_remove(c, (KvBytes) { line + 1, size - 1 });
                assert(r == 0);
                return;
        }
        space = memchr(line, ' ', size);
        if (!space)
                return;
        r = cluster_put(c,
                        &(KvNode) { .key = { line, space - line },
                                    .value = { space + 1, line + size - space - 1 },
                                    .created = index,
                                    .modified = index },
                        &err);
        assert(r == 0 || (r == -EBADMSG && err.message[0]));
}

static void check_plan(const Cluster *c, bool names_texts) {
        const EnginePlanLimits limits = { .names_texts = names_texts };
        EnginePlan plan = {}, again = {};
        int r;

        r = engine_plan(c, NULL, 0, 30000, &limits, &plan);
        assert(r == 0);
        r = engine_plan(c, NULL, 0, 30000, &limits, &again);
        assert(r == 0 && plan.n == again.n);
        for (size_t i = 0; i < plan.n; i++) {
                const AssignmentChange *o = &plan.changes[i];
                const ClusterMachine *m = cluster_machine(c, o->machine);

                assert(m && o->why.code != VERDICT_NONE);
                assert(streq(o->unit, again.changes[i].unit) && streq(o->machine, again.changes[i].machine));
                if (o->kind != ASSIGNMENT_STOP)
                        assert(cluster_unit(c, o->unit));
        }
        engine_plan_done(&plan);
        engine_plan_done(&again);
}

static void check_steps(const Cluster *c) {
        const RolloutConditions conditions = {};
        const KvState state = {};

        for (ClusterUnit *u = c->units; u; u = u->hh.next) {
                _cleanup_rollout_step_ RolloutStep step = {};

                assert(rollout_step(c, rollout_head(c, u), &conditions, &step) == 0);
        }
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->maintenance)
                        (void) drain_step(c, m);
        (void) reboot_step(c, &state, false);
        (void) reboot_step(c, &state, true);
}

/* Each endpoint is once in each of its services, which are sorted, and one that may not be registered has a
 * reason. */
static void check_endpoints(const Cluster *c) {
        for (const ClusterService *s = c->services; s; s = s->hh.next)
                for (size_t i = 0; i < s->n_endpoints; i++) {
                        const ClusterEndpoint *x = s->endpoints[i],
                                              *next = i + 1 < s->n_endpoints ? s->endpoints[i + 1] : x;
                        const ClusterMachine *m = cluster_machine(c, x->machine);
                        const ClusterUnit *u = cluster_unit(c, x->unit);
                        int order = strcmp(x->machine, next->machine) ?: strcmp(x->unit, next->unit);
                        Error err = {};

                        assert(cluster_endpoint(c, x->machine, x->unit) == x && (x == next || order < 0));
                        if (m && endpoint_check(c, m, x->unit, u ? u->unit : NULL, &x->record, &err) < 0)
                                assert(err.message[0]);
                }
}

/* What waits has a reason. */
static void check_reasons(const Cluster *c) {
        const KvState state = {};
        SchedulerView *view = NULL;

        assert(scheduler_view_new(c, c->now_ms, &view) == 0);
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                Error why = {};

                for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next) {
                        const ClusterMachine *to;

                        if (drain_awaits(a) &&
                            engine_explain_drain(view, a->of, m, &to, &why) == DRAINED_UNIT_WAITS)
                                assert(why.message[0]);
                }
                why = (Error) {};
                assert(!m->reboot || reboot_may_go_on(c, &state, false, m, &why) || why.message[0]);
        }
        scheduler_view_free(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const char *p = (const char *) bytes, *end = p + size;
        Cluster c = { .now_ms = 1000000 };
        uint64_t index = 0;

        while (p < end && index < 200) {
                const char *newline = memchr(p, '\n', end - p) ?: end;
                LayoutKey key;

                put_line(&c, p, newline - p, ++index);
                (void) layout_parse((KvBytes) { p, newline - p }, &key);
                p = newline + 1;
        }
        c.index = index;
        check_plan(&c, false);
        check_plan(&c, true);
        check_steps(&c);
        check_reasons(&c);
        check_endpoints(&c);

        if (c.machines && c.units) {
                const ClusterMachine *where;

                for (ClusterUnit *u = c.units; u; u = u->hh.next)
                        (void) cluster_current_state(&c, u, &where);
        }
        assert(cluster_remove(&c, kv_string("/_fleet")) == 0);
        assert(!c.units && !c.machines && !c.tokens && !c.principals && !c.denied && !c.lineages &&
               !c.servers && !c.services && LIST_EMPTY(&c.unreadable));
        cluster_done(&c);
        return 0;
}
