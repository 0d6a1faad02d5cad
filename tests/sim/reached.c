#include "tests/sim/reached.h"

enum { AWAY_MS = 2000 };

static void reached_on_start(void *userdata) {
        machine_start_daemon(userdata);
}

static void reached_end_daemon(SimMachine *m) {
        machine_absent(m, AWAY_MS);
        machine_crash_daemon(m);
        world_at(m->cluster->world, AWAY_MS, NULL, reached_on_start, m);
}

/* Return whether fewer daemons than a majority are left. */
static bool reached_end_majority(SimCluster *c) {
        unsigned n_left = 0;

        for (unsigned i = 0; i < c->n; i++)
                n_left += machine_serves(&c->machines[i]) && !c->machines[i].leaves;
        for (unsigned i = 0; i < c->n && n_left > c->n / 2; i++)
                if (machine_serves(&c->machines[i]) && !c->machines[i].leaves) {
                        reached_end_daemon(&c->machines[i]);
                        n_left--;
                }
        return n_left <= c->n / 2;
}

/* Without a session, the kernel of a host counts as silent in worlds with attached hosts. */
void reached_enter(Reached *r, SimCluster *c, unsigned state) {
        ReachedState *s = &r->states[state];
        SimMachine *leader = cluster_leader(c);
        uint64_t draw;

        s->n++;
        if (c->quiet || c->may_attach || !leader || leader->leaves)
                return;
        draw = world_draw(c->world, 100);
        if (draw < s->leader_percent) {
                reached_end_daemon(leader);
                s->n_leader++;
        } else if (draw < s->leader_percent + s->quorum_percent)
                s->n_quorum += reached_end_majority(c);
}

void reached_print(const Reached *r) {
        for (const ReachedState *s = r->states; s < r->states + REACHED_MAX; s++)
                if (s->name)
                        printf(" reached %s: %s: %llu times, without its leader %llu, without a quorum "
                               "%llu\n",
                               r->table, s->name, (unsigned long long) s->n, (unsigned long long) s->n_leader,
                               (unsigned long long) s->n_quorum);
}

bool reached_all(const Reached *r) {
        for (const ReachedState *s = r->states; s < r->states + REACHED_MAX; s++)
                if (s->name && (s->n == 0 || s->n_leader == 0 || s->n_quorum == 0)) {
                        printf("FAILED each-state-loses-its-leader-and-its-quorum: %s %s\n", r->table,
                               s->name);
                        return false;
                }
        return true;
}
