#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/slice.h"
#include "tests/lib/cluster_view.h"

#define D16 "0123456789abcdef"

enum { MACHINES = 5, KEYS_MAX = 400 };

static const char *const machine_names[MACHINES] = { "A", "B", "C", "D", "E" };
static const char *const unit_names[] = { "a.service", "b.service", "c@1.service", "d.socket", "d@.service" };

/* A key that exists, and the index of its last change. */
typedef struct Key {
        LayoutKey key;
        uint64_t modified;
} Key;

typedef struct Keys {
        Key items[KEYS_MAX];
        size_t n;
} Keys;

static Key *keys_find(Keys *keys, const LayoutKey *k) {
        for (size_t i = 0; i < keys->n; i++)
                if (keys->items[i].key.kind == k->kind && streq(keys->items[i].key.unit, k->unit) &&
                    streq(keys->items[i].key.machine, k->machine))
                        return &keys->items[i];
        return NULL;
}

static void keys_set(Keys *keys, const LayoutKey *k, uint64_t modified) {
        Key *found = keys_find(keys, k);

        assert_true(keys->n < KEYS_MAX);
        if (!found)
                found = &keys->items[keys->n++];
        *found = (Key) { *k, modified };
}

static void keys_drop(Keys *keys, const LayoutKey *k) {
        Key *found = keys_find(keys, k);

        if (found)
                *found = keys->items[--keys->n];
}

/* A cluster view, all keys, and what each machine has received. */
typedef struct World {
        ClusterView view;
        Keys tree;
        Keys received[MACHINES];
} World;

static void receive(World *w, size_t machine, const LayoutKey *k) {
        char id[MACHINE_ID_SIZE];
        const Key *key = keys_find(&w->tree, k);

        if (key && slice_has(&w->view.cluster, cluster_view_id(id, machine_names[machine]), k))
                keys_set(&w->received[machine], k, key->modified);
        else
                keys_drop(&w->received[machine], k);
}

static void on_touched(void *userdata, const char *machine, const LayoutKey *k) {
        World *w = userdata;
        char id[MACHINE_ID_SIZE];

        for (size_t i = 0; i < MACHINES; i++)
                if (!machine || streq(machine, cluster_view_id(id, machine_names[i])))
                        receive(w, i, k);
}

static int collect(void *userdata, const LayoutKey *k) {
        Keys *keys = userdata;

        keys_set(keys, k, 0);
        return 0;
}

static void assert_slices(World *w) {
        static Keys listed;
        char id[MACHINE_ID_SIZE], name[LAYOUT_KEY_MAX];

        for (size_t m = 0; m < MACHINES; m++) {
                size_t n = 0;

                cluster_view_id(id, machine_names[m]);
                listed.n = 0;
                assert_int_equal(slice_each(&w->view.cluster, id, collect, &listed), 0);
                for (size_t i = 0; i < w->tree.n; i++) {
                        const Key *key = &w->tree.items[i];
                        bool has = slice_has(&w->view.cluster, id, &key->key);
                        const Key *received = keys_find(&w->received[m], &key->key);

                        layout_key(name, key->key.kind, key->key.unit, key->key.machine);
                        n += has;
                        if (has != (received != NULL) || (has && received->modified != key->modified))
                                fail_msg("%s at index %llu: %s%s", id, (unsigned long long) w->view.index,
                                         has ? "not received: " : "not dropped: ", name);
                        /* The cluster view keeps no unreadable state: the host publishes it again. */
                        if (!(key->key.kind == LAYOUT_STATE &&
                              cluster_is_unreadable(&w->view.cluster, kv_string(name))) &&
                            has != (keys_find(&listed, &key->key) != NULL))
                                fail_msg("%s", name);
                }
                assert_int_equal(w->received[m].n, n);
        }
}

/* The owner of the unit, as registry.c determines it. */
static void owner_of(const World *w, const char *unit, char ret[static MACHINE_ID_SIZE]) {
        const ClusterUnit *u = cluster_any_unit(&w->view.cluster, unit);

        snprintf(ret, MACHINE_ID_SIZE, "%s", u && u->owner ? u->owner->machine : "");
}

static void change(World *w, const LayoutKey *k, const Text *value) {
        char key[LAYOUT_KEY_MAX], before[MACHINE_ID_SIZE], after[MACHINE_ID_SIZE];
        unsigned groups = slice_groups(&w->view.cluster, k->machine);
        RegistryChange c;
        Error err = {};

        owner_of(w, k->unit, before);
        layout_key(key, k->kind, k->unit, k->machine);
        w->view.index++;
        if (value) {
                (void) cluster_put(&w->view.cluster,
                                   &(KvNode) { .key = kv_string(key),
                                               .value = { value->chars, value->size },
                                               .created = w->view.index,
                                               .modified = w->view.index },
                                   &err);
                keys_set(&w->tree, k, w->view.index);
        } else {
                assert_true(cluster_remove(&w->view.cluster, kv_string(key)) >= 0);
                keys_drop(&w->tree, k);
        }
        owner_of(w, k->unit, after);
        c = kinds_change(k, w->view.index, !value);
        if (before[0] && !streq(before, after))
                c.former_owner = before;
        c.groups = groups;
        slice_route(&w->view.cluster, &c, on_touched, w);
}

static void write_value(Text *t, const LayoutKey *k, Random *random) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_machine_ Machine facts = {};
        static const char text[] = "[Service]\nExecStart=/bin/true\n";
        char id[MACHINE_ID_SIZE];
        Error err = {};

        if (random_below(random, 10) == 0) { /* of a later version */
                text_append(t, "{\x01");
                return;
        }
        switch (k->kind) {
        case LAYOUT_UNIT:
                assert_true(unit_parse(k->unit, text, sizeof(text) - 1, &unit, &err) >= 0);
                if (random_below(random, 2))
                        assert_int_equal(
                                unit_set_owner(
                                        unit,
                                        cluster_view_id(id, machine_names[random_below(random, MACHINES)]),
                                        "/etc/fleet/units/x"),
                                0);
                stored_unit_write(t, unit);
                break;
        case LAYOUT_TARGET:
                text_append(t, "launched");
                break;
        case LAYOUT_PRESENCE:
                stored_presence_write(t, &(PresenceRecord) { .presence = PRESENCE_UP });
                break;
        case LAYOUT_FACTS:
                memcpy(facts.id, k->machine, sizeof(facts.id));
                facts.users = random_below(random, 2);
                stored_facts_write(t, &facts);
                break;
        case LAYOUT_ASSIGNMENT:
                stored_assignment_write(t,
                                        &(Assignment) { .kind = (AssignmentKind) random_below(random, 3) });
                break;
        case LAYOUT_STATE:
                stored_state_write(t, &(UnitState) {});
                break;
        case LAYOUT_MEMBER:
                stored_member_write(t, &(MemberRecord) { .raft_id = 1 + random_below(random, 9) });
                break;
        case LAYOUT_HOST:
                stored_host_write(
                        t, &(HostRecord) { .pins = { .n = 1 }, .restricted = random_below(random, 2) });
                break;
        case LAYOUT_ENDPOINT:
                text_append(t, "{\"address\":\"10.0.0.1\",\"services\":[\"web\"]}");
                break;
        case LAYOUT_PRINCIPAL:
                stored_principal_write(t, &(PrincipalRecord) { .expires_ms = 1 });
                break;
        default:
                text_append(t, "1");
        }
}

static LayoutKey random_key(Random *random) {
        static const LayoutKind drawn[] = {
                LAYOUT_UNIT,       LAYOUT_UNIT,  LAYOUT_TARGET,   LAYOUT_ASSIGNMENT, LAYOUT_ASSIGNMENT,
                LAYOUT_ASSIGNMENT, LAYOUT_STATE, LAYOUT_MEMBER,   LAYOUT_HOST,       LAYOUT_FACTS,
                LAYOUT_PRESENCE,   LAYOUT_TOKEN, LAYOUT_CA_KEY,   LAYOUT_CLUSTER,    LAYOUT_METADATA,
                LAYOUT_PRINCIPAL,  LAYOUT_FACTS, LAYOUT_ENDPOINT, LAYOUT_ENDPOINT,
        };
        static const char *const clusters[] = { "adopting", "level", "next-raft-id" }, *const users[] = {
                "ann", "bob", "carol"
        };
        LayoutKey k = { .kind = drawn[random_below(random, ELEMENTS(drawn))] };
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];
        const char *name = k.kind == LAYOUT_CLUSTER ? clusters[random_below(random, ELEMENTS(clusters))] :
                                                      unit_names[random_below(random, ELEMENTS(unit_names))];

        if (k.kind == LAYOUT_PRINCIPAL)
                name = users[random_below(random, ELEMENTS(users))];
        layout_key(key, k.kind, name, cluster_view_id(id, machine_names[random_below(random, MACHINES)]));
        assert_true(layout_parse(kv_string(key), &k));
        return k;
}

/* After each change, each machine has received exactly the keys of its slice, at their last index; and the
 * enumeration for a new subscription has the same keys. */
static void routed_changes_give_the_slice_that_a_new_subscription_reads(void **state) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
                _cleanup_free_ World *w = NEW0(World, 1);
                Random random;

                random_seed(&random, seed);
                assert_non_null(w);
                for (size_t i = 0; i < 300; i++) {
                        _cleanup_text_ Text value = {};
                        LayoutKey k = random_key(&random);
                        bool remove = random_below(&random, 3) == 0;

                        write_value(&value, &k, &random);
                        change(w, &k, remove ? NULL : &value);
                        assert_slices(w);
                }
                cluster_view_free(&w->view);
        }
}

static void no_slice_has_tokens_rights_or_the_key_of_the_ca(void **state) {
        static const LayoutKind secret[] = { LAYOUT_TOKEN, LAYOUT_PRINCIPAL, LAYOUT_CA_KEY,
                                             LAYOUT_CA_ROTATION };
        _cleanup_cluster_view_ ClusterView v = {};
        char id[MACHINE_ID_SIZE];

        cluster_view_machine(&v, "A", "", PRESENCE_UP);
        cluster_view_id(id, "A");
        for (size_t i = 0; i < ELEMENTS(secret); i++)
                assert_false(slice_has(&v.cluster, id, &(LayoutKey) { .kind = secret[i], .unit = "x" }));
        assert_false(
                slice_has(&v.cluster, id, &(LayoutKey) { .kind = LAYOUT_CLUSTER, .unit = "next-raft-id" }));
        assert_false(slice_has(&v.cluster, id, &(LayoutKey) { .kind = _LAYOUT_OTHER }));
}

static void a_machine_receives_a_unit_with_its_assignment_and_not_before(void **state) {
        const LayoutKey text = { .kind = LAYOUT_UNIT, .unit = "a.service" },
                        template = { .kind = LAYOUT_UNIT, .unit = "a@.service" };
        _cleanup_cluster_view_ ClusterView v = {};
        char a[MACHINE_ID_SIZE], b[MACHINE_ID_SIZE];

        cluster_view_machine(&v, "A", "", PRESENCE_UP);
        cluster_view_machine(&v, "B", "", PRESENCE_UP);
        cluster_view_unit(&v, "a.service", "", TARGET_LAUNCHED);
        cluster_view_id(a, "A");
        cluster_view_id(b, "B");
        assert_false(slice_has(&v.cluster, a, &text));
        cluster_view_assign(&v, "A", "a.service", ASSIGNMENT_RUN);
        assert_true(slice_has(&v.cluster, a, &text));
        assert_false(slice_has(&v.cluster, b, &text));
        assert_false(slice_has(&v.cluster, a, &template));
        cluster_view_assign(&v, "A", "a.socket", ASSIGNMENT_RUN); /* it may start instances */
        assert_true(slice_has(&v.cluster, a, &template));
        assert_false(slice_has(&v.cluster, b, &template));
}

/* By ListenTLS=, which a restricted host could set, too. */
static void a_machine_that_accepts_users_receives_them_unless_it_is_restricted(void **state) {
        const LayoutKey user = { .kind = LAYOUT_PRINCIPAL, .unit = "ann" };
        char a[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
        _cleanup_cluster_view_ ClusterView v = {};

        cluster_view_machine(&v, "A", "", PRESENCE_UP);
        cluster_view_id(a, "A");
        layout_key(key, LAYOUT_FACTS, NULL, a);
        assert_false(slice_has(&v.cluster, a, &user));
        cluster_view_put(&v, key, "{\"users\":true}");
        assert_true(slice_has(&v.cluster, a, &user));
        layout_key(key, LAYOUT_HOST, NULL, a);
        cluster_view_put(&v, key, "{\"joined\":1,\"pins\":[\"" D16 D16 D16 D16 "\"],\"restricted\":true}");
        assert_false(slice_has(&v.cluster, a, &user));
}

static void count_touched(void *userdata, const char *machine, const LayoutKey *k) {
        size_t *n = userdata;

        n[0]++;
        n[1] += !machine;
}

/* A change that concerns a host without the key reveals its name to that host. */
static void a_restricted_host_receives_its_own_endpoints_and_no_name_of_another_one(void **state) {
        LayoutKey own = { .kind = LAYOUT_ENDPOINT, .unit = "a.service" },
                  other = { .kind = LAYOUT_ENDPOINT, .unit = "b.service" };
        const RegistryChange changed = { .kind = CHANGED_ENDPOINT, .key = &other };
        _cleanup_cluster_view_ ClusterView v = {};
        char key[LAYOUT_KEY_MAX];
        size_t touched[2] = {};

        cluster_view_machine(&v, "A", "", PRESENCE_UP);
        cluster_view_machine(&v, "B", "", PRESENCE_UP);
        cluster_view_machine(&v, "C", "", PRESENCE_UP);
        cluster_view_id(own.machine, "A");
        cluster_view_id(other.machine, "B");
        assert_true(slice_has(&v.cluster, own.machine, &other));
        slice_route(&v.cluster, &changed, count_touched, touched);
        assert_int_equal(touched[1], 1); /* each host */
        layout_key(key, LAYOUT_HOST, NULL, own.machine);
        cluster_view_put(&v, key, "{\"joined\":1,\"pins\":[\"" D16 D16 D16 D16 "\"],\"restricted\":true}");
        assert_false(slice_has(&v.cluster, own.machine, &other));
        assert_true(slice_has(&v.cluster, own.machine, &own));
        assert_true(slice_has(&v.cluster, other.machine, &own));
        memset(touched, 0, sizeof(touched));
        slice_route(&v.cluster, &changed, count_touched, touched);
        assert_int_equal(touched[1], 0);
        assert_int_equal(touched[0], 2); /* B and C */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(routed_changes_give_the_slice_that_a_new_subscription_reads),
                cmocka_unit_test(a_restricted_host_receives_its_own_endpoints_and_no_name_of_another_one),
                cmocka_unit_test(no_slice_has_tokens_rights_or_the_key_of_the_ca),
                cmocka_unit_test(a_machine_that_accepts_users_receives_them_unless_it_is_restricted),
                cmocka_unit_test(a_machine_receives_a_unit_with_its_assignment_and_not_before),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
