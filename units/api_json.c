#include "units/api_json.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

/* json_value_parse() of a request, json_value_parse_large() of an answer. */
typedef int (*Parse)(const char *text, size_t size, JsonValue **ret, Error *err);

static const JsonWords target_words = { target_state_names, _TARGET_MAX, -EINVAL };

static_assert(sizeof(TargetState) == sizeof(int), "JSON_FIELD_WORD reads and writes an int");

static int api_check_object(const JsonValue *object, const char *what, Error *err) {
        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected %s as a JSON object", what);
        return 0;
}

/* -- Units -- */

static const JsonField option_fields[] = {
        { "name", JSON_FIELD_TEXT, offsetof(UnitOption, name) },
        { "section", JSON_FIELD_TEXT, offsetof(UnitOption, section) },
        { "value", JSON_FIELD_TEXT, offsetof(UnitOption, value) },
};

/* Before and after the member "options". */
static const JsonField unit_fields[] = {
        { "currentState", JSON_FIELD_WORD, offsetof(ApiUnit, current_state), .words = &target_words },
        { "desiredState", JSON_FIELD_WORD, offsetof(ApiUnit, desired_state), .words = &target_words },
        { "destroy", JSON_FIELD_BOOL, offsetof(ApiUnit, destroy) },
        { "expectedHash", JSON_FIELD_TEXT, offsetof(ApiUnit, expected_hash) },
        { "expectedState", JSON_FIELD_WORD, offsetof(ApiUnit, expected_state), .words = &target_words },
        { "global", JSON_FIELD_BOOL, offsetof(ApiUnit, global) },
        { "hash", JSON_FIELD_TEXT, offsetof(ApiUnit, hash) },
        { "machineID", JSON_FIELD_TEXT, offsetof(ApiUnit, machine_id) },
        { "name", JSON_FIELD_TEXT, offsetof(ApiUnit, name) },
}, more_unit_fields[] = {
        { "owner", JSON_FIELD_TEXT, offsetof(ApiUnit, owner) },
        { "reason", JSON_FIELD_TEXT, offsetof(ApiUnit, reason) },
        { "replace", JSON_FIELD_NOT, offsetof(ApiUnit, keep) },
        { "text", JSON_FIELD_TEXT, offsetof(ApiUnit, text) },
};

static void unit_write(Text *t, const void *item) {
        const ApiUnit *unit = item;

        json_open(t, NULL, '{');
        json_write_fields(t, JSON_FIELDS(unit_fields), unit);
        if (unit->file && unit->file->n_options > 0) {
                json_open(t, "options", '[');
                for (size_t i = 0; i < unit->file->n_options; i++)
                        json_write_object(t, JSON_FIELDS(option_fields), &unit->file->options[i]);
                json_close(t, ']');
        }
        json_write_fields(t, JSON_FIELDS(more_unit_fields), unit);
        json_close(t, '}');
}

void api_unit_write(Text *t, const ApiUnit *unit) {
        unit_write(t, unit);
}

static void file_free(UnitFile *file) {
        if (file)
                unit_file_done(file);
        free(file);
}

void api_unit_done(ApiUnit *unit) {
        if (unit->source) {
                file_free((UnitFile *) unit->file);
                json_value_free(unit->source);
        }
        *unit = API_UNIT_EMPTY;
}

static int option_read(const JsonValue *item, UnitFile *file, Error *err) {
        UnitOption option = { .section = "", .name = (char *) "", .value = (char *) "" }; /* borrowed */
        int r;

        if (json_value_type(item) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "options: expected objects");
        r = json_read_fields(item, JSON_FIELDS(option_fields), &option, err);
        return r < 0 ? r : unit_file_add(file, option.section, option.name, option.value, 0);
}

static int options_read_json(const JsonValue *array, UnitFile **ret, Error *err) {
        UnitFile *file;
        int r;

        if (array && json_value_type(array) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "options: expected an array");
        file = NEW0(UnitFile, 1);
        if (!file)
                return -ENOMEM;

        for (size_t i = 0; i < json_value_count(array); i++) {
                r = option_read(json_value_item(array, i), file, err);
                if (r < 0) {
                        file_free(file);
                        return r;
                }
        }
        *ret = file;
        return 0;
}

static int unit_read_json(const JsonValue *object, void *ret, Error *err) {
        ApiUnit unit = API_UNIT_EMPTY;
        UnitFile *file = NULL;
        int r;

        r = api_check_object(object, "a unit", err);
        if (r < 0)
                return r;
        r = json_read_fields(object, JSON_FIELDS(unit_fields), &unit, err);
        if (r < 0)
                return r;
        r = json_read_fields(object, JSON_FIELDS(more_unit_fields), &unit, err);
        if (r < 0)
                return r;
        r = options_read_json(json_value_member(object, "options"), &file, err);
        if (r < 0)
                return r;

        unit.file = file;
        *(ApiUnit *) ret = unit;
        return 0;
}

static int read_one_unit(Parse parse, const char *json, size_t size, ApiUnit *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        r = parse(json, size, &root, err);
        if (r < 0)
                return r;
        r = unit_read_json(root, ret, err);
        if (r < 0)
                return r;

        ret->source = TAKE_PTR(root);
        return 0;
}

int api_unit_read(const char *json, size_t size, ApiUnit *ret, Error *err) {
        return read_one_unit(json_value_parse, json, size, ret, err);
}

int api_unit_read_answer(const char *json, size_t size, ApiUnit *ret, Error *err) {
        return read_one_unit(json_value_parse_large, json, size, ret, err);
}

bool api_unit_has_contents(const ApiUnit *unit) {
        return (unit->text && *unit->text) || (unit->file && unit->file->n_options > 0);
}

int api_unit_contents(const char *name, const ApiUnit *unit, Unit **ret, Error *err) {
        _cleanup_text_ Text t = {};

        if (unit->text && *unit->text)
                return unit_read(name, unit->text, strlen(unit->text), ret, err);

        if (unit->file)
                unit_file_print(unit->file, &t, NULL);
        if (t.error < 0)
                return t.error;
        return unit_read(name, t.chars ? t.chars : "", t.size, ret, err);
}

/* -- States and machines -- */

static const JsonField state_fields[] = {
        { "finished", JSON_FIELD_BOOL, offsetof(ApiState, finished) },
        { "hash", JSON_FIELD_TEXT, offsetof(ApiState, hash) },
        { "job", JSON_FIELD_TEXT, offsetof(ApiState, job) },
        { "machineID", JSON_FIELD_TEXT, offsetof(ApiState, machine_id) },
        { "name", JSON_FIELD_TEXT, offsetof(ApiState, name) },
        { "since", JSON_FIELD_U64, offsetof(ApiState, since_ms) },
        { "systemdActiveState", JSON_FIELD_TEXT, offsetof(ApiState, active) },
        { "systemdLoadState", JSON_FIELD_TEXT, offsetof(ApiState, load) },
        { "systemdSubState", JSON_FIELD_TEXT, offsetof(ApiState, sub) },
};

static const JsonField machine_fields[] = {
        { "hostname", JSON_FIELD_TEXT, offsetof(ApiMachine, hostname) },
        { "id", JSON_FIELD_TEXT, offsetof(ApiMachine, id) },
        { "metadata", JSON_FIELD_PAIRS, offsetof(ApiMachine, metadata) },
        { "presence", JSON_FIELD_TEXT, offsetof(ApiMachine, presence) },
        { "primaryIP", JSON_FIELD_TEXT, offsetof(ApiMachine, primary_ip) },
        { "problem", JSON_FIELD_TEXT, offsetof(ApiMachine, problem) },
        { "role", JSON_FIELD_TEXT, offsetof(ApiMachine, role) },
        { "since", JSON_FIELD_U64, offsetof(ApiMachine, since_ms) },
        { "units", JSON_FIELD_U64, offsetof(ApiMachine, n_units) },
        { "version", JSON_FIELD_TEXT, offsetof(ApiMachine, version) },
};

static void state_write(Text *t, const void *item) {
        json_write_object(t, JSON_FIELDS(state_fields), item);
}

void api_state_write(Text *t, const ApiState *state) {
        state_write(t, state);
}

static int state_read(const JsonValue *object, void *ret, Error *err) {
        int r = api_check_object(object, "a unit state", err);

        return r < 0 ? r : json_read_fields(object, JSON_FIELDS(state_fields), ret, err);
}

static void machine_write(Text *t, const void *item) {
        json_write_object(t, JSON_FIELDS(machine_fields), item);
}

static int machine_read(const JsonValue *object, void *ret, Error *err) {
        ApiMachine *machine = ret;
        int r;

        r = api_check_object(object, "a machine", err);
        if (r < 0)
                return r;
        r = json_read_fields(object, JSON_FIELDS(machine_fields), machine, err);
        if (r < 0)
                pairs_done(&machine->metadata);
        return r;
}

/* -- Pages -- */

typedef struct PageKind {
        const char *name; /* of the array */
        size_t offset;    /* of its items in ApiPage */
        size_t size;      /* of one item */
        void (*write)(Text *t, const void *item);
        int (*read)(const JsonValue *object, void *ret,
                    Error *err); /* into a zeroed item; owns nothing after an error */
} PageKind;

static const PageKind units_page = { "units", offsetof(ApiPage, units), sizeof(ApiUnit), unit_write,
                                     unit_read_json },
                      states_page = { "states", offsetof(ApiPage, states), sizeof(ApiState), state_write,
                                      state_read },
                      machines_page = { "machines", offsetof(ApiPage, machines), sizeof(ApiMachine),
                                        machine_write, machine_read };

static void page_write(Text *t, const PageKind *kind, const void *items, size_t n, const char *next_token) {
        static const char token[] = "nextPageToken";
        bool token_is_first = strcmp(token, kind->name) < 0;

        json_open(t, NULL, '{');
        if (token_is_first)
                json_add_string(t, token, next_token);
        if (n > 0) {
                json_open(t, kind->name, '[');
                for (size_t i = 0; i < n; i++)
                        kind->write(t, (const char *) items + i * kind->size);
                json_close(t, ']');
        }
        if (!token_is_first)
                json_add_string(t, token, next_token);
        json_close(t, '}');
}

void api_units_page_write(Text *t, const ApiUnit *units, size_t n, const char *next_token) {
        page_write(t, &units_page, units, n, next_token);
}

void api_states_page_write(Text *t, const ApiState *states, size_t n, const char *next_token) {
        page_write(t, &states_page, states, n, next_token);
}

void api_machines_page_write(Text *t, const ApiMachine *machines, size_t n, const char *next_token) {
        page_write(t, &machines_page, machines, n, next_token);
}

void api_page_done(ApiPage *page) {
        for (size_t i = 0; i < page->n; i++) {
                if (page->units)
                        file_free((UnitFile *) page->units[i].file);
                if (page->machines)
                        pairs_done(&page->machines[i].metadata);
        }
        free(page->units);
        free(page->states);
        free(page->machines);
        json_value_free(page->source);
        *page = (ApiPage) {};
}

/* Check what is around the items. */
static int page_open(const ApiPage *page, const char *name, size_t max, const JsonValue **ret_items,
                     Error *err) {
        const JsonValue *items;
        int r;

        r = api_check_object(page->source, "a page", err);
        if (r < 0)
                return r;

        items = json_value_member(page->source, name);
        if (items && json_value_type(items) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "%s: expected an array", name);
        if (json_value_count(items) > max)
                return error_set(err, -E2BIG, "%s: more than %zu on one page", name, max);
        *ret_items = items;
        return 0;
}

static int page_read(const PageKind *kind, Parse parse, const char *json, size_t size, size_t max,
                     ApiPage *ret, Error *err) {
        _cleanup_api_page_ ApiPage page = {};
        const JsonValue *items = NULL;
        char *array;
        int r;

        r = parse(json, size, &page.source, err);
        if (r < 0)
                return r;
        r = page_open(&page, kind->name, max, &items, err);
        if (r < 0)
                return r;
        r = json_read_string(page.source, "nextPageToken", &page.next_token, err);
        if (r < 0)
                return r;
        if (page.next_token && !*page.next_token)
                page.next_token = NULL;

        array = calloc(json_value_count(items) + 1, kind->size);
        if (!array)
                return -ENOMEM;
        memcpy((char *) &page + kind->offset, &array, sizeof(array));
        for (; page.n < json_value_count(items); page.n++) {
                r = kind->read(json_value_item(items, page.n), array + page.n * kind->size, err);
                if (r < 0)
                        return r;
        }

        *ret = page;
        page = (ApiPage) {};
        return 0;
}

int api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err) {
        return page_read(&units_page, json_value_parse, json, size, max, ret, err);
}

int api_units_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        return page_read(&units_page, json_value_parse_large, json, size, API_PAGE_MAX, ret, err);
}

int api_states_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        return page_read(&states_page, json_value_parse_large, json, size, API_PAGE_MAX, ret, err);
}

int api_machines_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        return page_read(&machines_page, json_value_parse_large, json, size, API_PAGE_MAX, ret, err);
}

/* -- Errors -- */

void api_error_write(Text *t, int code, const char *message) {
        json_open(t, NULL, '{');
        json_open(t, "error", '{');
        text_printf(t, "\"code\":%d", code);
        json_add_string_always(t, "message", message);
        json_close(t, '}');
        json_close(t, '}');
}

int api_error_read(const char *json, size_t size, int *ret_code, char *ret, size_t ret_size) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *message = "";
        const JsonValue *e;
        uint64_t code = 0;
        int r;

        r = json_value_parse(json, size, &root, NULL);
        if (r < 0)
                return r;
        e = json_value_member(root, "error");
        if (json_value_type(e) != JSON_VALUE_OBJECT)
                return -EBADMSG;
        r = json_read_u64(e, "code", &code, NULL);
        if (r < 0)
                return r;
        r = json_read_string(e, "message", &message, NULL);
        if (r < 0)
                return r;

        *ret_code = MIN(code, (uint64_t) 999);
        snprintf(ret, ret_size, "%s", message);
        text_keep_to_one_line(ret);
        return 0;
}
