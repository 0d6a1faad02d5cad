/* Guards of singletons: their files, and their process. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/file.h"
#include "fleetd/guard_process.h"
#include "fleetd/systemd/guard.h"
#include "fleetd/systemd/runtime_dir.h"
#include "tests/lib/scratch.h"

#define ONCE "[Service]\nExecStart=/bin/one\n[X-Fleet]\nSingleton=yes\n"
#define MANY "[Service]\nExecStart=/bin/one\n"

typedef struct Lab {
        char *scratch, *path, *quadlets, *links, *lease;
        RuntimeDir dir;
} Lab;

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        lab->scratch = scratch_new();
        lab->path = scratch_path(lab->scratch, "units");
        lab->quadlets = scratch_path(lab->scratch, "containers/systemd");
        lab->links = scratch_path(lab->scratch, "systemd");
        lab->lease = scratch_path(lab->path, ".leases/one.service");
        assert_int_equal(runtime_dir_open(&lab->dir, lab->path, lab->quadlets, lab->links, NULL), 0);
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        runtime_dir_close(&lab->dir);
        free(lab->path);
        free(lab->quadlets);
        free(lab->links);
        free(lab->lease);
        scratch_free(lab->scratch);
        free(lab);
        return 0;
}

static char *text_of(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name);
        char *text = NULL;

        return read_file_at(AT_FDCWD, path, 65536, &text, NULL) < 0 ? NULL : text;
}

static void write_unit(Lab *lab, const char *text) {
        assert_int_equal(runtime_dir_write(&lab->dir, "one.service", text, strlen(text)), 0);
}

static bool is_in_force(Lab *lab) {
        const RuntimeDirEntry *e = NULL;

        assert_int_equal(runtime_dir_get(&lab->dir, "one.service", &e), 0);
        return e;
}

static void a_singleton_is_bound_to_its_guard(void **state) {
        _cleanup_free_ char *drop_in = NULL, *service = NULL;
        Lab *lab = *state;

        write_unit(lab, ONCE);
        drop_in = text_of(lab->links, "one.service.d/fleet-singleton.conf");
        service = text_of(lab->links, "fleet-singleton@.service");
        assert_non_null(drop_in);
        assert_non_null(service);
        assert_non_null(
                strstr(drop_in, "\nBindsTo=fleet-singleton@%n.service\nAfter=fleet-singleton@%n.service\n"));
        assert_non_null(strstr(drop_in, "\nTimeoutStopSec=90\n"));
        assert_non_null(strstr(drop_in, lab->path));
        assert_non_null(strstr(service, "\nWatchdogSec=5\n"));
        assert_null(strstr(service, "Restart="));
        assert_true(is_in_force(lab));
}

static void the_timeout_of_a_singleton_stays(void **state) {
        _cleanup_free_ char *drop_in = NULL;

        write_unit(*state, "[Service]\nExecStart=/bin/one\nTimeoutStopSec=7\n[X-Fleet]\nSingleton=yes\n");
        drop_in = text_of(((Lab *) *state)->links, "one.service.d/fleet-singleton.conf");
        assert_non_null(drop_in);
        assert_null(strstr(drop_in, "TimeoutStopSec"));
}

/* The agent then writes it again, before any start. */
static void a_singleton_that_is_not_bound_is_not_in_force(void **state) {
        Lab *lab = *state;
        _cleanup_free_ char *path = scratch_path(lab->links, "one.service.d/fleet-singleton.conf");

        write_unit(lab, ONCE);
        assert_int_equal(unlink(path), 0);
        assert_false(is_in_force(lab));
        write_unit(lab, ONCE);
        assert_true(is_in_force(lab));
}

static void without_singleton_and_without_a_unit_nothing_is_left(void **state) {
        static const char *const texts[] = { MANY, NULL };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_free_ char *folder = scratch_path(lab->links, "one.service.d"),
                                    *token = scratch_path(lab->path, ".leases/one.service.env");

                write_unit(lab, ONCE);
                assert_int_equal(guard_set_lease(lab->path, "one.service", clock_boot_ms() + 60000, 7), 0);
                assert_int_equal(access(lab->lease, F_OK), 0);
                if (texts[i])
                        write_unit(lab, texts[i]);
                else
                        assert_int_equal(runtime_dir_remove(&lab->dir, "one.service"), 0);
                assert_int_equal(access(folder, F_OK), -1);
                assert_int_equal(access(lab->lease, F_OK), -1);
                assert_int_equal(access(token, F_OK), -1);
        }
}

static void a_folder_with_files_of_the_host_stays(void **state) {
        Lab *lab = *state;
        _cleanup_free_ char *own = scratch_path(lab->links, "one.service.d/host.conf");

        write_unit(lab, ONCE);
        scratch_write(own, "[Service]\n");
        assert_int_equal(runtime_dir_remove(&lab->dir, "one.service"), 0);
        assert_int_equal(access(own, F_OK), 0);
}

static void the_token_stays_until_the_next_one(void **state) {
        Lab *lab = *state;
        _cleanup_free_ char *first = NULL, *second = NULL;

        assert_int_equal(guard_set_lease(lab->path, "one.service", 1000, 41), 0);
        assert_int_equal(guard_set_lease(lab->path, "one.service", 2000, 0), 0);
        first = text_of(lab->path, ".leases/one.service.env");
        assert_string_equal(first, "FLEET_TOKEN=41\n");
        assert_int_equal(guard_set_lease(lab->path, "one.service", 3000, 42), 0);
        second = text_of(lab->path, ".leases/one.service.env");
        assert_string_equal(second, "FLEET_TOKEN=42\n");
        assert_int_equal(guard_set_lease(lab->path, "one.service", 0, 0), 0);
        assert_int_equal(guard_set_lease(lab->path, "one.service", 0, 0), 0); /* there is none */
        assert_int_equal(access(lab->lease, F_OK), -1);
}

static void a_guard_runs_until_the_end_of_its_lease(void **state) {
        Lab *lab = *state;
        uint64_t until_ms = clock_boot_ms() + 150;

        assert_int_equal(guard_set_lease(lab->path, "one.service", until_ms, 1), 0);
        assert_int_equal(guard_run(lab->lease), 0);
        assert_in_range(clock_boot_ms(), until_ms, until_ms + 60000);
}

static void a_guard_without_a_valid_lease_does_not_start(void **state) {
        static const char *const texts[] = { "",
                                             "\n",
                                             "x\n",
                                             "-1\n",
                                             "1\n",
                                             "18446744073709551615",
                                             "18446744073709551616\n",
                                             "99999999999999999999999999999999999999999\n" };
        Lab *lab = *state;

        assert_int_equal(guard_run(lab->lease), 1);
        assert_int_equal(guard_set_lease(lab->path, "one.service", 1, 1), 0);
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                scratch_write(lab->lease, texts[i]);
                assert_int_equal(guard_run(lab->lease), 1);
        }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_singleton_is_bound_to_its_guard),
                TEST(the_timeout_of_a_singleton_stays),
                TEST(a_singleton_that_is_not_bound_is_not_in_force),
                TEST(without_singleton_and_without_a_unit_nothing_is_left),
                TEST(a_folder_with_files_of_the_host_stays),
                TEST(the_token_stays_until_the_next_one),
                TEST(a_guard_runs_until_the_end_of_its_lease),
                TEST(a_guard_without_a_valid_lease_does_not_start),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
