#include "tests/lib/test.h"
#include "base/clock.h"
#include "kvstore/command/command.h"
#include "tests/lib/commands.h"

static void assert_same_bytes(const Writer *w, const void *bytes, size_t size) {
        assert_int_equal(w->size, size);
        assert_memory_equal(w->bytes, bytes, size);
}

static void assert_returns_as_it_went(const KvCommand *cmd, KvCommand *ret, void **ret_arena,
                                      Writer *ret_bytes) {
        _cleanup_writer_ Writer again = {};

        assert_int_equal(kv_command_encode(cmd, KV_LEVEL_MAX, ret_bytes), 0);
        assert_int_equal(kv_command_decode(ret_bytes->bytes, ret_bytes->size, ret, ret_arena), 0);
        assert_int_equal(kv_command_encode(ret, KV_LEVEL_MAX, &again), 0);
        assert_same_bytes(&again, ret_bytes->bytes, ret_bytes->size);
}

static void every_field_of_a_command_survives_the_log(void **state) {
        _cleanup_free_ void *arena = NULL;
        _cleanup_writer_ Writer bytes = {};
        KvCommand in = COMMAND(KV_SET, "/a/b", .value = { "x\0y", 3 }, .dir = true, .recursive = true,
                               .refresh = true, TTL(7000), .prev_index = UINT64_MAX, IF_VALUE("old"),
                               .internal = true, .term = 9,
                               .note = { .wall_ms = 1700000000000, .body = { "r\0w", 3 } });
        KvCommand out;

        assert_returns_as_it_went(&in, &out, &arena, &bytes);
        assert_int_equal(out.op, KV_SET);
        assert_true(kv_bytes_equal(out.key, in.key));
        assert_true(kv_bytes_equal(out.value, in.value));
        assert_true(kv_bytes_equal(out.prev_value, in.prev_value));
        assert_true(out.dir && out.recursive && out.refresh && out.has_ttl && out.has_prev_value &&
                    out.internal);
        assert_int_equal(out.ttl_ms, 7000);
        assert_true(out.prev_index == UINT64_MAX);
        assert_int_equal(out.term, 9);
        assert_true(out.note.wall_ms == 1700000000000 && kv_bytes_equal(out.note.body, in.note.body));
}

/* A program of an older level would stop at a row. */
static void rows_of_a_command_are_omitted_below_their_feature_level(void **state) {
        KvNote note = { .wall_ms = 7, .body = kv_string("row") };
        KvCommand writes[] = { COMMAND(KV_SET, "/_fleet/a", .note = note) },
                  plain_writes[] = { COMMAND(KV_SET, "/_fleet/a") };
        const KvCommand with[] = { writes[0],
                                   { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 1 } },
                        without[] = {
                                plain_writes[0],
                                { .op = KV_TXN, .internal = true, .writes = plain_writes, .n_writes = 1 }
                        };

        for (size_t i = 0; i < ELEMENTS(with); i++) {
                for (unsigned level = KV_LEVEL_FIRST; level <= KV_LEVEL_MAX; level++) {
                        _cleanup_writer_ Writer w = {}, expected = {};

                        assert_int_equal(kv_command_encode(&with[i], level, &w), 0);
                        assert_int_equal(kv_command_encode(level < KV_LEVEL_HISTORY ? &without[i] : &with[i],
                                                           KV_LEVEL_MAX, &expected),
                                         0);
                        assert_same_bytes(&w, expected.bytes, expected.size);
                }
        }
}

static void a_transaction_survives_the_log_and_its_writes_are_as_internal_as_it_is(void **state) {
        _cleanup_free_ void *arena = NULL;
        _cleanup_writer_ Writer bytes = {};
        KvCheck checks[] = {
                { .kind = KV_CHECK_MODIFIED, .key = kv_string("/a"), .index = 17 },
                { .kind = KV_CHECK_ABSENT, .key = kv_string("/b") },
                { .kind = KV_CHECK_VALUE, .key = kv_string("/c"), .value = { "v\0w", 3 } },
        };
        KvCommand writes[] = {
                SET("/_fleet/x", "1"),
                COMMAND(KV_DELETE, "/c", .recursive = true),
                COMMAND(KV_UPDATE, "/d", .has_ttl = true),
        };
        KvCommand in = { .op = KV_TXN,
                         .internal = true,
                         .term = 3,
                         .checks = checks,
                         .n_checks = 3,
                         .writes = writes,
                         .n_writes = 3 };
        KvCommand out;

        assert_returns_as_it_went(&in, &out, &arena, &bytes);
        assert_int_equal(out.n_checks, 3);
        assert_true(kv_bytes_equal(out.checks[2].value, checks[2].value));
        assert_int_equal(out.checks[0].index, 17);
        assert_int_equal(out.checks[1].kind, KV_CHECK_ABSENT);
        assert_int_equal(out.n_writes, 3);
        assert_true(out.writes[0].internal);
        assert_true(kv_bytes_equal(out.writes[1].key, kv_string("/c")));
        assert_true(out.writes[2].has_ttl);
}

static void an_order_to_expire_survives_the_log(void **state) {
        _cleanup_free_ void *arena = NULL;
        _cleanup_writer_ Writer bytes = {};
        KvCommand in = { .op = KV_EXPIRE, .internal = true, .limit = 500 }, out;

        assert_returns_as_it_went(&in, &out, &arena, &bytes);
        assert_int_equal(out.limit, 500);
        assert_true(out.internal);
}

static void a_cut_or_longer_command_is_refused(void **state) {
        _cleanup_writer_ Writer bytes = {};
        KvCommand in = SET("/a", "v", .prev_index = 4), out;
        void *arena;

        assert_int_equal(kv_command_encode(&in, KV_LEVEL_MAX, &bytes), 0);
        for (size_t size = 0; size < bytes.size; size++)
                assert_int_equal(kv_command_decode(bytes.bytes, size, &out, &arena), -EBADMSG);
        write_u8(&bytes, 0);
        assert_int_equal(kv_command_decode(bytes.bytes, bytes.size, &out, &arena), -EBADMSG);
}

static void a_command_of_a_newer_version_differs_from_a_corrupt_one(void **state) {
        KvCommand out;
        void *arena;

        assert_int_equal(kv_command_decode("\2anything", 9, &out, &arena), -ENOTSUP);
        assert_int_equal(kv_command_decode("\0\0\0\0\0\0", 6, &out, &arena), -EBADMSG);
        assert_int_equal(kv_command_decode("\1\1\0\x80\1/\0", 7, &out, &arena),
                         -EBADMSG); /* an unknown flag */
        assert_int_equal(kv_command_decode("\1\x7f\0\0\1/\0", 7, &out, &arena),
                         -ENOTSUP); /* an unknown operation: a newer program's */
        /* "No index", said aloud. */
        assert_int_equal(kv_command_decode("\1\0\x10\0"
                                           "\0\0\0\0\0\0\0\0"
                                           "\2/a\0",
                                           16, &out, &arena),
                         -EBADMSG);
        assert_int_equal(kv_command_decode("\1\0\x10\0"
                                           "\1\0\0\0\0\0\0\0"
                                           "\2/a\0",
                                           16, &out, &arena),
                         0);
}

static void changed_bytes_never_decode_to_something_with_two_forms(void **state) {
        _cleanup_writer_ Writer bytes = {};
        KvCheck check = { .kind = KV_CHECK_MODIFIED, .key = kv_string("/a"), .index = 17 };
        KvCommand write = SET("/b", "v", .has_prev_value = true);
        KvCommand in = { .op = KV_TXN, .checks = &check, .n_checks = 1, .writes = &write, .n_writes = 1 };
        Random random;

        random_seed(&random, 1);
        assert_int_equal(kv_command_encode(&in, KV_LEVEL_MAX, &bytes), 0);
        for (unsigned i = 0; i < 20000; i++) {
                _cleanup_free_ void *arena = NULL;
                _cleanup_free_ uint8_t *changed = malloc(bytes.size);
                _cleanup_writer_ Writer again = {};
                KvCommand out;

                memcpy(changed, bytes.bytes, bytes.size);
                for (unsigned n = 1 + random_below(&random, 3); n > 0; n--)
                        changed[1 + random_below(&random, bytes.size - 1)] = random_u64(&random) >>
                                                                             random_below(&random, 64);
                if (kv_command_decode(changed, bytes.size, &out, &arena) < 0)
                        continue;
                assert_int_equal(kv_command_encode(&out, KV_LEVEL_MAX, &again), 0);
                assert_same_bytes(&again, changed, bytes.size);
        }
}

static void a_batch_gives_back_its_commands_in_order(void **state) {
        static const KvBatchItem given[] = {
                { .origin = 1,
                  .number = 10,
                  .acknowledged = 10,
                  .deadline_ms = 5000,
                  .command = "abc",
                  .command_size = 3 },
                { .origin = 1,
                  .number = 12,
                  .acknowledged = 10,
                  .deadline_ms = 5300,
                  .command = "d",
                  .command_size = 1 },
                { .origin = 1,
                  .number = 13,
                  .acknowledged = 10,
                  .deadline_ms = 4000 },                           /* an earlier deadline */
                { .origin = 1, .number = 14, .acknowledged = 10 }, /* none */
                { .origin = 1, .number = 11, .acknowledged = 10 }, /* out of order */
                { .origin = 1,
                  .number = 15,
                  .acknowledged = 11,
                  .deadline_ms = UINT64_MAX }, /* another acknowledged */
                { .origin = 2, .number = UINT64_MAX, .acknowledged = 1, .command = "", .command_size = 0 },
        };
        _cleanup_writer_ Writer bytes = {}, again = {};
        KvBatch batch, copy;
        KvBatchItem item;
        KvBatchHead head;

        kv_batch_begin(&batch, &bytes, &(KvBatchHead) { .cluster_ms = 1234567, .quota = 89 });
        for (size_t i = 0; i < ELEMENTS(given); i++)
                kv_batch_add(&batch, &bytes, &given[i]);

        assert_int_equal(kv_batch_open(&batch, bytes.bytes, bytes.size, &head), 0);
        assert_int_equal(head.cluster_ms, 1234567);
        assert_int_equal(head.quota, 89);
        kv_batch_begin(&copy, &again, &head);
        for (size_t i = 0; i < ELEMENTS(given); i++) {
                assert_int_equal(kv_batch_next(&batch, &item), 1);
                assert_int_equal(item.origin, given[i].origin);
                assert_int_equal(item.number, given[i].number);
                assert_int_equal(item.acknowledged, given[i].acknowledged);
                assert_int_equal(item.deadline_ms, given[i].deadline_ms);
                assert_int_equal(item.command_size, given[i].command_size);
                kv_batch_add(&copy, &again, &item);
        }
        assert_int_equal(kv_batch_next(&batch, &item), 0);
        assert_int_equal(again.size, bytes.size);
        assert_memory_equal(again.bytes, bytes.bytes, bytes.size);

        assert_int_equal(kv_batch_open(&batch, bytes.bytes, bytes.size - 1, &head), 0);
        for (size_t i = 0; i + 1 < ELEMENTS(given); i++)
                assert_int_equal(kv_batch_next(&batch, &item), 1);
        assert_int_equal(kv_batch_next(&batch, &item), -EBADMSG);
}

/* Two entries that say the same would be two entries: replicas compare bytes. */
static void a_batch_has_one_form(void **state) {
        _cleanup_writer_ Writer bytes = {};
        KvBatch batch;
        KvBatchItem item;
        KvBatchHead head;

        kv_batch_begin(&batch, &bytes, &(KvBatchHead) {});
        kv_batch_add(&batch, &bytes,
                     &(KvBatchItem) { .origin = 1, .number = 1, .acknowledged = 1, .deadline_ms = 5 });
        batch = (KvBatch) {}; /* forgets the group that has been begun */
        kv_batch_add(&batch, &bytes,
                     &(KvBatchItem) { .origin = 1, .number = 2, .acknowledged = 1, .deadline_ms = 5 });

        assert_int_equal(kv_batch_open(&batch, bytes.bytes, bytes.size, &head), 0);
        assert_int_equal(kv_batch_next(&batch, &item), 1);
        assert_int_equal(kv_batch_next(&batch, &item), -EBADMSG);
}

static void a_batch_of_version_1_is_read_and_nothing_of_it_is_asked_again(void **state) {
        _cleanup_writer_ Writer bytes = {};
        KvBatch batch;
        KvBatchItem item;
        KvBatchHead head;

        write_u8(&bytes, 1);
        write_u64(&bytes, 77);
        write_u64(&bytes, 88);
        write_u64(&bytes, 3);
        write_u64(&bytes, 4);
        write_blob(&bytes, "abc", 3);
        assert_int_equal(kv_batch_open(&batch, bytes.bytes, bytes.size, &head), 0);
        assert_int_equal(head.cluster_ms, 77);
        assert_int_equal(kv_batch_next(&batch, &item), 1);
        assert_int_equal(item.origin, 3);
        assert_int_equal(item.number, 4);
        assert_int_equal(item.deadline_ms, 0);
        assert_memory_equal(item.command, "abc", 3);
        assert_int_equal(kv_batch_next(&batch, &item), 0);
}

static void paths_are_cleaned_as_go_cleans_them(void **state) {
        static const struct {
                const char *dirty, *clean;
        } cases[] = {
                { "", "/" },
                { "/", "/" },
                { "//", "/" },
                { "a", "/a" },
                { "/a/", "/a" },
                { "//a//b//", "/a/b" },
                { "/a/./b", "/a/b" },
                { "/a/../b", "/b" },
                { "/../a", "/a" },
                { "/a/..", "/" },
                { "/a/b/../../..", "/" },
                { "/...", "/..." },
                { "/.a/..b", "/.a/..b" },
                { "/a/b/c/../d", "/a/b/d" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *clean = NULL;
                size_t size;

                assert_int_equal(kv_path_clean(cases[i].dirty, strlen(cases[i].dirty), &clean, &size), 0);
                assert_string_equal(clean, cases[i].clean);
                assert_int_equal(size, strlen(clean));
        }
}

static void a_path_that_is_too_long_or_too_deep_is_refused(void **state) {
        _cleanup_free_ char *path = malloc(KV_KEY_MAX + 2), *clean = NULL;
        size_t size;

        memset(path, 'a', KV_KEY_MAX + 2);
        path[0] = '/';
        assert_int_equal(kv_path_clean(path, KV_KEY_MAX + 1, &clean, &size), -ENAMETOOLONG);
        for (size_t i = 0; i < 2 * (KV_DEPTH_MAX + 1); i += 2)
                path[i] = '/';
        assert_int_equal(kv_path_clean(path, 2 * (KV_DEPTH_MAX + 1), &clean, &size), -ENAMETOOLONG);
        assert_int_equal(kv_path_clean(path, 2 * KV_DEPTH_MAX, &clean, &size), 0);
}

static void below_hidden_and_ours_go_by_whole_segments(void **state) {
        assert_true(kv_path_is_below(kv_string("/a/b"), kv_string("/a")));
        assert_true(kv_path_is_below(kv_string("/a"), kv_string("/")));
        assert_false(kv_path_is_below(kv_string("/a"), kv_string("/a")));
        assert_false(kv_path_is_below(kv_string("/ab"), kv_string("/a")));
        assert_false(kv_path_is_below(kv_string("/"), kv_string("/")));

        assert_true(kv_path_is_ours(kv_string("/_fleet")));
        assert_true(kv_path_is_ours(kv_string("/_fleet/unit/a")));
        assert_false(kv_path_is_ours(kv_string("/_fleets")));
        assert_false(kv_path_is_ours(kv_string("/a/_fleet")));

        assert_true(kv_path_hidden_from(kv_string("/a/_b/c"), kv_string("/a")));
        assert_true(kv_path_hidden_from(kv_string("/_a"), kv_string("/")));
        assert_false(kv_path_hidden_from(kv_string("/a/_b/c"), kv_string("/a/_b")));
        assert_false(kv_path_hidden_from(kv_string("/a/b_c"), kv_string("/a")));
}

static void commands_are_checked_before_they_reach_the_log(void **state) {
        _cleanup_free_ char *large = calloc(1, KV_VALUE_MAX + 1);
        KvCommand ours = COMMAND(KV_SET, "/_fleet/unit/a");
        KvCommand noted = COMMAND(KV_SET, "/a", .note.body = kv_string("row"));
        const struct {
                KvCommand cmd;
                KvStatus status;
        } cases[] = {
                { COMMAND(KV_SET, "/a"), KV_OK },
                { COMMAND(KV_SET, "/"), KV_OK },
                { COMMAND(KV_SET, ""), KV_INVALID },
                { COMMAND(KV_SET, "a"), KV_INVALID },
                { COMMAND(KV_SET, "/a/"), KV_INVALID },
                { COMMAND(KV_SET, "/a//b"), KV_INVALID },
                { COMMAND(KV_SET, "/a", .value = { large, KV_VALUE_MAX }), KV_OK },
                { COMMAND(KV_SET, "/a", .value = { large, KV_VALUE_MAX + 1 }), KV_TOO_LARGE },
                { COMMAND(KV_POST, "/_fleet"), KV_FORBIDDEN },
                { COMMAND(KV_DELETE, "/_fleet", .recursive = true), KV_FORBIDDEN },
                { COMMAND(KV_DELETE, "/_fleet", .recursive = true, .internal = true), KV_OK },
                { { .op = KV_TXN, .writes = &ours, .n_writes = 1 }, KV_FORBIDDEN },
                { { .op = KV_TXN, .writes = &ours, .n_writes = 1, .internal = true }, KV_OK },
                { { .op = KV_EXPIRE, .limit = 1 }, KV_FORBIDDEN },
                { { .op = _KV_OP_MAX }, KV_INVALID },
                { COMMAND(KV_SET, "/a", .note.body = { large, 1 }), KV_FORBIDDEN },
                { COMMAND(KV_SET, "/a", .internal = true, .note.body = { large, 1 }), KV_OK },
                { COMMAND(KV_SET, "/a", .internal = true, .note.body = { large, KV_NOTE_MAX }), KV_OK },
                { COMMAND(KV_SET, "/a", .internal = true, .note.body = { large, KV_NOTE_MAX + 1 }),
                  KV_TOO_LARGE },
                { { .op = KV_TXN, .writes = &noted, .n_writes = 1 }, KV_FORBIDDEN },
                { { .op = KV_TXN, .writes = &noted, .n_writes = 1, .internal = true }, KV_OK },
                { { .op = KV_TXN, .internal = true, .note.body = { large, 1 } }, KV_INVALID },
                { { .op = KV_RAISE, .internal = true, .note.body = { large, 1 } }, KV_INVALID },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KvStatus status = _KV_STATUS_MAX;
                Error err = {};
                int r = kv_command_check(&cases[i].cmd, &status, &err);

                assert_int_equal(status, cases[i].status);
                assert_true(r == 0 ? status == KV_OK : err.message[0] != 0);
        }
}

/* A row counts with 10 bytes more than its body; a write without one counts as it did below its level. */
static void rows_count_towards_the_size_of_a_transaction(void **state) {
        enum { LEFT = KV_COMMAND_MAX - KV_VALUE_MAX - 2 * (40 + 2) };
        _cleanup_free_ char *zeros = calloc(1, KV_VALUE_MAX);

        for (size_t body = 0; body <= KV_NOTE_MAX; body += KV_NOTE_MAX)
                for (unsigned more = 0; more < 2; more++) {
                        KvCommand writes[] = {
                                COMMAND(KV_SET, "/a", .value = { zeros, KV_VALUE_MAX }),
                                COMMAND(KV_SET, "/b",
                                        .value = { zeros, LEFT - (body > 0 ? body + 10 : 0) + more },
                                        .note.body = { zeros, body }),
                        };
                        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 2 };
                        KvStatus status;

                        (void) kv_command_check(&txn, &status, NULL);
                        assert_int_equal(status, more ? KV_TOO_LARGE : KV_OK);
                }
}

static void a_copied_result_outlives_what_it_borrowed(void **state) {
        _cleanup_free_ KvResult *copy = NULL;
        char key[] = "/a/b", cause[] = "[1 != 2]";
        KvWritten written[] = { { .node.key = kv_string(key) },
                                { .node.key = kv_string(key), .prev.value = kv_string(cause) } };
        KvResult result = { .status = KV_COMPARE_FAILED,
                            .index = 5,
                            .node.key = kv_string(key),
                            .cause = kv_string(cause),
                            .written = written,
                            .n_written = 2 };

        copy = kv_result_copy(&result);
        assert_non_null(copy);
        memset(key, 'x', sizeof(key));
        memset(cause, 'x', sizeof(cause));
        memset(written, 'x', sizeof(written));
        assert_int_equal(copy->index, 5);
        assert_true(kv_bytes_equal(copy->node.key, kv_string("/a/b")));
        assert_true(kv_bytes_equal(copy->cause, kv_string("[1 != 2]")));
        assert_true(kv_bytes_equal(copy->written[0].node.key, kv_string("/a/b")));
        assert_true(kv_bytes_equal(copy->written[1].prev.value, kv_string("[1 != 2]")));
}

/* -- Bytes -- */

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

static void commands_have_these_bytes(void **state) {
        KvCheck checks[] = { { .kind = KV_CHECK_EXISTS, .key = kv_string("/a") },
                             { .kind = KV_CHECK_MODIFIED, .key = kv_string("/b"), .index = 7 },
                             { .kind = KV_CHECK_VALUE, .key = kv_string("/c"), .value = kv_string("v") } };
        KvCommand writes[] = { SET("/a", "v"),
                               COMMAND(KV_DELETE, "/b", .recursive = true, .internal = true, .term = 5) };
        const struct {
                KvCommand cmd;
                const char *bytes;
        } cases[] = {
                { SET("/a", "v"), "01 00 0000 02 2f61 01 76" },
                { COMMAND(KV_CREATE, "/a", .dir = true), "01 01 0100 02 2f61 00" },
                { COMMAND(KV_DELETE, "/a", .recursive = true), "01 04 0200 02 2f61 00" },
                { COMMAND(KV_UPDATE, "/a", .refresh = true), "01 02 0400 02 2f61 00" },
                { COMMAND(KV_POST, "/a", TTL(3)), "01 03 0800 0300000000000000 02 2f61 00" },
                { COMMAND(KV_SET, "/a", .prev_index = 1), "01 00 1000 0100000000000000 02 2f61 00" },
                { COMMAND(KV_SET, "/a", IF_VALUE("p")), "01 00 2000 02 2f61 00 01 70" },
                { COMMAND(KV_SET, "/a", .internal = true), "01 00 4000 02 2f61 00" },
                { COMMAND(KV_SET, "/a", .term = 1), "01 00 8000 0100000000000000 02 2f61 00" },
                { COMMAND(KV_SET, "/a", IF_VALUE("p"), .note = { 258, kv_string("row") }),
                  "01 00 2001 02 2f61 00 01 70 0201000000000000 03 726f77" },
                { COMMAND(KV_DELETE, "/a", .note = { 1, {} }), "01 04 0000 02 2f61 00" },
                { { .op = KV_EXPIRE,
                    .limit = 9,
                    .dir = true,
                    .refresh = true,
                    .note = { 1, kv_string("r") } },
                  "01 06 0000 0900000000000000" },
                { { .op = KV_EXPIRE, TTL(2), .prev_index = 1, .limit = 1 },
                  "01 06 1800 0200000000000000 0100000000000000 0100000000000000" },
                { { .op = KV_RAISE, .internal = true, .has_ttl = true, .prev_index = 4, .limit = 3 },
                  "01 07 4000 0300000000000000" },
                { { .op = KV_TXN,
                    .dir = true,
                    .checks = checks,
                    .n_checks = 3,
                    .writes = writes,
                    .n_writes = 2 },
                  "01 05 0000 03 01 02 2f61  02 02 2f62 0700000000000000  03 02 2f63 01 76  02 00 0000 02 "
                  "2f61 01 76  04 0200 02 2f62 00" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_writer_ Writer w = {};
                uint8_t expected[128];

                assert_int_equal(kv_command_encode(&cases[i].cmd, KV_LEVEL_MAX, &w), 0);
                assert_same_bytes(&w, expected, bytes_of(cases[i].bytes, expected));
        }
}

static void invalid_commands_differ_from_those_of_a_newer_program(void **state) {
        static const struct {
                const char *bytes;
                int r;
        } cases[] = {
                { "00 00 0000 02 2f61 00", -EBADMSG },
                { "02", -ENOTSUP },
                { "01 08 0000", -ENOTSUP },
                { "01 08 00", -EBADMSG },
                { "01 00 0002 02 2f61 00", -EBADMSG }, /* flags that no command has */
                { "01 05 0100 00 00", -EBADMSG },      /* a transaction has no key */
                { "01 05 c000 0100000000000000 00 00", 0 },
                { "01 06 0100 0100000000000000", -EBADMSG },
                { "01 07 0800 0100000000000000 0100000000000000", -EBADMSG },
                { "01 00 1000 0000000000000000 02 2f61 00", -EBADMSG }, /* announced, and none */
                { "01 00 8000 0000000000000000 02 2f61 00", -EBADMSG },
                { "01 00 0800 0000000000000000 02 2f61 00", 0 },
                { "01 00 0001 02 2f61 00 0000000000000000 01 72", 0 },
                { "01 00 0001 02 2f61 00 0000000000000000 00", -EBADMSG }, /* a row without a body */
                { "01 00 0001 02 2f61 00 00000000000000", -EBADMSG },
                { "01 00 0001 02 2f61 00", -EBADMSG },
                { "01 05 4001 00 00", -EBADMSG }, /* of a transaction */
                { "01 06 0001 0100000000000000", -EBADMSG },
                { "01 05 4000 00 01 00 0001 00 00 0000000000000000 01 72", 0 },
                { "01 05 0000 01 00 00 00", 0 }, /* the shortest check */
                { "01 05 0000 01 00", -EBADMSG },
                { "01 05 0000 01 04 00 00", -EBADMSG },  /* no kind of check */
                { "01 05 0000 00 01 00 0000 00 00", 0 }, /* the shortest write */
                { "01 05 0000 00 01 00 0000 00", -EBADMSG },
                { "01 05 0000 00 01 03 0000 00 00", -EBADMSG }, /* which no transaction makes */
                { "01 05 0000 00 01 05 0000 00 00", -EBADMSG },
                { "01 05 0000 00 01 06 0000 00 00", -EBADMSG },
                { "01 05 0000 00 01 08 0000 00 00", -EBADMSG },
                { "01 05 0000 00 01 00 4000 00 00", -EBADMSG },
                { "01 05 0000 00 01 00 8000 0100000000000000 00 00", -EBADMSG },
                { "01 05 0000 00 01 01 0000 00 00", 0 },
                { "01 05 0000 00 01 02 0000 00 00", 0 },
                { "01 05 0000 00 01 04 0000 00 00", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ void *arena = NULL;
                uint8_t bytes[64];
                KvCommand cmd;

                assert_int_equal(kv_command_decode(bytes, bytes_of(cases[i].bytes, bytes), &cmd, &arena),
                                 cases[i].r);
        }
}

/* As large as a command, a key and a transaction may be, and by one larger. */
static void what_is_larger_than_a_limit_is_not_decoded(void **state) {
        _cleanup_free_ char *zeros = calloc(1, KV_COMMAND_MAX + 1);

        for (unsigned more = 0; more < 2; more++) {
                KvCheck few[2] = { { .key = { zeros, KV_KEY_MAX } },
                                   { .kind = KV_CHECK_VALUE, .value = { zeros, KV_VALUE_MAX } } };
                KvCommand key = { .op = KV_SET, .key = { zeros, KV_KEY_MAX + more } },
                          value = { .op = KV_SET, .value = { zeros, KV_VALUE_MAX + more } },
                          prev = { .op = KV_SET,
                                   .has_prev_value = true,
                                   .prev_value = { zeros, KV_VALUE_MAX + more } },
                          txn = { .op = KV_TXN, .checks = few, .n_checks = 2 },
                          note = { .op = KV_SET, .note.body = { zeros, KV_NOTE_MAX + more } };
                const KvCommand *each[] = { &key, &value, &prev, &txn, &txn, &note };

                for (size_t i = 0; i < ELEMENTS(each); i++) {
                        _cleanup_free_ void *arena = NULL;
                        _cleanup_writer_ Writer w = {};
                        KvCommand out;

                        few[0].key.size = KV_KEY_MAX + (i == 3 && more);
                        few[1].value.size = KV_VALUE_MAX + (i == 4 && more);
                        assert_int_equal(kv_command_encode(each[i], KV_LEVEL_MAX, &w), 0);
                        assert_int_equal(kv_command_decode(w.bytes, w.size, &out, &arena),
                                         more ? -EBADMSG : 0);
                }

                /* Items. */
                for (unsigned n_checks = 0; n_checks <= KV_TXN_ITEMS_MAX + more; n_checks += 5) {
                        unsigned n_writes = KV_TXN_ITEMS_MAX + more - n_checks;
                        _cleanup_free_ KvCheck *checks = calloc(n_checks + 1, sizeof(KvCheck));
                        _cleanup_free_ KvCommand *writes = calloc(n_writes + 1, sizeof(KvCommand));
                        KvCommand many = { .op = KV_TXN,
                                           .checks = checks,
                                           .n_checks = n_checks,
                                           .writes = writes,
                                           .n_writes = n_writes },
                                  out;
                        _cleanup_free_ void *arena = NULL;
                        _cleanup_writer_ Writer w = {};

                        assert_int_equal(kv_command_encode(&many, KV_LEVEL_MAX, &w), 0);
                        assert_int_equal(kv_command_decode(w.bytes, w.size, &out, &arena),
                                         more ? -EBADMSG : 0);
                        n_checks += n_checks == 0 ? KV_TXN_ITEMS_MAX - 10 : 0;
                }
        }
}

static void batches_have_these_bytes(void **state) {
        static const struct {
                KvBatchHead head;
                const char *bytes;
        } heads[] = {
                { { .cluster_ms = 7, .quota = 8, .quota_nodes = 9 }, "02 0700000000000000 0800000000000000" },
                { { .level = 1, .cluster_ms = 7, .quota = 8, .quota_nodes = 9 },
                  "02 0700000000000000 0800000000000000" },
                { { .level = 2, .cluster_ms = 7, .quota = 8, .quota_nodes = 9 },
                  "03 0700000000000000 0800000000000000 0900000000000000" },
                { { .level = 3, .cluster_ms = 7, .quota = 8, .quota_nodes = 9 },
                  "04 0700000000000000 0800000000000000 0900000000000000" },
                { { .level = 4, .cluster_ms = 7, .quota = 8, .quota_nodes = 9 },
                  "05 0700000000000000 0800000000000000 0900000000000000" },
        };
        static const KvBatchItem items[] = {
                { .origin = 1,
                  .number = 5,
                  .acknowledged = 4,
                  .deadline_ms = 6,
                  .command = "a",
                  .command_size = 1 },
                { .origin = 1,
                  .number = 8,
                  .acknowledged = 4,
                  .deadline_ms = 7,
                  .command = "b",
                  .command_size = 1 },
                { .origin = 1,
                  .number = 8,
                  .acknowledged = 4,
                  .deadline_ms = 7 }, /* not above the one before */
                { .origin = 2, .number = 9, .acknowledged = 9 },
                { .origin = 2,
                  .number = 10,
                  .acknowledged = 9,
                  .deadline_ms = 1 }, /* the group has no deadline */
        };
        static const char expected[] =
                "00 0100000000000000 0400000000000000 0600000000000000 02 00 01 61  03 01 01 62"
                "00 0100000000000000 0400000000000000 0700000000000000 05 00 00"
                "00 0200000000000000 0900000000000000 0000000000000000 01 00 00"
                "00 0200000000000000 0900000000000000 0100000000000000 02 00 00";

        for (size_t i = 0; i < ELEMENTS(heads); i++) {
                _cleanup_writer_ Writer w = {};
                uint8_t bytes[256];
                KvBatchHead head;
                KvBatch batch;
                size_t size;

                kv_batch_begin(&batch, &w, &heads[i].head);
                size = bytes_of(heads[i].bytes, bytes);
                assert_same_bytes(&w, bytes, size);
                assert_int_equal(kv_batch_open(&batch, bytes, size, &head), 0);
                assert_int_equal(head.level, heads[i].head.level ?: 1);
                assert_int_equal(head.quota_nodes, head.level > 1 ? 9 : 0);
                while (size-- > 0)
                        assert_int_equal(kv_batch_open(&batch, bytes, size, &head), -EBADMSG);

                for (size_t k = 0; k < ELEMENTS(items); k++)
                        kv_batch_add(&batch, &w, &items[k]);
                size = bytes_of(heads[i].bytes, bytes);
                size += bytes_of(expected, bytes + size);
                assert_same_bytes(&w, bytes, size);
        }
}

static void malformed_batches_are_refused(void **state) {
#define HEAD  "02 0700000000000000 0800000000000000 "
#define GROUP "00 0100000000000000 0400000000000000 0600000000000000 "
        static const struct {
                const char *bytes;
                int n; /* items before the error, which is -EBADMSG; 100 more: the end */
        } cases[] = {
                { HEAD GROUP "02 00 00", 101 },
                { HEAD GROUP "01 00 00", 101 },
                { HEAD GROUP "00 00 00", 0 }, /* no step */
                { HEAD GROUP "02 01 00", 0 }, /* the first one has the group's deadline */
                { HEAD GROUP "02 00 00 01 05 00", 102 },
                { HEAD GROUP "02 00 00" GROUP "03 00 00", 1 }, /* the same group */
                { HEAD GROUP "02 00 00" GROUP "02 00 00", 102 },
                { HEAD "01 00 00", 0 }, /* none is begun */
                { HEAD "00 0000000000000000 0400000000000000 0600000000000000 01 00 00", 0 },
                { HEAD "00 0100000000000000 0000000000000000 0600000000000000 01 00 00", 0 },
                { HEAD "00 0100000000000000 ffffffffffffffff 0600000000000000 01 00 00", 101 },
                { HEAD "00 0100000000000000 ffffffffffffffff 0600000000000000 02 00 00",
                  0 }, /* beyond the last number */
                { HEAD "00 0100000000000000 0400000000000000 ffffffffffffffff 01 00 00 01 01 00",
                  1 }, /* and time */
                { HEAD "00 0100000000000000 0400000000000000 0000000000000000 01 00 00 01 01 00",
                  1 }, /* none, then one */
                { HEAD GROUP "02 00", 0 },
                { "01 0700000000000000 0800000000000000 0100000000000000 0500000000000000 00", 101 },
                { "01 0700000000000000 0800000000000000 0100000000000000 0500000000000000", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint8_t bytes[256];
                KvBatchHead head;
                KvBatchItem item;
                KvBatch batch;

                assert_int_equal(kv_batch_open(&batch, bytes, bytes_of(cases[i].bytes, bytes), &head), 0);
                for (int n = 0; n < cases[i].n % 100; n++)
                        assert_int_equal(kv_batch_next(&batch, &item), 1);
                assert_int_equal(kv_batch_next(&batch, &item), cases[i].n >= 100 ? 0 : -EBADMSG);
        }
}

static void a_batch_of_an_unknown_version_differs_from_none(void **state) {
        uint8_t bytes[25] = {};
        KvBatchHead head;
        KvBatch batch;

        assert_int_equal(kv_batch_open(&batch, bytes, sizeof(bytes), &head), -EBADMSG);
        bytes[0] = 2 + KV_LEVEL_MAX - 1;
        assert_int_equal(kv_batch_open(&batch, bytes, sizeof(bytes), &head), 0);
        assert_int_equal(head.level, KV_LEVEL_MAX);
        bytes[0]++;
        assert_int_equal(kv_batch_open(&batch, bytes, sizeof(bytes), &head), -ENOTSUP);
        assert_int_equal(kv_batch_open(&batch, bytes, 16, &head), -EBADMSG);
}

/* -- Limits, at both edges -- */

static void limits_are_checked_to_the_byte_and_named(void **state) {
        enum { ITEMS = KV_TXN_ITEMS_MAX, ONE = 100 };
        static char zeros[KV_VALUE_MAX + 1], key[KV_KEY_MAX + 1], deep[2 * KV_DEPTH_MAX + 2];
        static KvCheck checks[ITEMS + 1];
        static KvCommand writes[ITEMS + 1];
        KvCheck strange = { .kind = _KV_CHECK_MAX, .key = kv_string("/a") },
                wide = { .kind = KV_CHECK_VALUE, .key = kv_string("/a"), .value = { zeros, KV_VALUE_MAX } },
                wider = { .kind = KV_CHECK_VALUE,
                          .key = kv_string("/a"),
                          .value = { zeros, KV_VALUE_MAX + 1 } },
                bad = { .key = kv_string("a") };
        KvCommand post = COMMAND(KV_POST, "/a"), bad_write = COMMAND(KV_SET, "/a//b");
        /* 20 for a check, 40 for a write, and what they hold: together KV_COMMAND_MAX. */
        KvCheck one = { .kind = KV_CHECK_VALUE,
                        .key = { key, ONE },
                        .value = { zeros, KV_COMMAND_MAX / 2 - 20 - ONE } };
        KvCommand fits = { .op = KV_SET,
                           .key = { key, ONE },
                           .value = { zeros, ONE },
                           .has_prev_value = true,
                           .prev_value = { zeros, KV_COMMAND_MAX - KV_COMMAND_MAX / 2 - 40 - 2 * ONE } };
        KvCommand exceeds = fits;
        const struct {
                KvCommand cmd;
                KvStatus status;
                const char *message;
        } cases[] = {
                { { .op = KV_SET, .key = { key, KV_KEY_MAX } }, KV_OK, "" },
                { { .op = KV_SET, .key = { key, KV_KEY_MAX + 1 } },
                  KV_TOO_LARGE,
                  "a key is at most 8192 bytes" },
                { { .op = KV_SET, .key = { deep, 2 * KV_DEPTH_MAX } }, KV_OK, "" },
                { { .op = KV_SET, .key = { deep, 2 * KV_DEPTH_MAX + 2 } },
                  KV_TOO_LARGE,
                  "a key has at most 512 segments" },
                { { .op = KV_POST, .key = { key, KV_KEY_MAX - 21 } }, KV_OK, "" },
                { { .op = KV_POST, .key = { key, KV_KEY_MAX - 20 } },
                  KV_TOO_LARGE,
                  "a key is at most 8192 bytes" },
                { { .op = KV_SET, .key = { key, KV_KEY_MAX - 20 } }, KV_OK, "" },
                { COMMAND(KV_SET, "a"), KV_INVALID, "a key begins with '/'" },
                { COMMAND(KV_SET, "/a//b"), KV_INVALID, "a key has no empty segment" },
                { COMMAND(KV_SET, "/_fleet"), KV_FORBIDDEN, "/_fleet is written by fleet alone" },
                { { .op = KV_RAISE }, KV_FORBIDDEN, "expiry and feature level are fleet's to order" },
                { { .op = KV_RAISE, .internal = true }, KV_OK, "" },
                { { .op = _KV_OP_MAX }, KV_INVALID, "unknown operation 8" },
                { COMMAND(KV_SET, "/a", .has_prev_value = true, .prev_value = { zeros, KV_VALUE_MAX }), KV_OK,
                  "" },
                { COMMAND(KV_SET, "/a", .has_prev_value = true, .prev_value = { zeros, KV_VALUE_MAX + 1 }),
                  KV_TOO_LARGE, "a value is at most VALUE bytes" },
                { COMMAND(KV_SET, "/a", .value = { zeros, KV_VALUE_MAX + 1 }), KV_TOO_LARGE,
                  "a value is at most VALUE bytes" },
                { { .op = KV_TXN, .checks = checks, .n_checks = ITEMS }, KV_OK, "" },
                { { .op = KV_TXN, .checks = checks, .n_checks = ITEMS + 1 },
                  KV_TOO_LARGE,
                  "a transaction has at most ITEMS checks and writes" },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1, .writes = writes, .n_writes = ITEMS - 1 },
                  KV_OK,
                  "" },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1, .writes = writes, .n_writes = ITEMS },
                  KV_TOO_LARGE,
                  "a transaction has at most ITEMS checks and writes" },
                { { .op = KV_TXN, .checks = &strange, .n_checks = 1 }, KV_INVALID, "unknown check 4" },
                { { .op = KV_TXN, .checks = &bad, .n_checks = 1 }, KV_INVALID, "a key begins with '/'" },
                { { .op = KV_TXN, .checks = &wide, .n_checks = 1 }, KV_OK, "" },
                { { .op = KV_TXN, .checks = &wider, .n_checks = 1 },
                  KV_TOO_LARGE,
                  "a value is at most VALUE bytes" },
                { { .op = KV_TXN, .writes = &post, .n_writes = 1 },
                  KV_INVALID,
                  "a transaction sets, creates, updates and deletes, nothing else" },
                { { .op = KV_TXN, .writes = &bad_write, .n_writes = 1 },
                  KV_INVALID,
                  "a key has no empty segment" },
                { { .op = KV_TXN, .checks = &one, .n_checks = 1, .writes = &fits, .n_writes = 1 },
                  KV_OK,
                  "" },
                { { .op = KV_TXN, .checks = &one, .n_checks = 1, .writes = &exceeds, .n_writes = 1 },
                  KV_TOO_LARGE,
                  "a transaction is at most 256000 bytes" },
        };

        memset(key, 'k', sizeof(key));
        for (size_t i = 0; i < sizeof(deep); i++)
                deep[i] = i % 2 ? 'd' : '/';
        key[0] = '/';
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                checks[i] = (KvCheck) { .key = kv_string("/a") };
                writes[i] = COMMAND(KV_SET, "/a");
        }
        exceeds.prev_value.size++;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KvStatus status = _KV_STATUS_MAX;
                Error err = {};
                char message[128];
                int r = kv_command_check(&cases[i].cmd, &status, &err);

                snprintf(message, sizeof(message), "%s", cases[i].message);
                if (strstr(message, "VALUE"))
                        snprintf(message, sizeof(message), "a value is at most %d bytes", KV_VALUE_MAX);
                if (strstr(message, "ITEMS"))
                        snprintf(message, sizeof(message), "a transaction has at most %d checks and writes",
                                 ITEMS);
                assert_int_equal(status, cases[i].status);
                assert_int_equal(r == 0, status == KV_OK);
                assert_string_equal(err.message, message);
        }
}

static void paths_are_cleaned_up_to_their_limits(void **state) {
        _cleanup_free_ char *path = malloc(KV_KEY_MAX + 1);

        for (unsigned deep = 0; deep < 2; deep++) {
                _cleanup_free_ char *clean = NULL;
                _cleanup_writer_ Writer up = {};
                size_t size;

                memset(path, 'a', KV_KEY_MAX + 1);
                path[0] = '/';
                assert_int_equal(kv_path_clean(path, KV_KEY_MAX, &clean, &size), 0);
                assert_int_equal(size, KV_KEY_MAX);
                assert_int_equal(clean[size], 0);

                /* What is left again does not count; nor what would lead above the root. */
                write_raw(&up, "/../../..", 9);
                for (unsigned i = 0; i < KV_DEPTH_MAX + deep; i++)
                        write_raw(&up, "/x/../d", 7);
                free(TAKE_PTR(clean));
                assert_int_equal(kv_path_clean(up.bytes, up.size, &clean, &size), deep ? -ENAMETOOLONG : 0);
        }
        for (unsigned i = 0; i < 2; i++) { /* only two dots lead up */
                _cleanup_free_ char *clean = NULL;
                size_t size;

                assert_int_equal(kv_path_clean(i ? "/a/.x" : "/a/x.", 5, &clean, &size), 0);
                assert_string_equal(clean, i ? "/a/.x" : "/a/x.");
        }
}

static void words_of_what_is_not_known(void **state) {
        assert_string_equal(kv_status_name(_KV_STATUS_MAX), "unknown status");
        assert_string_equal(kv_action_name(_KV_ACTION_MAX), "unknown action");
        assert_string_equal(kv_action_name(_KV_ACTION_MAX - 1), "expire");
        assert_true(kv_bytes_equal((KvBytes) {}, (KvBytes) {}));
        assert_false(kv_bytes_equal(kv_string("a"), kv_string("b")));
        assert_false(kv_bytes_equal(kv_string("a"), kv_string("ab")));
        assert_false(kv_path_hidden_from(kv_string("/a/_b"), kv_string("/c"))); /* not below it */
        assert_true(kv_path_hidden_from(kv_string("/_"), kv_string("/")));
        assert_false(
                kv_path_hidden_from((KvBytes) { "/a/_", 3 }, kv_string("/"))); /* what lies behind its end */
        assert_false(kv_path_is_below((KvBytes) { "/a/", 2 }, kv_string("/a")));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_field_of_a_command_survives_the_log),
                cmocka_unit_test(rows_of_a_command_are_omitted_below_their_feature_level),
                cmocka_unit_test(a_transaction_survives_the_log_and_its_writes_are_as_internal_as_it_is),
                cmocka_unit_test(an_order_to_expire_survives_the_log),
                cmocka_unit_test(a_cut_or_longer_command_is_refused),
                cmocka_unit_test(a_command_of_a_newer_version_differs_from_a_corrupt_one),
                cmocka_unit_test(changed_bytes_never_decode_to_something_with_two_forms),
                cmocka_unit_test(a_batch_gives_back_its_commands_in_order),
                cmocka_unit_test(a_batch_has_one_form),
                cmocka_unit_test(a_batch_of_version_1_is_read_and_nothing_of_it_is_asked_again),
                cmocka_unit_test(paths_are_cleaned_as_go_cleans_them),
                cmocka_unit_test(a_path_that_is_too_long_or_too_deep_is_refused),
                cmocka_unit_test(below_hidden_and_ours_go_by_whole_segments),
                cmocka_unit_test(commands_are_checked_before_they_reach_the_log),
                cmocka_unit_test(rows_count_towards_the_size_of_a_transaction),
                cmocka_unit_test(a_copied_result_outlives_what_it_borrowed),
                cmocka_unit_test(commands_have_these_bytes),
                cmocka_unit_test(invalid_commands_differ_from_those_of_a_newer_program),
                cmocka_unit_test(what_is_larger_than_a_limit_is_not_decoded),
                cmocka_unit_test(batches_have_these_bytes),
                cmocka_unit_test(malformed_batches_are_refused),
                cmocka_unit_test(a_batch_of_an_unknown_version_differs_from_none),
                cmocka_unit_test(limits_are_checked_to_the_byte_and_named),
                cmocka_unit_test(paths_are_cleaned_up_to_their_limits),
                cmocka_unit_test(words_of_what_is_not_known),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
