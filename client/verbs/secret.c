/* secret: set, list and remove the secrets of the cluster. A value goes to the daemon, and never back. */
#include <termios.h>

#include "base/base64.h"
#include "base/clock.h"
#include "client/core/notes.h"
#include "client/core/times.h"
#include "client/verbs/kv.h"
#include "client/verbs/secret.h"

/* -- The value -- */

static void secret_wipe(Text *t) {
        if (t->chars)
                explicit_bzero(t->chars, t->capacity);
        text_done(t);
}

/* Read a line from the terminal, which does not print it. -ECANCELED: Ctrl-C, Ctrl-D or a longer line. */
static int secret_prompt(const char *prompt, const char *name, char *ret, size_t size) {
        struct termios before, silent;
        ssize_t n;

        if (tcgetattr(STDIN_FILENO, &before) < 0)
                return -errno;
        silent = before;
        silent.c_lflag &= ~(tcflag_t) (ECHO | ISIG);
        silent.c_cc[VEOL] = silent.c_cc[VINTR]; /* it ends the line, not the program */
        fprintf(stderr, "%s of %s: ", prompt, name);
        (void) tcsetattr(STDIN_FILENO, TCSANOW, &silent);
        n = read(STDIN_FILENO, ret, size);
        (void) tcsetattr(STDIN_FILENO, TCSANOW, &before);
        fputc('\n', stderr);
        if (n <= 0 || ret[n - 1] != '\n')
                return -ECANCELED;
        ret[n - 1] = 0;
        return 0;
}

/* Return an exit status after a message. */
static int secret_ask(const char *name, Text *ret) {
        char value[LINE_MAX], again[LINE_MAX];
        int status = EXIT_FAILED;

        if (secret_prompt("Value", name, value, sizeof(value)) < 0 ||
            secret_prompt("The same value", name, again, sizeof(again)) < 0)
                client_note("nothing was changed");
        else if (!streq(value, again))
                client_note("the values differ; nothing was changed");
        else {
                text_append(ret, value);
                status = EXIT_DONE;
        }
        explicit_bzero(value, sizeof(value));
        explicit_bzero(again, sizeof(again));
        return status;
}

static int secret_read(const Client *c, const char *name, Text *ret) {
        const char *file = c->options.file ?: "-";
        char *bytes = NULL;
        size_t size = 0;
        int r;

        if (!c->options.file && isatty(STDIN_FILENO))
                TRY_DONE(secret_ask(name, ret));
        else {
                r = kv_read_file(file, SECRET_SIZE_MAX, &bytes, &size);
                if (r < 0) {
                        client_note("Failed to read %s: %s", streq(file, "-") ? "stdin" : file,
                                    r == -EFBIG ? "a secret has at most 64 KiB" : strerror(-r));
                        return EXIT_FAILED;
                }
                (void) text_reserve(ret, size);
                text_append_bytes(ret, bytes, size);
                explicit_bzero(bytes, size);
                free(bytes);
        }
        TRY(ret->error);
        if (ret->size == 0) {
                client_note("the value is empty; nothing was changed");
                return EXIT_FAILED;
        }
        if (ret->chars[ret->size - 1] == '\n')
                client_note("the value ends with a newline, which a unit gets, too; without it: printf %%s "
                            "VALUE | fleetctl secret set %s",
                            name);
        return EXIT_DONE;
}

/* -- set -- */

static int secret_print_set(const JsonValue *answer) {
        uint64_t size = member_number(answer, "size"), version = member_number(answer, "version");
        const JsonValue *sets = json_value_member(answer, "usedBy");
        _cleanup_text_ Text t = {};

        text_printable(&t, "%s: version %llu, %llu byte%s%s", member_text(answer, "name"),
                       (unsigned long long) version, (unsigned long long) size, plural(size),
                       json_value_count(sets) == 0 ? "; no unit names it" : "");
        JSON_EACH(set, sets) {
                uint64_t n = member_number(set, "instances");

                if (n > 0)
                        text_printable(&t, "; %s: %s (%llu instance%s)",
                                       member_bool(set, "excluded") ? "not in its --units" :
                                       member_bool(set, "waits")    ? "awaited by" :
                                       streq(member_text(set, "onChange"), "restart") ?
                                                                   "restarts one by one" :
                                                                   "used at the next start",
                                       member_text(set, "name"), (unsigned long long) n, plural(n));
        }
        output_words(&t, 2);
        return EXIT_DONE;
}

static int secret_set(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(secret_wipe) Text value = {}, body = {};
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};
        _cleanup_reply_ Reply reply = {};
        int r;

        if (n > 1)
                return client_usage("secret set: a value is no argument, which every user of this host could "
                                    "read: give it on standard input, or in a file with --file=");
        if (n != 1 || !secret_name_is_valid(args[0]))
                return client_usage(
                        "secret set: expected the name of a secret: 1 to 64 letters, digits, '.', "
                        "'_', '-', of which the first one is a letter or a digit");
        TRY_DONE(secret_read(c, args[0], &value));
        (void) text_reserve(&body, 2 * value.size + 4096); /* one that grows leaves copies */
        json_open(&body, NULL, '{');
        if (c->options.secret_units)
                client_add_words(&body, "units", c->options.secret_units);
        json_begin(&body, "value");
        text_append_char(&body, '"');
        text_append_base64(&body, value.chars, value.size, false);
        text_append(&body, "\"}");
        r = TRY_VERB(client_request(c, "PUT", client_path_of(&path, "/fleet/v1/secrets/", args[0], ""), &body,
                                    &reply, err),
                     err, "Failed to set secret %s: ", args[0]);
        r = client_take_answer(c, &reply, &root, err);
        return r != 0 || !root ? r : secret_print_set(root);
}

/* -- ls -- */

static void secret_add_row(Table *table, const JsonValue *secret) {
        _cleanup_text_ Text set = {}, units = {}, uses = {};

        append_clock(&set, member_number(secret, "set"), clock_real_ms(), true);
        JSON_EACH(item, json_value_member(secret, "units"))
                text_printf(&units, "%s%s", item_i > 0 ? "," : "", json_value_string(item) ?: "");
        if (member_bool(secret, "lost"))
                text_append(&uses, "cannot be opened");
        JSON_EACH(use, json_value_member(secret, "usedBy"))
                text_printf(&uses, "%s%s: %llu of %llu run with it", uses.size > 0 ? "; " : "",
                            member_text(use, "name"), (unsigned long long) member_number(use, "current"),
                            (unsigned long long) member_number(use, "instances"));
        table_cell(table, "%s", member_text(secret, "name"));
        table_cell(table, "%llu", (unsigned long long) member_number(secret, "version"));
        table_cell(table, "%llu B", (unsigned long long) member_number(secret, "size"));
        table_add(table, &set);
        table_cell(table, "%s", member_text(secret, "by"));
        table_cell(table, "%s", units.size > 0 ? text_chars(&units) : "*");
        table_add(table, &uses);
}

static int secret_list(Client *c, char **args, size_t n, Error *err) {
        _cleanup_table_ Table table = table_begin("NAME,VERSION,SIZE,SET,BY,UNITS,USED BY");
        _cleanup_json_ JsonValue *root = NULL;

        if (n > 0)
                return client_usage("secret ls: expected no arguments");
        TRY_VERB(client_read(c, "/fleet/v1/secrets", &root, err), err, "Failed to list secrets: ");
        JSON_EACH(item, json_value_member(root, "secrets"))
                secret_add_row(&table, item);
        return root ? table_print(&table, true) : EXIT_DONE;
}

void secrets_print_all(Client *c) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text names = {};

        int r = client_get_json(c, "/fleet/v1/secrets", &root, NULL); /* an older daemon has none */

        JSON_EACH(item, json_value_member(root, "secrets"))
                text_printable(&names, "%s%s", item_i > 0 ? ", " : "", member_text(item, "name"));
        if (r == -ENOMEM || names.error < 0)
                printf("Set all secrets again, which it could read: fleetctl secret ls (out of memory)\n");
        else if (names.size > 0)
                printf("Set these secrets again, which it could read: %s (fleetctl secret set)\n",
                       names.chars);
}

/* -- rm -- */

static int secret_remove(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text path = {};
        _cleanup_reply_ Reply reply = {};
        int r;

        if (n != 1)
                return client_usage("secret rm: expected the name of a secret");
        r = TRY_VERB(client_find(c, "DELETE",
                                 client_path_of(&path, "/fleet/v1/secrets/", args[0],
                                                c->options.force ? "?force=true" : ""),
                                 &reply, err),
                     err, "Failed to remove secret %s: ", args[0]);
        if (r == 0) {
                client_note("secret %s is not set", args[0]);
                return EXIT_ABSENT;
        }
        printf("Secret %s removed\n", args[0]);
        return EXIT_DONE;
}

/* "did you mean set?" would be the wrong answer. */
static int secret_get(Client *c, char **args, size_t n, Error *err) {
        return client_usage("secret: no command prints a value; a unit gets it, by Secret=NAME in [X-Fleet]");
}

static int secret_run(Client *c, char **args, size_t n, Error *err) {
        static const struct {
                const char *name;
                VerbRun *run;
        } secret_verbs[] = {
                { "get", secret_get }, { "ls", secret_list }, { "rm", secret_remove }, { "set", secret_set }
        };

        if (n == 0)
                return secret_list(c, args, n, err);
        for (size_t i = 0; i < ELEMENTS(secret_verbs); i++)
                if (streq(secret_verbs[i].name, args[0]))
                        return secret_verbs[i].run(c, args + 1, n - 1, err);
        return client_fail_verb("secret", args[0], "[ls] | set NAME | rm NAME");
}

VERB(secret, "secret", "json", "[ls] | set NAME | rm NAME", "Set, list and remove secrets for units",
     "A value is read from standard input, unchanged, and at a terminal without echo. A unit gets it as a\n"
     "credential, by Secret=NAME in [X-Fleet]; no command prints it. set gives a secret that exists its\n"
     "next version. rm is rejected while a unit names the secret.\n"
     "Exit status 4 if there is no such secret.\n\n"
     "printf %s \"$PW\" | fleetctl secret set db-password --units='shop*'\n",
     secret_run);
