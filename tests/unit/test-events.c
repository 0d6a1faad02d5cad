#include "tests/lib/test.h"

#include "base/text.h"
#include "kvstore/apply/events.h"
#include "kvstore/hub.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/model.h"
#include "tests/lib/scratch.h"
#include "tests/lib/size.h"

static uint64_t test_now_ms(const Loop *loop) {
        return 1;
}

static void test_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps test_ops = { .now_ms = test_now_ms, .wall_ms = test_now_ms, .wake_at = test_wake_at };

typedef struct Fixture {
        char *scratch, *path;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
        TreeMeta meta;
        Loop loop;
        Hub *hub; /* gets each event at once */
} Fixture;

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        f->path = scratch_path(f->scratch, "tree");
        assert_int_equal(tree_open(f->path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        loop_init(&f->loop, &test_ops, 1);
        assert_int_equal(hub_new(&f->hub, &f->loop, 0, 0), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        hub_free(f->hub);
        loop_done(&f->loop);
        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f->path);
        free(f);
        return 0;
}

static void on_apply_event(void *userdata, const KvEvent *event) {
        hub_publish(userdata, event);
}

static KvStatus apply(Fixture *f, KvCommand cmd) {
        ApplySink sink = { .on_event = on_apply_event, .userdata = f->hub };
        _cleanup_arena_ Arena arena = {};
        KvResult result;

        assert_int_equal(sink_apply_command(f->txn, &f->meta, &cmd, 1, &arena, &sink, &result), 0);
        return result.status;
}

static void set(Fixture *f, const char *key, const char *value) {
        KvCommand cmd = { .op = KV_SET, .key = kv_string(key), .value = kv_string(value), .internal = true };

        assert_int_equal(apply(f, cmd), KV_OK);
}

/* Return the events that a hub sends to a watch of all keys from 'since' on; "from N" when that is too old.
 */
static void on_event(void *userdata, KvWatchEvent *event) {
        model_print_event(userdata, &event->event);
}

static void history(Loop *loop, Hub *hub, const char *key, bool internal, uint64_t since, Text *received) {
        static const KvWatchOps events = { .on_event = on_event };
        KvWatchOptions options = {
                .key = kv_string(key), .recursive = true, .internal = internal, .since = since
        };
        uint64_t oldest;
        KvWatch *watch;
        int r;

        text_clear(received);
        text_append(received, "");
        r = hub_watch(hub, &options, &events, received, &watch, &oldest);
        if (r == -ESTALE) {
                text_printf(received, "from %llu", (unsigned long long) oldest);
                return;
        }
        assert_int_equal(r, 0);
        while (loop_run_due(loop, 1000))
                ;
        kv_watch_close(watch);
}

/* A hub of another life says the same as the one that saw all of it. */
static void assert_remembered(Fixture *f, TreeTxn *txn) {
        static const struct {
                const char *key;
                bool internal;
        } watches[] = { { "/", false }, { "/", true }, { "/_fleet", true } };
        _cleanup_text_ Text live = {}, later = {};
        Hub *hub;

        assert_int_equal(hub_new(&hub, &f->loop, 0, f->meta.index), 0);
        assert_int_equal(hub_load(hub, txn), 0);
        for (size_t i = 0; i < ELEMENTS(watches); i++)
                for (uint64_t since = 1; since <= f->meta.index;
                     since += 1 + f->meta.index / test_size(10, 50, 50)) {
                        history(&f->loop, f->hub, watches[i].key, watches[i].internal, since, &live);
                        history(&f->loop, hub, watches[i].key, watches[i].internal, since, &later);
                        assert_string_equal(live.chars, later.chars);
                }
        hub_free(hub);
}

static void an_event_survives_its_bytes(void **state) {
        _cleanup_writer_ Writer w = {};
        _cleanup_text_ Text in = {}, out = {};
        KvNode node = { .key = kv_string("/a/b"),
                        .value = kv_string("new"),
                        .created = 3,
                        .modified = 9,
                        .expires_ms = 77 };
        KvNode prev = { .key = kv_string("/a/b"),
                        .value = kv_string("old"),
                        .created = 3,
                        .modified = 4,
                        .expires_ms = 5 };
        KvEvent event = { .action = KV_ACTION_CAS,
                          .index = 9,
                          .node = node,
                          .has_prev = true,
                          .prev = prev,
                          .refresh = true,
                          .now_ms = 6 };
        KvEvent decoded;

        assert_int_equal(event_encode(&event, &w), 0);
        assert_int_equal(event_decode(9, w.bytes, w.size, &decoded), 0);
        model_print_event(&in, &event);
        model_print_event(&out, &decoded);
        assert_string_equal(in.chars, out.chars);
        assert_int_equal(decoded.now_ms, 6);
        for (size_t size = 0; size < w.size; size++)
                assert_int_equal(event_decode(9, w.bytes, size, &decoded), -EBADMSG);
        w.bytes[0]++;
        assert_int_equal(event_decode(9, w.bytes, w.size, &decoded), -ENOTSUP);
}

/* Byte 0 is the version, 1 the action, 2 the flags. */
static void bytes_that_are_no_event_are_refused(void **state) {
        static const struct {
                size_t at;
                uint8_t value;
                int error;
        } table[] = {
                { 0, 0, -EBADMSG },
                { 0, 1, 0 },
                { 0, 2, -ENOTSUP },
                { 1, _KV_ACTION_MAX - 1, 0 },
                { 1, _KV_ACTION_MAX, -EBADMSG },
                { 1, 255, -EBADMSG },
                { 2, 1, 0 },
                { 2, 2, 0 },
                { 2, 4, -EBADMSG },
                { 2, 8, -EBADMSG },
                { 2, 12, -EBADMSG },
                { 2, 16, -EBADMSG },
                { 2, 128, -EBADMSG },
        };
        const KvEvent event = { .action = KV_ACTION_SET, .node = { .key = kv_string("/a") } };
        KvEvent back = { .index = 77 };
        _cleanup_writer_ Writer w = {};

        assert_int_equal(event_encode(&event, &w), 0);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                uint8_t was = w.bytes[table[i].at];

                w.bytes[table[i].at] = table[i].value;
                if (event_decode(9, w.bytes, w.size, &back) != table[i].error)
                        fail_msg("byte %zu: %u", table[i].at, table[i].value);
                w.bytes[table[i].at] = was;
        }
        for (size_t size = 0; size < w.size; size++)
                assert_int_equal(event_decode(9, w.bytes, size, &back), -EBADMSG);
        for (unsigned size = 0; size < 3; size++) { /* of the key */
                KvEvent named = { .node.key = { "/a", size } };
                _cleanup_writer_ Writer bytes = {};

                assert_int_equal(event_encode(&named, &bytes), 0);
                assert_int_equal(event_decode(9, bytes.bytes, bytes.size, &back), size < 2 ? -EBADMSG : 0);
        }
        assert_int_equal(back.index, 9);
}

static void the_window_survives_a_restart_and_a_copy(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy");
        KvCommand refresh = {
                .op = KV_UPDATE, .key = kv_string("/a"), .refresh = true, .has_ttl = true, .ttl_ms = 5
        };
        TreeMeta meta;
        TreeTxn *txn;
        Tree *copy;

        assert_remembered(f, f->txn);
        set(f, "/a", "1");
        set(f, "/_fleet/unit/x", "1");
        set(f, "/a", "2");
        assert_int_equal(apply(f, refresh), KV_OK);
        assert_int_equal(apply(f, (KvCommand) { .op = KV_DELETE, .key = kv_string("/a") }), KV_OK);
        assert_remembered(f, f->txn);

        assert_int_equal(tree_commit(TAKE_PTR(f->txn)), 0);
        f->tree = tree_close(f->tree);
        assert_int_equal(tree_open(f->path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        assert_remembered(f, f->txn);
        tree_abort(TAKE_PTR(f->txn));

        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), 0);
        assert_int_equal(tree_open(to, &(TreeOptions) { .read_only = true }, &copy, NULL), 0);
        assert_int_equal(tree_begin_read(copy, &txn), 0);
        assert_remembered(f, txn);
        tree_abort(txn);
        tree_close(copy);
}

static void the_event_window_ends_where_that_of_the_hub_ends(void **state) {
        Fixture *f = *state;
        char key[32];

        for (unsigned i = 0; i < 2500; i++) {
                snprintf(key, sizeof(key), i % 5 ? "/k%u" : "/_fleet/k%u", i % 100);
                set(f, key, "v");
                if (i == 700 || i == 1600)
                        assert_remembered(f, f->txn);
        }
        assert_remembered(f, f->txn);
}

static void the_windows_of_a_hub_begin_where_those_of_the_tree_do(void **state) {
        Fixture *f = *state;
        static const struct {
                const char *key;
                bool internal;
                uint64_t since;
                const char *expected;
        } cases[] = {
                { "/a", false, 39, "from 40" },
                { "/_fleet/a", true, 49, "from 50" },
                { "/", true, 49, "from 50" },
        };
        KvEvent event = { .action = KV_ACTION_SET, .node = { .key = kv_string("/_fleet/b") } };
        _cleanup_text_ Text received = {}, expected = {};
        Hub *hub;

        assert_int_equal(tree_clear_events(f->txn, 40), 0);
        for (event.index = 49; event.index <= 49 + TREE_WINDOW_EVENTS; event.index++)
                assert_int_equal(events_add(f->txn, &event), 0);
        event.index = 60;
        event.node.key = kv_string("/a");
        assert_int_equal(events_add(f->txn, &event), 0);

        assert_int_equal(hub_new(&hub, &f->loop, 0, 2000), 0);
        assert_int_equal(hub_load(hub, f->txn), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                history(&f->loop, hub, cases[i].key, cases[i].internal, cases[i].since, &received);
                assert_string_equal(received.chars, cases[i].expected);
        }
        history(&f->loop, hub, "/a", false, 40, &received);
        model_print_event(&expected, &event);
        assert_string_equal(received.chars, expected.chars);
        hub_free(hub);
}

static void large_events_make_the_window_shorter(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *large = malloc(KV_VALUE_MAX + 1);
        TreeMeta meta;

        memset(large, 'v', KV_VALUE_MAX);
        large[KV_VALUE_MAX] = 0;
        for (unsigned i = 0; i < 60; i++)
                set(f, "/large", large);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        /* Each holds the value that was and the one that is. */
        assert_in_range(meta.windows[TREE_WINDOW_USERS].n, TREE_WINDOW_BYTES / (2 * KV_VALUE_MAX) - 4,
                        TREE_WINDOW_BYTES / (2 * KV_VALUE_MAX));
        assert_true(meta.windows[TREE_WINDOW_USERS].bytes <= TREE_WINDOW_BYTES);
        assert_remembered(f, f->txn);
}

static void a_transaction_taken_back_leaves_no_event(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = {
                { .op = KV_SET, .key = kv_string("/a") },
                { .op = KV_CREATE, .key = kv_string("/a") },
        };
        TreeMeta meta;

        assert_int_equal(apply(f, (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = 2 }), KV_EXISTS);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        assert_int_equal(meta.windows[TREE_WINDOW_USERS].n, 0);
        set(f, "/b", "1");
        assert_remembered(f, f->txn);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(an_event_survives_its_bytes),
                TEST(bytes_that_are_no_event_are_refused),
                TEST(the_window_survives_a_restart_and_a_copy),
                TEST(the_event_window_ends_where_that_of_the_hub_ends),
                TEST(the_windows_of_a_hub_begin_where_those_of_the_tree_do),
                TEST(large_events_make_the_window_shorter),
                TEST(a_transaction_taken_back_leaves_no_event),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
