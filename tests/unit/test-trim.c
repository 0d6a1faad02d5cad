/* When memory is returned to the kernel: periodically, and soon after much was freed. */
#include <gnu/libc-version.h>
#include <limits.h>

#include "tests/lib/test.h"
#include "base/memory.h"
#include "fleetd/trim.h"

static uint64_t now_ms = 1000;

static uint64_t test_now_ms(const Loop *loop) {
        return now_ms;
}

static void test_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps ops = { .now_ms = test_now_ms, .wall_ms = test_now_ms, .wake_at = test_wake_at };

static void memory_is_checked_periodically_and_sooner_after_much_was_freed(void **state) {
        Loop loop = {};
        Trim trim = {};

        loop_init(&loop, &ops, 1);
        trim_stop(&trim); /* before trim_start() */
        assert_int_equal(trim_start(&trim, &loop), 0);
        assert_ptr_equal(loop.on_freed, &trim.freed);
        assert_true(trim.timer.due_ms == now_ms + TRIM_MS + TRIM_SLACK_MS);

        loop_defer(&loop, loop.on_freed);
        loop_run_due(&loop, 10);
        assert_true(trim.timer.due_ms == now_ms + TRIM_SOON_MS);
        now_ms += TRIM_SOON_MS - 1;
        loop_defer(&loop, loop.on_freed); /* further frees do not delay it */
        loop_run_due(&loop, 10);
        assert_true(trim.timer.due_ms == now_ms + 1);
        now_ms++;
        loop_run_due(&loop, 10);
        assert_true(trim.timer.due_ms == now_ms + TRIM_MS + TRIM_SLACK_MS);

        loop_defer(&loop, loop.on_freed);
        trim_stop(&trim);
        assert_null(loop.on_freed);
        now_ms += 10 * TRIM_MS;
        assert_true(loop_next_due_ms(&loop) == UINT64_MAX);
        loop_done(&loop);
}

/* Resident pages of files, this program among them. */
static unsigned long pages_of_files(void) {
        unsigned long shared = 0;
        FILE *stream = fopen("/proc/self/statm", "re");

        assert_non_null(stream);
        assert_int_equal(fscanf(stream, "%*u %*u %lu", &shared), 1);
        fclose(stream);
        return shared;
}

static int changed = 1;
static int *volatile relocated = &changed;

static void code_is_unmapped_and_runs_on_and_written_data_is_kept(void **state) {
        unsigned long before;

        changed = 2;
        before = pages_of_files();
        trim_unmap_programs();
        assert_true(pages_of_files() < before * 3 / 4);
        assert_int_equal(*relocated, 2);
}

/* Code of libc, which the test reads to make it resident. */
enum { CODE_BYTES = 1024 * 1024 };

static void run_much_code(void) {
        const volatile char *code = (const volatile char *) (uintptr_t) gnu_get_libc_version;

        for (size_t i = 0; i < CODE_BYTES; i += 4096)
                (void) code[i];
}

static void code_that_ran_for_a_while_is_unmapped_within_a_minute(void **state) {
        unsigned long busy = 0, lowest = ULONG_MAX;
        Loop loop = {};
        Trim trim = {};

        loop_init(&loop, &ops, 1);
        assert_int_equal(trim_start(&trim, &loop), 0);
        for (unsigned i = 0; i < 3 + TRIM_UNMAP_CHECKS; i++) {
                now_ms += TRIM_MS + TRIM_SLACK_MS;
                loop_run_due(&loop, 10);
                if (i < 3) /* a host with much to do after its start */
                        run_much_code();
                if (i < 3)
                        busy = pages_of_files();
                else
                        lowest = MIN(lowest, pages_of_files());
        }
        assert_true(lowest + CODE_BYTES / 4096 / 4 < busy);
        trim_stop(&trim);
        loop_done(&loop);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(
                        code_is_unmapped_and_runs_on_and_written_data_is_kept), /* first: after the start */
                cmocka_unit_test(code_that_ran_for_a_while_is_unmapped_within_a_minute),
                cmocka_unit_test(memory_is_checked_periodically_and_sooner_after_much_was_freed),
        };

        return cmocka_run_group_tests_name("trim", tests, NULL, NULL);
}
