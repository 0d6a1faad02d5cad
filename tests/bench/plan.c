/* One full plan of a cluster in which no unit has a machine yet, for a tool that counts the instructions of
 * engine_plan(): tests/conformance/plan.py. It prints how many units get a machine, and how many machines
 * were examined for them.
 *
 * Also a former release compiles it: what that lacks is written as keys, which it ignores.
 *
 *      plan MACHINES UNITS [sized] */
#include "base/parse.h"
#include "tests/lib/cluster_view.h"

enum { SET = 100, ZONES = 5 };

static void add_machine(ClusterView *p, size_t i) {
        char name[16], id[MACHINE_ID_SIZE], key[128], value[256];

        snprintf(name, sizeof(name), "A%zu", i);
        cluster_view_presence(p, name, PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, name));
        snprintf(value, sizeof(value),
                 "{\"capacity\":{\"cpu\":3200,\"memory\":131072},\"metadata\":{\"zone\":\"z%zu\"},\"name\":"
                 "\"%s\"}",
                 i % ZONES, name);
        cluster_view_put(p, key, value);
}

static void add_unit(ClusterView *p, size_t i) {
        char name[32];

        snprintf(name, sizeof(name), "app%06zu.service", i);
        cluster_view_unit(p, name, "", TARGET_LAUNCHED);
}

/* An instance of a template with all that guides or limits the choice. */
static void add_instance(ClusterView *p, size_t i) {
        char template[32], name[32], key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};
        Unit unit;

        snprintf(template, sizeof(template), "app%04zu@.service", i / SET);
        if (i % SET == 0)
                cluster_view_unit(p, template,
                                  "Replicas=100\nSpread=zone machine\nMemoryRequest=100M\nCPURequest=2%",
                                  TARGET_LAUNCHED);
        snprintf(name, sizeof(name), "app%04zu@%zu.service", i / SET, i % SET + 1);
        unit = *cluster_any_unit(&p->cluster, template)->unit; /* it borrows */
        unit.name = name;
        unit.from = template;
        stored_unit_write(&t, &unit);
        cluster_view_put(p, layout_key(key, LAYOUT_UNIT, name, NULL), t.chars);
        cluster_view_target(p, name, TARGET_LAUNCHED);
}

int main(int argc, char **argv) {
        ClusterView p = {};
        size_t placed = 0, work = 0;
        uint64_t machines, units;
        EnginePlan plan = {}, next;
        int r;

        if (argc < 3 || parse_u64(argv[1], &machines) < 0 || parse_u64(argv[2], &units) < 0)
                return 2;
        for (size_t i = 0; i < machines; i++)
                add_machine(&p, i);
        for (size_t i = 0; i < units; i++)
                (argc > 3 ? add_instance : add_unit)(&p, i);
        do {
                r = engine_plan(&p.cluster, plan.more ? (const char *const *) plan.rest.items : NULL,
                                plan.rest.n, 30000, &cluster_view_limits, &next);
                engine_plan_done(&plan);
                if (r < 0)
                        return 1;
                plan = next;
                cluster_view_apply(&p, &plan);
                placed += plan.n;
                work += plan.work;
        } while (plan.more);
        engine_plan_done(&plan);
        cluster_view_free(&p);
        printf("%zu %zu\n", placed, work - placed);
        return 0;
}
