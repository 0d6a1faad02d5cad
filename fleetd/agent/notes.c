#include "fleetd/agent/notes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "fleetd/registry/cluster.h"
#include "units/json.h"

enum { NOTES_SIZE_MAX = 16 * 1024 * 1024 };

Note *notes_get(const Notes *n, const char *name) {
        Note *note;

        HASH_FIND_STR(n->table, name, note);
        return note;
}

int notes_put(Notes *n, const Unit *unit, OrderKind kind, uint64_t unit_index, uint64_t index, Note **ret) {
        _cleanup_unit_ Unit *copy = NULL;
        Note *note = notes_get(n, unit->name);
        int r;

        r = unit_read(unit->name, unit->text, unit->text_size, &copy, NULL);
        if (r < 0)
                return r;

        if (!note) {
                note = NEW0(Note, 1);
                if (!note)
                        return -ENOMEM;
                snprintf(note->name, sizeof(note->name), "%s", unit->name);
                HASH_ADD_STR(n->table, name, note);
                if (!TABLE_ADDED(note)) {
                        free(note);
                        return -ENOMEM;
                }
        }
        unit_free(note->unit);
        note->unit = TAKE_PTR(copy);
        note->kind = kind;
        note->unit_index = unit_index;
        note->index = index;
        n->floor = MAX(n->floor, index);
        n->dirty = true;
        if (ret)
                *ret = note;
        return 0;
}

void notes_remove(Notes *n, const char *name) {
        Note *note = notes_get(n, name);

        if (!note)
                return;
        HASH_DEL(n->table, note);
        unit_free(note->unit);
        free(note);
        n->dirty = true;
}

static int by_name(const Note *a, const Note *b) {
        return strcmp(a->name, b->name);
}

int notes_save(Notes *n) {
        _cleanup_text_ Text t = {};
        char lineage[LINEAGE_DIGITS + 1];
        int r;

        if (!n->dirty)
                return 0;

        HASH_SRT(hh, n->table, by_name);
        json_open(&t, NULL, '{');
        json_add_u64(&t, "floor", n->floor);
        snprintf(lineage, sizeof(lineage), "%016llx", (unsigned long long) n->lineage);
        json_add_string(&t, "lineage", lineage);
        json_open(&t, "units", '[');
        for (Note *note = n->table; note; note = note->hh.next) {
                json_open(&t, NULL, '{');
                json_add_string(&t, "before", note->before);
                json_add_bool(&t, "done", note->done);
                json_add_u64(&t, "index", note->index);
                json_add_string(&t, "name", note->name);
                json_add_string(&t, "order", order_kind_to_string(note->kind));
                json_add_string(&t, "startedBoot", note->started_boot);
                json_add_bool(&t, "starting", note->starting);
                json_add_string_always(&t, "text", note->unit->text);
                json_add_u64(&t, "unit", note->unit_index);
                json_close(&t, '}');
        }
        json_close(&t, ']');
        json_close(&t, '}');
        text_append_char(&t, '\n');
        if (t.error < 0)
                return t.error;

        r = write_file_at(n->dir_fd, "assignment", t.chars, t.size, 0600);
        if (r == 0)
                n->dirty = false;
        return r;
}

static int notes_read_one(Notes *n, const JsonValue *v, Error *err) {
        const char *name = NULL, *order = NULL, *text = NULL, *boot = NULL, *before = NULL;
        uint64_t unit_index = 0, index = 0;
        _cleanup_unit_ Unit *unit = NULL;
        bool starting = false, done = false;
        OrderKind kind;
        Note *note;
        int r;

        r = json_read_string(v, "name", &name, err);
        r = r ?: json_read_string(v, "order", &order, err);
        r = r ?: json_read_string(v, "text", &text, err);
        r = r ?: json_read_string(v, "startedBoot", &boot, err);
        r = r ?: json_read_string(v, "before", &before, err);
        r = r ?: json_read_u64(v, "unit", &unit_index, err);
        r = r ?: json_read_u64(v, "index", &index, err);
        r = r ?: json_read_bool(v, "starting", &starting, err);
        r = r ?: json_read_bool(v, "done", &done, err);
        if (r < 0)
                return r;

        kind = order ? order_kind_from_string(order) : _ORDER_INVALID;
        if (!name || !text || (kind != ORDER_RUN && kind != ORDER_LOAD) || (boot && strlen(boot) != sizeof(note->started_boot) - 1)
            || (before && strlen(before) != sizeof(note->before) - 1))
                return error_set(err, -EBADMSG, "a unit without name, order or text");
        r = unit_read(name, text, strlen(text), &unit, err);
        if (r < 0)
                return error_prefix(err, r, "%s", name);
        r = notes_put(n, unit, kind, unit_index, index, &note);
        if (r < 0)
                return r;

        note->starting = starting;
        note->done = done;
        if (boot)
                memcpy(note->started_boot, boot, sizeof(note->started_boot));
        if (before)
                memcpy(note->before, before, sizeof(note->before));
        return 0;
}

static int notes_read_lineage(Notes *n, const JsonValue *root, Error *err) {
        const char *lineage = NULL;
        int r = json_read_string(root, "lineage", &lineage, err);

        if (r < 0 || !lineage)
                return r;
        if (parse_hex_id(lineage, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "lineage: expected %d hex digits, not '%s'", LINEAGE_DIGITS, lineage);
        n->lineage = strtoull(lineage, NULL, 16);
        return 0;
}

static int notes_read(Notes *n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_free_ char *text = NULL;
        const JsonValue *units;
        size_t size;
        int r;

        r = read_file_at(n->dir_fd, "assignment", NOTES_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(err, r, "%s", strerror(-r));

        r = json_value_parse(text, size, &root, err);
        r = r ?: notes_read_lineage(n, root, err);
        r = r ?: json_read_u64(root, "floor", &n->floor, err);
        units = json_value_member(root, "units");
        for (size_t i = 0; r == 0 && i < json_value_count(units); i++)
                r = notes_read_one(n, json_value_item(units, i), err);
        n->dirty = false;
        return r;
}

static void notes_clear(Notes *n) {
        while (n->table)
                notes_remove(n, n->table->name);
        n->lineage = n->floor = 0;
}

int notes_open(Notes *n, const char *dir, Error *err) {
        Error why = {};
        int r;

        *n = (Notes) { .dir_fd = open_dir(dir, 0700) };
        if (n->dir_fd < 0)
                return error_set(err, n->dir_fd, "cannot open %s: %s", dir, strerror(-n->dir_fd));

        r = notes_read(n, &why);
        if (r == -ENOMEM) /* nothing is wrong with them: who starts later reads them */
                return error_set(err, r, "cannot read %s/assignment: %s", dir, error_text(&why, r));
        if (r < 0) {
                log_warning(((LogFields) { .error = r }),
                            "the last assignment in %s/assignment cannot be read (%s); it is kept as assignment.bad, and what runs is adopted",
                            dir, error_text(&why, r));
                notes_clear(n);
                n->dirty = false;
                if (renameat(n->dir_fd, "assignment", n->dir_fd, "assignment.bad") < 0 && errno != ENOENT)
                        return error_set(err, -errno, "cannot move %s/assignment aside: %s", dir, strerror(errno));
        }
        return 0;
}

void notes_close(Notes *n) {
        notes_clear(n);
        if (n->dir_fd >= 0)
                close(n->dir_fd);
        n->dir_fd = -1;
}
