/* The command line, and the start of a verb. */
#include "client/fleetctl.h"

#include <locale.h>

#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/patterns.h"
#include "client/core/report.h"
#include "client/core/topics.h"
#include "client/verbs.h"
#include "client/verbs/help.h"
#include "client/verbs/replace.h"
#include "client/verbs/ssh.h"

enum {
        READ_MS = 3000,
        READ_KEYS_MS = 6000, /* fleetd sends a large answer, or an error, within 4 s */
        WRITE_MS = 10000,    /* the plan of rebalance takes seconds, too */
};

/* Scripts know the errors of fleet's fleetctl, which begin with "googleapi: Error 409: ". */
static const char fleet_verbs[] = "cat destroy fd-forward journal list-machines list-unit-files list-units "
                                  "load restart ssh start status stop submit unload";

/* Print the error for an unknown verb in one line, in a pipe with the words of fleet. */
static int fail_verb(const char *name) {
        _cleanup_text_ Text t = {}, safe = {};
        const char *nearest = verb_nearest(verbs, name);

        text_append_printable(&safe, name);
        if (!client_is_interactive()) {
                if (!help_append_foreign(&t, name))
                        verbs_append_similar(verbs, &t, name);
                fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl\"; %s\n", safe.chars ?: "",
                        t.chars ?: "");
        } else if (!help_note_foreign(name))
                client_note("there is no verb %s%s%s%s (fleetctl help)", safe.chars ?: "",
                            nearest ? "; did you mean " : "", nearest ?: "", nearest ? "?" : "");
        return EXIT_USAGE;
}

/* Print the error for an invalid flag in one line; in a pipe, a verb of fleet with its help, as fleet does.
 */
static int fail_flag(const Verb *v, const char *words, const char *first, const Error *err) {
        const char *flag = strrchr(err->message, ' '), *use = NULL, *nearest = NULL;
        const Verb *below = v && v->verbs && first ? verb_find(v->verbs, first) : NULL;

        if (v && flag && err->code == -ENOENT)
                use = flag_of_foreign(v->name, flag + 1);
        if (!use && flag && err->code == -ENOENT && starts_with(flag + 1, "--"))
                nearest = options_nearest(words, flag + 3);
        if (client_is_interactive() || (v && !text_has_word(fleet_verbs, v->name))) {
                fprintf(stderr, "fleetctl: %s%s%s", err->message, use ? "; instead: " : "", use ?: "");
                if (nearest)
                        fprintf(stderr, "; did you mean --%s?", nearest);
                fprintf(stderr, " (fleetctl help%s%s%s%s)\n", v ? " " : "", v ? v->name : "",
                        below ? " " : "", below ? below->name : "");
                return EXIT_USAGE;
        }
        fprintf(stderr, "Error: %s\n\n", err->message);
        if (v)
                verb_print_help(v, "");
        else
                help_print_all(verbs);
        (void) output_flush();
        fprintf(stderr, "cannot execute cmdFleet: %s%s%s\n", err->message, use ? "; instead: " : "",
                use ?: "");
        if (nearest)
                client_note("did you mean --%s?", nearest);
        return EXIT_USAGE;
}

/* Prepare the connection; nothing is sent. 'read_ms' is the timeout of GET requests without
 * --request-timeout. */
static int connect_client(Client *c, uint64_t read_ms, Error *err) {
        const Options *o = &c->options;
        _cleanup_free_ char *first = NULL;
        const char *endpoint;
        size_t size = strcspn(o->endpoint, ",");

        if (streq(o->driver, "etcd"))
                return error_set(err, -EINVAL, "--driver=etcd: fleetd replaces etcd; omit --driver");
        if (!streq(o->driver, "API"))
                return error_set(err, -EINVAL, "unrecognized driver \"%s\"", o->driver);
        first = strndup(o->endpoint, size);
        if (!first)
                return -ENOMEM;
        endpoint = first;
        if (o->endpoint[size])
                client_note("--endpoint: only the first of several endpoints is used: %s", first);
        if (*o->tunnel)
                TRY(tunnel_open(o, first, &c->tunnel, &endpoint, err));
        return connection_new(
                &(ConnectionSettings) {
                        .endpoint = endpoint,
                        .debug = o->debug,
                        .plain = !text_has_word(fleet_verbs, c->verb->name),
                        .ca_file = o->ca_file,
                        .cert_file = o->cert_file,
                        .key_file = o->key_file,
                        .read_ms = o->request_timeout_ms ?: read_ms,
                        .write_ms = o->request_timeout_ms ?: WRITE_MS,
                },
                &c->connection, err);
}

/* Connect, and run the verb. 'ret' gets its arguments without patterns. */
static int run_verb(Client *c, char **args, size_t n, Names *ret, Error *err) {
        const Verb *v = c->verb;
        bool files = streq(v->arguments, "FILE...");
        int r = 0;

        if (!verb_has(v, "alone"))
                r = connect_client(c,
                                   verb_has(v, "kv")           ? READ_KEYS_MS :
                                   streq(v->name, "rebalance") ? WRITE_MS :
                                                                 READ_MS,
                                   err);
        if (r < 0) {
                fprintf(stderr, "Unable to initialize client: %s\n", error_text(err, r));
                return EXIT_FAILED;
        }
        if (n == 0 && verb_has(v, "fleet")) {
                fputs("No units given\n", stderr);
                if (client_is_interactive())
                        client_note("usage: fleetctl %s %s (fleetctl help %s)", v->name, v->arguments,
                                    v->name);
                return EXIT_DONE;
        }
        if (n == 0 && (files || streq(v->arguments, "UNIT..."))) {
                client_note("%s: expected at least one %s", v->name, files ? "file" : "unit");
                return EXIT_USAGE;
        }
        if (!verb_has(v, "patterns") && !verb_has(v, "patterns-all"))
                return client_run(c, v, args, n, err);
        r = patterns_expand(c, args, n, verb_has(v, "patterns-all"), verb_has(v, "yes"), ret, err);
        return r != EXIT_DONE ? r : client_run(c, v, ret->items, ret->n, err);
}

/* Check the options that several verbs have. Return an exit status. */
static int check_options(Client *c) {
        Options *o = &c->options;

        if (o->sign) { /* rejected with the message of fleet */
                fputs("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n",
                      stderr);
                return EXIT_USAGE;
        }
        if (o->wait && o->no_block)
                return client_usage("--wait cannot be combined with --no-block");
        if (*o->output && !streq(o->output, "json")) {
                fprintf(stderr, "fleetctl: --output=%s: expected json\n", o->output);
                return EXIT_USAGE;
        }
        if (o->timeout && (parse_span_ms(o->timeout, &o->timeout_ms) < 0 || o->timeout_ms == 0)) {
                client_note("--timeout=%s: expected a time span above 0, for example 5min", o->timeout);
                return EXIT_USAGE;
        }
        return replace_check_options(c);
}

static int run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_names_ Names expanded = {};
        const Verb *v = c->verb;
        int r;

        if (c->options.help)
                return help_print(v, args, n);
        TRY_DONE(check_options(c));
        TRY_DONE(patterns_check_types(v, args, n));
        if (n > 0 && !*v->arguments && !streq(v->name, "leave")) /* as fleet does; leave rejects a name */
                client_note("%s has no arguments; %s is ignored", v->name, args[0]);
        TRY(report_begin(c));
        r = run_verb(c, args, n, &expanded, err);
        return expanded.n > 0 ? report_end(c, expanded.items, expanded.n, r) : report_end(c, args, n, r);
}

static int run_line(int argc, char **argv) {
        char **args = argv + 1, **verb_at;
        size_t n = argc > 0 ? (size_t) argc - 1 : 0;
        Client c = { .verbs = verbs };
        char words[128];
        Error err = {};
        int status;

        if (getenv(SSH_ASKPASS_VARIABLE) && n == 1)
                return ssh_askpass(args[0]);
        if (n > 0 && (streq(args[0], "--version") || streq(args[0], "-v")))
                return verb_find(verbs, "version")->run(&c, NULL, 0, NULL);

        options_init(&c.options);
        verb_at = options_find_verb(args, n);
        if (verb_at) {
                c.verb = verb_find(verbs, *verb_at);
                if (!c.verb)
                        return fail_verb(*verb_at);
                memmove(verb_at, verb_at + 1,
                        (size_t) (args + n - verb_at) * sizeof(*args)); /* with the final NULL */
                n--;
        }

        snprintf(words, sizeof(words), "global %s %s", c.verb ? c.verb->name : "",
                 c.verb ? c.verb->groups : "");
        if (options_parse(&c.options, words, args, &n, &err) < 0)
                return fail_flag(c.verb, words, n > 0 ? args[0] : NULL, &err);
        if (!c.verb) {
                help_print_all(verbs);
                return EXIT_DONE;
        }
        status = run(&c, args, n, &err);
        if (status < 0) /* output_finish() reports a failed output; 'err' may be about an earlier failure */
                status = output_has_failed() ? EXIT_FAILED :
                                               client_fail(status, err.code == status ? &err : NULL);
        connection_free(c.connection);
        tunnel_close(c.tunnel);
        return status;
}

int fleetctl_main(int argc, char **argv) {
        verbs_check(verbs);
        (void) setlocale(LC_ALL, "");
        (void) signal(SIGCHLD, SIG_DFL); /* inherited SIG_IGN would discard the exit status of a child */
        output_init();
        return output_finish(run_line(argc, argv));
}
