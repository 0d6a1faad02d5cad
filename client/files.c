#include "client/files.h"
#include "client/suggest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "client/output.h"
#include "client/wait.h"
#include "units/drop_ins.h"

/* One argument: what it is called, and what is here of it. */
typedef struct Submission {
        char *argument; /* with its type */
        char *name;
        Unit *unit;         /* of the file here; NULL: there is none */
        bool from_template; /* it is that of the template here */
        char *text;    /* to be submitted: the template's in the cluster, with the drop-ins of this instance;
                          NULL: the file's */
        Text drop_ins; /* of an instance alone */
        bool exists, due; /* it is in the cluster; it is to be submitted */
} Submission;

typedef struct Submissions {
        Submission *items;
        size_t n;
} Submissions;

static void submissions_done(Submissions *all) {
        for (size_t i = 0; all->items && i < all->n; i++) {
                free(all->items[i].argument);
                free(all->items[i].name);
                free(all->items[i].text);
                text_done(&all->items[i].drop_ins);
                unit_free(all->items[i].unit);
        }
        free(all->items);
}

int files_names(char **args, size_t n, Names *ret) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                int r;

                r = name ? names_add(ret, name, strlen(name)) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Appends what lies in the folders of drop-ins beside 'path'; 'own': in those that its template has not got.
 */
static int read_drop_ins(const char *path, const char *name, bool own, Text *t, Error *err) {
        const char *slash = strrchr(path, '/');
        _cleanup_drop_ins_ DropIns d = {};
        int r;

        r = drop_ins_init(&d, name);
        if (r < 0)
                return r;
        for (size_t i = 0; i < d.n; i++) {
                _cleanup_free_ char *folder = NULL;

                if (own && !d.folders[i].of_instance)
                        continue;
                if (asprintf(&folder, "%.*s%s", slash ? (int) (slash + 1 - path) : 0, path,
                             d.folders[i].name) < 0) {
                        folder = NULL;
                        return -ENOMEM;
                }
                r = read_folder_at(AT_FDCWD, folder, DROP_IN_SUFFIX, DROP_INS_MAX, UNIT_SIZE_MAX,
                                   &d.folders[i].files, &d.folders[i].n);
                if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -ENAMETOOLONG)
                        return error_set(err, r, "%s: %s", folder,
                                         r == -E2BIG ? "too many drop-ins" : strerror(-r));
        }
        return drop_ins_append(&d, t, err);
}

int files_read(const char *path, const char *name, Text *t, Error *err) {
        _cleanup_free_ char *real = realpath(path, NULL), *text = NULL; /* links are fine here */
        size_t size;
        int r = real ? read_file_at(AT_FDCWD, real, UNIT_SIZE_MAX, &text, &size) : -errno;

        if (r < 0)
                return error_set(err, r, "%s: %s", path, strerror(-r));
        text_append_bytes(t, text, size);
        r = t->error ?: read_drop_ins(path, name, false, t, err);
        return r;
}

/* Where the file of a unit is, whose own would be at 'path': there, or an instance's template in the same
 * folder. 0: nowhere. */
static int find_file(const char *path, const char *name, Text *ret, bool *ret_from_template) {
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *template = NULL;

        *ret_from_template = false;
        text_append(ret, path);
        if (ret->error == 0 && access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
                if (!unit_name_is_instance(name))
                        return 0;
                template = unit_name_template(name);
                if (!template)
                        return -ENOMEM;
                *ret_from_template = true;
                text_clear(ret);
                if (slash)
                        text_append_bytes(ret, path, (size_t) (slash - path) + 1);
                text_append(ret, template);
                if (ret->error == 0 && access(ret->chars, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR))
                        return 0;
        }
        return ret->error < 0 ? ret->error : 1;
}

/* The argument with its type, as a path, and the name of the unit. */
static int parse_argument(const char *argument, char **ret_path, char **ret_name, Error *err) {
        const char *slash = strrchr(argument, '/');
        _cleanup_free_ char *name = unit_name_from_argument(argument);
        _cleanup_text_ Text t = {};
        int r;

        if (slash)
                text_append_bytes(&t, argument, (size_t) (slash - argument) + 1);
        text_append(&t, name ? name : "");
        *ret_path = text_take(&t, NULL);
        if (!name || !*ret_path)
                return -ENOMEM;
        r = unit_name_check(name, err);
        if (r >= 0)
                *ret_name = TAKE_PTR(name);
        return r;
}

int files_find(const char *argument, char **ret_path, char **ret_name, Text *t, Error *err) {
        _cleanup_text_ Text path = {};
        bool from_template;
        int r;

        r = parse_argument(argument, ret_path, ret_name, err);
        if (r >= 0)
                r = find_file(*ret_path, *ret_name, &path, &from_template);
        if (r > 0) {
                free(*ret_path);
                *ret_path = text_take(&path, NULL);
        }
        return r < 0 ? r : !*ret_path ? -ENOMEM : files_read(*ret_path, *ret_name, t, err);
}

static bool same_contents(const ApiUnit *there, const Unit *here) {
        char hash[UNIT_HASH_SIZE];

        if (there->hash && *there->hash)
                return streq(there->hash, here->hash);
        return there->file && unit_file_hash(there->file, hash) >= 0 && streq(hash, here->hash);
}

/* Has the cluster this very unit? Then nothing is submitted. */
static bool is_stored(Client *c, const Submission *s) {
        _cleanup_api_unit_ ApiUnit there = API_UNIT_EMPTY;
        Error err = {};

        return client_unit(c, s->name, &there, &err) > 0 && same_contents(&there, s->unit);
}

/* The file at the argument's path, or in the same folder the template of an instance. What an older version
 * has stored may break rules and limits of this one. */
static int read_here(Client *c, Submission *s, Error *err) {
        _cleanup_text_ Text path = {}, t = {};
        size_t steps = 0;
        int found, r = 0;

        found = find_file(s->argument, s->name, &path, &s->from_template);
        if (found >= 0 && s->from_template)
                r = read_drop_ins(s->argument, s->name, true, &s->drop_ins, err);
        if (found <= 0 || r < 0)
                return found < 0 ? found : r;
        r = files_read(path.chars, s->name, &t, err);
        if (r < 0)
                return r;
        r = unit_read(s->name, t.chars ?: "", t.size, &s->unit, err);
        if (r >= 0)
                r = unit_check(s->unit, &steps, err);
        if (r < 0 && r != -ENOMEM && s->unit && is_stored(c, s))
                r = 0;
        return r < 0 ? error_prefix(err, r, "%s", path.chars) : 0;
}

/* Names and files of all arguments, before anything is submitted: one mistake must not leave half of it done.
 */
static int read_all(Client *c, char **args, size_t n, Submissions *all) {
        bool refused = false;

        all->items = NEW0(Submission, n + 1);
        if (!all->items)
                return client_fail(-ENOMEM, NULL, "%s", "");
        for (size_t i = 0; i < n; i++) {
                Submission *s = &all->items[all->n++];
                Error err = {};
                int r;

                r = parse_argument(args[i], &s->argument, &s->name, &err);
                if (r < 0)
                        return client_fail(r, &err, "Error creating units: ");
                r = read_here(c, s, &err);
                if (r < 0) {
                        fprintf(stderr, "fleetctl: %s\n", error_text(&err, r));
                        refused = true;
                }
        }
        if (refused)
                fputs("fleetctl: nothing was submitted\n", stderr);
        return refused ? EXIT_FAILED : EXIT_DONE;
}

void files_print_notes(const char *name, const Warnings *notes, const char *word) {
        for (size_t i = 0; i < notes->n; i++) {
                fprintf(stderr, "fleetctl: %s: ", name);
                if (notes->items[i].line > 0)
                        fprintf(stderr, "line %u: ", notes->items[i].line);
                fprintf(stderr, "%s%s\n", word, notes->items[i].message);
        }
}

static void warn_difference(const Submission *s) {
        fprintf(stderr,
                "WARNING: Unit %s in registry differs from local %sunit file %s. Add --replace to "
                "override.\n",
                s->name, s->from_template ? "template " : "", s->argument);
}

/* What is to be done with a unit that is in the cluster. 1: submit it again. */
static int judge_existing(const Client *c, const Submission *s, const ApiUnit *there, TargetState replaceable,
                          Error *err) {
        const char *state = target_state_to_string(there->desired_state);

        if (!s->unit) {
                if (!c->options.replace)
                        return 0;
                if (unit_name_is_instance(s->name))
                        return error_set(err, -ENOENT, "no file of %s and no template of it here",
                                         s->argument);
                return error_set(err, -ENOENT, "error Unit %s does not seem to be a template unit",
                                 s->argument);
        }
        if (same_contents(there, s->unit)) {
                if (c->options.replace)
                        printf("Found same Unit(%s) in Registry, nothing to do\n", s->name);
                return 0;
        }
        if (!c->options.replace) {
                warn_difference(s);
                return 0;
        }
        if (there->desired_state > replaceable) {
                fprintf(stderr,
                        "Warning: can not replace Unit(%s) in state '%s', use the appropriate command\n",
                        s->name, state ? state : "");
                return 0;
        }
        return 1;
}

/* The contents of an instance's template in the cluster. 0: it has none there. */
static int template_text(Client *c, const Submission *s, char **ret, Error *err) {
        _cleanup_free_ char *name = unit_name_template(s->name);
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text t = {};
        int r;

        if (!name)
                return -ENOMEM;
        r = client_unit(c, name, &unit, err);
        if (r <= 0)
                return r == -EREMOTEIO ?
                               error_prefix(err, r, "error retrieving Unit(%s) from Registry", name) :
                               r;

        if (s->unit && s->drop_ins.size == 0 && !same_contents(&unit, s->unit)) /* else they differ anyway */
                fprintf(stderr,
                        "WARNING: Unit %s in registry differs from local template unit file %s. Add "
                        "--replace to override.\n",
                        name, s->argument);
        if (unit.text && *unit.text)
                text_append(&t, unit.text);
        else if (unit.file)
                unit_file_print(unit.file, &t, NULL);
        text_append_bytes(&t, s->drop_ins.chars ?: "", s->drop_ins.size);
        *ret = text_take(&t, NULL);
        return *ret ? 1 : -ENOMEM;
}

/* A 400 is about the file, and the daemon's sentence names the line. */
static bool is_about_the_file(int r, const Error *err) {
        return r == -EREMOTEIO && starts_with(err->message, "googleapi: Error 400: ");
}

/* Whether a unit has to be submitted, and as what. */
static int prepare_one(Client *c, Submission *s, TargetState replaceable, Error *err) {
        _cleanup_api_unit_ ApiUnit there = API_UNIT_EMPTY;
        int r;

        r = client_unit(c, s->name, &there, err);
        if (r < 0)
                return r == -EREMOTEIO ?
                               error_prefix(err, r, "error retrieving Unit(%s) from Registry", s->name) :
                               r;
        s->exists = r > 0;
        if (s->exists) {
                r = judge_existing(c, s, &there, replaceable, err);
                if (r <= 0)
                        return r;
        } else if (unit_name_is_instance(s->name) && (!s->unit || s->from_template)) {
                r = template_text(c, s, &s->text, err);
                if (r < 0)
                        return r;
                if (!s->text && !s->unit) {
                        _cleanup_free_ char *template = unit_name_template(s->name);

                        return error_set(err, -ENOENT,
                                         "failed getting Unit(%s) from template: unable to find template "
                                         "Unit(%s) in Registry or on filesystem",
                                         s->argument, template ? template : s->name);
                }
        } else if (!s->unit)
                return error_set(err, -ENOENT,
                                 client_talks_to_people() ?
                                         "no unit %s in the cluster, nor a file of that name here" :
                                         "unable to find Unit(%s) in Registry or on filesystem",
                                 s->name);

        if (s->unit)
                files_print_notes(s->name, &s->unit->warnings, "warning: ");
        s->due = true;
        return 0;
}

/* All that are due go together. */
static int submit_all(Client *c, const Submissions *all, Names *ret_submitted, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, all->n + 1);
        size_t n = 0;
        int r = units ? 0 : -ENOMEM;

        for (size_t i = 0; i < all->n && r >= 0; i++) {
                const Submission *s = &all->items[i];

                if (!s->due)
                        continue;
                units[n] = API_UNIT_EMPTY;
                units[n].name = s->name;
                units[n].text = s->text ? s->text : s->unit->text;
                units[n++].keep = !s->exists; /* somebody else may have been faster */
                r = names_add(ret_submitted, s->name, strlen(s->name));
        }
        if (r >= 0)
                r = client_change(c, units, n, err);
        if (r == -EREMOTEIO && n == 1 && !is_about_the_file(r, err))
                (void) error_prefix(err, r, "failed creating unit %s", units[0].name);
        return r;
}

int files_submit(Client *c, char **args, size_t n, TargetState replaceable, Names *ret_names) {
        _cleanup_(submissions_done) Submissions all = {};
        _cleanup_names_ Names submitted = {};
        Error err = {};
        int r;

        r = read_all(c, args, n, &all);
        if (r != EXIT_DONE)
                return r;

        for (size_t i = 0; i < all.n; i++) {
                Submission *s = &all.items[i];

                r = ret_names ? names_add(ret_names, s->name, strlen(s->name)) : 0;
                if (r >= 0)
                        r = prepare_one(c, s, replaceable, &err);
                if (r < 0) {
                        (void) client_fail(r, &err, "Error creating units: ");
                        if (r == -ENOENT)
                                suggest_unit(c, s->name);
                        return EXIT_FAILED;
                }
        }
        r = submit_all(c, &all, &submitted, &err);
        if (is_about_the_file(r, &err)) {
                const char *sentence = err.message + strlen("googleapi: Error 400: ");
                bool named = submitted.n != 1 || starts_with(sentence, submitted.items[0]);

                fprintf(stderr, "fleetctl: %s%s%s\nfleetctl: nothing was submitted\n",
                        named ? "" : submitted.items[0], named ? "" : ": ", sentence);
                return EXIT_FAILED;
        }
        if (r < 0)
                return client_fail(r, &err, "Error creating units: ");

        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_STATE,
                                      .target = TARGET_INACTIVE,
                                      .names = &submitted,
                                      .quiet = ret_names && stdout_is_terminal() },
                     &err);
        if (r == -ETIMEDOUT) {
                fprintf(stderr, "Error waiting on unit creation: %s\n", err.message);
                fprintf(stderr, "Error creating units: %s\n", err.message);
                return EXIT_FAILED;
        }
        return r < 0 ? client_fail(r, &err, "Error creating units: ") : EXIT_DONE;
}

int verb_submit(Client *c, char **args, size_t n) {
        if (n == 0) {
                fputs("No units given\n", stderr);
                return EXIT_DONE;
        }
        return files_submit(c, args, n, TARGET_INACTIVE, NULL);
}

int verb_cat(Client *c, char **args, size_t n) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_free_ char *name = NULL;
        _cleanup_text_ Text t = {};
        Error err = {};
        int r;

        if (n != 1) {
                fputs("One unit file must be provided\n", stderr);
                return EXIT_FAILED;
        }
        name = unit_name_from_argument(args[0]);
        r = name ? client_unit(c, name, &unit, &err) : -ENOMEM;
        if (r < 0)
                return client_fail(r, &err, "Error retrieving Unit %s: ", name);
        if (r == 0) {
                fprintf(stderr, "Unit %s not found\n", name);
                suggest_unit(c, name);
                return EXIT_FAILED;
        }

        if (streq(c->options.output, "json")) {
                api_unit_write(&t, &unit);
                text_append_char(&t, '\n');
        } else if (c->options.source && unit.text && *unit.text)
                text_append(&t, unit.text);
        else if (unit.file)
                unit_file_print(unit.file, &t, NULL);
        if (t.error < 0)
                return client_fail(t.error, NULL, "%s", "");
        (void) output_text(t.chars ?: "", t.size);
        return EXIT_DONE;
}
