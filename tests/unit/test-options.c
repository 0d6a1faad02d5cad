#include "tests/lib/test.h"
#include "units/options.h"
#include "units/unit.h"

static size_t n_distances;

size_t __real_text_distance(const char *a, const char *b);
size_t __wrap_text_distance(const char *a, const char *b);
size_t __wrap_text_distance(const char *a, const char *b) {
        n_distances++;
        return __real_text_distance(a, b);
}

/* Read the lines as the section [X-Fleet] of unit 'name'. */
static int read_lines(const char *name, const char *lines, Placement *ret, Warnings *warnings, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_text_ Text t = {};

        text_printf(&t, "[X-Fleet]\n%s\n[Service]\nExecStart=/bin/true\n", lines);
        assert_int_equal(unit_file_parse(t.chars, t.size, UNIT_FILE_LITERAL, &file, NULL), 0);
        return options_read(&file, name, ret, warnings, err);
}

static Placement placement_of(const char *lines) {
        Placement placement = {};
        Error err = {};

        assert_int_equal(read_lines("a@1.service", lines, &placement, NULL, &err), 0);
        return placement;
}

/* "a|b|": every item ends in '|', so that empty items are visible. */
static char *joined(const Names *names) {
        Text t = {};

        for (size_t i = 0; i < names->n; i++)
                text_printf(&t, "%s|", names->items[i]);
        return text_take(&t, NULL);
}

static void lists_are_repeated_options_or_quoted_items(void **state) {
        static const struct {
                const char *lines, *machine_of, *conflicts, *replaces;
        } rows[] = {
                { "MachineOf=a.service\nMachineOf=b.service\n", "a.service|b.service|", "", "" },
                { "MachineOf=\"a.service\" \"b.service\"\n", "a.service|b.service|", "", "" },
                { "MachineOf=\"a.service b.service\"\n", "a.service b.service|", "", "" },
                { "MachineOf=a.service b.service\n", "a.service b.service|", "", "" },
                { "MachineOf=\"a.service\" b.service\n", "\"a.service\" b.service|", "", "" },
                { "MachineOf=\"bar\" \"\n", "bar|", "", "" },
                { "MachineOf=\"a\"  \"b\"\n", "a|b|", "", "" },
                { "MachineOf=\"a\"\t\"b\"\n", "a\tb|", "", "" },
                { "MachineOf=\"a\" b \"c\"\n", "a|b|c|", "", "" },
                { "MachineOf=\"\n", "", "", "" },
                { "MachineOf=\n", "", "", "" },
                { "MachineOf=b\nX-ConditionMachineOf=a\n", "a|b|", "", "" },
                { "Conflicts=a*.service b.service\nConflicts=c\n", "", "a*.service|b.service|c|", "" },
                { "Conflicts=\"a b\" \"c\"\n", "", "a|b|c|", "" },
                { "Conflicts=\"a\" b\n", "", "\"a\"|b|", "" },
                { "Conflicts=a\tb   c\n", "", "a|b|c|", "" },
                { "Conflicts=new\nX-Conflicts=old\n", "", "old|new|", "" },
                { "Replaces=a b\nReplaces=\"c\" \"d\"\n", "", "", "a b|c|d|" },
                { "Conflicts=%p@*.service\nReplaces=x%i\nMachineOf=%n\n", "a@1.service|", "a@*.service|",
                  "x1|" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);
                _cleanup_free_ char *machine_of = joined(&p.machine_of), *conflicts = joined(&p.conflicts);
                _cleanup_free_ char *replaces = joined(&p.replaces);

                assert_string_equal(machine_of, rows[i].machine_of);
                assert_string_equal(conflicts, rows[i].conflicts);
                assert_string_equal(replaces, rows[i].replaces);
        }
}

static void the_first_value_of_the_first_spelling_is_the_machine(void **state) {
        static const struct {
                const char *lines, *id;
        } rows[] = {
                { "MachineID=12345678\n", "12345678" },
                { "MachineID=a\nMachineID=b\n", "a" },
                { "X-ConditionMachineBootID=c\nX-ConditionMachineID=b\nMachineID=a\n", "a" },
                { "X-ConditionMachineBootID=c\nX-ConditionMachineID=b\n", "b" },
                { "X-ConditionMachineBootID=c\n", "c" },
                { "machineid=c\n", "" },
                { "MachineID=%i\n", "1" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);

                assert_string_equal(p.machine_id ? p.machine_id : "", rows[i].id);
        }
}

static void the_last_global_counts_and_five_words_are_true(void **state) {
        static const struct {
                const char *lines;
                bool global;
        } rows[] = {
                { "Global=true\n", true },
                { "Global=TRUE\n", true },
                { "Global=yes\n", true },
                { "Global=1\n", true },
                { "Global=on\n", true },
                { "Global=t\n", true },
                { "Global=Yes\n", true },
                { "Global=false\n", false },
                { "Global=no\n", false },
                { "Global=0\n", false },
                { "Global=y\n", false },
                { "Global=maybe\n", false },
                { "Global=\n", false },
                { "global=true\n", false },
                { "Global=\"true\" \"\"\n", false },
                { "Global=\"no\"   \"true\"\n", true },
                { "Global=\"true\" \n", true },
                { "Global=true\nGlobal=no\n", false },
                { "Global=no\nGlobal=true\n", true },
                { "Global=true\n[Service]\nGlobal=no\n", true },
                { "Global=no\n[X-Fleetd]\nGlobal=true\n", true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = placement_of(rows[i].lines);

                assert_int_equal(p.global, rows[i].global);
        }
}

static void metadata_is_collected_over_lines_spellings_and_sections(void **state) {
        _cleanup_placement_ Placement p = placement_of(
                "MachineMetadata=\"zone=b\" \"zone=a\"\nMachineMetadata=host=h%i\n"
                "X-ConditionMachineMetadata=ssd=true\nMachineMetadata=zone=a\n"
                "[X-Fleetd]\nMachineMetadata=disk=big\n");
        static const char *const expected[][2] = {
                { "disk", "big" }, { "host", "h1" }, { "ssd", "true" }, { "zone", "a" }, { "zone", "b" },
        };

        assert_int_equal(p.metadata.n, ELEMENTS(expected));
        for (size_t i = 0; i < p.metadata.n; i++) {
                assert_string_equal(p.metadata.items[i].key, expected[i][0]);
                assert_string_equal(p.metadata.items[i].value, expected[i][1]);
        }
}

#define SIXTY_THREE "123456789012345678901234567890123456789012345678901234567890123"

static void invalid_metadata_is_rejected_with_line_and_example(void **state) {
        static const struct {
                const char *lines, *message;
        } rows[] = {
                { "Conflicts=x\nMachineMetadata=gpu\n",
                  "line 3: MachineMetadata=gpu: expected key=value, for example gpu=true" },
                { "MachineMetadata==true\n",
                  "line 2: MachineMetadata==true: expected key=value, for example gpu=true" },
                { "MachineMetadata=gpu=\n",
                  "line 2: MachineMetadata=gpu=: expected key=value, for example gpu=true" },
                { "X-ConditionMachineMetadata=a=b c=d\n",
                  "line 2: X-ConditionMachineMetadata=a=b c=d: expected one key=value; several need quotes: "
                  "\"zone=a\" \"ssd=true\"" },
                { "MachineMetadata=\"a=b\" \"c=d=e\"\n",
                  "line 2: MachineMetadata=c=d=e: expected key=value with one '='" },
                { "MachineMetadata=\"ssd\" \"c=d\"\n",
                  "line 2: MachineMetadata=ssd: expected key=value, for example ssd=true" },
                { "MachineMetadata=a b\n",
                  "line 2: MachineMetadata=a b: expected key=value, for example gpu=true" },
                { "MachineMetadata=a\"b\n",
                  "line 2: MachineMetadata=a\"b: expected key=value, for example gpu=true" },
                { "MachineMetadata=a\\b\n",
                  "line 2: MachineMetadata=a\\b: expected key=value, for example gpu=true" },
                { "MachineMetadata=" SIXTY_THREE "\n",
                  "line 2: MachineMetadata=" SIXTY_THREE ": expected key=value, for example " SIXTY_THREE
                  "=true" },
                { "MachineMetadata=" SIXTY_THREE "4\n",
                  "line 2: MachineMetadata=" SIXTY_THREE "4: expected key=value, for example gpu=true" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Placement p = {};
                Error err = {};

                assert_int_equal(read_lines("a.service", rows[i].lines, &p, NULL, &err), -EINVAL);
                assert_string_equal(err.message, rows[i].message);
        }
}

static void a_template_may_leave_a_pair_to_its_instances(void **state) {
        _cleanup_placement_ Placement p = {};
        Error err = {};

        assert_int_equal(read_lines("m@.service", "MachineMetadata=hostname=%i\n", &p, NULL, &err), 0);
        assert_int_equal(p.metadata.n, 0);
        assert_int_equal(read_lines("m.service", "MachineMetadata=hostname=%i\n", &p, NULL, &err), -EINVAL);
}

static void without_a_name_specifiers_stay(void **state) {
        _cleanup_placement_ Placement p = {};

        assert_int_equal(
                read_lines(NULL, "MachineOf=x@%i.service\nMachineMetadata=hostname=%i\n", &p, NULL, NULL), 0);
        assert_string_equal(p.machine_of.items[0], "x@%i.service");
        assert_string_equal(p.metadata.items[0].value, "%i");
}

static void a_probable_mistake_is_a_warning(void **state) {
        static const struct {
                const char *lines, *message; /* NULL: no warning */
        } rows[] = {
                { "Conflict=a\n", "[X-Fleet] has no option Conflict; did you mean Conflicts?" },
                { "machineof=a\n", "[X-Fleet] has no option machineof; did you mean MachineOf?" },
                { "Colour=red\n", "[X-Fleet] has no option Colour" },
                { "Global=maybe\n", "Global=maybe is taken as false; expected true or false" },
                { "MachineID=abc\n",
                  "MachineID=abc: no machine has this id: give all 32 hex digits, or the first 8" },
                { "[X-fleet]\nA=b\n", "section [X-fleet] is ignored; did you mean [X-Fleet]?" },
                { "Conflcits=a\n", "[X-Fleet] has no option Conflcits; did you mean Conflicts?" },
                { "Conficsts=a\n", "[X-Fleet] has no option Conficsts; did you mean Conflicts?" },
                { "Conflictabc=a\n", "[X-Fleet] has no option Conflictabc" },
                { "X-Conflict=a\n",
                  "[X-Fleet] has no option X-Conflict" }, /* an old spelling is not suggested */
                { "[X-Fleetd]\nColour=red\n", "[X-Fleetd] has no option Colour" },
                { "[X-Fleetd]\nGlobals=true\n", "[X-Fleetd] has no option Globals; did you mean Global?" },
                { "[Fleet]\nA=b\n", "section [Fleet] is ignored; did you mean [X-Fleet]?" },
                { "[xfleet]\nA=b\n", "section [xfleet] is ignored; did you mean [X-Fleet]?" },
                { "[Fleets]\nA=b\n", "section [Fleets] is ignored: it is none of systemd" },
                { "[X-Flet]\nA=b\nC=d\n", "section [X-Flet] is ignored; did you mean [X-Fleet]?" },
                { "[Unti]\nA=b\n", "section [Unti] is ignored; did you mean [Unit]?" },
                { "[Servce]\nA=b\n[Service]\nA=b\n", "section [Servce] is ignored; did you mean [Service]?" },
                { "[service]\nA=b\n", "section [service] is ignored; did you mean [Service]?" },
                { "[Foo]\n\n# comment\nA=b\n", "section [Foo] is ignored: it is none of systemd" },
                { "[X-Other]\nA=b\n[Install]\nA=b\n[Container]\nA=b\n", NULL },
                { "MachineID=12345678\n", NULL },
                { "MachineID=0123456789abcdef0123456789abcdef\n", NULL },
                { "MachineID=1234567\n",
                  "MachineID=1234567: no machine has this id: give all 32 hex digits, or the first 8" },
                { "MachineID=123456789\n",
                  "MachineID=123456789: no machine has this id: give all 32 hex digits, or the first 8" },
                { "MachineID=0123456789abcdef0123456789abcde\n",
                  "MachineID=0123456789abcdef0123456789abcde: no machine has this id: give all 32 hex "
                  "digits, or the first 8" },
                { "MachineID=0123456789abcdef0123456789abcdef0\n",
                  "MachineID=0123456789abcdef0123456789abcdef0: no machine has this id: give all 32 hex "
                  "digits, or the first 8" },
                { "MachineID=0123456G\n",
                  "MachineID=0123456G: no machine has this id: give all 32 hex digits, or the first 8" },
                { "MachineID=%b\n", NULL }, /* a specifier of systemd */
                { "Global=\nGlobal=off\nGlobal=0\n", NULL },
                { "Global=no\nX-Conflicts=a\nX-ConditionMachineOf=b\n[Service]\nColour=red\n", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_placement_ Placement p = {};
                _cleanup_warnings_ Warnings warnings = {};

                assert_int_equal(read_lines("a.service", rows[i].lines, &p, &warnings, NULL), 0);
                assert_int_equal(warnings.n, rows[i].message ? 1 : 0);
                if (warnings.n > 0)
                        assert_string_equal(warnings.items[0].message, rows[i].message);
                if (warnings.n > 0 && starts_with(rows[i].message, "section [Foo]"))
                        assert_int_equal(warnings.items[0].line, 2);
        }
}

static void the_maximum_number_of_items_is_accepted(void **state) {
        static const struct {
                const char *option, *message;
        } rows[] = {
                { "MachineOf", "MachineOf=: more than 1024 names" },
                { "Conflicts", "Conflicts=: more than 1024 names" },
                { "Replaces", "Replaces=: more than 1024 names" },
                { "MachineMetadata", "MachineMetadata=: more than 1024 pairs" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_file_ UnitFile file = {};
                _cleanup_placement_ Placement p = {};
                Placement none = {};
                Error err = {};
                char value[32];

                for (int k = 0; k <= OPTION_ITEMS_MAX; k++) {
                        if (k == OPTION_ITEMS_MAX)
                                assert_int_equal(options_read(&file, "a.service", &p, NULL, &err), 0);
                        snprintf(value, sizeof(value), "k%d=v", k);
                        assert_int_equal(unit_file_add(&file, "X-Fleet", rows[i].option, value, 0), 0);
                }
                assert_int_equal(p.machine_of.n + p.conflicts.n + p.replaces.n + p.metadata.n,
                                 OPTION_ITEMS_MAX);
                assert_int_equal(options_read(&file, "a.service", &none, NULL, &err), -EINVAL);
                assert_string_equal(err.message, rows[i].message); /* without a line: it came from no text */
        }
}

/* "MachineOf=", and 'size' bytes in names of at most 100. */
static int read_sized(const char *name, const char *option, size_t size, bool blanks, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_placement_ Placement p = {};
        _cleanup_text_ Text value = {};

        for (size_t i = 0; i < size; i++)
                text_append_char(&value, blanks && i % 101 == 100 ? ' ' : 'x');
        assert_int_equal(unit_file_add(&file, "X-Fleet", option, value.chars, 3), 0);
        return options_read(&file, name, &p, NULL, err);
}

static void an_item_of_the_maximum_size_is_accepted(void **state) {
        static const struct {
                const char *name, *option;
                size_t size; /* is taken; one more is not */
                bool blanks;
        } rows[] = {
                { "a.service", "MachineOf", OPTION_ITEM_MAX },
                { NULL, "MachineOf", OPTION_ITEM_MAX },
                { "a.service", "Replaces", OPTION_ITEM_MAX },
                { "a.service", "Conflicts", OPTION_ITEM_MAX },
                { NULL, "Conflicts", OPTION_ITEM_MAX * 64, true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Error err = {};

                assert_int_equal(read_sized(rows[i].name, rows[i].option, rows[i].size, rows[i].blanks, &err),
                                 0);
                assert_int_equal(
                        read_sized(rows[i].name, rows[i].option, rows[i].size + 1, rows[i].blanks, &err),
                        -EINVAL);
                assert_true(starts_with(err.message, "line 3: "));
                assert_non_null(strstr(err.message, rows[i].option));
                assert_true(ends_with(err.message, "x: too long"));
        }
}

/* The replacement of a specifier counts: "%n" is as long as the name. */
static void an_item_is_measured_with_its_specifiers_replaced(void **state) {
        static const struct {
                const char *option;
                unsigned n; /* names of 16 bytes */
                int r;
        } rows[] = { { "MachineOf", 64, 0 },
                     { "MachineOf", 65, -EINVAL },
                     { "Conflicts", 65, 0 },
                     { "Conflicts", 500, 0 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_file_ UnitFile file = {};
                _cleanup_placement_ Placement p = {};
                _cleanup_text_ Text value = {};
                Error err = {};

                for (unsigned k = 0; k < rows[i].n; k++)
                        text_append(&value, "%n");
                assert_int_equal(unit_file_add(&file, "X-Fleet", rows[i].option, value.chars, 0), 0);
                assert_int_equal(options_read(&file, "12345678.service", &p, NULL, &err), rows[i].r);
                assert_int_equal(p.machine_of.n + p.conflicts.n, rows[i].r == 0 ? 1 : 0);
        }
}

#define SETS(member, value) offsetof(Placement, member), sizeof(((Placement *) NULL)->member), value

static void words_numbers_and_spans_set_their_member_or_are_an_error(void **state) {
        static const struct {
                const char *lines;
                size_t offset, size;
                uint64_t value;
                const char *message, *warning;
        } rows[] = {
                { "Singleton=yes", SETS(singleton, true) },
                { "Singleton=true\nSingleton=no", SETS(singleton, false) },
                { "Singleton=yes\nSingleton=", SETS(singleton, false) },
                { "Singleton=once", .message = "Singleton=once: expected yes or no" },
                { "TargetState=loaded", SETS(target, TARGET_LOADED) },
                { "TargetState=loaded\nTargetState=launched", SETS(target, TARGET_LAUNCHED) },
                { "TargetState=loaded\nTargetState=", SETS(target, TARGET_INACTIVE) },
                { "TargetState=inactive", .message = "TargetState=inactive: expected loaded or launched" },
                { "Move=start-first", SETS(move, PLACEMENT_START_FIRST) },
                { "Move=start-first\nMove=stop-first", SETS(move, PLACEMENT_STOP_FIRST) },
                { "Move=no", SETS(move, PLACEMENT_STAYS) },
                { "Move=no\nMove=", SETS(move, PLACEMENT_MOVE_DEFAULT) },
                { "Move=never", .message = "Move=never: expected start-first, stop-first or no" },
                { "Global=yes\nMove=no", SETS(move, PLACEMENT_STAYS),
                  .warning = "Move= has no effect with Global=yes: a global unit stays" },
                { "ReplaceAfterSec=90s", SETS(replace_after_ms, 90000) },
                { "ReplaceAfterSec=3650d", SETS(replace_after_ms, SPAN_MAX_MS) },
                { "ReplaceAfterSec=never", SETS(replace_after_ms, REPLACE_NEVER) },
                { "ReplaceAfterSec=never\nReplaceAfterSec=", SETS(replace_after_ms, 0) },
                { "ReplaceAfterSec=soon",
                  .message = "ReplaceAfterSec=soon: expected never or a time span, for example 30s" },
                { "ReplaceAfterSec=-1", .message = "ReplaceAfterSec=-1: expected never or a time span" },
                { "ReplaceAfterSec=99999999999999999999d",
                  .message = "ReplaceAfterSec=99999999999999999999d: expected never or a time span" },
                { "ReplaceAfterSec=18446744073709551s", .message = "expected never or a time span" },
                { "ReplaceAfterSec=3651d", .message = "expected never or a time span" },
                { "Global=yes\nReplaceAfterSec=1h", SETS(replace_after_ms, 3600000),
                  .warning = "ReplaceAfterSec= has no effect with Global=yes: each machine has its own "
                             "instance" },
                { "OnPartition=keep", SETS(stops_alone, false) },
                { "OnPartition=stop\nReplaceAfterSec=1min", SETS(stops_alone, true) },
                { "OnPartition=stop\nReplaceAfterSec=never", SETS(stops_alone, true) },
                { "OnPartition=stop\nOnPartition=", SETS(stops_alone, false) },
                { "OnPartition=Stop", .message = "OnPartition=Stop: expected keep or stop" },
                { "OnPartition=stop", SETS(stops_alone, true),
                  .warning = "two instances may run for up to 57 s: StopAfterSec= is 60 s, and another host "
                             "takes over after 3 s; to prevent that: ReplaceAfterSec=60s" },
                { "OnPartition=stop\nStopAfterSec=10s\nReplaceAfterSec=5s", SETS(stop_after_ms, 10000),
                  .warning = "two instances may run for up to 2 s: StopAfterSec= is 10 s, and another host "
                             "takes over after 8 s; to prevent that: ReplaceAfterSec=10s" },
                { "OnPartition=stop\nGlobal=yes", SETS(stops_alone, true) },
                { "OnPartition=stop\nSingleton=yes", SETS(stops_alone, true),
                  .warning = "OnPartition=stop with Singleton=yes is redundant: the unit stops when its "
                             "lease ends" },
                { "OnPartition=stop\nReplaceAfterSec=never\nStopAfterSec=2min", SETS(stop_after_ms, 120000) },
                { "OnPartition=stop\nStopAfterSec=18446744073709551s",
                  .message = "expected a time span of at least 10s" },
                { "StopAfterSec=9s",
                  .message = "StopAfterSec=9s: expected a time span of at least 10s, for example 1min" },
                { "StopAfterSec=1min", SETS(stop_after_ms, 60000),
                  .warning = "StopAfterSec= has no effect without OnPartition=stop" },
                { "OnReconnect=keep-new", SETS(keeps_old, false) },
                { "OnReconnect=keep-old", SETS(keeps_old, true) },
                { "OnReconnect=keep-old\nOnReconnect=", SETS(keeps_old, false) },
                { "OnReconnect=old", .message = "OnReconnect=old: expected keep-new or keep-old" },
                { "OnReconnect=keep-old\nGlobal=yes", SETS(keeps_old, true),
                  .warning = "OnReconnect=keep-old has no effect with Global=yes: each machine has its own "
                             "instance" },
                { "OnReconnect=keep-old\nSingleton=yes", SETS(keeps_old, true),
                  .warning = "OnReconnect=keep-old has no effect with Singleton=yes: two instances never "
                             "run" },
                { "Promote=1h", SETS(update.promote_ms, 3600000),
                  .warning = "Promote= has no effect without Canary=" },
                { "Canary=1\nPromote=1h", SETS(update.promote_ms, 3600000) },
                { "WithdrawSec=2s", SETS(service.withdraw_ms, 2000),
                  .warning = "WithdrawSec= has no effect without Service= or Port=" },
                { "HealthIntervalSec=5s", SETS(health.interval_ms, 5000),
                  .warning = "HealthIntervalSec= has no effect without HealthHttp=, HealthTcp= or "
                             "HealthExec=" },
                { "HealthTcp=80%i\nHealthIntervalSec=5s", SETS(health.interval_ms, 5000) },
                { "KeepRevisions=2", SETS(keep_revisions, 2) },
                { "KeepRevisions=100", SETS(keep_revisions, 100) },
                { "KeepRevisions=5\nKeepRevisions=7", SETS(keep_revisions, 7) },
                { "KeepRevisions=5\nKeepRevisions=", SETS(keep_revisions, 0) }, /* the default */
                { "KeepRevisions=1", .message = "KeepRevisions=1: expected 2 to 100" },
                { "KeepRevisions=101", .message = ": expected 2 to 100" },
                { "KeepRevisions=-2", .message = ": expected 2 to 100" },
                { "KeepRevisions=2.5", .message = ": expected 2 to 100" },
                { "KeepRevisions=ten", .message = ": expected 2 to 100" },
                { "KeepRevisions=4294967298", .message = ": expected 2 to 100" },
                { "", SETS(sticky, STICKY_DEFAULT) },
                { "Sticky=yes", SETS(sticky, STICKY_YES) },
                { "Sticky=no", SETS(sticky, STICKY_NO) },
                { "Sticky=no\nSticky=", SETS(sticky, STICKY_DEFAULT) },
                { "Sticky=maybe", .message = "line 2: Sticky=maybe: expected yes or no" },
                { "Sticky=yes\nMove=no", SETS(sticky, STICKY_YES),
                  .warning = "Move= has no effect with Sticky=yes: the unit stays where its data is" },
                { "Sticky=yes\nReplaceAfterSec=never", SETS(sticky, STICKY_YES),
                  .warning = "ReplaceAfterSec= has no effect with Sticky=yes: the unit waits for the machine "
                             "of its data" },
                { "Sticky=yes\nOnReconnect=keep-new", SETS(sticky, STICKY_YES),
                  .warning = "OnReconnect= has no effect with Sticky=yes: no other machine runs the unit "
                             "meanwhile" },
                { "Sticky=no\nMove=no\nReplaceAfterSec=1h\nOnReconnect=keep-old", SETS(sticky, STICKY_NO) },
                { "Sticky=no\nMachineID=12345678", SETS(sticky, STICKY_NO),
                  .warning = "Sticky= has no effect with MachineID=: no other machine may run the unit" },
                { "", SETS(replicas, (uint32_t) -1) },
                { "Replicas=0", SETS(replicas, 0) },
                { "Replicas=1000", SETS(replicas, 1000) },
                { "Replicas=3\nReplicas=", SETS(replicas, (uint32_t) -1) },
                { "Replicas=three", .message = "line 2: Replicas=three: expected a number from 0 to 1000" },
                { "Replicas=1001", .message = "Replicas=1001: expected a number from 0 to 1000" },
                { "Replicas=-1", .message = "Replicas=-1: expected a number from 0 to 1000" },
                { "Replicas=4294967296", .message = "expected a number from 0 to 1000" },
                { "MaxPerMachine=1", SETS(max_per_machine, 1) },
                { "MaxPerMachine=10000", SETS(max_per_machine, 10000) },
                { "MaxPerMachine=2\nMaxPerMachine=", SETS(max_per_machine, 0) },
                { "\nMaxPerMachine=0",
                  .message = "line 3: MaxPerMachine=0: expected a number from 1 to 10000; Replicas=0 runs "
                             "none" },
                { "MaxPerMachine=10001", .message = ": expected a number from 1 to 10000; Replicas=0" },
                { "Spread=zone machine", SETS(spread.n, 2) },
                { "Spread=a b\nSpread=\tc.d_e-F9\nSpread=\"g\"", SETS(spread.n, 4) },
                { "Spread=zone a\nSpread=zone", .message = "line 3: Spread=zone: named twice" },
                { "Spread=zone!",
                  .message =
                          "line 2: Spread=zone!: a key of metadata has letters, digits, '_', '.' and '-'" },
                { "Spread=zone a=b c", .message = "Spread=a=b: a key of metadata has letters" },
                { "Spread=a b c d e f", .message = "line 2: Spread=e: at most 4 keys" },
                { "MemoryRequest=300M", SETS(request.memory_mib, 300) },
                { "MemoryRequest=1", SETS(request.memory_mib, 1) },
                { "MemoryRequest=0", SETS(request.memory_mib, 0) },
                { "MemoryRequest=1.5G\nMemoryRequest=", SETS(request.memory_mib, 0) },
                { "MemoryRequest=16T", SETS(request.memory_mib, 16 << 20) },
                { "MemoryRequest=300X",
                  .message = "line 2: MemoryRequest=300X: expected a size such as 300M or 2G, or 0" },
                { "MemoryRequest=-1", .message = "-1: expected a size such as 300M or 2G, or 0" },
                { "MemoryRequest=infinity", .message = "expected a size such as 300M or 2G, or 0" },
                { "MemoryRequest=300m", .message = "expected a size such as 300M or 2G, or 0" },
                { "MemoryRequest=50%", .message = "expected a size such as 300M or 2G, or 0" },
                { "MemoryRequest=17T", .message = "line 2: MemoryRequest=17T: expected at most 16T" },
                { "MemoryRequest=17592186044417", .message = "expected at most 16T" },
                { "MemoryRequest=99999999999999999999999999999999999999999999E",
                  .message = "expected at most 16T" },
                { "CPURequest=50%", SETS(request.cpu_percent, 50) },
                { "CPURequest=0.1%", SETS(request.cpu_percent, 1) },
                { "CPURequest=100000%", SETS(request.cpu_percent, 100000) },
                { "CPURequest=2", .message = "line 2: CPURequest=2: expected a percentage of one core such "
                                             "as 50% or 200%" },
                { "CPURequest=50%%", .message = ": expected a percentage of one core such as" },
                { "CPURequest=-5%", .message = ": expected a percentage of one core such as" },
                { "CPURequest=100001%", .message = "line 2: CPURequest=100001%: expected at most 100000%" },
        };

        assert_int_equal(placement_stop_after_ms(&(Placement) {}), 60000);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_placement_ Placement p = {};
                const void *member = (const char *) &p + rows[i].offset;
                Error err = {};

                assert_int_equal(read_lines("a.service", rows[i].lines, &p, &warnings, &err),
                                 rows[i].message ? -EINVAL : 0);
                if (rows[i].message)
                        assert_non_null(strstr(err.message, rows[i].message));
                else if ((rows[i].size == 1 ? *(const uint8_t *) member :
                          rows[i].size == 4 ? *(const uint32_t *) member :
                                              *(const uint64_t *) member) != rows[i].value)
                        fail_msg("%s", rows[i].lines);
                assert_int_equal(warnings.n, rows[i].warning ? 1 : 0);
                if (rows[i].warning)
                        assert_string_equal(warnings.items[0].message, rows[i].warning);
        }
}

/* A later version may know more words, and a former one took longer spans. */
static void a_stored_unit_with_invalid_values_stays_readable(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflicts=b\nMove=twice\n"
                                   "OnPartition=stop\nStopAfterSec=9999d\nReplaceAfterSec=9999d\n"
                                   "Sticky=prefer\nReplicas=25%\nMaxPerMachine=all\nSpread=zone a=b\n"
                                   "MemoryRequest=10%\nCPURequest=all\n";
        _cleanup_unit_ Unit *stored = NULL, *submitted = NULL;
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        Error err = {};

        assert_int_equal(unit_read("a.service", text, strlen(text), &stored, NULL), 0);
        assert_int_equal(stored->placement.move, PLACEMENT_MOVE_UNKNOWN);
        assert_int_equal(stored->placement.conflicts.n, 1);
        assert_false(placement_stops_first(&stored->placement));
        assert_int_equal(stored->placement.stop_after_ms, SPAN_MAX_MS);
        assert_int_equal(stored->placement.replace_after_ms, SPAN_MAX_MS);
        assert_int_equal(stored->placement.sticky, STICKY_DEFAULT);
        assert_int_equal(stored->placement.replicas, -1);
        assert_int_equal(stored->placement.max_per_machine, 0);
        assert_int_equal(stored->placement.spread.n, 1);
        assert_int_equal(stored->placement.request.memory_mib, 0);
        assert_int_equal(stored->placement.request.cpu_percent, 0);
        assert_int_equal(unit_parse("a.service", text, strlen(text), &submitted, &err), -EINVAL);
        assert_string_equal(err.message, "line 5: Move=twice: expected start-first, stop-first or no");
        assert_int_equal(unit_verify("a.service", text, strlen(text), &faults, &warnings), 0);
        assert_int_equal(faults.n, 9);
}

#define SERVICE   "[Service]\nExecStart=/bin/true\n[X-Fleet]\n"
#define CONTAINER "[Container]\nImage=a\n[X-Fleet]\n"
#define EIGHT                                      \
        "Port=a:1\nPort=b:1\nPort=c:1\nPort=d:1\n" \
        "Port=e:1\nPort=f:1\nPort=g:1\nPort=h:auto\n"
#define ONLY               "is for .service, .socket, .container, .pod and .kube files"
#define NO_NAME(what, max) ": invalid " what " name; use up to " max " of a-z, 0-9 and \"-\", for example "
#define NAMED              ": the service would be named \""
#define ADD                "; add Service= with a-z, 0-9 and \"-\""
#define NUMBER             ": expected 1 to 65535 or auto"
#define END                ": expected /tcp, /udp or the end after the number"
#define DYNAMIC                                                \
        " is in the range of dynamic ports (20000 to 31999): " \
        "choose another number, or auto"

/* The options of services are in the lines from the fourth on. */
static void a_service_or_port_that_a_unit_cannot_have_is_rejected_with_its_line(void **state) {
        static const struct {
                const char *name, *text; /* without a section: of SERVICE */
                unsigned line;           /* 0: accepted */
                const char *message;     /* after the line */
        } rows[] = {
                { "a.service", "Port=Web_1:80", 4, "Port=Web_1:80" NO_NAME("port", "15") "web-1" },
                { "a.service", "Port=-:80", 4, "Port=-:80" NO_NAME("port", "15") "http" },
                { "a.service", "Port=abcdefghijklmnop:80", 4,
                  "Port=abcdefghijklmnop:80" NO_NAME("port", "15") "abcdefghijklmno" },
                { "a.service", "Port=abcdefghijklmno:80" },
                { "a.service", "Service=\303\234ber_A-", 4,
                  "Service=\303\234ber_A-" NO_NAME("service", "63") "ber-a" },
                { "a.service", "Service=" SIXTY_THREE },
                { "a.service", "Service=" SIXTY_THREE "4", 4,
                  "Service=" SIXTY_THREE "4" NO_NAME("service", "63") SIXTY_THREE },
                { "my_app.service", "Port=http:80", 4, "Port=http:80" NAMED "my_app\"" ADD },
                { "my_app@.service", "WithdrawSec=0\nPort=http:80", 5, "Port=http:80" NAMED "my_app\"" ADD },
                { "my_app.service", "Port=http:80\nService=app" },
                { "ns.service", "Port=http:80", 4, "Port=http:80" NAMED "ns\", a reserved name" ADD },
                { "a.service", "Service=near", 4, "Service=near: reserved name" },
                { "a.service", "Service=ns", 4, "Service=ns: reserved name" },
                { "a.service", "Service=service", 4, "Service=service: reserved name" },
                { "a.service", "Port=http:0", 4, "Port=http:0" NUMBER },
                { "a.service", "Port=http:65536", 4, "Port=http:65536" NUMBER },
                { "a.service", "Port=http:automatic", 4, "Port=http:automatic" NUMBER },
                { "a.service", "Port=http:", 4, "Port=http:" NUMBER },
                { "a.service", "Port=8080", 4,
                  "Port=8080: expected NAME:NUMBER or NAME:auto, for example http:8080" },
                { "a.service", "Port=http:80/sctp", 4, "Port=http:80/sctp" END },
                { "a.service", "Port=http:65535/udp" },
                { "a.container", CONTAINER "Port=http:80:0", 4,
                  "Port=http:80:0: expected 1 to 65535 as the port of the container" },
                { "a.container", CONTAINER "Port=http:80:80:80", 4, "Port=http:80:80:80" END },
                { "a@.container", CONTAINER "Port=http:auto:80/udp\nPort=b:8080:80" },
                { "a.pod", "[Pod]\n[X-Fleet]\nPort=a:1:1\nPort=b:1:1/udp\nPort=c:1\nPort=d:auto:1" },
                { "a.container", CONTAINER "Port=a:8080:80\nPort=b:8080:81", 5,
                  "Port=b:8080:81: line 4 publishes 8080/tcp" },
                { "a@.service", "Port=http:8080:80", 4,
                  "Port=http:8080:80: only Quadlet files publish ports; in a service the program listens at "
                  "the port" },
                { "a.socket", "[Socket]\nListenStream=80\n[X-Fleet]\nPort=http:auto", 4,
                  "Port=http:auto: a .socket unit needs a number" },
                { "a.socket", "[Socket]\nListenStream=80\n[X-Fleet]\nPort=http:80" },
                { "a.service", EIGHT },
                { "a.service", EIGHT "Port=i:1", 12, "more than 8 ports" },
                { "a.service", "Service=a\nService=\"b\" \"c\"\nService=d" },
                { "a.service", "Service=a\nService=\"b\" \"c\"\nService=d\nService=e", 7,
                  "more than 4 services" },
                { "a.service", "Port=http:80\nPort=b:1\nPort=http:auto/udp", 6,
                  "Port=http: duplicate of line 4" },
                { "a.service", "Service=a\nPort=a:1\nService=a", 6, "Service=a: duplicate of line 4" },
                { "a.service", "Port=http:19999\nPort=b:32000" },
                { "a.service", "Port=http:20000", 4, "Port=http:20000" DYNAMIC },
                { "a.service", "Port=http:31999", 4, "Port=http:31999" DYNAMIC },
                { "a.timer", "[Timer]\nOnBootSec=1\n[X-Fleet]\nService=a", 4, "Service= " ONLY },
                { "a.timer", "[Timer]\nOnBootSec=1\n[X-Fleet]\nPort=a:1\nPort=", 4, "Port= " ONLY },
                { "a.volume", "[Volume]\nDriver=a\n[X-Fleet]\nPort=a:1", 4, "Port= " ONLY },
                { "a.kube", "[Kube]\nYaml=a\n[X-Fleet]\nPort=a:auto:1" },
                { "a.pod", "[Pod]\nPodName=a\n[X-Fleet]\nService=b" },
                { "a.service", "WithdrawSec=601s\nService=a", 4, "WithdrawSec=601s: expected at most 10min" },
                { "a.service", "WithdrawSec=soon\nService=a", 4,
                  "WithdrawSec=soon: expected a time span, for example 2s" },
                { "a.service", "HealthHttp=web/ready", 4,
                  "HealthHttp=web/ready: the unit has no tcp port \"web\" (Port=)" },
                { "a.service", "HealthTcp=[::1]:dns\nPort=web:80\nPort=dns:53/udp", 4,
                  "HealthTcp=[::1]:dns: the unit has no tcp port \"dns\" (Port=)" },
                { "a.service", "HealthTcp=localhost:web\nPort=web:80", 4,
                  "HealthTcp=localhost:web: expected [ADDR:]PORT, ADDR of its own host, for example 8080 "
                  "or http" },
                { "a@.service", "HealthTcp=%i\nHealthTcp=%p\nPort=%i:80\nPort=a:auto" },
                { "a@.service", "Port=http:%i\nHealthHttp=http/r\nHealthTcp=http\nWithdrawSec=5s" },
                { "my_app@.service", "Port=a:1\nService=%i\nWithdrawSec=5s" },
                { "a@b.service", "HealthTcp=%i\nHealthTcp=%p\nPort=%i:80", 5,
                  "HealthTcp=a: the unit has no tcp port \"a\" (Port=)" },
                /* With specifiers, the instance decides. */
                { "a@.service", "Port=%i:80\nService=%i" },
                { "a@http.service", "Port=%i:80\nPort=http:81", 5, "Port=http: duplicate of line 4" },
                { "a@x_y.service", "Service=%p-%i", 4, "Service=a-x_y" NO_NAME("service", "63") "a-x-y" },
                { "a@20.service", "Port=http:%i017", 4, "Port=http:20017" DYNAMIC },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings faults = {}, warnings = {};
                _cleanup_unit_ Unit *unit = NULL, *stored = NULL;
                _cleanup_text_ Text text = {}, message = {};
                Error err = {};

                text_printf(&text, "%s%s", rows[i].text[0] == '[' ? "" : SERVICE, rows[i].text);
                if (rows[i].line > 0)
                        text_printf(&message, "line %u: %s", rows[i].line, rows[i].message);
                assert_int_equal(unit_parse(rows[i].name, text.chars, text.size, &unit, &err),
                                 rows[i].line > 0 ? -EINVAL : 0);
                assert_string_equal(err.message, text_chars(&message));
                assert_int_equal(unit_verify(rows[i].name, text.chars, text.size, &faults, &warnings), 0);
                assert_int_equal(faults.n, rows[i].line > 0);
                assert_int_equal(warnings.n, 0);
                /* Former versions took these options for unknown ones. */
                assert_int_equal(unit_read(rows[i].name, text.chars, text.size, &stored, NULL), 0);
        }
}

static const char *text_of(const Names *names, char **ret) {
        *ret = joined(names);
        return *ret ?: "";
}

static void a_unit_has_the_services_and_ports_that_its_name_completes(void **state) {
        static const struct {
                const char *name, *text, *services, *ports; /* NAME:NUMBER:CONTAINER/PROTOCOL; NULL: none */
                const char *fixed, *published;
                uint64_t withdraw_ms; /* 0: the default */
        } rows[] = {
                { "shop@1.service", "Port=http:8080", "shop|", "http:8080:0/tcp ", "8080/tcp|" },
                { "shop@.container", CONTAINER "Port=http:auto:80\nWithdrawSec=0", "shop|", "http:0:80/tcp ",
                  .withdraw_ms = 1 },
                { "my_app.service", "Service=app\nService=b\nWithdrawSec=10min", "app|b|",
                  .withdraw_ms = 600000 },
                { "a@http.service", "Port=%i:80/udp\nService=%p-%i", "a-http|", "http:80:0/udp ", "80/udp|" },
                { "a@.service", "Service=cache%i\nPort=http:80", "", "http:80:0/tcp ", "80/tcp|" },
                { "a@1.service", "Port=a:80%i", "a|", "a:801:0/tcp ", "801/tcp|" },
                { "a.service", "Port=\"a:1\" \"b:2\"\nPort=\nService=\nWithdrawSec=", "a|",
                  "a:1:0/tcp b:2:0/tcp ", "1/tcp|2/tcp|" },
                { "a.service", "" },
                /* Stored by a former version: what is invalid counts as absent. */
                { "my_app.service", "Port=http:80" },
                { "a.timer", "Service=a\nPort=a:1" },
                { "a.service", EIGHT "Port=a:2\nPort=i:1\nPort=\nWithdrawSec=x", "a|",
                  "a:1:0/tcp b:1:0/tcp c:1:0/tcp d:1:0/tcp e:1:0/tcp f:1:0/tcp g:1:0/tcp h:0:0/tcp ",
                  "1/tcp|1/tcp|1/tcp|1/tcp|1/tcp|1/tcp|1/tcp|" },
                /* PublishPort= of Quadlet files. */
                { "a.container",
                  "[Container]\nImage=a\nPublishPort=8080:80\nPublishPort=127.0.0.1:81:80/udp\n"
                  "PublishPort=[::1]:82:80\nPublishPort=80\nPublishPort=127.0.0.1::80\n"
                  "PublishPort=90-91:80-81\nPublishPort=83:80/sctp\nPublishPort=0:80\nPublishPort=65536:1\n",
                  .published = "8080/tcp|81/udp|82/tcp|" },
                { "a@1.container",
                  "[Container]\nImage=a\nPublishPort=1:1\nPublishPort=\nPublishPort=80%i:80\n",
                  .published = "801/tcp|" },
                { "a.kube", "[Kube]\nYaml=a\nPublishPort=1:1\n" },
                { "a.service", "[Container]\nPublishPort=1:1\n" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *services = NULL, *fixed = NULL, *published = NULL;
                _cleanup_text_ Text text = {}, ports = {};
                _cleanup_unit_ Unit *unit = NULL;
                const Placement *p;
                const ServicePolicy *s;

                text_printf(&text, "%s%s", rows[i].text[0] == '[' ? "" : SERVICE, rows[i].text);
                assert_int_equal(unit_read(rows[i].name, text.chars, text.size, &unit, NULL), 0);
                p = &unit->placement;
                s = &p->service;
                for (size_t k = 0; k < s->n_ports; k++)
                        text_printf(&ports, "%s:%u:%u/%s ", s->ports[k].name, (unsigned) s->ports[k].number,
                                    (unsigned) s->ports[k].container,
                                    port_protocol_to_string(s->ports[k].protocol));
                assert_string_equal(text_of(&s->names, &services), rows[i].services ?: "");
                assert_string_equal(text_chars(&ports), rows[i].ports ?: "");
                assert_string_equal(text_of(&p->ports, &fixed), rows[i].fixed ?: "");
                assert_string_equal(text_of(&p->published, &published), rows[i].published ?: "");
                assert_int_equal(service_withdraw_ms(s), rows[i].withdraw_ms ?: WITHDRAW_MS);
        }
}

/* The host selects the number of an automatic one before it starts the unit. */
static void a_check_has_the_port_that_it_names(void **state) {
        static const char text[] = SERVICE "HealthHttp=web/ready\nHealthTcp=[::1]:web\nHealthTcp=127.0.0.1:"
                                           "admin\nHealthTcp=7\nPort=web:8080\nPort=admin:auto";
        static const struct {
                unsigned port;
                const char *name, *shown;
        } rows[] = { { 8080, "web", "127.0.0.1:8080/ready" },
                     { 8080, "web", "[::1]:8080" },
                     { 0, "admin", "127.0.0.1:admin" },
                     { 7, "", "127.0.0.1:7" } };
        _cleanup_text_ Text selected = {};
        _cleanup_unit_ Unit *unit = NULL;
        HealthPolicy *health;

        assert_int_equal(unit_parse("a.service", text, strlen(text), &unit, NULL), 0);
        health = &unit->placement.health;
        assert_int_equal(health->n_checks, ELEMENTS(rows));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text shown = {};

                assert_int_equal(health->checks[i].port, rows[i].port);
                assert_string_equal(health->checks[i].port_name, rows[i].name);
                unit_check_describe(&health->checks[i], &shown);
                assert_string_equal(shown.chars, rows[i].shown);
        }
        health_policy_set_port(health, "admin", 20017);
        assert_int_equal(health->checks[1].port, 8080);
        unit_check_describe(&health->checks[2], &selected);
        assert_string_equal(selected.chars, "127.0.0.1:20017");
}

/* The options of inputs are in the lines from the fourth on. */
static void inputs_that_a_unit_cannot_have_are_rejected_with_their_line(void **state) {
#define TYPES  "is for .service and .container files"
#define NAMES  ": expected NAME or NAME:CREDENTIAL, each of letters, digits, '.', '_', '-', at most 64"
#define PATH   ": expected a path of keys such as /config/shop, at most 512 bytes"
#define PARTS  ": the path has an empty component, \".\" or \"..\""
#define FOLDER ": expected PATH:DIRECTORY, of which DIRECTORY is one name"
#define TIMER  "[Timer]\nOnBootSec=1\n[X-Fleet]\n"
#define POD    "[Pod]\nPodName=a\n[X-Fleet]\n"
#define RELOAD "OnChange=reload requires ExecReload= or Type=notify-reload in [Service]"
#define LATER                                                                                              \
        "OnChange=reload: only files of ConfigKeys= change at a reload; secrets and variables wait for a " \
        "start"
#define NONE "OnChange= has no effect without Secret=, EnvironmentKeys= or ConfigKeys="
#define PODMAN                                                                                               \
        "[Container] Secret= is a secret of podman on each host, which fleetd does not deliver; Secret= in " \
        "[X-Fleet] is one of the cluster"
#define SHARED         ": a path begins with a component that all instances of a@.service share"
#define EIGHT_PATHS(o) o "=/1\n" o "=/2\n" o "=/3\n" o "=/4\n" o "=/5\n" o "=/6\n" o "=/7\n" o "=/8\n"
#define SIXTEEN                                                                                            \
        "Secret=\"1\" \"2\" \"3\" \"4\" \"5\" \"6\" \"7\" \"8\" \"9\" \"10\" \"11\" \"12\" \"13\" \"14\" " \
        "\"15\" \"16\"\n"
#define SIXTY_FOUR "1234567890123456789012345678901234567890123456789012345678901.-_"
#define LONG(c)    c c c c c c c c c c c c c c c c
        static const struct {
                const char *name, *text;
                unsigned line;
                const char *message, *warning;
        } rows[] = {
                { "a.service",
                  "Secret=db\nSecret=db:b\nEnvironmentKeys=-/a\nConfigKeys=-/a:b\nOnChange=restart" },
                { "a.container", CONTAINER "Secret=" SIXTY_FOUR "\nOnChange=none" },
                { "a@.service", "Secret=%i\nEnvironmentKeys=/%p/%i\nConfigKeys=/a:%i\nOnChange=restart" },
                { "a@7.service", "Secret=%i\nEnvironmentKeys=/%p/%i\nConfigKeys=/a:%i\nOnChange=restart" },
                { "a.service", "Secret=\nEnvironmentKeys=\nConfigKeys=\nOnChange=" },
                { "a.timer", TIMER "Secret=a", 4, "Secret= " TYPES },
                { "a.timer", TIMER "\nOnChange=none", 5, "OnChange= " TYPES },
                { "a@.timer", TIMER "Secret=%i", 4, "Secret= " TYPES },
                { "a.socket", "[Socket]\nListenStream=80\n[X-Fleet]\nEnvironmentKeys=/a", 4,
                  "EnvironmentKeys= " TYPES },
                { "a.pod", POD "ConfigKeys=/a", 4, "ConfigKeys= " TYPES },
                { "a.kube", "[Kube]\nYaml=a\n[X-Fleet]\nSecret=a", 4, "Secret= " TYPES },
                { "a.service", "Secret=a\nSecret=-b", 5, "Secret=-b" NAMES },
                { "a.service", "Secret=:b", 4, "Secret=:b" NAMES },
                { "a.service", "Secret=a:", 4, "Secret=a:" NAMES },
                { "a.service", "Secret=a:b:c", 4, "Secret=a:b:c" NAMES },
                { "a.service", "Secret=a:.b", 4, "Secret=a:.b" NAMES },
                { "a.service", "Secret=a/b", 4, "Secret=a/b" NAMES },
                { "a.service", "Secret=" SIXTY_FOUR "x", 4, "Secret=" SIXTY_FOUR "x" NAMES },
                { "a.service", "Secret=a\nSecret=b:a", 5,
                  "Secret=b:a: two secrets are credential a; use Secret=NAME:CREDENTIAL" },
                { "a.service", "Secret=a:b\nSecret=a:c" },
                { "a.service", SIXTEEN },
                { "a.service", SIXTEEN "Secret=17", 5, "Secret=17: a unit has at most 16 secrets" },
                { "a@7.service", "Secret=a%%i", 4, "Secret=a%7" NAMES },
                { "a.service", "EnvironmentKeys=a", 4, "EnvironmentKeys=a" PATH },
                { "a.service", "EnvironmentKeys=/", 4, "EnvironmentKeys=/" PATH },
                { "a.service", "EnvironmentKeys=-", 4, "EnvironmentKeys=-" PATH },
                { "a.service", "EnvironmentKeys=/a/", 4, "EnvironmentKeys=/a/" PATH },
                { "a.service", "EnvironmentKeys=/a//b", 4, "EnvironmentKeys=/a//b" PARTS },
                { "a.service", "EnvironmentKeys=/a/../b", 4, "EnvironmentKeys=/a/../b" PARTS },
                { "a.service", "EnvironmentKeys=/.", 4, "EnvironmentKeys=/." PARTS },
                { "a.service", "EnvironmentKeys=/.../b" },
                { "a.service",
                  "EnvironmentKeys=/" LONG("1234567890123456789012345678901") "123456789012345" },
                { "a.service", "EnvironmentKeys=/_fleet", 4,
                  "EnvironmentKeys=/_fleet: keys below /_fleet are fleet's own" },
                { "a.service", "ConfigKeys=-/_fleet/a:b", 4,
                  "ConfigKeys=-/_fleet/a:b: keys below /_fleet are fleet's own" },
                { "a.service", "ConfigKeys=/_fleets" },
                { "a.service", EIGHT_PATHS("EnvironmentKeys") EIGHT_PATHS("ConfigKeys") },
                { "a.service", EIGHT_PATHS("EnvironmentKeys") "EnvironmentKeys=/9", 12,
                  "EnvironmentKeys=/9: a unit has at most 8 such paths" },
                { "a.service", EIGHT_PATHS("ConfigKeys") "ConfigKeys=/9", 12,
                  "ConfigKeys=/9: a unit has at most 8 such paths" },
                { "a.service", "EnvironmentKeys=" LONG("/a") },
                { "a.service", "EnvironmentKeys=/a\nEnvironmentKeys=-/a" LONG("/a"), 5,
                  "EnvironmentKeys=-/a" LONG("/a") ": a path has at most 16 components" },
                { "a@.service", "ConfigKeys=/%p" LONG("/a") "/%i", 4,
                  "ConfigKeys=/%p" LONG("/a") "/%i: a path has at most 16 components" },
                { "a@.service", "ConfigKeys=/a%p/%i:%i" },
                { "a@.service", "ConfigKeys=-/%i/a", 4, "ConfigKeys=-/%i/a" SHARED },
                { "a@.service", "EnvironmentKeys=/a\nEnvironmentKeys=\"/b\" \"/%N/a\"", 5,
                  "EnvironmentKeys=/%N/a" SHARED },
                { "a@.service", "EnvironmentKeys=/a%n", 4, "EnvironmentKeys=/a%n" SHARED },
                { "a@7.service", "EnvironmentKeys=/%i/a" },
                { "a@.service",
                  EIGHT_PATHS("EnvironmentKeys") "ConfigKeys=/f/%p/%i\nEnvironmentKeys=/1/%i/b" },
                { "a.service", "ConfigKeys=/a:", 4, "ConfigKeys=/a:" FOLDER },
                { "a.service", "ConfigKeys=/a:b/c", 4, "ConfigKeys=/a:b/c" FOLDER },
                { "a.service", "ConfigKeys=/a:..", 4, "ConfigKeys=/a:.." FOLDER },
                { "a.service", "ConfigKeys=/a:b\nOnChange=often", 5,
                  "OnChange=often: expected none, reload or restart" },
                { "a.service", "ConfigKeys=/a\nOnChange=reload", 5, RELOAD },
                { "a.service",
                  "ConfigKeys=/a\n[Service]\nExecReload=/a\nExecReload=\n[X-Fleet]\nOnChange=reload", 9,
                  RELOAD },
                { "a.service", "ConfigKeys=/a\nOnChange=reload\n[Service]\nExecReload=/a" },
                { "a.service", "ConfigKeys=/a\nOnChange=reload\n[Service]\nType=notify-reload" },
                { "a.container", CONTAINER "ConfigKeys=/a\nOnChange=reload", 5, RELOAD },
                { "a.container", CONTAINER "ConfigKeys=/a\nOnChange=reload\n[Service]\nExecReload=/a" },
                { "a@.service", "ConfigKeys=/a\nOnChange=%i" },
                { "a@reload.service", "ConfigKeys=/a\nOnChange=%i", 5, RELOAD },
                { "a.service", "ConfigKeys=/a\nSecret=a\nOnChange=reload\n[Service]\nExecReload=/a", 6,
                  .warning = LATER },
                { "a@.service", "EnvironmentKeys=/a/%i\nOnChange=reload\n[Service]\nExecReload=/a", 5,
                  .warning = LATER },
                { "a.service", "OnChange=restart", 4, .warning = NONE },
                { "a.service", "Secret=\nOnChange=none", 5, .warning = NONE },
                { "a.container", "[Container]\nImage=a\nSecret=a\n[X-Fleet]\nSecret=a", 3,
                  .warning = PODMAN },
                { "a.service", "Secret=a\n[Container]\nSecret=a" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings faults = {}, warnings = {};
                _cleanup_unit_ Unit *unit = NULL, *stored = NULL;
                _cleanup_text_ Text text = {}, message = {};
                Error err = {};

                text_printf(&text, "%s%s", rows[i].text[0] == '[' ? "" : SERVICE, rows[i].text);
                if (rows[i].message)
                        text_printf(&message, "line %u: %s", rows[i].line, rows[i].message);
                assert_int_equal(unit_parse(rows[i].name, text.chars, text.size, &unit, &err),
                                 rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, text_chars(&message));
                assert_int_equal(unit_verify(rows[i].name, text.chars, text.size, &faults, &warnings), 0);
                assert_int_equal(faults.n, rows[i].message ? 1 : 0);
                assert_int_equal(warnings.n, rows[i].warning ? 1 : 0);
                if (rows[i].warning) {
                        assert_string_equal(warnings.items[0].message, rows[i].warning);
                        assert_int_equal(warnings.items[0].line, rows[i].line);
                }
                /* Former versions took these options for unknown ones. */
                assert_int_equal(unit_read(rows[i].name, text.chars, text.size, &stored, NULL), 0);
        }
}

static void a_unit_has_the_inputs_that_its_name_completes(void **state) {
        static const struct {
                const char *name, *text, *secrets, *credentials, *environment, *files, *directories;
                OnChange on_change;
                const char *shared;
        } rows[] = {
                { "shop@7.service",
                  "Secret=db\nSecret=tls-%i:server.key\nEnvironmentKeys=/c/%p\nEnvironmentKeys=-/c/%i\n"
                  "ConfigKeys=\"/f/%p\" \"-/f/db:db-%i\"\nOnChange=restart",
                  "db|tls-7|", "db|server.key|", "/c/shop|-/c/7|", "/f/shop|-/f/db|", "|db-7|",
                  ON_CHANGE_RESTART },
                { "shop@.container", CONTAINER "Secret=a%i\nSecret=b\nConfigKeys=/a:%i\nOnChange=reload",
                  "b|", "b|", "", "", "", ON_CHANGE_RELOAD, "/a|" },
                { "shop@.service",
                  "Secret=a\nEnvironmentKeys=/e\nEnvironmentKeys=-/%p/%i/x\nEnvironmentKeys=/a:b/x%N\n"
                  "ConfigKeys=\"/f/x\" \"-/g/%p:%i\"\nConfigKeys=/a:b/%i\nConfigKeys=/%i\n"
                  "ConfigKeys=-/g/%p/%n:x",
                  "a|", "a|", "/e|", "", "", ON_CHANGE_NONE, "/shop|/a:b|/f/x|/g/shop|/a|" },
                /* Stored: what is invalid, or of a later version, counts as absent. */
                { "a.timer", "Secret=a\nEnvironmentKeys=/a\nConfigKeys=/a\nOnChange=restart", "", "", "", "",
                  "", ON_CHANGE_NONE },
                { "a.service", "Secret=a+b\nSecret=c\nEnvironmentKeys=a\nConfigKeys=/f:a/b\nOnChange=later",
                  "c|", "c|", "", "", "", ON_CHANGE_NONE },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *secrets = NULL, *credentials = NULL, *environment = NULL, *files = NULL,
                                    *directories = NULL, *shared = NULL;
                _cleanup_text_ Text text = {};
                _cleanup_unit_ Unit *unit = NULL;
                const InputPolicy *p;

                text_printf(&text, "%s%s", rows[i].text[0] == '[' ? "" : SERVICE, rows[i].text);
                assert_int_equal(unit_read(rows[i].name, text.chars, text.size, &unit, NULL), 0);
                p = &unit->placement.inputs;
                assert_string_equal(text_of(&p->secrets, &secrets), rows[i].secrets);
                assert_string_equal(text_of(&p->credentials, &credentials), rows[i].credentials);
                assert_string_equal(text_of(&p->environment, &environment), rows[i].environment);
                assert_string_equal(text_of(&p->files, &files), rows[i].files);
                assert_string_equal(text_of(&p->directories, &directories), rows[i].directories);
                assert_string_equal(text_of(&p->shared, &shared), rows[i].shared ?: "");
                assert_int_equal(p->on_change, rows[i].on_change);
                assert_int_equal(input_policy_is_set(p), *rows[i].secrets != 0);
                assert_int_equal(input_policy_restarts(p), i == 0);
        }
}

static void after_some_warnings_the_others_are_counted(void **state) {
        static const char *const lines[] = { "Conflict=a\n", "Global=maybe\n", "[Fleet]\nA=\n[Unit]\nA=\n",
                                             "MachineID=abc\nGlobal=maybe\n" };

        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_placement_ Placement p = {};
                _cleanup_text_ Text many = {};

                for (int k = 0; k < 1000; k++)
                        text_append(&many, lines[i]);
                n_distances = 0;
                assert_int_equal(read_lines("a.service", many.chars, &p, &warnings, NULL), 0);
                assert_int_equal(warnings.n, WARNINGS_MAX);
                assert_in_range(warnings.n_left_out, 1000 - WARNINGS_MAX, 2000);
                assert_in_range(n_distances, 0, WARNINGS_MAX * 55); /* so many names are compared */
                assert_int_equal(warnings_add_rest(&warnings), 0);
                assert_int_equal(warnings.n, WARNINGS_MAX + 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lists_are_repeated_options_or_quoted_items),
                cmocka_unit_test(the_first_value_of_the_first_spelling_is_the_machine),
                cmocka_unit_test(the_last_global_counts_and_five_words_are_true),
                cmocka_unit_test(metadata_is_collected_over_lines_spellings_and_sections),
                cmocka_unit_test(invalid_metadata_is_rejected_with_line_and_example),
                cmocka_unit_test(a_template_may_leave_a_pair_to_its_instances),
                cmocka_unit_test(without_a_name_specifiers_stay),
                cmocka_unit_test(a_probable_mistake_is_a_warning),
                cmocka_unit_test(the_maximum_number_of_items_is_accepted),
                cmocka_unit_test(an_item_of_the_maximum_size_is_accepted),
                cmocka_unit_test(an_item_is_measured_with_its_specifiers_replaced),
                cmocka_unit_test(words_numbers_and_spans_set_their_member_or_are_an_error),
                cmocka_unit_test(a_stored_unit_with_invalid_values_stays_readable),
                cmocka_unit_test(a_service_or_port_that_a_unit_cannot_have_is_rejected_with_its_line),
                cmocka_unit_test(a_unit_has_the_services_and_ports_that_its_name_completes),
                cmocka_unit_test(a_check_has_the_port_that_it_names),
                cmocka_unit_test(inputs_that_a_unit_cannot_have_are_rejected_with_their_line),
                cmocka_unit_test(a_unit_has_the_inputs_that_its_name_completes),
                cmocka_unit_test(after_some_warnings_the_others_are_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
