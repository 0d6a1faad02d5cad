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

static void the_number_of_items_is_bounded(void **state) {
        _cleanup_text_ Text many = {}, wide = {};
        Placement p = {};
        Error err = {};

        text_append(&many, "Conflicts=x");
        for (int i = 0; i < OPTION_ITEMS_MAX; i++)
                text_append(&many, i % 100 == 99 ? "\nConflicts=x" : " x");
        text_append(&many, "\n");
        assert_int_equal(read_lines("a.service", many.chars, &p, NULL, &err), -EINVAL);

        assert_true(ends_with(err.message, ": Conflicts=: more than 1024 names"));

        text_append(&wide, "MachineOf=");
        for (int i = 0; i < 500; i++)
                text_append(&wide, "%n");
        text_append(&wide, "\n");
        assert_int_equal(read_lines("long-name.service", wide.chars, &p, NULL, &err), -EINVAL);
        assert_true(ends_with(err.message, ": too long"));
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

static void warnings_have_their_line_and_the_last_has_the_number_left_out(void **state) {
        static const struct {
                int n; /* lines to be warned of */
                size_t n_warnings;
                const char *last;
                unsigned line;
        } rows[] = {
                { 0, 0 },
                { 1, 1, "[X-Fleet] has no option Colour", 2 },
                { WARNINGS_MAX, WARNINGS_MAX, "[X-Fleet] has no option Colour", WARNINGS_MAX + 1 },
                { WARNINGS_MAX + 1, WARNINGS_MAX + 1, "1 more warning is left out", WARNINGS_MAX + 2 },
                { WARNINGS_MAX + 3, WARNINGS_MAX + 1, "3 more warnings are left out", WARNINGS_MAX + 2 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_placement_ Placement p = {};
                _cleanup_text_ Text lines = {};

                for (int k = 0; k < rows[i].n; k++)
                        text_append(&lines, "Colour=red\n");
                assert_int_equal(read_lines("a.service", lines.chars ? lines.chars : "", &p, &warnings, NULL),
                                 0);
                assert_int_equal(warnings_add_rest(&warnings), 0);
                assert_int_equal(warnings.n, rows[i].n_warnings);
                if (warnings.n == 0)
                        continue;
                assert_string_equal(warnings.items[warnings.n - 1].message, rows[i].last);
                assert_int_equal(warnings.items[warnings.n - 1].line, rows[i].line);
        }
}

static void a_singleton_is_one_or_an_error(void **state) {
        static const struct {
                const char *lines;
                int result;
                bool singleton;
        } cases[] = {
                { "Singleton=yes\n", 0, true },
                { "Singleton=true\nSingleton=no\n", 0, false },
                { "Singleton=yes\nSingleton=\n", 0, false },
                { "", 0, false },
                { "Singleton=once\n", -EINVAL, false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_placement_ Placement p = {};
                Error err = {};

                assert_int_equal(read_lines("a.service", cases[i].lines, &p, NULL, &err), cases[i].result);
                if (cases[i].result == 0)
                        assert_int_equal(p.singleton, cases[i].singleton);
                else
                        assert_non_null(strstr(err.message, "Singleton=once: expected yes or no"));
        }
}

static void move_and_the_target_state_are_words_or_an_error(void **state) {
        static const struct {
                const char *lines;
                PlacementMove move;
                const char *message, *warning;
                TargetState target;
        } cases[] = {
                { "TargetState=loaded\n", .target = TARGET_LOADED },
                { "TargetState=loaded\nTargetState=launched\n", .target = TARGET_LAUNCHED },
                { "TargetState=loaded\nTargetState=\n", .target = TARGET_INACTIVE },
                { "TargetState=inactive\n", .message = "TargetState=inactive: expected loaded or launched" },
                { "Move=start-first\n", PLACEMENT_START_FIRST },
                { "Move=start-first\nMove=stop-first\n", PLACEMENT_STOP_FIRST },
                { "Move=no\n", PLACEMENT_STAYS },
                { "Move=no\nMove=\n", PLACEMENT_MOVE_DEFAULT },
                { "Move=never\n", 0, "Move=never: expected start-first, stop-first or no" },
                { "Global=yes\nMove=no\n", PLACEMENT_STAYS, NULL,
                  "Move= has no effect with Global=yes: a global unit stays" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_placement_ Placement p = {};
                Error err = {};

                assert_int_equal(read_lines("a.service", cases[i].lines, &p, &warnings, &err),
                                 cases[i].message ? -EINVAL : 0);
                if (cases[i].message)
                        assert_non_null(strstr(err.message, cases[i].message));
                else
                        assert_int_equal(p.move, cases[i].move);
                if (!cases[i].message)
                        assert_int_equal(p.target, cases[i].target);
                assert_int_equal(warnings.n, cases[i].warning ? 1 : 0);
                if (cases[i].warning)
                        assert_string_equal(warnings.items[0].message, cases[i].warning);
        }
}

static void partition_options_are_spans_and_words(void **state) {
        static const struct {
                const char *lines;
                uint64_t replace_after_ms;
                bool stops;
                uint64_t stop_after_ms;
                const char *message, *warning;
                bool keeps_old;
        } cases[] = {
                { "", 0, false, 60000 },
                { "ReplaceAfterSec=90s\n", 90000, false, 60000 },
                { "ReplaceAfterSec=never\n", REPLACE_NEVER, false, 60000 },
                { "ReplaceAfterSec=never\nReplaceAfterSec=\n", 0, false, 60000 },
                { "ReplaceAfterSec=soon\n",
                  .message = "ReplaceAfterSec=soon: expected never or a time span, for "
                             "example 30s" },
                { "ReplaceAfterSec=-1\n", .message = "ReplaceAfterSec=-1: expected never or a time span" },
                { "ReplaceAfterSec=99999999999999999999d\n",
                  .message = "ReplaceAfterSec=99999999999999999999d: expected never or a time span" },
                { "ReplaceAfterSec=18446744073709551s\n", .message = "expected never or a time span" },
                { "ReplaceAfterSec=3651d\n", .message = "expected never or a time span" },
                { "ReplaceAfterSec=3650d\n", SPAN_MAX_MS, false, 60000 },
                { "OnPartition=stop\nStopAfterSec=18446744073709551s\n",
                  .message = "expected a time span of at least 10s" },
                { "Global=yes\nReplaceAfterSec=1h\n", 3600000, false, 60000, NULL,
                  "ReplaceAfterSec= has no effect with Global=yes: each machine has its own instance" },
                { "OnPartition=keep\n", 0, false, 60000 },
                { "OnPartition=stop\nReplaceAfterSec=1min\n", 60000, true, 60000 },
                { "OnPartition=stop\nReplaceAfterSec=never\n", REPLACE_NEVER, true, 60000 },
                { "OnPartition=stop\nOnPartition=\n", 0, false, 60000 },
                { "OnPartition=stop\n", 0, true, 60000, NULL,
                  "two instances may run for up to 57 s: StopAfterSec= is 60 s, and another host takes over "
                  "after 3 s; to prevent that: ReplaceAfterSec=60s" },
                { "OnPartition=stop\nStopAfterSec=10s\nReplaceAfterSec=5s\n", 5000, true, 10000, NULL,
                  "two instances may run for up to 2 s: StopAfterSec= is 10 s, and another host takes over "
                  "after 8 s; to prevent that: ReplaceAfterSec=10s" },
                { "OnPartition=stop\nGlobal=yes\n", 0, true, 60000 },
                { "OnPartition=stop\nSingleton=yes\n", 0, true, 60000, NULL,
                  "OnPartition=stop with Singleton=yes is redundant: the unit stops when its lease ends" },
                { "OnPartition=Stop\n", .message = "OnPartition=Stop: expected keep or stop" },
                { "OnPartition=stop\nReplaceAfterSec=never\nStopAfterSec=2min\n", REPLACE_NEVER, true,
                  120000 },
                { "StopAfterSec=9s\n",
                  .message = "StopAfterSec=9s: expected a time span of at least 10s, for example 1min" },
                { "StopAfterSec=1min\n", 0, false, 60000, NULL,
                  "StopAfterSec= has no effect without OnPartition=stop" },
                { "OnReconnect=keep-new\n", 0, false, 60000 },
                { "OnReconnect=keep-old\n", 0, false, 60000, .keeps_old = true },
                { "OnReconnect=keep-old\nOnReconnect=\n", 0, false, 60000 },
                { "OnReconnect=old\n", .message = "OnReconnect=old: expected keep-new or keep-old" },
                { "OnReconnect=keep-old\nGlobal=yes\n", 0, false, 60000, NULL,
                  "OnReconnect=keep-old has no effect with Global=yes: each machine has its own instance",
                  .keeps_old = true },
                { "OnReconnect=keep-old\nSingleton=yes\n", 0, false, 60000, NULL,
                  "OnReconnect=keep-old has no effect with Singleton=yes: two instances never run",
                  .keeps_old = true },
                { "Promote=1h\n", 0, false, 60000, NULL, "Promote= has no effect without Canary=" },
                { "Canary=1\nPromote=1h\n", 0, false, 60000 },
                { "HealthIntervalSec=5s\n", 0, false, 60000, NULL,
                  "HealthIntervalSec= has no effect without HealthHttp=, HealthTcp= or HealthExec=" },
                { "HealthTcp=80%i\nHealthIntervalSec=5s\n", 0, false, 60000 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_placement_ Placement p = {};
                Error err = {};

                assert_int_equal(read_lines("a.service", cases[i].lines, &p, &warnings, &err),
                                 cases[i].message ? -EINVAL : 0);
                if (cases[i].message) {
                        assert_non_null(strstr(err.message, cases[i].message));
                        continue;
                }
                assert_true(p.replace_after_ms == cases[i].replace_after_ms);
                assert_int_equal(p.stops_alone, cases[i].stops);
                assert_int_equal(p.keeps_old, cases[i].keeps_old);
                assert_int_equal(placement_stop_after_ms(&p), cases[i].stop_after_ms);
                assert_int_equal(warnings.n, cases[i].warning ? 1 : 0);
                if (cases[i].warning)
                        assert_string_equal(warnings.items[0].message, cases[i].warning);
        }
}

static void the_number_of_kept_revisions_has_bounds(void **state) {
        static const struct {
                const char *line;
                unsigned kept; /* 0: rejected */
        } cases[] = {
                { "KeepRevisions=2\n", 2 },
                { "KeepRevisions=100\n", 100 },
                { "KeepRevisions=5\nKeepRevisions=7\n", 7 },
                { "KeepRevisions=1\n", 0 },
                { "KeepRevisions=101\n", 0 },
                { "KeepRevisions=0\n", 0 },
                { "KeepRevisions=-2\n", 0 },
                { "KeepRevisions=2.5\n", 0 },
                { "KeepRevisions=ten\n", 0 },
                { "KeepRevisions=4294967298\n", 0 },
        };
        _cleanup_placement_ Placement none = {};

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_placement_ Placement p = {};
                Error err = {};

                assert_int_equal(read_lines("a.service", cases[i].line, &p, NULL, &err),
                                 cases[i].kept > 0 ? 0 : -EINVAL);
                if (cases[i].kept > 0)
                        assert_int_equal(p.keep_revisions, cases[i].kept);
                else
                        assert_non_null(strstr(err.message, ": expected 2 to 100"));
        }
        assert_int_equal(read_lines("a.service", "KeepRevisions=5\nKeepRevisions=\n", &none, NULL, NULL), 0);
        assert_int_equal(none.keep_revisions, 0); /* the default */
}

/* A later version may know more words. */
static void a_stored_unit_with_an_unknown_word_of_move_stays_readable(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflicts=b\nMove=twice\n";
        _cleanup_unit_ Unit *stored = NULL, *submitted = NULL;
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        Error err = {};

        assert_int_equal(unit_read("a.service", text, strlen(text), &stored, NULL), 0);
        assert_int_equal(stored->placement.move, PLACEMENT_MOVE_UNKNOWN);
        assert_int_equal(stored->placement.conflicts.n, 1);
        assert_false(placement_stops_first(&stored->placement));
        assert_int_equal(unit_parse("a.service", text, strlen(text), &submitted, &err), -EINVAL);
        assert_string_equal(err.message, "line 5: Move=twice: expected start-first, stop-first or no");
        assert_int_equal(unit_verify("a.service", text, strlen(text), &faults, &warnings), 0);
        assert_int_equal(faults.n, 1);
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
                assert_in_range(n_distances, 0, WARNINGS_MAX * 45); /* so many names are compared */
                assert_int_equal(warnings_add_rest(&warnings), 0);
                assert_int_equal(warnings.n, WARNINGS_MAX + 1);
        }
}

static void a_stored_unit_of_the_former_version_can_be_read(void **state) {
        static const char *const lines[] = { "ReplaceAfterSec=9999d",
                                             "OnPartition=stop\nStopAfterSec=9999d" };

        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                char text[200];
                Unit *unit = NULL;

                snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/one\n[X-Fleet]\n%s\n", lines[i]);
                assert_int_equal(unit_read("web.service", text, strlen(text), &unit, NULL), 0);
                assert_int_equal(i == 0 ? unit->placement.replace_after_ms : unit->placement.stop_after_ms,
                                 SPAN_MAX_MS);
                unit_free(unit);
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
                cmocka_unit_test(the_number_of_items_is_bounded),
                cmocka_unit_test(the_maximum_number_of_items_is_accepted),
                cmocka_unit_test(an_item_of_the_maximum_size_is_accepted),
                cmocka_unit_test(an_item_is_measured_with_its_specifiers_replaced),
                cmocka_unit_test(warnings_have_their_line_and_the_last_has_the_number_left_out),
                cmocka_unit_test(a_singleton_is_one_or_an_error),
                cmocka_unit_test(move_and_the_target_state_are_words_or_an_error),
                cmocka_unit_test(partition_options_are_spans_and_words),
                cmocka_unit_test(the_number_of_kept_revisions_has_bounds),
                cmocka_unit_test(a_stored_unit_with_an_unknown_word_of_move_stays_readable),
                cmocka_unit_test(after_some_warnings_the_others_are_counted),
                cmocka_unit_test(a_stored_unit_of_the_former_version_can_be_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
