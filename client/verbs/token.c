/* token and ca: permission for other hosts to join the cluster, and the roots of its CA. */
#include "base/clock.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/times.h"
#include "client/verbs/init.h"
#include "client/verbs/overview.h"
#include "units/machine.h"

/* -- token create -- */

static int token_add_metadata(Text *body, const char *text, Error *err) {
        _cleanup_pairs_ Pairs metadata = {};

        TRY(machine_metadata_parse(text, &metadata, err));
        json_open(body, "metadata", '{');
        for (size_t i = 0; i < metadata.n; i++)
                json_add_string_always(body, metadata.items[i].key, metadata.items[i].value);
        json_close(body, '}');
        return 0;
}

static int token_write_request(const Options *o, Text *body, Error *err) {
        uint64_t ttl_ms = 0;

        if (o->token_ttl && (parse_span_ms(o->token_ttl, &ttl_ms) < 0 || ttl_ms < 1000))
                return error_set(err, -EINVAL, "--ttl=%.32s: expected a time span, for example 1h",
                                 o->token_ttl);
        if (o->uses == 0)
                return error_set(err, -EINVAL, "--uses=0: expected the number of hosts, from 1 to 10000");
        json_open(body, NULL, '{');
        json_add_string(body, "from", o->token_from);
        if (o->token_metadata)
                TRY(token_add_metadata(body, o->token_metadata, err));
        json_add_bool(body, "ordinary", o->restricted_given && !o->restricted);
        json_add_string(body, "replace", o->token_replace);
        json_add_bool(body, "restricted", o->restricted);
        json_add_u64(body, "ttl", ttl_ms / 1000);
        json_add_u64(body, "uses", o->uses);
        json_add_string(body, "write", o->write);
        json_close(body, '}');
        return body->error;
}

/* On a terminal, also the line to type on the other host. A token of several uses is read from standard
 * input: each user of a host can read the arguments of a command. */
static int token_print_created(const JsonValue *root) {
        uint64_t uses = member_number(root, "uses");
        _cleanup_text_ Text t = {};
        char date[32];

        text_append_printable(&t, member_text(root, "token"));
        text_append_char(&t, '\n');
        if (client_is_interactive()) {
                text_printf(&t, "\nValid for %llu host%s, until %s", (unsigned long long) uses, plural(uses),
                            times_date(member_number(root, "expires"), date));
                text_append(&t, uses == 1 ? ". On that host, as root:\n  fleetctl join " :
                                            ". On each of them, as root, with the token on standard input:\n"
                                            "  fleetctl join -");
                if (uses == 1)
                        text_append_printable(&t, member_text(root, "token"));
                text_append(&t, "\nThe token is not printed again. To end it: fleetctl token revoke ");
                text_append_printable(&t, member_text(root, "id"));
                text_append_char(&t, '\n');
        }
        return t.error < 0 ? t.error : output_text(t.chars, t.size);
}

/* Check the machine of --replace= before the cluster is opened or gets a CA. *ret_up: it uses its key now.
 * Return an exit status. Without an answer, the next request has the reason. */
static int token_check_replaced(Client *c, const char *name, bool *ret_up) {
        _cleanup_listing_ Listing machines = {};
        _cleanup_json_ JsonValue *cluster = NULL;
        const ApiMachine *m = NULL;
        size_t n;
        int r;

        *ret_up = false;
        if (!name)
                return EXIT_DONE;
        r = client_all_machines(c, &machines, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : EXIT_DONE;
        machines.n += machines.n_removed; /* a removed machine may join with its former ID */
        machines.n_removed = 0;
        n = listing_find_machine(&machines, name, &m);
        if (n != 1) {
                client_note_machine(&machines, n, "--replace=", name);
                return n == 0 ? EXIT_ABSENT : EXIT_FAILED;
        }
        *ret_up = !m->presence || streq(m->presence, "up");
        if (!*ret_up)
                return EXIT_DONE;
        r = client_get_json(c, "/fleet/v1/cluster", &cluster, NULL);
        if (r == -ENOMEM)
                return r;
        *ret_up = r >= 0 && !cluster_awaits(cluster, &machines, m);
        if (r < 0 || !same_string(m->id, member_text(cluster, "machine")))
                return EXIT_DONE;
        client_note("--replace=%s: that is the host that creates the token: it is up, and needs none; for a "
                    "further host: fleetctl token; if it is to be installed again, run fleetctl token "
                    "--replace=%s on another one",
                    name, name);
        return EXIT_FAILED;
}

/* Warn that the token ends the key of a machine that is up. */
static void token_warn_up(const char *name, const JsonValue *token) {
        _cleanup_text_ Text id = {};

        text_append_printable(&id, member_text(token, "id"));
        client_note("warning: %s is up; when a host joins with this token, the present key of %s ends, and "
                    "its fleetd is rejected; if it is not to be installed again: fleetctl token revoke %s",
                    name, name, id.chars ?: "");
}

static int token_create(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        bool replaces_up = false;
        int r;

        if (n > 0)
                return client_usage("token create: expected no arguments");
        r = token_write_request(&c->options, &body, err);
        if (r == -EINVAL)
                return client_usage(error_text(err, r));
        if (r >= 0)
                r = token_check_replaced(c, c->options.token_replace, &replaces_up);
        if (r == EXIT_DONE)
                r = c->options.listen ? init_open(c, stderr, err) : init_open_alone(c, stderr, err);
        if (r != EXIT_DONE)
                return r;
        r = client_request(c, "POST", "/fleet/v1/cluster/tokens", &body, &reply, err);
        if (r >= 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &root, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to create a token: ");
        if (replaces_up)
                token_warn_up(c->options.token_replace, root);
        return streq(c->options.output, "json") ? output_text(reply.body.chars, reply.body.size) :
                                                  token_print_created(root);
}

/* -- token ls -- */

static const char *token_state(const JsonValue *token, uint64_t now_ms) {
        if (member_bool(token, "revoked"))
                return "revoked";
        if (member_number(token, "expires") <= now_ms)
                return "expired";
        return member_number(token, "uses") == 0 ? "used" : "valid";
}

static void token_add_row(Table *table, const JsonValue *token, uint64_t now_ms) {
        _cleanup_text_ Text hosts = {};
        char date[32];

        table_cell(table, "%s", member_text(token, "id"));
        table_cell(table, "%s", token_state(token, now_ms));
        table_cell(table, "%llu/%llu", (unsigned long long) member_number(token, "uses"),
                   (unsigned long long) member_number(token, "total"));
        table_cell(table, "%s", times_date(member_number(token, "expires"), date));
        table_cell(table, "%s", member_text(token, "createdBy"));
        table_cell(table, "%s", member_text(token, "from"));
        /* As the hosts: the first digits, which every command accepts. */
        table_cell(table, "%.8s", member_text(token, "replace"));
        table_cell(table, "%s",
                   client_restriction(member_bool(token, "restricted"), member_text(token, "write")));
        JSON_EACH(item, json_value_member(token, "hosts"))
                text_printf(&hosts, "%s%.8s", item_i > 0 ? "," : "", json_value_string(item) ?: "");
        table_add(table, &hosts);
}

static int token_list(Client *c, char **args, size_t n, Error *err) {
        _cleanup_table_ Table table = table_begin(
                "TOKEN,STATE,USES,EXPIRES,BY,FROM,REPLACES,RESTRICTED,HOSTS");
        _cleanup_json_ JsonValue *root = NULL;

        if (n > 0)
                return client_usage("token ls: expected no arguments");
        TRY_VERB(client_read(c, "/fleet/v1/cluster/tokens", &root, err), err, "Failed to list tokens: ");
        if (!root)
                return EXIT_DONE;
        JSON_EACH(item, json_value_member(root, "tokens"))
                token_add_row(&table, item, clock_real_ms());
        table_fit(&table, "REPLACES,RESTRICTED,FROM,HOSTS,BY,USES");
        return table_print(&table, true);
}

/* -- token revoke -- */

static int token_revoke(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text path = {};

        if (n != 1)
                return client_usage("token revoke: expected the ID of a token, which token ls prints");
        if (parse_hex_id(args[0], 12) < 0)
                return client_usage("token revoke: expected an ID of 12 hex digits, which token ls prints");
        return client_order(c, "DELETE", client_path_of(&path, "/fleet/v1/cluster/tokens/", args[0], ""),
                            NULL, "Failed to revoke the token: ", "Token %s is revoked\n", args[0]);
}

static int token_run(Client *c, char **args, size_t n, Error *err) {
        static const struct {
                const char *name;
                int (*run)(Client *c, char **args, size_t n, Error *err);
        } token_verbs[] = { { "create", token_create }, { "ls", token_list }, { "revoke", token_revoke } };

        if (n == 0)
                return token_create(c, args, 0, err);
        for (size_t i = 0; i < ELEMENTS(token_verbs); i++)
                if (streq(token_verbs[i].name, args[0]))
                        return token_verbs[i].run(c, args + 1, n - 1, err);
        return client_fail_verb("token", args[0], "token [create | ls | revoke ID]");
}

/* -- ca -- */

static int ca_print(const JsonValue *root) {
        _cleanup_table_ Table table = table_begin("ROOT,STATE");
        const JsonValue *roots = json_value_member(root, "roots");
        const char *rotation = member_text(root, "rotation"), *waits = member_text(root, "waitsFor");
        _cleanup_text_ Text line = {};
        int r;

        if (json_value_count(roots) == 0) {
                client_note("the cluster has no CA; the first token creates it: fleetctl token");
                return EXIT_FAILED;
        }
        JSON_EACH(item, roots)
                table_row(&table, member_text(item, "id"), member_text(item, "state"));
        r = table_print(&table, true);
        if (r < 0 || !*rotation)
                return r;
        text_append(&line, "\nrotation: ");
        text_append_printable(&line, rotation);
        if (*waits)
                text_printable(&line, "%s%s",
                               streq(rotation, "rekey") ? ", waits for the return of " :
                                                          ", waits for a new certificate of ",
                               waits);
        return output_built(&line);
}

static int ca_rotate(Client *c, const JsonValue *root, Error *err) {
        _cleanup_text_ Text body = {};

        if (*member_text(root, "rotation") && !c->options.compromised)
                return ca_print(root);
        text_append(&body, c->options.compromised ? "{\"compromised\":true}" : "{}");
        if (!client_confirm(
                    c, "Rotate?",
                    "A new root replaces that of the cluster%s. All hosts get new certificates; %s end. No "
                    "unit is touched.",
                    c->options.compromised ? ", and another cluster key the present one" : "",
                    c->options.compromised ? "all tokens" : "tokens of the former root"))
                return EXIT_FAILED;
        return client_order(c, "POST", "/fleet/v1/cluster/ca/rotate", &body, "Failed to rotate the CA: ",
                            "The rotation has begun; fleetctl ca shows its state\n");
}

static int ca_run(Client *c, char **args, size_t n, Error *err) {
        bool rotate = n == 1 && streq(args[0], "rotate");
        _cleanup_json_ JsonValue *root = NULL;

        if (n > 1 || (n == 1 && !rotate && !streq(args[0], "show")))
                return client_usage("ca: expected ca [show | rotate]");
        TRY_VERB((rotate ? client_get_json : client_read)(c, "/fleet/v1/cluster/ca", &root, err), err,
                 "Failed to read the roots of the CA: ");
        if (rotate)
                return ca_rotate(c, root, err);
        return root ? ca_print(root) : EXIT_DONE;
}

VERB(ca, "ca", "yes json", "[show | rotate]", "Show or replace the root of the certificates of the cluster",
     "The ID of a root is the SHA-256 of its public key. --output=json has the certificates.\n"
     "rotate replaces the root: hosts get new certificates, and the former root and its tokens end.\n"
     "While a rotation is under way, both print its state.\n",
     ca_run);

VERB(token, "token", "json", "[create | ls | revoke ID]",
     "Create, list and revoke tokens with which hosts join the cluster",
     "create, or no verb, prints a token: permission for one host, for one hour, unless flags say "
     "otherwise.\n"
     "It is printed once; the cluster stores only the hash of its secret. A host that is alone and has no\n"
     "peer listener opens it first, as init does.\n"
     "ls prints the tokens, without their secrets. revoke ends a token.\n\n"
     "fleetctl token --uses=20 --ttl=2h --from=10.0.0.0/8 --metadata=zone=a\n"
     "fleetctl token --replace=beta\n",
     token_run);
