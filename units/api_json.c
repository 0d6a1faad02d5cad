#include "units/api_json.h"

#include <errno.h>
#include <stdio.h>

void api_unit_write(Text *t, const ApiUnit *unit) {
        json_open(t, NULL, '{');
        json_add_string(t, "currentState", target_state_to_string(unit->current_state));
        json_add_string(t, "desiredState", target_state_to_string(unit->desired_state));
        json_add_bool(t, "destroy", unit->destroy);
        json_add_string(t, "expectedHash", unit->expected_hash);
        json_add_string(t, "expectedState", target_state_to_string(unit->expected_state));
        json_add_bool(t, "global", unit->global);
        json_add_string(t, "hash", unit->hash);
        json_add_string(t, "machineID", unit->machine_id);
        json_add_string(t, "name", unit->name);
        if (unit->file && unit->file->n_options > 0) {
                json_open(t, "options", '[');
                for (size_t i = 0; i < unit->file->n_options; i++) {
                        const UnitOption *o = &unit->file->options[i];

                        json_open(t, NULL, '{');
                        json_add_string(t, "name", o->name);
                        json_add_string(t, "section", o->section);
                        json_add_string(t, "value", o->value);
                        json_close(t, '}');
                }
                json_close(t, ']');
        }
        json_add_string(t, "owner", unit->owner);
        json_add_string(t, "reason", unit->reason);
        if (unit->keep)
                json_add_false(t, "replace");
        json_add_string(t, "text", unit->text);
        json_close(t, '}');
}

void api_unit_done(ApiUnit *unit) {
        if (unit->source) {
                unit_file_done((UnitFile *) unit->file);
                free((UnitFile *) unit->file);
                json_value_free(unit->source);
        }
        *unit = API_UNIT_EMPTY;
}

static int read_options(const JsonValue *array, UnitFile **ret, Error *err) {
        UnitFile *file;
        int r = 0;

        if (array && json_value_type(array) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "options: expected an array");
        file = NEW0(UnitFile, 1);
        if (!file)
                return -ENOMEM;

        for (size_t i = 0; i < json_value_count(array) && r >= 0; i++) {
                const JsonValue *item = json_value_item(array, i);
                const char *section = "", *name = "", *value = "";

                if (json_value_type(item) != JSON_VALUE_OBJECT)
                        r = error_set(err, -EBADMSG, "options: expected objects");
                if (r >= 0)
                        r = json_read_string(item, "section", &section, err);
                if (r >= 0)
                        r = json_read_string(item, "name", &name, err);
                if (r >= 0)
                        r = json_read_string(item, "value", &value, err);
                if (r >= 0)
                        r = unit_file_add(file, section, name, value, 0);
        }
        if (r < 0) {
                unit_file_done(file);
                free(file);
                return r;
        }
        *ret = file;
        return 0;
}

static int read_target(const JsonValue *object, const char *name, TargetState *ret, Error *err) {
        const char *s = NULL;
        int r;

        r = json_read_string(object, name, &s, err);
        if (r < 0 || !s || !*s)
                return r;
        *ret = target_state_from_string(s);
        if (*ret < 0)
                return error_set(err, -EINVAL, "%s: '%.32s' is none of inactive, loaded, launched", name, s);
        return 0;
}

static int read_unit(const JsonValue *object, ApiUnit *ret, Error *err) {
        ApiUnit unit = API_UNIT_EMPTY;
        UnitFile *file = NULL;
        bool replace = true;
        const JsonField strings[] = {
                { "expectedHash", &unit.expected_hash },
                { "hash", &unit.hash },
                { "machineID", &unit.machine_id },
                { "name", &unit.name },
                { "owner", &unit.owner },
                { "reason", &unit.reason },
                { "text", &unit.text },
        };
        int r;

        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a unit as a JSON object");
        r = json_read_strings(object, strings, ELEMENTS(strings), err);
        if (r < 0)
                return r;
        r = read_target(object, "currentState", &unit.current_state, err);
        if (r < 0)
                return r;
        r = read_target(object, "desiredState", &unit.desired_state, err);
        if (r < 0)
                return r;
        r = read_target(object, "expectedState", &unit.expected_state, err);
        if (r < 0)
                return r;
        r = json_read_bool(object, "destroy", &unit.destroy, err);
        if (r < 0)
                return r;
        r = json_read_bool(object, "global", &unit.global, err);
        if (r < 0)
                return r;
        r = json_read_bool(object, "replace", &replace, err);
        if (r < 0)
                return r;
        unit.keep = !replace;
        r = read_options(json_value_member(object, "options"), &file, err);
        if (r < 0)
                return r;

        unit.file = file;
        *ret = unit;
        return 0;
}

/* json_value_parse() of a request, json_value_parse_large() of an answer. */
typedef int (*Parse)(const char *text, size_t size, JsonValue **ret, Error *err);

static int read_one_unit(Parse parse, const char *json, size_t size, ApiUnit *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        r = parse(json, size, &root, err);
        if (r < 0)
                return r;
        r = read_unit(root, ret, err);
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

void api_state_write(Text *t, const ApiState *state) {
        json_open(t, NULL, '{');
        json_add_bool(t, "finished", state->finished);
        json_add_string(t, "hash", state->hash);
        json_add_string(t, "job", state->job);
        json_add_string(t, "machineID", state->machine_id);
        json_add_string(t, "name", state->name);
        json_add_u64(t, "since", state->since_ms);
        json_add_string(t, "systemdActiveState", state->active);
        json_add_string(t, "systemdLoadState", state->load);
        json_add_string(t, "systemdSubState", state->sub);
        json_close(t, '}');
}

static int read_state(const JsonValue *object, ApiState *ret, Error *err) {
        ApiState state = {};
        const JsonField strings[] = {
                { "hash", &state.hash },
                { "job", &state.job },
                { "machineID", &state.machine_id },
                { "name", &state.name },
                { "systemdActiveState", &state.active },
                { "systemdLoadState", &state.load },
                { "systemdSubState", &state.sub },
        };
        int r;

        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a unit state as a JSON object");
        r = json_read_strings(object, strings, ELEMENTS(strings), err);
        if (r < 0)
                return r;
        r = json_read_u64(object, "since", &state.since_ms, err);
        if (r < 0)
                return r;
        r = json_read_bool(object, "finished", &state.finished, err);
        if (r < 0)
                return r;
        *ret = state;
        return 0;
}

void api_machine_write(Text *t, const ApiMachine *machine) {
        json_open(t, NULL, '{');
        json_add_string(t, "hostname", machine->hostname);
        json_add_string(t, "id", machine->id);
        json_add_pairs(t, "metadata", &machine->metadata);
        json_add_string(t, "presence", machine->presence);
        json_add_string(t, "primaryIP", machine->primary_ip);
        json_add_string(t, "problem", machine->problem);
        json_add_string(t, "role", machine->role);
        json_add_u64(t, "since", machine->since_ms);
        json_add_u64(t, "units", machine->n_units);
        json_add_string(t, "version", machine->version);
        json_close(t, '}');
}

static int read_machine(const JsonValue *object, ApiMachine *ret, Error *err) {
        ApiMachine machine = {};
        const JsonField strings[] = {
                { "hostname", &machine.hostname }, { "id", &machine.id },
                { "presence", &machine.presence }, { "primaryIP", &machine.primary_ip },
                { "problem", &machine.problem },   { "role", &machine.role },
                { "version", &machine.version },
        };
        int r;

        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a machine as a JSON object");
        r = json_read_strings(object, strings, ELEMENTS(strings), err);
        if (r < 0)
                return r;
        r = json_read_u64(object, "since", &machine.since_ms, err);
        if (r < 0)
                return r;
        r = json_read_u64(object, "units", &machine.n_units, err);
        if (r < 0)
                return r;
        r = json_read_pairs(object, "metadata", &machine.metadata, err);
        if (r < 0) {
                pairs_done(&machine.metadata);
                return r;
        }
        *ret = machine;
        return 0;
}

void api_units_page_write(Text *t, const ApiUnit *units, size_t n, const char *next_token) {
        json_open(t, NULL, '{');
        json_add_string(t, "nextPageToken", next_token);
        if (n > 0) {
                json_open(t, "units", '[');
                for (size_t i = 0; i < n; i++)
                        api_unit_write(t, &units[i]);
                json_close(t, ']');
        }
        json_close(t, '}');
}

void api_states_page_write(Text *t, const ApiState *states, size_t n, const char *next_token) {
        json_open(t, NULL, '{');
        json_add_string(t, "nextPageToken", next_token);
        if (n > 0) {
                json_open(t, "states", '[');
                for (size_t i = 0; i < n; i++)
                        api_state_write(t, &states[i]);
                json_close(t, ']');
        }
        json_close(t, '}');
}

void api_machines_page_write(Text *t, const ApiMachine *machines, size_t n, const char *next_token) {
        json_open(t, NULL, '{');
        if (n > 0) {
                json_open(t, "machines", '[');
                for (size_t i = 0; i < n; i++)
                        api_machine_write(t, &machines[i]);
                json_close(t, ']');
        }
        json_add_string(t, "nextPageToken", next_token);
        json_close(t, '}');
}

void api_page_done(ApiPage *page) {
        for (size_t i = 0; i < page->n; i++) {
                if (page->units && page->units[i].file) {
                        unit_file_done((UnitFile *) page->units[i].file);
                        free((UnitFile *) page->units[i].file);
                }
                if (page->machines)
                        pairs_done(&page->machines[i].metadata);
        }
        free(page->units);
        free(page->states);
        free(page->machines);
        json_value_free(page->source);
        *page = (ApiPage) {};
}

/* What the three kinds of pages have in common. */
static int open_page(Parse parse, const char *json, size_t size, const char *name, size_t max, ApiPage *page,
                     const JsonValue **ret_items, size_t *ret_n, Error *err) {
        const JsonValue *items;
        int r;

        r = parse(json, size, &page->source, err);
        if (r < 0)
                return r;
        if (json_value_type(page->source) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a page as a JSON object");

        items = json_value_member(page->source, name);
        if (items && json_value_type(items) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "%s: expected an array", name);
        if (json_value_count(items) > max)
                return error_set(err, -E2BIG, "%s: more than %zu on one page", name, max);

        r = json_read_string(page->source, "nextPageToken", &page->next_token, err);
        if (r < 0)
                return r;
        if (page->next_token && !*page->next_token)
                page->next_token = NULL;

        *ret_items = items;
        *ret_n = json_value_count(items);
        return 0;
}

static int read_units(Parse parse, const char *json, size_t size, size_t max, ApiPage *ret, Error *err) {
        _cleanup_api_page_ ApiPage page = {};
        const JsonValue *items;
        size_t n;
        int r;

        r = open_page(parse, json, size, "units", max, &page, &items, &n, err);
        if (r < 0)
                return r;
        page.units = NEW0(ApiUnit, n + 1);
        if (!page.units)
                return -ENOMEM;
        for (; page.n < n; page.n++) {
                r = read_unit(json_value_item(items, page.n), &page.units[page.n], err);
                if (r < 0)
                        return r;
        }

        *ret = page;
        page = (ApiPage) {};
        return 0;
}

int api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err) {
        return read_units(json_value_parse, json, size, max, ret, err);
}

int api_units_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        return read_units(json_value_parse_large, json, size, API_PAGE_MAX, ret, err);
}

int api_states_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        _cleanup_api_page_ ApiPage page = {};
        const JsonValue *items;
        size_t n;
        int r;

        r = open_page(json_value_parse_large, json, size, "states", API_PAGE_MAX, &page, &items, &n, err);
        if (r < 0)
                return r;
        page.states = NEW0(ApiState, n + 1);
        if (!page.states)
                return -ENOMEM;
        for (; page.n < n; page.n++) {
                r = read_state(json_value_item(items, page.n), &page.states[page.n], err);
                if (r < 0)
                        return r;
        }

        *ret = page;
        page = (ApiPage) {};
        return 0;
}

int api_machines_page_read(const char *json, size_t size, ApiPage *ret, Error *err) {
        _cleanup_api_page_ ApiPage page = {};
        const JsonValue *items;
        size_t n;
        int r;

        r = open_page(json_value_parse_large, json, size, "machines", API_PAGE_MAX, &page, &items, &n, err);
        if (r < 0)
                return r;
        page.machines = NEW0(ApiMachine, n + 1);
        if (!page.machines)
                return -ENOMEM;
        for (; page.n < n; page.n++) {
                r = read_machine(json_value_item(items, page.n), &page.machines[page.n], err);
                if (r < 0)
                        return r;
        }

        *ret = page;
        page = (ApiPage) {};
        return 0;
}

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
