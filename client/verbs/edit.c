/* cat, diff, edit: print units of the cluster, compare them with local files, and change them in an editor.
 */
#include <fcntl.h>

#include "base/file.h"
#include "client/core/files.h"
#include "client/core/listing.h"
#include "client/core/notes.h"
#include "client/core/output.h"
#include "client/core/subprocess.h"
#include "client/core/unit.h"
#include "client/core/wait.h"
#include "client/verbs/replace.h"
#include "client/verbs/revisions.h"
#include "client/verbs/submit.h"

enum { TRIES_MAX = 3 }; /* of a change, when other clients change the target state */

/* A temporary folder below $TMPDIR with one file. */
typedef struct EditDraft {
        char *folder, *path; /* owned */
} EditDraft;

/* Keep a text that was rejected, and print its path. */
static void draft_keep(EditDraft *d) {
        fprintf(stderr, "fleetctl: the edited text is kept in %s\n", d->path);
        d->path = (free(d->path), NULL);
}

static void edit_draft_done(EditDraft *d) {
        if (d->path)
                (void) unlink(d->path);
        if (d->folder)
                (void) rmdir(d->folder);
        free(d->path);
        free(d->folder);
}

static int draft_make(EditDraft *d, const char *name, const Text *text, Error *err) {
        const char *tmp = getenv("TMPDIR");
        _cleanup_close_ int fd = -1;
        int r;

        TRY(text->error);
        if (asprintf(&d->folder, "%s/fleetctl-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
                return -ENOMEM;
        if (!mkdtemp(d->folder)) {
                r = error_set(err, -errno, "%s: %s", d->folder, strerror(errno));
                d->folder = (free(d->folder), NULL);
                return r;
        }
        if (asprintf(&d->path, "%s/%s", d->folder, name) < 0) {
                d->path = NULL;
                return -ENOMEM;
        }
        fd = open(d->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : write_file_at(fd, name, text->chars ?: "", text->size, 0600);
        return r < 0 ? error_set(err, r, "%s: %s", d->path, strerror(-r)) : 0;
}

/* Read a unit from the cluster. Return an exit status; errors are printed. */
static int fetch(Client *c, const char *name, ApiUnit *ret) {
        Error err = {};
        int r;

        r = TRY_VERB(name ? client_unit(c, name, ret, &err) : -ENOMEM, &err,
                     "Error retrieving Unit %s: ", name ?: "");
        if (r > 0)
                return EXIT_DONE;
        fprintf(stderr, "Unit %s not found\n", name);
        client_note_past(c, name, client_suggest_unit(c, name));
        return EXIT_ABSENT;
}

/* -- cat -- */

static int cat_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_free_ char *name = NULL;
        _cleanup_text_ Text t = {};

        if (n != 1) {
                fputs("One unit file must be provided\n", stderr);
                return EXIT_FAILED;
        }
        name = unit_name_from_argument(args[0]);
        if (c->options.rev) {
                int status = name ? client_revision(c, name, c->options.rev, &unit) : EXIT_FAILED;

                if (status != EXIT_DONE)
                        return status;
        } else if (fetch(c, name, &unit) != EXIT_DONE)
                return EXIT_FAILED;

        if (streq(c->options.output, "json")) {
                api_unit_write(&t, &unit);
                text_append_char(&t, '\n');
        } else if (c->options.source)
                append_unit_text(&t, &unit);
        else if (unit.file)
                unit_file_print(unit.file, &t, NULL);
        TRY(t.error);
        (void) output_text(t.chars ?: "", t.size);
        return EXIT_DONE;
}

/* -- diff -- */

/* Write a text for diff(1), which prints all bytes: on a terminal, control characters are escaped. */
static int draft_show(EditDraft *d, const char *name, const Text *text, Error *err) {
        _cleanup_text_ Text printable = {};

        if (!isatty(STDOUT_FILENO))
                return draft_make(d, name, text, err);
        text_append_printable_bytes(&printable, text->chars ?: "", text->size, true);
        return text->error ?: draft_make(d, name, &printable, err);
}

/* One object for each comparison: programs get the texts. */
static int diff_write(const char *name, const Text *text, const Text *other_text) {
        bool equal = streq(text->chars ?: "", other_text->chars ?: "");
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_add_bool(&t, "equal", equal);
        json_add_string_always(&t, "name", name);
        json_add_string_always(&t, "new", other_text->chars);
        json_add_string_always(&t, "old", text->chars);
        json_close(&t, '}');
        if (MIN(t.error, MIN(text->error, other_text->error)) < 0)
                return client_fail(-ENOMEM, NULL);
        (void) output_line(t.chars);
        return equal ? EXIT_DONE : EXIT_FAILED;
}

/* Return 0 if the texts are equal, 1 if they differ, more for an error. */
static int diff_texts(const Client *c, const char *name, const char *label, const Text *text,
                      const char *other_label, const Text *other_text) {
        _cleanup_(edit_draft_done) EditDraft draft = {}, other = {};
        Error err = {};
        int r;

        if (*c->options.output)
                return diff_write(name, text, other_text);
        r = draft_show(&draft, name, text, &err);
        if (r < 0)
                return client_fail(r, &err);
        r = draft_show(&other, name, other_text, &err);
        if (r < 0)
                return client_fail(r, &err);
        return subprocess_run((const char *[]) { "diff", "-u",
                                                 output_has_colours() ? "--color=auto" : "--color=never",
                                                 "--label", label, "--label", other_label, "--", draft.path,
                                                 other.path, NULL },
                              NULL, NULL, NULL, NULL);
}

static int diff_one(Client *c, const char *argument) {
        _cleanup_free_ char *name = NULL, *path = NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text text = {}, file = {};
        char label[UNIT_NAME_MAX + 32];
        Error err = {};
        int r;

        r = files_find(argument, &path, &name, &file, &err);
        if (r < 0)
                return client_fail(r, &err);
        TRY_DONE(fetch(c, name, &unit));
        append_unit_text(&text, &unit);
        snprintf(label, sizeof(label), "%s in the cluster", name);
        return diff_texts(c, name, label, &text, path, &file);
}

/* The label has the number also of the wanted revision, which 'number' NULL stands for. */
static int diff_take_revision(Client *c, const char *name, const char *number, Text *ret_label, Text *ret) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        int status = client_revision(c, name, number, &unit);

        if (status != EXIT_DONE)
                return status;
        append_unit_text(ret, &unit);
        text_printf(ret_label, number ? "%s, revision %s" : "%s in the cluster", name, number);
        return ret_label->error < 0 ? client_fail(ret_label->error, &(Error) {}) : EXIT_DONE;
}

static int diff_revisions(Client *c, char **args, size_t n) {
        _cleanup_text_ Text label = {}, text = {}, other_label = {}, other = {};
        _cleanup_free_ char *name = NULL;
        int status;

        if (!c->options.from || n != 1)
                return client_usage("diff: --from and --to expect one unit, and --to requires --from");
        name = unit_name_from_argument(args[0]);
        if (!name)
                return client_fail(-ENOMEM, &(Error) {});
        status = diff_take_revision(c, name, c->options.from, &label, &text);
        if (status == EXIT_DONE)
                status = diff_take_revision(c, name, c->options.to, &other_label, &other);
        return status == EXIT_DONE ? diff_texts(c, name, label.chars, &text, other_label.chars, &other) :
                                     status;
}

static int diff_run(Client *c, char **args, size_t n, Error *err) {
        int status = EXIT_DONE;

        if (c->options.from || c->options.to)
                return diff_revisions(c, args, n);
        for (size_t i = 0; i < n; i++) {
                int r = diff_one(c, args[i]);

                status = MAX(status, r);
        }
        return status;
}

/* -- edit -- */

/* Return the editor that the environment names, or NULL. */
static const char *editor_of_environment(void) {
        static const char *const variables[] = { "SYSTEMD_EDITOR", "EDITOR", "VISUAL" };

        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                const char *value = getenv(variables[i]);

                if (value && *value)
                        return value;
        }
        return NULL;
}

static const char *editor(void) {
        return editor_of_environment() ?: "editor"; /* of Debian's alternatives */
}

/* Run the editor and read the file. $EDITOR may contain arguments: a shell splits it, as for git and
 * systemctl. A pipe that gets the result in JSON gets nothing of the editor. */
static int read_edited(const Client *c, const char *path, char **ret, size_t *ret_size, Error *err) {
        bool apart = *c->options.output && !isatty(STDOUT_FILENO);
        _cleanup_free_ char *script = NULL;
        int r;

        if (asprintf(&script, "%s%s \"$1\"", apart ? "exec >&2; " : "", editor()) < 0)
                return -ENOMEM;
        r = subprocess_run((const char *[]) { "sh", "-c", script, "sh", path, NULL }, NULL, NULL, NULL, NULL);
        if (r > 0)
                return error_set(err, -ECANCELED, "editor '%s' failed with exit status %d", editor(), r);
        r = read_file_at(AT_FDCWD, path, UNIT_SIZE_MAX, ret, ret_size);
        return r < 0 ? error_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* Edit until the text is valid. An invalid text is an error unless the user edits it again. */
static int edited_text(const Client *c, const char *name, const char *path, char **ret, Error *err) {
        for (;;) {
                _cleanup_warnings_ Warnings faults = {}, warnings = {};
                _cleanup_free_ char *text = NULL;
                char answer[16];
                size_t size;

                TRY(read_edited(c, path, &text, &size, err));
                if (unit_verify(name, text, size, &faults, &warnings) < 0)
                        return -ENOMEM;
                files_print_warnings(name, &faults, "");
                files_print_warnings(name, &warnings, "warning: ");
                if (faults.n == 0) {
                        *ret = TAKE_PTR(text);
                        return 0;
                }
                if (!isatty(STDIN_FILENO))
                        return error_set(err, -EINVAL, "%s was not changed", name);
                fputs("Edit again? [Y/n] ", stderr);
                if (!fgets(answer, sizeof(answer), stdin) || answer[0] == 'n' || answer[0] == 'N')
                        return error_set(err, -EINVAL, "%s was not changed", name);
        }
}

/* Replace the text of 'unit', unless another client has changed it since it was read. The target state stays:
 * a unit that runs is restarted with the new text. */
static int replace_text(Client *c, const ApiUnit *unit, const char *text, Error *err) {
        int r = -EREMOTEIO;

        for (unsigned tries = 0; tries < TRIES_MAX && r == -EREMOTEIO; tries++) {
                _cleanup_api_unit_ ApiUnit now = API_UNIT_EMPTY;
                ApiUnit change = client_change_of(unit->name);

                *err = (Error) {};
                r = TRY(client_unit(c, unit->name, &now, err));
                if (r == 0)
                        return error_set(err, -ENOENT, "another client destroyed the unit meanwhile");
                if (!streq(now.hash ?: "", unit->hash ?: "") || !streq(now.text ?: "", unit->text ?: ""))
                        return error_set(err, -EINVAL,
                                         "another client changed the unit meanwhile; see: fleetctl diff %s",
                                         unit->name);
                change.text = text;
                change.canary = c->options.canary;
                change.on_failure = c->options.on_failure;
                change.desired_state = change.expected_state = now.desired_state;
                change.expected_hash = unit->hash;
                r = client_change(c, &change, 1, err);
        }
        return r;
}

/* Return whether the unit directory of 'machine' holds the unit: then its file does not exist, and the unit
 * can be changed. */
static bool is_held(const JsonValue *root, const char *name, const char *machine) {
        JSON_EACH(p, json_value_member(root, "problems"))
                if (streq(member_text(p, "kind"), "held") && streq(member_text(p, "name"), name) &&
                    streq(member_text(p, "machineID"), machine))
                        return true;
        return false;
}

/* Return an error about a unit of the unit directory of 'owner', with the file. */
static int edit_refuse(Client *c, const char *name, const ApiMachine *owner, Error *err) {
        _cleanup_json_ JsonValue *why = NULL;
        _cleanup_text_ Text path = {}, file = {};

        if (client_get_json(c, client_path_of(&path, "/fleet/v1/why/", name, ""), &why, NULL) >= 0)
                text_append_printable(&file, member_text(why, "file"));
        return error_set(err, -EPERM, "%s comes from %s on %s; edit the file there", name,
                         file.size > 0 ? file.chars : "the unit directory", owner->hostname ?: owner->id);
}

/* Return an error if the daemon would reject every change of the unit: without a leader, or if the unit comes
 * from a file on a host. */
static int edit_check(Client *c, const ApiUnit *unit, Error *err) {
        _cleanup_json_ JsonValue *cluster = NULL, *directories = NULL;
        _cleanup_listing_ Listing machines = {};
        const ApiMachine *owner;
        const char *problem;
        int r;

        TRY(client_get_json(c, "/fleet/v1/cluster", &cluster, err));
        problem = member_text(cluster, "problem");
        if (!json_value_member(cluster, "leader"))
                return error_set(err, -EAGAIN, "%s cannot be changed: %s (fleetctl status)", unit->name,
                                 *problem ? problem : "the cluster has no leader");
        if (!unit->owner || !*unit->owner)
                return 0;
        TRY(client_machines(c, &machines, err));
        owner = listing_machine(&machines, unit->owner);
        if (!owner || !owner->presence || !streq(owner->presence, "up"))
                return 0;
        r = client_get_json(c, "/fleet/v1/directory", &directories, err);
        if (r < 0 || is_held(directories, unit->name, unit->owner))
                return r < 0 ? r : 0;
        return edit_refuse(c, unit->name, owner, err);
}

/* Write the note that an instance leaves the template that it follows; none if it does not. Errors are
 * ignored: the change does not depend on it. */
static void edit_note_apart(Client *c, const ApiUnit *unit, const char *text, Text *ret) {
        _cleanup_(replace_templates_done) ReplaceTemplates all = {};
        _cleanup_unit_ Unit *edited = NULL;
        const ReplaceTemplate *template;

        if (unit_name_is_instance(unit->name) && unit->desired_state == TARGET_LAUNCHED &&
            replace_template(c, &all, unit->name, &template, &(Error) {}) >= 0 &&
            replace_template_has(template, unit->name) &&
            unit_read(unit->name, text, strlen(text), &edited, NULL) >= 0 &&
            replace_template_has_text(c, template, edited) == 0)
                replace_append_apart(ret, template, unit->name);
}

/* How the unit was before its text was changed. */
typedef struct EditedRun {
        bool runs;          /* on a machine; or nothing waits for it */
        uint64_t failed_ms; /* see wait_read_run() */
} EditedRun;

/* Read it, unless nothing waits for the unit. Without an answer, nothing does. 0 or -ENOMEM. */
static int edit_read_run(Client *c, const ApiUnit *unit, EditedRun *ret) {
        int r;

        ret->runs = true;
        if (unit->desired_state != TARGET_LAUNCHED || unit_name_is_template(unit->name) || unit->global ||
            c->options.no_block)
                return 0;
        r = wait_read_run(c, unit->name, &ret->runs, &ret->failed_ms, &(Error) {});
        if (r < 0)
                ret->runs = true;
        return r == -ENOMEM ? r : 0;
}

/* Wait for the rollout of the new text, and for the start of a unit that did not run. Return an exit status.
 */
static int edit_wait(Client *c, const ApiUnit *unit, const char *text, const EditedRun *before, Error *err) {
        _cleanup_rollout_goals_ RolloutGoals goals = {};
        _cleanup_unit_ Unit *edited = NULL;
        int r;

        if (unit->desired_state != TARGET_LAUNCHED && !unit_name_is_template(unit->name)) {
                (void) replace_note_unused(c, unit->name, "has not been started", false);
                return EXIT_DONE;
        }
        r = rollout_is_supported(c, err);
        if (r > 0)
                r = rollout_goals_add(&goals, unit->name, NULL);
        if (r >= 0)
                r = rollout_wait(c, &goals, err);
        if (r != EXIT_DONE || before->runs)
                return r;
        TRY(unit_read(unit->name, text, strlen(text), &edited, err));
        return wait_for_text(c, unit->name, unit_name_is_instance(unit->name) ? NULL : edited->hash,
                             before->failed_ms, "new", err);
}

/* 'paths': of keys that the texts before name for the first time. */
static int edit_one(Client *c, const char *argument, Names *paths, Error *err) {
        _cleanup_free_ char *name = unit_name_from_argument(argument), *edited = NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        ApiUnit change;
        EditedRun before = {};
        _cleanup_(edit_draft_done) EditDraft draft = {};
        _cleanup_text_ Text text = {}, where = {}, apart = {};
        size_t n_paths = paths->n;
        int r;

        r = output_discard(false); /* the editor needs the terminal */
        if (r < 0)
                return r;
        TRY_DONE(fetch(c, name, &unit));
        TRY(edit_check(c, &unit, err));
        TRY(edit_read_run(c, &unit, &before));
        if (!editor_of_environment() && !isatty(STDIN_FILENO))
                return error_set(err, -EINVAL,
                                 "%s cannot be edited: standard input is no terminal; set SYSTEMD_EDITOR, "
                                 "or change a copy: fleetctl cat --source %s >%s, then fleetctl start "
                                 "--replace %s",
                                 name, name, name, name);
        append_unit_text(&text, &unit);
        TRY(draft_make(&draft, name, &text, err));
        r = edited_text(c, name, draft.path, &edited, err);
        if (r < 0) {
                (void) client_fail(r, err);
                if (r == -EINVAL)
                        draft_keep(&draft);
                return EXIT_FAILED;
        }
        if (streq(text.chars ?: "", edited)) {
                if (!replace_note_unused(c, name, "is unchanged", true))
                        client_note("%s is unchanged", name);
                return EXIT_DONE;
        }
        TRY(output_discard(*c->options.output));
        edit_note_apart(c, &unit, edited, &apart);
        change = client_change_of(name);
        change.text = edited;
        r = replace_confirm(c, &change, 1, false, &where, err);
        if (r == -ECANCELED) {
                draft_keep(&draft);
                return EXIT_FAILED;
        }
        if (r >= 0 && !before.runs) /* it may have failed again meanwhile */
                r = edit_read_run(c, &unit, &before);
        if (r >= 0)
                r = submit_add_paths(c, paths, name, edited, &unit);
        if (r >= 0)
                r = replace_text(c, &unit, edited, err);
        if (r < 0) {
                draft_keep(&draft);
                return client_fail_after(r, err, "Failed to change unit %s: ", name);
        }
        printf("Unit %s changed\n", name);
        (void) fflush(stdout);
        if (apart.size > 0 && apart.error == 0)
                client_note("%s", apart.chars);
        submit_note_keys(c, paths, n_paths);
        if (where.size > 0 && !unit_name_is_template(name))
                client_note("%s stops on %s, and waits for a machine (fleetctl why %s)", name, where.chars,
                            name);
        if (where.size > 0 && !unit.global && !unit_name_is_template(name))
                return EXIT_DONE; /* no instance is left that becomes available */
        return edit_wait(c, &unit, edited, &before, err);
}

/* Print the units that are not edited, and the command that continues. */
static void edit_note_rest(const Client *c, char **args, size_t n) {
        _cleanup_rollout_goals_ RolloutGoals rest = {};

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);

                if (!name || rollout_goals_add(&rest, name, NULL) < 0)
                        return;
                rest.items[i].given = args[i];
        }
        replace_note_rest(c, "edited", &rest, 0);
}

static int edit_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_names_ Names paths = {};

        for (size_t i = 0; i < n; i++) {
                int status = edit_one(c, args[i], &paths, err);

                if (status == EXIT_DONE)
                        continue;
                if (status < 0 && i + 1 < n)
                        status = client_fail(status, err->code == status ? err : NULL);
                edit_note_rest(c, args + i + 1, n - i - 1);
                return status;
        }
        return EXIT_DONE;
}

VERB(cat, "cat", "json", "UNIT", "Output the contents of a submitted unit",
     "Prints the unit file in the form that is hashed: without comments. --source prints the submitted\n"
     "text, followed by its drop-ins. --rev prints a former revision; fleetctl history lists them.\n",
     cat_run);

VERB(diff, "diff", "json", "FILE...", "Show the differences between local unit files and the cluster",
     "Files are named as for start. --from and --to compare two revisions of a unit.\n"
     "Exit status 0 if nothing differs, 1 if a file differs or does not exist, 4 if a unit or a\n"
     "revision does not exist in the cluster.\n\n"
     "fleetctl diff web.service --from=3\n",
     diff_run);

VERB(edit, "edit", "yes no-block attempts report update", "UNIT...", "Edit units of the cluster",
     "Opens the submitted text in $SYSTEMD_EDITOR, $EDITOR or $VISUAL. A valid text replaces the unit,\n"
     "also while it runs. Asks if the unit would stop, because no machine qualifies for the new text.\n",
     edit_run);
