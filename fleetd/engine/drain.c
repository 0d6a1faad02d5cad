#include "fleetd/engine/drain.h"

#include "fleetd/engine/plan_internal.h"
#include "fleetd/registry/shutdown.h"

enum { BETWEEN_WORK_MAX = 5000 }; /* comparisons in one search */

const char *drain_held(const Cluster *c, bool braked) {
        if (c->adopting)
                return "the cluster was recovered or restored, and not all hosts have reported their units";
        return braked ? "machines were lost together, and nothing moves (BrakeSec=)" : NULL;
}

bool drain_moves(const ClusterAssignment *a, uint64_t now_ms) {
        return cluster_machine_is_draining(a->machine) && !scheduler_drain_spares(a->of, a->machine, now_ms);
}

const ClusterAssignment *drain_successor(const ClusterUnit *u, const ClusterMachine *where) {
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (a->machine != where && cluster_assignment_is_active(a) &&
                    a->machine->presence == PRESENCE_UP)
                        return a;
        return NULL;
}

bool drain_is_for_reboot(const ClusterMachine *m) {
        return m->maintenance && streq(m->maintenance->purpose, CLUSTER_FOR_REBOOT);
}

bool drain_has_others(const Cluster *c, const ClusterMachine *m) {
        for (const ClusterMachine *other = c->machines; other; other = other->hh.next)
                if (other != m && other->presence == PRESENCE_UP && !other->maintenance && other->facts &&
                    !other->member.agentless)
                        return true;
        return false;
}

bool drain_stays(const ClusterAssignment *a) {
        return cluster_assignment_is_active(a) && cluster_data_holder(a->of, a->machine);
}

/* A finished unit has no process that ends: it moves, before the drain ends or afterwards. */
bool drain_awaits(const ClusterAssignment *a) {
        if (drain_stays(a) && !cluster_machine_is_leaving(a->machine))
                return false;
        return !(a->of->unit && a->of->unit->placement.global) && !plan_stays_finished(a) && !bound_waits(a);
}

size_t drain_left(const ClusterMachine *m) {
        size_t n = 0;

        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                n += drain_awaits(a);
        return n;
}

static void drain_end(DrainStep *step) {
        step->next.mode = MAINTENANCE_CORDONED;
        step->next.deadline_ms = 0;
        step->next.force = false;
}

/* Return whether the unit leaves a machine that is shutting down, or reboots: another machine has it or can
 * run it, or it is being stopped, or is about to be, as one that was destroyed. One that cannot be read
 * delays a reboot. */
static bool drain_can_go(const SchedulerView *view, const ClusterAssignment *a) {
        const ClusterMachine *to;

        if (!cluster_assignment_is_active(a) || (!a->of->unit && !cluster_unit_is_unreadable(a->of)) ||
            (cluster_unit_is_unreadable(a->of) && drain_is_for_reboot(a->machine)))
                return true;
        if (drain_successor(a->of, a->machine))
                return true;
        return !cluster_unit_is_unreadable(a->of) && drain_moves(a, scheduler_view_now_ms(view)) &&
               scheduler_pick(view, a->of, &to, NULL) >= 0;
}

/* Of many units without another machine, the work ends the search: the delay of the shutdown goes on. */
static bool drain_any_can_go(const Cluster *cluster, const ClusterMachine *m) {
        SchedulerView *view = NULL;
        bool found = false;

        if (scheduler_view_new(cluster, cluster->now_ms, &view) < 0)
                return true;
        for (const ClusterAssignment *a = m->assignments; a && !found; a = a->hh.next)
                found = (drain_awaits(a) && drain_can_go(view, a)) ||
                        scheduler_view_work(view) >= BETWEEN_WORK_MAX;
        scheduler_view_free(view);
        return found;
}

/* The operator's record continues while the host is down. Without one, the host ends its record when it is
 * back.
 */
static DrainStep drain_step_down(const ClusterMachine *m) {
        DrainStep step = { .next = *m->maintenance, .n_left = drain_left(m) };

        if (shutdown_end(m->maintenance, &step.next) <= 0)
                return step;
        if (step.next.mode == MAINTENANCE_DRAINING)
                drain_end(&step);
        step.reason = "as before the shutdown; a drain has ended";
        return step;
}

/* The host waits for this step, up to the end of logind's delay. */
static DrainStep drain_step_shutdown(const Cluster *cluster, const ClusterMachine *m) {
        DrainStep step = { .next = *m->maintenance, .n_left = drain_left(m) };

        if (presence_is_down(m->presence))
                return drain_step_down(m);
        if (step.next.mode == MAINTENANCE_DRAINED)
                return step;
        if (step.n_left == 0)
                step.reason = "drained: no unit is left to move";
        else if (!drain_any_can_go(cluster, m))
                step.reason = "drained: no other machine can run the units that are left";
        if (step.reason)
                step.next.mode = MAINTENANCE_DRAINED;
        return step;
}

DrainStep drain_step(const Cluster *cluster, const ClusterMachine *m) {
        DrainStep step = { .next = *m->maintenance, .n_left = drain_left(m) };
        bool reboots = drain_is_for_reboot(m), overdue = cluster_machine_is_overdue(m, cluster->now_ms);

        if (cluster_machine_is_stopping(m) && !cluster->adopting && LIST_EMPTY(&m->unreadable))
                return drain_step_shutdown(cluster, m);
        if (step.next.mode != MAINTENANCE_DRAINING || (step.next.purpose[0] && !reboots) ||
            cluster->adopting || !LIST_EMPTY(&m->unreadable))
                return step;
        if (presence_is_down(m->presence)) {
                if (reboots) /* see features/reboot/reboot.h */
                        return step;
                drain_end(&step);
                step.reason = m->presence == PRESENCE_LOST ?
                                      "cordoned: it was lost while it was drained" :
                                      "cordoned: it was shut down during the drain, which has ended";
        } else if (m->presence == PRESENCE_UP &&
                   (step.n_left == 0 || (reboots && overdue && !drain_any_can_go(cluster, m)))) {
                step.next.mode = MAINTENANCE_DRAINED;
                step.reason = overdue ? "drained: its deadline has passed" :
                                        "drained: no unit is left to move";
        }
        return step;
}

uint64_t drain_retry_ms(const ClusterAssignment *a, uint64_t now_ms) {
        return a->move_after_ms > now_ms && !a->of->move ? a->move_after_ms : 0;
}

bool drain_explain_retry(const Cluster *cluster, const ClusterAssignment *a, Error *ret) {
        const ClusterMachine *failed = cluster_machine(cluster, a->move_failed);
        uint64_t retry_ms = drain_retry_ms(a, cluster->now_ms);
        char name[CLUSTER_LABEL_SIZE];

        if (retry_ms == 0)
                return false;
        error_set(ret, 0, "the move to %s failed; the next attempt is in %llu s",
                  failed ? cluster_machine_label(failed, name) : "another machine",
                  (unsigned long long) (retry_ms - cluster->now_ms + 999) / 1000);
        return true;
}

/* -- Limits -- */

/* Return whether the unit has left the machine, or is about to, and runs nowhere else yet. */
static bool drain_is_starting(const ClusterAssignment *old) {
        bool leaves = !cluster_assignment_is_active(old);

        for (const ClusterAssignment *a = LIST_FIRST(&old->of->assignments); a; a = LIST_NEXT(a, of_unit)) {
                if (a == old || !cluster_assignment_is_active(a))
                        continue;
                if (plan_is_up(a))
                        return false;
                leaves = true;
        }
        return leaves && plan_is_wanted(old->of) && drain_awaits(old);
}

/* Return whether a unit that stops first, and has left its machine, is about to start on another one. */
static bool drain_is_between(Pass *pass, const ClusterUnit *u) {
        uint64_t now_ms = pass->cluster->now_ms, end_ms = now_ms;
        const ClusterMachine *to;

        if (cluster_unit_is_unreadable(u))
                return false;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                const ClusterState *s = a->state;

                if (!cluster_assignment_is_active(a) || plan_is_up(a) ||
                    presence_is_down(a->machine->presence) ||
                    (s && s->state.active && streq(s->state.active, "failed")))
                        return false;
                end_ms = MAX(end_ms, a->since_ms + DRAIN_START_MS);
        }
        if (LIST_EMPTY(&u->assignments))
                return plan_has_changes(pass, u) || scheduler_pick(pass->view, u, &to, NULL) >= 0;
        if (end_ms > now_ms)
                plan_again(pass, end_ms - now_ms);
        return end_ms > now_ms;
}

/* Return how many units with a requested move start elsewhere, of machines that are not drained. */
static size_t drain_count_requested(Pass *pass) {
        const ClusterUnit *u;
        size_t n = 0;

        LIST_FOREACH(u, &pass->cluster->lists[CLUSTER_MOVING], lists[CLUSTER_MOVING])
                for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                        if (streq(a->machine->id, u->move->to) || cluster_machine_is_draining(a->machine) ||
                            !drain_is_starting(a))
                                continue;
                        pass->drains.starting[a->machine->slot]++;
                        n++;
                }
        return n;
}

/* The ones of all drains, up to the limit. Of thousands that wait for a machine, the work ends the search. */
static size_t drain_count_between(Pass *pass) {
        size_t n = 0, end = scheduler_view_work(pass->view) + BETWEEN_WORK_MAX;

        for (const ClusterUnit *u = LIST_FIRST(&pass->cluster->lists[CLUSTER_STOPS_FIRST]);
             u && n < DRAIN_CLUSTER_MAX && scheduler_view_work(pass->view) < end;
             u = LIST_NEXT(u, lists[CLUSTER_STOPS_FIRST])) {
                scheduler_view_count_work(pass->view, 1);
                n += drain_is_between(pass, u);
        }
        return n;
}

static int drain_count_all(Pass *pass) {
        Drains *d = &pass->drains;
        size_t n_between = drain_count_between(pass);

        d->starting = NEW0(size_t, scheduler_view_n_machines(pass->view) + 1);
        if (!d->starting)
                return -ENOMEM;
        d->n_total = n_between;
        for (const ClusterMachine *m = pass->cluster->machines; m; m = m->hh.next) {
                d->starting[m->slot] = n_between;
                if (!cluster_machine_is_draining(m) || m->presence != PRESENCE_UP)
                        continue;
                scheduler_view_count_work(pass->view, HASH_COUNT(m->assignments));
                for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                        d->starting[m->slot] += drain_is_starting(a);
                d->n_total += d->starting[m->slot] - n_between;
        }
        d->n_total += drain_count_requested(pass);
        return 0;
}

bool drain_admits(Pass *pass, const ClusterAssignment *a, Error *ret_why) {
        uint64_t now_ms = pass->cluster->now_ms, retry_ms = drain_retry_ms(a, now_ms);
        const char *held = drain_held(pass->cluster, pass->brake.until_ms > now_ms);
        const ClusterMachine *m = a->machine;
        Drains *d = &pass->drains;

        if (plan_is_overdue(pass, m))
                return true;
        if (held) {
                error_set(ret_why, -EAGAIN, "%s", held);
                return false;
        }
        if (cluster_machine_is_stopping(m))
                return true;
        if (retry_ms > 0) {
                plan_again(pass, retry_ms - now_ms);
                verdict_print(&a->why, ret_why);
                return false;
        }
        if (!d->starting && drain_count_all(pass) < 0) {
                pass->error = -ENOMEM;
                return false;
        }
        /* One that is on its way goes on, to another machine. */
        if (drain_is_starting(a) ||
            (d->starting[m->slot] < DRAIN_MACHINE_MAX && d->n_total < DRAIN_CLUSTER_MAX))
                return true;
        error_set(ret_why, -EAGAIN,
                  "other units of %s start elsewhere first (%d at a time, %d of the cluster)",
                  d->starting[m->slot] < DRAIN_MACHINE_MAX ? "the drained machines" : "it", DRAIN_MACHINE_MAX,
                  DRAIN_CLUSTER_MAX);
        return false;
}

void drain_count(Pass *pass, const ClusterAssignment *a) {
        Drains *d = &pass->drains;

        if (!d->starting || drain_is_starting(a))
                return;
        d->starting[a->machine->slot]++;
        d->n_total++;
}

/* -- A unit that failed on the machine to which it moved -- */

void drain_note_failure(Pass *pass, const ClusterAssignment *old, const ClusterMachine *failed) {
        uint64_t now_ms = pass->cluster->now_ms, delay_ms;
        bool recent = old->move_failures > 0 && now_ms < old->move_after_ms + DRAIN_RETRY_MAX_MS;
        uint64_t n = recent ? MIN(old->move_failures, (uint64_t) 16) : 0;
        char name[CLUSTER_LABEL_SIZE];
        AssignmentChange *c;

        delay_ms = MIN((uint64_t) DRAIN_RETRY_MS << n, (uint64_t) DRAIN_RETRY_MAX_MS);
        c = plan_change(pass, old->machine, old->of, old->kind, VERDICT_MOVE_RETRIED,
                        "%s" VERDICT_NEXT "%llu", cluster_machine_label(failed, name),
                        (unsigned long long) delay_ms / 1000);
        if (!c)
                return;
        plan_set_text(c, old);
        c->move_failures = n + 1;
        c->move_after_ms = now_ms + delay_ms;
        memcpy(c->move_failed, failed->id, sizeof(c->move_failed));
}

int drain_pick(Pass *pass, const ClusterAssignment *old, const ClusterMachine **ret, Error *ret_why) {
        const ClusterMachine *failed = cluster_machine(pass->cluster, old->move_failed);
        int r = -ENOENT;

        if (failed && !scheduler_view_has(pass->view, failed, old->unit)) {
                /* Another machine is tried first. */
                TRY(scheduler_view_decide(pass->view, failed, old->of, true));
                r = scheduler_pick(pass->view, old->of, ret, ret_why);
                if (scheduler_view_decide(pass->view, failed, old->of, false) < 0)
                        return -ENOMEM;
        }
        return r >= 0 ? r : scheduler_pick(pass->view, old->of, ret, ret_why);
}
