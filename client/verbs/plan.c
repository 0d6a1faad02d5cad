/* verify and plan: what the cluster would do with unit files. */

#include "client/core/files.h"
#include "client/core/notes.h"
#include "client/core/unit.h"

/* -- verify -- */

typedef enum Checked { CHECKED_WRONG, CHECKED_WARNED, CHECKED_CORRECT } Checked;

/* Print the errors and warnings of a text that is 'from' a file. Lines of drop-ins continue the numbering. */
static Checked check_text(const char *name, const char *from, const Text *text) {
        _cleanup_warnings_ Warnings faults = {}, warnings = {};

        if (unit_verify(name, text->chars ?: "", text->size, &faults, &warnings) < 0) {
                (void) client_fail(-ENOMEM, NULL);
                return CHECKED_WRONG;
        }
        files_print_warnings(from, &faults, "");
        files_print_warnings(from, &warnings, "warning: ");
        return faults.n > 0 ? CHECKED_WRONG : warnings.n > 0 ? CHECKED_WARNED : CHECKED_CORRECT;
}

static int verify_run(Client *c, char **args, size_t n, Error *err) {
        Checked worst = CHECKED_CORRECT;

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL, *name = NULL;
                _cleanup_text_ Text text = {};
                Error about = {};
                int r = files_find(args[i], &path, &name, &text, &about);

                if (r < 0) {
                        (void) client_fail(r, &about);
                        worst = CHECKED_WRONG;
                } else {
                        Checked checked = check_text(name, path, &text);

                        worst = MIN(worst, checked);
                }
        }
        if (worst == CHECKED_CORRECT && client_is_interactive())
                client_note(
                        "syntax and [X-Fleet] are correct; options of systemd: systemd-analyze verify FILE");
        return worst == CHECKED_WRONG ? EXIT_FAILED : EXIT_DONE;
}

/* -- plan -- */

static int same_unit(const char *name, const Text *a, const Text *b, Error *err) {
        _cleanup_unit_ Unit *one = NULL, *other = NULL;

        TRY(unit_read(name, a->chars ?: "", a->size, &one, err));
        TRY(unit_read(name, b->chars ?: "", b->size, &other, err));
        return unit_equal(one, other);
}

/* Replace 'text' by that of the template in the cluster, if an instance without an own file gets that one at
 * a start: a new instance, and one for which no file of its template was 'found', either. Return 1, or 0. */
static int plan_follow(Client *c, const char *path, const char *name, bool found, Text *text, Error *err) {
        _cleanup_free_ char *template = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
        _cleanup_api_unit_ ApiUnit followed = API_UNIT_EMPTY, own = API_UNIT_EMPTY;
        const char *slash = strrchr(path, '/');
        _cleanup_text_ Text whole = {};
        int r;

        if (!template || (found && (streq(slash ? slash + 1 : path, name) ||
                                    client_unit(c, name, &own, &(Error) {}) != 0)))
                return 0;
        if (client_unit(c, template, &followed, &(Error) {}) <= 0)
                return 0;
        append_unit_text(&whole, &followed);
        r = files_read_drop_ins(path, name, true, &whole, err) ?: whole.error;
        if (r >= 0 && found)
                r = same_unit(name, &whole, text, err);
        if (r == 0 && found)
                client_note("%s gets the text of %s of the cluster, from which the file differs; to use the "
                            "file: fleetctl submit --replace %s",
                            name, template, path);
        text_clear(text);
        text_append_bytes(text, whole.chars ?: "", whole.size);
        return r < 0 ? r : text->error ?: 1;
}

/* Read and check the text that a start would use. Return false after printing errors. */
static bool plan_text(Client *c, const char *argument, char **ret_name, Text *text) {
        _cleanup_free_ char *path = NULL;
        Error err = {};
        int r = files_find(argument, &path, ret_name, text, &err), found = r >= 0;

        if (found && check_text(*ret_name, path, text) == CHECKED_WRONG)
                return false;
        if (*ret_name && (found || r == -ENOENT))
                r = plan_follow(c, path, *ret_name, found, text, &err) ?: r;
        if (r < 0)
                (void) client_fail(r, &err);
        return r >= 0;
}

/* Write the request. The result is that of a verb. */
static int plan_body(Client *c, char **args, size_t n, Text *t, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, n + 1);
        _cleanup_names_ Names texts = {}, names = {};
        int status = EXIT_DONE;

        for (size_t i = 0; units && i < n; i++) {
                _cleanup_free_ char *name = NULL;
                _cleanup_text_ Text text = {};

                if (!plan_text(c, args[i], &name, &text)) {
                        status = EXIT_FAILED;
                        continue;
                }
                if (names_add(&texts, text.chars ?: "", text.size) < 0 ||
                    names_add(&names, name, strlen(name)) < 0)
                        return -ENOMEM;
        }
        if (status != EXIT_DONE && names.n > 0)
                client_note("nothing is planned: correct the file, or plan the other%s without it",
                            names.n > 1 ? "s" : "");
        for (size_t i = 0; units && i < names.n; i++) {
                units[i] = client_change_of(names.items[i]);
                units[i].text = texts.items[i];
        }
        if (units)
                api_page_write(t, &api_units_page, units, names.n, NULL);
        return units && t->error >= 0 ? status : -ENOMEM;
}

static bool plan_has_effects(const JsonValue *units) {
        JSON_EACH(item, units)
                if (*member_text(item, "effect"))
                        return true;
        return false;
}

/* The column of effects is there if any unit has another text. */
static int print_plan(const JsonValue *root) {
        const JsonValue *all = json_value_member(root, "units");
        bool effects = plan_has_effects(all);
        _cleanup_table_ Table t = table_begin(effects ? "UNIT,ACTION,EFFECT,MACHINE,REASON" :
                                                        "UNIT,ACTION,MACHINE,REASON");

        JSON_EACH(unit, all) {
                table_cell(&t, "%s", member_text(unit, "name"));
                table_cell(&t, "%s", member_text(unit, "action"));
                if (effects)
                        table_cell(&t, "%s", member_text(unit, "effect"));
                table_cell(&t, "%s", member_text(unit, "hostname"));
                table_cell(&t, "%s", member_text(unit, "reason"));
        }
        return table_print(&t, true);
}

static void print_plan_steps(const JsonValue *rollout) {
        uint64_t n = member_number(rollout, "instances"), at_a_time = member_number(rollout, "atATime");
        _cleanup_text_ Text t = {}, least = {};

        if (n > 0) {
                text_printable(&t, "%s: %s", member_text(rollout, "name"), member_text(rollout, "effect"));
                text_printf(&t, ", %" PRIu64 " instance%s", n, n == 1 ? "" : "s");
                if (n > 1)
                        text_printf(&t, ", %" PRIu64 " at a time", at_a_time);
                span_describe(member_number(rollout, "leastMs"), &least);
                text_printf(&t, ", at least %s", least.chars ?: "");
                if (t.error == 0)
                        puts(t.chars);
        }
        (void) fflush(stdout);
        if (*member_text(rollout, "data"))
                client_note("%s: %s", member_text(rollout, "name"), member_text(rollout, "data"));
        client_note_warnings(json_value_member(rollout, "warnings"));
}

static int plan_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        TRY_DONE(plan_body(c, args, n, &body, err));
        TRY(client_request(c, "POST", "/fleet/v1/plan", &body, &reply, err));
        r = client_take_answer(c, &reply, &root, err);
        if (r != EXIT_DONE || !root)
                return r;
        r = print_plan(root);
        JSON_EACH(item, json_value_member(root, "rollouts"))
                print_plan_steps(item);
        return r;
}

VERB(plan, "plan", "json", "FILE...", "Show where the units of files would run",
     "Changes nothing. Actions: place, stay, move, stop, wait (no machine fits), keep (template).\n",
     plan_run);

VERB(verify, "verify", "", "FILE...", "Check unit files",
     "Sends nothing. Checks the syntax, the size, the name and [X-Fleet]; systemd-analyze verify FILE\n"
     "checks the settings of systemd. Exit status 1 if a file would be rejected.\n",
     verify_run);
