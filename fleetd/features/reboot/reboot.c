#include "fleetd/features/reboot/reboot_internal.h"

#include "base/log.h"
#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan.h"
#include "fleetd/engine/rollout_budget.h"

enum { REBOOT_LOOK_MS = 1000 };

static const KvMember *reboot_member(const KvState *state, const ClusterMachine *m) {
        for (size_t i = 0; i < state->n_members && m->member.raft_id != 0; i++)
                if (state->members[i].raft_id == m->member.raft_id)
                        return &state->members[i];
        return NULL;
}

static bool reboot_is_voter(const KvState *state, const ClusterMachine *m) {
        const KvMember *member = reboot_member(state, m);

        return member && member->role == KV_MEMBER_VOTER;
}

static bool reboot_leads(const KvState *state, const ClusterMachine *m) {
        return m->member.raft_id != 0 && m->member.raft_id == state->leader_id;
}

bool reboot_is_active(const ClusterMachine *m) {
        return m->reboot && m->reboot->state != REBOOT_QUEUED && m->reboot->state != REBOOT_FAILED;
}

bool reboot_has_booted(const ClusterMachine *m) {
        const RebootRecord *r = m->reboot;

        return m->facts && m->facts->boot_id && r->boot[0] &&
               (!streq(m->facts->boot_id, r->boot) || m->facts->soft_reboots > r->soft);
}

/* -- The queue -- */

static const char *reboot_zone(const ClusterMachine *m, const char *key) {
        return *key ? pairs_get(&m->metadata, key) : NULL;
}

/* Machines without the key are the last ones. */
static int reboot_compare_zones(const ClusterMachine *a, const ClusterMachine *b, const char *key) {
        const char *x = reboot_zone(a, key), *y = reboot_zone(b, key);

        return x && y ? strcmp(x, y) : !x - !y;
}

/* Without a key, all machines are one zone. Machines without the key are zones of their own. */
static bool reboot_shares_zone(const ClusterMachine *a, const ClusterMachine *b, const char *key) {
        const char *x = reboot_zone(a, key), *y = reboot_zone(b, key);

        return !*key || (x && y && streq(x, y));
}

bool reboot_is_before(const KvState *state, const ClusterMachine *a, const ClusterMachine *b) {
        const RebootRecord *x = a->reboot, *y = b->reboot;
        bool a_leads = reboot_leads(state, a), b_leads = reboot_leads(state, b);
        int order;

        if (a_leads != b_leads)
                return b_leads;
        if (x->seq / REBOOTS_MAX != y->seq / REBOOTS_MAX) /* another request */
                return x->seq < y->seq;
        order = strcmp(x->zone, y->zone) ?: reboot_compare_zones(a, b, x->zone);
        if (order == 0 && x->seq != y->seq)
                return x->seq < y->seq;
        return (order ?: strcmp(a->id, b->id)) < 0;
}

/* Return why the votes do not allow it; NULL: they do. Of two drained voters, one begins. */
static const char *reboot_quorum(const Cluster *cluster, const KvState *state, const ClusterMachine *machine,
                                 const ClusterMachine **ret_other) {
        *ret_other = NULL;
        if (!reboot_is_voter(state, machine))
                return NULL;
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const KvMember *member = reboot_member(state, m);

                if (m == machine || !member || member->role != KV_MEMBER_VOTER)
                        continue;
                *ret_other = m;
                if (machine->reboot->state == REBOOT_DRAINING ? cluster_machine_is_rebooting(m) :
                                                                reboot_is_active(m))
                        return "is a voter, too, and reboots first";
                if (!member->reachable || m->presence != PRESENCE_UP)
                        return "is a voter, and does not respond";
                if (!reboot_leads(state, m) && member->match + REBOOT_LAG_MAX < state->raft_index)
                        return "is a voter, and is not caught up";
        }
        *ret_other = NULL;
        return NULL;
}

static bool reboot_votes_allow(const Cluster *cluster, const KvState *state, const ClusterMachine *machine,
                               Error *ret_why) {
        const ClusterMachine *other;
        const char *why = reboot_quorum(cluster, state, machine, &other);

        if (why)
                error_set(ret_why, -EAGAIN, "%s %s", cluster_machine_name(other), why);
        return !why;
}

/* -- The units of a host -- */

/* Note the units that are not available before the reboot. */
static void reboot_note_units(RebootRecord *r, const ClusterMachine *m) {
        size_t size = 0, length;

        memset(r->except, 0, sizeof(r->except));
        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next) {
                length = strlen(a->unit) + 1;
                if (!cluster_assignment_is_active(a) || move_is_available(a, true) ||
                    size + length >= sizeof(r->except))
                        continue;
                snprintf(r->except + size, sizeof(r->except) - size, "%s ", a->unit);
                size += length;
        }
}

/* Return an assignment of a host that was available before its reboot, and is not again; NULL: there is none.
 * One that is newer than the reboot does not count, and none that systemd does not start by a condition. */
static const ClusterAssignment *reboot_missing(const ClusterMachine *m) {
        const RebootRecord *r = m->reboot;
        uint64_t return_ms = r->return_ms ?: (uint64_t) REBOOT_RETURN_MS,
                 began_ms = r->until_ms - MIN(return_ms, r->until_ms); /* the reboot */

        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                if (cluster_assignment_is_active(a) && a->since_ms <= began_ms &&
                    !move_is_available(a, true) && !rollout_is_skipped(a) &&
                    !text_has_word(r->except, a->unit))
                        return a;
        return NULL;
}

/* Return whether the global units of the host, and those whose data is there, may stop: all others have left
 * it. At the deadline of its drain, they may. */
static bool reboot_has_budget(const Cluster *cluster, const ClusterMachine *m, Error *ret_why) {
        RolloutBudget budget;

        if (cluster_machine_is_overdue(m, cluster->now_ms))
                return true;
        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next) {
                bool global = a->of->unit && a->of->unit->placement.global && cluster_assignment_is_active(a);

                if (!(global || drain_stays(a)) || !rollout_is_counted(cluster, a))
                        continue;
                if (rollout_read_budget(cluster, rollout_head(cluster, a->of), &budget) < 0)
                        return false;
                if (!global && budget.n == 1) /* no other host can be the one that is available */
                        budget.min = 0;
                if (!rollout_permits(&budget, 0, ret_why))
                        return false;
        }
        return true;
}

/* Return whether the other hosts let a queued one begin; if not, set the reason. */
static bool reboot_has_turn(const Cluster *cluster, const KvState *state, const ClusterMachine *machine,
                            Error *ret_why) {
        const RebootRecord *r = machine->reboot;
        uint64_t n = 0;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                if (m != machine && cluster_machine_has_unreadable(m, LAYOUT_REBOOT)) {
                        error_set(ret_why, -EAGAIN, "the reboot of %s: " CLUSTER_UNREADABLE,
                                  cluster_machine_name(m));
                        return false;
                }
                if (m == machine || !m->reboot)
                        continue;
                if (m->reboot->state == REBOOT_FAILED) {
                        error_set(ret_why, -EAGAIN, "the queue has stopped at %s", cluster_machine_name(m));
                        return false;
                }
                if (reboot_leads(state, machine)) {
                        error_set(ret_why, -EAGAIN, "the leader's host is last; %s is before it",
                                  cluster_machine_name(m));
                        return false;
                }
                if (!reboot_is_active(m))
                        continue;
                n++;
                if (n >= MAX(r->slots, (uint64_t) 1) || !reboot_shares_zone(m, machine, r->zone)) {
                        error_set(ret_why, -EAGAIN, "%s is before it", cluster_machine_name(m));
                        return false;
                }
        }
        return reboot_votes_allow(cluster, state, machine, ret_why);
}

bool reboot_is_drained(const ClusterMachine *m) {
        return m->maintenance && m->maintenance->mode == MAINTENANCE_DRAINED;
}

bool reboot_may_go_on(const Cluster *cluster, const KvState *state, bool braked,
                      const ClusterMachine *machine, Error *ret_why) {
        RebootState now = machine->reboot->state;
        bool queued = now == REBOOT_QUEUED, drains = now == REBOOT_DRAINING;
        const char *held = queued || drains ? drain_held(cluster, braked) : NULL;
        const ClusterAssignment *missing = now == REBOOT_BACK ? reboot_missing(machine) : NULL;

        if (held)
                error_set(ret_why, -EAGAIN, "%s", held);
        else if (missing)
                error_set(ret_why, -EAGAIN, "%s is not available again", missing->unit);
        else if (queued && !LIST_EMPTY(&machine->unreadable))
                error_set(ret_why, -EAGAIN, "%s", CLUSTER_UNREADABLE);
        else if (queued && machine->presence != PRESENCE_UP)
                error_set(ret_why, -EAGAIN, "it is not up");
        else if (queued && !machine->facts)
                error_set(ret_why, -EAGAIN, "it has not reported its facts");
        else if (queued && machine->maintenance && machine->maintenance->purpose[0])
                error_set(ret_why, -EAGAIN, "it is in maintenance for another reason: %s",
                          machine->maintenance->purpose);
        else if (queued)
                return reboot_has_turn(cluster, state, machine, ret_why);
        else
                return !drains || !reboot_is_drained(machine) ||
                       (reboot_votes_allow(cluster, state, machine, ret_why) &&
                        reboot_has_budget(cluster, machine, ret_why));
        return false;
}

const ClusterMachine *reboot_first(const Cluster *cluster, const KvState *state) {
        const ClusterMachine *first = NULL;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                if (m->reboot && m->reboot->state == REBOOT_QUEUED && m->presence == PRESENCE_UP &&
                    (!first || reboot_is_before(state, m, first)))
                        first = m;
        return first;
}

/* -- Steps -- */

static void reboot_set(RebootStep *step, uint64_t now_ms, RebootState to, const char *reason) {
        step->next.state = to;
        step->next.since_ms = now_ms;
        verdict_say(&step->row, VERDICT_SAID, reason);
}

static void reboot_fail(RebootStep *step, uint64_t now_ms, const Verdict *why) {
        Error message = {};

        verdict_print(why, &message);
        reboot_set(step, now_ms, REBOOT_FAILED, message.message);
        step->row.code = VERDICT_REBOOT_FAILED;
        step->next.why = *why;
}

/* A drain lasts: the votes count again when it has ended. */
static void reboot_step_draining(RebootStep *step, const Cluster *cluster, const KvState *state,
                                 const ClusterMachine *m, bool braked) {
        const MaintenanceRecord *maintenance = m->maintenance;
        uint64_t now_ms = cluster->now_ms;

        if (presence_is_down(m->presence)) {
                reboot_fail(step, now_ms,
                            &(Verdict) { m->presence == PRESENCE_LOST ? VERDICT_REBOOT_LOST :
                                                                        VERDICT_REBOOT_LEFT });
                step->maintenance = REBOOT_CORDONS;
        } else if (!maintenance || !streq(maintenance->purpose, CLUSTER_FOR_REBOOT)) {
                step->ends = true;
                verdict_say(&step->row, VERDICT_SAID, "reboot cancelled: its drain has ended");
        } else if (reboot_is_drained(m) && reboot_may_go_on(cluster, state, braked, m, NULL)) {
                reboot_set(step, now_ms, REBOOT_REBOOTING, "rebooting");
                step->next.until_ms = now_ms + (step->next.return_ms ?: (uint64_t) REBOOT_RETURN_MS);
                reboot_note_units(&step->next, m);
        }
}

/* The time begins when all units are available, and again after each interruption. */
static void reboot_step_back(RebootStep *step, const ClusterMachine *m, uint64_t now_ms) {
        const ClusterAssignment *missing = reboot_missing(m);
        bool steady = m->presence == PRESENCE_UP && !missing;

        if (steady && step->next.steady_ms > 0 && step->next.steady_ms + REBOOT_STEADY_MS <= now_ms) {
                step->ends = true;
                step->maintenance = REBOOT_RELEASES;
                verdict_say(&step->row, VERDICT_REBOOTED, "rebooted");
        } else if (step->next.until_ms <= now_ms) {
                reboot_fail(step, now_ms, &(Verdict) { VERDICT_REBOOT_UNITS });
                if (missing)
                        verdict_set(&step->next.why, VERDICT_REBOOT_UNIT, "%.64s", missing->unit);
        } else if (steady != (step->next.steady_ms > 0)) {
                step->next.steady_ms = steady ? now_ms : 0;
                verdict_say(&step->row, VERDICT_SAID,
                            steady ? "its units are available again" :
                                     "not all of its units are available any more");
        }
}

/* Set the step of a machine that is not queued; row VERDICT_NONE: none. */
static void reboot_step_machine(RebootStep *step, const Cluster *cluster, const KvState *state,
                                const ClusterMachine *m, bool braked) {
        uint64_t now_ms = cluster->now_ms;
        bool up = m->presence == PRESENCE_UP && reboot_has_booted(m);

        step->next = *m->reboot;
        step->maintenance = REBOOT_KEEPS;
        switch (m->reboot->state) {
        case REBOOT_DRAINING:
                reboot_step_draining(step, cluster, state, m, braked);
                return;
        case REBOOT_REJECTED:
                reboot_fail(step, now_ms, &m->reboot->why);
                step->maintenance = REBOOT_RELEASES;
                return;
        case REBOOT_REBOOTING:
        case REBOOT_DOWN:
                if (up && !m->facts->booting)
                        reboot_set(step, now_ms, REBOOT_BACK, "back after its reboot");
                else if (m->reboot->state == REBOOT_REBOOTING && presence_is_down(m->presence))
                        reboot_set(step, now_ms, REBOOT_DOWN, "down for its reboot");
                else if (step->next.until_ms <= now_ms)
                        reboot_fail(step, now_ms,
                                    &(Verdict) { up ? VERDICT_REBOOT_INCOMPLETE : VERDICT_REBOOT_LATE });
                return;
        case REBOOT_BACK:
                reboot_step_back(step, m, now_ms);
                return;
        default:
                return;
        }
}

/* Return whether the host was queued in another lineage of the cluster, of which this one is a restored
 * backup or a recovery, and has not begun to reboot: no user has requested that since. */
static bool reboot_is_restored(const ClusterMachine *m, const KvState *state) {
        const RebootRecord *r = m->reboot;
        char lineage[HEX64_SIZE];

        if (r->state != REBOOT_QUEUED && r->state != REBOOT_DRAINING)
                return false;
        hex64_print(state->lineage, lineage);
        return r->lineage[0] && !streq(r->lineage, lineage);
}

RebootStep reboot_step(const Cluster *cluster, const KvState *state, bool braked) {
        RebootStep step = {};
        const ClusterMachine *first;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                if (!m->reboot || !LIST_EMPTY(&m->unreadable))
                        continue;
                if (reboot_is_restored(m, state)) {
                        step.ends = true;
                        step.maintenance = m->reboot->state == REBOOT_QUEUED ? REBOOT_KEEPS : REBOOT_RELEASES;
                        verdict_say(&step.row, VERDICT_SAID,
                                    "reboot cancelled: it was requested before the cluster was restored");
                } else if (m->reboot->state != REBOOT_QUEUED)
                        reboot_step_machine(&step, cluster, state, m, braked);
                if (step.row.code != VERDICT_NONE) {
                        step.machine = m;
                        return step;
                }
        }
        first = reboot_first(cluster, state);
        if (!first || !reboot_may_go_on(cluster, state, braked, first, NULL))
                return step;
        step.machine = first;
        step.next = *first->reboot;
        step.maintenance = REBOOT_DRAINS;
        reboot_set(&step, cluster->now_ms, REBOOT_DRAINING, "draining for a reboot");
        snprintf(step.next.boot, sizeof(step.next.boot), "%s", first->facts->boot_id ?: "");
        step.next.soft = first->facts->soft_reboots;
        return step;
}

/* -- Writing -- */

static int reboot_write(const Control *c, const RebootStep *step) {
        RebootChange change = { .machine = step->machine,
                                .record = step->ends ? NULL : &step->next,
                                .maintenance = step->maintenance,
                                .verdict = &step->row };
        Error message = {};

        verdict_print(&step->row, &message);
        if (step->maintenance == REBOOT_DRAINS && step->next.deadline_ms > 0)
                change.drain_until_ms = step->next.since_ms + step->next.deadline_ms;
        log_notice(((LogFields) { .machine = step->machine->id,
                                  .term = c->term,
                                  .message_id = history_message_id(HISTORY_MAINTENANCE) }),
                   "machine %s: %s", cluster_machine_name(step->machine), message.message);
        return registry_reboot(c->registry, c->term, &change, 1, NULL, c->done, c->userdata);
}

int reboot_control(Control *c) {
        const Cluster *cluster = registry_cluster(c->registry);
        RebootStep step;
        KvState state;
        int r;

        if (cluster->counts[MACHINES_TO_REBOOT] == 0)
                return 0;
        kv_state(registry_store(c->registry), &state);
        step = reboot_step(cluster, &state, engine_is_braked(cluster, c->brake_ms));
        if (!step.machine) {
                c->again_ms = REBOOT_LOOK_MS;
                return 0;
        }
        r = reboot_write(c, &step);
        return r < 0 ? r : 1;
}
