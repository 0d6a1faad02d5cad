/* The steps of both kinds of import after units and metadata are read. */
#include "client/import.h"

#include <stdlib.h>

#include "units/machine.h"

enum { PATCH_MAX = 1000 }; /* operations of one request */

void import_units_done(ImportUnits *units) {
        for (size_t i = 0; i < units->n; i++) {
                free(units->items[i].name);
                free(units->items[i].text);
                free(units->items[i].rejected);
        }
        free(units->items);
        for (size_t i = 0; i < units->n_patches; i++)
                text_done(&units->patches[i]);
        free(units->patches);
}

/* -- Reading -- */

int import_add(ImportUnits *units, const char *name, char *text, TargetState target, Error *err) {
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        ImportUnit *unit;
        int r;

        if (GROW(units->items, units->capacity, units->n + 1) < 0) {
                free(text);
                return -ENOMEM;
        }
        unit = &units->items[units->n++];
        *unit = (ImportUnit) { .name = strdup(name), .text = text, .target = target };
        if (!unit->name)
                return -ENOMEM;
        r = unit_verify(name, text, strlen(text), &faults, &warnings);
        if (r < 0)
                return r;
        if (faults.n > 0 && asprintf(&unit->rejected, "rejected: %s", faults.items[0].message) < 0) {
                unit->rejected = NULL;
                return -ENOMEM;
        }
        return 0;
}

int import_add_metadata(ImportUnits *units, const char *machine, const char *key, const char *value) {
        _cleanup_text_ Text path = {};
        Text *patch;

        if (!machine_id_is_valid(machine) || machine_metadata_check(key, value, NULL) < 0)
                return 0;
        if (units->n_metadata % PATCH_MAX == 0) {
                if (GROW(units->patches, units->patches_capacity, units->n_patches + 1) < 0)
                        return -ENOMEM;
                units->patches[units->n_patches++] = (Text) {};
                json_open(&units->patches[units->n_patches - 1], NULL, '[');
        }
        patch = &units->patches[units->n_patches - 1];
        text_printf(&path, "/%s/metadata/%s", machine, key);
        json_open(patch, NULL, '{');
        json_add_string(patch, "op", *value ? "add" : "remove");
        json_add_string(patch, "path", path.chars);
        json_add_string(patch, "value", value);
        json_close(patch, '}');
        units->n_metadata++;
        return path.error ?: patch->error;
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

int import_compare(Client *c, ImportUnits *units, bool replace, Error *err) {
        _cleanup_listing_ Listing existing = {};
        int r;

        if (units->n > 0)
                qsort(units->items, units->n, sizeof(*units->items), by_name);
        r = client_units(c, &existing, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < units->n; i++) {
                ImportUnit *u = &units->items[i];
                _cleanup_unit_ Unit *unit = NULL;

                u->action = IMPORT_REJECTED;
                if (!u->rejected) {
                        r = unit_read(u->name, u->text, strlen(u->text), &unit, err);
                        if (r < 0)
                                return r;
                        u->action = action_for(u, unit, listing_unit(&existing, u->name), replace);
                }
                units->counts[u->action]++;
        }
        return 0;
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
        _cleanup_table_ Table *t = table_new("UNIT,DSTATE,ACTION");

        for (size_t i = 0; t && i < units->n; i++) {
                const ImportUnit *u = &units->items[i];
                const char *cells[] = { u->name, target_state_to_string(u->target), import_action_name(u) };

                if (table_add_row(t, cells) < 0)
                        return -ENOMEM;
        }
        return t ? table_print(t, true) : -ENOMEM;
}

/* -- Sending -- */

int import_send(Client *c, ImportUnits *units, Error *err) {
        _cleanup_free_ ApiUnit *changes = NEW0(ApiUnit, units->n + 1);
        size_t n = 0;

        if (!changes)
                return -ENOMEM;
        for (size_t i = 0; i < units->n_patches; i++) {
                int r;

                json_close(&units->patches[i], ']');
                r = units->patches[i].error ?:
                            client_request(c, "PATCH", "/fleet/v1/machines", &units->patches[i], NULL, err);
                if (r < 0)
                        return r;
        }
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
