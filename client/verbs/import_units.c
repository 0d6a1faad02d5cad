/* The steps of both kinds of import after units and metadata are read. */
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/unit.h"
#include "client/verbs/import.h"
#include "client/verbs/snapshot.h"

enum { PATCH_MAX = 1000 }; /* operations of one request */

void import_units_done(ImportUnits *units) {
        for (size_t i = 0; i < units->n; i++) {
                free(units->items[i].name);
                free(units->items[i].text);
                free(units->items[i].rejected);
        }
        free(units->items);
        for (size_t i = 0; i < units->n_metadata; i++) {
                free(units->metadata[i].key);
                free(units->metadata[i].value);
        }
        free(units->metadata);
}

/* -- Reading -- */

int import_add(ImportUnits *units, const char *name, char *text, TargetState target, Error *err) {
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        ImportUnit *unit;

        if (GROW(units->items, units->capacity, units->n + 1) < 0) {
                free(text);
                return -ENOMEM;
        }
        unit = &units->items[units->n++];
        *unit = (ImportUnit) { .name = strdup(name), .text = text, .target = target };
        if (!unit->name)
                return -ENOMEM;
        TRY(unit_verify(name, text, strlen(text), &faults, &warnings));
        if (faults.n > 0 && asprintf(&unit->rejected, "rejected: %s", faults.items[0].message) < 0) {
                unit->rejected = NULL;
                return -ENOMEM;
        }
        return 0;
}

int import_add_metadata(ImportUnits *units, const char *machine, const char *key, const char *value) {
        ImportMetadata *m;

        if (!machine_id_is_valid(machine) || machine_metadata_check(key, value, NULL) < 0)
                return 0;
        TRY(GROW(units->metadata, units->metadata_capacity, units->n_metadata + 1));
        m = &units->metadata[units->n_metadata++];
        *m = (ImportMetadata) { .key = strdup(key), .value = strdup(value) };
        snprintf(m->machine, sizeof(m->machine), "%s", machine);
        return m->key && m->value ? 0 : -ENOMEM;
}

/* -- Comparison with the cluster -- */

static int by_name(const void *a, const void *b) {
        return strcmp(((const ImportUnit *) a)->name, ((const ImportUnit *) b)->name);
}

static ImportAction action_for(const ImportUnit *unit, const Unit *parsed, const ApiUnit *other,
                               bool replace) {
        bool same_text = other && other->hash && streq(other->hash, parsed->hash);

        if (!other)
                return IMPORT_CREATE;
        if (replace && (!same_text || other->desired_state != unit->target))
                return IMPORT_REPLACE;
        return same_text ? IMPORT_EXISTS : IMPORT_DIFFERS;
}

static int add_node(void *userdata, const KvListed *node) {
        return snapshot_apply_node(userdata, node);
}

/* Compare the metadata with what is set: the list of machines also has that of their configuration. */
static int compare_metadata(Client *c, ImportUnits *units, Error *err) {
        _cleanup_(snapshot_nodes_done) SnapshotNodes set = {};
        const char *machine = "";
        int r;

        for (size_t i = 0; i < units->n_metadata; i++) {
                ImportMetadata *m = &units->metadata[i];
                _cleanup_text_ Text path = {};
                const SnapshotNode *there;

                text_printf(&path, "/_fleet/machine/%s/metadata", m->machine);
                TRY(path.error);
                if (!streq(m->machine, machine)) {
                        Error why = {};

                        r = kv_pages(c, path.chars, "limit=1000", add_node, &set, &why);
                        if (r < 0 && r != -EREMOTEIO) { /* absent, or not shown to this user */
                                *err = why;
                                return r;
                        }
                }
                machine = m->machine;
                text_printf(&path, "/%s", m->key);
                TRY(path.error);
                there = snapshot_find(&set, path.chars, path.size);
                m->exists = there && strlen(m->value) == there->value_size &&
                            memcmp(m->value, there->value, there->value_size) == 0;
                units->n_metadata_new += !m->exists;
        }
        return 0;
}

int import_compare(Client *c, ImportUnits *units, bool replace, Error *err) {
        _cleanup_listing_ Listing existing = {};

        if (units->n > 0)
                qsort(units->items, units->n, sizeof(*units->items), by_name);
        TRY(client_units(c, &existing, err));
        for (size_t i = 0; i < units->n; i++) {
                ImportUnit *u = &units->items[i];
                _cleanup_unit_ Unit *unit = NULL;

                u->action = IMPORT_REJECTED;
                if (!u->rejected) {
                        TRY(unit_read(u->name, u->text, strlen(u->text), &unit, err));
                        u->action = action_for(u, unit, listing_unit(&existing, u->name), replace);
                }
                units->counts[u->action]++;
        }
        return compare_metadata(c, units, err);
}

const char *import_action_name(const ImportUnit *unit) {
        static const char *const names[_IMPORT_ACTION_MAX] = {
                [IMPORT_CREATE] = "import",
                [IMPORT_EXISTS] = "exists",
                [IMPORT_REPLACE] = "replace",
                [IMPORT_DIFFERS] = "exists with another text",
        };

        return names[unit->action] ?: unit->rejected;
}

int import_print(const ImportUnits *units) {
        _cleanup_table_ Table t = table_begin("UNIT,DSTATE,ACTION");

        for (size_t i = 0; i < units->n; i++)
                table_row(&t, units->items[i].name, target_state_to_string(units->items[i].target),
                          import_action_name(&units->items[i]));
        return table_print(&t, true);
}

/* -- Sending -- */

/* Send the metadata from item *at on that is new, up to the limit of a request. */
static int send_metadata(Client *c, const ImportUnits *units, size_t *at, Error *err) {
        _cleanup_text_ Text patch = {};
        size_t n = 0;

        json_open(&patch, NULL, '[');
        for (; *at < units->n_metadata && n < PATCH_MAX; (*at)++) {
                const ImportMetadata *m = &units->metadata[*at];

                if (m->exists)
                        continue;
                append_metadata_change(&patch, m->machine, m->key, m->value);
                n++;
        }
        json_close(&patch, ']');
        if (n == 0 || patch.error < 0)
                return patch.error;
        return client_request(c, "PATCH", "/fleet/v1/machines", &patch, NULL, err);
}

int import_send(Client *c, ImportUnits *units, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, units->n + 1);
        size_t n = 0;

        if (!changes)
                return -ENOMEM;
        for (size_t at = 0; at < units->n_metadata;)
                TRY(send_metadata(c, units, &at, err));
        for (size_t i = 0; i < units->n; i++) {
                const ImportUnit *u = &units->items[i];

                if (u->action != IMPORT_CREATE && u->action != IMPORT_REPLACE)
                        continue;
                changes[n] = client_change_of(u->name);
                changes[n].text = u->text;
                changes[n].desired_state = u->target;
                changes[n++].keep = u->action == IMPORT_CREATE;
        }
        return client_change(c, changes, n, err);
}

int import_fail_unchanged(int r, const Error *err) {
        fprintf(stderr, "fleetctl: %s\nfleetctl: nothing was changed\n", error_text(err, r));
        return EXIT_FAILED;
}
