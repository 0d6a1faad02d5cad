/* Transactions as clients send them: what is understood, and what is said of each mistake, with its place. */

#include "tests/lib/test.h"
#include "fleetd/api/kv_v1_txn.h"

static int decode(const char *json, Arena *arena, KvCommand *ret, char at[static 32], Error *err) {
        return kv_txn_decode(json, strlen(json), arena, ret, at, err);
}

static void every_check_and_write_is_understood(void **state) {
        static const char json[] =
                "{\"checks\":[{\"key\":\"/a\",\"exists\":true},{\"key\":\"/b\",\"exists\":false},{\"key\":\"/"
                "c\",\"modifiedIndex\":17},"
                "{\"key\":\"/d\",\"value\":\"x\"},{\"key64\":\"L/8=\",\"value64\":\"AP8=\"}],"
                "\"writes\":[{\"action\":\"set\",\"key\":\"/"
                "a\",\"value\":\"b\",\"ttl\":60},{\"action\":\"create\",\"key\":\"/d\",\"dir\":true},"
                "{\"action\":\"update\",\"key\":\"/"
                "a\",\"refresh\":true,\"ttl\":5},{\"action\":\"delete\",\"key\":\"/d\",\"recursive\":true},"
                "{\"action\":\"set\",\"key64\":\"L/8=\",\"value64\":\"AP8=\"}]}";
        _cleanup_arena_ Arena arena = {};
        char at[32];
        Error err = {};
        KvCommand c;

        if (decode(json, &arena, &c, at, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(c.op, KV_TXN);
        assert_int_equal(c.n_checks, 5);
        assert_int_equal(c.checks[0].kind, KV_CHECK_EXISTS);
        assert_int_equal(c.checks[1].kind, KV_CHECK_ABSENT);
        assert_int_equal(c.checks[2].kind, KV_CHECK_MODIFIED);
        assert_int_equal(c.checks[2].index, 17);
        assert_int_equal(c.checks[3].kind, KV_CHECK_VALUE);
        assert_true(kv_bytes_equal(c.checks[4].key, (KvBytes) { "/\xff", 2 }));
        assert_true(kv_bytes_equal(c.checks[4].value, (KvBytes) { "\0\xff", 2 }));
        assert_int_equal(c.n_writes, 5);
        assert_true(c.writes[0].op == KV_SET && c.writes[0].ttl_ms == 60000 &&
                    kv_bytes_equal(c.writes[0].value, kv_string("b")));
        assert_true(c.writes[1].op == KV_CREATE && c.writes[1].dir && !c.writes[1].has_ttl);
        assert_true(c.writes[2].op == KV_UPDATE && c.writes[2].refresh && c.writes[2].ttl_ms == 5000);
        assert_true(c.writes[3].op == KV_DELETE && c.writes[3].recursive);
        assert_true(kv_bytes_equal(c.writes[4].value, (KvBytes) { "\0\xff", 2 }));
        assert_false(c.internal || c.writes[0].internal);
}

static void each_mistake_is_named_with_its_place(void **state) {
        static const struct {
                const char *json, *at, *message;
        } cases[] = {
                { "", "", "line 1" },
                { "[]", "", "expected an object" },
                { "{}", "", "nothing to check" },
                { "{\"checks\":{}}", "", "checks: expected an array" },
                { "{\"writes\":[],\"extra\":1}", "", "extra: there is no such member" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"value\":\"\\u0000\"}]}", "", "value64" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"value\":\"\xff\"}]}", "", "value64" },
                { "{\"checks\":[{\"key\":\"/a\",\"exists\":true},7]}", "checks[1]", "expected an object" },
                { "{\"checks\":[{\"exists\":true}]}", "checks[0]", "key is missing" },
                { "{\"checks\":[{\"key\":\"/a\"}]}", "checks[0]", "exactly one of exists" },
                { "{\"checks\":[{\"key\":\"/a\",\"exists\":true,\"value\":\"x\"}]}", "checks[0]",
                  "exactly one of exists" },
                { "{\"checks\":[{\"key\":\"/a\",\"exists\":\"yes\"}]}", "checks[0]",
                  "exists: expected true or false" },
                { "{\"checks\":[{\"key\":\"/a\",\"exists\":null}]}", "checks[0]",
                  "exists: expected a value, not null" },
                { "{\"checks\":[{\"key\":\"/a\",\"modifiedIndex\":-1}]}", "checks[0]",
                  "modifiedIndex: expected a whole number" },
                { "{\"checks\":[{\"key\":\"/a\",\"modifiedIndex\":0}]}", "checks[0]",
                  "write \"exists\": false" },
                { "{\"checks\":[{\"key\":\"/a\",\"value\":\"x\",\"value64\":\"eA==\"}]}", "checks[0]",
                  "value and value64 exclude each other" },
                { "{\"checks\":[{\"key\":\"/a\",\"value64\":\"x\"}]}", "checks[0]",
                  "value64: expected base64" },
                { "{\"checks\":[{\"key\":\"a\",\"exists\":true}]}", "checks[0]",
                  "key: a key begins with '/'" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a/\"}]}", "writes[0]", "'/' at its end" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a/../b\"}]}", "writes[0]", "'.' and '..'" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/_fleet/a\"}]}", "writes[0]",
                  "/_fleet is fleet's own" },
                { "{\"checks\":[{\"key\":\"/_fleet\",\"exists\":true}]}", "checks[0]",
                  "/_fleet is fleet's own" },
                { "{\"writes\":[{\"key\":\"/a\"}]}", "writes[0]",
                  "action: expected set, create, update or delete" },
                { "{\"writes\":[{\"action\":\"post\",\"key\":\"/a\"}]}", "writes[0]",
                  "action: expected set" },
                { "{\"writes\":[{\"action\":7,\"key\":\"/a\"}]}", "writes[0]", "action: expected a string" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"tll\":1}]}", "writes[0]",
                  "tll: there is no such member" },
                { "{\"writes\":[{\"action\":\"delete\",\"key\":\"/a\",\"ttl\":1}]}", "writes[0]",
                  "ttl: a delete has none" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"recursive\":true}]}", "writes[0]",
                  "recursive: a set has none" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"dir\":true,\"value\":\"x\"}]}",
                  "writes[0]", "a directory has none" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/"
                  "a\",\"refresh\":true,\"ttl\":1,\"value\":\"x\"}]}",
                  "writes[0]", "a refresh leaves it" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"refresh\":true}]}", "writes[0]",
                  "ttl is missing" },
                { "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"ttl\":1.5}]}", "writes[0]",
                  "ttl: expected a whole number" },
                { "{\"writes\":[{\"action\":\"set\",\"action\":\"set\",\"key\":\"/a\"}]}", "", "duplicate" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_arena_ Arena arena = {};
                char at[32];
                Error err = {};
                KvCommand c;

                if (decode(cases[i].json, &arena, &c, at, &err) >= 0)
                        fail_msg("taken: %s", cases[i].json);
                if (!streq(at, cases[i].at) || !strstr(err.message, cases[i].message))
                        fail_msg("%s: at \"%s\": %s", cases[i].json, at, err.message);
        }
}

static void a_transaction_is_bounded_in_items_and_bytes(void **state) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_text_ Text t = {};
        char at[32];
        Error err = {};
        KvCommand c;

        text_append(&t, "{\"checks\":[");
        for (unsigned i = 0; i < KV_TXN_ITEMS_MAX; i++)
                text_printf(&t, "%s{\"key\":\"/a\",\"exists\":true}", i > 0 ? "," : "");
        text_append(&t, "]");
        assert_int_equal(t.error, 0);
        text_append(&t, "}");
        assert_int_equal(decode(t.chars, &arena, &c, at, &err), 0);
        t.chars[t.size - 1] = ',';
        text_append(&t, "\"writes\":[{\"action\":\"delete\",\"key\":\"/a\"}]}");
        assert_int_equal(decode(t.chars, &arena, &c, at, &err), -E2BIG);
        assert_non_null(strstr(err.message, "at most 4096 checks and writes"));

        text_clear(&t);
        text_append(&t, "{\"writes\":[{\"action\":\"set\",\"key\":\"/a\",\"value\":\"");
        for (unsigned i = 0; i <= KV_VALUE_MAX; i++)
                text_append_char(&t, 'x');
        text_append(&t, "\"}]}");
        assert_int_equal(decode(t.chars, &arena, &c, at, &err), -E2BIG);
        assert_string_equal(at, "writes[0]");
}

static void a_key_stands_exactly_as_it_is_in_the_tree(void **state) {
        static const char *const good[] = { "/", "/a", "/a/b", "/...", "/a b", "/\xff", "/_x" };
        static const char *const bad[] = { "", "a", "//", "/a/", "/a//b", "/.", "/..", "/a/./b", "/a/.." };
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_int_equal(kv_key_check(kv_string(good[i]), &err), 0);
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(kv_key_check(kv_string(bad[i]), &err), -EINVAL);
        assert_int_equal(kv_key_check((KvBytes) { "/a\0b", 4 }, &err), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_check_and_write_is_understood),
                cmocka_unit_test(each_mistake_is_named_with_its_place),
                cmocka_unit_test(a_transaction_is_bounded_in_items_and_bytes),
                cmocka_unit_test(a_key_stands_exactly_as_it_is_in_the_tree),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
