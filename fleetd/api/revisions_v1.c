/* GET /fleet/v1/revisions/NAME: the stored revisions of a unit, newest first; with the parameter "rev", one
 * of them as a unit. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/registry/layout.h"

static void revision_write(Text *t, const Revision *revision, uint64_t number, const char *hash,
                           bool wanted) {
        json_open(t, NULL, '{');
        json_add_string(t, "by", revision->by);
        json_add_string(t, "hash", hash);
        json_add_string(t, "how", revision_how_to_string(revision->how));
        json_add_u64(t, "number", number);
        json_add_u64(t, "since", revision->since_ms);
        json_add_bool(t, "wanted", wanted);
        json_close(t, '}');
}

/* Write the revision with the highest number below 'below'. Return its number; 0: there is none. */
static uint64_t revision_write_next(Text *t, const Unit *unit, uint64_t below) {
        const Revisions *all = &unit->revisions;
        const Revision *next = NULL;
        uint64_t wanted = revisions_wanted(all);

        for (size_t i = 0; i < all->n_former; i++)
                if (all->former[i].number < below && (!next || all->former[i].number > next->number))
                        next = &all->former[i];
        if (wanted < below && (!next || wanted > next->number)) {
                revision_write(t, &all->wanted, wanted, unit->hash, true);
                return wanted;
        }
        if (next)
                revision_write(t, next, next->number, next->hash, false);
        return next ? next->number : 0;
}

static void revisions_answer(Request *request, const ClusterUnit *u) {
        uint64_t below = UINT64_MAX;
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_add_string(&t, "name", u->name);
        if (u->unit->revisions.n_former > 0)
                json_add_u64(&t, "previous",
                             u->unit->revisions.former[u->unit->revisions.n_former - 1].number);
        json_open(&t, "revisions", '[');
        do
                below = revision_write_next(&t, u->unit, below);
        while (below > 0);
        json_close(&t, ']');
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}

typedef struct Reading {
        const char *name;
        Unit *unit; /* owned */
} Reading;

static int revision_on_node(void *userdata, const KvNode *node) {
        Reading *reading = userdata;

        return stored_unit_read(reading->name, node->value.data, node->value.size, &reading->unit, NULL);
}

static void revision_answer_unit(Request *request, const Unit *unit) {
        ApiUnit entity = API_UNIT_EMPTY;
        _cleanup_text_ Text t = {};

        entity.name = unit->name;
        entity.file = &unit->file;
        entity.hash = unit->hash;
        entity.text = unit->text;
        api_unit_write(&t, &entity);
        request_answer_json(request, 200, &t);
}

static void revision_answer(Request *request, const ClusterUnit *u, const char *text) {
        uint64_t number = revision_parse_number(text);
        Reading reading = { .name = u->name };
        char path[LAYOUT_KEY_MAX];
        int r = -ENOENT;

        if (number == 0) {
                request_error(request, 400, "rev=%.32s: expected a number from 1 on", text);
                return;
        }
        if (number == revisions_wanted(&u->unit->revisions)) {
                revision_answer_unit(request, u->unit);
                return;
        }
        if (revisions_find(&u->unit->revisions, number, NULL))
                r = kv_local_get(request->api->options.store,
                                 kv_string(layout_key(path, LAYOUT_REVISION, u->name, text)),
                                 revision_on_node, &reading);
        if (r >= 0)
                revision_answer_unit(request, reading.unit);
        else if (r == -ENOENT)
                request_error(request, 404, "%s has no revision %s; fleetctl history %s lists them", u->name,
                              text, u->name);
        else
                request_error(request, 500,
                              "revision %s of %s cannot be read: %s; fleetctl history %s lists others", text,
                              u->name, strerror(-r), u->name);
        unit_free(reading.unit);
}

void revisions_handle(Request *request) {
        const ClusterUnit *u = cluster_unit(registry_cluster(request->api->options.registry), request->rest);
        const char *number = request_parameter(request, "rev");

        if (!u)
                request_error(request, 404, "unit does not exist");
        else if (number)
                revision_answer(request, u, number);
        else
                revisions_answer(request, u);
}
