#include "tests/lib/test.h"
#include "base/text.h"
#include "units/machine.h"
#include "units/stored_json.h"
#include "units/state.h"

static void metadata_is_parsed_and_printed_sorted(void **state) {
        static const struct {
                const char *text, *shown;
        } rows[] = {
                { "", "" },
                { "zone=a", "zone=a" },
                { "zone=a,host=h1", "host=h1,zone=a" },
                { " zone = a , host=h1 ,", "host=h1,zone=a" },
                { "zone=a,zone=b", "zone=b" },
                { "zone=b,zone=a", "zone=a" },
                { "a.b-c_D=x y:/z", "a.b-c_D=x y:/z" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_pairs_ Pairs metadata = {};
                _cleanup_text_ Text t = {};
                Error err = {};

                assert_int_equal(machine_metadata_parse(rows[i].text, &metadata, &err), 0);
                text_append(&t, "");
                for (size_t k = 0; k < metadata.n; k++)
                        text_printf(&t, "%s%s=%s", k > 0 ? "," : "", metadata.items[k].key,
                                    metadata.items[k].value);
                assert_string_equal(t.chars, rows[i].shown);
        }
}

static void invalid_metadata_is_rejected_with_its_text(void **state) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "zone", "metadata 'zone': expected key=value, for example zone=a" },
                { "zone=a,ssd", "metadata 'ssd': expected key=value, for example zone=a" },
                { "zone=a=b", "metadata 'zone=a=b': expected key=value, for example zone=a" },
                { "zone=", "metadata 'zone=': expected a value, for example zone=a" },
                { "=a", "a metadata key cannot be empty" },
                { "zo ne=a", "metadata key 'zo ne': only letters, digits, '_', '.' and '-' are allowed" },
                { "zone=a\x01", "the value of metadata key zone has a control character" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Pairs metadata = {};
                Error err = {};

                assert_int_equal(machine_metadata_parse(rows[i].text, &metadata, &err), -EINVAL);
                assert_string_equal(err.message, rows[i].message);
        }
}

static void each_fact_makes_machines_differ(void **state) {
        static const char *const facts[] = { "\"address\":\"::1\"", "\"boot\":\"b\"",
                                             "\"checks\":\"c\"",    "\"client\":\"http://10.0.0.1:2379\"",
                                             "\"level\":4",         "\"metadata\":{\"zone\":\"a\"}",
                                             "\"name\":\"alpha\"",  "\"peer\":\"p\"",
                                             "\"quadlet\":true",    "\"raftId\":3",
                                             "\"users\":true",      "\"version\":\"0.1.0\"" };

        for (size_t i = 0; i < ELEMENTS(facts); i++) {
                _cleanup_machine_ Machine all = {}, other = {}, copy = {};
                _cleanup_text_ Text t = {}, without = {};

                for (size_t k = 0; k < ELEMENTS(facts); k++) {
                        text_printf(&t, "%c%s", k == 0 ? '{' : ',', facts[k]);
                        if (k != i)
                                text_printf(&without, "%c%s", without.size == 0 ? '{' : ',', facts[k]);
                }
                text_append(&t, "}");
                text_append(&without, "}");
                assert_int_equal(stored_facts_read(t.chars, t.size, &all, NULL), 0);
                assert_int_equal(stored_facts_read(without.chars, without.size, &other, NULL), 0);
                assert_false(json_record_equal(&facts_record, &all, &other));
                assert_false(json_record_equal(&facts_record, &other, &all));
                assert_int_equal(json_record_copy(&facts_record, &other, &copy), 0);
                assert_true(json_record_equal(&facts_record, &other, &copy));
        }
        assert_true(json_record_equal(&facts_record, &(Machine) { .name = NULL },
                                      &(Machine) { .name = (char[]) { "" } }));
}

static void an_id_is_32_hex_digits(void **state) {
        assert_true(machine_id_is_valid("0123456789abcdef0123456789abcdef"));
        assert_false(machine_id_is_valid("0123456789ABCDEF0123456789abcdef"));
        assert_false(machine_id_is_valid("0123456789abcdef0123456789abcde"));
        assert_false(machine_id_is_valid("0123456789abcdef0123456789abcdef0"));
        assert_false(machine_id_is_valid(""));
}

static void states_have_names_both_ways(void **state) {
        for (TargetState s = 0; s < _TARGET_MAX; s++)
                assert_int_equal(target_state_from_string(target_state_to_string(s)), s);
        for (AssignmentKind k = 0; k < _ASSIGNMENT_MAX; k++)
                assert_int_equal(assignment_kind_from_string(assignment_kind_to_string(k)), k);
        for (Presence p = 0; p < _PRESENCE_MAX; p++)
                assert_int_equal(presence_from_string(presence_to_string(p)), p);

        for (ProblemKind k = 0; k < _PROBLEM_MAX; k++)
                assert_int_equal(problem_kind_from_string(problem_kind_to_string(k)), k);

        assert_string_equal(problem_kind_to_string(PROBLEM_TAKEN), "taken");
        assert_null(problem_kind_to_string(_PROBLEM_MAX));
        assert_int_equal(problem_kind_from_string("lost"), _PROBLEM_INVALID);
        assert_string_equal(target_state_to_string(TARGET_INACTIVE), "inactive");
        assert_int_equal(target_state_from_string("Launched"), _TARGET_INVALID);
        assert_null(target_state_to_string(_TARGET_INVALID));
        assert_int_equal(assignment_kind_from_string(""), _ASSIGNMENT_INVALID);
        assert_string_equal(presence_to_string(PRESENCE_AWAY), "away");
}

static void a_failure_at_another_time_and_its_end_make_states_differ(void **state) {
        _cleanup_unit_state_ UnitState a = {}, b = {};

        assert_int_equal(unit_state_init(&a, "loaded", "failed", "failed", NULL, 7, false), 0);
        assert_int_equal(unit_state_init(&b, "loaded", "failed", "failed", NULL, 7, false), 0);
        assert_true(unit_state_equal(&a, &b));
        assert_false(unit_state_failed_again(&a, &b));
        b.done = true;
        assert_false(unit_state_equal(&a, &b));
        b.done = false;
        b.since_ms = 8;
        assert_true(unit_state_lasts(&a, &b));
        assert_true(unit_state_failed_again(&a, &b));
        assert_false(unit_state_equal(&a, &b));
}

/* A daemon that knows the invocation publishes it once, and a missing one changes nothing. */
static void a_new_start_makes_states_differ_but_an_unknown_one_does_not(void **state) {
        static const struct {
                const char *before, *now;
                bool restarted, equal;
        } rows[] = {
                { "", "", false, true },     { "", "1a", false, false },  { "1a", "", false, true },
                { "1a", "1a", false, true }, { "1a", "1b", true, false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_state_ UnitState a = {}, b = {};

                assert_int_equal(unit_state_init(&a, "loaded", "active", "running", NULL, 7, false), 0);
                assert_int_equal(unit_state_init(&b, "loaded", "active", "running", NULL, 8, false), 0);
                strcpy(a.invocation, rows[i].before);
                strcpy(b.invocation, rows[i].now);
                assert_int_equal(unit_state_restarted(&a, &b), rows[i].restarted);
                assert_int_equal(unit_state_lasts(&a, &b), !rows[i].restarted);
                assert_int_equal(unit_state_equal(&a, &b), rows[i].equal);
        }
}

static void each_part_of_a_state_makes_states_differ(void **state) {
        static const char *const rows[][6] = {
                /* load, active, sub, hash, job, reason */
                { "loaded", "active", "running", "abc", "", "" },
                { "masked", "active", "running", "abc", "", "" },
                { "loaded", "failed", "running", "abc", "", "" },
                { "loaded", "active", "exited", "abc", "", "" },
                { "loaded", "active", "running", "abd", "", "" },
                { "loaded", "active", "running", NULL, "", "" },
                { "loaded", "active", "running", "abc", "dependency", "" },
                { "loaded", "active", "running", "abc", "", "timeout" },
                { "loaded", "active", "running", "abc", "", "watchdog" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t k = 0; k < ELEMENTS(rows); k++) {
                        _cleanup_unit_state_ UnitState a = {}, b = {};
                        uint64_t since_ms = streq(rows[k][1], "failed") ? 7 : 8; /* of a failure it counts */

                        assert_int_equal(
                                unit_state_init(&a, rows[i][0], rows[i][1], rows[i][2], rows[i][3], 7, true),
                                0);
                        assert_int_equal(unit_state_init(&b, rows[k][0], rows[k][1], rows[k][2], rows[k][3],
                                                         since_ms, true),
                                         0);
                        strcpy(a.job, rows[i][4]);
                        strcpy(b.job, rows[k][4]);
                        assert_int_equal(unit_state_set_reason(&a, rows[i][5]), 0);
                        assert_int_equal(unit_state_set_reason(&b, rows[k][5]), 0);
                        assert_int_equal(unit_state_equal(&a, &b), i == k);
                        assert_int_equal(a.since_ms, 7);
                        assert_true(a.done);
                }
}

/* What a JSON string would replace differs from the stored state for ever, and is published again each time.
 */
static void a_reason_is_one_line_of_utf8_within_its_limit(void **state) {
        char longest[UNIT_STATE_REASON_SIZE + 8], cut[UNIT_STATE_REASON_SIZE + 8];
        static const char *const rows[][2] = {
                { "Unit a.service not found.", "Unit a.service not found." },
                { "first\nsecond", "first" },
                { "gr\xc3\xbc\xc3\x9f"
                  "e",
                  "gr\xc3\xbc\xc3\x9f"
                  "e" },
                { "caf\xe9 au lait", "caf" },
                { "\xff", NULL },
                { "\nsecond", NULL },
                { "", NULL },
        };
        _cleanup_unit_state_ UnitState s = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(unit_state_set_reason(&s, rows[i][0]), 0);
                assert_true(same_string(s.reason, rows[i][1]));
        }
        for (size_t wide = 0; wide < 2; wide++) { /* a character that does not fit is left out as a whole */
                memset(longest, 'x', sizeof(longest));
                longest[sizeof(longest) - 1] = 0;
                memcpy(cut, longest, sizeof(cut));
                if (wide)
                        memcpy(longest + UNIT_STATE_REASON_SIZE - 5, "\xc3\xbc", 2);
                strcpy(cut + UNIT_STATE_REASON_SIZE - 4 - wide, "...");
                assert_int_equal(unit_state_set_reason(&s, longest), 0);
                assert_string_equal(s.reason, cut);
                memset(longest + UNIT_STATE_REASON_SIZE - 20, ' ', 1);
                strcpy(cut + UNIT_STATE_REASON_SIZE - 20, "...");
                assert_int_equal(unit_state_set_reason(&s, longest), 0);
                assert_string_equal(s.reason, cut);
                longest[UNIT_STATE_REASON_SIZE - 1 - wide] = 0; /* as long as fits */
                assert_int_equal(unit_state_set_reason(&s, longest), 0);
                assert_string_equal(s.reason, longest);
        }
}

static void metadata_are_accepted_up_to_their_limits(void **state) {
        char key[METADATA_KEY_MAX + 2], value[METADATA_VALUE_MAX + 2];
        _cleanup_text_ Text many = {};
        Pairs metadata = {};
        Error err = {};

        memset(key, 'k', sizeof(key) - 1);
        memset(value, 'v', sizeof(value) - 1);
        key[METADATA_KEY_MAX] = value[METADATA_VALUE_MAX] = 0;
        assert_int_equal(machine_metadata_check(key, value, &err), 0);
        key[METADATA_KEY_MAX] = 'k';
        key[METADATA_KEY_MAX + 1] = 0;
        assert_int_equal(machine_metadata_check(key, "", &err), -EINVAL);
        assert_string_equal(err.message,
                            "metadata key kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk... is longer than 128 bytes");
        value[METADATA_VALUE_MAX] = 'v';
        value[METADATA_VALUE_MAX + 1] = 0;
        assert_int_equal(machine_metadata_check("k", value, &err), -EINVAL);
        assert_string_equal(err.message, "the value of metadata key k is longer than 256 bytes");
        for (const char *p = "azAZ09_.-"; *p; p++)
                assert_int_equal(machine_metadata_check((char[]) { *p, 0 }, "", NULL), 0);
        for (const char *p = "`{@[/:, ~"; *p; p++)
                assert_int_equal(machine_metadata_check((char[]) { *p, 0 }, "", NULL), -EINVAL);
        assert_int_equal(machine_metadata_check("k", " ~\x80", NULL), 0);
        assert_int_equal(machine_metadata_check("k", "\x1f", NULL), -EINVAL);
        assert_int_equal(machine_metadata_check("k", "\x7f", NULL), -EINVAL);

        for (unsigned i = 0; i < METADATA_KEYS_MAX; i++)
                text_printf(&many, "k%u=v,", i);
        assert_int_equal(machine_metadata_parse(many.chars, &metadata, &err), 0);
        assert_int_equal(metadata.n, METADATA_KEYS_MAX);
        pairs_done(&metadata);
        text_append(&many, "k0=again");
        assert_int_equal(machine_metadata_parse(many.chars, &metadata, &err), 0);
        pairs_done(&metadata);
        text_append(&many, ",one=more");
        assert_int_equal(machine_metadata_parse(many.chars, &metadata, &err), -EINVAL);
        assert_string_equal(err.message, "more than 128 metadata keys");
}

static void lists_of_names_are_equal_name_by_name(void **state) {
        _cleanup_names_ Names a = {}, b = {};

        assert_true(names_equal(&a, &b));
        assert_int_equal(names_add(&a, "one", 3), 0);
        assert_false(names_equal(&a, &b));
        assert_int_equal(names_add(&b, "one", 3), 0);
        assert_true(names_equal(&a, &b));
        assert_int_equal(names_add(&a, "two", 3), 0);
        assert_int_equal(names_add(&b, "three", 5), 0);
        assert_false(names_equal(&a, &b));
        assert_true(names_have(&a, "one") && names_have(&a, "two"));
        assert_false(names_have(&a, "three") || names_have(&a, ""));
        names_cut(&a, 2);
        assert_int_equal(a.n, 2);
        names_cut(&a, 1);
        names_cut(&b, 1);
        assert_true(names_equal(&a, &b));
        names_cut(&a, 0);
        assert_int_equal(names_add(&a, "other and more", 5), 0);
        assert_false(names_equal(&a, &b));
        assert_string_equal(a.items[0], "other");
        names_cut(&a, 0);
        assert_int_equal(a.n, 0);
        assert_false(names_have(&a, "one"));
}

static void pairs_are_equal_pair_by_pair_found_by_key_replaced_and_removed(void **state) {
        _cleanup_pairs_ Pairs a = {}, b = {};

        assert_true(pairs_equal(&a, &b));
        assert_null(pairs_get(&a, "b"));
        assert_int_equal(pairs_add(&a, "b", "1"), 0);
        assert_false(pairs_equal(&a, &b));
        assert_false(pairs_equal(&b, &a));
        assert_int_equal(pairs_add(&b, "b", "2"), 0);
        assert_false(pairs_equal(&a, &b));
        assert_int_equal(pairs_set(&b, "b", "1"), 0);
        assert_true(pairs_equal(&a, &b));
        assert_int_equal(pairs_add(&b, "d", "1"), 0);
        assert_false(pairs_equal(&a, &b));
        assert_int_equal(pairs_add(&a, "e", "1"), 0);
        assert_false(pairs_equal(&a, &b));
        for (const char *key = "acf"; *key; key++)
                assert_null(pairs_get(&a, (char[]) { *key, 0 }));
        assert_string_equal(pairs_get(&a, "e"), "1");
        pairs_done(&b);
        assert_int_equal(pairs_copy(&a, &b), 0);
        assert_true(pairs_equal(&a, &b));
        assert_int_equal(pairs_set(&a, "none", NULL), 0);
        assert_int_equal(pairs_add(&a, "b", "0"), 0);
        assert_int_equal(pairs_add(&a, "b", "0"), 0); /* it is there */
        assert_int_equal(a.n, 3);
        assert_string_equal(pairs_get(&a, "b"), "0");
        assert_int_equal(pairs_set(&a, "b", "7"), 0); /* replaces both */
        assert_string_equal(pairs_get(&a, "b"), "7");
        assert_int_equal(pairs_set(&a, "e", NULL), 0);
        assert_null(pairs_get(&a, "e"));
        assert_int_equal(a.n, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(metadata_are_accepted_up_to_their_limits),
                cmocka_unit_test(lists_of_names_are_equal_name_by_name),
                cmocka_unit_test(pairs_are_equal_pair_by_pair_found_by_key_replaced_and_removed),
                cmocka_unit_test(each_fact_makes_machines_differ),
                cmocka_unit_test(a_new_start_makes_states_differ_but_an_unknown_one_does_not),
                cmocka_unit_test(each_part_of_a_state_makes_states_differ),
                cmocka_unit_test(a_reason_is_one_line_of_utf8_within_its_limit),
                cmocka_unit_test(metadata_is_parsed_and_printed_sorted),
                cmocka_unit_test(invalid_metadata_is_rejected_with_its_text),
                cmocka_unit_test(an_id_is_32_hex_digits),
                cmocka_unit_test(states_have_names_both_ways),
                cmocka_unit_test(a_failure_at_another_time_and_its_end_make_states_differ),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
