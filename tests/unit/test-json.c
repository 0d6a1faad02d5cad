#include "tests/lib/test.h"
#include "units/api_json.h"
#include "units/stored_json.h"

static size_t n_compared;

int __real_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b) {
        n_compared++;
        return __real_strcmp(a, b);
}

static void assert_text(const Text *t, const char *expected) {
        assert_int_equal(t->error, 0);
        assert_string_equal(t->chars, expected);
}

static void a_unit_record_keeps_text_owner_and_path(void **state) {
        static const char text[] = "# <mine> & \"yours\"\n[Service]\nExecStart=/bin/echo \xc3\xa4\t\\\n  b\n";
        _cleanup_unit_ Unit *unit = NULL, *again = NULL;
        _cleanup_text_ Text t = {}, bare = {};

        assert_int_equal(unit_parse("a.service", text, strlen(text), &unit, NULL), 0);
        stored_unit_write(&bare, unit);
        assert_true(starts_with(bare.chars, "{\"hash\":\""));
        assert_null(strstr(bare.chars, "owner"));

        assert_int_equal(
                unit_set_owner(unit, "11111111111111111111111111111111", "/etc/fleet/units/a.service"), 0);
        stored_unit_write(&t, unit);
        assert_int_equal(stored_unit_read("a.service", t.chars, t.size, &again, NULL), 0);
        assert_string_equal(again->text, text);
        assert_string_equal(again->hash, unit->hash);
        assert_string_equal(again->owner, "11111111111111111111111111111111");
        assert_string_equal(again->path, "/etc/fleet/units/a.service");
}

/* A restricted host writes its own facts, and fleetctl ssh passes the address to ssh. */
static void an_address_of_facts_has_one_text_and_counts_as_absent_if_it_is_none(void **state) {
        static const struct {
                const char *address, *kept;
        } rows[] = {
                { "10.0.0.1", "10.0.0.1" },
                { "FD00:0::1", "fd00::1" },
                { "::ffff:10.0.0.1", "10.0.0.1" },
                { "ssh://root@h", "" },
                { "-oProxyCommand=x", "" },
                { "x$(touch /x)", "" },
                { "root@10.0.0.1", "" },
                { "10.0.0.1:22", "" },
                { "[fd00::1]", "" },
                { "fe80::1%eth0", "" },
                { "alpha", "" },
                { "10.0.0", "" },
                { "10.0.0.1 ", "" },
                { "", "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_machine_ Machine machine = {};
                _cleanup_text_ Text json = {};

                text_printf(&json, "{\"address\":\"%s\",\"name\":\"alpha\"}", rows[i].address);
                assert_int_equal(stored_facts_read(json.chars, json.size, &machine, NULL), 0);
                assert_string_equal(machine.name, "alpha");
                assert_string_equal(machine.address ?: "", rows[i].kept);
                assert_int_equal(!!machine.address, !!*rows[i].kept);
        }
}

static void a_problem_is_read_back_and_an_older_daemon_knows_its_kind(void **state) {
        static const struct {
                const char *json;
                ProblemKind kind;
        } rows[] = {
                { "{\"confirmed\":true,\"kind\":\"held\",\"text\":\"its file is gone\",\"unit\":7}",
                  PROBLEM_HELD },
                { "{\"kind\":\"refused\",\"warning\":true}", PROBLEM_WARNED },
                { "{\"kind\":\"refused\",\"unowned\":true,\"warning\":true}", PROBLEM_UNOWNED },
        };
        Problem none = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_problem_ Problem problem = {};
                _cleanup_text_ Text t = {};

                assert_int_equal(stored_problem_read(rows[i].json, strlen(rows[i].json), &problem, NULL), 0);
                assert_int_equal(problem.kind, rows[i].kind);
                stored_problem_write(&t, &problem);
                assert_text(&t, rows[i].json);
        }
        assert_int_equal(stored_problem_read("{\"kind\":\"lost\"}", 15, &none, NULL), -EBADMSG);
}

static void invalid_records_are_rejected_with_a_message(void **state) {
        static const struct {
                const char *json, *message;
        } rows[] = {
                { "{\"order\":\"jump\"}", "order: 'jump' is none of load, run, stop" },
                { "{}", "order: '' is none of load, run, stop" },
                { "[]", "expected a JSON object" },
                { "{\"order\":\"run\",\"order\":\"stop\"}",
                  "line 1, column 22: duplicate object key near '\"order\"'" },
                { "{\"order\":\"run\"} x", "line 1, column 17: end of file expected near 'x'" },
                { "", "line 1, column 0: '[' or '{' expected near end of file" },
                { "{\"order\":\"a\\u0000b\"}",
                  "line 1, column 19: \\u0000 is not allowed without JSON_ALLOW_NUL near '\"a\\u0000b\"'" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Assignment assignment = {};
                Error err = {};

                assert_int_equal(
                        stored_assignment_read(rows[i].json, strlen(rows[i].json), &assignment, &err),
                        -EBADMSG);
                assert_string_equal(err.message, rows[i].message);
        }
}

/* One field of each type. */
typedef struct Fields {
        const char *text;
        char *owned, *owned_or_null;
        char chars[4], cut[4], skipped[4];
        uint64_t number;
        bool yes, no;
        TargetState word;
        Pairs pairs;
} Fields;

static const JsonWords field_words = { target_state_names, _TARGET_MAX, -EINVAL };
static const JsonField fields[] = {
        { "chars", JSON_FIELD_CHARS, offsetof(Fields, chars), .size = 4 },
        { "cut", JSON_FIELD_CHARS_CUT, offsetof(Fields, cut), .size = 4 },
        { "no", JSON_FIELD_NOT, offsetof(Fields, no) },
        { "null", JSON_FIELD_OWNED_OR_NULL, offsetof(Fields, owned_or_null) },
        { "number", JSON_FIELD_U64, offsetof(Fields, number) },
        { "owned", JSON_FIELD_OWNED, offsetof(Fields, owned) },
        { "pairs", JSON_FIELD_PAIRS, offsetof(Fields, pairs) },
        { "skipped", JSON_FIELD_CHARS_SKIPPED, offsetof(Fields, skipped), .size = 4 },
        { "text", JSON_FIELD_TEXT, offsetof(Fields, text) },
        { "word", JSON_FIELD_WORD, offsetof(Fields, word), .words = &field_words },
        { "yes", JSON_FIELD_BOOL, offsetof(Fields, yes) },
};

static int read_fields(const char *json, const JsonField *table, size_t n, Fields *ret, JsonValue **ret_root,
                       Error *err) {
        assert_int_equal(json_value_parse(json, strlen(json), ret_root, NULL), 0);
        return json_read_fields(*ret_root, table, n, ret, err);
}

static void fields_done(Fields *f) {
        free(f->owned);
        free(f->owned_or_null);
        pairs_done(&f->pairs);
}

static void fields_of_each_type_are_read_and_written(void **state) {
        static const char json[] =
                "{\"chars\":\"abc\",\"cut\":\"abc\",\"no\":false,\"null\":\"n\",\"number\":7,"
                "\"owned\":\"o\",\"pairs\":{\"k\":\"v\"},\"skipped\":\"abc\",\"text\":\"t\","
                "\"word\":\"loaded\",\"yes\":true}";
        _cleanup_(fields_done) Fields f = { .word = _TARGET_INVALID }, empty = { .word = _TARGET_INVALID },
                                      longer = { .word = TARGET_LOADED };
        _cleanup_json_ JsonValue *root = NULL, *none = NULL, *root_of_longer = NULL;
        _cleanup_text_ Text t = {}, t_empty = {};

        assert_int_equal(read_fields(json, JSON_FIELDS(fields), &f, &root, NULL), 0);
        json_write_object(&t, JSON_FIELDS(fields), &f);
        assert_text(&t, json);

        assert_int_equal(
                read_fields("{\"null\":\"\",\"word\":\"\"}", JSON_FIELDS(fields), &empty, &none, NULL), 0);
        assert_null(empty.text);
        assert_null(empty.owned_or_null);
        assert_string_equal(empty.owned, "");
        assert_int_equal(empty.word, _TARGET_INVALID);
        assert_false(empty.no);
        json_write_object(&t_empty, JSON_FIELDS(fields), &empty);
        assert_text(&t_empty, "{}");

        assert_int_equal(read_fields("{\"cut\":\"abcd\",\"skipped\":\"abcd\",\"no\":true}",
                                     JSON_FIELDS(fields), &longer, &root_of_longer, NULL),
                         0);
        assert_string_equal(longer.cut, "abc");
        assert_string_equal(longer.skipped, "");
        assert_int_equal(longer.word, TARGET_LOADED); /* absent: unchanged */
        assert_false(longer.no);
}

static void a_field_that_breaks_its_rule_is_named(void **state) {
        static const JsonField required[] = {
                { "number", JSON_FIELD_U64, offsetof(Fields, number), true },
                { "text", JSON_FIELD_TEXT, offsetof(Fields, text), true },
                { "word", JSON_FIELD_WORD, offsetof(Fields, word), true, .words = &field_words },
        };
        static const struct {
                const char *json;
                bool required;
                int r;
                const char *message;
        } rows[] = {
                { "{\"chars\":\"abcd\"}", false, -EBADMSG, "chars: longer than 3 bytes" },
                { "{\"word\":\"lo\"}", false, -EINVAL, "word: 'lo' is none of inactive, loaded, launched" },
                { "{\"number\":\"1\"}", false, -EBADMSG, "number: expected a whole number" },
                { "{\"no\":0}", false, -EBADMSG, "no: expected true or false" },
                { "{\"yes\":0}", false, -EBADMSG, "yes: expected true or false" },
                { "{\"owned\":0}", false, -EBADMSG, "owned: expected a string" },
                { "{\"pairs\":[]}", false, -EBADMSG, "pairs: expected an object of strings" },
                { "{\"text\":\"\",\"word\":\"loaded\"}", true, -EBADMSG, "number: missing" },
                { "{\"number\":0,\"text\":\"\"}", true, -EBADMSG, "number: missing" },
                { "{\"number\":1,\"word\":\"loaded\"}", true, -EBADMSG, "text: missing" },
                { "{\"number\":1,\"text\":\"\"}", true, -EINVAL,
                  "word: '' is none of inactive, loaded, launched" },
                { "{\"number\":1,\"text\":\"\",\"word\":\"loaded\"}", true, 0, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_(fields_done) Fields f = {};
                Error err = {};

                assert_int_equal(read_fields(rows[i].json, rows[i].required ? required : fields,
                                             rows[i].required ? ELEMENTS(required) : ELEMENTS(fields), &f,
                                             &root, &err),
                                 rows[i].r);
                assert_string_equal(err.message, rows[i].message);
        }
}

static void api_units_are_fleets_with_members_of_ours(void **state) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_text_ Text t = {};
        ApiUnit unit = API_UNIT_EMPTY;

        assert_int_equal(
                unit_file_parse("[Service]\nExecStart=/bin/true\nA=\n", 33, UNIT_FILE_LITERAL, &file, NULL),
                0);
        unit.name = "a.service";
        unit.file = &file;
        unit.desired_state = TARGET_LAUNCHED;
        unit.current_state = TARGET_LOADED;
        unit.machine_id = "1111";
        unit.reason = "fewest units";
        api_unit_write(&t, &unit);
        assert_text(&t,
                    "{\"currentState\":\"loaded\",\"desiredState\":\"launched\",\"machineID\":\"1111\","
                    "\"name\":\"a.service\","
                    "\"options\":[{\"name\":\"ExecStart\",\"section\":\"Service\",\"value\":\"/bin/true\"},"
                    "{\"name\":\"A\",\"section\":\"Service\"}],\"reason\":\"fewest units\"}");

        _cleanup_api_unit_ ApiUnit again = API_UNIT_EMPTY;
        assert_int_equal(api_unit_read(t.chars, t.size, &again, NULL), 0);
        assert_string_equal(again.name, "a.service");
        assert_int_equal(again.desired_state, TARGET_LAUNCHED);
        assert_int_equal(again.current_state, TARGET_LOADED);
        assert_int_equal(again.file->n_options, 2);
        assert_string_equal(again.file->options[0].value, "/bin/true");
        assert_string_equal(again.file->options[1].value, "");
        assert_null(again.text);
}

static void requests_of_fleets_client_are_accepted(void **state) {
        static const char created[] = "{\"name\":\"a.service\",\"options\":[{\"section\":\"Service\","
                                      "\"name\":\"A\",\"value\":\"1\"}]}";
        static const char changed[] = "{\"desiredState\":\"loaded\",\"name\":\"a.service\"}";
        static const char garbled[] = "{\"desiredState\":\"broken\"}";
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY, change = API_UNIT_EMPTY, broken = API_UNIT_EMPTY;
        Error err = {};

        assert_int_equal(api_unit_read(created, strlen(created), &unit, NULL), 0);
        assert_int_equal(unit.desired_state, _TARGET_INVALID);
        assert_int_equal(unit.file->n_options, 1);

        assert_int_equal(api_unit_read(changed, strlen(changed), &change, NULL), 0);
        assert_int_equal(change.desired_state, TARGET_LOADED);
        assert_int_equal(change.file->n_options, 0);

        assert_int_equal(api_unit_read(garbled, strlen(garbled), &broken, &err), -EINVAL);
        assert_string_equal(err.message, "desiredState: 'broken' is none of inactive, loaded, launched");
}

static void contents_come_as_text_or_as_options(void **state) {
        static const char options[] = "{\"options\":[{\"section\":\"S\",\"name\":\"A\",\"value\":\"1\"},"
                                      "{\"section\":\"T\",\"name\":\"B\"}]}";
        static const char text[] = "{\"options\":[{\"section\":\"S\",\"name\":\"A\",\"value\":\"1\"}],"
                                   "\"text\":\"# mine\\n[S]\\nA=1\\n\"}";
        static const char hidden[] =
                "{\"options\":[{\"section\":\"S\",\"name\":\"A\",\"value\":\"1\\n[X-Fleet]\\nGlobal=t\"}]}";
        static const char broken[] = "{\"options\":[{\"section\":\"S\",\"name\":\"A\\nB\",\"value\":\"1\"}]}";
        _cleanup_api_unit_ ApiUnit a = API_UNIT_EMPTY, b = API_UNIT_EMPTY, c = API_UNIT_EMPTY,
                                   d = API_UNIT_EMPTY;
        _cleanup_unit_ Unit *from_options = NULL, *from_text = NULL, *from_hidden = NULL, *none = NULL;

        assert_int_equal(api_unit_read(options, strlen(options), &a, NULL), 0);
        assert_int_equal(api_unit_contents("a.service", &a, &from_options, NULL), 0);
        assert_string_equal(from_options->text, "[S]\nA=1\n\n[T]\nB=\n");

        assert_int_equal(api_unit_read(text, strlen(text), &b, NULL), 0);
        assert_int_equal(api_unit_contents("a.service", &b, &from_text, NULL), 0);
        assert_string_equal(from_text->text, "# mine\n[S]\nA=1\n");

        /* A newline in a value begins a new line of the file. */
        assert_int_equal(api_unit_read(hidden, strlen(hidden), &c, NULL), 0);
        assert_int_equal(api_unit_contents("a.service", &c, &from_hidden, NULL), 0);
        assert_true(from_hidden->placement.global);

        assert_int_equal(api_unit_read(broken, strlen(broken), &d, NULL), 0);
        assert_int_equal(api_unit_contents("a.service", &d, &none, NULL), -EBADMSG);
        assert_true(api_unit_has_contents(&d));
        assert_false(api_unit_has_contents(&API_UNIT_EMPTY));
}

/* The daemon leaves out empty members: each option is then an object of two bytes. */
static void an_answer_with_many_empty_options_is_read_and_no_such_request_is(void **state) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_api_page_ ApiPage page = {};
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_text_ Text one = {}, many = {};
        ApiUnit written = API_UNIT_EMPTY;

        for (int i = 0; i < 5000; i++)
                assert_int_equal(unit_file_add(&file, "", "", "", 0), 0);
        written.file = &file;
        written.name = "x.service";
        api_unit_write(&one, &written);
        api_page_write(&many, &api_units_page, &written, 1, NULL);
        assert_int_equal(api_unit_read_answer(one.chars, one.size, &unit, NULL), 0);
        assert_int_equal(unit.file->n_options, 5000);
        assert_int_equal(api_page_read(&api_units_page, many.chars, many.size, &page, NULL), 0);
        assert_int_equal(page.units[0].file->n_options, 5000);
        api_page_done(&page);
        api_unit_done(&unit);
        assert_int_equal(api_unit_read(one.chars, one.size, &unit, NULL), -EFBIG);
        assert_int_equal(api_units_read(many.chars, many.size, 10, &page, NULL), -EFBIG);
}

static void pages_name_the_next_one_and_empty_ones_are_empty(void **state) {
        ApiMachine machines[2] = { { .id = "1111", .primary_ip = "10.0.0.1" }, { .id = "2222" } };
        ApiState states[1] = { { .name = "a.service",
                                 .machine_id = "1111",
                                 .load = "loaded",
                                 .active = "active",
                                 .sub = "running",
                                 .hash = "abc" } };
        ApiUnit units[2] = { API_UNIT_EMPTY, API_UNIT_EMPTY };
        _cleanup_api_page_ ApiPage page = {}, state_page = {}, machine_page = {}, empty = {};
        _cleanup_text_ Text t = {};

        units[0].name = "a.service";
        units[1].name = "b.service";
        api_page_write(&t, &api_units_page, units, 2, "ZAACAA==");
        assert_text(&t, "{\"nextPageToken\":\"ZAACAA==\",\"units\":[{\"name\":\"a.service\"},{\"name\":\"b."
                        "service\"}]}");
        assert_int_equal(api_page_read(&api_units_page, t.chars, t.size, &page, NULL), 0);
        assert_int_equal(page.n, 2);
        assert_string_equal(page.units[1].name, "b.service");
        assert_string_equal(page.next_token, "ZAACAA==");

        text_clear(&t);
        api_page_write(&t, &api_states_page, states, 1, NULL);
        assert_text(&t, "{\"states\":[{\"hash\":\"abc\",\"machineID\":\"1111\",\"name\":\"a.service\","
                        "\"systemdActiveState\":\"active\","
                        "\"systemdLoadState\":\"loaded\",\"systemdSubState\":\"running\"}]}");
        assert_int_equal(api_page_read(&api_states_page, t.chars, t.size, &state_page, NULL), 0);
        assert_string_equal(state_page.states[0].sub, "running");
        assert_null(state_page.next_token);

        text_clear(&t);
        assert_int_equal(pairs_set(&machines[0].metadata, "zone", "a"), 0);
        api_page_write(&t, &api_machines_page, machines, 2, "LQAJAA==");
        pairs_done(&machines[0].metadata);
        assert_text(&t, "{\"machines\":[{\"id\":\"1111\",\"metadata\":{\"zone\":\"a\"},\"primaryIP\":\"10.0."
                        "0.1\"},{\"id\":\"2222\"}],"
                        "\"nextPageToken\":\"LQAJAA==\"}");
        assert_int_equal(api_page_read(&api_machines_page, t.chars, t.size, &machine_page, NULL), 0);
        assert_string_equal(pairs_get(&machine_page.machines[0].metadata, "zone"), "a");

        text_clear(&t);
        api_page_write(&t, &api_units_page, NULL, 0, NULL);
        assert_text(&t, "{}");
        assert_int_equal(api_page_read(&api_units_page, t.chars, t.size, &empty, NULL), 0);
        assert_int_equal(empty.n, 0);
}

static void errors_have_a_message_even_an_empty_one(void **state) {
        static const struct {
                int code;
                const char *message, *cause, *json;
        } rows[] = {
                { 404, "unit does not exist", "", "{\"code\":404,\"message\":\"unit does not exist\"}" },
                { 500, NULL, NULL, "{\"code\":500,\"message\":\"\"}" },
                { 503, "not now", "no leader",
                  "{\"code\":503,\"message\":\"not now\",\"cause\":\"no leader\"}" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text t = {}, expected = {};

                api_error_write(&t, rows[i].code, rows[i].message, rows[i].cause);
                text_printf(&expected, "{\"error\":%s}", rows[i].json);
                assert_text(&t, expected.chars);
        }
}

static void an_error_of_any_shape_is_read_or_refused(void **state) {
        static const struct {
                const char *json;
                int r, code;
                const char *message;
        } rows[] = {
                { "{\"error\":{\"code\":999,\"message\":\"a\\nb\"}}", 0, 999, "a?b" },
                { "{\"error\":{\"code\":1000,\"message\":\"0123456789\"}}", 0, 999,
                  "0123456" }, /* as much as there is room for */
                { "{\"error\":{}}", 0, 0, "" },
                { "{\"error\":{\"cause\":\"b\",\"message\":\"a\"}}", 0, 0, "a; b" },
                { "{\"error\":{\"cause\":1}}", -EBADMSG },
                { "{\"error\":[]}", -EBADMSG },
                { "{\"error\":{\"code\":\"1\"}}", -EBADMSG },
                { "{\"error\":{\"message\":1}}", -EBADMSG },
                { "{}", -EBADMSG },
                { "{", -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char message[8] = "before";
                int code = 7;

                assert_int_equal(
                        api_error_read(rows[i].json, strlen(rows[i].json), &code, message, sizeof(message)),
                        rows[i].r);
                assert_int_equal(code, rows[i].r == 0 ? rows[i].code : 7);
                assert_string_equal(message, rows[i].r == 0 ? rows[i].message : "before");
        }
}

static void values_are_written_with_commas_where_they_are_due(void **state) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {};
        size_t list;

        json_open(&t, NULL, '{');
        json_close_list(&t, json_open_list(&t, "without"));
        json_add_bool(&t, "t", true);
        json_close_list(&t, json_open_list(&t, "nothing"));
        json_add_bool(&t, "not", false);
        json_write_fields(&t, &(JsonField) { "f", JSON_FIELD_NOT }, 1, &(bool) { true });
        json_add_u64(&t, "n", 10);
        json_add_u64(&t, "none", 0);
        json_add_string(&t, "empty", "");
        json_add_string_always(&t, "e", NULL);
        json_open(&t, "a", '[');
        json_add_item(&t, "x");
        json_add_item(&t, "");
        json_open(&t, NULL, '[');
        json_close(&t, ']');
        json_open(&t, NULL, '{');
        json_close(&t, '}');
        json_close(&t, ']');
        list = json_open_list(&t, "l");
        json_add_item(&t, "y");
        json_close_list(&t, list);
        json_add_u64(&t, "z", 19);
        json_close(&t, '}');
        assert_text(&t, "{\"t\":true,\"f\":false,\"n\":10,\"e\":\"\",\"a\":[\"x\",\"\",[],{}],\"l\":[\"y\"],"
                        "\"z\":19}");
        assert_int_equal(json_value_parse(t.chars, t.size, &root, NULL), 0);
        assert_int_equal(json_value_type(json_value_member(root, "e")), JSON_VALUE_OTHER);
        assert_int_equal(json_value_type(json_value_member(root, "a")), JSON_VALUE_ARRAY);
        assert_int_equal(json_value_type(root), JSON_VALUE_OBJECT);
        assert_int_equal(json_value_type(NULL), JSON_VALUE_OTHER);
}

static int stop_at_second(void *userdata, const char *name, const JsonValue *v) {
        unsigned *n = userdata;

        return ++*n == 2 ? -EINTR : 0;
}

static void numbers_and_flags_are_read_as_such_and_members_until_one_is_enough(void **state) {
        static const char json[] =
                "{\"a\":0,\"b\":9223372036854775807,\"c\":-1,\"d\":1.0,\"t\":true,\"f\":false,\"r\":1.5}";
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t n = 5;
        unsigned count = 0;
        bool b = false;

        assert_int_equal(json_value_parse(json, strlen(json), &root, NULL), 0);
        assert_int_equal(json_value_u64(NULL, &n), -EBADMSG);
        assert_int_equal(json_read_u64(root, "none", &n, NULL), 0);
        assert_int_equal(json_read_u64(root, "c", &n, NULL), -EBADMSG);
        assert_int_equal(json_read_u64(root, "d", &n, NULL), -EBADMSG);
        assert_int_equal(n, 5);
        assert_int_equal(json_read_u64(root, "a", &n, NULL), 0);
        assert_int_equal(n, 0);
        assert_int_equal(json_read_u64(root, "b", &n, NULL), 0);
        assert_true(n == INT64_MAX);
        assert_int_equal(json_read_bool(root, "t", &b, NULL), 0);
        assert_true(b);
        assert_int_equal(json_read_bool(root, "none", &b, NULL), 0);
        assert_true(b);
        assert_int_equal(json_read_bool(root, "f", &b, NULL), 0);
        assert_false(b);
        assert_int_equal(json_value_each(root, stop_at_second, &count), -EINTR);
        assert_int_equal(count, 2);
}

static void a_text_is_read_up_to_its_limit(void **state) {
        _cleanup_free_ char *text = malloc(JSON_SIZE_MAX + 1);
        _cleanup_json_ JsonValue *root = NULL;
        Error err = {};

        memset(text, ' ', JSON_SIZE_MAX + 1);
        memcpy(text, "[]", 2);
        assert_int_equal(json_value_parse(text, JSON_SIZE_MAX + 1, &root, &err), -EFBIG);
        assert_string_equal(err.message,
                            "the JSON text is too large: 16777217 bytes, at most 16777216 are taken");
        assert_null(root);
        assert_int_equal(json_value_parse_large(text, JSON_SIZE_MAX, &root, NULL), 0);
}

static void any_bytes_are_written_as_text_or_in_base64(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
                const char *json;
        } cases[] = {
                { "", 0, "{\"v\":\"\"}" },
                { "text \xc3\xa4\"", 8, "{\"v\":\"text \xc3\xa4\\\"\"}" },
                { "\0", 1, "{\"v64\":\"AA==\"}" },
                { "\xff\xfe", 2, "{\"v64\":\"//4=\"}" },
                { "a\0b\xff", 4, "{\"v64\":\"YQBi/w==\"}" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_free_ char *back = NULL;
                _cleanup_text_ Text t = {};
                size_t size;

                json_open(&t, NULL, '{');
                json_add_bytes(&t, "v", cases[i].bytes, cases[i].size);
                json_close(&t, '}');
                assert_text(&t, cases[i].json);
                assert_int_equal(json_value_parse(t.chars, t.size, &root, NULL), 0);
                assert_int_equal(json_read_bytes(root, "v", &back, &size, NULL), 1);
                assert_int_equal(size, cases[i].size);
                assert_memory_equal(back, cases[i].bytes, size);
        }
}

static void bytes_have_exactly_one_member(void **state) {
        static const char *const bad[] = { "{\"v\":\"\",\"v64\":\"\"}", "{\"v\":1}", "{\"v64\":[]}",
                                           "{\"v64\":\"A\"}", "{\"v64\":\"A A=\"}" };
        char *back;
        size_t size;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_json_ JsonValue *root = NULL;
                Error err = {};

                assert_int_equal(json_value_parse(bad[i], strlen(bad[i]), &root, NULL), 0);
                assert_int_equal(json_read_bytes(root, "v", &back, &size, &err), -EBADMSG);
                assert_int_not_equal(err.message[0], 0);
                assert_int_equal(json_read_bytes(root, "w", &back, &size, &err), 0);
        }
}

static int count_members(void *userdata, const char *name, const JsonValue *v) {
        unsigned *n = userdata;

        (*n)++;
        return streq(name, "stop");
}

static void absent_values_are_read_as_empty(void **state) {
        static const char json[] = "{\"a\":[1,\"x\",null,{\"b\":true}],\"n\":null,\"s\":\"\"}";
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *array;
        unsigned n = 0;

        assert_int_equal(json_value_parse(json, strlen(json), &root, NULL), 0);
        array = json_value_member(root, "a");
        assert_int_equal(json_value_count(array), 4);
        assert_string_equal(json_value_string(json_value_item(array, 1)), "x");
        assert_int_equal(json_value_type(json_value_item(array, 0)), JSON_VALUE_OTHER);
        assert_int_equal(json_value_type(json_value_item(array, 2)), JSON_VALUE_OTHER);
        assert_null(json_value_item(array, 4));
        assert_null(json_value_member(array, "a"));
        assert_null(json_value_member(json_value_member(root, "absent"), "a"));
        assert_null(json_value_member(root, "n"));
        assert_null(json_value_string(array));
        assert_string_equal(json_value_string(json_value_member(root, "s")), "");
        assert_int_equal(json_value_count(root), 0);
        assert_int_equal(json_value_each(root, count_members, &n), 0);
        assert_int_equal(n, 3);
        assert_int_equal(json_value_each(NULL, count_members, &n), 0);
}

static void a_member_in_other_case_counts_without_an_exact_one(void **state) {
        static const char json[] =
                "{\"B\":\"other\",\"Desired\":\"x\",\"b\":\"exact\",\"c\":null,\"C\":\"said\"}";
        _cleanup_json_ JsonValue *root = NULL;

        assert_int_equal(json_value_parse(json, strlen(json), &root, NULL), 0);
        assert_string_equal(json_value_string(json_value_member(root, "b")), "exact");
        assert_string_equal(json_value_string(json_value_member(root, "B")), "other");
        assert_string_equal(json_value_string(json_value_member(root, "desired")), "x");
        assert_string_equal(json_value_string(json_value_member(root, "c")), "said");
        assert_null(json_value_member(root, "desire"));
}

/* Fleet writes pairs in their order. */
static void reading_pairs_in_order_takes_few_comparisons_for_each(void **state) {
        _cleanup_json_ JsonValue *object = NULL;
        _cleanup_pairs_ Pairs pairs = {};
        _cleanup_text_ Text t = {};

        text_append(&t, "{\"metadata\":{");
        for (int i = 0; i < JSON_MEMBERS_MAX; i++)
                text_printf(&t, "%s\"key%04d\":\"v\"", i > 0 ? "," : "", i);
        text_append(&t, "}}");
        assert_int_equal(json_value_parse(t.chars, t.size, &object, NULL), 0);
        n_compared = 0;
        assert_int_equal(
                json_read_fields(object, &(JsonField) { "metadata", JSON_FIELD_PAIRS }, 1, &pairs, NULL), 0);
        assert_int_equal(pairs.n, JSON_MEMBERS_MAX);
        assert_in_range(n_compared, JSON_MEMBERS_MAX, JSON_MEMBERS_MAX * 20);
}

/* 'n' times 'item' with commas between, in 'before' and 'after'. */
static void repeat(Text *t, const char *before, const char *item, size_t n, const char *after) {
        text_append(t, before);
        for (size_t i = 0; i < n; i++)
                text_printf(t, "%s%s", i > 0 ? "," : "", item);
        text_append(t, after);
        assert_int_equal(t->error, 0);
}

static void a_text_of_more_containers_than_its_size_allows_is_refused(void **state) {
        static const struct {
                const char *before, *item, *after;
                size_t n;
                const char *message; /* NULL: it is read */
        } rows[] = {
                { "[", "{}", "]", 4095, NULL },
                { "[", "{}", "]", 4096, "more than 4096 objects, arrays and items in 12289 bytes" },
                { "[", "[]", "]", 4096, "more than 4096 objects, arrays and items in 12289 bytes" },
                { "{\"a\":[", "{}", "]}", 100000,
                  "more than 37500 objects, arrays and items in 300007 bytes" },
                { "[", "{\"ab\":1}", "]", 100000, NULL },
                { "[", "\"{[,\\\"{[,\\\\\"", "]", 10000, NULL }, /* brackets and commas in strings are none */
                { "[", "1", "]", 4096, NULL },
                { "[", "1", "]", 4097, "more than 4096 objects, arrays and items in 8195 bytes" },
                { "[", "\"\"", "]", 4097, "more than 4096 objects, arrays and items in 12292 bytes" },
                { "{\"a\":[{},[],", "null", "]}", 4094,
                  "more than 4096 objects, arrays and items in 20483 bytes" },
                { "[{\"a\":{}},", "1", "]", 4094, NULL },
                { "[{\"a\":{}},", "1", "]", 4095, "more than 4096 objects, arrays and items in 8200 bytes" },
                { "[", "[] , 1 ", "]", 2048, NULL },
                { "[", "[] , 1 ", "]", 2049, "more than 4096 objects, arrays and items in 16393 bytes" },
                { "[", "\"1.mount\"", "]", 100000, NULL }, /* the shortest names of units */
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text t = {};
                Error err = {};

                repeat(&t, rows[i].before, rows[i].item, rows[i].n, rows[i].after);
                assert_int_equal(json_value_parse(t.chars, t.size, &root, &err),
                                 rows[i].message ? -EFBIG : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

static void members_object(Text *t, size_t n) {
        text_append_char(t, '{');
        for (size_t i = 0; i < n; i++)
                text_printf(t, "%s\"m%zu\":0", i > 0 ? "," : "", i);
        text_append_char(t, '}');
}

static void an_object_of_too_many_members_is_refused_wherever_it_is(void **state) {
        static const struct {
                const char *before, *after;
                size_t n;
                bool refused;
        } rows[] = {
                { "", "", JSON_MEMBERS_MAX, false },
                { "", "", JSON_MEMBERS_MAX + 1, true },
                { "[{\"a\":[[],{}],\"b\":", "}]", JSON_MEMBERS_MAX, false },
                { "[{\"a\":[[],{}],\"b\":", "}]", JSON_MEMBERS_MAX + 1, true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text object = {}, t = {};
                Error err = {};

                members_object(&object, rows[i].n);
                repeat(&t, rows[i].before, object.chars, 1, rows[i].after);
                assert_int_equal(json_value_parse(t.chars, t.size, &root, &err),
                                 rows[i].refused ? -EFBIG : 0);
                assert_string_equal(err.message,
                                    rows[i].refused ? "more than 1000 members in one object" : "");
                root = json_value_free(root);
                assert_int_equal(json_value_parse_large(t.chars, t.size, &root, NULL),
                                 0); /* an export of keys is one object */
        }
}

/* The limit counts the members of each object separately, also in nested objects. */
static void a_text_of_many_full_objects_is_read(void **state) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text object = {}, t = {};

        members_object(&object, JSON_MEMBERS_MAX);
        repeat(&t, "{\"a\":0,\"list\":[", object.chars, 20, "],\"b\":0}");
        assert_int_equal(json_value_parse(t.chars, t.size, &root, NULL), 0);
        assert_int_equal(json_value_count(json_value_member(root, "list")), 20);
}

static void invalid_json_of_any_size_is_rejected_as_such(void **state) {
        static const char bytes[] = "[]{}\"\\,";

        for (const char *b = bytes; *b; b++)
                for (size_t n = 1; n <= 1024; n *= 2) {
                        _cleanup_free_ char *text = malloc(n);
                        JsonValue *root;

                        memset(text, *b, n);
                        assert_int_equal(json_value_parse(text, n, &root, NULL), -EBADMSG);
                }
}

static void nested_arrays_have_a_limit(void **state) {
        char text[2 * (JSON_DEPTH_MAX + 1)];
        Error err = {};

        for (size_t depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
                _cleanup_json_ JsonValue *root = NULL;

                memset(text, '[', depth);
                memset(text + depth, ']', depth);
                assert_int_equal(json_value_parse(text, 2 * depth, &root, &err),
                                 depth > JSON_DEPTH_MAX ? -EFBIG : 0);
        }
        assert_string_equal(err.message, "more than 2048 objects and arrays in one another");
}

/* -- Members of a wrong type -- */

static int read_unit_record(const char *json, size_t size, Error *err) {
        _cleanup_unit_ Unit *unit = NULL;

        return stored_unit_read("a.service", json, size, &unit, err);
}

static int read_api_unit(const char *json, size_t size, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;

        return api_unit_read(json, size, &unit, err);
}

static void each_member_of_the_wrong_kind_is_named(void **state) {
        static const struct {
                const ApiPageKind *kind; /* read as a page; or by the function */
                int (*read)(const char *json, size_t size, Error *err);
                const char *before, *after, *members; /* each of the members in turn is put in between: names,
                                                         each after a letter: a string, a number, a bool, an
                                                         object, an array, a target state */
        } rows[] = {
                { NULL, read_unit_record, "{\"text\":\"[Service]\\nExecStart=/a\\n\"", "}",
                  "sowner spath scanary sonFailure" },
                { NULL, read_api_unit, "{\"name\":\"a.service\"", "}",
                  "scanary sonFailure sexpectedHash shash smachineID sowner sreason stext tcurrentState "
                  "tdesiredState texpectedState bdestroy bglobal breplace aoptions" },
                { NULL, read_api_unit, "{\"options\":[{\"x\":\"1\"", "}]}", "ssection sname svalue" },
                { &api_units_page, NULL, "{\"x\":1", "}", "snextPageToken aunits" },
                { &api_states_page, NULL, "{\"x\":1", "}", "snextPageToken astates" },
                { &api_states_page, NULL, "{\"states\":[{\"name\":\"a.service\"", "}]}",
                  "shash sjob smachineID ssystemdActiveState ssystemdLoadState ssystemdSubState nsince "
                  "bfinished" },
                { &api_machines_page, NULL, "{\"x\":1", "}", "snextPageToken amachines" },
                { &api_machines_page, NULL, "{\"machines\":[{\"id\":\"1\"", "}]}",
                  "shostname spresence sprimaryIP sproblem srole sversion nsince nunits ometadata" },
        };
        static const char *const kinds[] = { ['s'] = "a string",      ['n'] = "a whole number",
                                             ['b'] = "true or false", ['o'] = "an object of strings",
                                             ['a'] = "an array",      ['t'] = "a string" };
        static const struct {
                const ApiPageKind *kind;
                const char *json;
        } bad[] = {
                { &api_units_page, "[]" },
                { &api_units_page, "{\"units\":[1]}" },
                { &api_states_page, "{\"states\":[1]}" },
                { &api_machines_page, "{\"machines\":[1]}" },
                { &api_services_page, "{\"services\":[{\"ports\":\"http/tcp\"}]}" },
                { &api_endpoints_page, "{\"endpoints\":[{\"ports\":[\"http/tcp\",1]}]}" },
                { &api_machines_page, "{\"machines\":[{\"metadata\":{\"a\":\"b\",\"c\":1}}]}" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *p = rows[i].members;

                for (bool good = false; !good; p += strspn(p, " ")) {
                        int n = (int) strcspn(p + (*p != 0), " "), r;
                        _cleanup_text_ Text json = {}, expected = {};
                        _cleanup_api_page_ ApiPage page = {};
                        Error err = {};

                        good = *p == 0; /* the object without any of them is read */
                        text_append(&json, rows[i].before);
                        if (!good)
                                text_printf(&json, ",\"%.*s\":%s", n, p + 1,
                                            *p == 's' || *p == 't' ? "7" : "\"x\"");
                        text_append(&json, rows[i].after);
                        r = rows[i].kind ? api_page_read(rows[i].kind, json.chars, json.size, &page, &err) :
                                           rows[i].read(json.chars, json.size, &err);
                        if (r != (good ? 0 : -EBADMSG))
                                fail_msg("%s: %d", json.chars, r);
                        if (good)
                                continue;
                        text_printf(&expected, "%.*s: expected %s", n, p + 1, kinds[(unsigned char) *p]);
                        if (!strstr(err.message, expected.chars))
                                fail_msg("%s: %s, not %s", json.chars, err.message, expected.chars);
                        p += 1 + n;
                }
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                ApiPage page = {};

                assert_int_equal(api_page_read(bad[i].kind, bad[i].json, strlen(bad[i].json), &page, NULL),
                                 -EBADMSG);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_member_of_the_wrong_kind_is_named),
                cmocka_unit_test(a_unit_record_keeps_text_owner_and_path),
                cmocka_unit_test(an_address_of_facts_has_one_text_and_counts_as_absent_if_it_is_none),
                cmocka_unit_test(a_problem_is_read_back_and_an_older_daemon_knows_its_kind),
                cmocka_unit_test(invalid_records_are_rejected_with_a_message),
                cmocka_unit_test(fields_of_each_type_are_read_and_written),
                cmocka_unit_test(a_field_that_breaks_its_rule_is_named),
                cmocka_unit_test(api_units_are_fleets_with_members_of_ours),
                cmocka_unit_test(requests_of_fleets_client_are_accepted),
                cmocka_unit_test(contents_come_as_text_or_as_options),
                cmocka_unit_test(an_answer_with_many_empty_options_is_read_and_no_such_request_is),
                cmocka_unit_test(pages_name_the_next_one_and_empty_ones_are_empty),
                cmocka_unit_test(errors_have_a_message_even_an_empty_one),
                cmocka_unit_test(an_error_of_any_shape_is_read_or_refused),
                cmocka_unit_test(values_are_written_with_commas_where_they_are_due),
                cmocka_unit_test(numbers_and_flags_are_read_as_such_and_members_until_one_is_enough),
                cmocka_unit_test(a_text_is_read_up_to_its_limit),
                cmocka_unit_test(any_bytes_are_written_as_text_or_in_base64),
                cmocka_unit_test(bytes_have_exactly_one_member),
                cmocka_unit_test(absent_values_are_read_as_empty),
                cmocka_unit_test(reading_pairs_in_order_takes_few_comparisons_for_each),
                cmocka_unit_test(a_member_in_other_case_counts_without_an_exact_one),
                cmocka_unit_test(a_text_of_more_containers_than_its_size_allows_is_refused),
                cmocka_unit_test(an_object_of_too_many_members_is_refused_wherever_it_is),
                cmocka_unit_test(a_text_of_many_full_objects_is_read),
                cmocka_unit_test(invalid_json_of_any_size_is_rejected_as_such),
                cmocka_unit_test(nested_arrays_have_a_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
