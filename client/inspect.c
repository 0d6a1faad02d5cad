/* verify, plan, why: what is wrong with files, where they would run, and why a unit is where it is. They
 * change nothing. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/files.h"
#include "client/output.h"
#include "client/suggest.h"
#include "client/verbs.h"
#include "units/name.h"

static int no_files(void) {
        fputs("fleetctl: name at least one file\n", stderr);
        return EXIT_USAGE;
}

/* -- verify -- */

/* 0: nothing is wrong with *ret_name's *text, in whose drop-ins lines count on; 1: it was said what is. */
static int verify_file(const char *argument, char **ret_name, Text *text) {
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        _cleanup_free_ char *path = NULL;
        Error err = {};
        int r;

        r = files_find(argument, &path, ret_name, text, &err);
        if (r >= 0)
                r = unit_verify(*ret_name, text->chars ?: "", text->size, &faults, &warnings);
        if (r < 0) {
                fprintf(stderr, "fleetctl: %s\n", error_text(&err, r));
                return 1;
        }
        files_print_notes(path, &faults, "");
        files_print_notes(path, &warnings, "warning: ");
        return faults.n > 0;
}

int verb_verify(Client *c, char **args, size_t n) {
        int status = EXIT_DONE;

        if (n == 0)
                return no_files();
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = NULL;
                _cleanup_text_ Text text = {};

                if (verify_file(args[i], &name, &text) != 0)
                        status = EXIT_FAILED;
        }
        return status;
}

/* -- plan -- */

static int plan_body(char **args, size_t n, Text *t) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, n + 1);
        _cleanup_names_ Names texts = {}, names = {};
        int status = EXIT_DONE, r = units ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *name = NULL;
                _cleanup_text_ Text text = {};

                if (verify_file(args[i], &name, &text) != 0) {
                        status = EXIT_FAILED;
                        continue;
                }
                r = names_add(&texts, text.chars ?: "", text.size);
                if (r >= 0)
                        r = names_add(&names, name, strlen(name));
        }
        for (size_t i = 0; i < names.n && r >= 0; i++) {
                units[i] = API_UNIT_EMPTY;
                units[i].name = names.items[i];
                units[i].text = texts.items[i];
        }
        if (r >= 0)
                api_units_page_write(t, units, names.n, NULL);
        if (r < 0 || t->error < 0)
                return client_fail(r < 0 ? r : t->error, NULL, "%s", "");
        return status;
}

static int add_member(Table *t, const JsonValue *v, const char *member) {
        return table_add(t, json_value_string(json_value_member(v, member)) ?: "-");
}

static int print_plan(const JsonValue *root) {
        static const char *const headers[] = { "UNIT", "ACTION", "MACHINE", "REASON" };
        static const char *const members[] = { "name", "action", "hostname", "reason" };
        _cleanup_table_ Table *t = table_new(headers, ELEMENTS(headers));
        const JsonValue *all = json_value_member(root, "units");
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_value_count(all); i++)
                for (size_t k = 0; r >= 0 && k < ELEMENTS(members); k++)
                        r = add_member(t, json_value_item(all, i), members[k]);
        return r < 0 ? r : table_print(t, true);
}

/* An answer as JSON: printed as it is with --output=json, else parsed. An exit status; EXIT_DONE with *ret
 * NULL: printed. */
static int take_answer(Client *c, const Reply *reply, JsonValue **ret) {
        Error err = {};
        int r;

        *ret = NULL;
        r = reply_check(reply, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        if (streq(c->options.output, "json")) {
                (void) output_line(reply->body.chars);
                return EXIT_DONE;
        }
        r = json_value_parse(reply->body.chars, reply->body.size, ret, &err);
        return r < 0 ? client_fail(r, &err, "fleetd's answer: ") : EXIT_DONE;
}

int verb_plan(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        Error err = {};
        int r;

        if (n == 0)
                return no_files();
        r = plan_body(args, n, &body);
        if (r != EXIT_DONE)
                return r;
        r = connection_request(c->connection, "POST", "/fleet/v1/plan", "application/json", body.chars,
                               &reply, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        r = take_answer(c, &reply, &root);
        if (r != EXIT_DONE || !root)
                return r;
        r = print_plan(root);
        return r < 0 ? client_fail(r, NULL, "%s", "") : EXIT_DONE;
}

/* -- why -- */

static const char *member_of(const JsonValue *v, const char *member) {
        return json_value_string(json_value_member(v, member)) ?: "";
}

static bool is_true(const JsonValue *v, const char *member) {
        bool yes = false;

        (void) json_read_bool(v, member, &yes, NULL);
        return yes;
}

static const char *name_of(const JsonValue *machine) {
        const char *name = member_of(machine, "hostname");

        return *name ? name : member_of(machine, "id");
}

/* What the choice among those that fit goes by. */
static void print_load(const JsonValue *machine) {
        uint64_t n = 0;

        (void) json_read_u64(machine, "units", &n, NULL);
        printf(", it has %llu unit%s", (unsigned long long) n, n == 1 ? "" : "s");
}

/* First the whole in one sentence, then each machine with its part in it. */
static void print_why(const JsonValue *root) {
        const JsonValue *machines = json_value_member(root, "machines");
        const char *name = member_of(root, "name"), *where = member_of(root, "machineID"),
                   *wanted = member_of(root, "desiredState");
        size_t n = json_value_count(machines), width = 0;

        for (size_t i = 0; i < n; i++) {
                const JsonValue *m = json_value_item(machines, i);

                width = MAX(width, strlen(name_of(m)));
                if (*where && streq(member_of(m, "id"), where))
                        printf("%s is on %s: %s\n", name, name_of(m), member_of(root, "reason"));
        }
        if (is_true(root, "global"))
                printf("%s is global (%s): it has every machine that qualifies.\n", name, wanted);
        else if (!*where && streq(wanted, "inactive"))
                printf("%s is not wanted on any machine (inactive).\n", name);
        else if (!*where && !*wanted)
                printf("%s: %s\n", name, member_of(root, "reason"));
        else if (!*where)
                printf("%s is wanted (%s) and has no machine.\n", name, wanted);
        for (size_t i = 0; i < n; i++) {
                const JsonValue *m = json_value_item(machines, i);
                const char *order = member_of(m, "order"), *reason = member_of(m, "reason");

                if (streq(reason, member_of(root, "reason")) && is_true(m, "fits"))
                        reason = ""; /* it has been said */
                printf("  %-*s  %s%s%s", (int) width, name_of(m), is_true(m, "fits") ? "yes" : "no",
                       *reason ? ": " : "", reason);
                if (is_true(m, "fits") && !*reason && !*order)
                        print_load(m);
                if (*order)
                        printf(" (ordered: %s)", order);
                else if (is_true(m, "chosen"))
                        fputs(" (the next one)", stdout);
                if (is_true(m, "finished"))
                        fputs(" (finished there)", stdout);
                putchar('\n');
        }
}

int verb_why(Client *c, char **args, size_t n) {
        int status = EXIT_DONE;

        if (n == 0) {
                fputs("fleetctl: name at least one unit\n", stderr);
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_reply_ Reply reply = {};
                _cleanup_text_ Text path = {};
                Error err = {};
                int r;

                if (!name)
                        return client_fail(-ENOMEM, NULL, "%s", "");
                text_append(&path, "/fleet/v1/why/");
                append_escaped(&path, name, false);
                r = path.error < 0 ?
                            path.error :
                            connection_request(c->connection, "GET", path.chars, NULL, NULL, &reply, &err);
                if (r < 0)
                        return client_fail(r, &err, "%s", "");
                if (reply.status == 404) {
                        fprintf(stderr, "Unit %s does not exist.\n", name);
                        suggest_unit(c, name);
                        status = EXIT_ABSENT;
                        continue;
                }
                r = take_answer(c, &reply, &root);
                if (r != EXIT_DONE)
                        return r;
                if (root)
                        print_why(root);
        }
        return status;
}
