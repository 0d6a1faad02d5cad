#include "tests/lib/test.h"
#include "base/clock.h"
#include "tests/lib/size.h"
#include "units/unit.h"

static void sizes_are_read_as_systemd_and_podman_do(void **state) {
        enum { BAD = UINT32_MAX - 1, ALL = UINT32_MAX };
        static const struct {
                const char *text;
                uint32_t systemd, podman; /* MiB */
        } rows[] = {
                { "0", 0, 0 },
                { "1", 1, 1 },
                { "1048576", 1, 1 },
                { "1048577", 2, 2 },
                { "1B", 1, 1 },
                { "1025K", 2, 2 },
                { "300M", 300, 300 },
                { "300 M", 300, 300 },
                { "1.5G", 1536, 1536 },
                { "0.0000001M", 1, 1 },
                { "1.0000000M", 1, 1 },
                { "1.00000001M", 2, 2 },
                { "2T", 2 << 20, 2 << 20 },
                { "4095T", 4095u << 20, 4095u << 20 },
                { "4096T", ALL, ALL },
                { "4P", ALL, ALL },
                { "1E", ALL, ALL },
                { "18446744073709551616", ALL, ALL },
                { "99999999999999999999999999999999999999999E", ALL, ALL },
                { "300m", BAD, 300 },
                { "2g", BAD, 2048 },
                { "2gb", BAD, 2048 },
                { "2GiB", BAD, 2048 },
                { "512b", BAD, 1 },
                { "", BAD, BAD },
                { "M", BAD, BAD },
                { "-1", BAD, BAD },
                { "+1", BAD, BAD },
                { "1.", BAD, BAD },
                { "1.M", BAD, BAD },
                { ".5G", BAD, BAD },
                { "1,5G", BAD, BAD },
                { "300X", BAD, BAD },
                { "300MB", BAD, 300 },
                { "300MM", BAD, BAD },
                { "1G 500M", BAD, BAD },
                { "0x10", BAD, BAD },
                { "50%", BAD, BAD },
                { "infinity", BAD, BAD },
                { "1\xc3\xa9", BAD, BAD },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (int podman = 0; podman < 2; podman++) {
                        uint32_t expected = podman ? rows[i].podman : rows[i].systemd, mib = BAD;

                        assert_int_equal(resources_parse_memory(rows[i].text, podman, &mib),
                                         expected == BAD ? -EINVAL : 0);
                        if (mib != expected)
                                fail_msg("\"%s\": %u, not %u", rows[i].text, mib, expected);
                }
}

static void percentages_are_rounded_up(void **state) {
        static const struct {
                const char *text;
                int64_t percent; /* -1: rejected */
        } rows[] = {
                { "0%", 0 },
                { "0.01%", 1 },
                { "50%", 50 },
                { "12.5%", 13 },
                { "200%", 200 },
                { "50", -1 },
                { "%", -1 },
                { "5%%", -1 },
                { "5 %", -1 },
                { "-5%", -1 },
                { "1e3%", -1 },
                { "", -1 },
                { "99999999999999999999%", UINT32_MAX },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                uint32_t percent = 77;

                assert_int_equal(resources_parse_percent(rows[i].text, &percent),
                                 rows[i].percent < 0 ? -EINVAL : 0);
                assert_int_equal(percent, rows[i].percent < 0 ? 77 : rows[i].percent);
        }
}

#define S "[Service]\n"
#define C "[Container]\nImage=a\n"
#define X "[X-Fleet]\n"

static void the_size_is_the_first_of_request_guarantee_limit_and_default(void **state) {
        static const struct {
                const char *name, *text;
                uint32_t mib, percent;
        } rows[] = {
                { "a.service", S "ExecStart=/bin/true\n", 64, 10 },
                { "a.timer", "[Timer]\nOnBootSec=1\n" S "MemoryMax=1G\nCPUQuota=50%\n", 64, 10 },
                { "a.service", S "MemoryMax=1G\n", 1024, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryHigh=900M\n", 900, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryHigh=900M\nMemoryLow=100M\n", 100, 10 },
                { "a.service", S "MemoryLow=100M\nMemoryMin=200M\nMemoryHigh=1G\n", 200, 10 },
                { "a.service", S "MemoryLow=300M\nMemoryMin=200M\n", 300, 10 },
                { "a.service", S "MemoryMax=1G\n" X "MemoryRequest=100M\n", 100, 10 },
                { "a.service", S "MemoryMax=1G\n" X "MemoryRequest=0\n", 1024, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryMax=2G\n", 2048, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryMax=\n", 64, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryMax=infinity\n", 64, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryMax=10%\n", 64, 10 },
                { "a.service", S "MemoryMax=1G\nMemoryMax=much\n", 1024, 10 }, /* systemd ignores the line */
                { "a.service", S "MemoryMax=1\n", 1, 10 },
                { "a.service", S "MemoryMax=0\n", 64, 10 },
                { "a.service", S "MemoryMax=99999999999999999999T\n", UINT32_MAX, 10 },
                { "a.service", "[Unit]\nMemoryMax=1G\n[Socket]\nMemoryMax=1G\n" C "Memory=1g\n", 64, 10 },
                { "a.socket", "[Socket]\nMemoryMax=1G\nCPUQuota=20%\n", 1024, 20 },
                { "a.mount", "[Mount]\nMemoryMax=1G\n", 1024, 10 },
                { "a.swap", "[Swap]\nMemoryMax=1G\n", 1024, 10 },
                { "a.service", S "CPUQuota=150%\nCPUWeight=1000\n", 64, 150 },
                { "a.service", S "CPUQuota=150%\nCPUQuota=\nCPUWeight=300\n", 64, 30 },
                { "a.service", S "CPUQuota=150%\n" X "CPURequest=20%\n", 64, 20 },
                { "a.service", S "CPUWeight=1\n", 64, 1 },
                { "a.service", S "CPUWeight=19\n", 64, 1 },
                { "a.service", S "CPUWeight=idle\n", 64, 1 },
                { "a.service", S "CPUWeight=1000\n", 64, 100 },
                { "a.service", S "CPUWeight=10000\n", 64, 100 },
                { "a.service", S "CPUWeight=10000\nCPUWeight=\n", 64, 10 },
                { "a.service", S "CPUWeight=10001\nCPUWeight=0\n", 64, 10 },
                { "a.service", S "CPUWeight=200\nCPUWeight=18446744073709551616\n", 64, 20 },
                { "a.container", C "Memory=300m\n", 300, 10 },
                { "a.container", C "Memory=300m\nMemory=\n", 64, 10 },
                { "a.container", C "Memory=300m\n" S "MemoryMax=400M\nCPUQuota=5%\n", 400, 5 },
                { "a.container", C "PodmanArgs=--memory=512m --cpus=1.5\n", 512, 150 },
                { "a.container", C "PodmanArgs=--memory 512m --cpus 0.251\n", 512, 26 },
                { "a.container", C "PodmanArgs=-m 512m\n", 512, 10 },
                { "a.container", C "PodmanArgs=-m=512m\n", 512, 10 },
                { "a.container", C "PodmanArgs=-m512m\n", 512, 10 },
                { "a.container", C "PodmanArgs=\"--memory=512m\" '--cpus=2'\n", 512, 200 },
                { "a.container", C "PodmanArgs=--log-level=x \\\n  --memory=512m\n", 512, 10 },
                { "a.container", C "PodmanArgs=--memory=1g -m 512m\nPodmanArgs=--cpus=1\n", 512, 100 },
                { "a.container", C "PodmanArgs=--memory=1g --cpus=1\nPodmanArgs=\n", 64, 10 },
                { "a.container", C "PodmanArgs=--memory=1g\nMemory=300m\n", 1024, 10 },
                { "a.container", C "PodmanArgs=--memory-swap=1g --cpus-x=1 --memory\n", 64, 10 },
                { "a.container", C "PodmanArgs=--memory=1g --memory=-1 --cpus=x --cpus=1x\n", 1024, 10 },
                { "a.container", C "PodmanArgs=--memory=1g 'x\n", 64, 10 },
                { "a.pod", "[Pod]\nPodmanArgs=--memory=1g\n", 1024, 10 },
                { "a.kube", "[Kube]\nYaml=a\nPodmanArgs=--memory=1g\n" S "MemoryMax=2G\n", 2048, 10 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;

                assert_int_equal(unit_read(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, NULL), 0);
                if (unit->placement.size.memory_mib != rows[i].mib ||
                    unit->placement.size.cpu_percent != rows[i].percent)
                        fail_msg("%s: %u MiB, %u %%", rows[i].text, unit->placement.size.memory_mib,
                                 unit->placement.size.cpu_percent);
        }
}

/* A number is drawn, written, and read again. */
static void each_size_and_percentage_is_its_number_rounded_up(void **state) {
        static const char units[] = "BKMGTPE";
        Random random;

        random_seed(&random, 54);
        for (unsigned i = test_size(300, 10000, 1000000); i > 0; i--) {
                uint64_t whole = random_u64(&random) >> random_below(&random, 64), divisor = 1, fraction = 0;
                unsigned power = (unsigned) random_below(&random, 7),
                         digits = (unsigned) random_below(&random, 7);
                uint32_t mib, same, percent;
                char text[64], size[80];
                long double exact;

                for (unsigned k = 0; k < digits; k++)
                        divisor *= 10;
                fraction = random_below(&random, divisor);
                snprintf(text, sizeof(text), "%llu%s%0*llu", (unsigned long long) whole, digits ? "." : "",
                         (int) digits, (unsigned long long) fraction);
                if (digits == 0)
                        snprintf(text, sizeof(text), "%llu", (unsigned long long) whole);
                /* 64 bits of a mantissa: exact for whole numbers, and up to 1 MiB wrong beside a border. */
                exact = ((long double) whole + (long double) fraction / divisor);
                snprintf(size, sizeof(size), "%s%%", text);
                assert_int_equal(resources_parse_percent(size, &percent), 0);
                if (exact < UINT32_MAX)
                        assert_true(percent >= exact && percent < exact + 1);
                else
                        assert_int_equal(percent, UINT32_MAX);

                for (unsigned k = 0; k < power; k++)
                        exact *= 1024;
                exact /= 1 << 20;
                snprintf(size, sizeof(size), "%s%c", text, units[power]);
                assert_int_equal(resources_parse_memory(size, false, &mib), 0);
                if (exact < UINT32_MAX)
                        assert_true(mib + 1e-6L >= exact && mib < exact + 1 + 1e-6L);
                else
                        assert_int_equal(mib, UINT32_MAX);
                size[strlen(size) - 1] |= 0x20; /* podman's suffix */
                assert_int_equal(resources_parse_memory(size, true, &same), 0);
                assert_int_equal(mib, same);
        }
}

/* Of lines in any order, the last valid one of an option counts. */
static void the_size_of_drawn_lines_is_that_of_a_search_from_their_end(void **state) {
        static const struct {
                const char *option, *value;
                int64_t size; /* 0: none; -1: the line is ignored */
        } lines[] = {
                { "MemoryMin", "100M", 100 },
                { "MemoryMin", "", 0 },
                { "MemoryMin", "x", -1 },
                { "MemoryLow", "200M", 200 },
                { "MemoryLow", "infinity", 0 },
                { "MemoryHigh", "300M", 300 },
                { "MemoryHigh", "5%", 0 },
                { "MemoryMax", "400M", 400 },
                { "MemoryMax", "", 0 },
                { "MemoryMax", "-1", -1 },
                { "CPUQuota", "70%", 70 },
                { "CPUQuota", "", 0 },
                { "CPUQuota", "7", -1 },
                { "CPUWeight", "500", 50 },
                { "CPUWeight", "", 0 },
                { "CPUWeight", "heavy", -1 },
                { "ExecStart", "MemoryMax=1G", -1 },
        };
        static const char *const options[] = { "MemoryMin", "MemoryLow", "MemoryHigh",
                                               "MemoryMax", "CPUQuota",  "CPUWeight" };
        Random random;

        random_seed(&random, 55);
        for (unsigned i = test_size(300, 10000, 100000); i > 0; i--) {
                size_t drawn[12], n = random_below(&random, ELEMENTS(drawn) + 1);
                int64_t last[ELEMENTS(options)] = { 0 };
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text t = {};

                text_append(&t, S);
                for (size_t k = 0; k < n; k++) {
                        drawn[k] = random_below(&random, ELEMENTS(lines));
                        text_printf(&t, "%s=%s\n", lines[drawn[k]].option, lines[drawn[k]].value);
                }
                for (size_t o = 0; o < ELEMENTS(options); o++)
                        for (size_t k = n; k-- > 0;)
                                if (streq(lines[drawn[k]].option, options[o]) && lines[drawn[k]].size >= 0) {
                                        last[o] = lines[drawn[k]].size;
                                        break;
                                }
                assert_int_equal(unit_read("a.service", t.chars, t.size, &unit, NULL), 0);
                assert_int_equal(unit->placement.size.memory_mib, MAX(last[0], last[1]) ?:
                                                                          last[2]       ?:
                                                                          last[3]       ?:
                                                                                          64);
                assert_int_equal(unit->placement.size.cpu_percent, last[4] ?: last[5] ?: 10);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sizes_are_read_as_systemd_and_podman_do),
                cmocka_unit_test(percentages_are_rounded_up),
                cmocka_unit_test(the_size_is_the_first_of_request_guarantee_limit_and_default),
                cmocka_unit_test(each_size_and_percentage_is_its_number_rounded_up),
                cmocka_unit_test(the_size_of_drawn_lines_is_that_of_a_search_from_their_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
