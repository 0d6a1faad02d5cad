#include "tests/lib/test.h"
#include "fleetd/registry/kinds.h"

static const char id[] = "0123456789abcdef0123456789abcdef";

static void a_key_that_was_built_is_parsed_again(void **state) {
        static const struct {
                LayoutKind kind;
                const char *key;
                bool unit, machine;
        } keys[] = {
                { LAYOUT_UNIT, "/_fleet/unit/web@1.service", true, false },
                { LAYOUT_TARGET, "/_fleet/target/web@1.service", true, false },
                { LAYOUT_REVISION, "/_fleet/revision/web@1.service/7", true, true },
                { LAYOUT_ROLLOUT, "/_fleet/rollout/web@1.service", true, false },
                { LAYOUT_MOVE, "/_fleet/move/web@1.service", true, false },
                { LAYOUT_DATA, "/_fleet/data/web@1.service", true, false },
                { LAYOUT_REPLICAS, "/_fleet/replicas/web@1.service", true, false },
                { LAYOUT_INPUTS, "/_fleet/inputs/web@1.service", true, false },
                { LAYOUT_SECRET, "/_fleet/secret/web@1.service", true, false },
                { LAYOUT_FACTS, "/_fleet/machine/0123456789abcdef0123456789abcdef/facts", false, true },
                { LAYOUT_PRESENCE, "/_fleet/machine/0123456789abcdef0123456789abcdef/presence", false, true },
                { LAYOUT_REPORTED, "/_fleet/machine/0123456789abcdef0123456789abcdef/reported", false, true },
                { LAYOUT_METADATA, "/_fleet/machine/0123456789abcdef0123456789abcdef/metadata/web@1.service",
                  true, true },
                { LAYOUT_ASSIGNMENT, "/_fleet/machine/0123456789abcdef0123456789abcdef/unit/web@1.service",
                  true, true },
                { LAYOUT_STATE, "/_fleet/state/web@1.service/0123456789abcdef0123456789abcdef", true, true },
                { LAYOUT_ENDPOINT, "/_fleet/endpoint/web@1.service/0123456789abcdef0123456789abcdef", true,
                  true },
                { LAYOUT_CLUSTER, "/_fleet/cluster/web@1.service", true, false },
                { LAYOUT_PROBLEM, "/_fleet/machine/0123456789abcdef0123456789abcdef/problem/web@1.service",
                  true, true },
                { LAYOUT_MEMBER, "/_fleet/cluster/member/0123456789abcdef0123456789abcdef", false, true },
                { LAYOUT_MAINTENANCE, "/_fleet/machine/0123456789abcdef0123456789abcdef/maintenance", false,
                  true },
                { LAYOUT_REBOOT, "/_fleet/machine/0123456789abcdef0123456789abcdef/reboot", false, true },
                { LAYOUT_HOST, "/_fleet/cluster/host/0123456789abcdef0123456789abcdef", false, true },
                { LAYOUT_REMOVED, "/_fleet/cluster/removed/0123456789abcdef0123456789abcdef", false, true },
                { LAYOUT_DENIED, "/_fleet/cluster/denied/web@1.service", true, false },
                { LAYOUT_TOKEN, "/_fleet/cluster/token/web@1.service", true, false },
                { LAYOUT_PRINCIPAL, "/_fleet/cluster/principal/web@1.service", true, false },
                { LAYOUT_LINEAGE, "/_fleet/cluster/lineage/web@1.service", true, false },
                { LAYOUT_CA_ROOTS, "/_fleet/cluster/ca/roots", false, false },
                { LAYOUT_CA_KEY, "/_fleet/cluster/ca/key", false, false },
                { LAYOUT_CA_ROTATION, "/_fleet/cluster/ca/rotation", false, false },
                { LAYOUT_SETTINGS, "/_fleet/cluster/settings", false, false },
        };

        assert_int_equal(ELEMENTS(keys), _LAYOUT_MAX);
        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                const char *machine = keys[i].kind == LAYOUT_REVISION ? "7" : id;
                char key[LAYOUT_KEY_MAX];
                LayoutKey k;

                assert_string_equal(layout_key(key, keys[i].kind, "web@1.service", machine), keys[i].key);
                assert_true(layout_parse(kv_string(key), &k));
                assert_int_equal(k.kind, keys[i].kind);
                assert_string_equal(k.unit, keys[i].unit ? "web@1.service" : "");
                assert_string_equal(k.machine, keys[i].machine ? machine : "");
        }
}

static void keys_of_no_kind_are_skipped(void **state) {
        static const char *const keys[] = {
                "/",
                "/_fleet",
                "/_fleet/",
                "/_fleet/unit",
                "/_fleet/unit/",
                "/_fleet/unit/a/b",
                "/_fleetx/unit/a.service",
                "/unit/a.service",
                "/_fleet/machine/0123/facts",
                "/_fleet/machine/0123456789ABCDEF0123456789abcdef/facts",
                "/_fleet/machine/0123456789abcdef0123456789abcdef/other",
                "/_fleet/machine/0123456789abcdef0123456789abcdef/unit",
                "/_fleet/machine/0123456789abcdef0123456789abcdef/unit/a/b",
                "/_fleet/revision/a.service",
                "/_fleet/revision/a.service/",
                "/_fleet/revision/a.service/0",
                "/_fleet/revision/a.service/07",
                "/_fleet/revision/a.service/7x",
                "/_fleet/revision/a.service/-7",
                "/_fleet/revision/a.service/9223372036854775808",
                "/_fleet/revision/a.service/7/x",
                "/_fleet/state/a.service",
                "/_fleet/state/a.service/x",
                "/_fleet/cluster/member",
                "/_fleet/cluster/ca",
                "/_fleet/cluster/ca/other",
                "/_fleet/cluster/host",
                "/_fleet/cluster/host/0123",
                "/_fleet/cluster/lineage",
                "/_fleet/cluster/principal",
                "/_fleet/cluster/removed",
                "/_fleet/cluster/token",
                "/_fleet/cluster/token/",
                "/_fleet/cluster/settings/a",
                "/_fleet/other/a.service",
                "/_fleet/a/b/c/d/e/f/g",
        };
        char name[300] = "/_fleet/unit/";
        LayoutKey k;

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                if (layout_parse(kv_string(keys[i]), &k))
                        fail_msg("%s has a kind", keys[i]);
                assert_int_equal(k.kind, _LAYOUT_OTHER);
        }

        memset(name + 13, 'a', 256);
        assert_false(layout_parse(kv_string(name), &k));
        name[13 + 255] = 0;
        assert_true(layout_parse(kv_string(name), &k));
        assert_false(layout_parse((KvBytes) { "/_fleet/unit/a\0b", 16 }, &k));
}

static void a_descriptor_that_is_incomplete_or_has_the_path_of_another_is_named(void **state) {
        const Kind no_slice = { .path = "machine/%m/reboot",
                                .event = "reboot",
                                .change = CHANGED_MACHINE,
                                .of = OF_MACHINE,
                                .level = 1 };
        const Kind *table[_LAYOUT_MAX];
        Kind same_path = kind_reboot;
        Error err = {};

        assert_int_equal(kinds_check(kinds, &err), 0);
        memcpy(table, kinds, sizeof(table));
        table[LAYOUT_REBOOT] = &(Kind) {};
        assert_int_equal(kinds_check(table, &err), -EINVAL);
        assert_string_equal(err.message, "the kind of key 'reboot' has no valid path");
        table[LAYOUT_REBOOT] = &no_slice;
        assert_int_equal(kinds_check(table, &err), -EINVAL);
        assert_string_equal(err.message, "the kind of key 'reboot' has no valid slice");
        same_path.path = kind_facts.path;
        table[LAYOUT_REBOOT] = &same_path;
        assert_int_equal(kinds_check(table, &err), -EINVAL);
        assert_string_equal(err.message, "the kinds of keys 'facts' and 'reboot' have one path");
        table[LAYOUT_REBOOT] = &kind_move; /* of a unit */
        assert_int_equal(kinds_check(table, &err), -EINVAL);
        assert_string_equal(err.message, "the kind of key 'reboot' has no valid of");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_descriptor_that_is_incomplete_or_has_the_path_of_another_is_named),
                cmocka_unit_test(a_key_that_was_built_is_parsed_again),
                cmocka_unit_test(keys_of_no_kind_are_skipped),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
