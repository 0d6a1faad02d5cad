#include "client/core/unit.h"

enum {
        BATCH_SIZE = 100 * 1024, /* bytes of all texts in one transaction */
};

int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        r = client_find(c, "GET", client_path_of(&path, "/fleet/v1/units/", name, ""), &reply, err);
        if (r <= 0)
                return r;
        TRY_PREFIX(api_unit_read_answer(reply.body.chars, reply.body.size, ret, err), err,
                   "fleetd's answer about %s", name);
        return 1;
}

void append_unit_text(Text *t, const ApiUnit *unit) {
        if (unit->text && *unit->text)
                text_append(t, unit->text);
        else if (unit->file)
                unit_file_print(unit->file, t, NULL);
}

static int put_unit(Client *c, const ApiUnit *unit, Error *err) {
        _cleanup_text_ Text path = {}, body = {};

        api_unit_write(&body, unit);
        return client_request(c, "PUT", client_path_of(&path, "/fleet/v1/units/", unit->name, ""), &body,
                              NULL, err);
}

static int post_batch(Client *c, const ApiUnit *units, size_t n, Error *err) {
        _cleanup_text_ Text body = {};

        api_page_write(&body, &api_units_page, units, n, NULL);
        return client_request(c, "POST", "/fleet/v1/batch", &body, NULL, err);
}

ApiUnit client_change_of(const char *name) {
        ApiUnit unit = API_UNIT_EMPTY;

        unit.name = name;
        return unit;
}

int client_change(Client *c, const ApiUnit *units, size_t n, Error *err) {
        int r = 0;

        for (size_t i = 0, end; i < n && r >= 0; i = end) {
                size_t size = 0;

                for (end = i; end < n && end - i < BATCH_UNITS && size < BATCH_SIZE; end++)
                        size += units[end].text ? strlen(units[end].text) : 0;
                r = n == 1 ? put_unit(c, units, err) : post_batch(c, units + i, end - i, err);
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
        _cleanup_text_ Text path = {};

        if (n > 1)
                return post_batch(c, units, n, err);
        TRY(client_find(c, "DELETE", client_path_of(&path, "/fleet/v1/units/", units[0].name, ""), &reply,
                        err));
        return 0;
}
