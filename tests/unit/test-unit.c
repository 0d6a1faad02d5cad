#include "tests/lib/test.h"
#include <dirent.h>
#include <fcntl.h>

#include "base/file.h"
#include "tests/lib/alloc.h"
#include "units/api_json.h"
#include "units/stored_json.h"
#include "units/unit.h"

static Unit *unit_of(const char *name, const char *text) {
        Unit *unit = NULL;
        Error err = {};

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, &err), 0);
        return unit;
}

static void a_unit_has_its_text_and_the_parsed_values(void **state) {
        static const char text[] =
                "# mine\n[Unit]\nDescription = Web %i\n[Service]\nExecStart=/bin/true\n\n[Install]\n"
                "WantedBy=multi-user.target\n[X-Fleet]\nConflicts=%p@*.service\n";
        _cleanup_unit_ Unit *unit = unit_of("web@1.service", text);

        assert_string_equal(unit->name, "web@1.service");
        assert_string_equal(unit->text, text);
        assert_int_equal(unit->text_size, strlen(text));
        assert_string_equal(unit_file_get(&unit->file, "Unit", "Description"), "Web %i");
        assert_true(unit_file_has_section(&unit->file, "Install"));
        assert_string_equal(unit->placement.conflicts.items[0], "web@*.service");
        assert_int_equal(unit->warnings.n, 0);
        assert_null(unit->owner);
}

static void the_hash_ignores_comments_and_spacing_but_not_the_order(void **state) {
        _cleanup_unit_ Unit *a = unit_of("a.service",
                                         "[Service]\nExecStart=/bin/true\nExecStart=/bin/sync\n");
        _cleanup_unit_ Unit *b = unit_of(
                "a.service", "# c\n[Service]\n\nExecStart = /bin/true \n; d\nExecStart=/bin/sync");
        _cleanup_unit_ Unit *c = unit_of("a.service",
                                         "[Service]\nExecStart=/bin/sync\nExecStart=/bin/true\n");

        assert_true(unit_equal(a, b));
        assert_false(unit_equal(a, c));
        assert_false(unit_runs_same(a, c));
}

static void placement_alone_does_not_change_what_runs(void **state) {
        _cleanup_unit_ Unit *a = unit_of("a.service",
                                         "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflicts=b.service\n");
        _cleanup_unit_ Unit *b = unit_of("a.service",
                                         "[X-Fleet]\nGlobal=true\n[Service]\nExecStart=/bin/true\n");
        _cleanup_unit_ Unit *c = unit_of("a.service",
                                         "[Service]\nExecStart=/bin/false\n[X-Fleet]\nConflicts=b.service\n");

        assert_false(unit_equal(a, b));
        assert_true(unit_runs_same(a, b));
        assert_false(unit_runs_same(a, c));
}

static void assert_refused(const char *name, const char *text, const char *message) {
        Unit *unit = NULL;
        Error err = {};

        assert_true(unit_parse(name, text, strlen(text), &unit, &err) < 0);
        assert_null(unit);
        assert_string_equal(err.message, message);
}

static void units_that_cannot_run_are_rejected_with_a_message(void **state) {
        assert_refused("sp ace.service", "[S]\nA=1\n", "invalid character ' ' in unit name");
        assert_refused("dbus.service", "[S]\nA=1\n",
                       "unit name dbus.service is refused: systemd itself depends on a unit of that name "
                       "(systemd.special(7))");
        assert_refused("a.service", "[Service\n", "line 1: unable to find end of section (missing ])");
        assert_refused("a.service", "just text\n",
                       "a unit file needs at least one option in a [section]; here is none");
        assert_refused("a.service", "[S]\nA=1\n[X-Fleet]\nMachineMetadata=gpu\n",
                       "line 4: MachineMetadata=gpu: expected key=value, for example gpu=true");
        assert_refused("a.service", "[X-Fleet]\nGlobal=true\nConflicts=*\nMachineID=abc\n",
                       "MachineID cannot be used with Conflicts");
}

/* Specifiers count with their replacement; a stored unit stays readable. */
static void a_unit_with_patterns_that_are_expensive_to_compare_is_refused(void **state) {
        static const char name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                   "aaaaaaaaaaaaaaa.service";
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text t = {};

        text_append(&t, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n");
        for (int i = 0; i < 250; i++)
                text_append(&t, "Conflicts=*%p*\n");
        assert_refused(name, t.chars,
                       "Conflicts= has patterns with 22250 bytes behind the first * or [, at most 16384 are "
                       "taken: use fewer or shorter ones");
        assert_int_equal(unit_read(name, t.chars, t.size, &unit, NULL), 0);
        unit = unit_free(unit);
        assert_int_equal(unit_parse("web.service", t.chars, t.size, &unit, NULL), 0);
}

/* Enabling such a unit would replace a unit of the host. */
static void an_install_section_that_takes_a_name_of_the_host_is_refused(void **state) {
        static const char taken[] = "[Service]\nExecStart=/bin/true\n[Install]\nAlias=shop.service \\\n  "
                                    "b.service %p-%i.service\nAlso=c.socket\n";
        _cleanup_unit_ Unit *unit = NULL;

        assert_refused("a.service",
                       "[Service]\nExecStart=/bin/true\n[Install]\nAlias=b.service dbus.service\n",
                       "line 4: Alias=dbus.service is refused: systemd itself depends on a unit of that name "
                       "(systemd.special(7))");
        assert_refused("a.service",
                       "[Install]\nWantedBy=multi-user.target\nAlias=\nAlso=b.service \\\n  "
                       "systemd-logind.service\n",
                       "line 4: Also=systemd-logind.service is refused: names that start with systemd- are "
                       "systemd's own");
        assert_refused("systemd@d.service", "[S]\nA=1\n[Install]\nAlias=%p-%i.service\n",
                       "line 4: Alias=systemd-d.service is refused: names that start with systemd- are "
                       "systemd's own");
        assert_int_equal(unit_parse("a@1.service", taken, strlen(taken), &unit, NULL), 0);
}

/* A unit that is already accepted stays readable, and is not checked again. */
static void the_names_of_an_install_section_are_bounded(void **state) {
        static char longest[256];
        static const struct {
                int n;
                const char *word, *tail, *message;
        } rows[] = {
                { 256, "b.service", "", "" },
                { 257, "b.service", "", "line 4: [Install] has more than 256 names in Alias= and Also=" },
                { 60000, "a", "", "line 4: [Install] has more than 256 names in Alias= and Also=" },
                { 1, "", longest, "" },
                { 1, "x", longest,
                  "line 3: Also=xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... is "
                  "refused: longer than the name of a unit" },
                { 1, "%n%n%n%n", longest,
                  "line 3: Also=%n%n%n%naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... is "
                  "refused: longer than the name of a unit" },
                { 2, "%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n%n", "",
                  "line 3: Also=a.servicea.servicea.servicea.servicea.servicea.servicea.servicea... is "
                  "refused: longer than the name of a unit" },
        };

        memset(longest, 'a', 255);
        memcpy(longest + 247, ".service", 9);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL, *stored = NULL;
                Error err = {}, err_again = {};
                _cleanup_text_ Text t = {};
                int r;

                text_append(&t, "[Install]");
                for (int k = 0; k < rows[i].n; k++) {
                        text_append(&t, k % 200 == 0 ? (k == 0 ? "\nAlias=\nAlso=" : "\nAlias=") : " ");
                        text_append(&t, rows[i].word);
                        text_append(&t, rows[i].tail);
                }
                alloc_fail_at(5000);
                r = unit_parse("a.service", t.chars, t.size, &unit, &err);
                assert_false(alloc_has_failed());
                alloc_fail_at(0);
                assert_int_equal(r, *rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message);
                assert_int_equal(unit_read("a.service", t.chars, t.size, &stored, NULL), 0);
                assert_int_equal(unit_check(stored, &(size_t) { 0 }, &err_again), r);
                assert_string_equal(err_again.message, rows[i].message);
        }
}

static void verify_names_every_fault_and_agrees_with_parsing(void **state) {
        static const struct {
                const char *name, *text;
                size_t n_faults;
                unsigned line; /* of the first */
                const char *warning;
        } rows[] = {
                { "a.service", "[Service]\nExecStart=/bin/true\n", 0, 0 },
                { "a.service", "[Service]\nStateDirectory=a\n", 0, 0 }, /* why and plan say it */
                { "a.service", "[Service]\nStateDirectory=a\n[X-Fleet]\nMachineID=aaaaaaaa\n", 0, 0 },
                { "a.service", "[Service]\nStateDirectory=a\n[X-Fleet]\nSticky=yes\n", 0, 0 },
                { "a.service", "[Service]\nStateDirectory=a\n[X-Fleet]\nSticky=no\n", 0, 0 },
                { "a.service", "[X-Fleet]\nSticky=yes\nReplaceAfterSec=never\n", 0, 0,
                  "ReplaceAfterSec= has no effect with Sticky=yes" },
                { "a.service", "[Service]\nA=1\n[X-Fleet]\nReplicas=3\n", 1, 4 },
                { "a.service", "[X-Fleet]\nSticky=maybe\nReplicas=x\nCPURequest=2\nMemoryRequest=17T\n", 4,
                  2 },
                { "a.service", "[Unit]\nOnFailure=alert@%n\n[Service]\nA=1\n", 0, 0,
                  "OnFailure=alert@%n: the" },
                { "a.service", "[Unit]\nWants=b.service env@%N.service\n", 0, 0, "Wants=b.service env@%N" },
                { "a@1.service", "[Unit]\nRequires=web@%i.service\nAfter=web@%n\n", 0, 0 },
                { "a.service", "[Service]\nStateDirectory=a\n[X-Fleet]\nGlobal=yes\n", 0, 0 },
                { "a.service", "[X-Fleet]\nReplaceAfterSec=never\n", 0, 0, "ReplaceAfterSec=never without" },
                { "a.service", "[Service]\nStateDirectory=a\n[X-Fleet]\nReplaceAfterSec=never\nMove=no\n", 0,
                  0 },
                { "a.service", "[X-Fleet]\nReplaceAfterSec=1h\nOnPartition=stop\nStopAfterSec=1min\n", 0, 0 },
                { "a.service", "[Service]\nExecReload=/a\nExecReload=\n[X-Fleet]\nReloadTrigger=1\n", 0, 0,
                  "ReloadTrigger=: no ExecReload= and not Type=notify-reload; a change restarts the "
                  "service" },
                { "a.service", "[Service]\nExecReload=/a\n[X-Fleet]\nReloadTrigger=1\n", 0, 0 },
                { "a.service", "[Service]\nType=notify-reload\n[X-Fleet]\nReloadTrigger=1\n", 0, 0 },
                { "a.service", "[Service]\nType=notify\n[X-Fleet]\nReloadTrigger=1\nRestartTrigger=2\n", 0, 0,
                  "ReloadTrigger=: no" },
                { "a.service", "[X-Fleet]\nMachineMetadata=a\nMachineMetadata=b\nGlobal=true\n", 2, 2 },
                { "a.service", "[X-Fleet]\nGlobal=true\nMachineOf=b.service\n", 1, 0 },
                { "a.service", "[Service\n", 1, 1 },
                { "a.service", "", 1, 0 },
                { "a", "[Service]\nExecStart=/bin/true\n", 1, 0 },
                { "a.service", "[Service]\nExecStart=/bin/true\n[Install]\nAlias=default.target\n", 1, 4 },
                { "fleetd.service", "[X-Fleet]\nMachineMetadata=a\n", 2, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings faults = {}, warnings = {};
                _cleanup_unit_ Unit *unit = NULL;

                assert_int_equal(
                        unit_verify(rows[i].name, rows[i].text, strlen(rows[i].text), &faults, &warnings), 0);
                if (faults.n != rows[i].n_faults)
                        fail_msg("%zu: %zu faults, the first: %s", i, faults.n,
                                 faults.n > 0 ? faults.items[0].message : "none");
                assert_int_equal(unit_parse(rows[i].name, rows[i].text, strlen(rows[i].text), &unit, NULL) <
                                         0,
                                 faults.n > 0);
                if (faults.n > 0)
                        assert_int_equal(faults.items[0].line, rows[i].line);
                else
                        assert_int_equal(warnings.n, rows[i].warning ? 1 : 0);
                if (rows[i].warning)
                        assert_non_null(strstr(warnings.items[0].message, rows[i].warning));
        }
}

static void a_unit_that_was_accepted_once_can_always_be_read(void **state) {
        static const char conflicting[] = "[X-Fleet]\nGlobal=true\nMachineOf=a.service\n";
        _cleanup_unit_ Unit *unit = NULL;

        assert_int_equal(unit_parse("a.service", conflicting, strlen(conflicting), &unit, NULL), -EINVAL);
        assert_int_equal(unit_read("a.service", conflicting, strlen(conflicting), &unit, NULL), 0);
        assert_true(unit->placement.global);
}

static void the_last_warning_has_the_number_of_those_left_out(void **state) {
        static const char *const rows[][2] = {
                { "Colour=red\n", "[X-Fleet] has no option Colour" },
                { "Global=maybe\n", "Global=maybe is taken as false; expected true or false" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (int n = 20; n <= 23; n++) {
                        static const char *const rest[] = { NULL, "1 more warning is left out",
                                                            "2 more warnings are left out",
                                                            "3 more warnings are left out" };
                        _cleanup_warnings_ Warnings faults = {}, warnings = {};
                        _cleanup_unit_ Unit *unit = NULL;
                        _cleanup_text_ Text t = {};

                        text_append(&t, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n");
                        for (int k = 0; k < n; k++)
                                text_append(&t, rows[i][0]);
                        unit = unit_of("a.service", t.chars);
                        assert_int_equal(unit_verify("a.service", t.chars, t.size, &faults, &warnings), 0);
                        assert_int_equal(faults.n, 0);
                        assert_int_equal(unit->warnings.n, MIN(n, 21));
                        assert_int_equal(warnings.n, MIN(n, 21));
                        assert_string_equal(warnings.items[19].message, rows[i][1]);
                        assert_string_equal(unit->warnings.items[19].message, rows[i][1]);
                        assert_int_equal(unit->warnings.items[19].line, 23);
                        if (!rest[n - 20])
                                continue;
                        assert_string_equal(unit->warnings.items[20].message, rest[n - 20]);
                        assert_string_equal(warnings.items[20].message, rest[n - 20]);
                        assert_int_equal(unit->warnings.items[20].line, 24);
                        assert_int_equal(warnings.items[20].line, 24);
                }
}

static void a_file_that_grows_beyond_an_entry_as_json_is_refused(void **state) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_append(&t, "[Service]\n");
        while (t.size < UNIT_SIZE_MAX / 2)
                text_append(&t, "# <><><><><><><><><><><><><><><><><>\n");
        text_append(&t, "A=1\n");
        assert_int_equal(unit_parse("a.service", t.chars, t.size, &unit, NULL), -EFBIG);
        for (size_t i = 0; i < t.size; i++)
                if (t.chars[i] == '<' || t.chars[i] == '>')
                        t.chars[i] = '-';
        assert_int_equal(unit_parse("a.service", t.chars, t.size, &unit, NULL), 0);
        unit = unit_free(unit);
}

/* The API repeats the section in each option. */
static void a_file_whose_answer_would_be_too_large_is_refused(void **state) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;
        Error err = {};

        text_printf(&t, "[Service]\nExecStart=/bin/true\n[X-%01000d]\n", 0);
        for (unsigned i = 0; i < 1900; i++)
                text_append(&t, "a=b\n");
        assert_int_equal(unit_parse("a.service", t.chars, t.size, &unit, NULL), 0);
        assert_in_range(unit->json_size, 1900 * 1000, UNIT_JSON_MAX);
        unit = unit_free(unit);
        for (unsigned i = 0; i < 200; i++)
                text_append(&t, "a=b\n");
        assert_int_equal(unit_parse("a.service", t.chars, t.size, &unit, &err), -EFBIG);
        assert_non_null(strstr(err.message, "each option has the name of its section"));
        assert_int_equal(unit_read("a.service", t.chars, t.size, &unit, NULL), 0); /* it was taken before */
        unit = unit_free(unit);
}

static void without_memory_everything_is_freed(void **state) {
        static const char text[] = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/"
                                   "true\n[X-Fleet]\nMachineOf=\"a\" \"b@%i.service\"\n"
                                   "Conflicts=c d\nMachineMetadata=\"zone=a\" \"zone=b\"\nColour=red\n"
                                   "Spread=zone machine\nReplicas=2\nMemoryRequest=2G\n[Service]\n"
                                   "StateDirectory=a\nBindPaths=/srv\nMemoryMax=1G\n";
        static const char json[] =
                "{\"owner\":\"1111\",\"path\":\"/"
                "p\",\"rev\":2,\"revs\":[{\"hash\":\"a\",\"rev\":1}],\"text\":\"[X-Fleet]\\nReplaces=x\\n\"}";
        static const char page_json[] =
                "{\"units\":[{\"name\":\"a\",\"options\":[{\"name\":\"A\",\"section\":\"S\"}]},{}]}";
        unsigned n = 1;
        int r;

        do {
                _cleanup_unit_ Unit *unit = NULL, *stored = NULL;
                _cleanup_api_page_ ApiPage page = {};

                alloc_fail_at(n);
                r = unit_parse("a@1.service", text, strlen(text), &unit, NULL);
                if (r >= 0)
                        r = stored_unit_read("b.service", json, strlen(json), &stored, NULL);
                if (r >= 0)
                        r = api_page_read(&api_units_page, page_json, strlen(page_json), &page, NULL);
                if (alloc_has_failed())
                        assert_int_equal(r, -ENOMEM);
        } while (alloc_has_failed() && n++ < 10000);

        alloc_fail_at(0);
        assert_int_equal(r, 0);
        assert_true(n > 50);
}

/* Write lines "option=<start><item><item>...<end>" of almost the maximum length, up to the size limit of a
 * unit file. */
static size_t append_long_lines(Text *t, const char *option, const char *start, const char *item,
                                const char *end) {
        size_t n = 0;

        while (t->size < UNIT_SIZE_MAX - UNIT_LINE_MAX) {
                size_t line = t->size;

                text_printf(t, "%s=%s", option, start);
                for (; t->size - line < UNIT_LINE_MAX - 100; n++)
                        text_append(t, item);
                text_printf(t, "%s\n", end);
        }
        return n;
}

/* The number of allocations measures the work: a host reads every unit of the cluster. */
static void empty_items_and_items_without_specifiers_allocate_nothing(void **state) {
        static const struct {
                const char *option, *item;
                unsigned per_item; /* allocations */
        } rows[] = {
                { "MachineOf", " ", 0 },   { "MachineMetadata", " ", 0 }, { "Global", " ", 0 },
                { "Conflicts", " ", 0 },   { "Global", " x", 0 },         { "MachineID", " x", 0 },
                { "MachineOf", " %i", 4 }, { "Global", " %n", 4 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text t = {};
                size_t n;
                int r;

                text_append(&t, "[X-Fleet]\n");
                n = append_long_lines(&t, rows[i].option, "\"\"", rows[i].item, " \"\"");
                alloc_fail_at(1000 + rows[i].per_item * n);
                r = unit_read("a.service", t.chars, t.size, &unit, NULL);
                if (alloc_has_failed())
                        fail_msg("%s=: %zu items take %zu allocations or more", rows[i].option, n,
                                 1000 + rows[i].per_item * n);
                alloc_fail_at(0);
                assert_int_equal(r, 0);
        }
}

/* -- Revisions -- */

#define HASH(c) c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c

/* Write "WANTED: FORMER FORMER" with the numbers, the former ones with the first character of their hashes.
 */
static void print_revisions(const Revisions *all, Text *t) {
        text_printf(t, "%llu:", (unsigned long long) revisions_wanted(all));
        for (size_t i = 0; i < all->n_former; i++)
                text_printf(t, " %llu%c", (unsigned long long) all->former[i].number, all->former[i].hash[0]);
}

static void a_new_text_gets_the_next_number_and_a_stored_one_its_own(void **state) {
        static const struct {
                const char *hash;
                size_t keep;
                const char *then;
        } steps[] = {
                { HASH("b"), 4, "2: 1a" },       { HASH("b"), 4, "2: 1a" },    /* the wanted one */
                { HASH("c"), 4, "3: 1a 2b" },    { HASH("a"), 4, "1: 2b 3c" }, /* a revert */
                { HASH("c"), 4, "3: 2b 1a" },    { HASH("d"), 4, "4: 2b 1a 3c" },
                { HASH("e"), 4, "5: 1a 3c 4d" }, /* the one that was wanted last, longest ago, ends */
                { HASH("b"), 4, "6: 3c 4d 5e" }, /* its number is not used again */
                { HASH("b"), 2, "6: 5e" },       { HASH("e"), 2, "5: 6b" },
        };
        Revisions all = {};
        const char *wanted = HASH("a");

        for (size_t i = 0; i < ELEMENTS(steps); i++) {
                _cleanup_text_ Text t = {};
                Revisions next;

                assert_int_equal(revisions_next(&all, wanted, steps[i].hash, steps[i].keep, &next), 0);
                revisions_done(&all);
                all = next;
                wanted = steps[i].hash;
                print_revisions(&all, &t);
                assert_string_equal(t.chars, steps[i].then);
        }
        revisions_done(&all);
}

static void a_stored_unit_has_its_revisions(void **state) {
        static const char json[] = "{\"by\":\"root@alpha\",\"hash\":\"" HASH(
                "e") "\",\"how\":\"reverted\",\"path\":\"/p\",\"rev\":5,"
                     "\"revs\":[{\"by\":\"a\\u0001\",\"hash\":\"" HASH(
                             "a") "\",\"how\":\"directory\",\"rev\":4,\"since\":7},"
                                  "{\"hash\":\"" HASH(
                                          "b") "\",\"how\":\"submitted\",\"rev\":9223372036854775807}],"
                                               "\"since\":8,\"text\":\"[Service]\\n\"}";
        static const char plain_json[] = "{\"text\":\"[Service]\\n\"}";
        _cleanup_unit_ Unit *unit = NULL, *again = NULL, *old = NULL;
        _cleanup_text_ Text t = {}, plain = {};

        assert_int_equal(stored_unit_read("a.service", json, strlen(json), &unit, NULL), 0);
        stored_unit_write(&t, unit);
        assert_int_equal(stored_unit_read("a.service", t.chars, t.size, &again, NULL), 0);
        assert_int_equal(again->revisions.wanted.number, 5);
        assert_int_equal(again->revisions.wanted.since_ms, 8);
        assert_int_equal(again->revisions.wanted.how, REVISION_REVERTED);
        assert_string_equal(again->revisions.wanted.by, "root@alpha");
        assert_int_equal(again->revisions.n_former, 2);
        assert_int_equal(revisions_find(&again->revisions, 4, NULL)->since_ms, 7);
        assert_string_equal(revisions_find(&again->revisions, 4, NULL)->by, "a\001");
        assert_int_equal(revisions_find(&again->revisions, 4, NULL)->how, REVISION_DIRECTORY);
        assert_int_equal(revisions_find(&again->revisions, 0, HASH("b"))->number, INT64_MAX);
        assert_null(revisions_find(&again->revisions, 0, HASH("c")));
        assert_null(revisions_find(&again->revisions, 5, NULL));

        /* Of a version without revisions: the text counts as 1, and is written as before. */
        assert_int_equal(stored_unit_read("a.service", plain_json, strlen(plain_json), &old, NULL), 0);
        assert_int_equal(revisions_wanted(&old->revisions), 1);
        stored_unit_write(&plain, old);
        assert_null(strstr(plain.chars, "rev"));
        assert_null(strstr(plain.chars, "how"));
}

static void revisions_that_cannot_be_read_are_an_error(void **state) {
        static const char *const rows[] = {
                "\"rev\":-1",
                "\"rev\":\"2\"",
                "\"how\":\"guessed\"",
                "\"since\":1.5",
                "\"revs\":{}",
                "\"revs\":[1]",
                "\"revs\":[{}]",
                "\"revs\":[{\"rev\":1}]",
                "\"revs\":[{\"hash\":\"" HASH("a") "\"}]",
                "\"revs\":[{\"hash\":\"" HASH("a") "a\",\"rev\":1}]",
                "\"revs\":[{\"hash\":\"" HASH("a") "\",\"rev\":-1}]",
        };
        _cleanup_text_ Text many = {};
        _cleanup_unit_ Unit *unit = NULL;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *json = NULL;
                Error err = {};

                assert_true(asprintf(&json, "{%s,\"text\":\"[Service]\\n\"}", rows[i]) > 0);
                assert_int_equal(stored_unit_read("a.service", json, strlen(json), &unit, &err), -EBADMSG);
                assert_null(unit);
                assert_true(err.message[0]);
        }
        text_append(&many, "{\"revs\":[");
        for (int i = 1; i <= REVISIONS_KEPT_MAX + 1; i++)
                text_printf(&many, "%s{\"hash\":\"" HASH("a") "\",\"rev\":%d}", i > 1 ? "," : "", i);
        text_append(&many, "],\"text\":\"\"}");
        assert_int_equal(stored_unit_read("a.service", many.chars, many.size, &unit, NULL), -EBADMSG);
}

#define DROP_IN(path, value) "\n\n# " path "\n[Service]\nNice=" value "\n"
#define FILE_TEXT            "[Service]\nExecStart=/bin/true\n"

static void the_own_drop_ins_of_an_instance_are_those_that_its_template_has_not(void **state) {
        static const struct {
                const char *name, *text, *own;
        } rows[] = {
                { "web@1.service", FILE_TEXT, "" },
                { "web@1.service", FILE_TEXT DROP_IN("web@1.service.d/a.conf", "1"),
                  DROP_IN("web@1.service.d/a.conf", "1") },
                { "web@1.service",
                  FILE_TEXT DROP_IN("web@.service.d/a.conf", "1") DROP_IN("web@1.service.d/b.conf", "2")
                          DROP_IN("web@.service.d/c.conf", "3") DROP_IN("service.d/d.conf", "4")
                                  DROP_IN("web@1.service.d/e.conf", "5"),
                  DROP_IN("web@1.service.d/b.conf", "2") DROP_IN("web@1.service.d/e.conf", "5") },
                { "web-a@1.service",
                  FILE_TEXT DROP_IN("web-@1.service.d/a.conf", "1") DROP_IN("web-@.service.d/b.conf", "2")
                          DROP_IN("web-.service.d/c.conf", "3"),
                  DROP_IN("web-@1.service.d/a.conf", "1") DROP_IN("web-@.service.d/b.conf", "2") },
                { "web@1.service", FILE_TEXT DROP_IN("web@2.service.d/a.conf", "1"), "" },
                { "web.service", FILE_TEXT DROP_IN("web.service.d/a.conf", "1"), "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text own = {};

                assert_int_equal(unit_append_own_drop_ins(&own, rows[i].name, rows[i].text), 0);
                assert_string_equal(own.chars ?: "", rows[i].own);
        }
}

static void an_instance_follows_a_template_if_only_drop_ins_of_its_own_come_after_its_text(void **state) {
        static const struct {
                const char *rest;
                bool follows;
        } rows[] = {
                { "", true },
                { DROP_IN("web@1.service.d/a.conf", "1"), true },
                { DROP_IN("web@1.service.d/a.conf", "1") DROP_IN("web@1.service.d/b.conf", "1"), true },
                { DROP_IN("web@.service.d/a.conf", "1"), false },
                { DROP_IN("web@1.service.d/a.conf", "1") DROP_IN("web@.service.d/b.conf", "1"), false },
                { "\n[Service]\nNice=1\n" DROP_IN("web@1.service.d/a.conf", "1"), false },
        };
        _cleanup_unit_ Unit *template = unit_of("web@.service", FILE_TEXT);

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *instance = NULL;
                char text[512];
                size_t own;

                snprintf(text, sizeof(text), "%s%s", template->text, rows[i].rest);
                instance = unit_of("web@1.service", text);
                assert_int_equal(unit_has_text_of(instance, template, &own), rows[i].follows);
                assert_int_equal(own, rows[i].follows ? strlen(rows[i].rest) : 0);
        }
}

static void units_have_classes_by_type_and_text(void **state) {
        static const struct {
                const char *name, *text;
                UnitClass class;
                const char *triggered;
        } rows[] = {
                { "a.service", "[Service]\nExecStart=/bin/a\n", CLASS_ENDING, NULL },
                { "a.service", "[Service]\nType=oneshot\nExecStart=/bin/a\nRestart=on-failure\n",
                  CLASS_ENDING, NULL },
                { "a.service", "[Service]\nExecStart=/bin/a\nRestart=always\n", CLASS_LASTING, NULL },
                { "a.service", "[Service]\nExecStart=/bin/a\nRestart=on-success\n", CLASS_LASTING, NULL },
                { "a.service", "[Service]\nExecStart=/bin/a\nRestart=always\nRestartPreventExitStatus=0\n",
                  CLASS_ENDING, NULL },
                { "a.service", "[Service]\nType=oneshot\nExecStart=/bin/a\nRemainAfterExit=true\n",
                  CLASS_LASTING, NULL },
                { "a.container", "[Container]\nImage=a\n", CLASS_ENDING, NULL },
                { "a.volume", "[Volume]\n", CLASS_LASTING, NULL },
                { "a@1.timer", "[Timer]\nOnBootSec=1\n", CLASS_TRIGGER, "a@1.service" },
                { "a@1.timer", "[Timer]\nUnit=b-%i.service\n", CLASS_TRIGGER, "b-1.service" },
                { "a.timer", "[Timer]\nUnit=b.service\nUnit=\n", CLASS_TRIGGER, "a.service" },
                { "a.path", "[Path]\nPathExists=/a\nUnit=b.target\n", CLASS_TRIGGER, "b.target" },
                { "a.socket", "[Socket]\nListenStream=1\nService=b.service\n", CLASS_TRIGGER, "b.service" },
                { "a.socket", "[Socket]\nListenStream=1\nAccept=yes\n", CLASS_TRIGGER, NULL },
                { "srv-a.automount", "[Automount]\nWhere=/srv/a\n", CLASS_TRIGGER, "srv-a.mount" },
                { "srv-a.mount", "[Mount]\nWhat=a\nWhere=/srv/a\n", CLASS_MOUNT, NULL },
                { "dev-a.swap", "[Swap]\nWhat=/dev/a\n", CLASS_MOUNT, NULL },
                { "a.target", "[Unit]\nDescription=a\n", CLASS_TARGET, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = unit_of(rows[i].name, rows[i].text);
                const char *triggered = unit_triggered(unit);

                assert_int_equal(unit->class, rows[i].class);
                assert_int_equal(unit_finishes(unit), rows[i].class == CLASS_ENDING);
                assert_string_equal(triggered ? triggered : "", rows[i].triggered ? rows[i].triggered : "");
        }
}

static void the_samples_are_units_without_a_warning(void **state) {
        const char *srcdir = getenv("srcdir");
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        unsigned n = 0;
        DIR *dir;

        assert_true(asprintf(&path, "%s/dist/units", srcdir ? srcdir : ".") > 0);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        dir = opendir(path);
        assert_non_null(dir);
        for (struct dirent *e; (e = readdir(dir));) {
                _cleanup_free_ char *text = NULL;
                _cleanup_unit_ Unit *unit = NULL;
                size_t size;

                if (e->d_name[0] == '.')
                        continue;
                assert_int_equal(read_file_at(fd, e->d_name, UNIT_SIZE_MAX, &text, &size), 0);
                assert_int_equal(unit_parse(e->d_name, text, size, &unit, NULL), 0);
                assert_int_equal(unit->warnings.n, 0);
                n++;
        }
        closedir(dir);
        assert_true(n >= 5);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_has_its_text_and_the_parsed_values),
                cmocka_unit_test(the_hash_ignores_comments_and_spacing_but_not_the_order),
                cmocka_unit_test(placement_alone_does_not_change_what_runs),
                cmocka_unit_test(units_that_cannot_run_are_rejected_with_a_message),
                cmocka_unit_test(a_unit_with_patterns_that_are_expensive_to_compare_is_refused),
                cmocka_unit_test(an_install_section_that_takes_a_name_of_the_host_is_refused),
                cmocka_unit_test(the_names_of_an_install_section_are_bounded),
                cmocka_unit_test(verify_names_every_fault_and_agrees_with_parsing),
                cmocka_unit_test(a_unit_that_was_accepted_once_can_always_be_read),
                cmocka_unit_test(the_last_warning_has_the_number_of_those_left_out),
                cmocka_unit_test(a_file_that_grows_beyond_an_entry_as_json_is_refused),
                cmocka_unit_test(a_file_whose_answer_would_be_too_large_is_refused),
                cmocka_unit_test(without_memory_everything_is_freed),
                cmocka_unit_test(empty_items_and_items_without_specifiers_allocate_nothing),
                cmocka_unit_test(a_new_text_gets_the_next_number_and_a_stored_one_its_own),
                cmocka_unit_test(a_stored_unit_has_its_revisions),
                cmocka_unit_test(revisions_that_cannot_be_read_are_an_error),
                cmocka_unit_test(the_own_drop_ins_of_an_instance_are_those_that_its_template_has_not),
                cmocka_unit_test(
                        an_instance_follows_a_template_if_only_drop_ins_of_its_own_come_after_its_text),
                cmocka_unit_test(units_have_classes_by_type_and_text),
                cmocka_unit_test(the_samples_are_units_without_a_warning),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
