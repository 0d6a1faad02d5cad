/* Arbitrary bytes as each value of the tree and each object of the API. Decoded values can be written and
 * read again. */

#include "units/api_json.h"
#include "units/stored_cluster.h"
#include "units/stored_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_records(const char *json, size_t size) {
        _cleanup_unit_state_ UnitState state = {};
        _cleanup_machine_ Machine machine = {}, same_machine = {};
        _cleanup_(endpoint_record_done) EndpointRecord endpoint = {}, same_endpoint = {};
        _cleanup_unit_ Unit *unit = NULL;
        Assignment order = {}, same_order = {};
        _cleanup_problem_ Problem problem = {}, same_problem = {};
        _cleanup_text_ Text t = {};
        PresenceRecord presence;
        Error err = {};
        int r;

        (void) stored_unit_read("a.service", json, size, &unit, &err);
        (void) stored_presence_read(json, size, &presence, &err);
        (void) stored_state_read(json, size, &state, &err);

        if (stored_facts_read(json, size, &machine, &err) == 0) {
                stored_facts_write(&t, &machine);
                r = stored_facts_read(t.chars, t.size, &same_machine, &err);
                assert(r == 0);
                assert(json_record_equal(&facts_record, &machine, &same_machine));
        }

        text_clear(&t);
        if (stored_endpoint_read(json, size, &endpoint, &err) == 0) {
                stored_endpoint_write(&t, &endpoint);
                r = stored_endpoint_read(t.chars, t.size, &same_endpoint, &err);
                assert(r == 0);
                assert(json_record_equal(&endpoint_record, &endpoint, &same_endpoint));
        }

        text_clear(&t);
        if (stored_assignment_read(json, size, &order, &err) == 0) {
                stored_assignment_write(&t, &order);
                r = stored_assignment_read(t.chars, t.size, &same_order, &err);
                assert(r == 0);
                assert(order.kind == same_order.kind && order.why.code == same_order.why.code);
        }

        text_clear(&t);
        if (stored_problem_read(json, size, &problem, &err) == 0) {
                stored_problem_write(&t, &problem);
                r = stored_problem_read(t.chars, t.size, &same_problem, &err);
                assert(r == 0);
                assert(problem.kind == same_problem.kind && problem.confirmed == same_problem.confirmed);
        }
}

static void read_pages(const char *json, size_t size) {
        _cleanup_api_page_ ApiPage units = {}, states = {}, machines = {};
        char message[64];
        int code;

        (void) api_page_read(&api_units_page, json, size, &units, NULL);
        (void) api_page_read(&api_states_page, json, size, &states, NULL);
        (void) api_page_read(&api_machines_page, json, size, &machines, NULL);
        (void) api_error_read(json, size, &code, message, sizeof(message));
}

static void read_unit(const char *json, size_t size) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY, again = API_UNIT_EMPTY;
        _cleanup_text_ Text t = {};
        int r;

        if (api_unit_read(json, size, &unit, NULL) < 0)
                return;
        api_unit_write(&t, &unit);
        r = api_unit_read_answer(
                t.chars, t.size, &again,
                NULL); /* empty members are omitted: a request may exceed a limit with them */
        assert(r == 0);
        assert(again.desired_state == unit.desired_state);
        assert(again.file->n_options == unit.file->n_options);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const char *json = (const char *) bytes;

        read_records(json, size);
        read_pages(json, size);
        read_unit(json, size);
        return 0;
}
