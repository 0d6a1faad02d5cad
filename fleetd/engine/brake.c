/* The mass-failure brake: when many hosts vanish together, the network has probably failed, and moving all
 * units at once would overload the remaining hosts.
 *
 * Computed from the presences, so that a new leader has the same brake. The brake is on if more than a third
 * of all hosts, and at least two, were lost within BRAKE_WINDOW_MS. No unit moves for BrakeSec= then;
 * afterwards one host after the other is released. */
#include "fleetd/engine/plan_internal.h"

enum { BRAKE_WINDOW_MS = 60000 };

void brake_done(Brake *brake) {
        free(brake->hosts);
        *brake = (Brake) {};
}

static int brake_compare_losses(const void *a, const void *b) {
        const ClusterMachine *m = *(const ClusterMachine *const *) a, *n = *(const ClusterMachine *const *) b;

        if (m->since_ms != n->since_ms)
                return m->since_ms < n->since_ms ? -1 : 1;
        return strcmp(m->id, n->id);
}

bool brake_is_possible(const Cluster *cluster) {
        size_t lost = cluster->counts[MACHINES_LOST];

        return lost >= 2 && lost * 3 > cluster->counts[MACHINES_PRESENT];
}

/* Keep those of the lost hosts, sorted by time, that belong to a window with too many losses. Return their
 * number. */
static size_t brake_keep_groups(const ClusterMachine **lost, size_t n, size_t total) {
        size_t kept = 0, last = 0, end = 0; /* hosts before 'end' are in such a window */

        for (size_t i = 0; i < n; i++) {
                last = MAX(last, i);
                while (last + 1 < n && lost[last + 1]->since_ms - lost[i]->since_ms <= BRAKE_WINDOW_MS)
                        last++;
                if (last + 1 - i >= 2 && (last + 1 - i) * 3 > total && last + 1 > end)
                        end = last + 1;
                if (i < end)
                        lost[kept++] = lost[i];
        }
        return kept;
}

/* A unit with several assignments on lost hosts moves with the host that was lost last. */
static bool brake_is_later_loss(const ClusterMachine *a, const ClusterMachine *b) {
        if (a->presence != PRESENCE_LOST || a == b)
                return false;
        return a->since_ms != b->since_ms ? a->since_ms > b->since_ms : strcmp(a->id, b->id) > 0;
}

/* Return whether the move of this unit away from its lost host is complete, or another machine decides about
 * it. */
static bool brake_move_is_complete(const Pass *pass, const ClusterAssignment *o) {
        const ClusterAssignment *newest = o;
        const ClusterMachine *unused;
        const ClusterState *s;
        bool elsewhere = false;

        for (const ClusterAssignment *other = LIST_FIRST(&o->of->assignments); other;
             other = LIST_NEXT(other, of_unit)) {
                if (!cluster_assignment_is_active(other))
                        continue;
                if (other->machine->presence == PRESENCE_UP && other->since_ms >= newest->since_ms)
                        newest = other;
                elsewhere = elsewhere || brake_is_later_loss(other->machine, o->machine) ||
                            other->machine->presence == PRESENCE_AWAY || plan_has_finished(other);
        }
        if (newest == o)
                return elsewhere || bound_left_ms(pass, o) > 0 ||
                       scheduler_pick(pass->view, o->of, &unused, NULL) < 0;
        s = newest->state;
        return s && !(s->state.active && streq(s->state.active, "activating"));
}

/* The brake releases one host after the other, each when the moves from the hosts before it are complete. */
static bool brake_host_is_through(const Pass *pass, const ClusterMachine *m) {
        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                if (engine_may_leave(o) && !o->of->unit->placement.global && !brake_move_is_complete(pass, o))
                        return false;
        }
        return true;
}

/* Find the hosts that vanished together, and the end of the hold-off; none of them is released yet. */
static int brake_find(const Cluster *cluster, uint64_t brake_ms, Brake *ret) {
        _cleanup_free_ const ClusterMachine **lost = NULL;
        size_t n = 0, total = cluster->counts[MACHINES_PRESENT];

        *ret = (Brake) { .again_ms = UINT64_MAX, .n_total = total };
        if (!brake_is_possible(cluster))
                return 0;
        lost = NEW0(const ClusterMachine *, cluster->counts[MACHINES_LOST] + 1);
        if (!lost)
                return -ENOMEM;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                if (m->presence_index > 0 && m->presence == PRESENCE_LOST)
                        lost[n++] = m;
        qsort(lost, n, sizeof(*lost), brake_compare_losses);

        ret->n = brake_keep_groups(lost, n, total);
        if (ret->n == 0)
                return 0;
        ret->until_ms = lost[ret->n - 1]->since_ms + brake_ms;
        ret->hosts = TAKE_PTR(lost);
        return 0;
}

int brake_update(Pass *pass, uint64_t brake_ms) {
        Brake *brake = &pass->brake;

        TRY(brake_find(pass->cluster, brake_ms, brake));
        if (pass->cluster->now_ms < brake->until_ms) {
                brake->again_ms = brake->until_ms - pass->cluster->now_ms;
                return 0;
        }
        /* The first host that is not through is released, too; the hosts after it wait. */
        while (brake->n_free < brake->n && brake_host_is_through(pass, brake->hosts[brake->n_free]))
                brake->n_free++;
        if (brake->n_free < brake->n)
                brake->n_free++;
        return 0;
}

int engine_brake_state(const Cluster *cluster, uint64_t brake_ms, EngineBrake *ret) {
        Brake brake;

        TRY(brake_find(cluster, brake_ms, &brake));
        *ret = (EngineBrake) {};
        if (cluster->now_ms < brake.until_ms) {
                uint64_t last_ms = brake.hosts[brake.n - 1]->since_ms;

                *ret = (EngineBrake) { .until_ms = brake.until_ms, .n_total = brake.n_total };
                for (size_t i = 0; i < brake.n; i++)
                        ret->n_lost += last_ms - brake.hosts[i]->since_ms <= BRAKE_WINDOW_MS;
        }
        brake_done(&brake);
        return 0;
}

bool engine_is_braked(const Cluster *cluster, uint64_t brake_ms) {
        EngineBrake brake;

        return engine_brake_state(cluster, brake_ms, &brake) < 0 || brake.until_ms > 0;
}

bool brake_holds(const Brake *brake, const ClusterMachine *machine) {
        for (size_t i = brake->n_free; i < brake->n; i++)
                if (brake->hosts[i] == machine)
                        return true;
        return false;
}
