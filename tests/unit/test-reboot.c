/* The queue of planned reboots: each row of its table, and its order. */
#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/features/reboot/reboot.h"
#include "fleetd/registry/shutdown.h"
#include "tests/lib/reboots.h"
#include "tests/lib/words_of.h"

/* -- The view -- */

static const ClusterMachine *machine_of(ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];

        return cluster_machine(&p->cluster, cluster_view_id(id, machine));
}

/* Write the record of a machine; 'more': further members, each followed by a comma. Its boot is that of the
 * facts unless 'more' has another one. */
static void reboots(ClusterView *p, const char *machine, const char *state, const char *more) {
        char value[256], id[MACHINE_ID_SIZE], boot[64] = "";

        if (!strstr(more, "\"boot\"") && !streq(state, "queued"))
                snprintf(boot, sizeof(boot), "\"boot\":\"%s\",", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{%s%s\"kind\":\"reboot\",\"since\":1,\"state\":\"%s\"}", boot, more,
                 state);
        cluster_view_put(p, machine_key(machine, "reboot"), value);
}

#define STEADY     "\"steady\":970000,"
#define OTHER_BOOT "\"boot\":\"00000000000000000000000000000000\","

/* Voters with the Raft IDs 1, 2, ...; the first machine leads. */
static KvState voters(ClusterView *p, const char *machines) {
        KvState state = { .leader_id = 1, .raft_index = 5000 };

        for (const char *c = machines; *c; c++) {
                KvMember *m = &state.members[state.n_members++];
                char key[128], value[64], id[MACHINE_ID_SIZE];

                *m = (KvMember) {
                        .raft_id = state.n_members, .role = KV_MEMBER_VOTER, .match = 5000, .reachable = true
                };
                snprintf(key, sizeof(key), "/_fleet/cluster/member/%s",
                         cluster_view_id(id, (char[]) { *c, 0 }));
                snprintf(value, sizeof(value), "{\"peer\":\"%c\",\"raftId\":%zu}", *c, state.n_members);
                cluster_view_put(p, key, value);
        }
        return state;
}

/* -- The table -- */

static void each_state_of_a_reboot_has_its_next_one(void **state) {
        enum { NONE = -1, DONE = -2 };
        static const struct {
                const char *state, *more;
                Presence presence;
                const char *maintenance; /* mode; NULL: none, or of another purpose */
                const char *global;      /* state of a global unit; NULL: there is none */
                int next;
                RebootMaintenance becomes;
                const char *why;
        } rows[] = {
                { "queued", "", PRESENCE_UP, NULL, NULL, REBOOT_DRAINING, REBOOT_DRAINS, "" },
                { "queued", "", PRESENCE_AWAY, NULL, NULL, NONE, REBOOT_KEEPS, "" },
                { "queued", "", PRESENCE_LOST, NULL, NULL, NONE, REBOOT_KEEPS, "" },
                { "draining", "", PRESENCE_UP, "draining", NULL, NONE, REBOOT_KEEPS, "" },
                { "draining", "", PRESENCE_AWAY, "draining", NULL, NONE, REBOOT_KEEPS, "" },
                { "draining", "", PRESENCE_UP, "drained", NULL, REBOOT_REBOOTING, REBOOT_KEEPS, "" },
                { "draining", "", PRESENCE_UP, NULL, NULL, DONE, REBOOT_KEEPS, "" },
                { "draining", "", PRESENCE_LOST, "draining", NULL, REBOOT_FAILED, REBOOT_CORDONS,
                  "it was lost while it was drained" },
                { "draining", "", PRESENCE_LEFT, "draining", NULL, REBOOT_FAILED, REBOOT_CORDONS,
                  "it was shut down while it was drained" },
                { "rebooting", "\"until\":1000001,", PRESENCE_UP, "drained", NULL, NONE, REBOOT_KEEPS, "" },
                { "rebooting", "\"until\":1000000,", PRESENCE_UP, "drained", NULL, REBOOT_FAILED,
                  REBOOT_KEEPS, "it is not back in time" },
                { "rebooting", "\"until\":1000001,", PRESENCE_LEFT, "drained", NULL, REBOOT_DOWN,
                  REBOOT_KEEPS, "" },
                { "rebooting", "\"until\":1000001,", PRESENCE_LOST, "drained", NULL, REBOOT_DOWN,
                  REBOOT_KEEPS, "" },
                { "rebooting", OTHER_BOOT "\"until\":1000001,", PRESENCE_UP, "drained", NULL, REBOOT_BACK,
                  REBOOT_KEEPS, "" },
                { "rejected", "\"why\":\"Access denied\",", PRESENCE_UP, "drained", NULL, REBOOT_FAILED,
                  REBOOT_RELEASES, "Access denied" },
                { "down", "\"until\":1000001,", PRESENCE_LOST, "drained", NULL, NONE, REBOOT_KEEPS, "" },
                { "down", "\"until\":1000001,", PRESENCE_UP, "drained", NULL, NONE, REBOOT_KEEPS, "" },
                { "down", "\"until\":1000000,", PRESENCE_LOST, "drained", NULL, REBOOT_FAILED, REBOOT_KEEPS,
                  "it is not back in time" },
                { "down", OTHER_BOOT "\"until\":1000001,", PRESENCE_UP, "drained", NULL, REBOOT_BACK,
                  REBOOT_KEEPS, "" },
                { "down", OTHER_BOOT "\"until\":1000001,", PRESENCE_AWAY, "drained", NULL, NONE, REBOOT_KEEPS,
                  "" },
                { "back", OTHER_BOOT "\"until\":1000001,", PRESENCE_UP, "drained", NULL, REBOOT_BACK,
                  REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT STEADY "\"until\":1000001,", PRESENCE_UP, "drained", NULL, DONE,
                  REBOOT_RELEASES, "" },
                { "back", OTHER_BOOT "\"until\":1000001,", PRESENCE_UP, "drained", "active", REBOOT_BACK,
                  REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT STEADY "\"until\":1000001,", PRESENCE_UP, "drained", "active", DONE,
                  REBOOT_RELEASES, "" },
                { "back", OTHER_BOOT "\"steady\":970001,\"until\":1000001,", PRESENCE_UP, "drained", "active",
                  NONE, REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT "\"until\":1000001,", PRESENCE_UP, "drained", "activating", NONE,
                  REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT STEADY "\"until\":1000001,", PRESENCE_UP, "drained", "activating",
                  REBOOT_BACK, REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT STEADY "\"until\":1000001,", PRESENCE_AWAY, "drained", NULL, REBOOT_BACK,
                  REBOOT_KEEPS, "" },
                { "back", OTHER_BOOT "\"until\":1000000,", PRESENCE_UP, "drained", "failed", REBOOT_FAILED,
                  REBOOT_KEEPS, "it is up, but g.service is not available again" },
                { "back", OTHER_BOOT "\"until\":1000000,", PRESENCE_AWAY, "drained", NULL, REBOOT_FAILED,
                  REBOOT_KEEPS, "its units are not available again in time" },
                { "back", OTHER_BOOT "\"until\":1000001,", PRESENCE_LOST, "drained", NULL, NONE, REBOOT_KEEPS,
                  "" },
                { "failed", "", PRESENCE_UP, "drained", NULL, NONE, REBOOT_KEEPS, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;
                RebootStep step;
                KvState kv;

                two_machines(&p);
                kv = voters(&p, "BA");
                if (rows[i].global) {
                        cluster_view_unit(&p, "g.service", "Global=yes", TARGET_LAUNCHED);
                        p.cluster.now_ms = 1;
                        cluster_view_assign(&p, "A", "g.service", ASSIGNMENT_RUN);
                        p.cluster.now_ms = 1000000;
                        cluster_view_state(&p, "A", "g.service", rows[i].global);
                }
                if (rows[i].presence != PRESENCE_UP)
                        cluster_view_presence(&p, "A", rows[i].presence);
                if (rows[i].maintenance)
                        maintain(&p, "A", rows[i].maintenance, "\"for\":\"reboot\",");
                reboots(&p, "A", rows[i].state, rows[i].more);
                step = reboot_step(&p.cluster, &kv, false);
                if (!step.machine != (rows[i].next == NONE) || step.ends != (rows[i].next == DONE))
                        fail_msg("row %zu: %s", i, words_of(&step.row));
                if (rows[i].next >= 0) {
                        assert_int_equal(step.next.state, rows[i].next);
                        assert_int_equal(
                                step.next.since_ms,
                                streq(rows[i].state, "back") && rows[i].next == REBOOT_BACK ? 1 : 1000000);
                        assert_string_equal(words_of(&step.next.why), rows[i].why);
                }
                if (step.machine) {
                        assert_int_equal(step.maintenance, rows[i].becomes);
                        assert_true(*words_of(&step.row));
                }
        }
}

/* Execute the steps that are due, and check the state of the host. */
static void comes_to(ClusterView *p, const KvState *kv, const char *expected) {
        while (*execute(p, kv))
                ;
        assert_string_equal(
                machine_of(p, "A")->reboot ? reboot_state_to_string(machine_of(p, "A")->reboot->state) : "",
                expected);
}

/* The units that were available before; not those that were broken, or are new. */
static void a_host_is_back_when_its_units_have_been_available_again(void **state) {
        static const char *const units[] = { "bad.service", "good.service", "new.service" };
        _cleanup_cluster_view_ ClusterView p;
        Error why = {};
        KvState kv;

        two_machines(&p);
        kv = voters(&p, "BA");
        for (size_t i = 0; i < ELEMENTS(units); i++)
                cluster_view_unit(&p, units[i], "Global=yes", TARGET_LAUNCHED);
        run_on(&p, "A", "good.service");
        cluster_view_assign(&p, "A", "bad.service", ASSIGNMENT_RUN);
        cluster_view_active(&p, "A", "bad.service", "failing");
        maintain(&p, "A", "drained", "\"for\":\"reboot\",");
        reboots(&p, "A", "draining", "");
        comes_to(&p, &kv, "rebooting");
        assert_string_equal(machine_of(&p, "A")->reboot->except, "bad.service ");
        p.cluster.now_ms += 60000;
        cluster_view_assign(&p, "A", "new.service", ASSIGNMENT_RUN);
        cluster_view_active(&p, "A", "good.service", "starting");
        boots(&p, "A", 7);
        comes_to(&p, &kv, "back");
        p.cluster.now_ms += REBOOT_STEADY_MS;
        comes_to(&p, &kv, "back");
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        assert_string_equal(why.message, "good.service is not available again");
        cluster_view_state(&p, "A", "good.service", "active");
        comes_to(&p, &kv, "back");
        p.cluster.now_ms += REBOOT_STEADY_MS - 1;
        cluster_view_active(&p, "A", "good.service", "passing"); /* it was started again */
        comes_to(&p, &kv, "back");
        cluster_view_state(&p, "A", "good.service", "active");
        p.cluster.now_ms++;
        comes_to(&p, &kv, "back");
        p.cluster.now_ms += REBOOT_STEADY_MS - 1;
        comes_to(&p, &kv, "back");
        p.cluster.now_ms++;
        comes_to(&p, &kv, "");
}

static void the_drain_of_a_reboot_ends_as_any_other(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        maintain(&p, "A", "draining", "\"for\":\"reboot\",");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        plans(&p, "run a.service B");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
}

/* At the deadline, units that fit another machine leave. The others stop and start with the host. */
static void what_fits_no_other_machine_starts_with_the_boot(void **state) {
        static const char *const options[] = { "MachineID=aaaaaaaa", "Move=no",
                                               "Singleton=yes\nMachineID=aaaaaaaa", "MachineOf=u1.service" };
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        two_machines(&p);
        kv = voters(&p, "BA");
        maintain(&p, "B", "cordoned", "");
        for (size_t i = 0; i < ELEMENTS(options); i++)
                cluster_view_unit(
                        &p, (char[]) { 'u', (char) ('0' + i), '.', 's', 'e', 'r', 'v', 'i', 'c', 'e', 0 },
                        options[i], TARGET_LAUNCHED);
        cluster_view_unit(&p, "w.service", "", TARGET_LAUNCHED);
        plans(&p, "run u0.service A; run u1.service A; run u2.service A; run u3.service A; run w.service A");
        cluster_view_execute(&p);
        p.cluster.now_ms += 1000;
        maintain(&p, "A", "draining", "\"for\":\"reboot\",\"deadline\":1006000,");
        reboots(&p, "A", "draining", "\"deadline\":5000,");
        plans(&p, "");
        maintain(&p, "B", NULL, "");
        plans(&p, "run w.service B");
        p.cluster.now_ms += 5000;
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        plans(&p, "stop w.service A");
        cluster_view_execute(&p);
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        assert_string_equal(step_of(&p, "A").reason, "drained: its deadline has passed");
        maintain(&p, "A", "drained", "\"for\":\"reboot\",\"deadline\":1006000,");
        comes_to(&p, &kv, "rebooting");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        plans(&p, "");
        comes_to(&p, &kv, "down");
        boots(&p, "A", 7);
        plans(&p, "");
        comes_to(&p, &kv, "back");
        plans(&p, "");
        p.cluster.now_ms += REBOOT_STEADY_MS;
        comes_to(&p, &kv, "");
        plans(&p, "");
}

static void a_reboot_keeps_the_cordon_of_an_operator(void **state) {
        const MaintenanceRecord cordon = { .by = "ann", .mode = MAINTENANCE_CORDONED, .why = "disk" },
                                drain = { .mode = MAINTENANCE_DRAINING, .deadline_ms = 5, .force = true },
                                shutdown = { .mode = MAINTENANCE_DRAINING, .purpose = CLUSTER_FOR_SHUTDOWN };
        MaintenanceRecord next, back;

        assert_true(reboot_begin(&cordon, 77, &next));
        assert_int_equal(next.deadline_ms, 77);
        assert_int_equal(reboot_end(&next, &back), 1);
        assert_memory_equal(&back, &cordon, sizeof(back));
        assert_true(reboot_begin(&drain, 0, &next));
        assert_int_equal(next.deadline_ms, 0);
        assert_int_equal(reboot_end(&next, &back), 1);
        assert_int_equal(back.mode, MAINTENANCE_CORDONED);
        assert_false(back.force);
        assert_false(reboot_begin(&shutdown, 0, &next));
        assert_int_equal(reboot_end(&shutdown, &next), -ENOENT);
        assert_true(reboot_begin(NULL, 0, &next));
        assert_int_equal(reboot_end(&next, &back), 0);
}

/* -- The order -- */

/* Return the order in which all queued hosts of a healthy cluster reboot: "B C A "; '+': a host begins while
 * the one before has not returned. */
static void order_of(ClusterView *p, const KvState *kv, Text *ret) {
        unsigned n_boots = 0;

        text_clear(ret);
        for (unsigned rounds = 0; rounds < 200; rounds++) {
                for (const char *name; *(name = execute(p, kv));) {
                        const ClusterMachine *m = machine_of(p, name);
                        bool alone = true;

                        for (ClusterMachine *o = p->cluster.machines; o; o = o->hh.next)
                                alone &= o == m || !o->reboot || o->reboot->state == REBOOT_QUEUED;
                        if (m->reboot && m->reboot->state == REBOOT_DRAINING)
                                text_printf(ret, "%s%s ", alone ? "" : "+", name);
                }
                for (ClusterMachine *m = p->cluster.machines; m; m = m->hh.next) {
                        char name[32];

                        snprintf(name, sizeof(name), "%s", cluster_machine_name(m));
                        if (!m->reboot)
                                continue;
                        if (m->reboot->state == REBOOT_DRAINING)
                                maintain(p, name, "drained", "\"for\":\"reboot\",");
                        else if (m->reboot->state == REBOOT_REBOOTING)
                                cluster_view_presence(p, name, PRESENCE_LEFT);
                        else if (m->reboot->state == REBOOT_DOWN)
                                boots(p, name, ++n_boots);
                }
                p->cluster.now_ms += REBOOT_STEADY_MS;
        }
}

static void hosts_reboot_one_by_one_with_the_leader_last(void **state) {
        _cleanup_text_ Text order = {};
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        six_machines(&p);
        kv = voters(&p, "ABC");
        reboots(&p, "A", "queued", "\"seq\":1,");
        reboots(&p, "E", "queued", "\"seq\":2,");
        reboots(&p, "B", "queued", "\"seq\":4,");
        reboots(&p, "C", "queued", "\"seq\":3,");
        order_of(&p, &kv, &order);
        assert_string_equal(order.chars, "E C B A ");
}

static void several_slots_reboot_one_voter_at_a_time(void **state) {
        _cleanup_text_ Text order = {};
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        six_machines(&p);
        kv = voters(&p, "ABC");
        for (const char *c = "FBEC"; *c; c++)
                reboots(&p, (char[]) { *c, 0 }, "queued", "\"seq\":1,\"slots\":2,");
        order_of(&p, &kv, &order);
        assert_string_equal(order.chars, "B C +E F ");
}

static void no_two_zones_reboot_at_a_time(void **state) {
        static const char *const zones[] = { "zone=b", "zone=a", "", "zone=b", "zone=a" };
        _cleanup_text_ Text order = {};
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        KvState kv = {};

        for (size_t i = 0; i < ELEMENTS(zones); i++) {
                const char name[] = { (char) ('A' + i), 0 };

                cluster_view_machine(&p, name, zones[i], PRESENCE_UP);
                reboots(&p, name, "queued", "\"slots\":1000,\"zone\":\"zone\",");
        }
        order_of(&p, &kv, &order);
        assert_string_equal(order.chars, "B +E A +D C ");
}

/* Each request has its own key; the zones alone would put C before A, A before B and B before C. */
static void requests_reboot_in_their_order(void **state) {
        static const char *const hosts[] = { "A x=2,y=1", "B y=2,z=1", "C z=2,x=1" };
        static const char *const more[] = { "\"seq\":3000,\"zone\":\"x\",", "\"seq\":2000,\"zone\":\"y\",",
                                            "\"seq\":1000,\"zone\":\"z\"," };
        ClusterView p = { .cluster.now_ms = 1000000 };
        const KvState kv = {};

        for (size_t i = 0; i < ELEMENTS(hosts); i++) {
                const char name[] = { *hosts[i], 0 };

                cluster_view_machine(&p, name, hosts[i] + 2, PRESENCE_UP);
                reboots(&p, name, "queued", more[i]);
        }
        for (const char *a = "CBA"; *a; a++)
                for (const char *b = "CBA"; *b; b++)
                        assert_int_equal(reboot_is_before(&kv, machine_of(&p, (char[]) { *a, 0 }),
                                                          machine_of(&p, (char[]) { *b, 0 })),
                                         *a > *b);
        cluster_view_free(&p);
}

static void hosts_without_the_key_reboot_one_by_one(void **state) {
        _cleanup_text_ Text order = {};
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        six_machines(&p);
        kv = voters(&p, "A");
        for (const char *c = "BCDEF"; *c; c++)
                reboots(&p, (char[]) { *c, 0 }, "queued", "\"seq\":1,\"slots\":1000,\"zone\":\"zoen\",");
        order_of(&p, &kv, &order);
        assert_string_equal(order.chars, "B C D E F ");
}

static void a_voter_waits_for_all_others(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;
        Error why = {};

        six_machines(&p);
        kv = voters(&p, "ABC");
        reboots(&p, "B", "queued", "");
        kv.members[2].reachable = false;
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "B"), &why));
        assert_string_equal(why.message, "C is a voter, and does not respond");
        assert_null(reboot_step(&p.cluster, &kv, false).machine);
        kv.members[2].reachable = true;
        kv.members[2].match = 3999;
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "B"), &why));
        assert_string_equal(why.message, "C is a voter, and is not caught up");
        kv.members[2].match = 4000;
        assert_true(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "B"), &why));
        cluster_view_presence(&p, "C", PRESENCE_AWAY);
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "B"), &why));
        /* A host that does not vote does not wait. */
        reboots(&p, "E", "queued", "\"seq\":9,");
        assert_true(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "E"), &why));
}

/* A drain may last for hours: the votes count when it has ended, too. */
static void a_drained_voter_waits_for_the_others_again(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        RebootStep step;
        KvState kv;

        six_machines(&p);
        kv = voters(&p, "ABC");
        maintain(&p, "B", "drained", "\"for\":\"reboot\",");
        reboots(&p, "B", "draining", "");
        kv.members[2].reachable = false;
        step = reboot_step(&p.cluster, &kv, false);
        assert_null(step.machine);
        kv.members[2].reachable = true;
        reboots(&p, "C", "rebooting", "\"until\":2000000,");
        assert_null(reboot_step(&p.cluster, &kv, false).machine);
        /* Both became voters while they were drained: one of them begins. */
        reboots(&p, "C", "draining", "");
        maintain(&p, "C", "drained", "\"for\":\"reboot\",");
        step = reboot_step(&p.cluster, &kv, false);
        assert_non_null(step.machine);
        assert_int_equal(step.next.state, REBOOT_REBOOTING);
}

/* -- The budget of global units -- */

static const char global[] = "agent.service";

/* A global unit that is available on A to F; A and B are drained for their reboots. */
static void begin_global_reboots(ClusterView *p, const char *options) {
        char text[128];

        six_machines(p);
        snprintf(text, sizeof(text), "Global=yes\n%s", options);
        cluster_view_unit(p, global, text, TARGET_LAUNCHED);
        for (char c = 'A'; c <= 'F'; c++)
                run_on(p, (char[]) { c, 0 }, global);
        for (char c = 'A'; c <= 'B'; c++) {
                maintain(p, (char[]) { c, 0 }, "drained", "\"for\":\"reboot\",");
                reboots(p, (char[]) { c, 0 }, "draining", "\"slots\":2,");
        }
}

static void a_reboot_asks_the_budget_of_global_units(void **state) {
        static const struct {
                const char *options, *deadline; /* of the drain */
                bool second;
        } rows[] = {
                { "", "", false },
                { "MaxUnavailable=2\n", "", true },
                { "MaxUnavailable=2\nMinAvailable=5\n", "", false },
                { "", "\"deadline\":1000001,", false },
                { "", "\"deadline\":1000000,", true }, /* it has passed */
        };
        const KvState kv = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Error why = {};
                _cleanup_cluster_view_ ClusterView p;
                char more[64];

                begin_global_reboots(&p, rows[i].options);
                assert_string_equal(execute(&p, &kv), "A");
                snprintf(more, sizeof(more), "%s\"for\":\"reboot\",", rows[i].deadline);
                maintain(&p, "B", "drained", more);
                reboots(&p, "B", "draining",
                        "\"deadline\":5000,"); /* since 1: that of a request that came late */
                if (!rows[i].second) {
                        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "B"), &why));
                        assert_non_null(
                                strstr(why.message, " of 6 instances of agent.service are unavailable"));
                }
                assert_string_equal(execute(&p, &kv), rows[i].second ? "B" : "");
        }
}

/* It stops with the host, and returns with it: the queue does not wait until it has left. A set of one is
 * permitted in any case: no other machine could have it available. */
static void a_reboot_asks_the_budget_of_units_with_data_and_waits_for_no_other(void **state) {
        static const struct {
                unsigned n;
                const char *options, *deadline;
                bool goes;
        } rows[] = {
                { 1, "", "", true },
                { 1, "MinAvailable=1", "", true },
                { 2, "", "", true },
                { 2, "MinAvailable=2", "", false },
                { 2, "MinAvailable=2", "\"deadline\":1000000,", true }, /* it has passed */
        };
        const KvState kv = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;
                char options[64], value[256], more[64];

                two_machines(&p);
                snprintf(options, sizeof(options), "Sticky=yes\n%s", rows[i].options);
                cluster_view_text(&p, "w@.service", options, "/a");
                snprintf(value, sizeof(value),
                         "{\"from\":\"w@.service\",\"text\":\"[Service]\\nExecStart=/"
                         "a\\n[X-Fleet]\\nSticky=yes"
                         "\\n%s\\n\"}",
                         rows[i].options);
                for (unsigned k = 1; k <= rows[i].n; k++) {
                        char name[32], key[64];

                        snprintf(name, sizeof(name), "w@%u.service", k);
                        snprintf(key, sizeof(key), "/_fleet/unit/%s", name);
                        cluster_view_put(&p, key, value);
                        cluster_view_target(&p, name, TARGET_LAUNCHED);
                        run_on(&p, k == 1 ? "A" : "B", name);
                }
                snprintf(more, sizeof(more), "%s\"for\":\"reboot\",", rows[i].deadline);
                maintain(&p, "A", "draining", more);
                reboots(&p, "A", "draining", "");
                plans(&p, "");
                assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
                maintain(&p, "A", "drained", more);
                assert_string_equal(execute(&p, &kv), rows[i].goes ? "A" : "");
                plans(&p, "");
                cluster_view_presence(&p, "A", PRESENCE_LEFT);
                plans(&p, "");
        }
}

/* C is down for another reason, and for long: it is none of the set. */
static void a_host_that_is_down_does_not_use_the_budget_of_global_units(void **state) {
        const KvState kv = {};
        _cleanup_cluster_view_ ClusterView p;

        begin_global_reboots(&p, "");
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        assert_string_equal(execute(&p, &kv), "A");
}

static void no_host_reboots_while_the_brake_is_on(void **state) {
        const KvState kv = {};
        _cleanup_cluster_view_ ClusterView p;

        begin_global_reboots(&p, "");
        reboots(&p, "C", "queued", "\"slots\":9,");
        assert_null(reboot_step(&p.cluster, &kv, true).machine);
        assert_non_null(reboot_step(&p.cluster, &kv, false).machine);
}

static void an_unreadable_reboot_holds_its_slot(void **state) {
        const KvState kv = {};
        Error why = {};
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unreadable(&p, LAYOUT_REBOOT, NULL, "B");
        reboots(&p, "A", "queued", "");
        assert_null(reboot_step(&p.cluster, &kv, false).machine);
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        assert_string_equal(why.message,
                            "the reboot of B: its key cannot be read by this fleetd: upgrade the host");
}

static void a_restored_queue_reboots_nothing(void **state) {
        static const KvState kv = { .lineage = 0x12 };
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        reboots(&p, "A", "queued", "\"lineage\":\"0000000000000011\",");
        maintain(&p, "B", "drained", "\"for\":\"reboot\",");
        reboots(&p, "B", "draining", "\"lineage\":\"0000000000000011\",");
        reboots(&p, "C", "queued", "\"lineage\":\"0000000000000012\",");
        (void) execute(&p, &kv);
        (void) execute(&p, &kv);
        assert_null(machine_of(&p, "A")->reboot);
        assert_null(machine_of(&p, "B")->reboot);
        assert_null(machine_of(&p, "B")->maintenance);
        assert_string_equal(execute(&p, &kv), "C");
}

/* -- Failures -- */

static void the_queue_stops_at_a_missing_host(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        six_machines(&p);
        kv = voters(&p, "ABC");
        reboots(&p, "D", "queued", "\"seq\":1,");
        reboots(&p, "E", "queued", "\"seq\":2,");
        assert_string_equal(execute(&p, &kv), "D");
        maintain(&p, "D", "drained", "\"for\":\"reboot\",");
        assert_string_equal(execute(&p, &kv), "D");
        cluster_view_presence(&p, "D", PRESENCE_LEFT);
        assert_string_equal(execute(&p, &kv), "D");
        assert_string_equal(execute(&p, &kv), "");
        p.cluster.now_ms += REBOOT_RETURN_MS - 1;
        assert_string_equal(execute(&p, &kv), "");
        p.cluster.now_ms++;
        assert_string_equal(execute(&p, &kv), "D");
        assert_int_equal(machine_of(&p, "D")->reboot->state, REBOOT_FAILED);
        p.cluster.now_ms += 1000 * REBOOT_RETURN_MS;
        assert_string_equal(execute(&p, &kv), "");
        assert_int_equal(machine_of(&p, "E")->reboot->state, REBOOT_QUEUED);
        assert_int_equal(machine_of(&p, "D")->maintenance->mode, MAINTENANCE_DRAINED);
        /* It stays stopped when the host returns late; the user resumes it. */
        boots(&p, "D", 7);
        assert_string_equal(execute(&p, &kv), "");
        cluster_view_remove(&p, machine_key("D", "reboot"));
        assert_string_equal(execute(&p, &kv), "E");
}

/* Neither a return in the same boot, nor another start of its daemon, is a reboot; a soft reboot is one. */
static void a_boot_is_another_one_by_its_identity(void **state) {
        static const struct {
                const char *facts;
                bool booted;
        } rows[] = { { "{\"boot\":\"b\",\"softReboots\":2}", false },
                     { "{\"boot\":\"b\"}", false }, /* not known yet */
                     { "{\"boot\":\"b\",\"softReboots\":3}", true },
                     { "{\"boot\":\"c\"}", true },
                     { "{}", false } };
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        two_machines(&p);
        kv = voters(&p, "BA");
        reboots(&p, "A", "rebooting", "\"boot\":\"b\",\"soft\":2,\"until\":2000000,");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                cluster_view_put(&p, machine_key("A", "facts"), rows[i].facts);
                assert_int_equal(reboot_has_booted(machine_of(&p, "A")), rows[i].booted);
                assert_int_equal(reboot_step(&p.cluster, &kv, false).machine != NULL, rows[i].booted);
        }
}

static void a_host_is_back_when_its_boot_is_complete(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        RebootStep step;
        KvState kv;

        two_machines(&p);
        kv = voters(&p, "BA");
        reboots(&p, "A", "rebooting", "\"boot\":\"b\",\"until\":2000000,");
        cluster_view_put(&p, machine_key("A", "facts"), "{\"boot\":\"c\",\"booting\":true}");
        step = reboot_step(&p.cluster, &kv, false);
        assert_null(step.machine);
        cluster_view_put(&p, machine_key("A", "facts"), "{\"boot\":\"c\"}");
        step = reboot_step(&p.cluster, &kv, false);
        assert_int_equal(step.next.state, REBOOT_BACK);

        cluster_view_put(&p, machine_key("A", "facts"), "{\"boot\":\"c\",\"booting\":true}");
        p.cluster.now_ms = 2000000;
        step = reboot_step(&p.cluster, &kv, false);
        assert_int_equal(step.next.state, REBOOT_FAILED);
        assert_string_equal(words_of(&step.next.why),
                            "it is up, but boot-complete.target is not reached in time");
}

static void no_host_begins_in_a_new_lineage_or_with_other_maintenance(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;
        Error why = {};

        two_machines(&p);
        kv = voters(&p, "BA");
        reboots(&p, "A", "queued", "");
        p.cluster.adopting = true;
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        p.cluster.adopting = false;
        maintain(&p, "A", "draining", "\"for\":\"leave\",");
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        assert_string_equal(why.message, "it is in maintenance for another reason: leave");
        maintain(&p, "A", "cordoned", "");
        assert_true(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        cluster_view_unreadable(&p, LAYOUT_FACTS, NULL, "A");
        assert_false(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why));
        assert_string_equal(why.message, CLUSTER_UNREADABLE);
        /* A key of a later version: no step. */
        cluster_view_unreadable(&p, LAYOUT_REBOOT, NULL, "A");
        assert_null(reboot_step(&p.cluster, &kv, false).machine);
}

/* A condition of the global unit is met on A only: the others do not lack it. */
static void machines_on_which_a_condition_is_not_met_use_no_budget(void **state) {
        const KvState kv = {};
        Error why = {};
        _cleanup_cluster_view_ ClusterView p;

        begin_global_reboots(&p, "");
        for (char c = 'B'; c <= 'F'; c++) {
                const char *hash = cluster_unit(&p.cluster, global)->unit->hash;
                char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[256];

                cluster_view_id(id, (char[]) { c, 0 });
                snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":1,\"since\":1}",
                         hash);
                layout_key(key, LAYOUT_ASSIGNMENT, global, id);
                cluster_view_put(&p, key, value);
                snprintf(value, sizeof(value),
                         "{\"active\":\"inactive\",\"hash\":\"%s\",\"job\":\"condition\","
                         "\"load\":\"loaded\",\"sub\":\"dead\"}",
                         cluster_unit(&p.cluster, global)->unit->hash);
                layout_key(key, LAYOUT_STATE, global, id);
                cluster_view_put(&p, key, value);
        }
        (void) execute(&p, &kv);
        assert_int_equal(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), &why), 1);
}

/* A unit whose condition is not met after the reboot does not run, as systemd would have it. */
static void a_unit_whose_condition_is_not_met_does_not_hold_the_queue(void **state) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[256], hash[UNIT_HASH_SIZE];
        _cleanup_cluster_view_ ClusterView p;
        KvState kv;

        two_machines(&p);
        kv = voters(&p, "BA");
        cluster_view_unit(&p, global, "Global=yes", TARGET_LAUNCHED);
        snprintf(hash, sizeof(hash), "%s", cluster_unit(&p.cluster, global)->unit->hash);
        cluster_view_id(id, "A");
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":1,\"since\":1}", hash);
        cluster_view_put(&p, layout_key(key, LAYOUT_ASSIGNMENT, global, id), value);
        maintain(&p, "A", "drained", "\"for\":\"reboot\",");
        reboots(&p, "A", "back", OTHER_BOOT "\"until\":1000001,");
        snprintf(value, sizeof(value),
                 "{\"active\":\"inactive\",\"hash\":\"%s\",\"job\":\"condition\",\"load\":\"loaded\","
                 "\"sub\":\"dead\"}",
                 hash);
        cluster_view_put(&p, layout_key(key, LAYOUT_STATE, global, id), value);
        assert_true(reboot_may_go_on(&p.cluster, &kv, false, machine_of(&p, "A"), NULL));
        comes_to(&p, &kv, "back");
        p.cluster.now_ms += REBOOT_STEADY_MS;
        comes_to(&p, &kv, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_reboot_asks_the_budget_of_global_units),
                cmocka_unit_test(a_unit_whose_condition_is_not_met_does_not_hold_the_queue),
                cmocka_unit_test(machines_on_which_a_condition_is_not_met_use_no_budget),
                cmocka_unit_test(a_reboot_asks_the_budget_of_units_with_data_and_waits_for_no_other),
                cmocka_unit_test(a_host_that_is_down_does_not_use_the_budget_of_global_units),
                cmocka_unit_test(no_host_reboots_while_the_brake_is_on),
                cmocka_unit_test(an_unreadable_reboot_holds_its_slot),
                cmocka_unit_test(a_restored_queue_reboots_nothing),
                cmocka_unit_test(each_state_of_a_reboot_has_its_next_one),
                cmocka_unit_test(a_host_is_back_when_its_units_have_been_available_again),
                cmocka_unit_test(the_drain_of_a_reboot_ends_as_any_other),
                cmocka_unit_test(what_fits_no_other_machine_starts_with_the_boot),
                cmocka_unit_test(a_reboot_keeps_the_cordon_of_an_operator),
                cmocka_unit_test(hosts_reboot_one_by_one_with_the_leader_last),
                cmocka_unit_test(several_slots_reboot_one_voter_at_a_time),
                cmocka_unit_test(no_two_zones_reboot_at_a_time),
                cmocka_unit_test(requests_reboot_in_their_order),
                cmocka_unit_test(hosts_without_the_key_reboot_one_by_one),
                cmocka_unit_test(a_voter_waits_for_all_others),
                cmocka_unit_test(a_drained_voter_waits_for_the_others_again),
                cmocka_unit_test(the_queue_stops_at_a_missing_host),
                cmocka_unit_test(a_boot_is_another_one_by_its_identity),
                cmocka_unit_test(a_host_is_back_when_its_boot_is_complete),
                cmocka_unit_test(no_host_begins_in_a_new_lineage_or_with_other_maintenance),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
