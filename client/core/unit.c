#include "client/core/unit.h"

enum {
        BATCH_SIZE = 100 * 1024, /* bytes of all texts in one transaction */
};

int client_set_global(ApiUnit *unit) {
        _cleanup_placement_ Placement placement = {};
        int r;

        if (unit->global || unit->hash || !unit->file)
                return 0;
        r = options_read(unit->file, unit->name, &placement, NULL, NULL);
        unit->global = placement.global;
        return r == -ENOMEM ? r : 0;
}

/* Send a request about one unit. Status 404 is not an error here; callers check it. */
static int unit_request(Client *c, const char *method, const char *name, const Text *json, Reply *ret,
                        Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        r = connection_request(c->connection, method, client_path_of(&path, "/fleet/v1/units/", name, ""),
                               CONTENT_JSON, json, ret, err);
        if (r < 0 || ret->status == 404)
                return r;
        return reply_check(ret, err);
}

int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = unit_request(c, "GET", name, NULL, &reply, err);
        if (r < 0)
                return r;
        if (reply.status == 404)
                return 0;

        r = api_unit_read_answer(reply.body.chars, reply.body.size, ret, err);
        if (r < 0)
                return error_prefix(err, r, "fleetd's answer about %s", name);
        r = client_set_global(ret);
        return r < 0 ? r : 1;
}

void append_unit_text(Text *t, const ApiUnit *unit) {
        if (unit->text && *unit->text)
                text_append(t, unit->text);
        else if (unit->file)
                unit_file_print(unit->file, t, NULL);
}

static int put_unit(Client *c, const ApiUnit *unit, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_unit_write(&body, unit);
        r = unit_request(c, "PUT", unit->name, &body, &reply, err);
        return r < 0 ? r : reply_check(&reply, err);
}

/* Send one transaction. Return 0 with *ret_known false if this daemon has no transactions. */
static int post_batch(Client *c, const ApiUnit *units, size_t n, bool *ret_known, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_units_page_write(&body, units, n, NULL);
        r = connection_request(c->connection, "POST", "/fleet/v1/batch", CONTENT_JSON, &body, &reply, err);
        if (r < 0)
                return r;
        *ret_known = reply.status != 404 && reply.status != 405;
        return *ret_known ? reply_check(&reply, err) : 0;
}

ApiUnit client_change_of(const char *name) {
        ApiUnit unit = API_UNIT_EMPTY;

        unit.name = name;
        return unit;
}

int client_change(Client *c, const ApiUnit *units, size_t n, Error *err) {
        bool batches = n > 1;
        int r = 0;

        for (size_t i = 0, end; i < n && r >= 0; i = end) {
                size_t size = 0;

                for (end = i; end < n && end - i < BATCH_UNITS && size < BATCH_SIZE; end++)
                        size += units[end].text ? strlen(units[end].text) : 0;
                if (batches)
                        r = post_batch(c, units + i, end - i, &batches, err);
                if (!batches)
                        for (end = i; end < n && r >= 0; end++)
                                r = put_unit(c, &units[end], err);
        }
        c->has_changed |= n > 0 && r >= 0;
        return r;
}

int client_set_state(Client *c, const char *name, TargetState state, Error *err) {
        ApiUnit unit = client_change_of(name);

        unit.desired_state = state;
        return client_change(c, &unit, 1, err);
}

int client_destroy(Client *c, const ApiUnit *units, size_t n, Error *err) {
        _cleanup_reply_ Reply reply = {};
        bool supported;
        int r;

        if (n == 1)
                return unit_request(c, "DELETE", units[0].name, NULL, &reply,
                                    err); /* also 0 for status 404 */
        r = post_batch(c, units, n, &supported, err);
        if (r < 0)
                return r;
        return supported ? 0 : -EOPNOTSUPP;
}
