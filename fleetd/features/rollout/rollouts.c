/* The sets whose rollouts the leader looks at: after a change of one of their units, and when time has
 * changed a rollout. Each gets one step, then the next one. */

#include "base/log.h"
#include "fleetd/engine/controller.h"
#include "fleetd/features/rollout/rollout.h"
#include "fleetd/features/rollout/rollouts.h"

enum { RETRY_MS = 100 };

/* A set to be looked at, by its head. */
typedef struct RolloutToStep {
        Named head;
        uint64_t retry_ms; /* its step could not be written: when it is tried again; 0: it could */
} RolloutToStep;

typedef struct Rollouts {
        Loop *loop;      /* borrowed */
        uint64_t term;   /* in which the sets were noted */
        uint64_t due_ms; /* when time has changed a rollout; 0: never */
        Named *sets;
} Rollouts;

/* The sets of a former term are those of another view. */
static void rollouts_begin(Rollouts *r, uint64_t term) {
        if (r->term != term) {
                named_clear(&r->sets);
                r->due_ms = 0;
        }
        r->term = term;
}

static int rollouts_add(Rollouts *r, const char *head) {
        return named_get(&r->sets, head, sizeof(RolloutToStep)) ? 0 : -ENOMEM;
}

static int rollouts_planned(const Control *control, const char *unit) {
        const Cluster *cluster = registry_cluster(control->registry);
        const ClusterUnit *u = cluster_any_unit(cluster, unit), *head = u ? rollout_head(cluster, u) : NULL;

        rollouts_begin(control->self, control->term);
        return u && rollout_is_due(u, head) ? rollouts_add(control->self, head->name) : 0;
}

static void rollouts_again(Rollouts *r, uint64_t again_ms) {
        uint64_t due_ms = loop_now_ms(r->loop) + MAX(again_ms, (uint64_t) 1);

        if (again_ms < UINT64_MAX && (r->due_ms == 0 || due_ms < r->due_ms))
                r->due_ms = due_ms;
}

/* Look at all rollouts when one of them is due. 0 or -ENOMEM. */
static int rollouts_add_due(Rollouts *r, const Cluster *cluster) {
        const ClusterUnit *u;

        if (r->due_ms == 0 || loop_now_ms(r->loop) < r->due_ms)
                return 0;
        LIST_FOREACH(u, &cluster->lists[CLUSTER_ROLLING], lists[CLUSTER_ROLLING])
                if (rollouts_add(r, u->name) < 0)
                        return -ENOMEM;
        r->due_ms = 0;
        return 0;
}

/* Write the step of a set. 1, 0 if there is none, or it cannot be written and the other sets go on, or
 * -ENOMEM. */
static int rollouts_step(const Control *control, const RolloutConditions *conditions, RolloutToStep *set) {
        const Cluster *cluster = registry_cluster(control->registry);
        const ClusterUnit *head = cluster_any_unit(cluster, set->head.name);
        _cleanup_rollout_step_ RolloutStep step = { .again_ms = UINT64_MAX };
        Rollouts *r = control->self;
        int e = TRY(head ? rollout_step(cluster, head, conditions, &step) : 0);

        rollouts_again(r, step.again_ms);
        if (step.change != ROLLOUT_NOTHING)
                e = rollout_step_write(control->registry, control->term, head, &step, control->done,
                                       control->userdata);
        if (e == -ENOMEM)
                return e;
        if (e < 0) {
                if (set->retry_ms == 0)
                        log_warning(((LogFields) { .unit = head->name, .error = e, .term = control->term }),
                                    "%s: a step of its rollout cannot be written: %s; trying again",
                                    head->name, strerror(-e));
                set->retry_ms = loop_now_ms(r->loop) + RETRY_MS;
                rollouts_again(r, RETRY_MS);
                return 0;
        }
        named_remove(&r->sets, set->head.name);
        if (step.change == ROLLOUT_NOTHING)
                return 0;
        /* The next step, or the rejected one, is planned after the steps of the other sets. */
        if (rollouts_add(r, head->name) < 0)
                rollouts_again(r, RETRY_MS);
        return 1;
}

static int rollouts_control(Control *control) {
        const Cluster *cluster = registry_cluster(control->registry);
        RolloutConditions conditions = { .leads_ms = control->leads_ms };
        Rollouts *r = control->self;
        uint64_t now_ms = loop_now_ms(r->loop);
        EngineBrake brake = {};
        int e;

        rollouts_begin(r, control->term);
        if (cluster->adopting) /* the states of a new lineage are not complete */
                return 0;
        e = rollouts_add_due(r, cluster);
        if (e >= 0 && r->sets)
                e = engine_brake_state(cluster, control->brake_ms, &brake);
        conditions.braked = brake.until_ms > 0;
        for (RolloutToStep *set = (RolloutToStep *) r->sets, *next; set && e == 0; set = next) {
                next = (RolloutToStep *) set->head.hh.next;
                if (set->retry_ms <= now_ms)
                        e = rollouts_step(control, &conditions, set);
        }
        if (r->due_ms > 0)
                control->again_ms = r->due_ms > now_ms ? r->due_ms - now_ms : 0;
        return e;
}

static int rollouts_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Rollouts *r = NEW0(Rollouts, 1);

        if (!r)
                return -ENOMEM;
        r->loop = host->io.loop;
        *ret = r;
        return 0;
}

static void *rollouts_close(void *self) {
        Rollouts *r = self;

        named_clear(&r->sets);
        free(r);
        return NULL;
}

static const Controller rollout_controller = { "rollouts", rollouts_control, rollouts_planned };

const Component rollout_component = { "rollout",
                                      rollouts_open,
                                      rollouts_close,
                                      .routes = rollout_routes,
                                      .n_routes = ELEMENTS(rollout_routes),
                                      .write_cluster = rollouts_write,
                                      .write_why = rollout_write_why,
                                      .controller = &rollout_controller,
                                      .problems = rollout_problems };
