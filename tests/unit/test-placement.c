#include "tests/lib/test.h"
#include "units/api_json.h"
#include "units/machine.h"
#include "units/options.h"
#include "tests/lib/placement_model.h"

static size_t n_compared;

int __real_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b) {
        n_compared++;
        return __real_strcmp(a, b);
}

static Placement placement_of(const char *lines) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_text_ Text t = {};
        Placement placement = {};

        text_printf(&t, "[X-Fleet]\n%s", lines);
        assert_int_equal(unit_file_parse(t.chars, t.size, UNIT_FILE_LITERAL, &file, NULL), 0);
        assert_int_equal(options_read(&file, NULL, &placement, NULL, NULL), 0);
        return placement;
}

static void combinations_are_rejected_with_fleets_messages_and_priority(void **state) {
        static const struct {
                const char *lines, *message;
        } rows[] = {
                { "", "" },
                { "Global=true\nConflicts=a\n", "" },
                { "Global=true\nMachineMetadata=a=b\n", "" },
                { "MachineID=a\nMachineMetadata=a=b\n", "" },
                { "MachineOf=a\nMachineOf=b\nConflicts=c\n", "" },
                { "Conflicts=self.service\n", "" },
                { "MachineOf=a.service\nConflicts=b*\nConflicts=a*\n",
                  "unresolvable requirements: peer \"a.service\" matches conflict \"a*\"" },
                { "MachineOf=a.service\nReplaces=?.service\n",
                  "unresolvable requirements: peer \"a.service\" matches replace \"?.service\"" },
                { "MachineOf=a@%i.service\nConflicts=a@*.service\n",
                  "unresolvable requirements: peer \"a@%i.service\" matches conflict \"a@*.service\"" },
                { "MachineOf=a\nMachineOf=b\nConflicts=b\nConflicts=?\nConflicts=a\n",
                  "unresolvable requirements: peer \"a\" matches conflict \"?\"" },
                { "MachineOf=b\nMachineOf=a\nMachineOf=b\nConflicts=c\nConflicts=a\nConflicts=b\nConflicts=["
                  "b]\n",
                  "unresolvable requirements: peer \"b\" matches conflict \"b\"" },
                { "MachineOf=b\nMachineOf=a\nMachineOf=b\nConflicts=a\nConflicts=[b]\nConflicts=b\n",
                  "unresolvable requirements: peer \"b\" matches conflict \"[b]\"" },
                { "MachineOf=c\nMachineOf=b\nMachineOf=a\nMachineOf=b\nConflicts=a\nConflicts=b\nConflicts="
                  "d\n",
                  "unresolvable requirements: peer \"b\" matches conflict \"b\"" },
                { "MachineOf=a\nConflicts=a\nMachineID=b\nReplaces=a\n",
                  "unresolvable requirements: peer \"a\" matches conflict \"a\"" },
                { "MachineID=a\nMachineOf=b\n", "MachineID cannot be used with Peers" },
                { "MachineID=a\nConflicts=b\n", "MachineID cannot be used with Conflicts" },
                { "MachineID=abc\nGlobal=true\nConflicts=*\n", "MachineID cannot be used with Conflicts" },
                { "MachineID=a\nGlobal=true\n", "MachineID cannot be used with Global" },
                { "MachineID=a\nReplaces=b\n", "MachineID cannot be used with Replaces" },
                { "Global=true\nMachineOf=a\n", "Global cannot be used with Peers" },
                { "Global=true\nReplaces=a\n", "Global cannot be used with Replaces" },
                { "Conflicts=a\nReplaces=b\n", "Conflicts cannot be used with Replaces" },
                { "Singleton=yes\nMove=start-first\n",
                  "Move=start-first with Singleton=yes: both instances would run" },
                { "Singleton=yes\nMove=stop-first\n", "" },
                { "Singleton=yes\nMove=no\n", "" },
                { "Move=start-first\n", "" },
                { "Replicas=0\nGlobal=yes\n", "Replicas cannot be used with Global" },
                { "Replicas=3\nMachineID=a\n", "Replicas cannot be used with MachineID" },
                { "MaxPerMachine=1\nGlobal=yes\n", "MaxPerMachine cannot be used with Global" },
                { "MaxPerMachine=1\nMachineID=a\n", "MaxPerMachine cannot be used with MachineID" },
                { "Spread=zone\nGlobal=yes\n", "Spread cannot be used with Global" },
                { "Spread=zone\nMachineID=a\n", "Spread cannot be used with MachineID" },
                { "Sticky=yes\nGlobal=yes\n", "Sticky=yes with Global=yes: each machine has its own data" },
                { "Sticky=yes\nMachineOf=a.service\n",
                  "Sticky=yes with MachineOf=: the data is where that unit is" },
                { "Sticky=yes\nMaxSurge=1\n",
                  "Sticky=yes with MaxSurge=: no other machine may run the unit" },
                { "Sticky=no\nMaxSurge=1\nMachineOf=a.service\n", "" },
                { "Sticky=no\nGlobal=yes\n", "" },
                { "Sticky=yes\nMachineID=a\n", "" },
                { "Replicas=3\nMaxPerMachine=1\nSpread=zone\nSticky=yes\nMaxSurge=0\n", "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);
                Error err = {};

                assert_int_equal(placement_check(&p, &(size_t) { 0 }, &err), *rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message);
        }
}

/* 'n' lines "option=name<number>tail". */
static void append_lines(Text *t, const char *option, int n, const char *name, const char *tail) {
        for (int i = 0; i < n; i++)
                text_printf(t, "%s=%s%04d%s\n", option, name, i, tail);
}

static void the_comparison_of_names_and_patterns_is_bounded(void **state) {
        static const char aa[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        static const struct {
                int n_names;
                const char *name;
                int n_patterns;
                const char *option, *pattern, *tail, *message;
        } rows[] = {
                { 1024, "web-", 1024, "Conflicts", "web-x", "", "" }, /* names in full take no steps */
                { 300, "web-", 300, "Conflicts", "web-x", "*", "" },
                { 1000, aa, 1000, "Conflicts", "*aaaaaaaaaaaaaaaaaaaa*b", "",
                  "MachineOf= and Conflicts= have too many names and patterns to compare: 1000 x 1000 take "
                  "more than 2000000 steps; use fewer patterns, or full names" },
                { 1000, aa, 900, "Replaces", aa, "?",
                  "MachineOf= and Replaces= have too many names and patterns to compare: 1000 x 900 take "
                  "more than 2000000 steps; use fewer patterns, or full names" },
                { 1000, "a", 1000, "Conflicts", "[bcdefghi", "",
                  "MachineOf= and Conflicts= have too many names and patterns to compare: 1000 x 1000 take "
                  "more than 2000000 steps; use fewer patterns, or full names" },
                { 1000, aa, 1000, "Conflicts", "*", "",
                  "unresolvable requirements: peer \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0000\" matches "
                  "conflict \"*0000\"" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text lines = {};
                _cleanup_placement_ Placement p = {};
                Error err = {};

                append_lines(&lines, "MachineOf", rows[i].n_names, rows[i].name, "");
                append_lines(&lines, rows[i].option, rows[i].n_patterns, rows[i].pattern, rows[i].tail);
                p = placement_of(lines.chars);
                assert_int_equal(placement_check(&p, &(size_t) { 0 }, &err), *rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message);
        }
}

static void full_names_are_found(void **state) {
        for (unsigned same = 0; same <= 1; same++) {
                _cleanup_text_ Text lines = {};
                _cleanup_placement_ Placement p = {};
                size_t steps = 0;

                for (unsigned k = 0; k < 1024; k++)
                        text_printf(&lines, "MachineOf=web-%u\nConflicts=web-x%u\n", same ? 0 : k,
                                    same ? 0 : k);
                p = placement_of(lines.chars);
                n_compared = 0;
                assert_int_equal(placement_check(&p, &steps, NULL), 0);
                assert_in_range(n_compared, 1024, 1024 * 30);
                assert_int_equal(steps, 0);
        }
}

static void the_steps_of_placements_that_are_checked_together_are_bounded_together(void **state) {
        _cleanup_text_ Text lines = {};
        _cleanup_placement_ Placement p = {}, plain = placement_of("MachineOf=a\nConflicts=b\n");
        size_t steps = 0;
        Error err = {};

        append_lines(&lines, "MachineOf", 500, "web-", "");
        append_lines(&lines, "Conflicts", 500, "web-x", "*");
        p = placement_of(lines.chars);
        assert_int_equal(placement_check(&p, &steps, NULL), 0);
        assert_in_range(steps, PEER_STEPS_MAX / 2 + 1, PEER_STEPS_MAX);
        assert_int_equal(placement_check(&plain, &steps, NULL), 0);
        assert_int_equal(placement_check(&p, &steps, &err), -EINVAL);
        assert_string_equal(err.message, "the units of one request have too many names and patterns to "
                                         "compare in MachineOf=, Conflicts= and Replaces= "
                                         "(more than 2000000 steps): send fewer units at once");
        steps = 0;
        assert_int_equal(placement_check(&p, &steps, NULL), 0);
}

/* The text after a star may be compared at each place of a name. */
static void the_bytes_of_patterns_after_a_star_are_bounded(void **state) {
        static const struct {
                int n;
                const char *option, *pattern, *tail, *message;
        } rows[] = {
                { 1024, "Conflicts", "web@", "*-db.service", "" },
                { 1024, "Conflicts", "a-long-name-without-any-star-in-front", "?[a-z]", "" },
                { 1024, "Conflicts", "*-any-", ".service",
                  "Conflicts= has patterns with 17408 bytes behind the first * or [, at most 16384 are "
                  "taken: use fewer or shorter ones" },
                { 1024, "Conflicts", "[bcdefghijklm", "]",
                  "Conflicts= has patterns with 17408 bytes behind the first * or [, at most 16384 are "
                  "taken: use fewer or shorter ones" },
                { 1024, "Replaces", "a*", "*aaaa.service",
                  "Replaces= has patterns with 17408 bytes behind the first * or [, at most 16384 are taken: "
                  "use fewer or shorter ones" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text lines = {};
                _cleanup_placement_ Placement p = {};
                Error err = {};

                append_lines(&lines, rows[i].option, rows[i].n, rows[i].pattern, rows[i].tail);
                p = placement_of(lines.chars);
                assert_int_equal(placement_check_patterns(&p, &err), *rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message);
        }
}

static void keys_are_anded_and_values_of_one_key_ored(void **state) {
        static const struct {
                const char *lines, *metadata, *missing; /* NULL: fits */
        } rows[] = {
                { "", "", NULL },
                { "", "a=b", NULL },
                { "MachineMetadata=a=b\n", "a=b", NULL },
                { "MachineMetadata=a=b\n", "a=b,c=d", NULL },
                { "MachineMetadata=a=b\n", "", "a" },
                { "MachineMetadata=a=b\n", "a=B", "a" },
                { "MachineMetadata=a=b\n", "A=b", "a" },
                { "MachineMetadata=\"a=b\" \"c=d\"\n", "a=b", "c" },
                { "MachineMetadata=\"a=b\" \"c=d\"\n", "a=b,c=d", NULL },
                { "MachineMetadata=a=b\nMachineMetadata=a=c\n", "a=b", NULL },
                { "MachineMetadata=a=b\nMachineMetadata=a=c\n", "a=c", NULL },
                { "MachineMetadata=a=b\nMachineMetadata=a=c\n", "a=d", "a" },
                { "MachineMetadata=\"z=1\" \"z=2\" \"a=b\"\n", "z=2", "a" },
                { "MachineMetadata=\"z=1\" \"z=2\" \"a=b\"\n", "a=b,z=3", "z" },
                { "MachineMetadata=\"z=1\" \"z=2\" \"a=b\"\n", "a=b,z=2", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);
                _cleanup_pairs_ Pairs metadata = {};
                const char *missing = NULL;

                assert_int_equal(machine_metadata_parse(rows[i].metadata, &metadata, NULL), 0);
                assert_int_equal(placement_metadata_fits(&p, &metadata, &missing), rows[i].missing == NULL);
                if (rows[i].missing)
                        assert_string_equal(missing, rows[i].missing);
                else
                        assert_null(missing);
        }
}

static void the_values_of_one_key_print_as_alternatives(void **state) {
        _cleanup_placement_ Placement p = placement_of(
                "MachineMetadata=\"zone=b\" \"ssd=true\" \"zone=a\"\n");
        _cleanup_text_ Text t = {};

        placement_metadata_describe(&p, "zone", &t);
        assert_string_equal(t.chars, "zone=a|b");
}

static void a_machine_id_matches_in_full_or_by_eight_digits(void **state) {
        static const char id[] = "12345678abcdef0012345678abcdef00";
        static const struct {
                const char *lines;
                bool fits;
        } rows[] = {
                { "", true },
                { "MachineID=12345678abcdef0012345678abcdef00\n", true },
                { "MachineID=12345678\n", true },
                { "MachineID=1234567\n", false },
                { "MachineID=12345678a\n", false },
                { "MachineID=12345679\n", false },
                { "MachineID=12345678abcdef0012345678abcdef01\n", false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);

                assert_int_equal(placement_machine_id_fits(&p, id), rows[i].fits);
        }
}

static void a_conflict_of_either_unit_counts(void **state) {
        _cleanup_placement_ Placement a = placement_of("Conflicts=b@*.service c.service\n"),
                                      none = placement_of("");

        assert_string_equal(placement_conflict(&a, "a.service", &none, "b@1.service"), "b@*.service");
        assert_string_equal(placement_conflict(&none, "c.service", &a, "a.service"), "c.service");
        assert_null(placement_conflict(&a, "a.service", &none, "d.service"));
        assert_null(placement_match(&a.conflicts, "b.service"));
}

static void a_malformed_glob_matches_nothing(void **state) {
        _cleanup_placement_ Placement p = placement_of("Conflicts=[a [^b].service a\\ {a,b}.service\n");

        assert_null(placement_match(&p.conflicts, "a"));
        assert_null(placement_match(&p.conflicts, "b.service"));
        assert_string_equal(placement_match(&p.conflicts, "a.service"), "[^b].service");
        assert_string_equal(placement_match(&p.conflicts, "{a,b}.service"), "{a,b}.service");
}

static void equal_placements_are_equal_in_any_order_of_lines(void **state) {
        _cleanup_placement_ Placement a = placement_of(
                "MachineMetadata=a=1\nGlobal=true\nMachineMetadata=b=2\n");
        _cleanup_placement_ Placement b = placement_of(
                "Global=yes\nMachineMetadata=b=2\nMachineMetadata=a=1\n");
        _cleanup_placement_ Placement c = placement_of(
                "Global=yes\nMachineMetadata=b=2\nMachineMetadata=a=2\n");

        assert_true(placement_equal(&a, &b));
        assert_false(placement_equal(&a, &c));
}

/* Every member of Placement, with lines that set it. tests/tidy.sh requires a row for each option. */
#define MEMBER(name) offsetof(Placement, name), sizeof(((Placement *) NULL)->name)
/* The pointer and the number of the checks. */
#define MEMBER_OF(list) offsetof(Placement, health.list), sizeof(UnitCheck *) + sizeof(size_t)
static const struct {
        size_t offset, size;
        const char *line, *other; /* of another value */
} members[] = {
        { MEMBER(machine_id), "MachineID=12345678", "MachineID=12345679" },
        { MEMBER(machine_of), "MachineOf=a.service", "MachineOf=b.service" },
        { MEMBER(metadata), "MachineMetadata=a=1", "MachineMetadata=a=2" },
        { MEMBER(conflicts), "Conflicts=a*", "Conflicts=b*" },
        { MEMBER(replaces), "Replaces=a*", "Replaces=b*" },
        { MEMBER(global), "Global=true", NULL },
        { MEMBER(singleton), "Singleton=yes", NULL },
        { MEMBER(move), "Move=no", "Move=stop-first" },
        { MEMBER(target), "TargetState=loaded", "TargetState=launched" },
        { MEMBER(replace_after_ms), "ReplaceAfterSec=1min", "ReplaceAfterSec=never" },
        { MEMBER(stops_alone), "OnPartition=stop", NULL },
        { MEMBER(stop_after_ms), "StopAfterSec=1min", "StopAfterSec=2min" },
        { MEMBER(keeps_old), "OnReconnect=keep-old", NULL },
        { MEMBER(keep_revisions), "KeepRevisions=2", "KeepRevisions=100" },
        { MEMBER(update.max_unavailable), "MaxUnavailable=2", "MaxUnavailable=2%" },
        { MEMBER(update.min_available), "MinAvailable=0", "MinAvailable=1" },
        { MEMBER(update.max_surge), "MaxSurge=1", "MaxSurge=1%" },
        { MEMBER(update.canary), "Canary=1", "Canary=100%" },
        { MEMBER(update.max_failures), "UpdateMaxFailures=1", "UpdateMaxFailures=0" },
        { MEMBER(update.watch_ms), "UpdateWatchSec=0", "UpdateWatchSec=1" },
        { MEMBER(update.pause_ms), "UpdatePauseSec=1", "UpdatePauseSec=2" },
        { MEMBER(update.deadline_ms), "UpdateDeadlineSec=1h", "UpdateDeadlineSec=2h" },
        { MEMBER(update.promote_ms), "Promote=0", "Promote=1h" },
        { MEMBER(update.by), "UpdateBy=zone", "UpdateBy=rack" },
        { MEMBER(update.on_failure), "UpdateOnFailure=revert", "UpdateOnFailure=continue" },
        { MEMBER_OF(checks), "HealthHttp=[::1]:80/a", "HealthHttp=80/a" },
        { MEMBER_OF(checks), "HealthTcp=80", "HealthTcp=127.0.0.1:80" },
        { MEMBER_OF(checks), "HealthExec=/bin/a", "HealthExec=/bin/a b" },
        { MEMBER(health.interval_ms), "HealthIntervalSec=5s", "HealthIntervalSec=1h" },
        { MEMBER(health.timeout_ms), "HealthTimeoutSec=1", "HealthTimeoutSec=3" },
        { MEMBER(health.start_ms), "HealthStartSec=1min", "HealthStartSec=2min" },
        { MEMBER(health.failures), "HealthFailures=1", "HealthFailures=3" },
        { MEMBER(health.successes), "HealthSuccesses=1", "HealthSuccesses=2" },
        { MEMBER(health.action), "HealthAction=restart", NULL },
        { MEMBER(service.names), "Service=a", "Service=b" },
        { offsetof(Placement, service.ports), sizeof(ServicePort *) + sizeof(size_t), "Port=a:auto",
          "Port=a:auto/udp" },
        { MEMBER(service.withdraw_ms), "WithdrawSec=0", "WithdrawSec=1s" },
        { offsetof(Placement, inputs.secrets), 2 * sizeof(Names), "Secret=a", "Secret=a:b" },
        { MEMBER(inputs.environment), "EnvironmentKeys=/a", "EnvironmentKeys=-/a" },
        { offsetof(Placement, inputs.files), 3 * sizeof(Names), "ConfigKeys=/a", "ConfigKeys=/a:b" },
        { MEMBER(inputs.on_change), "OnChange=restart", "OnChange=reload" },
        { MEMBER(sticky), "Sticky=yes", "Sticky=no" },
        { MEMBER(replicas), "Replicas=3", "Replicas=0" },
        { MEMBER(max_per_machine), "MaxPerMachine=1", "MaxPerMachine=2" },
        { MEMBER(spread), "Spread=zone machine", "Spread=machine zone" },
        { MEMBER(request.memory_mib), "MemoryRequest=1G", "MemoryRequest=2G" },
        { MEMBER(request.cpu_percent), "CPURequest=50%", "CPURequest=100%" },
};

/* Return whether any byte of the member of this row (or outside of it) differs from that without any option.
 * Padding counts as outside. */
static bool has_bytes(const Placement *p, size_t row, bool outside) {
        const Placement none = { .replicas = -1 };
        const char *bytes = (const char *) p, *without = (const char *) &none;

        for (size_t i = 0; i < offsetof(Placement, triggers); i++) { /* the rest follows from the others */
                bool inside = i - members[row].offset < members[row].size;

                if (inside != outside && bytes[i] != without[i])
                        return true;
        }
        return false;
}

static void every_member_of_a_placement_has_a_row(void **state) {
        size_t end = 0;

        for (size_t i = 0; i < ELEMENTS(members); i++) {
                if (i > 0 && members[i].offset == members[i - 1].offset)
                        continue; /* another option with the same member */
                assert_in_range(members[i].offset, end, end + _Alignof(Placement) - 1); /* padding */
                end = members[i].offset + members[i].size;
        }
        assert_int_equal((end + _Alignof(Placement) - 1) / _Alignof(Placement) * _Alignof(Placement),
                         offsetof(Placement, triggers));
}

static void every_option_sets_its_member_and_is_compared_and_freed(void **state) {
        for (size_t i = 0; i < ELEMENTS(members); i++) {
                _cleanup_placement_ Placement a = placement_of(members[i].line),
                                              b = placement_of(members[i].line), none = placement_of("");
                const Placement freed = {};

                assert_true(has_bytes(&a, i, false));
                assert_false(has_bytes(&a, i, true));
                assert_true(placement_equal(&a, &b));
                assert_false(placement_equal(&a, &none));
                if (members[i].other) {
                        _cleanup_placement_ Placement other = placement_of(members[i].other);

                        assert_false(placement_equal(&a, &other));
                }
                placement_done(&b); /* LeakSanitizer reports a member that it forgets */
                assert_memory_equal(&b, &freed, sizeof(freed));
        }
}

/* An answer of the API has options instead of a text. */
static void every_option_survives_the_api(void **state) {
        for (size_t i = 0; i < ELEMENTS(members); i++) {
                _cleanup_api_unit_ ApiUnit read = API_UNIT_EMPTY;
                _cleanup_unit_ Unit *unit = NULL, *again = NULL;
                _cleanup_text_ Text text = {}, json = {};
                ApiUnit written = API_UNIT_EMPTY;

                text_printf(&text, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n%s\n", members[i].line);
                assert_int_equal(unit_parse("x@.service", text.chars, text.size, &unit, NULL), 0);
                written.name = "x@.service";
                written.file = &unit->file;
                api_unit_write(&json, &written);
                assert_int_equal(api_unit_read(json.chars, json.size, &read, NULL), 0);
                assert_int_equal(api_unit_contents("x@.service", &read, &again, NULL), 0);
                assert_true(placement_equal(&unit->placement, &again->placement));
                assert_true(has_bytes(&again->placement, i, false));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(combinations_are_rejected_with_fleets_messages_and_priority),
                cmocka_unit_test(the_comparison_of_names_and_patterns_is_bounded),
                cmocka_unit_test(full_names_are_found),
                cmocka_unit_test(the_steps_of_placements_that_are_checked_together_are_bounded_together),
                cmocka_unit_test(the_bytes_of_patterns_after_a_star_are_bounded),
                cmocka_unit_test(keys_are_anded_and_values_of_one_key_ored),
                cmocka_unit_test(the_values_of_one_key_print_as_alternatives),
                cmocka_unit_test(a_machine_id_matches_in_full_or_by_eight_digits),
                cmocka_unit_test(a_conflict_of_either_unit_counts),
                cmocka_unit_test(a_malformed_glob_matches_nothing),
                cmocka_unit_test(equal_placements_are_equal_in_any_order_of_lines),
                cmocka_unit_test(every_member_of_a_placement_has_a_row),
                cmocka_unit_test(every_option_sets_its_member_and_is_compared_and_freed),
                cmocka_unit_test(every_option_survives_the_api),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
