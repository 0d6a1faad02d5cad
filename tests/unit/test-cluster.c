#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/registry/newer_options.h"
#include "fleetd/registry/revision_view.h"
#include "fleetd/registry/presence.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/message.h"

#define A       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

#define DIGEST  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TOKEN   "0123456789ab"
#define LINEAGE "0123456789abcdef"

static size_t listed(const ClusterView *p, ClusterList list) {
        size_t n = 0;

        for (const ClusterUnit *u = LIST_FIRST(&p->cluster.lists[list]); u; u = LIST_NEXT(u, lists[list]))
                n++;
        return n;
}

static void a_view_has_the_objects_of_its_keys(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE];
        ClusterUnit *u;
        ClusterMachine *m;

        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "a.service", "active");

        u = cluster_unit(&p.cluster, "a.service");
        m = cluster_machine(&p.cluster, cluster_view_id(id, "A"));
        assert_non_null(u);
        assert_int_equal(u->target, TARGET_LAUNCHED);
        assert_string_equal(cluster_machine_name(m), "A");
        assert_string_equal(pairs_get(&m->facts->metadata, "zone"), "a");
        assert_int_equal(m->load, 1);
        assert_ptr_equal(LIST_FIRST(&u->assignments), cluster_assignment(&p.cluster, id, "a.service"));
        assert_ptr_equal(LIST_FIRST(&u->states), cluster_state(&p.cluster, id, "a.service"));
        assert_string_equal(LIST_FIRST(&u->states)->state.active, "active");
        assert_int_equal(p.cluster.index, p.index);
}

static void metadata_set_by_people_overrides_that_of_the_machine(void **state) {
        ClusterView p = {};
        char id[MACHINE_ID_SIZE], gpu[128], zone[128];
        ClusterMachine *m;

        snprintf(gpu, sizeof(gpu), "/_fleet/machine/%s/metadata/gpu", cluster_view_id(id, "A"));
        snprintf(zone, sizeof(zone), "/_fleet/machine/%s/metadata/zone", id);
        cluster_view_put(&p, gpu, "yes");
        m = cluster_machine(&p.cluster, id);
        assert_non_null(m);
        assert_string_equal(pairs_get(&m->metadata, "gpu"), "yes");

        cluster_view_machine(&p, "A", "zone=a,gpu=no", PRESENCE_UP);
        assert_string_equal(pairs_get(&m->metadata, "zone"), "a");
        assert_string_equal(pairs_get(&m->metadata, "gpu"), "yes");
        assert_string_equal(pairs_get(&m->facts->metadata, "gpu"), "no");
        cluster_view_put(&p, zone, "");
        assert_null(pairs_get(&m->metadata, "zone"));
        cluster_view_remove(&p, zone);
        cluster_view_remove(&p, gpu);
        assert_string_equal(pairs_get(&m->metadata, "zone"), "a");
        assert_string_equal(pairs_get(&m->metadata, "gpu"), "no");
        cluster_view_free(&p);

        cluster_view_put(&p, gpu, "yes");
        cluster_view_remove(&p, gpu);
        assert_null(cluster_machine(&p.cluster, id));
        cluster_view_free(&p);
}

#define PIN        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define RESTRICTED "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}"
#define ORDINARY   "{\"joined\":1,\"pins\":[\"" PIN "\"]}"

static void state_facts(ClusterView *p, const char *machine, const char *name, const char *address) {
        char key[96], value[128], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"address\":\"%s\",\"name\":\"%s\"}", address, name);
        cluster_view_put(p, key, value);
}

static void set_restricted(ClusterView *p, const char *machine, bool restricted) {
        char key[96], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, machine));
        cluster_view_put(p, key, restricted ? RESTRICTED : ORDINARY);
}

static void the_metadata_of_a_restricted_host_are_those_of_people(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE], zone[128], *plan;
        const ClusterMachine *m;

        snprintf(zone, sizeof(zone), "/_fleet/machine/%s/metadata/zone", cluster_view_id(id, "A"));
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        set_restricted(&p, "A", true);
        m = cluster_machine(&p.cluster, id);
        assert_null(pairs_get(&m->metadata, "zone"));
        plan = cluster_view_plan(&p, false);
        assert_string_equal(plan, "");
        free(plan);
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP); /* again */
        assert_null(pairs_get(&m->metadata, "zone"));
        cluster_view_put(&p, zone, "a");
        plan = cluster_view_plan(&p, false);
        assert_string_equal(plan, "run a.service A");
        free(plan);
        cluster_view_remove(&p, zone);
        assert_null(pairs_get(&m->metadata, "zone"));
        set_restricted(&p, "A", false);
        assert_string_equal(pairs_get(&m->metadata, "zone"), "a");
}

/* Of the machines that state one name or address, the ordinary ones have it; of restricted ones, the first.
 */
static void a_restricted_host_takes_no_name_or_address_of_another_machine(void **state) {
        static const struct {
                const char *names[3], *expected[3], *addresses[3];
                bool restricted[3];
        } rows[] = {
                { { "alpha", "alpha", "alpha" },
                  { "alpha", NULL, NULL },
                  { "1.1.1.1", NULL, NULL },
                  { 0, 1, 1 } },
                { { "alpha", "alpha", "alpha" },
                  { NULL, NULL, "alpha" },
                  { NULL, NULL, "1.1.1.1" },
                  { 1, 1, 0 } },
                { { "alpha", "alpha", "alpha" },
                  { "alpha", NULL, NULL },
                  { "1.1.1.1", "1.1.1.1", "1.1.1.1" },
                  { 1, 1, 1 } },
                { { "alpha", "alpha", "beta" },
                  { "alpha", "alpha", "beta" },
                  { "1.1.1.1", "1.1.1.1", NULL },
                  { 0, 0, 1 } },
                { { "alpha", "aaaaaaaa", "aaaaaaaaa" },
                  { "alpha", NULL, "aaaaaaaaa" },
                  { "1.1.1.1", NULL, "1.1.1.1" },
                  { 0, 1, 0 } },
        };
        static const char *const machines[] = { "A", "B", "C" };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (unsigned order = 0; order < 3; order++) {
                        char id[MACHINE_ID_SIZE], label[CLUSTER_LABEL_SIZE];
                        _cleanup_cluster_view_ ClusterView p = {};

                        for (unsigned k = 0; k < 3 && order > 0; k++)
                                set_restricted(&p, machines[k], order == 2 ? rows[i].restricted[k] : k != 1);
                        for (unsigned k = 0; k < 3; k++)
                                state_facts(&p, machines[k], rows[i].names[k], "1.1.1.1");
                        for (unsigned k = 3; k-- > 0 && order < 2;)
                                set_restricted(&p, machines[k], rows[i].restricted[k]);
                        for (unsigned k = 0; k < 3; k++) {
                                const ClusterMachine *m = cluster_machine(&p.cluster,
                                                                          cluster_view_id(id, machines[k]));

                                if (!same_string(cluster_machine_hostname(m), rows[i].expected[k]) ||
                                    !same_string(cluster_machine_address(m), rows[i].addresses[k]))
                                        fail_msg("row %zu, order %u, %s", i, order, machines[k]);
                                if (i == 0)
                                        assert_string_equal(cluster_machine_label(m, label),
                                                            k == 0 ? "alpha" : m->short_id);
                        }
                        if (i == 0) { /* the first one of the others has it then */
                                char dir[64];

                                snprintf(dir, sizeof(dir), "/_fleet/machine/%s", cluster_view_id(id, "A"));
                                cluster_view_remove(&p, dir);
                                assert_string_equal(cluster_name_of(&p.cluster, cluster_view_id(id, "B")),
                                                    "alpha");
                                assert_string_equal(cluster_name_of(&p.cluster, cluster_view_id(id, "C")),
                                                    "cccccccc");
                        }
                }
}

static void an_entry_is_dropped_with_its_last_key(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE], key[128];

        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        assert_null(cluster_unit(&p.cluster, "a.service"));
        assert_non_null(cluster_any_unit(&p.cluster, "a.service"));
        snprintf(key, sizeof(key), "/_fleet/machine/%s/unit/a.service", cluster_view_id(id, "A"));
        cluster_view_remove(&p, key);
        assert_null(cluster_any_unit(&p.cluster, "a.service"));
        assert_null(cluster_machine(&p.cluster, id));
}

static void removing_a_directory_removes_all_below_it(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE], dir[64];

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        snprintf(dir, sizeof(dir), "/_fleet/machine/%s", cluster_view_id(id, "A"));
        cluster_view_remove(&p, dir);

        assert_null(cluster_machine(&p.cluster, id));
        assert_non_null(cluster_assignment(&p.cluster, cluster_view_id(id, "B"), "a.service"));
        assert_null(LIST_NEXT(LIST_FIRST(&cluster_unit(&p.cluster, "a.service")->assignments), of_unit));
        cluster_view_remove(&p, "/_fleet");
        assert_null(p.cluster.units);
        assert_null(p.cluster.machines);
}

static void a_value_that_does_not_parse_is_neither_the_previous_one_nor_absent(void **state) {
        static const char key[] = "/_fleet/target/a.service";
        _cleanup_cluster_view_ ClusterView p = {};
        Error err = {};

        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = { "running", 7 },
                                                 .created = 9,
                                                 .modified = 9 },
                                     &err),
                         -EBADMSG);
        assert_string_equal(err.message, "/_fleet/target/a.service: not a target state: 'running'");
        assert_int_equal(cluster_unit(&p.cluster, "a.service")->target, TARGET_INACTIVE);
        assert_true(cluster_unit_has_unreadable(cluster_unit(&p.cluster, "a.service"), LAYOUT_TARGET));
        assert_true(cluster_is_unreadable(&p.cluster, kv_string(key)));

        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string("/_fleet/unit/a.service"),
                                                 .value = { "{", 1 },
                                                 .created = 9,
                                                 .modified = 9 },
                                     &err),
                         -EBADMSG);
        assert_null(cluster_unit(&p.cluster, "a.service"));
        assert_true(cluster_unit_exists(cluster_any_unit(&p.cluster, "a.service")));

        /* The next value that can be read ends it, as does the removal of the key. */
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        assert_false(cluster_is_unreadable(&p.cluster, kv_string(key)));
        assert_true(cluster_unit_is_unreadable(cluster_any_unit(&p.cluster, "a.service")));
        cluster_view_destroy(&p, "a.service");
        assert_null(cluster_any_unit(&p.cluster, "a.service"));
}

/* Another machine is up at the address of a lost one: reasons omit the lost one, and a new lineage does not
 * wait for it if it was lost before. */
static void a_machine_whose_address_another_one_has_is_replaced(void **state) {
        static const char old_id[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          new_id[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
        _cleanup_cluster_view_ ClusterView p = { .cluster.adopting = true, .cluster.lineage = 7 };
        const ClusterMachine *old, *new;

        cluster_view_machine(&p, "A", "", PRESENCE_LOST);
        cluster_view_machine(&p, "B", "", PRESENCE_AWAY);
        cluster_view_put(&p, "/_fleet/cluster/member/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                         "{\"peer\":\"10.0.0.1:2380\",\"raftId\":1}");
        cluster_view_put(&p, "/_fleet/cluster/member/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                         "{\"peer\":\"10.0.0.1:2380\",\"raftId\":2}");
        old = cluster_machine(&p.cluster, old_id);
        new = cluster_machine(&p.cluster, new_id);
        assert_null(cluster_machine_successor(old));
        assert_true(cluster_awaits_report(&p.cluster, old));
        assert_false(presence_is_omitted(old, old->since_ms));

        cluster_view_presence(&p, "B", PRESENCE_UP);
        assert_ptr_equal(cluster_machine_successor(old), new);
        assert_null(cluster_machine_successor(new));
        assert_true(presence_is_omitted(old, old->since_ms));
        assert_true(cluster_awaits_report(&p.cluster, new));

        /* Lost since the lineage began, it may run units at an address that the backup does not contain. */
        p.cluster.adopting_since_ms = old->since_ms;
        assert_true(cluster_awaits_report(&p.cluster, old));
        p.cluster.adopting_since_ms = old->since_ms + 1;
        assert_false(cluster_awaits_report(&p.cluster, old));

        /* It is back, at another address. */
        cluster_view_presence(&p, "A", PRESENCE_UP);
        assert_null(cluster_machine_successor(old));
        assert_false(presence_is_omitted(old, old->since_ms));
}

/* A host writes other keys of its own as often as it likes. */
static void machines_that_state_the_same_are_compared_only_when_the_order_may_change(void **state) {
        char machine[8], name[8], key[160], id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p = {};

        for (unsigned i = 0; i < 40; i++) {
                snprintf(machine, sizeof(machine), "A%u", i);
                snprintf(name, sizeof(name), "h%u", i);
                set_restricted(&p, machine, i < 3);
                state_facts(&p, machine, name, i < 3 ? "1.1.1.1" : name);
        }
        p.cluster.filed = (TurnWork) {};
        snprintf(key, sizeof(key), "/_fleet/machine/%s/problem/a.service", cluster_view_id(id, "A0"));
        for (unsigned i = 0; i < 10; i++)
                cluster_view_put(&p, key, "{\"kind\":\"refused\"}");
        assert_int_equal(p.cluster.filed.nodes, 0);
        set_restricted(&p, "A0", false);
        assert_int_equal(p.cluster.filed.nodes, 0);
        set_restricted(&p, "A0", true);
        assert_int_equal(p.cluster.filed.nodes, 3);
}

/* The number of machines of a name saves a search of all machines; without it, the search decides. */
static void check_labels(const Cluster *c) {
        for (ClusterMachine *m = c->machines; m; m = m->hh.next) {
                const char *name = cluster_machine_hostname(m);
                char counted[CLUSTER_LABEL_SIZE], searched[CLUSTER_LABEL_SIZE];
                ClusterClaim *claim = m->claims[CLAIM_NAME];
                size_t n = 0;

                for (const ClusterMachine *o = c->machines; o; o = o->hh.next)
                        n += name && same_string(name, cluster_machine_hostname(o));
                assert_int_equal(claim ? claim->n : 0, n);
                snprintf(counted, sizeof(counted), "%s", cluster_machine_label(m, searched));
                m->claims[CLAIM_NAME] = NULL;
                assert_string_equal(counted, cluster_machine_label(m, searched));
                m->claims[CLAIM_NAME] = claim;
        }
}

static const char *name_key(char ret[static 160], char machine, bool facts) {
        char id[MACHINE_ID_SIZE];

        (void) cluster_view_id(id, (const char[2]) { machine });
        snprintf(ret, 160, "/_fleet/%s/%s%s", facts ? "machine" : "cluster/member", id,
                 facts ? "/facts" : "");
        return ret;
}

static void machines_are_counted_by_name_while_they_change_it(void **state) {
        static const char *const names[] = { "alpha", "beta", "gamma", "" };
        _cleanup_cluster_view_ ClusterView p = {};
        Random random;
        char key[160];

        random_seed(&random, 1);
        for (unsigned step = 0; step < 3000; step++) {
                const char *name = names[random_below(&random, ELEMENTS(names))];
                bool facts = random_below(&random, 2);
                char value[128];

                (void) name_key(key, (char) ('A' + random_below(&random, 5)), facts);
                snprintf(value, sizeof(value), "{\"name\":\"%s\"%s}", name,
                         facts ? "" : ",\"peer\":\"10.0.0.1:2380\",\"raftId\":1");
                if (random_below(&random, 3) == 0)
                        cluster_view_remove(&p, key);
                else
                        cluster_view_put(&p, key, value);
                check_labels(&p.cluster);
        }
        for (char machine = 'A'; machine <= 'E'; machine++) {
                cluster_view_remove(&p, name_key(key, machine, true));
                cluster_view_remove(&p, name_key(key, machine, false));
        }
        assert_null(p.cluster.claims[CLAIM_NAME]);
}

static void of_machines_with_one_name_the_replaced_one_is_named_with_its_id(void **state) {
        static const char *const ids[] = { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                           "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" };
        const ClusterMachine *old, *new;
        char label[CLUSTER_LABEL_SIZE], key[128];
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        old = cluster_machine(&p.cluster, ids[0]);
        new = cluster_machine(&p.cluster, ids[1]);
        assert_string_equal(cluster_machine_label(old, label), "A");
        for (size_t i = 0; i < ELEMENTS(ids); i++) {
                snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", ids[i]);
                cluster_view_put(&p, key, "{\"name\":\"gamma\"}");
                snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", ids[i]);
                cluster_view_put(&p, key,
                                 i == 0 ? "{\"peer\":\"10.0.0.1:2380\",\"raftId\":1}" :
                                          "{\"peer\":\"10.0.0.1:2380\",\"raftId\":2}");
        }
        assert_string_equal(cluster_machine_label(old, label), "gamma (aaaaaaaa)"); /* none is replaced */
        assert_string_equal(cluster_machine_label(new, label), "gamma (bbbbbbbb)");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_string_equal(cluster_machine_label(old, label), "gamma (aaaaaaaa)");
        assert_string_equal(cluster_machine_label(new, label), "gamma");
}

/* An unreadable presence is not a loss, and an unreadable assignment or unreadable facts are not absent. */
static void an_unreadable_key_of_a_machine_is_not_absent(void **state) {
        static const char id[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        _cleanup_cluster_view_ ClusterView p = { .cluster.adopting = true, .cluster.lineage = 7 };
        const ClusterMachine *m;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unreadable(&p, LAYOUT_PRESENCE, NULL, "A");
        m = cluster_machine(&p.cluster, id);
        assert_int_equal(m->presence, PRESENCE_AWAY);
        assert_int_equal(m->presence_index, p.index);
        assert_string_equal(message_of(&m->verdict), CLUSTER_UNREADABLE);
        assert_true(cluster_machine_is_unreadable(m));
        cluster_view_presence(&p, "A", PRESENCE_UP);
        assert_false(cluster_machine_is_unreadable(m));

        assert_true(cluster_awaits_report(&p.cluster, m));
        cluster_view_unreadable(&p, LAYOUT_FACTS, NULL, "A");
        assert_null(m->facts);
        assert_true(cluster_awaits_report(&p.cluster, m));

        cluster_view_unreadable(&p, LAYOUT_ASSIGNMENT, "a.service", "A");
        assert_null(cluster_assignment(&p.cluster, id, "a.service"));
        assert_int_equal(m->load, 1);
        assert_true(cluster_unit_is_unreadable(cluster_any_unit(&p.cluster, "a.service")));

        cluster_view_unreadable(&p, LAYOUT_METADATA, "zone", "A");
        cluster_view_unreadable(&p, LAYOUT_MEMBER, NULL, "A");
        cluster_view_unreadable(&p, LAYOUT_PROBLEM, "a.service", "A");
        cluster_view_unreadable(&p, LAYOUT_STATE, "a.service", "A");
        cluster_view_remove(&p, "/_fleet/machine/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        cluster_view_remove(&p, "/_fleet/state/a.service");
        cluster_view_remove(&p, "/_fleet/cluster/member/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_null(cluster_machine(&p.cluster, id));
        assert_null(cluster_any_unit(&p.cluster, "a.service"));
}

static void a_unit_waits_until_a_machine_that_is_up_has_it(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE], key[128];

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_INACTIVE);
        cluster_view_unit(&p, "g.service", "Global=true\nConflicts=x.service", TARGET_LAUNCHED);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 0);
        assert_int_equal(listed(&p, CLUSTER_GLOBAL), 1);
        assert_int_equal(listed(&p, CLUSTER_RELATED), 1);

        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 1);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 0);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 1);
        cluster_view_presence(&p, "A", PRESENCE_UP);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 0);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_STOP);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 1);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/unit/a.service", cluster_view_id(id, "A"));
        cluster_view_remove(&p, key);
        assert_int_equal(listed(&p, CLUSTER_WAITING), 1);
        cluster_view_destroy(&p, "a.service");
        assert_int_equal(listed(&p, CLUSTER_WAITING), 0);
}

static void current_states_follow_assignment_and_report(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        const ClusterMachine *m;
        ClusterUnit *u;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        u = cluster_unit(&p.cluster, "a.service");
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_INACTIVE);
        assert_null(m);

        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_INACTIVE);
        assert_string_equal(cluster_machine_name(m), "A");
        cluster_view_state(&p, "A", "a.service", "failed");
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_LOAD);
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_LOADED);

        /* Lost, and being replaced on B. */
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_INACTIVE);
        p.cluster.now_ms = 5;
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "B", "a.service", "active");
        assert_int_equal(cluster_current_state(&p.cluster, u, &m), TARGET_LAUNCHED);
        assert_string_equal(cluster_machine_name(m), "B");
}

static UnitCondition condition_of(const ClusterUnit *u) {
        UnitCondition condition = u->listed[CLUSTER_WAITING] ? UNIT_WAITING : UNIT_OTHER;

        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit)) {
                if (s->state.active && streq(s->state.active, "failed"))
                        return UNIT_FAILED;
                if (s->state.active && streq(s->state.active, "active"))
                        condition = UNIT_ACTIVE;
        }
        return condition;
}

/* A machine whose last key is gone counts nowhere. */
static void check_machines(const Cluster *c, bool seen[static _MACHINES_MAX]) {
        size_t counts[_MACHINES_MAX] = {};

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                bool present = m->presence_index > 0 && m->presence != PRESENCE_LEFT;
                size_t active = 0;

                for (ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                        active += o->kind != ASSIGNMENT_STOP;
                assert_int_equal(m->load, active);
                counts[MACHINES_BY_PRESENCE + m->presence] += !cluster_machine_is_removed(m);
                counts[MACHINES_SINGLE] += m->verdict.of == VERDICT_OF_SESSIONS;
                counts[MACHINES_PRESENT] += present;
                counts[MACHINES_LOST] += present && m->presence == PRESENCE_LOST;
                counts[MACHINES_HELD_OFF] += m->hold_off_until_ms > 0;
                counts[MACHINES_MAINTAINED] += m->maintenance != NULL;
                counts[MACHINES_TO_REBOOT] += m->reboot && m->reboot->state != REBOOT_FAILED;
                counts[MACHINES_REMOVED] += cluster_machine_is_removed(m);
                counts[MACHINES_UNREADABLE] += !LIST_EMPTY(&m->unreadable);
                counts[MACHINES_RESTRICTED] += m->host && m->host->restricted;
        }
        assert_memory_equal(c->counts, counts, sizeof(counts));
        for (MachineCount i = 0; i < _MACHINES_MAX; i++)
                seen[i] |= counts[i] > 0;
}

/* Change a key of a machine that is counted: put, remove, or make it unreadable. */
static void change_counted_key(ClusterView *p, Random *random, const char *machine) {
        static const struct {
                LayoutKind kind;
                const char *value;
        } values[] = {
                { LAYOUT_PRESENCE, "{\"state\":\"up\",\"quiet\":7}" },
                { LAYOUT_PRESENCE, "{\"state\":\"up\",\"reason\":\"its sessions: one\"}" },
                { LAYOUT_MAINTENANCE, "{\"mode\":\"cordoned\"}" },
                { LAYOUT_REBOOT, "{\"kind\":\"soft\",\"state\":\"queued\"}" },
                { LAYOUT_REBOOT, "{\"kind\":\"soft\",\"state\":\"failed\"}" },
                { LAYOUT_HOST, "{\"pins\":[\"" DIGEST "\"],\"restricted\":true}" },
        };
        size_t i = random_below(random, ELEMENTS(values));
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];

        layout_key(key, values[i].kind, NULL, cluster_view_id(id, machine));
        switch (random_below(random, 3)) {
        case 0:
                cluster_view_put(p, key, values[i].value);
                break;
        case 1:
                cluster_view_remove(p, key);
                break;
        default:
                cluster_view_unreadable(p, values[i].kind, NULL, machine);
        }
}

/* Random changes of keys: counts and lists are those of the objects. */
static void counts_and_lists_match_the_keys_after_any_changes(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" };
        static const char *const machines[] = { "A", "B", "C" };
        static const char *const states[] = { "active", "failed", "inactive", NULL };
        bool seen[_MACHINES_MAX] = {};
        _cleanup_cluster_view_ ClusterView p = {};
        Random random;

        random_seed(&random, 7);
        for (unsigned i = 0; i < 5000; i++) {
                const char *unit = units[random_below(&random, 3)],
                           *machine = machines[random_below(&random, 3)];
                char id[MACHINE_ID_SIZE], key[128];

                cluster_view_id(id, machine);
                switch (random_below(&random, 9)) {
                case 0:
                        cluster_view_unit(&p, unit, random_below(&random, 2) ? "Global=true" : "Conflicts=x*",
                                          random_below(&random, 3));
                        break;
                case 1:
                        cluster_view_destroy(&p, unit);
                        break;
                case 2:
                        cluster_view_assign(&p, machine, unit, random_below(&random, _ASSIGNMENT_MAX));
                        break;
                case 3:
                        snprintf(key, sizeof(key), "/_fleet/machine/%s/unit/%s", id, unit);
                        cluster_view_remove(&p, key);
                        break;
                case 4:
                        cluster_view_state(&p, machine, unit,
                                           states[random_below(&random, ELEMENTS(states))]);
                        break;
                case 5:
                        cluster_view_presence(&p, machine, random_below(&random, _PRESENCE_MAX));
                        break;
                case 6:
                        cluster_view_machine(&p, machine, "", PRESENCE_UP);
                        break;
                case 7:
                        snprintf(key, sizeof(key), "/_fleet/machine/%s", id);
                        cluster_view_remove(&p, key);
                        break;
                case 8:
                        change_counted_key(&p, &random, machine);
                        break;
                }

                size_t waiting = 0, global = 0, related = 0, conditions[_UNIT_CONDITION_MAX] = {};

                for (ClusterUnit *u = p.cluster.units; u; u = u->hh.next) {
                        bool placed = false;

                        for (ClusterAssignment *o = LIST_FIRST(&u->assignments); o;
                             o = LIST_NEXT(o, of_unit)) {
                                assert_ptr_equal(o->of, u);
                                const ClusterAssignment *next = LIST_NEXT(o, of_unit);

                                assert_true(!next || strcmp(o->machine->id, next->machine->id) < 0);
                                placed = placed ||
                                         (o->kind != ASSIGNMENT_STOP && o->machine->presence == PRESENCE_UP);
                        }
                        if (!u->unit)
                                continue;
                        conditions[condition_of(u)]++;
                        global += u->unit->placement.global;
                        related += u->unit->placement.conflicts.n > 0;
                        waiting += !u->unit->placement.global && u->target != TARGET_INACTIVE && !placed;
                }
                assert_memory_equal(p.cluster.conditions, conditions, sizeof(conditions));
                assert_int_equal(listed(&p, CLUSTER_WAITING), waiting);
                assert_int_equal(listed(&p, CLUSTER_GLOBAL), global);
                assert_int_equal(listed(&p, CLUSTER_RELATED), related);
                check_machines(&p.cluster, seen);
        }
        for (MachineCount i = 0; i < _MACHINES_MAX; i++)
                assert_true(seen[i]);
}

static void a_removal_compares_only_the_units_of_its_pattern(void **state) {
        ClusterUnit units[10] = {};
        Patterns p = {};
        char text[16];

        for (unsigned i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "*%u", i);
                assert_int_equal(patterns_add(&p, text, &units[0]), 0);
        }
        for (size_t i = 0; i < ELEMENTS(units); i++)
                assert_int_equal(patterns_add(&p, "*", &units[i]), 0);
        assert_int_equal(patterns_remove(&p, "*", &units[0]),
                         9); /* others with the same pattern are passed */
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(text, sizeof(text), "*%u", i);
                assert_int_equal(patterns_remove(&p, text, &units[0]), 0);
        }
        for (size_t i = ELEMENTS(units); i > 1; i--)
                assert_int_equal(patterns_remove(&p, "*", &units[i - 1]), 0);
        assert_null(p.all);
        assert_null(p.prefixes);
}

static void patterns_are_drained_with_all_their_units(void **state) {
        ClusterUnit units[10] = {};
        Patterns p = {};
        char text[16];

        for (unsigned i = 0; i < 100; i++) {
                snprintf(text, sizeof(text), "%s%u", i % 2 ? "*" : "a?", i);
                for (size_t k = 0; k < ELEMENTS(units); k++)
                        assert_int_equal(patterns_add(&p, text, &units[k]), 0);
        }
        assert_int_equal(patterns_drain(&p, 60), 60);
        assert_non_null(p.all);
        assert_int_equal(patterns_drain(&p, 60), 40);
        assert_null(p.all);
        assert_null(p.prefixes);
        assert_int_equal(patterns_drain(&p, 1), 0);
}

static bool never(void *userdata, const Pattern *pattern) {
        fail_msg("%s matches", pattern->text);
        return false;
}

/* The steps of a comparison count as work. */
static void long_comparisons_are_more_work(void **state) {
        static const struct {
                const char *pattern;
                size_t work;
        } rows[] = { { "b*", 0 }, { "*b", 2 }, { "*aaaaaaaab", 14 } };
        char name[101] = {};
        ClusterUnit u = {};

        memset(name, 'a', sizeof(name) - 1);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Patterns p = {};
                size_t n;

                assert_int_equal(patterns_add(&p, rows[i].pattern, &u), 0);
                n = patterns_match(&p, name, never, NULL);
                if (n != rows[i].work)
                        fail_msg("%s: %zu, not %zu", rows[i].pattern, n, rows[i].work);
                (void) patterns_drain(&p, 1);
        }
}

/* 3 texts of 1000 rules each, and one of 2000 options without a rule. */
static void a_view_with_large_texts_is_released_in_parts(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        unsigned parts = 1;

        for (unsigned i = 0; i < 4; i++) {
                _cleanup_text_ Text t = {};
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                for (unsigned k = 0; k < 1000; k++)
                        text_printf(&t, i < 3 ? "Conflicts=*%u-%u\n" : "X-A%u=%u\nX-B=1\n", k, i);
                cluster_view_unit(&p, name, t.chars, TARGET_LAUNCHED);
        }
        for (; !cluster_drain(&p.cluster, 100); parts++)
                ;
        assert_in_range(parts, 33, 40);
}

static void a_member_is_read_completely_or_rejected(void **state) {
        static const char key[] = "/_fleet/cluster/member/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          id[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        static const char nonce16[] = "0123456789abcdef", nonce17[] = "0123456789abcdef0";
        static const char *const wrong[] = {
                "{",
                "{\"raftId\":\"1\"}",
                "{}",
                "{\"raftId\":0}",
                "{\"raftId\":1,\"start\":\"1\"}",
                "{\"raftId\":1,\"level\":\"1\"}",
                "{\"raftId\":1,\"nonce\":1}",
                "{\"raftId\":1,\"peer\":1}",
                "{\"raftId\":1,\"client\":1}",
        };
        char peer[65] = "", client[CLUSTER_URL_SIZE + 1] = "", json[600];
        const ClusterMachine *m;
        _cleanup_cluster_view_ ClusterView p = {};
        Error err = {};

        memset(peer, 'p', 63);
        memset(client, 'c', CLUSTER_URL_SIZE - 1);
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(json, sizeof(json),
                         "{\"raftId\":7,\"start\":3,\"level\":2,\"nonce\":\"%s\",\"peer\":\"%s\",\"client\":"
                         "\"%s\"}",
                         nonce16, peer, client);
                cluster_view_put(&p, key, json);
                m = cluster_machine(&p.cluster, id);
                assert_false(cluster_machine_has_unreadable(m, LAYOUT_MEMBER));
                assert_int_equal(m->member.raft_id, 7);
                assert_int_equal(m->member.start_number, 3);
                assert_int_equal(m->member.level, 2);
                assert_string_equal(m->member.start_nonce, nonce16);
                assert_string_equal(m->member.peer, peer);
                assert_string_equal(m->member.client, client);
                if (cluster_put(&p.cluster,
                                &(KvNode) { .key = kv_string(key),
                                            .value = kv_string(wrong[i]),
                                            .created = 9,
                                            .modified = 9 },
                                &err) != -EBADMSG)
                        fail_msg("%s is read", wrong[i]);
                assert_true(cluster_machine_has_unreadable(cluster_machine(&p.cluster, id), LAYOUT_MEMBER));
        }
        /* A member that is too long. */
        snprintf(json, sizeof(json), "{\"raftId\":7,\"nonce\":\"%s\"}", nonce17);
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = kv_string(json),
                                                 .created = 9,
                                                 .modified = 9 },
                                     &err),
                         -EBADMSG);
        assert_non_null(strstr(err.message, "nonce: longer than 16 bytes"));
        peer[63] = 'p';
        snprintf(json, sizeof(json), "{\"raftId\":7,\"peer\":\"%s\"}", peer);
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = kv_string(json),
                                                 .created = 9,
                                                 .modified = 9 },
                                     &err),
                         -EBADMSG);
        client[CLUSTER_URL_SIZE - 1] = 'c';
        snprintf(json, sizeof(json), "{\"raftId\":7,\"client\":\"%s\"}", client);
        cluster_view_put(&p, key, json);
        m = cluster_machine(&p.cluster, id);
        assert_int_equal(m->member.raft_id, 7);
        assert_string_equal(m->member.client, "");
        assert_string_equal(m->member.peer, "");
}

static void metadata_and_the_lineage_are_read_within_their_bounds(void **state) {
        static const char key[] = "/_fleet/machine/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/metadata/zone";
        static const char lineage[] = "/_fleet/machine/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/reported";
        static const char *const wrong[] = { "", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg" };
        char value[METADATA_VALUE_MAX + 2] = "";
        _cleanup_cluster_view_ ClusterView p = {};

        memset(value, 'v', METADATA_VALUE_MAX);
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = { value, METADATA_VALUE_MAX },
                                                 .created = 1,
                                                 .modified = 1 },
                                     NULL),
                         0);
        assert_string_equal(pairs_get(&p.cluster.machines->metadata, "zone"), value);
        value[METADATA_VALUE_MAX] = 'v';
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = { value, METADATA_VALUE_MAX + 1 },
                                                 .created = 2,
                                                 .modified = 2 },
                                     NULL),
                         -EBADMSG);
        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(key),
                                                 .value = { "a\0b", 3 },
                                                 .created = 3,
                                                 .modified = 3 },
                                     NULL),
                         -EBADMSG);
        assert_true(cluster_put(&p.cluster,
                                &(KvNode) { .key = kv_string(key),
                                            .value = { "\x01", 1 },
                                            .created = 4,
                                            .modified = 4 },
                                NULL) < 0);

        assert_int_equal(cluster_put(&p.cluster,
                                     &(KvNode) { .key = kv_string(lineage),
                                                 .value = { "0123456789abcdef", 16 },
                                                 .created = 5,
                                                 .modified = 5 },
                                     NULL),
                         0);
        assert_int_equal(p.cluster.machines->reported, 0x0123456789abcdef);
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_int_equal(cluster_put(&p.cluster,
                                             &(KvNode) { .key = kv_string(lineage),
                                                         .value = kv_string(wrong[i]),
                                                         .created = 6,
                                                         .modified = 6 },
                                             NULL),
                                 -EBADMSG);
}

/* The same for a key that is about no unit and no machine. */
static bool has_of_cluster(const Cluster *c, LayoutKind kind) {
        const ClusterToken *token = cluster_token(c, TOKEN);
        const ClusterPrincipal *user = cluster_principal(c, "alice");
        const ClusterLineage *lineage = cluster_lineage(c, LINEAGE);

        switch (kind) {
        case LAYOUT_TOKEN:
                return token && token->index > 0 && token->record.uses == 3 &&
                       pairs_get(&token->record.metadata, "zone");
        case LAYOUT_DENIED:
                return c->denied && cluster_is_denied(c, DIGEST) && c->denied->record.since_ms == 5;
        case LAYOUT_PRINCIPAL:
                return user && user->index > 0 && user->record.n_rights == 1 &&
                       user->record.rights[0].right == GRANT_KEYS_READ;
        case LAYOUT_LINEAGE:
                return lineage && lineage->index > 0 && lineage->record.kind == LINEAGE_RESTORED;
        case LAYOUT_SECRET:
                return cluster_secret(c, "db") && cluster_secret(c, "db")->record.version == 2 &&
                       !cluster_secret(c, "db")->record.sealed;
        case LAYOUT_CA_ROOTS:
                return c->ca_roots && c->ca_roots_index > 0 &&
                       streq(ca_roots_current(c->ca_roots)->id, DIGEST);
        case LAYOUT_CA_KEY:
                return c->ca_keys && c->ca_keys_index > 0 && ca_keys_find(c->ca_keys, DIGEST);
        case LAYOUT_CA_ROTATION:
                return c->ca_rotation && c->ca_rotation_index > 0 &&
                       c->ca_rotation->state == CA_ROTATION_ISSUE;
        case LAYOUT_SETTINGS:
                return cluster_settings(c)->voters == 3 && c->settings_index > 0;
        default:
                return false;
        }
}

/* Whether the view has the value of the key. */
static bool has(const ClusterView *p, LayoutKind kind) {
        const ClusterMachine *m = cluster_machine(&p->cluster, A);
        const ClusterUnit *u = cluster_any_unit(&p->cluster, "a.service");

        switch (kind) {
        case LAYOUT_UNIT:
                return u && u->unit && u->index > 0;
        case LAYOUT_REVISION:
                return u && !LIST_EMPTY(&u->revisions) && LIST_FIRST(&u->revisions)->number == 3;
        case LAYOUT_ROLLOUT:
                return u && u->rollout && u->rollout_index > 0 && u->rollout->to.number == 3;
        case LAYOUT_MOVE:
                return u && u->move && u->move_index > 0 && u->listed[CLUSTER_MOVING] &&
                       streq(u->move->to, A) && streq(u->move->by, "root") && u->move->since_ms == 5;
        case LAYOUT_DATA:
                return u && u->data && u->data_index > 0 && streq(u->data->machine, A) &&
                       u->data->since_ms == 5;
        case LAYOUT_TARGET:
                return u && u->target == TARGET_LOADED && u->target_index > 0;
        case LAYOUT_FACTS:
                return m && m->facts && pairs_get(&m->metadata, "own");
        case LAYOUT_METADATA:
                return m && pairs_get(&m->metadata, "a.service") && m->set.n > 0;
        case LAYOUT_PRESENCE:
                return m && m->presence == PRESENCE_UP && m->presence_index > 0 && m->since_ms == 5 &&
                       m->losses == 2 && m->lost_ms == 3 && m->hold_off_until_ms == 4 &&
                       streq(message_of(&m->verdict), "why");
        case LAYOUT_REPORTED:
                return m && m->reported == 0xabc;
        case LAYOUT_MEMBER:
                return m && m->member.raft_id == 3 && streq(m->member.peer, "p") &&
                       streq(m->member.client, "c");
        case LAYOUT_ASSIGNMENT:
                return cluster_assignment(&p->cluster, A, "a.service") && u && !LIST_EMPTY(&u->assignments) &&
                       m->load == 1;
        case LAYOUT_PROBLEM:
                return cluster_problem(&p->cluster, A, "a.service");
        case LAYOUT_STATE:
                return cluster_state(&p->cluster, A, "a.service") && u && !LIST_EMPTY(&u->states);
        case LAYOUT_ENDPOINT:
                return cluster_endpoint(&p->cluster, A, "a.service") && cluster_service(&p->cluster, "web") &&
                       cluster_service(&p->cluster, "web")->n_endpoints == 1;
        case LAYOUT_CLUSTER:
                return p->cluster.adopting && p->cluster.adopting_since_ms == 77;
        case LAYOUT_MAINTENANCE:
                return m && m->maintenance && m->maintenance_index > 0 &&
                       m->maintenance->mode == MAINTENANCE_DRAINING;
        case LAYOUT_REPLICAS:
                return u && u->replicas && u->replicas_index > 0 && u->replicas->is_scaled &&
                       u->replicas->slots == 4;
        case LAYOUT_INPUTS:
                return u && u->inputs && u->inputs_index > 0 && u->inputs->number == 3;
        case LAYOUT_REBOOT:
                return m && m->reboot && m->reboot_index > 0 && m->reboot->state == REBOOT_DOWN &&
                       m->reboot->kind == REBOOT_SOFT && m->reboot->seq == 4;
        case LAYOUT_HOST:
                return m && m->host && m->host_index > 0 && pins_have(&m->host->pins, DIGEST);
        case LAYOUT_REMOVED:
                return m && m->removed && m->removed_index > 0 && m->removed->since_ms == 5;
        default:
                return has_of_cluster(&p->cluster, kind);
        }
}

static void each_key_is_added_and_removed_alone_or_with_its_directory(void **state) {
        static const struct {
                LayoutKind kind;
                const char *key, *value, *dir;
        } rows[] = {
                { LAYOUT_UNIT, "/_fleet/unit/a.service", "{\"text\":\"[Service]\\nExecStart=/a\\n\"}",
                  "/_fleet/unit" },
                { LAYOUT_REVISION, "/_fleet/revision/a.service/3",
                  "{\"text\":\"[Service]\\nExecStart=/a\\n\"}", "/_fleet/revision/a.service" },
                { LAYOUT_ROLLOUT, "/_fleet/rollout/a.service",
                  "{\"failed\":[{\"unit\":\"a.service\",\"why\":\"w\"}],\"state\":\"rolling\",\"to\":3,"
                  "\"toHash\":\"h\"}",
                  "/_fleet/rollout" },
                { LAYOUT_MOVE, "/_fleet/move/a.service", "{\"by\":\"root\",\"since\":5,\"to\":\"" A "\"}",
                  "/_fleet/move" },
                { LAYOUT_DATA, "/_fleet/data/a.service", "{\"machine\":\"" A "\",\"since\":5}",
                  "/_fleet/data" },
                { LAYOUT_REPLICAS, "/_fleet/replicas/a.service", "{\"count\":0,\"slots\":4}",
                  "/_fleet/replicas" },
                { LAYOUT_INPUTS, "/_fleet/inputs/a.service", "{\"digest\":\"d\",\"number\":3}",
                  "/_fleet/inputs" },
                { LAYOUT_SECRET, "/_fleet/secret/db",
                  "{\"clusterKey\":1,\"sealed\":\"AA==\",\"size\":1,\"version\":2}", "/_fleet/secret" },
                { LAYOUT_TARGET, "/_fleet/target/a.service", "loaded", "/_fleet/target" },
                { LAYOUT_FACTS, "/_fleet/machine/" A "/facts", "{\"metadata\":{\"own\":\"1\"}}",
                  "/_fleet/machine" },
                { LAYOUT_METADATA, "/_fleet/machine/" A "/metadata/a.service", "1",
                  "/_fleet/machine/" A "/metadata" },
                { LAYOUT_PRESENCE, "/_fleet/machine/" A "/presence",
                  "{\"losses\":2,\"lost\":3,\"quiet\":4,\"reason\":\"why\",\"since\":5,\"state\":\"up\"}",
                  "/_fleet/machine/" A },
                { LAYOUT_REPORTED, "/_fleet/machine/" A "/reported", "0000000000000abc",
                  "/_fleet/machine/" A },
                { LAYOUT_MEMBER, "/_fleet/cluster/member/" A,
                  "{\"raftId\":3,\"peer\":\"p\",\"client\":\"c\"}", "/_fleet/cluster/member" },
                { LAYOUT_ASSIGNMENT, "/_fleet/machine/" A "/unit/a.service", "{\"order\":\"run\"}",
                  "/_fleet/machine/" A "/unit" },
                { LAYOUT_PROBLEM, "/_fleet/machine/" A "/problem/a.service", "{\"kind\":\"held\"}",
                  "/_fleet/machine/" A "/problem" },
                { LAYOUT_STATE, "/_fleet/state/a.service/" A,
                  "{\"load\":\"loaded\",\"active\":\"active\",\"sub\":\"running\"}",
                  "/_fleet/state/a.service" },
                { LAYOUT_ENDPOINT, "/_fleet/endpoint/a.service/" A,
                  "{\"address\":\"10.0.0.1\",\"services\":[\"web\"]}", "/_fleet/endpoint" },
                { LAYOUT_MAINTENANCE, "/_fleet/machine/" A "/maintenance", "{\"mode\":\"draining\"}",
                  "/_fleet/machine/" A },
                { LAYOUT_REBOOT, "/_fleet/machine/" A "/reboot",
                  "{\"kind\":\"soft\",\"seq\":4,\"state\":\"down\"}", "/_fleet/machine/" A },
                { LAYOUT_HOST, "/_fleet/cluster/host/" A, "{\"pins\":[\"" DIGEST "\"]}",
                  "/_fleet/cluster/host" },
                { LAYOUT_REMOVED, "/_fleet/cluster/removed/" A, "{\"since\":5}", "/_fleet/cluster/removed" },
                { LAYOUT_TOKEN, "/_fleet/cluster/token/" TOKEN,
                  "{\"expires\":9,\"hash\":\"" DIGEST
                  "\",\"metadata\":{\"zone\":\"a\"},\"total\":3,\"uses\":3}",
                  "/_fleet/cluster/token" },
                { LAYOUT_DENIED, "/_fleet/cluster/denied/" DIGEST, "{\"machine\":\"" A "\",\"since\":5}",
                  "/_fleet/cluster/denied" },
                { LAYOUT_PRINCIPAL, "/_fleet/cluster/principal/alice",
                  "{\"pins\":[\"" DIGEST "\"],\"rights\":[{\"prefix\":\"/a\",\"right\":\"keys-read\"}]}",
                  "/_fleet/cluster/principal" },
                { LAYOUT_LINEAGE, "/_fleet/cluster/lineage/" LINEAGE,
                  "{\"ancestor\":\"" LINEAGE "\",\"kind\":\"restored\"}", "/_fleet/cluster/lineage" },
                { LAYOUT_CA_ROOTS, "/_fleet/cluster/ca/roots",
                  "{\"roots\":[{\"id\":\"" DIGEST "\",\"pem\":\"p\",\"state\":\"current\"}]}",
                  "/_fleet/cluster/ca" },
                { LAYOUT_CA_KEY, "/_fleet/cluster/ca/key",
                  "{\"keys\":[{\"clusterKey\":1,\"root\":\"" DIGEST "\",\"sealed\":\"c2VhbGVk\"}]}",
                  "/_fleet/cluster/ca" },
                { LAYOUT_CA_ROTATION, "/_fleet/cluster/ca/rotation", "{\"state\":\"issue\"}",
                  "/_fleet/cluster/ca" },
                { LAYOUT_SETTINGS, "/_fleet/cluster/settings", "{\"voters\":3}", "/_fleet/cluster" },
                { LAYOUT_CLUSTER, "/_fleet/cluster/adopting", "77", "/_fleet/cluster" },
        };

        assert_int_equal(ELEMENTS(rows), _LAYOUT_MAX);
        for (size_t i = 0; i < ELEMENTS(rows) * 2; i++) {
                const char *gone = i % 2 ? rows[i / 2].dir : rows[i / 2].key;
                size_t size = strlen(gone);
                _cleanup_cluster_view_ ClusterView p = {};

                cluster_view_remove(&p, gone); /* nothing is there */
                for (size_t k = 0; k < ELEMENTS(rows); k++)
                        cluster_view_put(&p, rows[k].key, rows[k].value);
                for (size_t k = 0; k < ELEMENTS(rows); k++)
                        if (!has(&p, rows[k].kind))
                                fail_msg("%s is missing", rows[k].key);
                assert_int_equal(p.cluster.index, p.index);
                cluster_view_remove(&p, gone);
                for (size_t k = 0; k < ELEMENTS(rows); k++) {
                        bool below = strncmp(rows[k].key, gone, size) == 0 &&
                                     (rows[k].key[size] == 0 || rows[k].key[size] == '/');

                        if (has(&p, rows[k].kind) == below)
                                fail_msg("%s, after the removal of %s", rows[k].key, gone);
                }
                cluster_view_remove(&p, "/_fleetx");
                cluster_view_remove(&p, "/_fleet");
                assert_null(p.cluster.units);
                assert_null(p.cluster.machines);
                assert_null(p.cluster.servers);
                assert_null(p.cluster.services);
                assert_false(p.cluster.adopting);
        }
}

/* Append the endpoints of the service, in their order. */
static void append_endpoints(Text *t, const Cluster *c, const char *name) {
        const ClusterService *s = cluster_service(c, name);

        for (size_t i = 0; s && i < s->n_endpoints; i++)
                text_printf(t, " %.1s/%s", s->endpoints[i]->machine, s->endpoints[i]->unit);
}

/* Also without a machine that has another key. One key has two services, a repeated one, or is unreadable. */
static void a_service_has_its_endpoints_sorted_by_machine_and_unit_after_any_changes(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" }, *const machines[] = {
                "A", "B", "C"
        };
        static const char *const lists[] = { "[\"web\"]", "[\"db\",\"web\"]", "[\"db\",\"db\"]", "[\"Db\"]" };
        unsigned has[3][3] = {}; /* by machine and unit: web 1, db 2 */
        _cleanup_cluster_view_ ClusterView p = {};
        Random random;

        random_seed(&random, 11);
        for (unsigned i = 0; i < 3000; i++) {
                static const unsigned services[] = { 1, 3, 2, 0 };
                size_t m = random_below(&random, 3), u = random_below(&random, 3),
                       list = random_below(&random, 5), n = 0;
                _cleanup_text_ Text web = {}, db = {}, expect_web = {}, expect_db = {}, value = {};
                char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];
                Error err = {};

                layout_key(key, LAYOUT_ENDPOINT, units[u], cluster_view_id(id, machines[m]));
                has[m][u] = list < 4 ? services[list] : 0;
                text_printf(&value, "{\"address\":\"10.0.0.1\",\"services\":%s}",
                            list < 4 ? lists[list] : "");
                if (list < 4)
                        (void) cluster_put(&p.cluster,
                                           &(KvNode) { .key = kv_string(key),
                                                       .value = { value.chars, value.size },
                                                       .modified = ++p.index },
                                           &err);
                else
                        cluster_view_remove(&p, key);
                assert_int_equal(cluster_is_unreadable(&p.cluster, kv_string(key)), list == 3);
                for (m = 0; m < 3; m++)
                        for (u = 0; u < 3; u++) {
                                cluster_view_id(id, machines[m]);
                                assert_int_equal(cluster_endpoint(&p.cluster, id, units[u]) != NULL,
                                                 has[m][u] != 0);
                                n += has[m][u] != 0;
                                if (has[m][u] & 1)
                                        text_printf(&expect_web, " %.1s/%s", id, units[u]);
                                if (has[m][u] & 2)
                                        text_printf(&expect_db, " %.1s/%s", id, units[u]);
                        }
                append_endpoints(&web, &p.cluster, "web");
                append_endpoints(&db, &p.cluster, "db");
                assert_string_equal(text_chars(&web), text_chars(&expect_web));
                assert_string_equal(text_chars(&db), text_chars(&expect_db));
                assert_int_equal(p.cluster.services != NULL, n > 0);
                assert_null(p.cluster.machines);
        }
}

/* They are neither absent nor have their previous value, and nothing else is left after them. */
static void an_unreadable_key_of_the_cluster_is_not_absent(void **state) {
        static const struct {
                LayoutKind kind;
                const char *name;
        } rows[] = {
                { LAYOUT_TOKEN, TOKEN },   { LAYOUT_TOKEN, "no-token" }, { LAYOUT_PRINCIPAL, "alice" },
                { LAYOUT_PRINCIPAL, "-" }, { LAYOUT_LINEAGE, LINEAGE },  { LAYOUT_LINEAGE, "0" },
                { LAYOUT_CA_ROOTS, NULL }, { LAYOUT_CA_KEY, NULL },      { LAYOUT_CA_ROTATION, NULL },
                { LAYOUT_SETTINGS, NULL }, { LAYOUT_DENIED, DIGEST },    { LAYOUT_DENIED, "0" },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_put(&p, "/_fleet/cluster/settings", "{\"name\":\"c\"}");
        assert_string_equal(cluster_settings(&p.cluster)->name, "c");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                cluster_view_unreadable(&p, rows[i].kind, rows[i].name, NULL);
                assert_true(cluster_has_unreadable(&p.cluster, rows[i].kind));
                assert_false(has_of_cluster(&p.cluster, rows[i].kind));
        }
        assert_string_equal(cluster_settings(&p.cluster)->name, "");
        cluster_view_put(&p, "/_fleet/cluster/settings", "{\"name\":\"c\"}");
        assert_false(cluster_has_unreadable(&p.cluster, LAYOUT_SETTINGS));
        cluster_view_remove(&p, "/_fleet/cluster/token");
        assert_false(cluster_has_unreadable(&p.cluster, LAYOUT_TOKEN));
        assert_true(cluster_has_unreadable(&p.cluster, LAYOUT_LINEAGE));
        cluster_view_remove(&p, "/_fleet");
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_false(cluster_has_unreadable(&p.cluster, rows[i].kind));
        assert_true(LIST_EMPTY(&p.cluster.unreadable));
        cluster_view_unreadable(&p, LAYOUT_CA_KEY, NULL, NULL); /* freed with the view */
}

static bool note_pattern(void *userdata, const Pattern *pattern) {
        Text *t = userdata;

        text_printf(t, "%s:%zu ", pattern->text, pattern->n);
        return !streq(pattern->text, "stop*");
}

static bool never_long(void *userdata, const Pattern *pattern) {
        assert_true(strlen(pattern->text) <= PATTERNS_NAME_MAX);
        return true;
}

/* Patterns with another literal prefix are not compared. */
static void the_patterns_that_match_a_name_are_found(void **state) {
        static const char *const patterns[] = {
                "web", "web*", "web?", "we[ab]*", "*b1", "db*", "stop*", "*"
        };
        static const struct {
                const char *name, *found;
                size_t compared;
        } rows[] = {
                { "web", "*:1 we[ab]*:1 web*:1 web:2 ", 6 },
                { "web1", "*:1 *b1:1 we[ab]*:1 web?:1 web*:1 ", 6 },
                { "we", "*:1 ", 3 },
                { "db", "*:1 db*:1 ", 3 },
                { "", "*:1 ", 2 },
                { "stopped", "*:1 stop*:1 ", 3 },
        };
        char longest[PATTERNS_NAME_MAX + 2];
        ClusterUnit u = {}, other = {};
        Patterns p = {};

        for (size_t i = 0; i < ELEMENTS(patterns); i++)
                assert_int_equal(patterns_add(&p, patterns[i], &u), 0);
        assert_int_equal(patterns_add(&p, "web", &other), 0);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text t = {};

                assert_int_equal(patterns_match(&p, rows[i].name, note_pattern, &t), rows[i].compared);
                assert_string_equal(t.chars, rows[i].found);
        }

        /* A pattern whose literal prefix is longer than any name matches none of them. */
        memset(longest, 'x', sizeof(longest));
        longest[PATTERNS_NAME_MAX + 1] = 0;
        assert_int_equal(patterns_add(&p, longest, &u), 0);
        assert_non_null(patterns_find(&p, longest));
        assert_non_null(patterns_find_bytes(&p, longest, PATTERNS_NAME_MAX + 1));
        assert_null(patterns_find_bytes(&p, longest, PATTERNS_NAME_MAX));
        longest[PATTERNS_NAME_MAX] = 0;
        (void) patterns_match(&p, longest, never_long, NULL);
        longest[PATTERNS_NAME_MAX] = 'x';
        assert_int_equal(patterns_remove(&p, longest, &u), 0);
        assert_null(patterns_find(&p, longest));
        longest[PATTERNS_NAME_MAX] = 0;
        assert_int_equal(patterns_add(&p, longest, &u), 0);
        assert_non_null(patterns_find(&p, longest));
        assert_int_equal(patterns_remove(&p, longest, &other), 1); /* it is not among them */
        assert_non_null(patterns_find(&p, longest));
        assert_int_equal(patterns_drain(&p, SIZE_MAX), ELEMENTS(patterns) + 1);
}

static void a_unit_with_surge_instances_has_no_followers(void **state) {
        static const struct {
                const char *name, *text, *message;
        } rows[] = {
                { "web.service", "[X-Fleet]\nMaxSurge=1\n",
                  "MaxSurge=: cache.service follows this unit by MachineOf=" },
                { "web.service", "[X-Fleet]\nMaxSurge=0\n", NULL },
                { "other.service", "[X-Fleet]\nMaxSurge=1\n", NULL },
                { "new.service", "[X-Fleet]\nMachineOf=surging.service\n",
                  "MachineOf=surging.service: that unit has MaxSurge=, and runs on two machines during an "
                  "update" },
                { "new.service", "[X-Fleet]\nMachineOf=web.service\nMachineOf=none.service\n", NULL },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_unit(&p, "web.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "cache.service", "MachineOf=web.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "surging.service", "MaxSurge=25%", TARGET_LAUNCHED);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                Error err = {};

                assert_int_equal(unit_read(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, NULL), 0);
                assert_int_equal(cluster_check_followers(&p.cluster, unit, &(size_t) { 0 }, &err),
                                 rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

static void an_instance_has_replicas_by_its_template_only(void **state) {
        static const struct {
                const char *name, *text, *message;
        } rows[] = {
                { "none@1.service", "[X-Fleet]\nReplicas=3\n",
                  "line 2: Replicas= belongs into a template, as web@.service" },
                { "none@1.service", "[X-Fleet]\nReplicas=\nSpread=zone\n", NULL },
                { "none@.service", "[X-Fleet]\nReplicas=3\n", NULL },
                { "web@1.service", "[X-Fleet]\nReplicas=3\n", NULL }, /* its template is there */
        };
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_unit(&p, "web@.service", "Replicas=2", TARGET_INACTIVE);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                Error err = {};

                assert_int_equal(unit_read(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, NULL), 0);
                assert_int_equal(cluster_check_followers(&p.cluster, unit, &(size_t) { 0 }, &err),
                                 rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

static void a_template_is_checked_with_the_names_of_its_instances(void **state) {
        static const struct {
                const char *option, *message;
        } rows[] = {
                { "HealthTcp=80%i",
                  "web@blue.service: line 2: HealthTcp=80blue: the unit has no tcp port \"80blue\"" },
                { "Port=http:80%i", "web@blue.service: line 2: Port=http:80blue: expected 1 to 65535" },
                { "UpdateWatchSec=%i",
                  "web@blue.service: line 2: UpdateWatchSec=blue: expected a time span" },
                { "HealthHttp=8080/%i", "" },
                { "Description=%i", "" },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_unit(&p, "web@.service", "", TARGET_INACTIVE);
        cluster_view_put(&p, "/_fleet/unit/web@1.service", "{\"from\":\"web@.service\",\"text\":\"\"}");
        cluster_view_put(&p, "/_fleet/unit/web@blue.service", "{\"from\":\"web@.service\",\"text\":\"\"}");
        cluster_view_unit(&p, "web@own.service", "", TARGET_LAUNCHED);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text text = {};
                Error err = {};
                int r;

                text_printf(&text, "[X-Fleet]\n%s\n", rows[i].option);
                assert_int_equal(unit_read("web@.service", text.chars, text.size, &unit, NULL), 0);
                r = cluster_check_followers(&p.cluster, unit, &(size_t) { 0 }, &err);
                assert_int_equal(r, *rows[i].message ? -EINVAL : 0);
                assert_true(starts_with(err.message, rows[i].message));
        }
}

/* The new text is invalid with the drop-ins of the last instance. */
static void the_drop_ins_of_instances_count_among_the_options_that_a_template_is_checked_with(void **state) {
        static const char invalid[] = "[X-Fleet]\\nMaxUnavailable=0\\n", text[] = "[X-Fleet]\nMaxSurge=0\n";
        static const struct {
                const char *line;
                size_t n_lines, n_instances, n_templates;
                int result;
        } rows[] = {
                { "A=b\\n", 1, 10, 1, -EINVAL }, { "A=b\\n", 8000, 2, 1, -EINVAL },
                { "A=b\\n", 8000, 10, 1, 0 },    { "#\\n", 60000, 4, 1, -EINVAL },
                { "#\\n", 60000, 30, 1, 0 },     { "A=b\\n", 8000, 2, 3, 0 }, /* of one request */
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_cluster_view_ ClusterView p = {};
                size_t checked = 0;
                Error err = {};

                cluster_view_unit(&p, "web@.service", "", TARGET_INACTIVE);
                for (size_t k = 1; k <= rows[i].n_instances; k++) {
                        _cleanup_text_ Text own = {}, value = {};
                        size_t escapes = 4; /* their backslashes */
                        char key[64];

                        text_printf(&own, "\\n\\n# web@%02zu.service.d/a.conf\\n[Service]\\n", k);
                        for (size_t n = 0; n < rows[i].n_lines; n++, escapes++)
                                text_append(&own, rows[i].line);
                        if (k == rows[i].n_instances) {
                                text_append(&own, invalid);
                                escapes += 2;
                        }
                        text_printf(&value,
                                    "{\"from\":\"web@.service\",\"own\":%zu,\"text\":\"[S]\\nA=b\\n%s\"}",
                                    own.size - escapes, own.chars);
                        snprintf(key, sizeof(key), "/_fleet/unit/web@%02zu.service", k);
                        cluster_view_put(&p, key, value.chars);
                }
                assert_int_equal(unit_read("web@.service", text, strlen(text), &unit, NULL), 0);
                for (size_t k = 1; k < rows[i].n_templates; k++)
                        assert_int_equal(cluster_check_followers(&p.cluster, unit, &checked, &err), -EINVAL);
                assert_int_equal(cluster_check_followers(&p.cluster, unit, &checked, &err), rows[i].result);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_instance_has_replicas_by_its_template_only),
                cmocka_unit_test(a_template_is_checked_with_the_names_of_its_instances),
                cmocka_unit_test(
                        the_drop_ins_of_instances_count_among_the_options_that_a_template_is_checked_with),
                cmocka_unit_test(a_unit_with_surge_instances_has_no_followers),
                cmocka_unit_test(a_member_is_read_completely_or_rejected),
                cmocka_unit_test(metadata_and_the_lineage_are_read_within_their_bounds),
                cmocka_unit_test(a_service_has_its_endpoints_sorted_by_machine_and_unit_after_any_changes),
                cmocka_unit_test(each_key_is_added_and_removed_alone_or_with_its_directory),
                cmocka_unit_test(an_unreadable_key_of_the_cluster_is_not_absent),
                cmocka_unit_test(the_patterns_that_match_a_name_are_found),
                cmocka_unit_test(a_view_has_the_objects_of_its_keys),
                cmocka_unit_test(metadata_set_by_people_overrides_that_of_the_machine),
                cmocka_unit_test(the_metadata_of_a_restricted_host_are_those_of_people),
                cmocka_unit_test(a_restricted_host_takes_no_name_or_address_of_another_machine),
                cmocka_unit_test(machines_that_state_the_same_are_compared_only_when_the_order_may_change),
                cmocka_unit_test(an_entry_is_dropped_with_its_last_key),
                cmocka_unit_test(removing_a_directory_removes_all_below_it),
                cmocka_unit_test(a_value_that_does_not_parse_is_neither_the_previous_one_nor_absent),
                cmocka_unit_test(a_machine_whose_address_another_one_has_is_replaced),
                cmocka_unit_test(machines_are_counted_by_name_while_they_change_it),
                cmocka_unit_test(of_machines_with_one_name_the_replaced_one_is_named_with_its_id),
                cmocka_unit_test(an_unreadable_key_of_a_machine_is_not_absent),
                cmocka_unit_test(a_unit_waits_until_a_machine_that_is_up_has_it),
                cmocka_unit_test(current_states_follow_assignment_and_report),
                cmocka_unit_test(counts_and_lists_match_the_keys_after_any_changes),
                cmocka_unit_test(a_removal_compares_only_the_units_of_its_pattern),
                cmocka_unit_test(patterns_are_drained_with_all_their_units),
                cmocka_unit_test(long_comparisons_are_more_work),
                cmocka_unit_test(a_view_with_large_texts_is_released_in_parts),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
