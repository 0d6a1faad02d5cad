/* Warnings of a submission, and the question before units stop. */
#include "client/core/unit.h"
#include "client/verbs/found.h"
#include "client/verbs/kv.h"
#include "client/verbs/submit.h"
#include "client/verbs/submit_internal.h"

enum {
        REQUIRED_MAX = 100, /* units whose places are read for warnings */
        LEAVING_SHOWN = 8,
        KEYS_COUNTED_MAX = 1000, /* of one path */
};

/* Return whether a unit of that text may run on another machine than 'by', which requires it. */
static bool may_be_apart(const Unit *required, const char *by) {
        return !required->placement.global && !names_have(&required->placement.machine_of, by);
}

/* Return whether 'name' is or becomes a unit of the cluster that may run on another machine than 'by'. */
static bool runs_elsewhere(Client *c, const Submissions *all, const char *name, const char *by) {
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
        _cleanup_unit_ Unit *unit = NULL;

        for (size_t i = 0; i < all->n; i++)
                if (all->items[i].unit && streq(all->items[i].name, name))
                        return may_be_apart(all->items[i].unit, by);
        return client_unit(c, name, &stored, NULL) > 0 && !stored.global &&
               (!api_unit_has_contents(&stored) || api_unit_contents(name, &stored, &unit, NULL) < 0 ||
                may_be_apart(unit, by));
}

/* Return whether 'name' is, or becomes, a unit of the cluster. */
static bool is_of_cluster(Client *c, const Submissions *all, const char *name) {
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;

        for (size_t i = 0; i < all->n; i++)
                if (streq(all->items[i].name, name))
                        return true;
        return client_unit(c, name, &stored, NULL) > 0;
}

/* Warn of an instance that only systemd would make of a template of the cluster: no machine has its file. */
static void warn_instance(Client *c, Submissions *all, const Submission *s, const UnitOption *o,
                          const char *instance) {
        _cleanup_free_ char *template = unit_name_template(instance);

        if (!template || !unit_name_is_instance(instance) || names_have(&all->instances, instance) ||
            all->instances.n >= REQUIRED_MAX || names_add(&all->instances, instance, strlen(instance)) < 0 ||
            !is_of_cluster(c, all, template) || is_of_cluster(c, all, instance))
                return;
        client_note("%s: line %u: warning: %s=%s is no unit of the cluster, which gives %s to no machine; to "
                    "have it there: fleetctl load %s, with MachineOf=%s in [X-Fleet]",
                    s->name, o->line, o->name, instance, template, instance, s->name);
}

static void warn_instances(Client *c, Submissions *all, const Submission *s) {
        for (size_t i = 0; i < s->unit->file.n_options; i++) {
                const UnitOption *o = &s->unit->file.options[i];
                _cleanup_free_ char *words = unit_option_starts(o) ? unit_name_expand(s->name, o->value) :
                                                                     NULL;
                char *rest = words, *word;

                while (rest && (word = strsep(&rest, " \t\n")))
                        if (*word && !strpbrk(word, "%\\"))
                                warn_instance(c, all, s, o, word);
        }
}

/* A unit that is bound to its machines cannot follow another one. */
void submit_warn_required(Client *c, Submissions *all, const Submission *s) {
        const Placement *placement = &s->unit->placement;
        const UnitFile *file = &s->unit->file;

        if (!unit_name_is_template(s->name))
                warn_instances(c, all, s);
        for (size_t i = 0; i < file->n_options && !placement->global && !placement->machine_id; i++) {
                const UnitOption *o = &file->options[i];
                _cleanup_free_ char *words = NULL;
                char *rest, *word;

                if (!streq(o->section, "Unit") || !text_has_word("BindsTo Requires Requisite", o->name))
                        continue;
                words = unit_name_expand(s->name, o->value);
                rest = words;
                while (rest && (word = strsep(&rest, " \t\n"))) {
                        if (strpbrk(word, "%\\") || ends_with(word, ".target") || ends_with(word, ".slice") ||
                            !*word || names_have(&placement->machine_of, word) ||
                            names_have(&all->required, word) || all->required.n >= REQUIRED_MAX ||
                            names_add(&all->required, word, strlen(word)) < 0 ||
                            !runs_elsewhere(c, all, word, s->name))
                                continue;
                        client_note("%s: line %u: warning: %s=%s is a unit of the cluster, and may run on "
                                    "another machine; to run both on one: MachineOf=%s in [X-Fleet]",
                                    s->name, o->line, o->name, word, word);
                }
        }
}

/* Warn of one text. Errors are ignored: the change does not depend on it. */
static void warn_failed(Client *c, const Submission *s) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};

        if (client_get_json(c, client_path_of(&path, "/fleet/v1/revisions/", s->name, ""), &root, NULL) < 0)
                return;
        JSON_EACH(x, json_value_member(root, "revisions")) {
                bool reverted = streq(member_text(x, "outcome"), "reverted");

                if ((!reverted && !streq(member_text(x, "outcome"), "failed")) ||
                    !streq(member_text(x, "hash"), s->unit->hash))
                        continue;
                client_note("%s: warning: this is the text of revision %llu, whose last rollout %s (fleetctl "
                            "history %s); to follow it now: fleetctl rollout %s; to return: fleetctl revert "
                            "%s",
                            s->name, (unsigned long long) member_number(x, "number"),
                            reverted ? "was reverted" : "failed", s->name, s->name, s->name);
        }
}

void submit_warn_failed(Client *c, const Submissions *all) {
        for (size_t i = 0; i < all->n; i++)
                if (all->items[i].due && all->items[i].rolls && all->items[i].unit)
                        warn_failed(c, &all->items[i]);
}

/* As submit_confirm(). */
static int confirm_leaving(Client *c, const Submissions *all) {
        _cleanup_text_ Text names = {};
        size_t n = 0;

        for (size_t i = 0; i < all->n; i++)
                if (all->items[i].leaves && ++n <= LEAVING_SHOWN)
                        text_printf(&names, "%s%s", n > 1 ? ", " : "", all->items[i].name);
        if (n > LEAVING_SHOWN)
                text_printf(&names, " and %zu more", n - LEAVING_SHOWN);
        if (n == 0 || names.error < 0)
                return names.error;
        text_printf(&names, " get%s a text of %s own, and no longer follow%s %s template", n == 1 ? "s" : "",
                    n == 1 ? "its" : "their", n == 1 ? "s" : "", n == 1 ? "its" : "their");
        return replace_ask(c, true, names.chars) ? names.error : -ECANCELED;
}

int submit_confirm(Client *c, const Submissions *all, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, all->n + 1);
        _cleanup_text_ Text where = {};
        size_t n = 0;
        int r;

        for (size_t i = 0; units && i < all->n; i++) {
                const Submission *s = &all->items[i];

                if (!s->due || !s->exists)
                        continue;
                units[n] = client_change_of(s->name);
                units[n++].text = s->text ? s->text : s->unit->text;
        }
        if (!units)
                return -ENOMEM;
        r = confirm_leaving(c, all);
        return r < 0 || n == 0 ? r : replace_confirm(c, units, n, true, &where, err);
}

/* -- Keys that exist before a unit names them -- */

static bool names_path(const Unit *unit, const char *path) {
        const char *known = "";

        for (size_t i = 0; unit && known && !streq(known, path); i++)
                known = input_policy_path(&unit->placement.inputs, i);
        return unit && known;
}

/* Add the paths of one unit, which its former text has by the name 'by'. */
static int add_paths(Names *paths, const Unit *unit, const ApiUnit *former, const char *by) {
        _cleanup_unit_ Unit *before = NULL;
        const char *path;

        if (former && api_unit_has_contents(former))
                (void) api_unit_contents(by, former, &before, NULL);
        for (size_t i = 0; (path = input_policy_path(&unit->placement.inputs, i)); i++)
                if (!names_path(before, path) && !names_have(paths, path))
                        TRY(names_add(paths, path, strlen(path)));
        return 0;
}

/* Add the paths of a template that depend on the instance, for each one of Replicas=, and in the cluster. */
static int add_paths_of_instances(Client *c, Names *paths, const Unit *template, const ApiUnit *former) {
        _cleanup_listing_ Listing units = {};
        _cleanup_names_ Names names = {};
        bool any = false;

        for (size_t i = 0; i < template->file.n_options && !any; i++) {
                const UnitOption *o = &template->file.options[i];

                any = unit_file_section_is_ours(o->section) &&
                      text_has_word("EnvironmentKeys ConfigKeys", o->name) && strchr(o->value, '%');
        }
        if (!any)
                return 0;
        TRY(found_slots(template->name, 1, (uint64_t) MAX(template->placement.replicas, 0), &names));
        if (former)
                (void) client_units(c, &units, NULL);
        for (size_t i = 0; i < names.n + units.n; i++) {
                const char *name = i < names.n ? names.items[i] : units.units[i - names.n].name;
                _cleanup_free_ char *of = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
                _cleanup_unit_ Unit *unit = NULL;

                if (same_string(of, template->name) &&
                    unit_read(name, template->text, template->text_size, &unit, NULL) >= 0)
                        TRY(add_paths(paths, unit, former, name));
        }
        return 0;
}

int submit_add_paths(Client *c, Names *paths, const char *name, const char *text, const ApiUnit *former) {
        _cleanup_free_ char *template = former ? NULL : unit_name_template(name);
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
        _cleanup_unit_ Unit *unit = NULL;

        if (unit_read(name, text, strlen(text), &unit, NULL) < 0)
                return 0;
        if (unit_name_is_template(name))
                TRY(add_paths_of_instances(c, paths, unit, former));
        else if (template && unit_name_is_instance(name) && input_policy_path(&unit->placement.inputs, 0) &&
                 client_unit(c, template, &stored, NULL) > 0)
                former = &stored; /* which has no paths that depend on the instance */
        return add_paths(paths, unit, former, template ?: name);
}

typedef struct KeyCount {
        size_t base, n; /* size of the path; its keys without hidden ones, which no unit gets */
} KeyCount;

static int count_key(void *userdata, const KvListed *node) {
        KeyCount *count = userdata;

        count->n += !node->dir && !kv_is_hidden(node, count->base);
        return count->n > KEYS_COUNTED_MAX ? -ECANCELED : 0;
}

void submit_note_keys(Client *c, const Names *paths, size_t at) {
        for (size_t i = at; i < paths->n; i++) {
                const char *path = paths->items[i];
                KeyCount count = { .base = strlen(path) };
                int r = kv_pages(c, path, "values=false&quorum=true&limit=1000", count_key, &count, NULL);

                if (r == -ECANCELED)
                        client_note("%s has more than %d keys that exist already", path, KEYS_COUNTED_MAX);
                else if (r == 0 && count.n > 0)
                        client_note("%s has %zu key%s that exist%s already", path, count.n, plural(count.n),
                                    count.n == 1 ? "s" : "");
        }
}
