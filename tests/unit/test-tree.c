#include "tests/lib/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file_checksum.h"
#include "kvstore/tree/tree_internal.h"
#include "tests/lib/scratch.h"

typedef struct Fixture {
        char *scratch, *path;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
} Fixture;

static void fixture_open(Fixture *f) {
        Error err = {};

        if (tree_open(f->path, &(TreeOptions) { .quota = 1024 * 1024 }, &f->tree, &err) < 0)
                fail_msg("%s", err.message);
}

static void fixture_write(Fixture *f) {
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        f->path = scratch_path(f->scratch, "tree");
        fixture_open(f);
        fixture_write(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f->path);
        free(f);
        return 0;
}

static void commit(Fixture *f) {
        assert_int_equal(tree_commit(TAKE_PTR(f->txn)), 0);
}

static void put_dir(Fixture *f, const char *path) {
        assert_int_equal(
                tree_put(f->txn,
                         &(KvNode) { .key = kv_string(path), .dir = true, .created = 1, .modified = 1 }),
                0);
}

static void put(Fixture *f, const char *path, const char *value) {
        KvNode node = { .key = kv_string(path), .value = kv_string(value), .created = 2, .modified = 3 };

        assert_int_equal(tree_put(f->txn, &node), 0);
}

static void put_expiring(Fixture *f, const char *path, uint64_t created, uint64_t expires_ms) {
        KvNode node = {
                .key = kv_string(path), .created = created, .modified = created, .expires_ms = expires_ms
        };

        assert_int_equal(tree_put(f->txn, &node), 0);
}

static void assert_node(TreeTxn *txn, const char *path, const char *value) {
        KvNode node;

        assert_int_equal(tree_get(txn, kv_string(path), &node), 0);
        assert_true(kv_bytes_equal(node.key, kv_string(path)));
        assert_true(kv_bytes_equal(node.value, kv_string(value)));
}

static int append_path(void *userdata, const KvNode *node) {
        text_append_bytes(userdata, node->key.data, node->key.size);
        text_append_char(userdata, ' ');
        return 1;
}

static void assert_walk(TreeTxn *txn, const char *path, bool recursive, const char *expected) {
        _cleanup_text_ Text seen = {};

        text_append(&seen, "");
        assert_int_equal(tree_walk(txn, kv_string(path), recursive, append_path, &seen), 0);
        assert_string_equal(seen.chars ?: "", expected);
}

static void assert_walk_from(TreeTxn *txn, const char *path, const char *after, const char *expected) {
        _cleanup_text_ Text seen = {};

        assert_int_equal(tree_walk_from(txn, kv_string(path), kv_string(after), true, append_path, &seen), 0);
        assert_string_equal(seen.chars ?: "", expected);
}

typedef struct Parts {
        KvNode nodes[500];
        size_t n;
} Parts;

static int append_node(void *userdata, const KvNode *node) {
        Parts *parts = userdata;

        assert_true(parts->n < ELEMENTS(parts->nodes));
        parts->nodes[parts->n++] = *node;
        return 1;
}

/* Wherever one stops, what follows is the rest, and nothing else. */
static void assert_walks_in_parts(TreeTxn *txn, KvBytes path, bool recursive) {
        _cleanup_free_ Parts *all = NEW0(Parts, 1), *rest = NEW0(Parts, 1);

        assert_int_equal(tree_walk(txn, path, recursive, append_node, all), 0);
        for (size_t i = 0; i < all->n; i++) {
                rest->n = 0;
                assert_int_equal(tree_walk_from(txn, path, all->nodes[i].key, recursive, append_node, rest),
                                 0);
                assert_int_equal(rest->n, all->n - i - 1);
                for (size_t k = 0; k < rest->n; k++)
                        assert_true(kv_bytes_equal(rest->nodes[k].key, all->nodes[i + 1 + k].key));
        }
}

static void assert_whole(TreeTxn *txn) {
        Error err = {};

        if (tree_check(txn, &err) < 0)
                fail_msg("%s", err.message);
}

static void a_node_is_found_after_the_tree_is_opened_again(void **state) {
        Fixture *f = *state;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvNode node;

        put(f, "/a", "one");
        commit(f);
        f->tree = tree_close(f->tree);
        fixture_open(f);

        assert_int_equal(tree_begin_read(f->tree, &txn), 0);
        assert_node(txn, "/a", "one");
        assert_int_equal(tree_get(txn, kv_string("/a"), &node), 0);
        assert_int_equal(node.created, 2);
        assert_int_equal(node.modified, 3);
        assert_false(node.dir);
        assert_int_equal(tree_get(txn, kv_string("/b"), &node), -ENOENT);
        assert_int_equal(tree_get(txn, kv_string("/"), &node), 0);
        assert_true(node.dir);
}

static void an_aborted_transaction_leaves_nothing(void **state) {
        Fixture *f = *state;
        KvNode node;
        TreeMeta meta;

        put(f, "/a", "one");
        tree_abort(TAKE_PTR(f->txn));
        fixture_write(f);
        assert_int_equal(tree_get(f->txn, kv_string("/a"), &node), -ENOENT);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.n_nodes, 0);
}

static void an_aborted_nested_transaction_takes_back_only_its_own(void **state) {
        Fixture *f = *state;
        TreeTxn *nested, *outer = f->txn;
        TreeMeta meta;
        KvNode node;

        put(f, "/a", "one");
        assert_int_equal(tree_begin_nested(outer, &nested), 0);
        f->txn = nested;
        put(f, "/b", "two");
        tree_abort(nested);
        f->txn = outer;
        assert_node(f->txn, "/a", "one");
        assert_int_equal(tree_get(f->txn, kv_string("/b"), &node), -ENOENT);

        assert_int_equal(tree_begin_nested(outer, &nested), 0);
        f->txn = nested;
        put(f, "/b", "two");
        assert_int_equal(tree_commit(nested), 0);
        f->txn = outer;
        assert_node(f->txn, "/b", "two");
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.n_nodes, 2);
        assert_whole(f->txn);
}

static int stop_at_first(void *userdata, const KvNode *node, bool below) {
        *(bool *) userdata = below;
        return !below;
}

static bool has_children(TreeTxn *txn, KvBytes path) {
        bool found = false;

        assert_true(tree_scan(txn, path, stop_at_first, &found) >= 0);
        return found;
}

static void children_are_listed_without_what_is_below_them(void **state) {
        Fixture *f = *state;

        put_dir(f, "/d");
        put_dir(f, "/d/a");
        put(f, "/d/a/x", "");
        put_dir(f, "/d/a/y");
        put(f, "/d/a/y/z", "");
        put(f, "/d/a-b", "");
        put(f, "/d/a0", "");
        put(f, "/d/b", "");
        put(f, "/d2", "");

        assert_walk(f->txn, "/", false, "/d /d2 ");
        assert_walk(f->txn, "/d", false, "/d/a /d/a-b /d/a0 /d/b ");
        assert_walk(f->txn, "/d", true, "/d/a /d/a/x /d/a/y /d/a/y/z /d/a-b /d/a0 /d/b ");
        assert_walk_from(f->txn, "/d", "", "/d/a /d/a/x /d/a/y /d/a/y/z /d/a-b /d/a0 /d/b ");
        assert_walk_from(f->txn, "/d", "/d/a/y", "/d/a/y/z /d/a-b /d/a0 /d/b ");
        assert_walk_from(f->txn, "/d", "/d/a/gone", "/d/a/x /d/a/y /d/a/y/z /d/a-b /d/a0 /d/b ");
        assert_walk_from(f->txn, "/d", "/d/b", "");
        assert_int_equal(tree_walk_from(f->txn, kv_string("/d"), kv_string("/e"), true, append_path, NULL),
                         -EINVAL);
        assert_walk(f->txn, "/d/b", true, "");
        assert_walk(f->txn, "/nothing", true, "");
        assert_true(has_children(f->txn, kv_string("/d/a")));
        assert_false(has_children(f->txn, kv_string("/d/b")));
}

static void names_of_any_bytes_keep_their_place(void **state) {
        Fixture *f = *state;
        static const KvBytes names[] = { { "/a", 2 },     { "/a/b", 4 }, { "/a\0", 3 },   { "/a\0\0", 4 },
                                         { "/a\0\1", 4 }, { "/a\1", 3 }, { "/a\1\1", 4 }, { "/a\2", 3 },
                                         { "/a ", 3 },    { "/a.", 3 },  { "/a\xff", 3 } };
        _cleanup_text_ Text seen = {}, expected = {};
        KvNode node;

        for (size_t i = ELEMENTS(names); i-- > 0;) {
                node = (KvNode) { .key = names[i], .dir = i == 0, .created = 1, .modified = 1 };
                assert_int_equal(tree_put(f->txn, &node), 0);
        }
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                assert_int_equal(tree_get(f->txn, names[i], &node), 0);
                assert_true(kv_bytes_equal(node.key, names[i]));
                append_path(&expected, &(KvNode) { .key = names[i] });
        }
        assert_int_equal(tree_walk(f->txn, kv_string("/"), true, append_path, &seen), 0);
        assert_int_equal(seen.size, expected.size);
        assert_memory_equal(seen.chars, expected.chars, seen.size);
        assert_whole(f->txn);

        /* All but "/a/b" are children of the root, with any byte after the directory. */
        text_clear(&seen);
        assert_int_equal(tree_walk(f->txn, kv_string("/"), false, append_path, &seen), 0);
        assert_int_equal(seen.size, expected.size - strlen("/a/b "));
        assert_walks_in_parts(f->txn, kv_string("/"), true);
        assert_walks_in_parts(f->txn, kv_string("/"), false);
}

/* A deep line of directories with long names, and two files in each: all sizes of keys around the cut. */
static void paths_longer_than_a_key_are_kept_found_and_listed_in_order(void **state) {
        Fixture *f = *state;
        _cleanup_text_ Text expected = {}, files = {};
        char path[1024] = "", name[1100];
        TreeMeta meta;

        for (unsigned i = 0; strlen(path) < 900; i++) {
                snprintf(name, sizeof(name), "%s/z", path);
                put(f, name, "v");
                snprintf(name, sizeof(name), "%s/m", path);
                put(f, name, "v");
                text_printf(&expected, "%s ", name);
                snprintf(path + strlen(path), sizeof(path) - strlen(path), "/n%06u", i);
                put_dir(f, path);
                text_printf(&expected, "%s ", path);
        }
        while (strlen(path) > 0) {
                path[strlen(path) - 8] = 0;
                text_printf(&expected, "%s/z ", path);
        }
        assert_walk(f->txn, "/", true, expected.chars);
        assert_whole(f->txn);

        for (unsigned i = 0; strlen(path) < 890; i++) {
                char next[1024];

                snprintf(next, sizeof(next), "%s/n%06u", path, i);
                text_clear(&files);
                text_printf(&files, "%s/m %s %s/z ", path, next, path);
                assert_walk(f->txn, *path ? path : "/", false, files.chars);
                assert_walks_in_parts(f->txn, kv_string(*path ? path : "/"), false);
                assert_walks_in_parts(f->txn, kv_string(*path ? path : "/"), true);
                assert_true(has_children(f->txn, kv_string(next)));
                snprintf(path, sizeof(path), "%s", next);
        }

        assert_int_equal(tree_delete_below(f->txn, kv_string("/n000000")), 0);
        assert_walk(f->txn, "/", true, "/m /n000000 /z ");
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.n_nodes, 3);
        assert_whole(f->txn);
}

static void deleting_below_a_long_path_spares_its_neighbours(void **state) {
        Fixture *f = *state;
        char base[600], path[640];
        KvNode node;

        memset(base, 'x', sizeof(base));
        base[0] = '/';
        for (unsigned cut = 478; cut < 484; cut++) {
                base[cut] = 0;
                for (unsigned i = 0; i < 20; i++) {
                        snprintf(path, sizeof(path), "%s%u", base, i);
                        put_dir(f, path);
                        snprintf(path, sizeof(path), "%s%u/f", base, i);
                        put(f, path, "");
                }
                snprintf(path, sizeof(path), "%s7", base);
                assert_int_equal(tree_delete_below(f->txn, kv_string(path)), 0);
                for (unsigned i = 0; i < 20; i++) {
                        snprintf(path, sizeof(path), "%s%u/f", base, i);
                        assert_int_equal(tree_get(f->txn, kv_string(path), &node), i == 7 ? -ENOENT : 0);
                }
                assert_whole(f->txn);
                base[cut] = 'x';
        }
}

static int count_node(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        return 1;
}

/* The directory's key is as long as a key can be, so its siblings and what is below it are mixed. */
static void children_are_listed_beside_a_directory_whose_key_is_just_not_cut(void **state) {
        Fixture *f = *state;
        char dir[482], path[500];
        unsigned n = 0;

        memset(dir, 'x', sizeof(dir));
        dir[0] = '/';
        dir[sizeof(dir) - 1] = 0;
        put_dir(f, dir);
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(path, sizeof(path), "%s%u", dir, i);
                put(f, path, "");
                snprintf(path, sizeof(path), "%s/%u", dir, i);
                put(f, path, "");
        }
        assert_int_equal(tree_walk(f->txn, kv_string("/"), false, count_node, &n), 0);
        assert_int_equal(n, 1001);
        n = 0;
        assert_int_equal(tree_walk(f->txn, kv_string(dir), false, count_node, &n), 0);
        assert_int_equal(n, 1000);
}

static void the_first_due_is_the_earliest_then_the_oldest_then_by_key(void **state) {
        Fixture *f = *state;
        static const char *const order[] = { "/early", "/a", "/c", "/older", "/late" };
        KvNode node;

        put_expiring(f, "/late", 1, 900);
        put_expiring(f, "/c", 4, 500);
        put_expiring(f, "/a", 4, 500);
        put_expiring(f, "/older", 5, 500);
        put_expiring(f, "/early", 9, 100);
        put(f, "/never", "");

        assert_int_equal(tree_first_due(f->txn, 99, &node), -ENOENT);
        for (size_t i = 0; i < ELEMENTS(order); i++) {
                assert_int_equal(tree_first_due(f->txn, UINT64_MAX, &node), 0);
                assert_true(kv_bytes_equal(node.key, kv_string(order[i])));
                assert_int_equal(tree_delete(f->txn, kv_string(order[i])), 0);
        }
        assert_int_equal(tree_first_due(f->txn, UINT64_MAX, &node), -ENOENT);
        assert_whole(f->txn);
}

static void a_replaced_node_expires_by_its_new_time_only(void **state) {
        Fixture *f = *state;
        KvNode node;

        put_expiring(f, "/a", 1, 100);
        put_expiring(f, "/a", 1, 200);
        assert_int_equal(tree_first_due(f->txn, 199, &node), -ENOENT);
        assert_int_equal(tree_first_due(f->txn, 200, &node), 0);
        put(f, "/a", "for ever");
        assert_int_equal(tree_first_due(f->txn, UINT64_MAX, &node), -ENOENT);

        put_dir(f, "/d");
        put_expiring(f, "/d/a", 1, 100);
        assert_int_equal(tree_delete_below(f->txn, kv_string("/d")), 0);
        assert_int_equal(tree_first_due(f->txn, UINT64_MAX, &node), -ENOENT);
        assert_whole(f->txn);
}

/* What an entry may touch is limited: each change counts a page, and the bytes that it writes. */
static void each_change_touches_a_page_and_what_it_writes(void **state) {
        enum { PAGE = 4096, RECORD = 21 /* of a node with a key of 2 bytes: docs/FORMATS.md */ };
        Fixture *f = *state;
        uint64_t before;

        before = tree_touched(f->txn);
        put_dir(f, "/d");
        assert_int_equal(tree_touched(f->txn) - before, PAGE + RECORD);
        for (unsigned i = 0; i < 3; i++)
                put(f, (const char *[]) { "/d/a", "/d/b", "/d/c" }[i], "");
        before = tree_touched(f->txn);
        assert_int_equal(tree_delete_below(f->txn, kv_string("/d")), 0);
        assert_int_equal(tree_touched(f->txn) - before, 3 * PAGE);
        before = tree_touched(f->txn);
        assert_int_equal(tree_delete(f->txn, kv_string("/d")), 0);
        assert_int_equal(tree_touched(f->txn) - before, PAGE);

        before = tree_touched(f->txn);
        assert_int_equal(tree_add_event(f->txn, TREE_WINDOW_USERS, 1, kv_string("event"), 1), 0);
        assert_int_equal(tree_touched(f->txn) - before, PAGE + 8 + strlen("event"));
        before = tree_touched(f->txn);
        assert_int_equal(tree_add_event(f->txn, TREE_WINDOW_USERS, 2, kv_string("large"), TREE_WINDOW_BYTES),
                         0);
        assert_int_equal(tree_touched(f->txn) - before,
                         PAGE + 8 + strlen("large") + PAGE); /* the first one goes */

        before = tree_touched(f->txn);
        assert_int_equal(tree_put_result(f->txn, 1, 1, kv_string("record")), 0);
        assert_int_equal(tree_touched(f->txn) - before, PAGE + strlen("record"));

        before = tree_touched(f->txn);
        assert_int_equal(tree_history_put(f->txn, TREE_ROWS, 1, kv_string("row")), 0);
        assert_int_equal(tree_touched(f->txn) - before, PAGE + strlen("row"));
        before = tree_touched(f->txn);
        assert_int_equal(tree_history_delete(f->txn, TREE_ROWS, 1), 0);
        assert_int_equal(tree_touched(f->txn) - before, PAGE);
}

static void a_window_that_has_fewer_events_than_it_says_is_damaged(void **state) {
        Fixture *f = *state;

        assert_int_equal(tree_add_event(f->txn, TREE_WINDOW_OURS, 1, kv_string("event"), 1), 0);
        f->txn->meta.windows[TREE_WINDOW_USERS].n = TREE_WINDOW_EVENTS + 1;
        assert_int_equal(tree_add_event(f->txn, TREE_WINDOW_USERS, 2, kv_string("event"), 1), -EUCLEAN);
        assert_int_equal(f->txn->meta.windows[TREE_WINDOW_OURS].n, 1);

        f->txn->meta.windows[TREE_WINDOW_OURS].n = TREE_WINDOW_EVENTS + 2;
        assert_int_equal(tree_add_event(f->txn, TREE_WINDOW_OURS, 2, kv_string("event"), 1), -EUCLEAN);
}

static void users_and_fleet_are_counted_apart(void **state) {
        Fixture *f = *state;
        TreeMeta meta;

        put(f, "/a", "12345");
        put_dir(f, "/_fleet");
        put(f, "/_fleet/b", "1");
        put(f, "/a", "1");
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.n_nodes, 1);
        assert_int_equal(meta.n_bytes, 3);
        assert_int_equal(meta.n_own_nodes, 2);
        assert_int_equal(meta.n_own_bytes, 7 + 10);

        assert_int_equal(tree_delete(f->txn, kv_string("/a")), 0);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.n_nodes, 0);
        assert_int_equal(meta.n_bytes, 0);
        assert_int_equal(tree_delete(f->txn, kv_string("/a")), -ENOENT);
}

static void meta_and_configuration_are_kept(void **state) {
        Fixture *f = *state;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta = { .applied = 7,
                          .applied_term = 3,
                          .configuration_index = 2,
                          .index = 99,
                          .cluster_ms = 5,
                          .cluster_id = 6,
                          .lineage = 8,
                          .quota = 4,
                          .n_nodes = 1000 };
        KvBytes configuration;

        assert_int_equal(tree_configuration(f->txn, &configuration), 0);
        assert_int_equal(configuration.size, 0);
        put(f, "/a", "1");
        assert_int_equal(tree_set_meta(f->txn, &meta), 0);
        assert_int_equal(tree_set_configuration(f->txn, kv_string("three voters")), 0);
        commit(f);

        assert_int_equal(tree_begin_read(f->tree, &txn), 0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        assert_int_equal(meta.applied, 7);
        assert_int_equal(meta.applied_term, 3);
        assert_int_equal(meta.configuration_index, 2);
        assert_int_equal(meta.index, 99);
        assert_int_equal(meta.cluster_ms, 5);
        assert_int_equal(meta.cluster_id, 6);
        assert_int_equal(meta.lineage, 8);
        assert_int_equal(meta.quota, 4);
        assert_int_equal(meta.n_nodes, 1); /* the tree's own count */
        assert_int_equal(tree_configuration(txn, &configuration), 0);
        assert_true(kv_bytes_equal(configuration, kv_string("three voters")));
}

/* 70 MB; the map of a quota of 1 MiB has 64 MiB. */
static int fill(Fixture *f) {
        static char value[200 * 1024];
        char key[16];
        int r = 0;

        memset(value, 'x', sizeof(value));
        for (unsigned i = 0; r >= 0 && i < 700; i++) {
                snprintf(key, sizeof(key), "/%u", i);
                r = tree_put(f->txn, &(KvNode) { .key = kv_string(key),
                                                 .value = { value, sizeof(value) },
                                                 .created = 2,
                                                 .modified = 3 });
        }
        return r;
}

static void the_map_has_space_for_the_quota_of_the_tree(void **state) {
        Fixture *f = *state;

        assert_int_equal(fill(f), -ENOSPC);
        tree_abort(TAKE_PTR(f->txn));
        fixture_write(f);
        assert_int_equal(tree_set_meta(f->txn, &(TreeMeta) { .quota = 8 * 1024 * 1024 }), 0);
        commit(f);
        f->tree = tree_close(f->tree);

        fixture_open(f);
        fixture_write(f);
        assert_int_equal(fill(f), 0);
        commit(f);
        f->tree = tree_close(f->tree);

        fixture_open(f);
        fixture_write(f);
        put(f, "/one/more", "1");
        assert_int_equal(tree_set_meta(f->txn, &(TreeMeta) { .quota = UINT64_MAX }), 0);
        commit(f);
        f->tree = tree_close(f->tree);
        fixture_open(f); /* what no address space holds is not mapped */
}

static void a_reader_sees_what_was_there_when_it_began(void **state) {
        Fixture *f = *state;
        _cleanup_(tree_abortp) TreeTxn *before = NULL, *after = NULL;
        KvNode node;

        put(f, "/a", "old");
        commit(f);
        assert_int_equal(tree_begin_read(f->tree, &before), 0);
        fixture_write(f);
        put(f, "/a", "new");
        put(f, "/b", "new");
        commit(f);

        assert_int_equal(tree_begin_read(f->tree, &after), 0);
        assert_node(before, "/a", "old");
        assert_int_equal(tree_get(before, kv_string("/b"), &node), -ENOENT);
        assert_node(after, "/a", "new");
}

static uint64_t hash_of(Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        uint64_t hash;

        assert_int_equal(tree_begin_read(tree, &txn), 0);
        assert_int_equal(tree_hash(txn, &hash), 0);
        return hash;
}

static void the_hash_shows_any_difference(void **state) {
        Fixture *f = *state;
        uint64_t hash, last;
        const KvNode nodes[] = {
                { .key = kv_string("/a"), .value = kv_string("v"), .created = 1, .modified = 1 },
                { .key = kv_string("/a"), .value = kv_string("w"), .created = 1, .modified = 1 },
                { .key = kv_string("/a"), .value = kv_string("w"), .created = 2, .modified = 1 },
                { .key = kv_string("/a"), .value = kv_string("w"), .created = 2, .modified = 3 },
                { .key = kv_string("/a"),
                  .value = kv_string("w"),
                  .created = 2,
                  .modified = 3,
                  .expires_ms = 4 },
                { .key = kv_string("/b"),
                  .value = kv_string("w"),
                  .created = 2,
                  .modified = 3,
                  .expires_ms = 4 },
                { .key = kv_string("/a"), .dir = true, .created = 2, .modified = 3 },
        };

        assert_int_equal(tree_hash(f->txn, &last), 0);
        for (size_t i = 0; i < ELEMENTS(nodes); i++) {
                assert_int_equal(tree_put(f->txn, &nodes[i]), 0);
                assert_int_equal(tree_hash(f->txn, &hash), 0);
                assert_true(hash != last);
                last = hash;
        }
        assert_int_equal(tree_set_meta(f->txn, &(TreeMeta) { .index = 1 }), 0);
        assert_int_equal(tree_hash(f->txn, &hash), 0);
        assert_true(hash != last);
}

static void assert_kept(TreeTxn *txn) {
        uint64_t walked, kept;

        assert_int_equal(tree_hash(txn, &walked), 0);
        assert_int_equal(tree_kept_hash(txn, &kept), 0);
        assert_int_equal(walked, kept);
}

/* After insertions, removals, replacements and aborts, the sum is that of the present nodes. */
static void the_kept_hash_is_that_of_a_walk_after_any_change(void **state) {
        Fixture *f = *state;
        Random random;

        random_seed(&random, 7);
        put_dir(f, "/d");
        for (unsigned i = 0; i < 3000; i++) {
                char path[800], value[64];
                int width = random_below(&random, 20) == 0 ? 600 : 2; /* keys that are cut and hashed, too */
                TreeTxn *outer = f->txn;
                bool nested = random_below(&random, 10) == 0;

                snprintf(path, sizeof(path), "/d/%0*u", width, (unsigned) random_below(&random, 40));
                snprintf(value, sizeof(value), "%u", (unsigned) random_below(&random, 5));
                if (nested)
                        assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                switch (random_below(&random, 8)) {
                case 0:
                        (void) tree_delete(f->txn, kv_string(path));
                        break;
                case 1:
                        put_expiring(f, path, i, 1 + random_below(&random, 9));
                        break;
                case 2:
                        if (random_below(&random, 30) == 0)
                                assert_int_equal(tree_delete_below(f->txn, kv_string("/d")), 0);
                        break;
                case 3:
                        assert_int_equal(tree_add_event(f->txn, i % 2, i + 1, kv_string(value),
                                                        random_below(&random, 3) * TREE_WINDOW_BYTES / 4),
                                         0);
                        break;
                default:
                        put(f, path, value);
                }
                if (nested && random_below(&random, 2) == 0)
                        tree_abort(f->txn);
                else if (nested)
                        assert_int_equal(tree_commit(f->txn), 0);
                f->txn = outer;
                if (i % 50 == 0) {
                        assert_kept(f->txn);
                        assert_whole(f->txn);
                }
                if (i % 500 == 0) {
                        commit(f);
                        f->tree = tree_close(f->tree);
                        fixture_open(f);
                        fixture_write(f);
                        assert_kept(f->txn);
                }
        }
}

static void a_byte_that_was_changed_behind_our_back_is_found_by_the_copy(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *file = scratch_path(f->scratch, "tree/data.mdb"),
                            *to = scratch_path(f->scratch, "copy");
        _cleanup_free_ char *bytes = NULL;
        TreeMeta meta;
        Error err = {};
        size_t size;
        FILE *stream;

        put(f, "/a", "a-needle-in-the-hay");
        commit(f);
        f->tree = tree_close(f->tree);

        stream = fopen(file, "r+");
        assert_non_null(stream);
        fseek(stream, 0, SEEK_END);
        size = (size_t) ftell(stream);
        rewind(stream);
        bytes = malloc(size);
        assert_int_equal(fread(bytes, 1, size, stream), size);
        char *needle = memmem(bytes, size, "a-needle-in", 11);
        assert_non_null(needle);
        fseek(stream, needle - bytes, SEEK_SET);
        fputc('A', stream);
        fclose(stream);

        fixture_open(f);
        assert_int_equal(tree_copy(f->tree, to, &meta, &err), -EUCLEAN);
        assert_string_equal(err.message, "the tree is corrupt: its sum does not match its content");
}

static void a_copy_that_rots_anywhere_is_noticed(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy"),
                            *file = scratch_path(f->scratch, "copy/data.mdb");
        TreeMeta meta;
        struct stat st;
        int fd;

        put(f, "/a", "something");
        commit(f);
        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), 0);
        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), -EEXIST);
        fd = open(file, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(file_checksum_check(fd, NULL), 1);
        for (off_t at = 0; at < st.st_size; at += at < st.st_size - 4096 ? 13 : 1) {
                uint8_t byte, other;

                assert_int_equal(pread(fd, &byte, 1, at), 1);
                other = byte ^ (uint8_t) (1 << at % 8);
                assert_int_equal(pwrite(fd, &other, 1, at), 1);
                assert_int_equal(file_checksum_check(fd, NULL), -EUCLEAN);
                assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        assert_int_equal(file_checksum_check(fd, NULL), 1);
        assert_int_equal(ftruncate(fd, st.st_size - FILE_CHECKSUM_SIZE),
                         0); /* as an older version wrote it */
        assert_int_equal(file_checksum_check(fd, NULL), 0);
        close(fd);
}

static void a_copy_holds_the_same_is_smaller_and_is_a_tree_of_its_own(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy"),
                            *file = scratch_path(f->scratch, "copy/data.mdb");
        Error err = {};
        TreeMeta meta;
        Tree *copy;
        struct stat st;
        char path[32], value[200];

        memset(value, 'v', sizeof(value));
        value[sizeof(value) - 1] = 0;
        put_dir(f, "/d");
        for (unsigned i = 0; i < 3000; i++) {
                snprintf(path, sizeof(path), "/d/%u", i);
                put(f, path, value);
        }
        commit(f);
        fixture_write(f);
        for (unsigned i = 100; i < 3000; i++) {
                snprintf(path, sizeof(path), "/d/%u", i);
                assert_int_equal(tree_delete(f->txn, kv_string(path)), 0);
        }
        assert_int_equal(tree_set_meta(f->txn, &(TreeMeta) { .applied = 12, .index = 34 }), 0);
        assert_int_equal(tree_set_configuration(f->txn, kv_string("conf")), 0);
        commit(f);

        if (tree_copy(f->tree, to, &meta, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(meta.applied, 12);
        assert_int_equal(meta.index, 34);
        assert_int_equal(meta.n_nodes, 101);
        assert_int_equal(stat(file, &st), 0);
        assert_true((uint64_t) st.st_size < tree_file_size(f->tree) / 2);
        assert_int_equal(st.st_mode & 0777, 0600);

        assert_int_equal(tree_open(to, &(TreeOptions) {}, &copy, &err), 0);
        assert_true(hash_of(copy) == hash_of(f->tree));
        tree_close(copy);
}

static void a_copy_that_is_cancelled_ends_at_its_next_piece_and_leaves_nothing(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy"),
                            *path = scratch_path(f->scratch, "cancelled"), *file = NULL;
        KvNode node = { .key = kv_string("/a"), .value = kv_string("1"), .created = 1, .modified = 1 };
        _Atomic bool cancelled = false;
        _cleanup_close_ int fd = -1;
        TreeMeta meta;
        struct stat st;
        TreeTxn *txn;
        Tree *tree;

        assert_int_equal(tree_open(path, &(TreeOptions) { .cancelled = &cancelled }, &tree, NULL), 0);
        assert_int_equal(tree_begin_write(tree, &txn), 0);
        assert_int_equal(tree_put(txn, &node), 0);
        assert_int_equal(tree_commit(txn), 0);
        assert_int_equal(tree_copy(tree, to, &meta, NULL), 0);
        assert_true(asprintf(&file, "%s/data.mdb", to) > 0);
        fd = open(file, O_RDONLY | O_CLOEXEC);
        assert_int_equal(file_checksum_check(fd, &cancelled), 1);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(rmdir(to), 0);

        cancelled = true;
        assert_int_equal(file_checksum_check(fd, &cancelled), -ECANCELED);
        assert_int_equal(tree_copy(tree, to, &meta, NULL), -ECANCELED);
        assert_int_equal(stat(to, &st), -1);
        assert_int_equal(tree_begin_read(tree, &txn), 0);
        assert_int_equal(tree_check(txn, NULL), -ECANCELED);
        tree_abort(txn);
        tree_close(tree);
}

static void garbage_is_rejected_with_a_message_that_names_the_folder(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = scratch_path(f->scratch, "garbage"),
                            *file = scratch_path(f->scratch, "garbage/data.mdb");
        Error err = {};
        Tree *tree;
        FILE *stream;

        assert_int_equal(mkdir(path, 0700), 0);
        stream = fopen(file, "w");
        for (unsigned i = 0; i < 20000; i++)
                fputs("garbage ", stream);
        fclose(stream);
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &tree, &err), -EUCLEAN);
        assert_non_null(strstr(err.message, path));
        assert_int_equal(truncate(file, 0), 0);
        err = (Error) {};
        assert_int_equal(tree_open(path, &(TreeOptions) { .read_only = true }, &tree, &err), -EUCLEAN);
        assert_non_null(strstr(err.message, path));
}

/* The limit on a file's size stands for a full disk: writing fails in the middle of a commit. */
static void a_commit_without_space_fails_and_leaves_the_tree_unchanged(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *large = calloc(1, KV_VALUE_MAX);
        KvNode node = {
                .key = kv_string("/large"), .value = { large, KV_VALUE_MAX }, .created = 9, .modified = 9
        };
        struct rlimit old, small;
        uint64_t before;
        int r;

        put(f, "/a", "one");
        commit(f);
        before = hash_of(f->tree);

        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit) { .rlim_cur = tree_file_size(f->tree) + KV_VALUE_MAX / 2,
                                  .rlim_max = old.rlim_max };
        fixture_write(f);
        assert_int_equal(tree_put(f->txn, &node), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        r = tree_commit(TAKE_PTR(f->txn));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_true(r < 0);
        assert_true(hash_of(f->tree) == before);

        fixture_write(f);
        assert_int_equal(tree_put(f->txn, &node), 0);
        commit(f);
        fixture_write(f);
        assert_whole(f->txn);
}

static void the_files_are_readable_by_their_owner_alone(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *file = scratch_path(f->path, "data.mdb");
        struct stat st;

        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
}

static void five_trees_live_in_one_process(void **state) {
        Fixture *f = *state;
        Tree *trees[5];

        for (unsigned i = 0; i < 5; i++) {
                _cleanup_free_ char *path = NULL;
                char name[16], value[16];
                TreeTxn *txn;

                snprintf(name, sizeof(name), "tree%u", i);
                snprintf(value, sizeof(value), "%u", i);
                path = scratch_path(f->scratch, name);
                assert_int_equal(tree_open(path, &(TreeOptions) {}, &trees[i], NULL), 0);
                assert_int_equal(tree_begin_write(trees[i], &txn), 0);
                assert_int_equal(
                        tree_put(txn, &(KvNode) { .key = kv_string("/i"), .value = kv_string(value) }), 0);
                assert_int_equal(tree_commit(txn), 0);
        }
        for (unsigned i = 0; i < 5; i++) {
                char value[16];
                TreeTxn *txn;

                snprintf(value, sizeof(value), "%u", i);
                assert_int_equal(tree_begin_read(trees[i], &txn), 0);
                assert_node(txn, "/i", value);
                tree_abort(txn);
                tree_close(trees[i]);
        }
}

/* -- Reading in a worker -- */

typedef struct Reading {
        TreeReader *reader;
        sem_t begun, go_on;
        unsigned n;
        int result;
} Reading;

static int reading_visit(void *userdata, const KvNode *node) {
        Reading *w = userdata;

        w->n++;
        return 1;
}

/* Walks the tree again and again, until that fails. */
static void *reading_run(void *userdata) {
        Reading *w = userdata;
        TreeTxn *txn;

        w->result = tree_reader_begin(w->reader, &txn);
        sem_post(&w->begun);
        if (w->result < 0)
                return NULL;
        sem_wait(&w->go_on);
        while (w->result == 0)
                w->result = tree_walk(txn, kv_string("/"), true, reading_visit, w);
        tree_abort(txn);
        return NULL;
}

static pthread_t reading_start(Reading *w, Tree *tree) {
        pthread_t thread;

        sem_init(&w->begun, 0, 0);
        sem_init(&w->go_on, 0, 0);
        assert_int_equal(tree_reader_new(tree, &w->reader), 0);
        assert_int_equal(pthread_create(&thread, NULL, reading_run, w), 0);
        sem_wait(&w->begun);
        return thread;
}

static void reading_end(Reading *w, pthread_t thread) {
        pthread_join(thread, NULL);
        w->reader = tree_reader_free(w->reader);
}

static void a_tree_that_a_worker_reads_is_closed_when_the_worker_has_ended(void **state) {
        Fixture *f = *state;
        Reading w = {};
        pthread_t thread;

        for (unsigned i = 0; i < 1000; i++) {
                char path[32];

                snprintf(path, sizeof(path), "/%u", i);
                put(f, path, "value");
        }
        commit(f);
        thread = reading_start(&w, f->tree);
        sem_post(&w.go_on);
        f->tree = tree_close(f->tree);
        reading_end(&w, thread);
        assert_int_equal(w.result, -ECANCELED);

        /* One that begins afterwards finds nothing to read. */
        fixture_open(f);
        assert_int_equal(tree_reader_new(f->tree, &w.reader), 0);
        f->tree = tree_close(f->tree);
        assert_int_equal(tree_reader_begin(w.reader, &(TreeTxn *) { NULL }), -ECANCELED);
        w.reader = tree_reader_free(w.reader);
        fixture_open(f);
        fixture_write(f);
}

static void a_reader_that_is_stopped_ends_with_the_first_reason(void **state) {
        Fixture *f = *state;
        Reading w = {};
        pthread_t thread;

        put(f, "/a", "value");
        commit(f);
        thread = reading_start(&w, f->tree);
        tree_reader_stop(w.reader, -ETIMEDOUT);
        tree_reader_stop(w.reader, -ECANCELED);
        sem_post(&w.go_on);
        reading_end(&w, thread);
        assert_int_equal(w.result, -ETIMEDOUT);
        assert_int_equal(w.n, 0);
        fixture_write(f);
}

static void a_reader_gives_up_when_the_live_file_has_doubled(void **state) {
        enum { VALUE = 240 * 1024, N = 80 * 1024 * 1024 / VALUE };
        _cleanup_free_ char *value = NEW0(char, VALUE), *path = NULL;
        Fixture *f = *state;
        Tree *tree = NULL;
        Reading w = {};
        pthread_t thread;
        Error err = {};

        path = scratch_path(f->scratch, "growing");
        assert_int_equal(tree_open(path, &(TreeOptions) { .quota = 8 * 1024 * 1024 }, &tree, &err), 0);
        for (unsigned round = 0; round < 2; round++) {
                TreeTxn *txn;

                assert_int_equal(tree_begin_write(tree, &txn), 0);
                for (unsigned i = 0; i < (round == 0 ? 300 : N); i++) {
                        char key[32];

                        snprintf(key, sizeof(key), "/%u-%u", round, i);
                        assert_int_equal(tree_put(txn, &(KvNode) { .key = kv_string(key),
                                                                   .value = { value, round == 0 ? 1 : VALUE },
                                                                   .created = 1,
                                                                   .modified = 1 }),
                                         0);
                }
                if (round == 1)
                        thread = reading_start(&w, tree);
                assert_int_equal(tree_commit(txn), 0);
        }
        sem_post(&w.go_on);
        reading_end(&w, thread);
        assert_int_equal(w.result, -EFBIG);
        tree_close(tree);
}

static void what_walks_read_is_limited_also_where_it_is_not_visited(void **state) {
        char beginning[KV_KEY_MAX], path[KV_KEY_MAX];
        Fixture *f = *state;
        unsigned n = 0;

        memset(beginning, 'a', 600);
        beginning[0] = '/';
        beginning[600] = 0;
        put_dir(f, "/dir");
        for (unsigned i = 0; i < 100; i++) {
                snprintf(path, sizeof(path), "%s%u", beginning, i); /* long keys, which have to be sorted */
                put(f, path, "v");
                snprintf(path, sizeof(path), "/dir/%u", i);
                put(f, path, "v");
        }
        tree_limit_walks(f->txn, 50);
        assert_int_equal(tree_walk(f->txn, kv_string("/"), true, count_node, &n), -E2BIG);
        assert_int_equal(n, 0);
        tree_limit_walks(f->txn, 50);
        assert_int_equal(tree_walk(f->txn, kv_string("/dir"), true, count_node, &n), -E2BIG);
        assert_int_equal(n, 50);
        tree_limit_walks(f->txn, 0);
        n = 0;
        assert_int_equal(tree_walk(f->txn, kv_string("/"), true, count_node, &n), 0);
        assert_int_equal(n, 201);
}

static void nodes_that_are_read_and_written_are_counted(void **state) {
        Fixture *f = *state;
        TurnWork work = {};
        KvNode node;

        put_dir(f, "/dir");
        put(f, "/dir/a", "value");
        commit(f);
        tree_set_work(f->tree, &work);
        fixture_write(f);
        assert_int_equal(tree_get(f->txn, kv_string("/dir/a"), &node), 0);
        assert_int_equal(work.nodes, 1);
        assert_in_range(work.bytes, strlen("/dir/avalue"), 64);
        work = (TurnWork) {};
        assert_int_equal(tree_walk(f->txn, kv_string("/"), true, count_node, &(unsigned) { 0 }), 0);
        assert_int_equal(work.nodes, 2);
        work = (TurnWork) {};
        put(f, "/dir/a", "another value"); /* looks at the old one, and writes */
        assert_int_equal(work.nodes, 2);
        commit(f);
        tree_set_work(f->tree, NULL);
        fixture_write(f);
        assert_int_equal(work.nodes, 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_node_is_found_after_the_tree_is_opened_again),
                TEST(an_aborted_transaction_leaves_nothing),
                TEST(an_aborted_nested_transaction_takes_back_only_its_own),
                TEST(children_are_listed_without_what_is_below_them),
                TEST(names_of_any_bytes_keep_their_place),
                TEST(paths_longer_than_a_key_are_kept_found_and_listed_in_order),
                TEST(deleting_below_a_long_path_spares_its_neighbours),
                TEST(children_are_listed_beside_a_directory_whose_key_is_just_not_cut),
                TEST(the_first_due_is_the_earliest_then_the_oldest_then_by_key),
                TEST(a_replaced_node_expires_by_its_new_time_only),
                TEST(each_change_touches_a_page_and_what_it_writes),
                TEST(a_window_that_has_fewer_events_than_it_says_is_damaged),
                TEST(users_and_fleet_are_counted_apart),
                TEST(meta_and_configuration_are_kept),
                TEST(the_map_has_space_for_the_quota_of_the_tree),
                TEST(a_reader_sees_what_was_there_when_it_began),
                TEST(the_hash_shows_any_difference),
                TEST(the_kept_hash_is_that_of_a_walk_after_any_change),
                TEST(a_byte_that_was_changed_behind_our_back_is_found_by_the_copy),
                TEST(a_copy_that_rots_anywhere_is_noticed),
                TEST(a_copy_holds_the_same_is_smaller_and_is_a_tree_of_its_own),
                TEST(a_copy_that_is_cancelled_ends_at_its_next_piece_and_leaves_nothing),
                TEST(garbage_is_rejected_with_a_message_that_names_the_folder),
                TEST(a_commit_without_space_fails_and_leaves_the_tree_unchanged),
                TEST(the_files_are_readable_by_their_owner_alone),
                TEST(five_trees_live_in_one_process),
                TEST(a_tree_that_a_worker_reads_is_closed_when_the_worker_has_ended),
                TEST(a_reader_that_is_stopped_ends_with_the_first_reason),
                TEST(a_reader_gives_up_when_the_live_file_has_doubled),
                TEST(what_walks_read_is_limited_also_where_it_is_not_visited),
                TEST(nodes_that_are_read_and_written_are_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
