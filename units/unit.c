#include "units/unit.h"

#include "base/table.h"
#include "units/data.h"
#include "units/drop_ins.h"
#include "units/install.h"
#include "units/json_record.h"
#include "units/quadlet.h"
#include "units/singleton.h"

Unit *unit_free(Unit *unit) {
        if (!unit)
                return NULL;
        free(unit->name);
        free(unit->text);
        unit_file_done(&unit->file);
        placement_done(&unit->placement);
        warnings_done(&unit->warnings);
        free(unit->owner);
        free(unit->path);
        free(unit->from);
        revisions_done(&unit->revisions);
        free(unit);
        return NULL;
}

static size_t unit_json_size(Text *t, const char *s) {
        size_t before = t->size;

        text_append_json(t, s, strlen(s));
        return t->size - before;
}

/* Set json_size to the size of text and options in api_unit_write(). */
static int unit_measure_json(Unit *unit) {
        enum { FRAME = 40 }; /* bytes of an option: braces, and the names of its members */
        _cleanup_text_ Text t = {};
        const char *section = NULL;
        size_t in_each = 0;

        unit->json_size = unit_json_size(&t, unit->text);
        for (size_t i = 0; i < unit->file.n_options; i++) {
                const UnitOption *o = &unit->file.options[i];

                if (o->section != section)
                        in_each = FRAME + unit_json_size(&t, o->section);
                section = o->section;
                unit->json_size += in_each + unit_json_size(&t, o->name) + unit_json_size(&t, o->value);
        }
        return t.error;
}

int unit_read(const char *name, const char *text, size_t size, Unit **ret, Error *err) {
        _cleanup_unit_ Unit *unit = NEW0(Unit, 1);
        char triggered[UNIT_NAME_MAX + 1];
        int r;

        if (!unit)
                return -ENOMEM;

        TRY(unit_name_check(name, err));

        TRY(unit_file_parse(text, size, UNIT_FILE_LITERAL, &unit->file, err));

        unit->name = strdup(name);
        unit->text = strndup(text, size); /* no zero byte inside: parsed before */
        unit->text_size = size;
        if (!unit->name || !unit->text)
                return -ENOMEM;

        TRY(unit_file_hash(&unit->file, unit->hash));
        TRY(unit_file_systemd_hash(&unit->file, unit->systemd_hash));

        memcpy(unit->base, unit->hash, sizeof(unit->base));

        unit->class = unit_class(name, &unit->file);
        TRY(unit_class_triggered(name, &unit->file, triggered));

        TRY(unit_measure_json(unit));

        r = options_read(&unit->file, name, &unit->placement, NULL, err);
        if (r >= 0 && triggered[0])
                r = names_add(&unit->placement.triggers, triggered, strlen(triggered));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(unit);
        return 0;
}

static int unit_check_size(const Unit *unit, Error *err) {
        _cleanup_text_ Text t = {};

        stored_unit_write(&t, unit);
        TRY(t.error);
        if (t.size > RECORD_SIZE_MAX)
                return error_set(err, -EFBIG,
                                 "the file is too large: %zu bytes as JSON, at most %d are taken", t.size,
                                 RECORD_SIZE_MAX);
        if (unit->json_size > UNIT_JSON_MAX)
                return error_set(err, -EFBIG,
                                 "the file is too large: %zu bytes as JSON where each option has the name of "
                                 "its section, at most %d are taken",
                                 unit->json_size, UNIT_JSON_MAX);
        return 0;
}

static int unit_check_name(const char *name, Error *err) {
        const char *reason;

        if (!unit_name_is_refused(name, &reason))
                return 0;
        return error_set(err, -EINVAL, "unit name %s is refused: %s", name, reason);
}

int unit_check_expanded(const Unit *unit, const char *name, Error *err) {
        _cleanup_free_ UnitOption *options = NEW0(UnitOption, unit->file.n_options + 1); /* they borrow */
        UnitFile file = { .options = options };
        _cleanup_placement_ Placement placement = {};
        _cleanup_warnings_ Warnings ignored = {};

        if (!options)
                return -ENOMEM;
        for (size_t i = 0; i < unit->file.n_options; i++) {
                const UnitOption *o = &unit->file.options[i];

                if (unit_file_section_is_ours(o->section) && options_level(o->name) > 0)
                        options[file.n_options++] = *o;
        }
        return options_read(&file, name, &placement, &ignored, err);
}

int unit_check_replicas(const Unit *unit, unsigned n, Error *err) {
        if ((uint64_t) n * unit->text_size <= UNIT_REPLICAS_BYTES_MAX)
                return 0;
        return error_set(err, -EINVAL, "Replicas=%u: %u copies of %zu KiB exceed %d MiB", n, n,
                         (unit->text_size + 1023) / 1024, UNIT_REPLICAS_BYTES_MAX >> 20);
}

/* Return the last option of that name in [X-Fleet] with a value, or NULL. */
static const UnitOption *unit_find_own(const Unit *unit, const char *name) {
        const UnitOption *found = NULL;

        for (size_t i = 0; i < unit->file.n_options; i++) {
                const UnitOption *o = &unit->file.options[i];

                if (unit_file_section_is_ours(o->section) && *o->value && streq(o->name, name))
                        found = o;
        }
        return found;
}

int unit_refuse_of_template(const Unit *unit, const char *option, Error *err) {
        const UnitOption *o = unit_find_own(unit, option);

        if (!o)
                return 0;
        return error_set(err, -EINVAL, "line %u: %s= belongs into a template, as web@.service", o->line,
                         option);
}

/* Check the options that only a template, and its instances, can have. */
static int unit_check_set(const Unit *unit, const Placement *p, Error *err) {
        static const char *const names[] = { "Replicas", "MaxPerMachine", "Spread" };
        const UnitOption *replicas = p->replicas > 0 ? unit_find_own(unit, names[0]) : NULL;

        for (size_t i = 0; i < ELEMENTS(names) && !strchr(unit->name, '@'); i++)
                TRY(unit_refuse_of_template(unit, names[i], err));
        if (replicas && unit_check_replicas(unit, (unsigned) p->replicas, err) < 0)
                return error_prefix(err, -EINVAL, "line %u", replicas->line);
        return 0;
}

int unit_check(Unit *unit, size_t *steps, Error *err) {
        _cleanup_placement_ Placement unexpanded = {};

        TRY(unit_check_name(unit->name, err));
        if (unit->file.n_options == 0 && !quadlet_is(unit->name))
                return error_set(err, -EINVAL,
                                 "a unit file needs at least one option in a [section]; here is none");

        TRY(install_check(unit->name, &unit->file, err));
        TRY(quadlet_check(unit->name, unit->text, &unit->file, err));

        /* As in fleet, the combinations are those before specifiers are replaced: an answer must not depend
         * on the instance. */
        TRY(options_read(&unit->file, NULL, &unexpanded, &unit->warnings, err));
        if (!unexpanded.global && !strchr(unit->name, '@')) /* the only instance of its set */
                TRY(update_warn(&unexpanded.update, unit->name, 1,
                                unexpanded.move == PLACEMENT_STOP_FIRST || unexpanded.singleton,
                                &unit->warnings));
        if (unit->placement.replicas >= 0 && unit_name_is_template(unit->name))
                TRY(data_warn_shared(unit->name, &unit->file, &unit->warnings));
        TRY(warnings_add_rest(&unit->warnings));
        TRY(placement_check(&unexpanded, steps, err));
        TRY(unit_check_set(unit, &unexpanded, err));
        TRY(placement_check_patterns(&unit->placement, err));
        TRY(update_check(&unexpanded.update, &unexpanded.health, &unexpanded.service, &unit->file, err));
        TRY(unit_check_expanded(unit, unit->name, err));
        TRY(input_policy_check(&unit->placement.inputs, &unit->file, err));
        TRY(unexpanded.singleton ? singleton_check(unit->name, &unit->file, err) : 0);
        return unit_check_size(unit, err);
}

int unit_parse(const char *name, const char *text, size_t size, Unit **ret, Error *err) {
        _cleanup_unit_ Unit *unit = NULL;
        size_t steps = 0;

        TRY(unit_read(name, text, size, &unit, err));
        TRY(unit_check(unit, &steps, err));

        *ret = TAKE_PTR(unit);
        return 0;
}

/* Errors of the parsers begin with their line. */
static int unit_add_fault(Warnings *faults, const Error *err) {
        unsigned line = 0;
        int n = 0;

        if (sscanf(err->message, "line %u: %n", &line, &n) < 1 || n == 0)
                line = n = 0;
        return warnings_add(faults, line, err->message + n);
}

/* Read each option alone: all errors are found. The warnings are those of the whole file, as when it is
 * submitted, or of the single options, if there are errors. */
static int unit_verify_options(const char *name, const UnitFile *file, Warnings *faults, Warnings *warnings) {
        _cleanup_warnings_ Warnings single = {};
        _cleanup_placement_ Placement whole = {};
        size_t before = faults->n;
        int r;

        for (size_t i = 0; i < file->n_options; i++) {
                const UnitFile one = { .options = &file->options[i], .n_options = 1, .is_part = true };
                _cleanup_placement_ Placement placement = {};
                Error err = {};

                r = options_read(&one, name, &placement, &single, &err);
                if (r == -ENOMEM)
                        return r;
                if (r < 0 && unit_add_fault(faults, &err) < 0)
                        return -ENOMEM;
        }
        if (faults->n > before) {
                warnings_done(warnings);
                *warnings = TAKE_STRUCT(single);
        } else {
                r = options_read(file, NULL, &whole, warnings, NULL);
                if (r < 0)
                        return r == -ENOMEM ? r : 0; /* unit_parse() reports the error */
        }
        return warnings_add_rest(warnings);
}

/* Warn of an option that keeps a unit on a machine for less than one may expect. That is no mistake: only a
 * user who asks reads this. */
static int unit_warn_of_moves(const UnitFile *file, const Placement *p, Warnings *warnings) {
        int r = 0;

        for (size_t i = 0; i < file->n_options && r == 0 && !p->global && p->move != PLACEMENT_STAYS; i++) {
                const UnitOption *o = &file->options[i];

                if (unit_file_section_is_ours(o->section) && streq(o->name, "ReplaceAfterSec") &&
                    p->replace_after_ms == REPLACE_NEVER && p->sticky != STICKY_YES)
                        r = warnings_add(
                                warnings, o->line,
                                "ReplaceAfterSec=never without Move=no: a drain and a shutdown of its "
                                "machine move the unit");
        }
        return r;
}

bool unit_option_starts(const UnitOption *o) {
        return streq(o->section, "Unit") &&
               text_has_word("OnFailure OnSuccess Upholds Wants Requires Requisite BindsTo", o->name);
}

/* Warn of an instance that is named after the unit: it is no unit of the cluster, and systemd has no file. */
static int unit_warn_of_instances(const UnitFile *file, Warnings *warnings) {
        int r = 0;

        for (size_t i = 0; i < file->n_options && r == 0; i++) {
                const UnitOption *o = &file->options[i];
                char message[256];

                if (!unit_option_starts(o) || (!strstr(o->value, "@%n") && !strstr(o->value, "@%N")))
                        continue;
                snprintf(message, sizeof(message),
                         "%s=%.64s: the cluster gives this template to no machine; systemd starts it only "
                         "where the host has its file",
                         o->name, o->value);
                r = warnings_add(warnings, o->line, message);
        }
        return r;
}

/* Note that a secret of podman is none of fleet's. */
static int unit_warn_of_secrets(const char *name, const UnitFile *file, Warnings *warnings) {
        int r = 0;

        for (size_t i = 0; i < file->n_options && r == 0; i++) {
                const UnitOption *o = &file->options[i];

                if (streq(unit_name_type(name), "container") && streq(o->section, "Container") &&
                    streq(o->name, "Secret") && *o->value)
                        r = warnings_add(
                                warnings, o->line,
                                "[Container] Secret= is a secret of podman on each host, which fleetd "
                                "does not deliver; Secret= in [X-Fleet] is one of the cluster");
        }
        return r;
}

int unit_verify(const char *name, const char *text, size_t size, Warnings *faults, Warnings *warnings) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_unit_ Unit *unit = NULL;
        size_t before = faults->n;
        Error err = {};
        int r;

        if (unit_name_check(name, &err) < 0)
                return unit_add_fault(faults, &err);
        if (unit_check_name(name, &err) < 0 && unit_add_fault(faults, &err) < 0)
                return -ENOMEM;
        r = unit_file_parse(text, size, UNIT_FILE_LITERAL, &file, &err);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return unit_add_fault(faults, &err);
        r = unit_verify_options(name, &file, faults, warnings);
        if (r < 0 || faults->n > before)
                return r;
        /* The remaining rules concern the whole file: no options, combinations, the size. */
        r = unit_parse(name, text, size, &unit, &err);
        if (r < 0)
                return r == -ENOMEM ? r : unit_add_fault(faults, &err);
        warnings_done(warnings);
        *warnings = TAKE_STRUCT(unit->warnings);
        TRY(unit_warn_of_moves(&file, &unit->placement, warnings));
        TRY(unit_warn_of_secrets(name, &file, warnings));
        return unit_warn_of_instances(&file, warnings);
}

int unit_set_owner(Unit *unit, const char *owner, const char *path) {
        _cleanup_free_ char *o = NULL, *p = NULL;

        if (copy_string(owner, &o) < 0 || copy_string(path, &p) < 0)
                return -ENOMEM;

        free(unit->owner);
        free(unit->path);
        unit->owner = TAKE_PTR(o);
        unit->path = TAKE_PTR(p);
        return 0;
}

/* -- Drop-ins of an instance after the text of its template -- */

/* Return the folder of the drop-in that begins here with its comment line, as drop_ins_append() writes it;
 * NULL: none does. */
static const DropInFolder *drop_in_begins(DropIns *d, const char *text) {
        static const char start[] = "\n\n# ";

        return strncmp(text, start, strlen(start)) == 0 ? drop_ins_find(d, text + strlen(start)) : NULL;
}

/* Find the first drop-in in the text. *ret: where it begins, or the end of the text. */
static const DropInFolder *drop_in_next(DropIns *d, const char *text, const char **ret) {
        const DropInFolder *folder = NULL;
        const char *at = text;

        while ((at = strstr(at, "\n\n# ")) && !(folder = drop_in_begins(d, at)))
                at++;
        *ret = at ?: text + strlen(text);
        return folder;
}

int unit_append_own_drop_ins(Text *t, const char *name, const char *text) {
        _cleanup_drop_ins_ DropIns d = {};
        const DropInFolder *folder;
        const char *at, *end;

        TRY(drop_ins_init(&d, name));
        TRY(drop_ins_sort(&d));
        for (folder = drop_in_next(&d, text, &at); folder; at = end) {
                const DropInFolder *next = drop_in_next(&d, at + 1, &end);

                if (folder->of_instance)
                        text_append_bytes(t, at, (size_t) (end - at));
                folder = next;
        }
        return t->error;
}

bool unit_has_text_of(const Unit *unit, const Unit *template, size_t *ret_own) {
        _cleanup_text_ Text own = {};
        const char *rest;

        *ret_own = 0;
        if (unit_equal(unit, template))
                return true;
        if (unit->text_size <= template->text_size ||
            memcmp(unit->text, template->text, template->text_size) != 0)
                return false;
        rest = unit->text + template->text_size;
        if (unit_append_own_drop_ins(&own, unit->name, rest) < 0 || !streq(own.chars ?: "", rest))
                return false;
        *ret_own = own.size;
        return true;
}

static int unit_hash_begin(const Unit *unit, size_t size, char ret[static UNIT_HASH_SIZE]) {
        _cleanup_unit_file_ UnitFile file = {};

        TRY(unit_file_parse(unit->text, size, UNIT_FILE_LITERAL, &file, NULL));
        return unit_file_hash(&file, ret);
}

int unit_hash_without_own(const Unit *unit, char ret[static UNIT_HASH_SIZE]) {
        _cleanup_text_ Text own = {};

        TRY(unit_append_own_drop_ins(&own, unit->name, unit->text));
        return unit_hash_begin(
                unit, unit->text_size - (ends_with(unit->text, own.chars ?: "") ? own.size : 0), ret);
}

void unit_set_own(Unit *unit, size_t size) {
        unit->own_size = size;
        /* A number of JSON; not 0. */
        unit->own = size > 0 ? XXH3_64bits(unit->text + unit->text_size - size, size) >> 11 | 1 : 0;
}

int unit_compose(const Unit *instance, const Unit *template, Unit **ret) {
        _cleanup_text_ Text text = {};
        _cleanup_unit_ Unit *unit = NULL;

        text_append_bytes(&text, template->text, template->text_size);
        text_append_bytes(&text, instance->text + instance->text_size - instance->own_size,
                          instance->own_size);
        TRY(text.error < 0 ? text.error :
                             unit_read(instance->name, text.chars ?: "", text.size, &unit, NULL));
        unit_set_own(unit, instance->own_size);
        memcpy(unit->base, template->hash, sizeof(unit->base));
        *ret = TAKE_PTR(unit);
        return 0;
}

/* The hash of the text before the drop-ins follows from the text. */
static int unit_read_base(Unit *unit, uint64_t own_size) {
        int r;

        if (own_size == 0 || !unit->from || own_size >= unit->text_size)
                return 0;
        r = unit_hash_begin(unit, unit->text_size - own_size, unit->base);
        if (r >= 0)
                unit_set_own(unit, own_size);
        return r == -ENOMEM ? r : 0; /* otherwise the whole text counts */
}

bool unit_finishes(const Unit *unit) {
        return unit_classes[unit->class].finishes;
}

const char *unit_triggered(const Unit *unit) {
        return unit->placement.triggers.n > 0 ? unit->placement.triggers.items[0] : NULL;
}

bool unit_equal(const Unit *a, const Unit *b) {
        return streq(a->hash, b->hash);
}

UnitEffect unit_effect(const Unit *former, const Unit *unit) {
        UnitEffect effect = EFFECT_NONE;

        if (unit_equal(former, unit))
                return EFFECT_NONE;
        if (former->placement.singleton != unit->placement.singleton)
                return EFFECT_RESTART;
        if (effect_of_text(unit->name, &former->file, &unit->file, &effect) < 0)
                return streq(former->systemd_hash, unit->systemd_hash) ? EFFECT_NONE : EFFECT_RESTART;
        return effect == EFFECT_LIVE && unit->placement.singleton ? EFFECT_RESTART : effect;
}

bool unit_runs_same(const Unit *a, const Unit *b) {
        return unit_effect(a, b) != EFFECT_RESTART;
}

static const JsonField owner_fields[] = {
        { "from", JSON_FIELD_OWNED_OR_NULL, offsetof(Unit, from) },
        { "owner", JSON_FIELD_OWNED_OR_NULL, offsetof(Unit, owner) },
        { "path", JSON_FIELD_OWNED_OR_NULL, offsetof(Unit, path) },
};

/* The text is written even if it is empty, and the hash is not read: it follows from the text. */
void stored_unit_write(Text *t, const Unit *unit) {
        const Revision *wanted = unit->revisions.wanted.number > 0 ? &unit->revisions.wanted : NULL;

        json_open(t, NULL, '{');
        json_add_string(t, "by", wanted ? wanted->by : NULL);
        json_add_string(t, "canary", wanted && !unit->from ? wanted->update.canary : NULL);
        json_add_string(t, "hash", unit->hash);
        json_add_string(t, "how", wanted ? revision_how_to_string(wanted->how) : NULL);
        json_add_string(t, "onFailure", wanted && !unit->from ? wanted->update.on_failure : NULL);
        json_add_u64(t, "own", unit->own_size);
        json_write_fields(t, JSON_FIELDS(owner_fields), unit);
        if (wanted)
                revisions_write(t, &unit->revisions);
        json_add_string_always(t, "text", unit->text);
        json_close(t, '}');
}

int stored_unit_read(const char *name, const char *json, size_t size, Unit **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_unit_ Unit *unit = NULL;
        const char *text = NULL;
        uint64_t own_size = 0;

        TRY(json_object_parse(json, size, &root, err));
        TRY(json_read_string(root, "text", &text, err));
        if (!text)
                return error_set(err, -EBADMSG, "the unit has no text");

        TRY(unit_read(name, text, strlen(text), &unit, err));
        TRY(json_read_fields(root, JSON_FIELDS(owner_fields), unit, err));
        TRY(json_read_u64(root, "own", &own_size, err));
        TRY(unit_read_base(unit, own_size));
        TRY(revisions_read(root, &unit->revisions, err));

        *ret = TAKE_PTR(unit);
        return 0;
}
