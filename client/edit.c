/* diff, edit: what the cluster has, beside a file here or in an editor. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "client/subprocess.h"
#include "client/client.h"
#include "client/files.h"
#include "client/suggest.h"
#include "client/verbs.h"
#include "units/name.h"

enum { TRIES_MAX = 3 }; /* of a change that another one came before */

/* A folder of ours below $TMPDIR with one file in it. */
typedef struct Draft {
        char *folder, *path; /* owned */
} Draft;

/* What somebody wrote and nobody took is not thrown away. */
static void draft_keep(Draft *d) {
        fprintf(stderr, "fleetctl: what you wrote is in %s\n", d->path);
        d->path = (free(d->path), NULL);
}

static void draft_done(Draft *d) {
        if (d->path)
                (void) unlink(d->path);
        if (d->folder)
                (void) rmdir(d->folder);
        free(d->path);
        free(d->folder);
}

static int draft_make(Draft *d, const char *name, const char *text, Error *err) {
        const char *tmp = getenv("TMPDIR");
        _cleanup_close_ int fd = -1;
        int r;

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
        r = fd < 0 ? -errno : write_file_at(fd, name, text, strlen(text), 0600);
        return r < 0 ? error_set(err, r, "%s: %s", d->path, strerror(-r)) : 0;
}

/* The unit as the cluster has it: its text as given, or where there is none its printed form. An exit status;
 * 0: all is well. */
static int fetch(Client *c, const char *name, ApiUnit *ret, char **ret_text) {
        _cleanup_text_ Text t = {};
        Error err = {};
        int r;

        r = client_unit(c, name, ret, &err);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving Unit %s: ", name);
        if (r == 0) {
                fprintf(stderr, "Unit %s not found\n", name);
                suggest_unit(c, name);
                return EXIT_ABSENT;
        }
        text_append(&t, "");
        if (ret->text && *ret->text)
                text_append(&t, ret->text);
        else if (ret->file)
                unit_file_print(ret->file, &t, NULL);
        *ret_text = text_take(&t, NULL);
        return *ret_text ? EXIT_DONE : client_fail(-ENOMEM, NULL, "%s", "");
}

/* -- diff -- */

/* A text as it is compared: on a terminal without what drives one, since diff(1) prints all bytes. */
static int draft_show(Draft *d, const char *name, const char *text, Error *err) {
        _cleanup_text_ Text shown = {};

        if (!stdout_is_terminal())
                return draft_make(d, name, text, err);
        text_append(&shown, "");
        text_append_printable_bytes(&shown, text, strlen(text), true);
        return shown.error ?: draft_make(d, name, shown.chars, err);
}

/* 0: they are the same; 1: they differ; above: trouble. */
static int diff_one(Client *c, const char *argument) {
        _cleanup_free_ char *name = unit_name_from_argument(argument), *text = NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_(draft_done) Draft draft = {}, here = {};
        _cleanup_text_ Text file = {};
        char there[300];
        Error err = {};
        int r;

        if (!name)
                return client_fail(-ENOMEM, NULL, "%s", "");
        r = fetch(c, name, &unit, &text);
        if (r != EXIT_DONE)
                return r;
        if (access(argument, F_OK) < 0) {
                fprintf(stderr, "fleetctl: %s: %s\n", argument, strerror(errno));
                return EXIT_USAGE;
        }
        r = files_read(argument, name, &file, &err);
        if (r >= 0)
                r = draft_show(&draft, name, text, &err);
        if (r >= 0)
                r = draft_show(&here, name, file.chars ?: "", &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        snprintf(there, sizeof(there), "--label=%s in the cluster", name);
        return subprocess_run(
                (const char *[]) { "diff", "-u", stdout_is_terminal() ? "--color=auto" : "--color=never",
                                   there, "--label", argument, "--", draft.path, here.path, NULL },
                NULL, NULL, NULL, NULL);
}

int verb_diff(Client *c, char **args, size_t n) {
        int status = EXIT_DONE;

        if (n == 0) {
                fputs("fleetctl: name at least one file\n", stderr);
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < n; i++) {
                int r = diff_one(c, args[i]);

                status = MAX(status, r);
        }
        return status;
}

/* -- edit -- */

static const char *editor(void) {
        static const char *const variables[] = { "SYSTEMD_EDITOR", "EDITOR", "VISUAL" };

        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                const char *value = getenv(variables[i]);

                if (value && *value)
                        return value;
        }
        return "editor"; /* what Debian's alternatives say */
}

/* $EDITOR may have arguments, so a shell takes it apart, as for git and systemctl. */
static int run_editor(const char *path, Error *err) {
        _cleanup_free_ char *script = NULL;
        int r;

        if (asprintf(&script, "%s \"$1\"", editor()) < 0)
                return -ENOMEM;
        r = subprocess_run((const char *[]) { "sh", "-c", script, "sh", path, NULL }, NULL, NULL, NULL, NULL);
        return r > 0 ? error_set(err, -ECANCELED, "the editor (%s) ended with status %d", editor(), r) : r;
}

/* The edited text, when it is good; while it is not, and there is a person to ask, once more. */
static int edited_text(const char *name, const char *path, char **ret, Error *err) {
        for (;;) {
                _cleanup_warnings_ Warnings faults = {}, warnings = {};
                _cleanup_free_ char *text = NULL;
                char answer[16];
                size_t size;
                int r;

                r = run_editor(path, err);
                if (r >= 0)
                        r = read_file_at(AT_FDCWD, path, UNIT_SIZE_MAX, &text, &size);
                if (r < 0)
                        return err->message[0] ? r : error_set(err, r, "%s: %s", path, strerror(-r));
                if (unit_verify(name, text, size, &faults, &warnings) < 0)
                        return -ENOMEM;
                files_print_notes(name, &faults, "");
                files_print_notes(name, &warnings, "warning: ");
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

/* Put 'text' in the place of the one that was fetched as 'unit', if it is still that one. The target state
 * stays as it is by now: where the unit runs, the new text takes the old one's place. */
static int replace_text(Client *c, const ApiUnit *unit, const char *text, Error *err) {
        int r = -EREMOTEIO;

        for (unsigned tries = 0; tries < TRIES_MAX && r == -EREMOTEIO; tries++) {
                _cleanup_api_unit_ ApiUnit now = API_UNIT_EMPTY;
                ApiUnit change = API_UNIT_EMPTY;

                *err = (Error) {};
                r = client_unit(c, unit->name, &now, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        return error_set(err, -ENOENT, "it was destroyed while it was edited");
                if (!streq(now.hash ?: "", unit->hash ?: "") || !streq(now.text ?: "", unit->text ?: ""))
                        return error_set(
                                err, -EINVAL,
                                "somebody else changed it while it was edited; fleetctl diff %s shows how",
                                unit->name);
                change.name = unit->name;
                change.text = text;
                change.desired_state = change.expected_state = now.desired_state;
                change.expected_hash = unit->hash;
                r = client_change(c, &change, 1, err);
        }
        return r;
}

static int edit_one(Client *c, const char *argument) {
        _cleanup_free_ char *name = unit_name_from_argument(argument), *text = NULL, *edited = NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_(draft_done) Draft draft = {};
        Error err = {};
        int r;

        if (!name)
                return client_fail(-ENOMEM, NULL, "%s", "");
        r = fetch(c, name, &unit, &text);
        if (r != EXIT_DONE)
                return r;
        r = draft_make(&draft, name, text, &err);
        if (r >= 0)
                r = edited_text(name, draft.path, &edited, &err);
        if (r < 0) {
                fprintf(stderr, "fleetctl: %s\n", error_text(&err, r));
                if (r == -EINVAL)
                        draft_keep(&draft);
                return EXIT_FAILED;
        }
        if (streq(text, edited)) {
                fprintf(stderr, "fleetctl: %s is as it was\n", name);
                return EXIT_DONE;
        }
        r = replace_text(c, &unit, edited, &err);
        if (r < 0) {
                draft_keep(&draft);
                return client_fail(r, &err, "failed changing unit %s: ", name);
        }
        printf("Unit %s changed\n", name);
        return EXIT_DONE;
}

int verb_edit(Client *c, char **args, size_t n) {
        int status = EXIT_DONE;

        if (n == 0) {
                fputs("fleetctl: name at least one unit\n", stderr);
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < n && status == EXIT_DONE; i++)
                status = edit_one(c, args[i]);
        return status;
}
