/* One plan of moves in a cluster of which a fifth of the machines is new, for a tool that counts the
 * instructions of rebalance_all(): tests/conformance/plan.py. It prints how many moves are planned.
 *
 *      rebalance MACHINES UNITS */
#include "base/parse.h"
#include "fleetd/features/rebalance/rebalance.h"
#include "tests/lib/cluster_view.h"

enum { NEW = 5, SET = 100 };

int rebalance_all(SchedulerView *view);

static const char *machine_name(size_t i) {
        static char name[16];

        snprintf(name, sizeof(name), "A%zu", i);
        return name;
}

static void add_machine(ClusterView *p, size_t i) {
        char id[MACHINE_ID_SIZE], key[128], value[256];

        cluster_view_presence(p, machine_name(i), PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, machine_name(i)));
        snprintf(value, sizeof(value), "{\"capacity\":{\"cpu\":3200,\"memory\":131072},\"name\":\"%s\"}",
                 machine_name(i));
        cluster_view_put(p, key, value);
}

/* Half of them are instances of templates. */
static void add_unit(ClusterView *p, size_t i, size_t machines) {
        const char *machine = machine_name(i % (machines - machines / NEW));
        char name[32], options[64] = "";

        if (i % 2)
                snprintf(name, sizeof(name), "set%zu@%zu.service", i / SET, i % SET);
        else
                snprintf(name, sizeof(name), "app%zu.service", i);
        snprintf(options, sizeof(options), "%s[Service]\nMemoryMax=%zuM", i % 2 ? "Spread=machine\n" : "",
                 20 + i % 100);
        cluster_view_unit(p, name, options, TARGET_LAUNCHED);
        cluster_view_assign(p, machine, name, ASSIGNMENT_RUN);
        cluster_view_state(p, machine, name, "active");
}

int rebalance_all(SchedulerView *view) {
        Rebalance *r;
        RebalanceMove move;
        Names all = {};
        int n = 0, left = rebalance_new(&all, REBALANCE_MOVES_MAX, &r);

        if (left < 0)
                return left;
        left = rebalance_renew(r, view);
        while (left >= 0 && (left = rebalance_step(r, &move, NULL)) > 0)
                n += move.unit != NULL;
        rebalance_free(r);
        return left < 0 ? left : n;
}

int main(int argc, char **argv) {
        ClusterView p = { .cluster.now_ms = 1000000 };
        uint64_t machines, units;
        SchedulerView *view;
        int n;

        if (argc < 3 || parse_u64(argv[1], &machines) < 0 || parse_u64(argv[2], &units) < 0)
                return 2;
        for (size_t i = 0; i < machines; i++)
                add_machine(&p, i);
        for (size_t i = 0; i < units; i++)
                add_unit(&p, i, machines);
        if (scheduler_view_new(&p.cluster, p.cluster.now_ms, &view) < 0)
                return 1;
        n = rebalance_all(view);
        scheduler_view_free(view);
        cluster_view_free(&p);
        printf("%d 0\n", n);
        return n < 0;
}
