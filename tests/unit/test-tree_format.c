/* The bytes of the tree's records and of its events, and their hashes: other versions read them, and replicas
 * compare them. */

#include "tests/lib/test.h"
#include "kvstore/apply/events.h"
#include "kvstore/tree/format.h"

/* The bytes that 'text' says in hexadecimal digits; blanks mean nothing. */
static size_t bytes_of(const char *text, uint8_t *ret) {
        size_t n = 0;
        unsigned v;

        for (; *text; text++)
                if (*text != ' ') {
                        assert_int_equal(sscanf(text++, "%2x", &v), 1);
                        ret[n++] = v;
                }
        return n;
}

static void assert_bytes(const void *bytes, size_t size, const char *expected) {
        uint8_t given[512];

        assert_int_equal(size, bytes_of(expected, given));
        assert_memory_equal(bytes, given, size);
}

/* -- Keys -- */

static void paths_have_these_keys(void **state) {
        static const struct {
                KvBytes path;
                const char *key;
        } cases[] = {
                { { "/", 1 }, "" },
                { { "/a", 2 }, "61" },
                { { "/a/bc", 5 }, "61 00 6263" },
                { { "/\0\1\2", 4 }, "0101 0102 02" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint8_t key[TREE_KEY_LONG];

                assert_bytes(key, tree_key(cases[i].path, key), cases[i].key);
        }
}

static void a_key_is_cut_where_it_would_be_longer_than_480_bytes(void **state) {
        char path[600];
        uint8_t key[TREE_KEY_LONG], other[TREE_KEY_LONG];

        memset(path, 'k', sizeof(path));
        path[0] = '/';
        assert_int_equal(tree_key((KvBytes) { path, TREE_KEY_CUT + 1 }, key), TREE_KEY_CUT);
        assert_int_equal(tree_key((KvBytes) { path, TREE_KEY_CUT + 2 }, key), TREE_KEY_LONG);
        assert_memory_equal(key, path + 1, TREE_KEY_CUT);
        assert_bytes(key + TREE_KEY_CUT, 16, "9989f55274f85d65 2e3796f62f533dba");
        path[TREE_KEY_CUT + 1] = 'l';
        assert_int_equal(tree_key((KvBytes) { path, TREE_KEY_CUT + 2 }, other), TREE_KEY_LONG);
        assert_memory_equal(key, other, TREE_KEY_CUT);
        assert_memory_not_equal(key + TREE_KEY_CUT, other + TREE_KEY_CUT, 16);
        path[TREE_KEY_CUT] = 1; /* of its two bytes one would fit */
        assert_int_equal(tree_key((KvBytes) { path, TREE_KEY_CUT + 1 }, key), TREE_KEY_LONG);
        assert_int_equal(key[TREE_KEY_CUT - 1], 1);
}

static void what_is_below_a_path_begins_with_its_key_and_a_zero(void **state) {
        char path[600];
        TreeRange range = tree_range_below(kv_string("/a"));

        assert_false(range.mixed);
        assert_bytes(range.prefix, range.size, "61 00");
        assert_true(tree_range_holds(&range, "a\0", 2));
        assert_true(tree_range_holds(&range, "a\0b", 3));
        assert_false(tree_range_holds(&range, "a\0b", 1));
        assert_false(tree_range_holds(&range, "b\0b", 3));
        assert_int_equal(tree_range_below(kv_string("/")).size, 0);

        memset(path, 'k', sizeof(path));
        path[0] = '/';
        for (size_t size = TREE_KEY_CUT - 1; size <= TREE_KEY_CUT + 1; size++) { /* of the key */
                range = tree_range_below((KvBytes) { path, size + 1 });
                assert_int_equal(range.mixed, size >= TREE_KEY_CUT);
                assert_int_equal(range.size, TREE_KEY_CUT);
                assert_int_equal(range.prefix[TREE_KEY_CUT - 1], size < TREE_KEY_CUT ? 0 : 'k');
        }
}

static void paths_are_in_the_order_of_their_keys(void **state) {
        static const char *const paths[] = { "/a", "/a/b", "/a/b/c", "/a\001", "/a!", "/a!/b", "/ab", "/b" };

        for (size_t i = 0; i < ELEMENTS(paths); i++)
                for (size_t k = 0; k < ELEMENTS(paths); k++) {
                        KvNode a = { .key = kv_string(paths[i]) }, b = { .key = kv_string(paths[k]) };
                        int order = tree_compare_paths(&a, &b);

                        assert_int_equal(order, i < k ? -1 : i > k);
                }
        for (size_t size = 1; size < 200; size++) { /* of the common beginning */
                char a[220], b[220];
                KvNode x = { .key = { a, size + 2 } }, y = { .key = { b, size + 2 } };

                memset(a, 'k', sizeof(a));
                memset(b, 'k', sizeof(b));
                a[0] = b[0] = a[size] = '/';
                b[size] = '!';
                a[size + 1] = 'z';
                assert_int_equal(tree_compare_paths(&x, &y), -1);
                assert_int_equal(tree_compare_paths(&y, &x), 1);
                assert_int_equal(tree_compare_paths(&x, &x), 0);
                x.key.size = size;
                assert_int_equal(tree_compare_paths(&x, &y), -1);
        }
        assert_true(tree_path_is_child(kv_string("/a"), kv_string("/")));
        assert_false(tree_path_is_child(kv_string("/a/b"), kv_string("/")));
        assert_true(tree_path_is_child(kv_string("/a/b"), kv_string("/a")));
        assert_false(tree_path_is_child(kv_string("/a/b/c"), kv_string("/a")));
}

static void numbers_in_keys_are_in_their_own_order(void **state) {
        uint8_t bytes[8];

        tree_put_big_endian(bytes, 0x0102030405060708);
        assert_bytes(bytes, 8, "0102030405060708");
        assert_true(tree_get_big_endian(bytes) == 0x0102030405060708);
}

/* -- Records -- */

static void nodes_have_these_bytes(void **state) {
        static const struct {
                KvNode node;
                const char *bytes;
        } cases[] = {
                { { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 1, .modified = 2 },
                  "00 0100000000000000 0200000000000000 0200 2f61 76" },
                { { .key = { "/a", 2 }, .dir = true, .created = 1, .modified = 2 },
                  "01 0100000000000000 0200000000000000 0200 2f61" },
                { { .key = { "/a", 2 }, .created = 1, .modified = 2, .expires_ms = 1 },
                  "02 0100000000000000 0200000000000000 0100000000000000 0200 2f61" },
        };
        KvNode node;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_writer_ Writer w = {};

                write_u8(&w, 9); /* replaced */
                tree_node_encode(&cases[i].node, &w);
                assert_int_equal(w.error, 0);
                assert_bytes(w.bytes, w.size, cases[i].bytes);
                assert_int_equal(tree_node_decode(w.bytes, w.size, &node), 0);
                assert_true(kv_bytes_equal(node.key, cases[i].node.key) &&
                            kv_bytes_equal(node.value, cases[i].node.value));
                assert_int_equal(node.dir, cases[i].node.dir);
                assert_int_equal(node.created, 1);
                assert_int_equal(node.modified, 2);
                assert_int_equal(node.expires_ms, cases[i].node.expires_ms);
                for (size_t size = 0; size < w.size - node.value.size; size++)
                        assert_int_equal(tree_node_decode(w.bytes, size, &node), -EUCLEAN);
        }
        for (unsigned size = 0; size < 3; size++) { /* the root is not stored */
                uint8_t bytes[32];
                size_t n = bytes_of("00 0100000000000000 0200000000000000 0000 2f61", bytes);

                bytes[17] = size;
                assert_int_equal(tree_node_decode(bytes, n, &node), size < 2 ? -EUCLEAN : 0);
        }
}

/* The fields are 1, 2, 3 ... in their order. */
static const TreeMeta meta = {
        .applied = 1,
        .applied_term = 2,
        .configuration_index = 3,
        .index = 4,
        .cluster_ms = 5,
        .cluster_id = 6,
        .lineage = 7,
        .quota = 8,
        .n_nodes = 9,
        .n_bytes = 10,
        .n_own_nodes = 11,
        .n_own_bytes = 12,
        .windows = { { 13, 14, 15 }, { 16, 17, 18 } },
        .sum = 19,
        .results = { 20, 21, 22 },
        .level = 2,
        .quota_nodes = 24,
        .history = { 25, 26, 27, 28 },
};

static void the_meta_has_these_bytes_in_each_version(void **state) {
        static const struct {
                uint8_t version;
                unsigned n; /* numbers */
                bool summed;
        } versions[] = {
                { 1, 18, false }, { 2, 19, true }, { 3, 22, true }, { 4, 24, true }, { 5, 28, true }
        };
        static const struct {
                uint8_t version;
                unsigned n;
        } of_level[] = { { 3, 22 }, { 3, 22 }, { 4, 24 }, { 4, 24 }, { 5, 28 }, { 5, 28 } };
        uint8_t bytes[1 + 28 * 8 + 1];
        bool summed;
        TreeMeta m;

        for (unsigned level = 0; level < ELEMENTS(of_level); level++) {
                _cleanup_writer_ Writer w = {};

                m = meta;
                m.level = level;
                write_u8(&w, 9); /* replaced */
                tree_meta_encode(&m, &w);
                assert_int_equal(w.error, 0);
                assert_int_equal(w.size, 1 + of_level[level].n * 8);
                assert_int_equal(w.bytes[0], of_level[level].version);
                for (unsigned i = 0; i < (w.size - 1) / 8; i++) {
                        Reader r = reader_over(w.bytes + 1 + 8 * i, 8);

                        assert_int_equal(read_u64(&r), i == 22 ? level : i + 1);
                }
        }
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                size_t size = 1 + versions[i].n * 8;
                _cleanup_writer_ Writer w = {};

                memset(bytes, 0, sizeof(bytes));
                bytes[0] = versions[i].version;
                for (unsigned n = 0; n < versions[i].n; n++)
                        bytes[1 + 8 * n] = n + 1;
                assert_int_equal(tree_meta_decode(bytes, size, &m, &summed), 0);
                assert_int_equal(summed, versions[i].summed);
                m.level = KV_LEVEL_HISTORY;
                tree_meta_encode(&m, &w);
                for (unsigned n = 0; n < 28; n++)
                        assert_int_equal(w.bytes[1 + 8 * n], n == 22           ? KV_LEVEL_HISTORY :
                                                             n < versions[i].n ? n + 1 :
                                                                                 0);
                for (size_t cut = 1; cut < size; cut++)
                        assert_int_equal(tree_meta_decode(bytes, cut, &m, &summed), -EUCLEAN);
                assert_int_equal(tree_meta_decode(bytes, size + 1, &m, &summed), -EUCLEAN);
        }
        for (unsigned version = 0; version < 256; version += version == 0 ? 6 : 25) {
                bytes[0] = version;
                assert_int_equal(tree_meta_decode(bytes, sizeof(bytes) - 1, &m, &summed), -ENOTSUP);
        }
}

/* -- Events -- */

static void events_have_these_bytes(void **state) {
        static const struct {
                KvEvent event;
                const char *bytes;
                uint64_t weight;
        } cases[] = {
                { { .action = KV_ACTION_SET,
                    .now_ms = 5,
                    .node = { .key = { "/a", 2 },
                              .value = { "v", 1 },
                              .created = 1,
                              .modified = 2,
                              .expires_ms = 3 } },
                  "01 01 00 0500000000000000 02 2f61 0100000000000000 0200000000000000 0300000000000000 01 "
                  "76",
                  128 + 3 },
                { { .action = KV_ACTION_UPDATE,
                    .now_ms = 5,
                    .refresh = true,
                    .has_prev = true,
                    .node = { .key = { "/a", 2 }, .created = 1, .modified = 2 },
                    .prev = { .key = { "/a", 2 },
                              .value = { "old", 3 },
                              .created = 4,
                              .modified = 5,
                              .expires_ms = 6 } },
                  "01 03 06 0500000000000000 02 2f61 0100000000000000 0200000000000000 0000000000000000 00"
                  "0400000000000000 0500000000000000 0600000000000000 03 6f6c64",
                  128 + 5 },
                { { .action = KV_ACTION_EXPIRE,
                    .now_ms = 5,
                    .has_prev = true,
                    .node = { .key = { "/d", 2 }, .dir = true, .created = 1, .modified = 2 },
                    .prev = { .key = { "/d", 2 }, .dir = true, .created = 1, .modified = 1 } },
                  "01 07 0d 0500000000000000 02 2f64 0100000000000000 0200000000000000 0000000000000000 00"
                  "0100000000000000 0100000000000000 0000000000000000 00",
                  128 + 2 },
                { { .action = KV_ACTION_SET,
                    .node = { .key = { "/a", 2 } },
                    .prev = { .value = { "none", 4 }, .dir = true } },
                  "01 01 00 0000000000000000 02 2f61 0000000000000000 0000000000000000 0000000000000000 00",
                  128 + 2 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const KvEvent *given = &cases[i].event;
                _cleanup_writer_ Writer w = {}, again = {};
                KvEvent event;

                assert_int_equal(event_encode(given, &w), 0);
                assert_bytes(w.bytes, w.size, cases[i].bytes);
                assert_int_equal(event_weight(given), cases[i].weight);
                assert_int_equal(event_decode(77, w.bytes, w.size, &event), 0);
                assert_int_equal(event.index, 77);
                assert_true(kv_bytes_equal(event.node.key, given->node.key));
                assert_true(!event.has_prev || kv_bytes_equal(event.prev.key, given->node.key));
                assert_int_equal(event_encode(&event, &again), 0);
                assert_bytes(again.bytes, again.size, cases[i].bytes);
                for (size_t size = 0; size < w.size; size++)
                        assert_int_equal(event_decode(77, w.bytes, size, &event), -EBADMSG);
                write_u8(&w, 0);
                assert_int_equal(event_decode(77, w.bytes, w.size, &event), -EBADMSG);
        }
}

static void bytes_that_are_no_event_are_refused(void **state) {
        static const struct {
                uint8_t version, action, flags, key;
                int r;
        } cases[] = {
                { 1, _KV_ACTION_MAX - 1, 3, 2, 0 }, { 0, 1, 0, 2, -EBADMSG },
                { 2, 1, 0, 2, -ENOTSUP },           { 1, _KV_ACTION_MAX, 0, 2, -EBADMSG },
                { 1, 1, 8, 2, -EBADMSG },           { 1, 1, 16, 2, -EBADMSG },
                { 1, 1, 128, 2, -EBADMSG },         { 1, 1, 0, 1, -EBADMSG },
                { 1, 1, 0, 0, -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_writer_ Writer w = {};
                KvEvent event;

                write_u8(&w, cases[i].version);
                write_u8(&w, cases[i].action);
                write_u8(&w, cases[i].flags);
                write_u64(&w, 5);
                write_blob(&w, "/a", cases[i].key);
                for (unsigned n = 0; n < 3; n++)
                        write_u64(&w, n);
                write_blob(&w, "", 0);
                assert_int_equal(event_decode(1, w.bytes, w.size, &event), cases[i].r);
        }
}

static void a_key_and_a_value_of_an_event_are_as_large_as_may_be(void **state) {
        _cleanup_free_ char *zeros = calloc(1, KV_VALUE_MAX + 1);

        for (unsigned i = 0; i < 3; i++) {
                KvEvent given = { .node = { .key = { zeros, KV_KEY_MAX + (i == 1) },
                                            .value = { zeros, KV_VALUE_MAX + (i == 2) } } },
                        event;
                _cleanup_writer_ Writer w = {};

                assert_int_equal(event_encode(&given, &w), 0);
                assert_int_equal(event_decode(1, w.bytes, w.size, &event), i == 0 ? 0 : -EBADMSG);
        }
}

/* -- Hashes -- */

/* The first is of what is given; each further one of that with one field changed. */
static void hashes_are_of_all_that_is_kept(void **state) {
        const KvNode nodes[] = {
                { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 1, .modified = 2, .expires_ms = 3 },
                { .key = { "/b", 2 }, .value = { "v", 1 }, .created = 1, .modified = 2, .expires_ms = 3 },
                { .key = { "/a", 2 }, .value = { "w", 1 }, .created = 1, .modified = 2, .expires_ms = 3 },
                { .key = { "/av", 3 }, .created = 1, .modified = 2, .expires_ms = 3 },
                { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 0, .modified = 2, .expires_ms = 3 },
                { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 1, .modified = 0, .expires_ms = 3 },
                { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 1, .modified = 2, .expires_ms = 0 },
                { .key = { "/a", 2 },
                  .value = { "v", 1 },
                  .dir = true,
                  .created = 1,
                  .modified = 2,
                  .expires_ms = 3 },
        };
        static const size_t kept[] = { offsetof(TreeMeta, index),
                                       offsetof(TreeMeta, cluster_ms),
                                       offsetof(TreeMeta, quota),
                                       offsetof(TreeMeta, results.n),
                                       offsetof(TreeMeta, results.bytes),
                                       offsetof(TreeMeta, results.swept_ms),
                                       offsetof(TreeMeta, windows[0].oldest),
                                       offsetof(TreeMeta, windows[1].bytes),
                                       offsetof(TreeMeta, level),
                                       offsetof(TreeMeta, quota_nodes) };
        uint64_t hash = tree_node_hash(&nodes[0]);
        TreeMeta m = meta;

        assert_int_equal(hash, 0x9c63c01961a05342);
        for (size_t i = 1; i < ELEMENTS(nodes); i++)
                assert_true(tree_node_hash(&nodes[i]) != hash);

        hash = tree_event_hash("key", 3, "event", 5);
        assert_int_equal(hash, 0xc3645190217749d2);
        assert_true(tree_event_hash("kez", 3, "event", 5) != hash);
        assert_true(tree_event_hash("key", 3, "evens", 5) != hash);

        /* Levels 2 and 3, as an older program computes it. */
        hash = tree_meta_hash(&meta, 7);
        assert_int_equal(hash, 0x66d9d668a6e5766c);
        assert_true(tree_meta_hash(&meta, 8) != hash);
        for (size_t i = 0; i < ELEMENTS(kept); i++) {
                m = meta;
                *(uint64_t *) ((char *) &m + kept[i]) = 3;
                assert_true(tree_meta_hash(&m, 7) != hash);
        }
        m = meta;
        m.applied = m.applied_term = m.configuration_index = m.sum = 99; /* another replica's may be others */
        assert_true(tree_meta_hash(&m, 7) == hash);

        m.history = (TreeHistory) {}; /* below its level it is no part of the state */
        assert_true(tree_meta_hash(&m, 7) == hash);
        m.level = KV_LEVEL_HISTORY;
        hash = tree_meta_hash(&m, 7);
        for (size_t i = 0; i < sizeof(TreeHistory) / 8; i++) {
                m.history = (TreeHistory) {};
                ((uint64_t *) &m.history)[i] = 3;
                assert_true(tree_meta_hash(&m, 7) != hash);
        }

        /* Below the second level the newer fields are not known everywhere. */
        m.level = 1;
        hash = tree_meta_hash(&m, 7);
        assert_int_equal(hash, 0xfd7e507de05b618e);
        m.level = 0;
        m.quota_nodes = 5;
        assert_true(tree_meta_hash(&m, 7) == hash);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_have_these_keys),
                cmocka_unit_test(a_key_is_cut_where_it_would_be_longer_than_480_bytes),
                cmocka_unit_test(what_is_below_a_path_begins_with_its_key_and_a_zero),
                cmocka_unit_test(paths_are_in_the_order_of_their_keys),
                cmocka_unit_test(numbers_in_keys_are_in_their_own_order),
                cmocka_unit_test(nodes_have_these_bytes),
                cmocka_unit_test(the_meta_has_these_bytes_in_each_version),
                cmocka_unit_test(events_have_these_bytes),
                cmocka_unit_test(bytes_that_are_no_event_are_refused),
                cmocka_unit_test(a_key_and_a_value_of_an_event_are_as_large_as_may_be),
                cmocka_unit_test(hashes_are_of_all_that_is_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
