#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "kvstore/command.h"

static void assert_same_bytes(const Writer *w, const void *bytes, size_t size) {
        assert_int_equal(w->size, size);
        assert_memory_equal(w->bytes, bytes, size);
}

static void assert_returns_as_it_went(const KvCommand *cmd, KvCommand *ret, void **ret_arena, Writer *ret_bytes) {
        _cleanup_writer_ Writer again = {};

        assert_int_equal(kv_command_encode(cmd, ret_bytes), 0);
        assert_int_equal(kv_command_decode(ret_bytes->bytes, ret_bytes->size, ret, ret_arena), 0);
        assert_int_equal(kv_command_encode(ret, &again), 0);
        assert_same_bytes(&again, ret_bytes->bytes, ret_bytes->size);
}

static void every_field_of_a_command_survives_the_log(void **state) {
        _cleanup_free_ void *arena = NULL;
        _cleanup_writer_ Writer bytes = {};
        KvCommand in = {
                .op = KV_SET, .key = kv_string("/a/b"), .value = { "x\0y", 3 }, .dir = true, .recursive = true, .refresh = true,
                .has_ttl = true, .ttl_ms = 7000, .prev_index = UINT64_MAX, .has_prev_value = true, .prev_value = kv_string("old"),
                .internal = true, .term = 9,
        };
        KvCommand out;

        assert_returns_as_it_went(&in, &out, &arena, &bytes);
        assert_int_equal(out.op, KV_SET);
        assert_true(kv_bytes_equal(out.key, in.key));
        assert_true(kv_bytes_equal(out.value, in.value));
        assert_true(kv_bytes_equal(out.prev_value, in.prev_value));
        assert_true(out.dir && out.recursive && out.refresh && out.has_ttl && out.has_prev_value && out.internal);
        assert_int_equal(out.ttl_ms, 7000);
        assert_true(out.prev_index == UINT64_MAX);
        assert_int_equal(out.term, 9);
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
                { .op = KV_SET, .key = kv_string("/_fleet/x"), .value = kv_string("1") },
                { .op = KV_DELETE, .key = kv_string("/c"), .recursive = true },
                { .op = KV_UPDATE, .key = kv_string("/d"), .has_ttl = true },
        };
        KvCommand in = { .op = KV_TXN, .internal = true, .term = 3, .checks = checks, .n_checks = 3, .writes = writes, .n_writes = 3 };
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
        KvCommand in = { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("v"), .prev_index = 4 }, out;
        void *arena;

        assert_int_equal(kv_command_encode(&in, &bytes), 0);
        for (size_t size = 0; size < bytes.size; size++)
                assert_int_equal(kv_command_decode(bytes.bytes, size, &out, &arena), -EBADMSG);
        write_u8(&bytes, 0);
        assert_int_equal(kv_command_decode(bytes.bytes, bytes.size, &out, &arena), -EBADMSG);
}

static void a_command_of_a_newer_version_is_told_from_a_broken_one(void **state) {
        KvCommand out;
        void *arena;

        assert_int_equal(kv_command_decode("\2whatever", 9, &out, &arena), -ENOTSUP);
        assert_int_equal(kv_command_decode("\0\0\0\0\0\0", 6, &out, &arena), -EBADMSG);
        assert_int_equal(kv_command_decode("\1\1\0\x80\1/\0", 7, &out, &arena), -EBADMSG); /* an unknown flag */
        assert_int_equal(kv_command_decode("\1\x7f\0\0\1/\0", 7, &out, &arena), -ENOTSUP); /* an unknown operation: a newer program's */
        /* "No index", said aloud. */
        assert_int_equal(kv_command_decode("\1\0\x10\0" "\0\0\0\0\0\0\0\0" "\2/a\0", 16, &out, &arena), -EBADMSG);
        assert_int_equal(kv_command_decode("\1\0\x10\0" "\1\0\0\0\0\0\0\0" "\2/a\0", 16, &out, &arena), 0);
}

static void changed_bytes_never_decode_to_something_with_two_forms(void **state) {
        _cleanup_writer_ Writer bytes = {};
        KvCheck check = { .kind = KV_CHECK_MODIFIED, .key = kv_string("/a"), .index = 17 };
        KvCommand write = { .op = KV_SET, .key = kv_string("/b"), .value = kv_string("v"), .has_prev_value = true };
        KvCommand in = { .op = KV_TXN, .checks = &check, .n_checks = 1, .writes = &write, .n_writes = 1 };
        Random random;

        random_seed(&random, 1);
        assert_int_equal(kv_command_encode(&in, &bytes), 0);
        for (unsigned i = 0; i < 20000; i++) {
                _cleanup_free_ void *arena = NULL;
                _cleanup_free_ uint8_t *changed = malloc(bytes.size);
                _cleanup_writer_ Writer again = {};
                KvCommand out;

                memcpy(changed, bytes.bytes, bytes.size);
                for (unsigned n = 1 + random_below(&random, 3); n > 0; n--)
                        changed[1 + random_below(&random, bytes.size - 1)] = random_u64(&random) >> random_below(&random, 64);
                if (kv_command_decode(changed, bytes.size, &out, &arena) < 0)
                        continue;
                assert_int_equal(kv_command_encode(&out, &again), 0);
                assert_same_bytes(&again, changed, bytes.size);
        }
}

static void a_batch_gives_back_its_commands_in_order(void **state) {
        static const KvBatchItem given[] = {
                { .origin = 1, .number = 10, .floor = 10, .deadline_ms = 5000, .command = "abc", .command_size = 3 },
                { .origin = 1, .number = 12, .floor = 10, .deadline_ms = 5300, .command = "d", .command_size = 1 },
                { .origin = 1, .number = 13, .floor = 10, .deadline_ms = 4000 },                /* an earlier deadline */
                { .origin = 1, .number = 14, .floor = 10 },                                     /* none */
                { .origin = 1, .number = 11, .floor = 10 },                                     /* out of order */
                { .origin = 1, .number = 15, .floor = 11, .deadline_ms = UINT64_MAX },          /* another floor */
                { .origin = 2, .number = UINT64_MAX, .floor = 1, .command = "", .command_size = 0 },
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
                assert_int_equal(item.floor, given[i].floor);
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
        kv_batch_add(&batch, &bytes, &(KvBatchItem) { .origin = 1, .number = 1, .floor = 1, .deadline_ms = 5 });
        batch = (KvBatch) {}; /* forgets the group that has been begun */
        kv_batch_add(&batch, &bytes, &(KvBatchItem) { .origin = 1, .number = 2, .floor = 1, .deadline_ms = 5 });

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
                { "", "/" }, { "/", "/" }, { "//", "/" }, { "a", "/a" }, { "/a/", "/a" }, { "//a//b//", "/a/b" },
                { "/a/./b", "/a/b" }, { "/a/../b", "/b" }, { "/../a", "/a" }, { "/a/..", "/" }, { "/a/b/../../..", "/" },
                { "/...", "/..." }, { "/.a/..b", "/.a/..b" }, { "/a/b/c/../d", "/a/b/d" },
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
        KvCommand ours = { .op = KV_SET, .key = kv_string("/_fleet/unit/a") };
        const struct {
                KvCommand cmd;
                KvStatus status;
        } cases[] = {
                { { .op = KV_SET, .key = kv_string("/a") }, KV_OK },
                { { .op = KV_SET, .key = kv_string("/") }, KV_OK },
                { { .op = KV_SET, .key = kv_string("") }, KV_INVALID },
                { { .op = KV_SET, .key = kv_string("a") }, KV_INVALID },
                { { .op = KV_SET, .key = kv_string("/a/") }, KV_INVALID },
                { { .op = KV_SET, .key = kv_string("/a//b") }, KV_INVALID },
                { { .op = KV_SET, .key = kv_string("/a"), .value = { large, KV_VALUE_MAX } }, KV_OK },
                { { .op = KV_SET, .key = kv_string("/a"), .value = { large, KV_VALUE_MAX + 1 } }, KV_TOO_LARGE },
                { { .op = KV_POST, .key = kv_string("/_fleet") }, KV_FORBIDDEN },
                { { .op = KV_DELETE, .key = kv_string("/_fleet"), .recursive = true }, KV_FORBIDDEN },
                { { .op = KV_DELETE, .key = kv_string("/_fleet"), .recursive = true, .internal = true }, KV_OK },
                { { .op = KV_TXN, .writes = &ours, .n_writes = 1 }, KV_FORBIDDEN },
                { { .op = KV_TXN, .writes = &ours, .n_writes = 1, .internal = true }, KV_OK },
                { { .op = KV_EXPIRE, .limit = 1 }, KV_FORBIDDEN },
                { { .op = _KV_OP_MAX }, KV_INVALID },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KvStatus status = _KV_STATUS_MAX;
                Error err = {};
                int r = kv_command_check(&cases[i].cmd, &status, &err);

                assert_int_equal(status, cases[i].status);
                assert_true(r == 0 ? status == KV_OK : err.message[0] != 0);
        }
}

static void a_copied_result_outlives_what_it_borrowed(void **state) {
        _cleanup_free_ KvResult *copy = NULL;
        char key[] = "/a/b", cause[] = "[1 != 2]";
        KvWritten written[] = { { .node.key = kv_string(key) }, { .node.key = kv_string(key), .prev.value = kv_string(cause) } };
        KvResult result = { .status = KV_COMPARE_FAILED, .index = 5, .node.key = kv_string(key), .cause = kv_string(cause),
                            .written = written, .n_written = 2 };

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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_field_of_a_command_survives_the_log),
                cmocka_unit_test(a_transaction_survives_the_log_and_its_writes_are_as_internal_as_it_is),
                cmocka_unit_test(an_order_to_expire_survives_the_log),
                cmocka_unit_test(a_cut_or_longer_command_is_refused),
                cmocka_unit_test(a_command_of_a_newer_version_is_told_from_a_broken_one),
                cmocka_unit_test(changed_bytes_never_decode_to_something_with_two_forms),
                cmocka_unit_test(a_batch_gives_back_its_commands_in_order),
                cmocka_unit_test(a_batch_has_one_form),
                cmocka_unit_test(a_batch_of_version_1_is_read_and_nothing_of_it_is_asked_again),
                cmocka_unit_test(paths_are_cleaned_as_go_cleans_them),
                cmocka_unit_test(a_path_that_is_too_long_or_too_deep_is_refused),
                cmocka_unit_test(below_hidden_and_ours_go_by_whole_segments),
                cmocka_unit_test(commands_are_checked_before_they_reach_the_log),
                cmocka_unit_test(a_copied_result_outlives_what_it_borrowed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
