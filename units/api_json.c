#include "units/api_json.h"

#include "units/json_record.h"
#include "units/verdict_former.h"

/* json_value_parse() of a request, json_value_parse_large() of an answer. */
typedef int (*Parse)(const char *text, size_t size, JsonValue **ret, Error *err);

static const JsonWords target_words = { target_state_names, _TARGET_MAX, -EINVAL };

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

static void options_write(Text *t, const char *name, const void *field) {
        const UnitFile *file = *(const UnitFile *const *) field;

        if (!file || file->n_options == 0)
                return;
        json_open(t, name, '[');
        for (size_t i = 0; i < file->n_options; i++)
                json_write_object(t, JSON_FIELDS(option_fields), &file->options[i]);
        json_close(t, ']');
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

        if (json_value_type(item) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "options: expected objects");
        TRY(json_read_fields(item, JSON_FIELDS(option_fields), &option, err));
        return unit_file_add(file, option.section, option.name, option.value, 0);
}

static int options_read_json(const JsonValue *array, void *field, Error *err) {
        UnitFile *file;

        if (array && json_value_type(array) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "options: expected an array");
        file = NEW0(UnitFile, 1);
        if (!file)
                return -ENOMEM;
        memcpy(field, &file, sizeof(file)); /* owned by the unit, also after an error */

        for (size_t i = 0; i < json_value_count(array); i++)
                TRY(option_read(json_value_item(array, i), file, err));
        return 0;
}

static const JsonField unit_fields[] = {
        { "canary", JSON_FIELD_TEXT, offsetof(ApiUnit, canary) },
        { "currentState", JSON_FIELD_WORD, offsetof(ApiUnit, current_state), .words = &target_words },
        { "desiredState", JSON_FIELD_WORD, offsetof(ApiUnit, desired_state), .words = &target_words },
        { "destroy", JSON_FIELD_BOOL, offsetof(ApiUnit, destroy) },
        { "expectedHash", JSON_FIELD_TEXT, offsetof(ApiUnit, expected_hash) },
        { "expectedState", JSON_FIELD_WORD, offsetof(ApiUnit, expected_state), .words = &target_words },
        { "global", JSON_FIELD_BOOL, offsetof(ApiUnit, global) },
        { "hash", JSON_FIELD_TEXT, offsetof(ApiUnit, hash) },
        { "machineID", JSON_FIELD_TEXT, offsetof(ApiUnit, machine_id) },
        { "name", JSON_FIELD_TEXT, offsetof(ApiUnit, name) },
        { "onFailure", JSON_FIELD_TEXT, offsetof(ApiUnit, on_failure) },
        { "options", JSON_FIELD_OTHER, offsetof(ApiUnit, file), .write = options_write,
          .read = options_read_json },
        { "owner", JSON_FIELD_TEXT, offsetof(ApiUnit, owner) },
        { "reason", JSON_FIELD_TEXT, offsetof(ApiUnit, reason) },
        { "reasonKind", JSON_FIELD_TEXT, offsetof(ApiUnit, reason_kind) },
        { "replace", JSON_FIELD_NOT, offsetof(ApiUnit, keep) },
        { "text", JSON_FIELD_TEXT, offsetof(ApiUnit, text) },
};

void api_unit_write(Text *t, const ApiUnit *unit) {
        json_write_object(t, JSON_FIELDS(unit_fields), unit);
}

static int read_one_unit(Parse parse, const char *json, size_t size, ApiUnit *ret, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;

        TRY(parse(json, size, &unit.source, err));
        TRY(api_check_object(unit.source, "a unit", err) ?:
                    json_read_fields(unit.source, JSON_FIELDS(unit_fields), &unit, err));

        *ret = unit;
        unit = API_UNIT_EMPTY;
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
        TRY(t.error);
        return unit_read(name, t.chars ? t.chars : "", t.size, ret, err);
}

/* -- States and machines -- */

static const JsonField api_state_fields[] = {
        { "available", JSON_FIELD_BOOL, offsetof(ApiState, available) },
        { "finished", JSON_FIELD_BOOL, offsetof(ApiState, finished) },
        { "hash", JSON_FIELD_TEXT, offsetof(ApiState, hash) },
        { "health", JSON_FIELD_TEXT, offsetof(ApiState, health) },
        { "job", JSON_FIELD_TEXT, offsetof(ApiState, job) },
        { "machineID", JSON_FIELD_TEXT, offsetof(ApiState, machine_id) },
        { "name", JSON_FIELD_TEXT, offsetof(ApiState, name) },
        { "reason", JSON_FIELD_TEXT, offsetof(ApiState, reason) },
        { "reasonCode", JSON_FIELD_TEXT, offsetof(ApiState, reason_code) },
        { "since", JSON_FIELD_U64, offsetof(ApiState, since_ms) },
        { "systemdActiveState", JSON_FIELD_TEXT, offsetof(ApiState, active) },
        { "systemdLoadState", JSON_FIELD_TEXT, offsetof(ApiState, load) },
        { "systemdSubState", JSON_FIELD_TEXT, offsetof(ApiState, sub) },
        { "why", JSON_FIELD_TEXT, offsetof(ApiState, why) },
};

static const JsonField machine_fields[] = {
        { "agentless", JSON_FIELD_BOOL, offsetof(ApiMachine, agentless) },
        { "awaySince", JSON_FIELD_U64, offsetof(ApiMachine, away_ms) },
        { "certificate", JSON_FIELD_U64, offsetof(ApiMachine, certificate_ms) },
        { "checksProblem", JSON_FIELD_TEXT, offsetof(ApiMachine, checks_problem) },
        { "clockProblem", JSON_FIELD_TEXT, offsetof(ApiMachine, clock_problem) },
        { "cpu", JSON_FIELD_U64, offsetof(ApiMachine, cpu_percent) },
        { "cpuLoad", JSON_FIELD_U64, offsetof(ApiMachine, cpu_load_percent) },
        { "cpuRequested", JSON_FIELD_U64, offsetof(ApiMachine, cpu_requested_percent) },
        { "hostname", JSON_FIELD_TEXT, offsetof(ApiMachine, hostname) },
        { "id", JSON_FIELD_TEXT, offsetof(ApiMachine, id) },
        { "identityProblem", JSON_FIELD_TEXT, offsetof(ApiMachine, identity_problem) },
        { "idleSession", JSON_FIELD_TEXT, offsetof(ApiMachine, idle_session) },
        { "kind", JSON_FIELD_TEXT, offsetof(ApiMachine, kind) },
        { "maintenance", JSON_FIELD_TEXT, offsetof(ApiMachine, maintenance) },
        { "memory", JSON_FIELD_U64, offsetof(ApiMachine, memory_mib) },
        { "memoryLoad", JSON_FIELD_U64, offsetof(ApiMachine, memory_load_mib) },
        { "memoryRequested", JSON_FIELD_U64, offsetof(ApiMachine, memory_requested_mib) },
        { "metadata", JSON_FIELD_PAIRS, offsetof(ApiMachine, metadata) },
        { "needsReboot", JSON_FIELD_BOOL, offsetof(ApiMachine, needs_reboot) },
        { "presence", JSON_FIELD_TEXT, offsetof(ApiMachine, presence) },
        { "primaryIP", JSON_FIELD_TEXT, offsetof(ApiMachine, primary_ip) },
        { "problem", JSON_FIELD_TEXT, offsetof(ApiMachine, problem) },
        { "reason", JSON_FIELD_TEXT, offsetof(ApiMachine, reason) },
        { "reboot", JSON_FIELD_TEXT, offsetof(ApiMachine, reboot) },
        { "replacedBy", JSON_FIELD_TEXT, offsetof(ApiMachine, replaced_by) },
        { "restricted", JSON_FIELD_BOOL, offsetof(ApiMachine, restricted) },
        { "role", JSON_FIELD_TEXT, offsetof(ApiMachine, role) },
        { "session", JSON_FIELD_TEXT, offsetof(ApiMachine, session) },
        { "sessionProblem", JSON_FIELD_TEXT, offsetof(ApiMachine, session_problem) },
        { "since", JSON_FIELD_U64, offsetof(ApiMachine, since_ms) },
        { "units", JSON_FIELD_U64, offsetof(ApiMachine, n_units) },
        { "version", JSON_FIELD_TEXT, offsetof(ApiMachine, version) },
        { "write", JSON_FIELD_TEXT, offsetof(ApiMachine, write) },
};

/* -- Services -- */

static void names_write_json(Text *t, const char *name, const void *field) {
        const Names *names = field;
        size_t list = json_open_list(t, name);

        for (size_t i = 0; i < names->n; i++)
                json_add_item(t, names->items[i]);
        json_close_list(t, list);
}

static int names_read_json(const JsonValue *array, void *field, Error *err) {
        if (array && json_value_type(array) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "expected an array of strings");
        JSON_EACH(item, array) {
                const char *name = json_value_string(item);

                if (!name)
                        return error_set(err, -EBADMSG, "expected an array of strings");
                TRY(names_add(field, name, strlen(name)));
        }
        return 0;
}

#define FIELD_NAMES(name, type, member) \
        { name, JSON_FIELD_OTHER, offsetof(type, member), .write = names_write_json, .read = names_read_json }

static const JsonField service_fields[] = {
        { "endpoints", JSON_FIELD_U64, offsetof(ApiService, n_endpoints) },
        { "machine", JSON_FIELD_TEXT, offsetof(ApiService, machine) },
        FIELD_NAMES("machines", ApiService, machines),
        { "name", JSON_FIELD_TEXT, offsetof(ApiService, name) },
        FIELD_NAMES("ports", ApiService, ports),
        { "reason", JSON_FIELD_TEXT, offsetof(ApiService, reason) },
        { "reasonCode", JSON_FIELD_TEXT, offsetof(ApiService, reason_code) },
        { "state", JSON_FIELD_TEXT, offsetof(ApiService, state) },
        { "unit", JSON_FIELD_TEXT, offsetof(ApiService, unit) },
        { "wanted", JSON_FIELD_U64, offsetof(ApiService, n_wanted) },
};

static const JsonField served_fields[] = {
        { "address", JSON_FIELD_TEXT, offsetof(ApiEndpoint, address) },
        { "endpoint", JSON_FIELD_TEXT, offsetof(ApiEndpoint, endpoint) },
        { "machine", JSON_FIELD_TEXT, offsetof(ApiEndpoint, machine) },
        { "machineID", JSON_FIELD_TEXT, offsetof(ApiEndpoint, machine_id) },
        FIELD_NAMES("ports", ApiEndpoint, ports),
        { "reason", JSON_FIELD_TEXT, offsetof(ApiEndpoint, reason) },
        { "reasonCode", JSON_FIELD_TEXT, offsetof(ApiEndpoint, reason_code) },
        { "state", JSON_FIELD_TEXT, offsetof(ApiEndpoint, state) },
        { "unit", JSON_FIELD_TEXT, offsetof(ApiEndpoint, unit) },
        { "zone", JSON_FIELD_TEXT, offsetof(ApiEndpoint, zone) },
};

VerdictCode api_state_code(const ApiState *state) {
        return state->reason_code ? verdict_code(state->reason_code) :
                                    verdict_read_former_stop(state->reason ?: "");
}

void api_state_write(Text *t, const ApiState *state) {
        json_write_object(t, JSON_FIELDS(api_state_fields), state);
}

/* -- Pages -- */

const ApiPageKind api_units_page = { "units",
                                     "a unit",
                                     sizeof(ApiUnit),
                                     offsetof(ApiUnit, name),
                                     JSON_FIELDS(unit_fields),
                                     &API_UNIT_EMPTY },
                  api_states_page = { "states", "a unit state", sizeof(ApiState), offsetof(ApiState, name),
                                      JSON_FIELDS(api_state_fields) },
                  api_machines_page = { "machines", "a machine", sizeof(ApiMachine), offsetof(ApiMachine, id),
                                        JSON_FIELDS(machine_fields) },
                  api_services_page = { "services", "a service", sizeof(ApiService),
                                        offsetof(ApiService, name), JSON_FIELDS(service_fields) },
                  api_endpoints_page = { "endpoints", "an endpoint", sizeof(ApiEndpoint),
                                         offsetof(ApiEndpoint, unit), JSON_FIELDS(served_fields) };

void api_page_write(Text *t, const ApiPageKind *kind, const void *items, size_t n, const char *next_token) {
        static const char token[] = "nextPageToken";
        bool token_is_first = strcmp(token, kind->name) < 0;

        json_open(t, NULL, '{');
        json_add_string(t, token, token_is_first ? next_token : NULL);
        if (n > 0) {
                json_open(t, kind->name, '[');
                for (size_t i = 0; i < n; i++)
                        json_write_object(t, kind->fields, kind->n_fields,
                                          (const char *) items + i * kind->size);
                json_close(t, ']');
        }
        json_add_string(t, token, token_is_first ? NULL : next_token);
        json_close(t, '}');
}

void api_page_done(ApiPage *page) {
        for (size_t i = 0; i < page->n; i++) {
                if (page->kind == &api_units_page)
                        file_free((UnitFile *) page->units[i].file);
                if (page->kind == &api_machines_page)
                        pairs_done(&page->machines[i].metadata);
                if (page->kind == &api_services_page) {
                        names_done(&page->services[i].machines);
                        names_done(&page->services[i].ports);
                }
                if (page->kind == &api_endpoints_page)
                        names_done(&page->endpoints[i].ports);
        }
        free(page->items);
        json_value_free(page->source);
        *page = (ApiPage) {};
}

static int page_read(const ApiPageKind *kind, Parse parse, const char *json, size_t size, size_t max,
                     ApiPage *ret, Error *err) {
        _cleanup_api_page_ ApiPage page = { .kind = kind };
        const JsonValue *items;
        char *item;

        TRY(parse(json, size, &page.source, err));
        TRY(api_check_object(page.source, "a page", err));
        items = json_value_member(page.source, kind->name);
        if (items && json_value_type(items) != JSON_VALUE_ARRAY)
                return error_set(err, -EBADMSG, "%s: expected an array", kind->name);
        if (json_value_count(items) > max)
                return error_set(err, -E2BIG, "%s: more than %zu on one page", kind->name, max);
        TRY(json_read_string(page.source, "nextPageToken", &page.next_token, err));
        if (page.next_token && !*page.next_token)
                page.next_token = NULL;

        item = page.items = calloc(json_value_count(items) + 1, kind->size);
        if (!item)
                return -ENOMEM;
        for (size_t i = 0; i < json_value_count(items); i++, item += kind->size) {
                if (kind->initial)
                        memcpy(item, kind->initial, kind->size);
                page.n++;
                TRY(api_check_object(json_value_item(items, i), kind->item, err));
                TRY(json_read_fields(json_value_item(items, i), kind->fields, kind->n_fields, item, err));
        }

        *ret = TAKE_STRUCT(page);
        return 0;
}

int api_page_read(const ApiPageKind *kind, const char *json, size_t size, ApiPage *ret, Error *err) {
        return page_read(kind, json_value_parse_large, json, size, API_PAGE_MAX, ret, err);
}

int api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err) {
        return page_read(&api_units_page, json_value_parse, json, size, max, ret, err);
}

/* -- Errors -- */

void api_error_write(Text *t, int code, const char *message, const char *cause) {
        json_open(t, NULL, '{');
        json_open(t, "error", '{');
        text_printf(t, "\"code\":%d", code);
        json_add_string_always(t, "message", message);
        json_add_string(t, "cause", cause);
        json_close(t, '}');
        json_close(t, '}');
}

int api_error_read(const char *json, size_t size, int *ret_code, char *ret, size_t ret_size) {
        struct {
                uint64_t code;
                const char *message, *cause;
        } error = { .message = "", .cause = "" };
        const JsonField fields[] = {
                { "cause", JSON_FIELD_TEXT, offsetof(typeof(error), cause) },
                { "code", JSON_FIELD_U64, offsetof(typeof(error), code) },
                { "message", JSON_FIELD_TEXT, offsetof(typeof(error), message) },
        };
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *e;

        TRY(json_value_parse(json, size, &root, NULL));
        e = json_value_member(root, "error");
        if (json_value_type(e) != JSON_VALUE_OBJECT)
                return -EBADMSG;
        TRY(json_read_fields(e, JSON_FIELDS(fields), &error, NULL));

        *ret_code = MIN(error.code, (uint64_t) 999);
        snprintf(ret, ret_size, "%s%s%s", error.message, *error.cause ? "; " : "", error.cause);
        text_keep_to_one_line(ret);
        return 0;
}
