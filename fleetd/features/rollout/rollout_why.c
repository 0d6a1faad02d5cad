/* Why an instance of a set waits, or is not available yet. */
#include "fleetd/features/rollout/rollout_internal.h"

enum { STEP_MS = 6000 }; /* until each instance that may be updated is */

typedef struct Explaining {
        const Cluster *cluster;
        const RolloutSet *set;
        const RolloutRecord *record; /* NULL: none */
        UpdatePolicy policy;
        size_t n, unavailable, available; /* as rollout_step() counts them */
} Explaining;

static const char *explain_presence(const ClusterMachine *m) {
        switch (m->presence) {
        case PRESENCE_AWAY:
                return "is away";
        case PRESENCE_LEFT:
                return "was shut down";
        default:
                return "is lost";
        }
}

static void explain_updating(const Explaining *x, const ClusterAssignment *a, Error *ret) {
        const ClusterState *s = a->state;

        if (a->machine->presence != PRESENCE_UP)
                error_set(ret, 0, "%s %s", cluster_machine_name(a->machine), explain_presence(a->machine));
        else if (s && active_state_is_up(s->state.active) && state_code_is_of_inputs(s->state.code))
                error_set(ret, 0, "it runs with its former content: %s", s->state.reason ?: "");
        else if (s && same_string(s->state.hash, a->hash) && !rollout_is_executed(a))
                error_set(ret, 0, "it still has its former content; its host is about to start it again");
        else if (!s || s->index < a->index)
                error_set(ret, 0, "starting");
        else if (s->state.hash && a->hash[0] && !streq(s->state.hash, a->hash))
                error_set(ret, 0, "it still runs another text; its host is about to start this one");
        else if (!active_state_is_up(s->state.active))
                error_set(ret, 0, "%s", s->state.active ?: "starting");
        else if (s->state.unchecked)
                error_set(ret, 0, "%s", s->state.why ?: "a check cannot run there");
        else if (s->state.health == UNIT_HEALTH_FAILING)
                error_set(ret, 0, "%s", s->state.why && *s->state.why ? s->state.why : "its checks fail");
        else if (s->state.health == UNIT_HEALTH_STARTING)
                error_set(ret, 0, "its checks have not passed yet");
        else
                error_set(ret, 0, "active; it is available after %llu s (UpdateWatchSec=)",
                          (unsigned long long) (update_watch_ms(&x->policy) + 999) / 1000);
}

/* Set why no step begins in the state of the record. Return false if steps may begin. */
static bool explain_state(const Explaining *x, Error *ret) {
        const RolloutRecord *r = x->record;
        uint64_t now_ms = x->cluster->now_ms;

        switch (r->state) {
        case ROLLOUT_HELD:
                error_set(ret, 0, "waiting: the rollout is held");
                return true;
        case ROLLOUT_PAUSED:
                error_set(ret, 0, "waiting: the rollout is paused");
                return true;
        case ROLLOUT_BETWEEN_BATCHES:
                error_set(ret, 0, "waiting: the next batch begins in %llu s (UpdatePauseSec=)",
                          (unsigned long long) (r->until_ms > now_ms ? r->until_ms - now_ms + 999 : 0) /
                                  1000);
                return true;
        case ROLLOUT_CANARY:
                if (x->set->n_of[INSTANCE_AVAILABLE] + x->set->n_of[INSTANCE_SURGING] +
                            x->set->n_of[INSTANCE_UPDATING] + x->set->n_of[INSTANCE_FAILED] <
                    update_canaries(&x->policy, (unsigned) x->n))
                        return false;
                error_set(ret, 0, "waiting: other instances are updated first (Canary=)");
                return true;
        default:
                return false;
        }
}

/* Set why the instance with the wanted text starts on no other machine. */
static void explain_surge(const Explaining *x, const RolloutInstance *p, Error *ret) {
        ClusterUnit wanted = *p->unit; /* it borrows */
        SchedulerView *view;

        wanted.unit = x->set->head->unit;
        if (scheduler_view_new(x->cluster, x->cluster->now_ms, &view) < 0)
                return;
        scheduler_explain(view, &wanted, p->assignment->machine, ret);
        scheduler_view_free(view);
}

static void explain_budget(const Explaining *x, const RolloutInstance *p, Error *ret) {
        unsigned max = update_max_unavailable(&x->policy, (unsigned) x->n),
                 min = update_min_available(&x->policy, (unsigned) x->n),
                 surge = x->set->head->unit->placement.global ? 0 :
                                                                update_max_surge(&x->policy, (unsigned) x->n);
        /* Without MaxSurge=, each of them takes the place of one that stops. */
        size_t unavailable = x->unavailable +
                             (surge == 0 ? x->set->n_of[INSTANCE_SURGING] + x->set->n_arrived : 0);
        Error why = { .message = "no other machine qualifies" };

        if (p->state == INSTANCE_BAD && x->set->n_of[INSTANCE_UPDATING] >= MAX(max, 1u))
                error_set(ret, 0, "waiting: %zu in progress, MaxUnavailable=%u",
                          x->set->n_of[INSTANCE_UPDATING], max);
        else if (p->state == INSTANCE_BAD && x->record && !x->set->head->unit->placement.global &&
                 x->cluster->now_ms >= x->record->progress_ms + STEP_MS) /* a step would have taken it */
                error_set(ret, 0, "waiting: no machine qualifies for the new text");
        else if (p->state == INSTANCE_OLD && x->set->n_of[INSTANCE_SURGING] + x->set->n_arrived < surge &&
                 (x->unavailable >= max || x->available <= min)) {
                explain_surge(x, p, &why);
                error_set(ret, 0,
                          "waiting: %.300s for its start (MaxSurge=%u), and %zu of %zu are unavailable "
                          "(MaxUnavailable=%u, MinAvailable=%u)",
                          why.message, surge, x->unavailable, x->n, max, min);
        } else if (p->state == INSTANCE_OLD && unavailable >= max)
                error_set(ret, 0, "waiting: %zu of %zu unavailable, MaxUnavailable=%u", unavailable, x->n,
                          max);
        else if (p->state == INSTANCE_OLD && x->available <= min)
                error_set(ret, 0, "waiting: %zu of %zu available, MinAvailable=%u%s", x->available, x->n, min,
                          min >= x->n ? ": none can be stopped first" : "");
        else if (p->state == INSTANCE_OLD && x->policy.by)
                error_set(ret, 0, "waiting: one value of %s after the other (UpdateBy=)", x->policy.by);
        else
                error_set(ret, 0, "next");
}

void rollout_explain(const Cluster *cluster, const RolloutSet *set, const RolloutInstance *p, bool braked,
                     Error *ret) {
        Explaining x = { .cluster = cluster,
                         .set = set,
                         .record = set->head->rollout,
                         .policy = rollout_policy(set->head) };

        x.unavailable = rollout_unavailable(set, x.record);
        x.available = rollout_available(set);
        x.n = x.unavailable + x.available;
        *ret = (Error) {};
        switch (p->state) {
        case INSTANCE_FAILED:
                error_set(ret, 0, "%s", p->why);
                break;
        case INSTANCE_SURGING:
        case INSTANCE_UPDATING:
                if (rolling_awaits_inputs(p))
                        verdict_print(&p->unit->inputs->problem, ret);
                else
                        explain_updating(&x, p->assignment, ret);
                break;
        case INSTANCE_UNREACHABLE:
                error_set(ret, 0, "%s %s%s", cluster_machine_name(p->assignment->machine),
                          explain_presence(p->assignment->machine),
                          p->had_text ? "; it has the text" : "; it is updated after its return");
                break;
        case INSTANCE_SKIPPED:
                error_set(ret, 0, "it does not run: a condition is not met there");
                break;
        case INSTANCE_UNREADABLE:
                error_set(ret, 0, "%s", CLUSTER_UNREADABLE);
                break;
        case INSTANCE_OLD:
        case INSTANCE_BAD:
                if (x.record && explain_state(&x, ret))
                        break;
                if (braked)
                        error_set(ret, 0, "waiting: many machines were lost together (BrakeSec=)");
                else
                        explain_budget(&x, p, ret);
                break;
        default:
                break;
        }
}
