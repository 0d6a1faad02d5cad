#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/text.h"
#include "kvstore/apply/apply.h"
#include "kvstore/apply/events.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/model.h"
#include "tests/lib/scratch.h"

typedef struct Fixture {
        char *scratch;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
        TreeMeta meta;
        uint64_t term;
        Arena arena;
        Text events; /* of the last command */
} Fixture;

static void on_event(void *userdata, const KvEvent *event) {
        model_print_event(&((Fixture *) userdata)->events, event);
}

static Fixture *fixture_new(void) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        path = scratch_path(f->scratch, "tree");
        f->term = 1;
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        return f;
}

static Fixture *fixture_free(Fixture *f) {
        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        arena_done(&f->arena);
        text_done(&f->events);
        free(f);
        return NULL;
}

static int setup(void **state) {
        *state = fixture_new();
        return 0;
}

static int teardown(void **state) {
        *state = fixture_free(*state);
        return 0;
}

static KvResult apply(Fixture *f, KvCommand cmd) {
        ApplySink sink = { .on_event = on_event, .userdata = f };
        KvResult result;

        text_clear(&f->events);
        assert_int_equal(sink_apply_command(f->txn, &f->meta, &cmd, f->term, &f->arena, &sink, &result), 0);
        return result;
}

/* Shorthand: set "/a" to "v". */
static KvResult set(Fixture *f, const char *key, const char *value) {
        return apply(f, SET(key, value));
}

static KvResult set_for(Fixture *f, const char *key, const char *value, uint64_t ttl_ms) {
        return apply(f, SET(key, value, TTL(ttl_ms)));
}

static KvResult make_dir(Fixture *f, const char *key) {
        return apply(f, COMMAND(KV_SET, key, .dir = true));
}

static KvResult expire(Fixture *f, uint64_t now_ms, uint64_t limit) {
        f->meta.cluster_ms = now_ms;
        return apply(f, (KvCommand) { .op = KV_EXPIRE, .internal = true, .limit = limit });
}

static bool node_of(Fixture *f, const char *key, KvNode *ret) {
        int r = tree_get(f->txn, kv_string(key), ret);

        assert_true(r == 0 || r == -ENOENT);
        return r == 0;
}

static bool exists(Fixture *f, const char *key) {
        KvNode node;

        return node_of(f, key, &node);
}

static void assert_bytes(KvBytes bytes, const char *expected) {
        if (!kv_bytes_equal(bytes, kv_string(expected)))
                fail_msg("'%.*s' is not '%s'", (int) bytes.size, (const char *) bytes.data, expected);
}

static void assert_value(Fixture *f, const char *key, const char *value) {
        KvNode node;

        assert_true(node_of(f, key, &node));
        assert_bytes(node.value, value);
}

static void assert_refused(Fixture *f, KvResult result, KvStatus status, const char *cause) {
        if (result.status != status)
                fail_msg("'%s' is not '%s'", kv_status_name(result.status), kv_status_name(status));
        assert_bytes(result.cause, cause);
        assert_int_equal(result.index, f->meta.index);
        assert_false(result.has_node);
        assert_int_equal(f->events.size, 0);
}

static void a_set_makes_the_directories_on_its_way_with_its_own_index(void **state) {
        Fixture *f = *state;
        KvResult result;
        KvNode dir;

        set(f, "/first", "");
        result = set(f, "/a/b/c", "v");
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.action, KV_ACTION_SET);
        assert_int_equal(result.index, 2);
        assert_false(result.has_prev);
        assert_true(node_of(f, "/a", &dir) && dir.dir && dir.created == 2 && dir.modified == 2);
        assert_true(node_of(f, "/a/b", &dir) && dir.dir && dir.created == 2 && dir.modified == 2);
        assert_string_equal(f->events.chars, "set 2 key=/a/b/c value=v file 2/2/0\n");
}

static void a_set_over_a_file_makes_a_new_node_without_the_old_ttl(void **state) {
        Fixture *f = *state;
        KvResult result;
        KvNode node;

        set_for(f, "/a", "old", 5000);
        result = set(f, "/a", "new");
        assert_true(result.has_prev);
        assert_bytes(result.prev.value, "old");
        assert_int_equal(result.prev.expires_ms, 5000);
        assert_true(node_of(f, "/a", &node));
        assert_int_equal(node.created, 2);
        assert_int_equal(node.expires_ms, 0);

        apply(f, COMMAND(KV_SET, "/a", .dir = true));
        assert_true(node_of(f, "/a", &node) && node.dir);
        assert_refused(f, set(f, "/a", "v"), KV_NOT_FILE, "/a");
        assert_refused(f, make_dir(f, "/a"), KV_NOT_FILE, "/a");
}

static void a_file_in_the_way_is_named(void **state) {
        Fixture *f = *state;

        set(f, "/a/file", "v");
        assert_refused(f, set(f, "/a/file/b/c", "v"), KV_NOT_DIR, "/a/file");
        assert_refused(f, apply(f, COMMAND(KV_CREATE, "/a/file/b")), KV_NOT_DIR, "/a/file");
        assert_refused(f, apply(f, COMMAND(KV_UPDATE, "/a/file/b")), KV_NOT_DIR, "/a/file");
        assert_refused(f, apply(f, COMMAND(KV_DELETE, "/a/file/b")), KV_NOT_DIR, "/a/file");
        assert_refused(f, apply(f, COMMAND(KV_POST, "/a/file")), KV_NOT_DIR, "/a/file");
        assert_false(exists(f, "/a/file/b"));
}

static void the_first_missing_node_is_named(void **state) {
        Fixture *f = *state;

        set(f, "/a/b", "v");
        assert_refused(f, apply(f, COMMAND(KV_UPDATE, "/a/x/y/z")), KV_NOT_FOUND, "/a/x");
        assert_refused(f, apply(f, COMMAND(KV_DELETE, "/x")), KV_NOT_FOUND, "/x");
        assert_refused(f, apply(f, COMMAND(KV_SET, "/x/y", .prev_index = 1)), KV_NOT_FOUND, "/x");
}

static void create_refuses_what_exists(void **state) {
        Fixture *f = *state;

        assert_int_equal(apply(f, COMMAND(KV_CREATE, "/d/a")).action, KV_ACTION_CREATE);
        assert_refused(f, apply(f, COMMAND(KV_CREATE, "/d/a")), KV_EXISTS, "/d/a");
        assert_refused(f, apply(f, COMMAND(KV_CREATE, "/d")), KV_EXISTS, "/d");
}

static void update_keeps_the_created_index_and_takes_ttl_and_value_from_the_request(void **state) {
        Fixture *f = *state;
        KvResult result;
        KvNode node;

        set_for(f, "/a", "v", 5000);
        result = apply(f, COMMAND(KV_UPDATE, "/a"));
        assert_int_equal(result.action, KV_ACTION_UPDATE);
        assert_true(node_of(f, "/a", &node));
        assert_int_equal(node.created, 1);
        assert_int_equal(node.modified, 2);
        assert_int_equal(node.expires_ms, 0);
        assert_int_equal(node.value.size, 0);
}

static void updating_a_directory_changes_its_ttl_but_not_its_stored_index(void **state) {
        Fixture *f = *state;
        KvResult result;
        KvNode node;

        make_dir(f, "/d");
        result = apply(f, COMMAND(KV_UPDATE, "/d", TTL(700)));
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.node.modified, 2);
        assert_true(result.node.dir);
        assert_true(node_of(f, "/d", &node) && node.dir);
        assert_int_equal(node.modified, 1);
        assert_int_equal(node.expires_ms, 700);
        assert_refused(f, apply(f, COMMAND(KV_UPDATE, "/d", .value = kv_string("v"))), KV_NOT_FILE, "/d");
}

static void a_comparison_that_fails_says_what_it_found(void **state) {
        Fixture *f = *state;
        KvCommand swap = SET("/a", "new", .prev_index = 9);
        KvCommand remove = COMMAND(KV_DELETE, "/a", IF_VALUE("x"));

        set(f, "/a", "v");
        assert_refused(f, apply(f, swap), KV_COMPARE_FAILED, "[9 != 1]");
        assert_refused(f, apply(f, remove), KV_COMPARE_FAILED, "[x != v]");
        remove.prev_index = 8;
        assert_refused(f, apply(f, remove), KV_COMPARE_FAILED, "[x != v] [8 != 1]");
        make_dir(f, "/d");
        swap.key = kv_string("/d");
        assert_refused(f, apply(f, swap), KV_NOT_FILE, "/d");
        assert_value(f, "/a", "v");
}

static void a_comparison_that_holds_swaps_or_deletes(void **state) {
        Fixture *f = *state;
        KvResult result;
        KvNode node;

        set(f, "/a", "v");
        result = apply(f, SET("/a", "w", .prev_index = 1, IF_VALUE("v")));
        assert_int_equal(result.action, KV_ACTION_CAS);
        assert_bytes(result.prev.value, "v");
        assert_true(node_of(f, "/a", &node));
        assert_int_equal(node.created, 1);
        assert_int_equal(node.modified, 2);

        result = apply(f, COMMAND(KV_DELETE, "/a", .prev_index = 2));
        assert_int_equal(result.action, KV_ACTION_CAD);
        assert_bytes(result.prev.value, "w");
        assert_false(exists(f, "/a"));
}

static void an_in_order_child_is_named_after_the_next_index(void **state) {
        Fixture *f = *state;
        KvResult result;

        result = apply(f, COMMAND(KV_POST, "/q", .value = kv_string("job")));
        assert_int_equal(result.action, KV_ACTION_CREATE);
        assert_bytes(result.node.key, "/q/00000000000000000001");
        result = apply(f, COMMAND(KV_POST, "/"));
        assert_bytes(result.node.key, "/00000000000000000002");
        set(f, "/q/00000000000000000004", "in the way");
        assert_refused(f, apply(f, COMMAND(KV_POST, "/q")), KV_EXISTS, "/q/00000000000000000004");
}

static void a_directory_goes_only_when_it_is_asked_for(void **state) {
        Fixture *f = *state;
        KvCommand remove = COMMAND(KV_DELETE, "/d");
        KvResult result;

        set(f, "/d/e/_hidden", "v");
        set(f, "/d2", "v");
        assert_refused(f, apply(f, remove), KV_NOT_FILE, "/d");
        remove.dir = true;
        assert_refused(f, apply(f, remove), KV_DIR_NOT_EMPTY, "/d");
        remove.recursive = true;
        remove.dir = false;
        result = apply(f, remove);
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.index, 3);
        assert_string_equal(f->events.chars, "delete 3 key=/d value= dir 1/3/0 <- key=/d value= dir 1/1/0\n");
        assert_false(exists(f, "/d/e/_hidden"));
        assert_true(exists(f, "/d2"));
}

static void the_root_is_read_only(void **state) {
        Fixture *f = *state;

        assert_refused(f, set(f, "/", "v"), KV_ROOT_READ_ONLY, "/");
        assert_refused(f, apply(f, COMMAND(KV_CREATE, "/")), KV_ROOT_READ_ONLY, "/");
        assert_refused(f, apply(f, COMMAND(KV_UPDATE, "/")), KV_ROOT_READ_ONLY, "/");
        assert_refused(f, apply(f, COMMAND(KV_SET, "/", .prev_index = 1)), KV_ROOT_READ_ONLY, "/");
        assert_refused(f, apply(f, COMMAND(KV_DELETE, "/", .recursive = true)), KV_ROOT_READ_ONLY, "/");
        assert_refused(f, apply(f, COMMAND(KV_DELETE, "/", .prev_index = 1)), KV_NOT_FILE, "");
}

static void a_refresh_keeps_the_value_and_is_marked_for_the_watchers(void **state) {
        Fixture *f = *state;
        KvCommand refresh = COMMAND(KV_UPDATE, "/a", .refresh = true, TTL(900));
        KvResult result;

        set(f, "/a", "v");
        result = apply(f, refresh);
        assert_bytes(result.node.value, "v");
        assert_int_equal(result.node.created, 1);
        assert_string_equal(f->events.chars,
                            "update 2 refresh key=/a value=v file 1/2/900 <- key=/a value=v file 1/1/0\n");
        refresh.op = KV_SET;
        result = apply(f, refresh);
        assert_bytes(result.node.value, "v");
        assert_int_equal(result.node.created, 3);
        refresh.key = kv_string("/b");
        assert_refused(f, apply(f, refresh), KV_NOT_FOUND, "/b");
}

static void what_is_due_goes_in_order_of_time_one_event_each(void **state) {
        Fixture *f = *state;

        f->meta.cluster_ms = 1000;
        set_for(f, "/late", "", 900);
        set_for(f, "/b", "", 500);
        set_for(f, "/a", "", 500);
        set_for(f, "/now", "", 0);
        apply(f, COMMAND(KV_SET, "/d", .dir = true, TTL(600)));
        set(f, "/d/x/y", "");

        expire(f, 999, 100);
        assert_int_equal(f->events.size, 0);
        expire(f, 1700, 100);
        assert_string_equal(f->events.chars,
                            "expire 7 key=/now value= file 4/7/0 <- key=/now value= file 4/4/1000\n"
                            "expire 8 key=/b value= file 2/8/0 <- key=/b value= file 2/2/1500\n"
                            "expire 9 key=/a value= file 3/9/0 <- key=/a value= file 3/3/1500\n"
                            "expire 10 key=/d value= dir 5/10/0 <- key=/d value= dir 5/5/1600\n");
        assert_false(exists(f, "/d/x/y"));
        assert_true(exists(f, "/late"));
}

static void an_expiry_takes_no_more_nodes_than_its_limit(void **state) {
        Fixture *f = *state;
        KvResult result;

        set_for(f, "/a", "", 1);
        set_for(f, "/b", "", 2);
        set_for(f, "/c", "", 3);
        result = expire(f, 10, 2);
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.index, 5);
        assert_false(exists(f, "/b"));
        assert_true(exists(f, "/c"));
        expire(f, 10, 2);
        assert_false(exists(f, "/c"));
}

static void only_the_leader_orders_expiry(void **state) {
        Fixture *f = *state;

        set_for(f, "/a", "", 0);
        assert_int_equal(apply(f, (KvCommand) { .op = KV_EXPIRE, .limit = 10 }).status, KV_FORBIDDEN);
        assert_true(exists(f, "/a"));
}

static void a_ttl_beyond_reckoning_is_for_ever_and_not_for_a_moment(void **state) {
        Fixture *f = *state;

        set_for(f, "/a", "", UINT64_MAX);
        expire(f, UINT64_MAX / 4, 10);
        assert_true(exists(f, "/a"));
}

static void a_transaction_does_all_in_order_or_nothing(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = {
                SET("/a", "1"),
                COMMAND(KV_DELETE, "/b", .recursive = true),
                COMMAND(KV_CREATE, "/c/d"),
        };
        KvCheck checks[] = {
                { .kind = KV_CHECK_EXISTS, .key = kv_string("/b") },
                { .kind = KV_CHECK_MODIFIED, .key = kv_string("/b/x"), .index = 1 },
                { .kind = KV_CHECK_ABSENT, .key = kv_string("/c") },
        };
        KvCommand txn = { .op = KV_TXN, .writes = writes, .n_writes = 3, .checks = checks, .n_checks = 3 };
        KvResult result;

        set(f, "/b/x", "");
        checks[1].index = 7;
        assert_refused(f, apply(f, txn), KV_COMPARE_FAILED, "/b/x");
        checks[1].index = 1;
        writes[2].key = kv_string("/b2/x");
        set(f, "/b2", "");
        assert_refused(f, apply(f, txn), KV_NOT_DIR, "/b2");
        assert_false(exists(f, "/a"));
        assert_true(exists(f, "/b/x"));
        assert_int_equal(f->meta.index, 2);

        writes[2].key = kv_string("/c/d");
        result = apply(f, txn);
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.index, 5);
        assert_string_equal(f->events.chars, "set 3 key=/a value=1 file 3/3/0\n"
                                             "delete 4 key=/b value= dir 1/4/0 <- key=/b value= dir 1/1/0\n"
                                             "create 5 key=/c/d value= file 5/5/0\n");
        assert_refused(f, apply(f, txn), KV_COMPARE_FAILED, "/b");
}

static void a_check_of_a_value_holds_for_a_file_with_these_very_bytes(void **state) {
        Fixture *f = *state;
        KvCommand write = SET("/b", "new");
        KvCheck check = { .kind = KV_CHECK_VALUE, .key = kv_string("/a"), .value = { "a\0b", 3 } };
        KvCommand txn = { .op = KV_TXN, .writes = &write, .n_writes = 1, .checks = &check, .n_checks = 1 };

        assert_refused(f, apply(f, txn), KV_COMPARE_FAILED, "/a");
        set(f, "/a/below", "");
        check.value = kv_string("");
        assert_refused(f, apply(f, txn), KV_COMPARE_FAILED,
                       "/a"); /* a directory has none, not an empty one */
        check.key = kv_string("/a/below");
        assert_int_equal(apply(f, txn).status, KV_OK);
        assert_int_equal(apply(f, COMMAND(KV_SET, "/c", .value = { "a\0c", 3 })).status, KV_OK);
        check = (KvCheck) { .kind = KV_CHECK_VALUE, .key = kv_string("/c"), .value = { "a\0b", 3 } };
        assert_refused(f, apply(f, txn), KV_COMPARE_FAILED, "/c");
        check.value.data = "a\0c";
        assert_int_equal(apply(f, txn).status, KV_OK);
}

static void a_transaction_answers_for_each_of_its_writes_or_for_what_refused_it(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = {
                SET("/a", "1"),
                SET("/a", "2"),
                COMMAND(KV_DELETE, "/a"),
        };
        KvCheck checks[] = {
                { .kind = KV_CHECK_ABSENT, .key = kv_string("/a") },
                { .kind = KV_CHECK_MODIFIED, .key = kv_string("/b"), .index = 7 },
        };
        KvCommand txn = { .op = KV_TXN, .writes = writes, .n_writes = 3, .checks = checks, .n_checks = 2 };
        KvResult result;

        set(f, "/b", "found");
        result = apply(f, txn);
        assert_int_equal(result.refused_at, 2);
        assert_true(result.has_found && kv_bytes_equal(result.found.value, kv_string("found")) &&
                    result.found.modified == 1);
        checks[1].index = 1;
        writes[2].key = kv_string("/gone");
        result = apply(f, txn);
        assert_int_equal(result.status, KV_NOT_FOUND);
        assert_int_equal(result.refused_at, 5);
        writes[2].key = kv_string("/a");
        result = apply(f, txn);
        assert_int_equal(result.status, KV_OK);
        assert_int_equal(result.n_written, 3);
        assert_false(result.written[0].has_prev);
        assert_true(kv_bytes_equal(result.written[1].prev.value, kv_string("1")));
        assert_int_equal(result.written[2].action, KV_ACTION_DELETE);
        assert_true(kv_bytes_equal(result.written[2].prev.value, kv_string("2")));
        assert_int_equal(result.written[2].node.modified, 4);
}

static void the_answer_to_a_transaction_is_bounded_for_all_removals(void **state) {
        _cleanup_free_ char *large = calloc(1, KV_VALUE_MAX);
        Fixture *f = *state;
        KvCommand writes[6] = {};
        char keys[6][4];
        KvResult result;

        for (unsigned i = 0; i < 6; i++) {
                snprintf(keys[i], sizeof(keys[i]), "/%u", i);
                assert_int_equal(apply(f, COMMAND(KV_SET, keys[i], .value = { large, KV_VALUE_MAX })).status,
                                 KV_OK);
                writes[i] = COMMAND(KV_DELETE, keys[i]);
        }
        result = apply(f, (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = 6 });
        assert_int_equal(result.status, KV_OK);
        for (unsigned i = 0; i < 6; i++)
                assert_int_equal(result.written[i].prev_cut, i >= KV_WRITTEN_MAX / KV_VALUE_MAX);
        assert_int_equal(result.written[5].prev.value.size, 0);
}

static void a_transaction_sees_its_own_writes(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = {
                SET("/a", "1"),
                SET("/a", "2", IF_VALUE("1")),
                SET("/a", "3", IF_VALUE("1")),
        };

        assert_refused(f, apply(f, (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = 3 }),
                       KV_COMPARE_FAILED, "/a");
        assert_int_equal(apply(f, (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = 2 }).status,
                         KV_OK);
        assert_value(f, "/a", "2");
}

static void an_order_of_an_older_term_changes_nothing(void **state) {
        Fixture *f = *state;

        f->term = 5;
        assert_refused(f, apply(f, COMMAND(KV_SET, "/a", .term = 4)), KV_TERM_CHANGED, "");
        assert_int_equal(apply(f, COMMAND(KV_SET, "/a", .term = 5)).status, KV_OK);
}

static void fleets_own_keys_are_written_by_fleet_alone(void **state) {
        Fixture *f = *state;
        KvCommand write = COMMAND(KV_SET, "/_fleet/unit/a", .internal = true);

        assert_int_equal(apply(f, write).status, KV_OK);
        write.internal = false;
        assert_int_equal(apply(f, write).status, KV_FORBIDDEN);
        assert_int_equal(apply(f, (KvCommand) { .op = KV_TXN, .writes = &write, .n_writes = 1 }).status,
                         KV_FORBIDDEN);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, "/_fleet", .recursive = true)).status, KV_FORBIDDEN);
        assert_true(exists(f, "/_fleet/unit/a"));
        assert_int_equal(set(f, "/_fleetwood", "").status, KV_OK);
}

static void a_quota_of_nodes_refuses_new_ones_and_not_changes(void **state) {
        Fixture *f = *state;
        KvResult refused;

        (void) set(f, "/a", "1");
        f->meta.quota_nodes = 2;
        assert_int_equal(set(f, "/d/b", "1").status, KV_TOO_LARGE); /* two: the directory counts, too */
        assert_false(exists(f, "/d"));
        assert_int_equal(set(f, "/b", "1").status, KV_OK);
        refused = set(f, "/c", "1");
        assert_int_equal(refused.status, KV_TOO_LARGE);
        assert_bytes(refused.cause, "the quota of 2 nodes (QuotaKeys=) for users' keys is used up");
        assert_int_equal(set(f, "/b", "2").status, KV_OK);
        assert_int_equal(apply(f, SET("/_fleet/unit/x", "1", .internal = true)).status, KV_OK);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, "/a")).status, KV_OK);
        assert_int_equal(set(f, "/c", "1").status, KV_OK);
}

static int apply_raise_in_batch(Fixture *f, unsigned head_level, uint64_t raise_to, unsigned level_max) {
        _cleanup_writer_ Writer batch = {}, command = {};
        KvBatch b;
        KvCommand cmd = { .op = KV_RAISE, .internal = true, .limit = raise_to };

        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &command), 0);
        kv_batch_begin(&b, &batch, &(KvBatchHead) { .level = head_level, .quota_nodes = 77 });
        kv_batch_add(&b, &batch,
                     &(KvBatchItem) { .origin = 1,
                                      .number = f->meta.applied + 1,
                                      .acknowledged = 1,
                                      .command = command.bytes,
                                      .command_size = command.size });
        return sink_apply_batch(f->txn, f->meta.applied + 1, 1, batch.bytes, batch.size,
                                &(ApplySink) { .level_max = level_max });
}

static void the_feature_level_goes_up_and_never_down_and_batches_follow_it(void **state) {
        Fixture *f = *state;
        TreeMeta meta;

        assert_int_equal(apply_raise_in_batch(f, 2, 1, 0), -EBADMSG); /* before it was raised */
        assert_int_equal(apply_raise_in_batch(f, 1, 2, 0), 0);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.level, 2);
        assert_int_equal(meta.quota_nodes, 0);
        assert_int_equal(apply_raise_in_batch(f, 2, 1, 0), 0);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.level, 2);
        assert_int_equal(meta.quota_nodes, 77);
        assert_int_equal(apply(f, (KvCommand) { .op = KV_RAISE, .limit = 2 }).status,
                         KV_FORBIDDEN); /* a user's */
}

static void a_program_that_knows_less_stops_and_skips_nothing(void **state) {
        Fixture *f = *state;

        assert_int_equal(apply_raise_in_batch(f, 1, 2, 1), -ENOTSUP);
        assert_int_equal(apply_raise_in_batch(f, 1, KV_LEVEL_MAX + 1, 0), -ENOTSUP);
        assert_int_equal(apply_raise_in_batch(f, KV_LEVEL_MAX + 1, 1, 0), -ENOTSUP);
        assert_int_equal(apply_raise_in_batch(f, 1, 2, 0), 0);
        assert_int_equal(apply_raise_in_batch(f, 1, 1, 1), -ENOTSUP); /* the tree is ahead of it */
}

static void a_full_quota_refuses_users_and_not_fleet(void **state) {
        Fixture *f = *state;
        KvCommand ours = SET("/_fleet/a", "v", .internal = true);
        char value[201] = "";
        KvResult result;

        memset(value, 'v', 200);
        f->meta.quota = 1000;
        assert_int_equal(set(f, "/a", value).status, KV_OK);
        assert_int_equal(set(f, "/b", value).status, KV_OK);
        result = set(f, "/c/d/e", value);
        assert_int_equal(result.status, KV_TOO_LARGE);
        assert_non_null(memmem(result.cause.data, result.cause.size, "1000 bytes", 10));
        assert_false(exists(f, "/c"));
        assert_int_equal(apply(f, ours).status, KV_OK);

        /* Who is over the limit may still become lighter, and never heavier. */
        f->meta.quota = 100;
        assert_int_equal(set(f, "/a", "v").status, KV_OK);
        assert_int_equal(set(f, "/a", "vv").status, KV_TOO_LARGE);
        assert_int_equal(apply(f, COMMAND(KV_UPDATE, "/a", .value = kv_string("vv"))).status, KV_TOO_LARGE);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, "/b")).status, KV_OK);
}

static void too_large_a_directory_is_not_deleted_at_once_but_expires_in_pages(void **state) {
        Fixture *f = *state;
        KvCommand remove = COMMAND(KV_DELETE, "/d", .recursive = true);
        uint64_t entries = 0;
        KvNode node = { .dir = true, .created = 1, .modified = 1 };
        char path[64];

        apply(f, COMMAND(KV_SET, "/d", .dir = true, TTL(10)));
        for (unsigned i = 0; i <= APPLY_SUBTREE_MAX; i++) {
                snprintf(path, sizeof(path), i % 1000 == 0 ? "/d/%03u" : "/d/%03u/%03u", i / 1000, i % 1000);
                node.key = kv_string(path);
                node.dir = i % 1000 == 0;
                assert_int_equal(tree_put(f->txn, &node), 0);
        }
        assert_int_equal(apply(f, remove).status, KV_TOO_LARGE);
        assert_true(exists(f, "/d/000/001"));

        while (exists(f, "/d")) {
                assert_int_equal(expire(f, 10, 40000).status, KV_OK);
                assert_true(++entries < 10);
        }
        assert_true(entries >= 2);
        assert_int_equal(tree_check(f->txn, NULL), 0);
}

/* -- All of an answer -- */

/* The tree before each of them: index 10, cluster time 1000. */
static const KvNode before[] = {
        { .key = { "/a", 2 }, .value = { "v", 1 }, .created = 3, .modified = 4, .expires_ms = 5000 },
        { .key = { "/d", 2 }, .dir = true, .created = 1, .modified = 1 },
        { .key = { "/d/x", 4 }, .value = { "w", 1 }, .created = 2, .modified = 2 },
        { .key = { "/due", 4 }, .value = { "z", 1 }, .created = 6, .modified = 8, .expires_ms = 900 },
        { .key = { "/due2", 5 }, .dir = true, .created = 7, .modified = 7, .expires_ms = 1000 },
        { .key = { "/e", 2 }, .dir = true, .created = 5, .modified = 5 },
};

static int print_short(void *userdata, const KvNode *node) {
        text_printf(userdata, "%.*s%s%.*s %llu/%llu/%llu, ", (int) node->key.size,
                    (const char *) node->key.data, node->dir ? "/" : "=", (int) node->value.size,
                    (const char *) node->value.data, (unsigned long long) node->created,
                    (unsigned long long) node->modified, (unsigned long long) node->expires_ms);
        return 1;
}

static void print_answer(Text *t, const KvResult *r) {
        model_print_result(t, r);
        text_printf(t, " at %llu", (unsigned long long) r->now_ms);
        if (r->refused_at > 0)
                text_printf(t, " refused %zu", r->refused_at);
        if (r->has_found) {
                text_append(t, " found ");
                print_short(t, &r->found);
        }
        for (size_t i = 0; i < r->n_written; i++) {
                text_printf(t, " %s ", kv_action_name(r->written[i].action));
                print_short(t, &r->written[i].node);
                if (r->written[i].has_prev) {
                        text_append(t, "<- ");
                        print_short(t, &r->written[i].prev);
                }
        }
}

/* What stands in kvstore/command/cost.h, of a command that looks up, passes, makes directories and changes so
 * much.
 */
static void each_command_answers_changes_and_costs_what_is_written_here(void **state) {
        KvCommand writes[] = {
                SET("/n", "1"),
                COMMAND(KV_DELETE, "/d", .recursive = true),
                SET("/a", "2", .prev_index = 4),
                SET("/n", "3", .has_prev_value = true),
                COMMAND(KV_CREATE, "/e"),
        };
        KvCheck checks[] = {
                { .kind = KV_CHECK_MODIFIED, .key = kv_string("/a"), .index = 4 },
                { .kind = KV_CHECK_MODIFIED, .key = kv_string("/none") },
                { .kind = KV_CHECK_VALUE, .key = kv_string("/d/x"), .value = kv_string("v") },
                { .kind = KV_CHECK_EXISTS, .key = kv_string("/none") },
        };
        const struct {
                KvCommand cmd;
                const char *answer, *events, *tree; /* NULL: as before */
                uint64_t cost;
        } table[] = {
                { SET("/n/m/o", "1", TTL(50)), "ok set 11 cause= key=/n/m/o value=1 file 11/11/1050 at 1000",
                  "set 11 key=/n/m/o value=1 file 11/11/1050\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, /n/ "
                  "11/11/0, "
                  "/n/m/ 11/11/0, /n/m/o=1 11/11/1050, ",
                  17717 },
                { SET("/a", "new"),
                  "ok set 11 cause= key=/a value=new file 11/11/0 <- key=/a value=v file 3/4/5000 at 1000",
                  "set 11 key=/a value=new file 11/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/a=new 11/11/0, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8988 },
                { COMMAND(KV_SET, "/a", .dir = true),
                  "ok set 11 cause= key=/a value= dir 11/11/0 <- key=/a value=v file 3/4/5000 at 1000",
                  "set 11 key=/a value= dir 11/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/a/ 11/11/0, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8976 },
                { COMMAND(KV_SET, "/a", .refresh = true, TTL(70)),
                  "ok set 11 cause= key=/a value=v file 11/11/1070 <- key=/a value=v file 3/4/5000 at 1000",
                  "set 11 refresh key=/a value= file 11/11/1070 <- key=/a value= file 3/4/5000\n",
                  "/a=v 11/11/1070, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  10766 },
                { COMMAND(KV_SET, "/d/y", .refresh = true, .has_ttl = true),
                  "key not found get 10 cause=/d/y at 1000", "", NULL, 3594 },
                { SET("/d", "1"), "not a file get 10 cause=/d at 1000", "", NULL, 2562 },
                { COMMAND(KV_SET, "/a/b/c"), "not a directory get 10 cause=/a at 1000", "", NULL, 3596 },
                { COMMAND(KV_SET, "/"), "root is read only get 10 cause=/ at 1000", "", NULL, 2048 },
                { COMMAND(KV_SET, "/a", .term = 8), "term has changed get 10 cause= at 1000", "", NULL,
                  2048 },
                { COMMAND(KV_CREATE, "/d/y", .value = kv_string("1")),
                  "ok create 11 cause= key=/d/y value=1 file 11/11/0 at 1000",
                  "create 11 key=/d/y value=1 file 11/11/0\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /d/y=1 11/11/0, /due=z 6/8/900, /due2/ 7/7/1000, "
                  "/e/ 5/5/0, ",
                  7706 },
                { COMMAND(KV_CREATE, "/a", .value = kv_string("1")),
                  "key already exists get 10 cause=/a at 1000", "", NULL, 2562 },
                { COMMAND(KV_CREATE, "/n", .dir = true, TTL(9)),
                  "ok create 11 cause= key=/n value= dir 11/11/1009 at 1000",
                  "create 11 key=/n value= dir 11/11/1009\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, /n/ "
                  "11/11/1009, ",
                  9483 },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("new"), TTL(3)),
                  "ok update 11 cause= key=/a value=new file 3/11/1003 <- key=/a value=v file 3/4/5000 at "
                  "1000",
                  "update 11 key=/a value=new file 3/11/1003 <- key=/a value=v file 3/4/5000\n",
                  "/a=new 3/11/1003, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  10780 },
                { COMMAND(KV_UPDATE, "/a", .refresh = true),
                  "ok update 11 cause= key=/a value=v file 3/11/0 <- key=/a value=v file 3/4/5000 at 1000",
                  "update 11 refresh key=/a value= file 3/11/0 <- key=/a value= file 3/4/5000\n",
                  "/a=v 3/11/0, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8974 },
                { COMMAND(KV_UPDATE, "/d", TTL(3)),
                  "ok update 11 cause= key=/d value= dir 1/11/1003 <- key=/d value= dir 1/1/0 at 1000",
                  "update 11 key=/d value= dir 1/11/1003 <- key=/d value= dir 1/1/0\n",
                  "/a=v 3/4/5000, /d/ 1/1/1003, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8970 },
                { COMMAND(KV_UPDATE, "/d", .value = kv_string("1")), "not a file get 10 cause=/d at 1000", "",
                  NULL, 2562 },
                { COMMAND(KV_UPDATE, "/d/n/m"), "key not found get 10 cause=/d/n at 1000", "", NULL, 3596 },
                { SET("/a", "new", .prev_index = 4),
                  "ok compareAndSwap 11 cause= key=/a value=new file 3/11/0 <- key=/a value=v file 3/4/5000 "
                  "at 1000",
                  "compareAndSwap 11 key=/a value=new file 3/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/a=new 3/11/0, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8988 },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("new"), IF_VALUE("v")),
                  "ok compareAndSwap 11 cause= key=/a value=new file 3/11/0 <- key=/a value=v file 3/4/5000 "
                  "at 1000",
                  "compareAndSwap 11 key=/a value=new file 3/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/a=new 3/11/0, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8988 },
                { COMMAND(KV_SET, "/a", .prev_index = 3), "compare failed get 10 cause=[3 != 4] at 1000", "",
                  NULL, 2562 },
                { COMMAND(KV_SET, "/a", IF_VALUE("w"), .prev_index = 4),
                  "compare failed get 10 cause=[w != v] at 1000", "", NULL, 2570 },
                { COMMAND(KV_SET, "/a", .has_prev_value = true, .prev_index = 5),
                  "compare failed get 10 cause=[ != v] [5 != 4] at 1000", "", NULL, 2566 },
                { COMMAND(KV_SET, "/d", .prev_index = 1), "not a file get 10 cause=/d at 1000", "", NULL,
                  2562 },
                { COMMAND(KV_POST, "/d", .value = kv_string("1")),
                  "ok create 11 cause= key=/d/00000000000000000011 value=1 file 11/11/0 at 1000",
                  "create 11 key=/d/00000000000000000011 value=1 file 11/11/0\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/00000000000000000011=1 11/11/0, /d/x=w 2/2/0, /due=z "
                  "6/8/900, /due2/ "
                  "7/7/1000, /e/ 5/5/0, ",
                  7801 },
                { COMMAND(KV_POST, "/"),
                  "ok create 11 cause= key=/00000000000000000011 value= file 11/11/0 at 1000",
                  "create 11 key=/00000000000000000011 value= file 11/11/0\n",
                  "/00000000000000000011= 11/11/0, /a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, "
                  "/due2/ "
                  "7/7/1000, /e/ 5/5/0, ",
                  7786 },
                { COMMAND(KV_POST, "/a"), "not a directory get 10 cause=/a at 1000", "", NULL, 3097 },
                { COMMAND(KV_DELETE, "/a"),
                  "ok delete 11 cause= key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000 at 1000",
                  "delete 11 key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ", 8976 },
                { COMMAND(KV_DELETE, "/a", .recursive = true),
                  "ok delete 11 cause= key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000 at 1000",
                  "delete 11 key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ", 8976 },
                { COMMAND(KV_DELETE, "/a", .prev_index = 4),
                  "ok compareAndDelete 11 cause= key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000 "
                  "at 1000",
                  "compareAndDelete 11 key=/a value= file 3/11/0 <- key=/a value=v file 3/4/5000\n",
                  "/d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ", 8976 },
                { COMMAND(KV_DELETE, "/a", IF_VALUE("w")), "compare failed get 10 cause=[w != v] at 1000", "",
                  NULL, 2570 },
                { COMMAND(KV_DELETE, "/e"), "not a file get 10 cause=/e at 1000", "", NULL, 2562 },
                { COMMAND(KV_DELETE, "/e", .dir = true),
                  "ok delete 11 cause= key=/e value= dir 5/11/0 <- key=/e value= dir 5/5/0 at 1000",
                  "delete 11 key=/e value= dir 5/11/0 <- key=/e value= dir 5/5/0\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, ", 7178 },
                { COMMAND(KV_DELETE, "/d", .dir = true), "directory not empty get 10 cause=/d at 1000", "",
                  NULL, 2690 },
                { COMMAND(KV_DELETE, "/d", .recursive = true),
                  "ok delete 11 cause= key=/d value= dir 1/11/0 <- key=/d value= dir 1/1/0 at 1000",
                  "delete 11 key=/d value= dir 1/11/0 <- key=/d value= dir 1/1/0\n",
                  "/a=v 3/4/5000, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ", 7567 },
                { COMMAND(KV_DELETE, "/d/y"), "key not found get 10 cause=/d/y at 1000", "", NULL, 3078 },
                { COMMAND(KV_DELETE, "/", .recursive = true), "root is read only get 10 cause=/ at 1000", "",
                  NULL, 2048 },
                { { .op = KV_EXPIRE, .internal = true, .limit = 1 },
                  "ok expire 11 cause= at 1000",
                  "expire 11 key=/due value= file 6/11/0 <- key=/due value=z file 6/8/900\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  8986 },
                { { .op = KV_EXPIRE, .internal = true, .limit = 9 },
                  "ok expire 12 cause= at 1000",
                  "expire 11 key=/due value= file 6/11/0 <- key=/due value=z file 6/8/900\n"
                  "expire 12 key=/due2 value= dir 7/12/0 <- key=/due2 value= dir 7/7/1000\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /e/ 5/5/0, ",
                  15923 },
                { { .op = KV_EXPIRE, .internal = true, .limit = 9, TTL(900), .prev_index = 6 },
                  "ok expire 11 cause= at 1000",
                  "expire 11 key=/due value= file 6/11/0 <- key=/due value=z file 6/8/900\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due2/ 7/7/1000, /e/ 5/5/0, ",
                  9503 },
                { { .op = KV_EXPIRE, .internal = true, .limit = 9, TTL(900), .prev_index = 7 },
                  "ok expire 10 cause= at 1000",
                  "",
                  NULL,
                  2564 },
                { { .op = KV_EXPIRE, .internal = true, .limit = 9, TTL(901), .prev_index = 6 },
                  "ok expire 10 cause= at 1000",
                  "",
                  NULL,
                  2564 },
                { { .op = KV_EXPIRE, .limit = 9 },
                  "not permitted get 10 cause=expiry and feature level are fleet's to order at 1000",
                  "",
                  NULL,
                  2048 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 2, .writes = writes, .n_writes = 3 },
                  "ok set 13 cause= at 1000 set /n=1 11/11/0,  delete /d/ 1/12/0, <- /d/ 1/1/0,  "
                  "compareAndSwap /a=2 "
                  "3/13/0, <- /a=v 3/4/5000, ",
                  "set 11 key=/n value=1 file 11/11/0\n"
                  "delete 12 key=/d value= dir 1/12/0 <- key=/d value= dir 1/1/0\n"
                  "compareAndSwap 13 key=/a value=2 file 3/13/0 <- key=/a value=v file 3/4/5000\n",
                  "/a=2 3/13/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, /n=1 11/11/0, ",
                  37561 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 2, .writes = writes, .n_writes = 1 },
                  "ok set 11 cause= at 1000 set /n=1 11/11/0, ",
                  "set 11 key=/n value=1 file 11/11/0\n",
                  "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, /n=1 "
                  "11/11/0, ",
                  8726 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
                  "ok set 10 cause= at 1000",
                  "",
                  NULL,
                  2562 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 3, .writes = writes, .n_writes = 3 },
                  "compare failed get 10 cause=/d/x at 1000 refused 3 found /d/x=w 2/2/0, ",
                  "",
                  NULL,
                  3611 },
                { { .op = KV_TXN, .checks = checks + 3, .n_checks = 1, .writes = writes, .n_writes = 3 },
                  "compare failed get 10 cause=/none at 1000 refused 1",
                  "",
                  NULL,
                  2565 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 2, .writes = writes, .n_writes = 4 },
                  "compare failed get 10 cause=/n at 1000 refused 6",
                  "",
                  NULL,
                  38079 },
                { { .op = KV_TXN, .writes = writes + 4, .n_writes = 1 },
                  "key already exists get 10 cause=/e at 1000 refused 1",
                  "",
                  NULL,
                  2562 },
                { { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 2 },
                  "ok set 12 cause= at 1000",
                  "set 11 key=/n value=1 file 11/11/0\n"
                  "delete 12 key=/d value= dir 1/12/0 <- key=/d value= dir 1/1/0\n",
                  "/a=v 3/4/5000, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, /n=1 11/11/0, ",
                  29598 },
                { { .op = KV_RAISE, .internal = true, .limit = 2 },
                  "ok set 10 cause= at 1000",
                  "",
                  NULL,
                  2048 },
        };
        Fixture *f = *state;
        TreeTxn *outer = f->txn;
        static const char unchanged[] =
                "/a=v 3/4/5000, /d/ 1/1/0, /d/x=w 2/2/0, /due=z 6/8/900, /due2/ 7/7/1000, /e/ 5/5/0, ";

        for (size_t i = 0; i < ELEMENTS(before); i++)
                assert_int_equal(tree_put(outer, &before[i]), 0);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_text_ Text answer = {}, tree = {};
                Cost cost = {};
                ApplySink sink = { .on_event = on_event, .userdata = f, .cost = &cost };
                KvResult result;

                text_clear(&f->events);
                f->meta = (TreeMeta) { .index = 10, .cluster_ms = 1000, .level = KV_LEVEL_COST };
                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                assert_int_equal(
                        sink_apply_command(f->txn, &f->meta, &table[i].cmd, 7, &f->arena, &sink, &result), 0);
                print_answer(&answer, &result);
                assert_int_equal(tree_walk(f->txn, kv_string("/"), true, print_short, &tree), 0);
                tree_abort(f->txn);
                f->txn = outer;
                if (!streq(answer.chars, table[i].answer) || !streq(f->events.chars ?: "", table[i].events) ||
                    !streq(tree.chars, table[i].tree ?: unchanged) || cost.total != table[i].cost)
                        fail_msg("command %zu: %s\n%s%s\n%llu", i, answer.chars, f->events.chars ?: "",
                                 tree.chars, (unsigned long long) cost.total);
                assert_int_equal(f->meta.index, result.index);
        }
}

/* -- Quotas, at their edges -- */

static void the_space_of_a_quota_ends_at_its_last_byte(void **state) {
        static const KvNode there = { .key = { "/abc", 4 }, .value = { "1234", 4 } };
        static const TreeMeta used = { .n_nodes = 2, .n_bytes = 100 };
        const struct {
                KvCommand cmd;
                const KvNode *prev;
                uint64_t weight; /* 0: it takes no room */
        } table[] = {
                { SET("/abc", "0123456789"), NULL, 100 + 14 + 3 * APPLY_NODE_WEIGHT },
                { SET("/abc", "0123456789"), &there, 100 + 6 + 2 * APPLY_NODE_WEIGHT },
                { SET("/abc", "0123"), &there, 0 },
                { SET("/abc", "0"), &there, 0 },
                { SET("/abc", "0123456789", .refresh = true), &there, 0 },
                { SET("/abc", "0123456789", .refresh = true), NULL, 100 + 14 + 3 * APPLY_NODE_WEIGHT },
        };
        TreeMeta full = { .n_bytes = APPLY_QUOTA - APPLY_NODE_WEIGHT - 14 };
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                TreeMeta meta = used;

                meta.quota = table[i].weight > 0 ? table[i].weight : 1;
                assert_int_equal(apply_room(&meta, &table[i].cmd, table[i].prev, &err), 0);
                meta.quota = table[i].weight - 1;
                if (table[i].weight > 0)
                        assert_int_equal(apply_room(&meta, &table[i].cmd, table[i].prev, &err), -EDQUOT);
        }
        assert_string_equal(err.message, "the quota of 497 bytes for users' keys is used up");
        assert_int_equal(apply_room(&full, &table[0].cmd, NULL, &err), 0);
        full.n_bytes++;
        assert_int_equal(apply_room(&full, &table[0].cmd, NULL, &err), -EDQUOT);

        for (unsigned quota = 2; quota < 4; quota++) {
                TreeMeta meta = used;

                meta.quota_nodes = quota;
                assert_int_equal(apply_room(&meta, &table[0].cmd, NULL, &err), quota == 2 ? -EDQUOT : 0);
                assert_int_equal(apply_room(&meta, &table[1].cmd, &there, &err), 0);
        }
        assert_string_equal(err.message, "the quota of 2 nodes (QuotaKeys=) for users' keys is used up");
}

/* In a tree in which "/a" holds "1234", and below /_fleet "/_fleet/a" does. */
static void a_quota_is_used_up_to_its_last_byte(void **state) {
        const struct {
                KvCommand cmd;
                uint64_t weight; /* of its owner's nodes afterwards; 0: it takes no room */
        } table[] = {
                { SET("/b", "12"), 6 + 4 + 2 * APPLY_NODE_WEIGHT },
                { COMMAND(KV_CREATE, "/b/c/d", .value = kv_string("12")),
                  6 + 2 + 4 + 8 + 4 * APPLY_NODE_WEIGHT },
                { COMMAND(KV_POST, "/b"), 6 + 2 + 23 + 3 * APPLY_NODE_WEIGHT },
                { SET("/a", "12345"), 7 + APPLY_NODE_WEIGHT },
                { SET("/a", "4321"), 0 },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("12345")), 7 + APPLY_NODE_WEIGHT },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("12345"), .refresh = true), 0 },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("4321")), 0 },
                { SET("/a", "12345", .prev_index = 1), 7 + APPLY_NODE_WEIGHT },
                { SET("/_fleet/a", "12345", .internal = true), 7 + 9 + 5 + 2 * APPLY_NODE_WEIGHT },
                { COMMAND(KV_SET, "/_fleet/b", .internal = true), 7 + 13 + 9 + 3 * APPLY_NODE_WEIGHT },
                { COMMAND(KV_DELETE, "/a"), 0 },
        };
        KvCommand own = SET("/_fleet/a", "1234", .internal = true);
        Fixture *f = *state;
        TreeTxn *outer = f->txn;

        assert_int_equal(set(f, "/a", "1234").status, KV_OK);
        assert_int_equal(apply(f, own).status, KV_OK);
        for (size_t i = 0; i < 2 * ELEMENTS(table); i++) {
                uint64_t weight = table[i / 2].weight, quota = MAX(weight, 1u) - (weight > 0 ? i % 2 : 0);
                bool ours = kv_path_is_ours(table[i / 2].cmd.key);
                KvResult result;
                char cause[128];

                f->meta = (TreeMeta) { .index = 2, .quota = quota };
                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                result = apply(f, table[i / 2].cmd);
                if (weight > 0 && i % 2) {
                        snprintf(cause, sizeof(cause), "the quota of %llu bytes for %s is used up",
                                 (unsigned long long) quota, ours ? "/_fleet" : "users' keys");
                        assert_refused(f, result, KV_TOO_LARGE, cause);
                } else if (result.status != KV_OK) {
                        fail_msg("command %zu: %.*s", i / 2, (int) result.cause.size,
                                 (const char *) result.cause.data);
                }
                tree_abort(f->txn);
                f->txn = outer;
        }
}

/* -- Batches -- */

typedef struct Answers {
        KvStatus status[8];
        uint64_t number[8], index[8], now_ms[8], raft_index;
        unsigned n;
} Answers;

static void on_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {
        Answers *a = userdata;

        a->status[a->n] = result->status;
        a->number[a->n] = number;
        a->index[a->n] = result->index;
        a->now_ms[a->n++] = result->now_ms;
        a->raft_index = result->raft_index;
}

static void batch_add(KvBatch *b, Writer *w, uint64_t number, KvCommand cmd) {
        _cleanup_writer_ Writer bytes = {};

        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &bytes), 0);
        kv_batch_add(b, w,
                     &(KvBatchItem) { .origin = 1,
                                      .number = number,
                                      .acknowledged = 1,
                                      .command = bytes.bytes,
                                      .command_size = bytes.size });
}

static void keep_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {
        *(KvResult *) userdata = *result;
}

static void a_batch_answers_each_command_and_moves_the_meta_once(void **state) {
        Fixture *f = *state;
        _cleanup_writer_ Writer batch = {}, late = {};
        Answers answers = {};
        ApplySink sink = { .on_result = on_result, .userdata = &answers };
        TreeMeta meta;
        KvBatch b;

        kv_batch_begin(&b, &batch, &(KvBatchHead) { .cluster_ms = 5000, .quota = 1000 });
        batch_add(&b, &batch, 10, SET("/a", "1"));
        batch_add(&b, &batch, 11, COMMAND(KV_CREATE, "/a"));
        batch_add(&b, &batch, 12, COMMAND(KV_SET, "/b", TTL(1000)));
        assert_int_equal(sink_apply_batch(f->txn, 77, 3, batch.bytes, batch.size, &sink), 0);

        assert_int_equal(answers.n, 3);
        assert_int_equal(answers.number[1], 11);
        assert_int_equal(answers.status[1], KV_EXISTS);
        assert_int_equal(answers.index[2], 2);
        assert_int_equal(answers.raft_index, 77);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.applied, 77);
        assert_int_equal(meta.applied_term, 3);
        assert_int_equal(meta.index, 2);
        assert_int_equal(meta.cluster_ms, 5000);
        assert_int_equal(meta.n_nodes, 2);

        assert_int_equal(meta.quota, 1000);

        /* A later entry with an earlier time: the clock stands still. What it does not say stays. */
        kv_batch_begin(&b, &late, &(KvBatchHead) { .cluster_ms = 4000 });
        batch_add(&b, &late, 13, COMMAND(KV_DELETE, "/a"));
        assert_int_equal(sink_apply_batch(f->txn, 78, 3, late.bytes, late.size, &sink), 0);
        assert_int_equal(answers.now_ms[3], 5000);
        assert_int_equal(apply_other(f->txn, 79, 4, NULL), 0);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.applied, 79);
        assert_int_equal(meta.quota, 1000);
        assert_int_equal(meta.applied_term, 4);
        assert_int_equal(meta.cluster_ms, 5000);
}

/* What was asked for, of each command that is refused; and of which entry the answer is. */
static void a_refused_command_says_what_it_was_to_do(void **state) {
        KvCommand write = COMMAND(KV_SET, "/file/x");
        const struct {
                KvCommand cmd;
                KvStatus status;
                KvAction action;
        } table[] = {
                { SET("/file", "v"), KV_OK, KV_ACTION_SET },
                { COMMAND(KV_SET, "/file/x"), KV_NOT_DIR, KV_ACTION_SET },
                { COMMAND(KV_SET, "/file", .prev_index = 9), KV_COMPARE_FAILED, KV_ACTION_CAS },
                { COMMAND(KV_SET, "/file", .has_prev_value = true), KV_COMPARE_FAILED, KV_ACTION_CAS },
                { COMMAND(KV_CREATE, "/file"), KV_EXISTS, KV_ACTION_CREATE },
                { COMMAND(KV_POST, "/file"), KV_NOT_DIR, KV_ACTION_CREATE },
                { COMMAND(KV_UPDATE, "/none"), KV_NOT_FOUND, KV_ACTION_UPDATE },
                { COMMAND(KV_DELETE, "/none"), KV_NOT_FOUND, KV_ACTION_DELETE },
                { COMMAND(KV_DELETE, "/file", .prev_index = 9), KV_COMPARE_FAILED, KV_ACTION_CAD },
                { COMMAND(KV_DELETE, "/file", .has_prev_value = true), KV_COMPARE_FAILED, KV_ACTION_CAD },
                { { .op = KV_EXPIRE }, KV_FORBIDDEN, KV_ACTION_EXPIRE },
                { { .op = KV_TXN, .writes = &write, .n_writes = 1 }, KV_NOT_DIR, KV_ACTION_SET },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_writer_ Writer batch = {};
                KvResult result = {};
                ApplySink sink = { .on_result = keep_result, .userdata = &result };
                KvBatch b;

                kv_batch_begin(&b, &batch, &(KvBatchHead) { .cluster_ms = 5000 + i });
                batch_add(&b, &batch, i + 1, table[i].cmd);
                assert_int_equal(sink_apply_batch(f->txn, 70 + i, 3, batch.bytes, batch.size, &sink), 0);
                if (result.status != table[i].status || result.action != table[i].action)
                        fail_msg("command %zu: %s, %s", i, kv_status_name(result.status),
                                 kv_action_name(result.action));
                assert_int_equal(result.index, 1);
                assert_int_equal(result.now_ms, 5000 + i);
                assert_int_equal(result.raft_index, 70 + i);
                assert_int_equal(result.term, 3);
                assert_false(result.internal || result.again);
        }
}

static void a_command_that_comes_again_is_answered_and_not_done_again(void **state) {
        Fixture *f = *state;
        KvResult result = {};
        ApplySink sink = { .on_result = keep_result, .userdata = &result };
        KvCommand cmd = COMMAND(KV_SET, "/_fleet/a", .internal = true);
        _cleanup_writer_ Writer command = {};

        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &command), 0);
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_writer_ Writer batch = {};
                KvBatch b;

                kv_batch_begin(&b, &batch, &(KvBatchHead) { .cluster_ms = 5000 });
                kv_batch_add(&b, &batch,
                             &(KvBatchItem) { .origin = 1,
                                              .number = 1,
                                              .acknowledged = 1,
                                              .deadline_ms = 9000,
                                              .command = command.bytes,
                                              .command_size = command.size });
                assert_int_equal(sink_apply_batch(f->txn, 70 + i, 3 + i, batch.bytes, batch.size, &sink), 0);
                assert_int_equal(result.status, KV_OK);
                assert_int_equal(result.again, i > 0);
                assert_int_equal(result.index, 1);
                assert_int_equal(result.raft_index, 70);
                assert_int_equal(result.term, 3);
        }
}

static void an_entry_that_cannot_be_read_stops_the_replica(void **state) {
        Fixture *f = *state;
        _cleanup_writer_ Writer batch = {};
        KvBatch b;

        kv_batch_begin(&b, &batch, &(KvBatchHead) {});
        kv_batch_add(
                &b, &batch,
                &(KvBatchItem) {
                        .origin = 1, .number = 1, .acknowledged = 1, .command = "\2new", .command_size = 4 });
        assert_int_equal(apply_batch(f->txn, 1, 1, batch.bytes, batch.size, NULL), -ENOTSUP);
        assert_int_equal(apply_batch(f->txn, 1, 1, batch.bytes, batch.size - 1, NULL), -EBADMSG);
        assert_int_equal(apply_batch(f->txn, 1, 1, "\1", 1, NULL), -EBADMSG);
}

/* -- Against the model -- */

/* Few names, so that stories meet; long ones, so that keys are cut. */
static const char *random_key(Random *random, char *buffer, size_t size) {
        static const char *const names[] = { "a", "b", "_c", "d-e" };
        unsigned depth = random_below(random, 4);

        if (random_below(random, 40) == 0)
                return "/";
        *buffer = 0;
        if (random_below(random, 10) == 0)
                for (unsigned i = 0; i < 60; i++)
                        strncat(buffer, i % 20 == 0 ? "/long" : "longlong", size - strlen(buffer) - 1);
        for (unsigned i = 0; i <= depth; i++) {
                strncat(buffer, "/", size - strlen(buffer) - 1);
                strncat(buffer, names[random_below(random, ELEMENTS(names))], size - strlen(buffer) - 1);
        }
        return buffer;
}

typedef struct Story {
        char keys[16][800];
        KvCheck checks[3];
        KvCommand writes[4];
} Story;

static const char *const values[] = { "", "1", "2", "three" };

static KvCommand random_write(Random *random, char *key, size_t size, const Model *model, KvOp op) {
        KvCommand cmd = COMMAND(op, random_key(random, key, size));

        if (op != KV_DELETE)
                cmd.value = kv_string(values[random_below(random, ELEMENTS(values))]);
        cmd.dir = random_below(random, 6) == 0;
        cmd.recursive = random_below(random, 4) == 0;
        cmd.refresh = random_below(random, 8) == 0;
        cmd.has_ttl = random_below(random, 4) == 0;
        if (cmd.has_ttl)
                cmd.ttl_ms = random_below(random, 50);
        if (random_below(random, 5) == 0)
                cmd.prev_index = random_below(random, 2) || model->n == 0 ?
                                         random_below(random, model->index + 2) :
                                         model->nodes[random_below(random, model->n)].modified;
        if (random_below(random, 5) == 0) {
                cmd.has_prev_value = true;
                cmd.prev_value = kv_string(values[random_below(random, ELEMENTS(values))]);
        }
        /* Half of all comparisons are about a node that is there. */
        if (cmd.prev_index > 0 && model->n > 0 && random_below(random, 2) == 0) {
                const ModelNode *n = &model->nodes[random_below(random, model->n)];

                snprintf(key, size, "%s", n->key);
                cmd.key = kv_string(key);
                cmd.prev_index = n->modified;
        }
        return cmd;
}

static KvCommand random_command(Random *random, Story *story, const Model *model) {
        static const KvOp ops[] = { KV_SET,  KV_SET,    KV_SET, KV_CREATE, KV_UPDATE,
                                    KV_POST, KV_DELETE, KV_TXN, KV_EXPIRE };
        static const KvOp writes[] = { KV_SET, KV_CREATE, KV_UPDATE, KV_DELETE };
        KvOp op = ops[random_below(random, ELEMENTS(ops))];
        KvCommand cmd = { .op = op, .internal = true, .checks = story->checks, .writes = story->writes };

        if (op == KV_EXPIRE) {
                cmd.limit = random_below(random, 5);
                return cmd;
        }
        if (op != KV_TXN) {
                cmd = random_write(random, story->keys[0], sizeof(story->keys[0]), model, op);
                cmd.term = random_below(random, 30) == 0;
                return cmd;
        }
        cmd.n_checks = random_below(random, 3);
        cmd.n_writes = random_below(random, 5);
        for (size_t i = 0; i < cmd.n_checks; i++)
                story->checks[i] = (KvCheck) {
                        .kind = random_below(random, _KV_CHECK_MAX),
                        .key = kv_string(random_key(random, story->keys[8 + i], sizeof(story->keys[0]))),
                        .index = random_below(random, model->index + 1),
                        .value = kv_string(values[random_below(random, ELEMENTS(values))]),
                };
        for (size_t i = 0; i < cmd.n_writes; i++)
                story->writes[i] = random_write(random, story->keys[i], sizeof(story->keys[0]), model,
                                                writes[random_below(random, ELEMENTS(writes))]);
        return cmd;
}

static int print_node(void *userdata, const KvNode *node) {
        model_print_node(userdata, node);
        text_append(userdata, "\n");
        return 1;
}

static void assert_same_text(uint64_t seed, unsigned step, const char *what, Text *ours, Text *models) {
        if (!streq(ours->chars ?: "", models->chars ?: ""))
                fail_msg("seed %llu, step %u: %s differ: ours\n%s\nthe model's\n%s",
                         (unsigned long long) seed, step, what, ours->chars ?: "", models->chars ?: "");
}

static void run_story(uint64_t seed, unsigned steps, Fixture *f) {
        Model model = {};
        Random random;
        Story story;

        random_seed(&random, seed);
        f->term = 2;
        for (unsigned step = 0; step < steps; step++) {
                _cleanup_text_ Text ours = {}, tree = {}, models = {};
                KvCommand cmd = random_command(&random, &story, &model);
                KvResult result;

                model.now_ms += random_below(&random, 10);
                f->meta.cluster_ms = model.now_ms;
                result = apply(f, cmd);
                model_apply(&model, &cmd, f->term);
                model_print_result(&ours, &result);
                assert_same_text(seed, step, "answers", &ours, &model.answer);
                assert_same_text(seed, step, "events", &f->events, &model.events);
                arena_done(&f->arena);

                if (step % 10 == 9) {
                        assert_int_equal(tree_walk(f->txn, kv_string("/"), true, print_node, &tree), 0);
                        model_print_all(&model, &models);
                        assert_same_text(seed, step, "trees", &tree, &models);
                        assert_int_equal(tree_check(f->txn, NULL), 0);
                }
        }
        assert_true(model.index > steps / 5);
        model_done(&model);
}

static void random_stories_end_as_in_the_model(void **state) {
        const char *wanted = getenv("SEED");
        uint64_t first = wanted ? strtoull(wanted, NULL, 10) : 1, n = wanted ? 1 : 25;

        for (uint64_t seed = first; seed < first + n; seed++) {
                Fixture *f = fixture_new();

                run_story(seed, 600, f);
                fixture_free(f);
        }
}

static uint64_t hash_of(TreeTxn *txn) {
        uint64_t hash;

        assert_int_equal(tree_hash(txn, &hash), 0);
        return hash;
}

static void the_same_story_makes_the_same_tree_and_so_does_its_copy(void **state) {
        Fixture *a = *state, *b = fixture_new();
        _cleanup_free_ char *to = scratch_path(a->scratch, "copy");
        TreeMeta meta;
        TreeTxn *txn;
        Tree *copy;

        run_story(99, 500, a);
        run_story(99, 500, b);
        assert_int_equal(tree_set_meta(a->txn, &a->meta), 0);
        assert_int_equal(tree_set_meta(b->txn, &b->meta), 0);
        assert_true(hash_of(a->txn) == hash_of(b->txn));
        set(b, "/one more", "");
        assert_true(hash_of(a->txn) != hash_of(b->txn));
        fixture_free(b);

        assert_int_equal(tree_commit(TAKE_PTR(a->txn)), 0);
        assert_int_equal(tree_copy(a->tree, to, &meta, NULL), 0);
        assert_int_equal(meta.index, a->meta.index);
        assert_int_equal(tree_open(to, &(TreeOptions) { .read_only = true }, &copy, NULL), 0);
        assert_int_equal(tree_begin_read(copy, &txn), 0);
        assert_int_equal(tree_begin_write(a->tree, &a->txn), 0);
        assert_true(hash_of(txn) == hash_of(a->txn));
        tree_abort(txn);
        tree_close(copy);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_set_makes_the_directories_on_its_way_with_its_own_index),
                TEST(a_set_over_a_file_makes_a_new_node_without_the_old_ttl),
                TEST(a_file_in_the_way_is_named),
                TEST(the_first_missing_node_is_named),
                TEST(create_refuses_what_exists),
                TEST(update_keeps_the_created_index_and_takes_ttl_and_value_from_the_request),
                TEST(updating_a_directory_changes_its_ttl_but_not_its_stored_index),
                TEST(a_comparison_that_fails_says_what_it_found),
                TEST(a_comparison_that_holds_swaps_or_deletes),
                TEST(an_in_order_child_is_named_after_the_next_index),
                TEST(a_directory_goes_only_when_it_is_asked_for),
                TEST(the_root_is_read_only),
                TEST(a_refresh_keeps_the_value_and_is_marked_for_the_watchers),
                TEST(what_is_due_goes_in_order_of_time_one_event_each),
                TEST(an_expiry_takes_no_more_nodes_than_its_limit),
                TEST(only_the_leader_orders_expiry),
                TEST(a_ttl_beyond_reckoning_is_for_ever_and_not_for_a_moment),
                TEST(a_transaction_does_all_in_order_or_nothing),
                TEST(a_check_of_a_value_holds_for_a_file_with_these_very_bytes),
                TEST(a_transaction_answers_for_each_of_its_writes_or_for_what_refused_it),
                TEST(the_answer_to_a_transaction_is_bounded_for_all_removals),
                TEST(a_transaction_sees_its_own_writes),
                TEST(an_order_of_an_older_term_changes_nothing),
                TEST(fleets_own_keys_are_written_by_fleet_alone),
                TEST(a_full_quota_refuses_users_and_not_fleet),
                TEST(a_quota_of_nodes_refuses_new_ones_and_not_changes),
                TEST(the_feature_level_goes_up_and_never_down_and_batches_follow_it),
                TEST(a_program_that_knows_less_stops_and_skips_nothing),
                TEST(too_large_a_directory_is_not_deleted_at_once_but_expires_in_pages),
                TEST(each_command_answers_changes_and_costs_what_is_written_here),
                TEST(the_space_of_a_quota_ends_at_its_last_byte),
                TEST(a_quota_is_used_up_to_its_last_byte),
                TEST(a_refused_command_says_what_it_was_to_do),
                TEST(a_command_that_comes_again_is_answered_and_not_done_again),
                TEST(a_batch_answers_each_command_and_moves_the_meta_once),
                TEST(an_entry_that_cannot_be_read_stops_the_replica),
                TEST(random_stories_end_as_in_the_model),
                TEST(the_same_story_makes_the_same_tree_and_so_does_its_copy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
