/* The memory and CPU of a host, within the limits of its control groups, and Reserve=. */
#include <fcntl.h>
#include <sys/stat.h>

#include "fleetd/host/capacity.h"
#include "tests/lib/scratch.h"
#include "tests/lib/test.h"

static void put(const char *root, const char *path, const char *text) {
        char all[512];
        FILE *f;

        snprintf(all, sizeof(all), "%s/%s", root, path);
        for (char *p = strchr(all + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
                *p = 0;
                (void) mkdir(all, 0700);
                *p = '/';
        }
        f = fopen(all, "w");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

#define MEMINFO                                                                                           \
        "MemTotal:       16777216 kB\nMemFree: 5 kB\nHugePages_Total:      %u\nHugepagesize:       2048 " \
        "kB\n"

static void the_lowest_limit_counts_and_huge_pages_do_not(void **state) {
        static const struct {
                unsigned huge, cpus;
                const char *root, *outer, *inner, *cpu; /* memory.max of the groups, cpu.max */
                uint32_t memory_mib, cpu_percent;
        } rows[] = {
                { 0, 8, NULL, NULL, NULL, NULL, 16384, 800 },
                { 512, 8, NULL, "max\n", "max\n", NULL, 15360, 800 },
                { 0, 8, "max\n", "max\n", "max\n", "max 100000\n", 16384, 800 },
                { 0, 8, "4294967296\n", "max\n", "max\n", "150000 100000\n", 4096, 150 },
                { 0, 8, "4294967296\n", "2147483648\n", "max\n", "900000 100000\n", 2048, 800 },
                { 0, 1, "max\n", "max\n", "1073741824\n", "50000 100000\n", 1024, 50 },
                { 9000, 8, "max\n", "max\n", "max\n", NULL, 0, 800 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *root = *state;
                char text[256];
                Resources r;
                int fd;

                snprintf(text, sizeof(text), MEMINFO, rows[i].huge);
                put(root, "proc/meminfo", text);
                put(root, "proc/1/cgroup", "0::/a/init.scope\n");
                put(root, "sys/fs/cgroup/memory.max", rows[i].root ?: "");
                put(root, "sys/fs/cgroup/a/memory.max", rows[i].outer ?: "");
                put(root, "sys/fs/cgroup/a/init.scope/memory.max", rows[i].inner ?: "");
                put(root, "sys/fs/cgroup/cpu.max", rows[i].cpu ?: "");
                fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
                assert_true(fd >= 0);
                assert_int_equal(capacity_read(fd, rows[i].cpus, &r), 0);
                assert_int_equal(close(fd), 0);
                if (r.memory_mib != rows[i].memory_mib || r.cpu_percent != rows[i].cpu_percent)
                        fail_msg("row %zu: %u MiB, %u%%", i, r.memory_mib, r.cpu_percent);
        }
}

static void this_host_has_memory_and_processors(void **state) {
        Resources r = {};

        assert_int_equal(capacity_measure(&r), 0);
        assert_true(r.memory_mib > 0 && r.cpu_percent > 0);
}

static void what_is_reserved_is_subtracted_and_the_rest_is_rounded(void **state) {
        static const struct {
                const char *reserve;
                Resources physical, left;
        } rows[] = {
                { "", { 1024, 800 }, { 768, 800 } },                 /* 256 MiB */
                { "", { 16384, 800 }, { 15488, 800 } },              /* 5 % */
                { "", { 1 << 20, 800 }, { (1 << 20) - 8192, 800 } }, /* 4 GiB, then down to 8 GiB */
                { "memory:2G cpu:50%", { 16384, 800 }, { 14336, 750 } },
                { "memory:0", { 16384, 800 }, { 16384, 800 } },
                { "cpu:50% memory:25%", { 16384, 100 }, { 12288, 50 } },
                { "memory:1M", { 129, 100 }, { 128, 100 } },
                { "memory:0", { 129, 100 }, { 128, 100 } }, /* steps of 2 from 128 MiB on */
                { "memory:0", { 127, 100 }, { 127, 100 } },
                { "memory:64G cpu:900%", { 16384, 800 }, { 0, 0 } },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Reserve reserve;
                Resources left;

                assert_int_equal(capacity_parse_reserve(rows[i].reserve, &reserve, NULL), 0);
                left = capacity_without(rows[i].physical, &reserve);
                if (left.memory_mib != rows[i].left.memory_mib ||
                    left.cpu_percent != rows[i].left.cpu_percent)
                        fail_msg("row %zu: %u MiB, %u%%", i, left.memory_mib, left.cpu_percent);
        }
}

static int setup(void **state) {
        *state = scratch_new();
        return 0;
}

static int teardown(void **state) {
        *state = scratch_free(*state);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_lowest_limit_counts_and_huge_pages_do_not, setup,
                                                teardown),
                cmocka_unit_test(this_host_has_memory_and_processors),
                cmocka_unit_test(what_is_reserved_is_subtracted_and_the_rest_is_rounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
