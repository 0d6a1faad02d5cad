#include "tests/lib/test.h"
#include "base/clock.h"
#include "units/unit.h"

static const struct {
        const char *section, *name;
        UnitEffect effect;
} keys[] = {
        { "X-Fleet", "MachineMetadata", EFFECT_NONE },
        { "X-Fleet", "Conflicts", EFFECT_NONE },
        { "X-Fleet", "MaxUnavailable", EFFECT_NONE },
        { "X-Fleet", "HealthTcp", EFFECT_NONE },
        { "X-Fleetd", "Unknown", EFFECT_NONE },
        { "X-Fleet", "ReloadTrigger", EFFECT_RELOAD },
        { "X-Fleetd", "ReloadTrigger", EFFECT_RELOAD },
        { "X-Fleet", "RestartTrigger", EFFECT_RESTART },
        { "X-Fleet", "Port", EFFECT_RESTART },
        { "X-Fleet", "Service", EFFECT_NONE },
        { "X-Fleet", "WithdrawSec", EFFECT_NONE },
        { "X-Fleet", "Sticky", EFFECT_NONE },
        { "X-Fleet", "Replicas", EFFECT_NONE },
        { "X-Fleet", "MaxPerMachine", EFFECT_NONE },
        { "X-Fleet", "Spread", EFFECT_NONE },
        { "X-Fleet", "MemoryRequest", EFFECT_NONE },
        { "X-Fleet", "CPURequest", EFFECT_NONE },
        { "Install", "WantedBy", EFFECT_NONE },
        { "Install", "Alias", EFFECT_NONE },
        { "Unit", "Description", EFFECT_NONE },
        { "Unit", "Documentation", EFFECT_NONE },
        { "Unit", "OnFailure", EFFECT_LIVE },
        { "Unit", "StartLimitIntervalSec", EFFECT_LIVE },
        { "Unit", "StartLimitBurst", EFFECT_LIVE },
        { "Unit", "StartLimitAction", EFFECT_LIVE },
        { "Unit", "After", EFFECT_RESTART },
        { "Unit", "Requires", EFFECT_RESTART },
        { "Unit", "BindsTo", EFFECT_RESTART },
        { "Unit", "ConditionPathExists", EFFECT_RESTART },
        { "Unit", "description", EFFECT_RESTART },
        { "Unit", "MemoryMax", EFFECT_RESTART },
        { "Service", "Description", EFFECT_RESTART },
        { "Service", "CPUWeight", EFFECT_LIVE },
        { "Service", "CPUQuota", EFFECT_LIVE },
        { "Service", "CPUSchedulingPolicy", EFFECT_RESTART },
        { "Service", "CPUAffinity", EFFECT_RESTART },
        { "Service", "MemoryMin", EFFECT_LIVE },
        { "Service", "MemoryLow", EFFECT_LIVE },
        { "Service", "MemoryHigh", EFFECT_LIVE },
        { "Service", "MemoryMax", EFFECT_LIVE },
        { "Service", "MemorySwapMax", EFFECT_LIVE },
        { "Service", "MemoryDenyWriteExecute", EFFECT_RESTART },
        { "Service", "IOWeight", EFFECT_LIVE },
        { "Service", "IOSchedulingClass", EFFECT_RESTART },
        { "Service", "TasksMax", EFFECT_LIVE },
        { "Service", "Restart", EFFECT_LIVE },
        { "Service", "RestartSec", EFFECT_LIVE },
        { "Service", "RestartPreventExitStatus", EFFECT_LIVE },
        { "Service", "RestartForceExitStatus", EFFECT_LIVE },
        { "Service", "TimeoutSec", EFFECT_LIVE },
        { "Service", "TimeoutStartSec", EFFECT_LIVE },
        { "Service", "TimeoutStopSec", EFFECT_LIVE },
        { "Service", "TimeoutAbortSec", EFFECT_LIVE },
        { "Service", "ExecStop", EFFECT_LIVE },
        { "Service", "ExecReload", EFFECT_LIVE },
        { "Service", "KillMode", EFFECT_LIVE },
        { "Service", "KillSignal", EFFECT_LIVE },
        { "Service", "ExecStart", EFFECT_RESTART },
        { "Service", "ExecStartPre", EFFECT_RESTART },
        { "Service", "Type", EFFECT_RESTART },
        { "Service", "Environment", EFFECT_RESTART },
        { "Service", "EnvironmentFile", EFFECT_RESTART },
        { "Service", "User", EFFECT_RESTART },
        { "Service", "WorkingDirectory", EFFECT_RESTART },
        { "Service", "RemainAfterExit", EFFECT_RESTART },
        { "Service", "WatchdogSec", EFFECT_RESTART },
        { "Service", "RuntimeMaxSec", EFFECT_RESTART },
        { "Service", "LimitNOFILE", EFFECT_RESTART },
        { "Service", "ProtectSystem", EFFECT_RESTART },
        { "Service", "Slice", EFFECT_RESTART },
        { "Service", "MemoryMaxOfAnotherVersion", EFFECT_RESTART },
        { "Socket", "ListenStream", EFFECT_RESTART },
        { "Socket", "MemoryMax", EFFECT_RESTART },
        { "Mount", "TimeoutSec", EFFECT_RESTART },
        { "X-Other", "Key", EFFECT_RESTART },
        { "X-Fleet", "Secret", EFFECT_RESTART },
        { "X-Fleetd", "EnvironmentKeys", EFFECT_RESTART },
        { "X-Fleet", "ConfigKeys", EFFECT_RESTART },
        { "X-Fleet", "OnChange", EFFECT_NONE },
};

#define COMMON "[Service]\nExecReload=/bin/kill -HUP $MAINPID\nExecStart=/bin/app\n"

static void read_file(const char *text, size_t size, UnitFile *ret) {
        Error err = {};

        if (unit_file_parse(text, size, UNIT_FILE_LITERAL, ret, &err) < 0)
                fail_msg("%s", err.message);
}

static UnitEffect effect_between(const char *name, const char *former, const char *text) {
        _cleanup_unit_file_ UnitFile a = {}, b = {};
        UnitEffect there, back;

        read_file(former, strlen(former), &a);
        read_file(text, strlen(text), &b);
        assert_int_equal(effect_of_text(name, &a, &b, &there), 0);
        assert_int_equal(effect_of_text(name, &b, &a, &back), 0);
        assert_int_equal(there, back);
        return there;
}

static void each_option_has_its_effect_when_it_is_added_changed_or_repeated(void **state) {
        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                char none[256] = COMMON, one[256], other[256], twice[256];

                snprintf(one, sizeof(one), COMMON "[%s]\n%s=1\n", keys[i].section, keys[i].name);
                snprintf(other, sizeof(other), COMMON "[%s]\n%s=2\n", keys[i].section, keys[i].name);
                snprintf(twice, sizeof(twice), COMMON "[%s]\n%s=1\n%s=2\n", keys[i].section, keys[i].name,
                         keys[i].name);
                if (effect_between("a.service", none, one) != keys[i].effect ||
                    effect_between("a.service", one, other) != keys[i].effect ||
                    effect_between("a.service", one, twice) != keys[i].effect)
                        fail_msg("[%s] %s=", keys[i].section, keys[i].name);
                assert_int_equal(effect_between("a.service", one, one), EFFECT_NONE);
                assert_int_equal(effect_of_option(keys[i].section, keys[i].name), keys[i].effect);
        }
}

static void a_trigger_reloads_only_what_both_texts_can_reload(void **state) {
#define TRIGGER(n) "[X-Fleet]\nReloadTrigger=" n "\n"
        static const struct {
                const char *former, *text;
                UnitEffect effect;
        } rows[] = {
                { COMMON TRIGGER("1"), COMMON TRIGGER("2"), EFFECT_RELOAD },
                { COMMON, COMMON TRIGGER("2"), EFFECT_RELOAD },
                { COMMON TRIGGER("1") "[Service]\nMemoryMax=1G\n", COMMON TRIGGER("2"), EFFECT_RELOAD },
                { COMMON TRIGGER("1") "[Service]\nUser=a\n", COMMON TRIGGER("2"), EFFECT_RESTART },
                { COMMON TRIGGER("1") "RestartTrigger=1\n", COMMON TRIGGER("2"), EFFECT_RESTART },
                { "[Service]\nExecStart=/bin/a\n" TRIGGER("1"), "[Service]\nExecStart=/bin/a\n" TRIGGER("2"),
                  EFFECT_RESTART },
                { "[Service]\nExecStart=/bin/a\n" TRIGGER("1"),
                  "[Service]\nExecStart=/bin/a\nExecReload=/bin/b\n" TRIGGER("2"), EFFECT_RESTART },
                { COMMON "ExecReload=\n" TRIGGER("1"), COMMON "ExecReload=\n" TRIGGER("2"), EFFECT_RESTART },
                { "[Service]\nType=notify-reload\n" TRIGGER("1"),
                  "[Service]\nType=notify-reload\n" TRIGGER("2"), EFFECT_RELOAD },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(effect_between("a.service", rows[i].former, rows[i].text), rows[i].effect);
}

static void order_counts_among_options_of_one_section_and_effect(void **state) {
        static const struct {
                const char *former, *text;
                UnitEffect effect;
        } rows[] = {
                { "[Unit]\nDescription=a\n[Service]\nUser=a\n", "[Service]\nUser=a\n[Unit]\nDescription=a\n",
                  EFFECT_NONE },
                { "[Unit]\nAfter=a\n[Service]\nUser=a\n", "[Service]\nUser=a\n[Unit]\nAfter=a\n",
                  EFFECT_NONE },
                { "[Service]\nMemoryMax=1\nUser=a\n", "[Service]\nUser=a\nMemoryMax=1\n", EFFECT_NONE },
                { "[Service]\nUser=a\n[Unit]\nAfter=a\n[Service]\nGroup=a\n",
                  "[Unit]\nAfter=a\n[Service]\nUser=a\nGroup=a\n", EFFECT_NONE },
                { "[Socket]\nListenStream=1\nListenDatagram=2\n",
                  "[Socket]\nListenDatagram=2\nListenStream=1\n", EFFECT_RESTART },
                { "[Service]\nTimeoutSec=1\nTimeoutStopSec=2\n",
                  "[Service]\nTimeoutStopSec=2\nTimeoutSec=1\n", EFFECT_LIVE },
                { "[Service]\nExecStop=a\nExecStop=b\n", "[Service]\nExecStop=b\nExecStop=a\n", EFFECT_LIVE },
                { "[X-Fleet]\nConflicts=a\n[X-Fleetd]\nConflicts=b\n",
                  "[X-Fleet]\nConflicts=a\nConflicts=b\n", EFFECT_NONE },
                { "# x\n[Service]\nUser=a\n", "[Service]\nUser=a\n# y\n", EFFECT_NONE },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(effect_between("a.service", rows[i].former, rows[i].text), rows[i].effect);
}

static void no_option_of_a_quadlet_file_is_live(void **state) {
        assert_int_equal(
                effect_between("a.container", "[Service]\nMemoryMax=1\n", "[Service]\nMemoryMax=2\n"),
                EFFECT_RESTART);
        assert_int_equal(
                effect_between("a.container", "[X-Fleet]\nConflicts=1\n", "[X-Fleet]\nConflicts=2\n"),
                EFFECT_NONE);
}

static Unit *unit_of(const char *text) {
        Unit *unit = NULL;
        Error err = {};

        if (unit_read("a.service", text, strlen(text), &unit, &err) < 0)
                fail_msg("%s", err.message);
        return unit;
}

static void a_singleton_keeps_the_text_of_its_start(void **state) {
        _cleanup_unit_ Unit *plain = unit_of(COMMON), *live = unit_of(COMMON "KillMode=mixed\n"),
                            *single = unit_of(COMMON "[X-Fleet]\nSingleton=yes\n"),
                            *again = unit_of(COMMON "[X-Fleet]\nSingleton=true\nReloadTrigger=1\n"),
                            *changed = unit_of(COMMON "KillMode=mixed\n[X-Fleet]\nSingleton=yes\n");

        assert_int_equal(unit_effect(plain, plain), EFFECT_NONE);
        assert_int_equal(unit_effect(plain, live), EFFECT_LIVE);
        assert_int_equal(unit_effect(plain, single), EFFECT_RESTART);
        assert_int_equal(unit_effect(single, again), EFFECT_RELOAD);
        assert_int_equal(unit_effect(single, changed), EFFECT_RESTART);
        assert_true(unit_runs_same(plain, live));
        assert_true(unit_runs_same(single, again));
        assert_false(unit_runs_same(single, changed));
}

/* Append the keys of 'set' with the value of their bit in 'values'. */
static void write_keys(Text *t, uint64_t set, uint64_t values) {
        text_append(t, COMMON);
        for (size_t i = 0; i < MIN(ELEMENTS(keys), 64); i++)
                if (set >> i & 1)
                        text_printf(t, "[%s]\n%s=%d\n", keys[i].section, keys[i].name,
                                    (int) (values >> i & 1));
}

static void the_strongest_changed_option_decides(void **state) {
        Random random;

        random_seed(&random, 1);
        for (int round = 0; round < 3000; round++) {
                uint64_t set = random_u64(&random), values = random_u64(&random),
                         rare = random_u64(&random) & random_u64(&random) & random_u64(&random),
                         added = rare & random_u64(&random) & random_u64(&random),
                         changed = set & rare & random_u64(&random);
                UnitEffect expected = EFFECT_NONE, effect;
                _cleanup_text_ Text a = {}, b = {};
                _cleanup_unit_file_ UnitFile former = {}, file = {};

                for (size_t i = 0; i < MIN(ELEMENTS(keys), 64); i++)
                        if ((changed | added) >> i & 1)
                                expected = MAX(expected, keys[i].effect);
                write_keys(&a, set, values);
                write_keys(&b, set ^ added, values ^ changed);
                read_file(a.chars, a.size, &former);
                read_file(b.chars, b.size, &file);
                assert_int_equal(effect_of_text("a.service", &former, &file, &effect), 0);
                assert_int_equal(effect, expected);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_option_has_its_effect_when_it_is_added_changed_or_repeated),
                cmocka_unit_test(a_trigger_reloads_only_what_both_texts_can_reload),
                cmocka_unit_test(order_counts_among_options_of_one_section_and_effect),
                cmocka_unit_test(no_option_of_a_quadlet_file_is_live),
                cmocka_unit_test(a_singleton_keeps_the_text_of_its_start),
                cmocka_unit_test(the_strongest_changed_option_decides),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
