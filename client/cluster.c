/* cluster: the replicas as this host sees them, and what people may decide about the whole: the feature
 * level, and not to wait any longer for hosts after a recovery. */
#include <errno.h>
#include <stdio.h>

#include "base/parse.h"
#include "client/client.h"
#include "client/output.h"
#include "client/verbs.h"

static const char *text_of(const JsonValue *object, const char *name) {
        return json_value_string(json_value_member(object, name)) ?: "";
}

static uint64_t number_of(const JsonValue *object, const char *name) {
        uint64_t n = 0;

        return json_read_u64(object, name, &n, NULL) < 0 ? 0 : n;
}

static int ask(Client *c, Reply *ret, JsonValue **ret_root, Error *err) {
        int r;

        r = connection_request(c->connection, "GET", "/fleet/v1/cluster", NULL, NULL, ret, err);
        if (r >= 0)
                r = reply_check(ret, err);
        return r < 0 ? r : json_value_parse(ret->body.chars, ret->body.size, ret_root, err);
}

static void append_names(Text *t, const JsonValue *names) {
        for (size_t i = 0; i < json_value_count(names); i++) {
                text_append(t, i > 0 ? ", " : "");
                text_append_printable(t, json_value_string(json_value_item(names, i)) ?: "");
        }
}

/* -- What is so -- */

static int print_members(const JsonValue *members) {
        static const char *const headers[] = { "MACHINE", "ADDRESS", "SEAT", "REACHABLE" };
        _cleanup_table_ Table *table = table_new(headers, ELEMENTS(headers));
        int r = table ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_value_count(members); i++) {
                const JsonValue *m = json_value_item(members, i);
                const char *cells[ELEMENTS(headers)] = { text_of(m, "name"), text_of(m, "address"),
                                                         text_of(m, "seat") };
                bool reachable = false;

                if (!*cells[0])
                        cells[0] = *text_of(m, "id") ? text_of(m, "id") : "-";
                (void) json_read_bool(m, "reachable", &reachable, NULL);
                cells[3] = reachable ? "yes" : "no";
                for (size_t k = 0; r >= 0 && k < ELEMENTS(cells); k++)
                        r = table_add(table, *cells[k] ? cells[k] : "-");
        }
        return r < 0 ? r : table_print(table, true);
}

static int print_cluster(const JsonValue *root) {
        const JsonValue *leader = json_value_member(root, "leader"),
                        *waits = json_value_member(root, "waitsFor");
        uint64_t level = number_of(root, "level"), known = number_of(root, "levelKnown");
        const char *problem = text_of(root, "problem");
        _cleanup_text_ Text safe = {}, names = {};

        text_append_printable(&safe, problem);
        append_names(&names, waits);
        if (safe.error < 0 || names.error < 0)
                return -ENOMEM;
        printf("cluster    %s, index %llu, term %llu\n", text_of(root, "clusterId"),
               (unsigned long long) number_of(root, "index"), (unsigned long long) number_of(root, "term"));
        if (leader)
                printf("leader     %s\n",
                       *text_of(leader, "name") ? text_of(leader, "name") : text_of(leader, "id"));
        else
                printf("leader     none%s\n",
                       number_of(root, "staleSec") > 0 ? "; what this host shows may be old" : "");
        printf("this host  %s, %s\n", text_of(root, "name"), text_of(root, "role"));
        printf("level      %llu", (unsigned long long) level);
        if (known > level)
                printf("; %llu comes a day after all hosts know it, or by  fleetctl cluster level %llu",
                       (unsigned long long) known, (unsigned long long) known);
        putchar('\n');
        if (*problem)
                printf("problem    %s\n", safe.chars);
        if (waits)
                printf("waits for  %s, which have not said yet what runs there (fleetctl cluster "
                       "stop-waiting)\n",
                       names.chars ?: "nobody");
        putchar('\n');
        (void) fflush(stdout);
        return print_members(json_value_member(root, "voters"));
}

/* -- What people decide -- */

/* --yes, or a person who is asked; else what was not done. */
static bool is_meant(const Client *c, const char *what, const char *question) {
        if (c->options.yes)
                return true;
        fprintf(stderr, "%s\n", what);
        if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
                fprintf(stderr, "%s [y/N] ", question);
                if (client_says_yes())
                        return true;
                fputs("fleetctl: nothing was changed\n", stderr);
        } else
                fputs("fleetctl: nothing was changed; with --yes it is\n", stderr);
        return false;
}

static int change(Client *c, const char *method, const char *path, const char *body, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = connection_request(c->connection, method, path, "application/json", body, &reply, err);
        return r < 0 ? r : reply_check(&reply, err);
}

static int level(Client *c, const JsonValue *root, char **args, size_t n) {
        uint64_t now = number_of(root, "level"), wanted = 0;
        _cleanup_text_ Text what = {}, body = {};
        Error err = {};
        int r;

        if (n == 0) {
                printf("%llu\n", (unsigned long long) now);
                return EXIT_DONE;
        }
        if (n > 1 || parse_u64(args[0], &wanted) < 0 || wanted == 0) {
                fputs("fleetctl: cluster level takes one number, the level to raise to\n", stderr);
                return EXIT_USAGE;
        }
        if (wanted == now)
                return EXIT_DONE;
        text_printf(&what,
                    "Feature level %llu, now %llu: no host can go back to a fleetd that does not know it.",
                    (unsigned long long) wanted, (unsigned long long) now);
        text_printf(&body, "{\"level\":%llu}", (unsigned long long) wanted);
        if (what.error < 0 || body.error < 0)
                return client_fail(-ENOMEM, NULL, "%s", "");
        if (wanted > now && !is_meant(c, what.chars, "Raise it?"))
                return EXIT_FAILED;
        r = change(c, "PUT", "/fleet/v1/cluster/level", body.chars, &err);
        if (r < 0)
                return client_fail(r, &err, "Error raising the feature level: ");
        printf("Feature level %llu\n", (unsigned long long) wanted);
        return EXIT_DONE;
}

static int stop_waiting(Client *c, const JsonValue *root, char **args, size_t n) {
        const JsonValue *waits = json_value_member(root, "waitsFor");
        _cleanup_text_ Text what = {};
        Error err = {};
        int r;

        if (n > 0) {
                fputs("fleetctl: cluster stop-waiting takes no arguments\n", stderr);
                return EXIT_USAGE;
        }
        if (!waits) {
                fputs("fleetctl: no host is waited for\n", stderr);
                return EXIT_DONE;
        }
        append_names(&what, waits);
        text_append(&what, ": what runs there is not known. Its units are started elsewhere, and run twice "
                           "if those hosts are merely cut off.");
        if (what.error < 0)
                return client_fail(-ENOMEM, NULL, "%s", "");
        if (!is_meant(c, what.chars, "Wait no longer?"))
                return EXIT_FAILED;
        r = change(c, "DELETE", "/fleet/v1/cluster/adopting", NULL, &err);
        if (r < 0)
                return client_fail(r, &err, "Error: ");
        puts("No host is waited for any longer");
        return EXIT_DONE;
}

int verb_cluster(Client *c, char **args, size_t n) {
        static const struct {
                const char *name;
                int (*run)(Client *c, const JsonValue *root, char **args, size_t n);
        } verbs[] = { { "level", level }, { "stop-waiting", stop_waiting } };
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        Error err = {};
        size_t which = 0;
        int r;

        while (n > 0 && which < ELEMENTS(verbs) && !streq(verbs[which].name, args[0]))
                which++;
        if (which == ELEMENTS(verbs)) {
                fprintf(stderr, "fleetctl: cluster has no verb %s: cluster [level [N] | stop-waiting]\n",
                        args[0]);
                return EXIT_USAGE;
        }
        r = ask(c, &reply, &root, &err);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving the state of the cluster: ");
        if (n > 0)
                return verbs[which].run(c, root, args + 1, n - 1);
        if (streq(c->options.output, "json"))
                (void) output_text(reply.body.chars, reply.body.size);
        else
                r = print_cluster(root);
        return r < 0 ? client_fail(r, NULL, "%s", "") : EXIT_DONE;
}
