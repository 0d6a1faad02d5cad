/* init: open the cluster for other hosts, and set its settings. */
#include "client/verbs/init.h"

#include <time.h>

enum { INIT_OPEN_S = 60, OPENING_S = 15 };

/* Return 1 if this host leads its cluster, or is a member of it, with this address; 0 if not yet, or no
 * answer came. */
static int init_is_open(Client *c, const char *listen) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *members;
        bool open;
        int r;

        r = client_get_json(c, "/fleet/v1/cluster", &root, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        open = streq(member_text(json_value_member(root, "leader"), "address"), listen);
        members = json_value_member(root, "voters");
        for (size_t i = 0; i < json_value_count(members) && !open; i++)
                open = streq(member_text(json_value_item(members, i), "address"), listen);
        return open;
}

int init_request(Client *c, const char *path, const char *token, bool exposed, JsonValue **ret, Error *err) {
        _cleanup_text_ Text body = {};
        _cleanup_reply_ Reply reply = {};
        int r;

        json_open(&body, NULL, '{');
        json_add_bool(&body, "discard", c->options.discard);
        json_add_bool(&body, "exposed", exposed);
        json_add_string(&body, "listen", c->options.listen ?: "");
        json_add_string(&body, "token", token);
        json_close(&body, '}');
        r = client_request(c, "POST", path, &body, &reply, err);
        explicit_bzero(body.chars, body.size);
        return r < 0 ? r : json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

int init_open(Client *c, FILE *to, Error *err) {
        _cleanup_json_ JsonValue *answer = NULL;
        _cleanup_text_ Text opened = {};
        time_t end = time(NULL) + INIT_OPEN_S;
        const char *listen;
        int r;

        r = TRY_VERB(init_request(c, "/fleet/v1/cluster/init", "", false, &answer, err), err,
                     "Failed to open the cluster: ");
        listen = member_text(answer, "listen");
        while ((r = init_is_open(c, listen)) == 0) {
                if (time(NULL) >= end) {
                        client_note("fleetd restarts to listen on %s, and does not answer after %d s: "
                                    "journalctl -u "
                                    "fleetd",
                                    listen, INIT_OPEN_S);
                        return EXIT_FAILED;
                }
                (void) usleep(INIT_POLL_MS * 1000);
        }
        if (r < 0)
                return r;
        text_printable(&opened, "Cluster %s listens on %s", member_text(answer, "cluster"), listen);
        TRY(opened.error);
        fprintf(to, "%s%s\n", opened.chars, to == stdout ? "; for each other host: fleetctl token" : "");
        return EXIT_DONE;
}

/* Wait until a restored host listens for others; its daemon restarts meanwhile. *ret: the last answer, or
 * NULL. */
static int init_wait_opening(Client *c, JsonValue **ret) {
        time_t begin = time(NULL);
        bool opens = false, reported = false;

        for (;; (void) usleep(INIT_POLL_MS * 1000)) {
                _cleanup_json_ JsonValue *root = NULL;
                int r = client_get_json(c, "/fleet/v1/cluster", &root, NULL);

                opens = r < 0 ? opens : member_bool(root, "opening");
                if (r == -ENOMEM || !opens || time(NULL) >= begin + OPENING_S) {
                        *ret = TAKE_PTR(root);
                        return r == -ENOMEM ? r : 0;
                }
                if (!reported && time(NULL) > begin)
                        client_note(
                                "waiting until this host has its certificate, and listens for other hosts");
                reported |= time(NULL) > begin;
        }
}

/* A host needs an address to join. Without an answer or a leader, the next request has the reason. */
int init_open_alone(Client *c, FILE *to, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *members;
        int r;

        r = init_wait_opening(c, &root);
        if (r < 0 || !root || member_bool(root, "opening"))
                return r < 0 ? r : EXIT_DONE;
        members = json_value_member(root, "voters");
        return json_value_count(members) == 1 && !*member_text(json_value_item(members, 0), "address") ?
                       init_open(c, to, err) :
                       EXIT_DONE;
}

/* Check --voters= here, too: a mistyped one fails without a daemon. */
static int init_read_voters(const char *text, uint64_t *ret) {
        if (streq(text, "auto")) {
                *ret = 0;
                return 0;
        }
        if (parse_u64(text, ret) >= 0 && (*ret == 1 || *ret == 3 || *ret == 5))
                return 0;
        client_note("init: --voters=%s: expected 1, 3, 5 or auto: an even number can lose no more hosts than "
                    "the odd one below",
                    text);
        return EXIT_USAGE;
}

static int init_print(const JsonValue *settings) {
        unsigned long long voters = member_number(settings, "voters");
        const char *name = member_text(settings, "name"), *spread = member_text(settings, "spread");
        _cleanup_text_ Text t = {};

        text_printable(&t, "name    %s", *name ? name : "-");
        if (voters > 0)
                text_printf(&t, "\nvoters  %llu\nspread  ", voters);
        else
                text_append(&t, "\nvoters  auto\nspread  ");
        text_append_printable(&t, *spread ? spread : "-");
        if (json_value_member(settings, "sticky"))
                text_printf(&t, "\nsticky  %s", member_bool(settings, "sticky") ? "yes" : "no");
        if (member_bool(settings, "restricted"))
                text_append(&t, "\ntokens  of restricted hosts");
        text_append_char(&t, '\n');
        return t.error < 0 ? t.error : output_text(t.chars, t.size);
}

static int init_show(Client *c, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;

        TRY_VERB(client_get_json(c, "/fleet/v1/cluster", &root, err), err,
                 "Failed to read the settings of the cluster: ");
        return init_print(json_value_member(root, "settings"));
}

static int init_run(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        _cleanup_text_ Text body = {};
        uint64_t voters = 0;
        bool settings, sticky = false;
        int r;

        if (n > 0)
                return client_usage("init: expected no arguments");
        if (o->voters) {
                r = TRY_DONE(init_read_voters(o->voters, &voters));
        }
        if (o->sticky && parse_bool(o->sticky, &sticky) < 0) {
                client_note("init: --sticky=%s: expected yes or no", o->sticky);
                return EXIT_USAGE;
        }
        settings = o->cluster_name || o->voters || o->spread || o->sticky || o->restricted_given;
        r = o->listen || !settings ? init_open(c, stdout, err) : init_open_alone(c, stdout, err);
        if (r != EXIT_DONE || !settings)
                return r == EXIT_DONE ? init_show(c, err) : r;

        json_open(&body, NULL, '{');
        if (o->cluster_name)
                json_add_string_always(&body, "name", o->cluster_name);
        if (o->restricted_given)
                text_printf(&body, "%s\"restricted\":%s", body.size > 1 ? "," : "",
                            o->restricted ? "true" : "false");
        if (o->spread)
                json_add_string_always(&body, "spread", o->spread);
        if (o->sticky)
                text_printf(&body, "%s\"sticky\":%s", body.size > 1 ? "," : "", sticky ? "true" : "false");
        if (o->voters)
                text_printf(&body, "%s\"voters\":%llu", body.size > 1 ? "," : "",
                            (unsigned long long) voters);
        json_close(&body, '}');
        TRY_VERB(client_request(c, "PUT", "/fleet/v1/cluster/settings", &body, NULL, err), err,
                 "Failed to set the settings of the cluster: ");
        if (voters > 3 && client_is_interactive())
                client_note("init: three hosts vote, until five have joined and caught up");
        return init_show(c, err);
}

VERB(init, "init", "", "", "Open the cluster of this host for other hosts, and set its settings",
     "Creates the CA of the cluster and the certificate of this host, and listens for other hosts on "
     "the\n"
     "only global address of this host, or on that of --listen. If a host of the cluster listens, only\n"
     "the settings are changed. May be repeated.\n"
     "The settings are equal on all hosts, and can be changed at any time. Two hosts more\n"
     "than the voters are standbys, with a copy of the tree; all others are attached, without one.\n"
     "auto (the default) is three voters from three hosts on.\n\n"
     "fleetctl init --listen=10.0.0.1\n"
     "fleetctl init --voters=5 --spread=zone\n",
     init_run);
