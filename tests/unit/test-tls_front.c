/* The TLS listener of users on a real host, with or without a replica: who is admitted, with which rights,
 * and how both end. */

#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/log.h"
#include "fleetd/api/request.h"
#include "fleetd/identity/authority.h"
#include "io/tls.h"
#include "tests/lib/attached.h"
#include "tests/lib/scratch.h"

typedef struct Fixture {
        Host *host; /* with a replica */
        Authority *authority;
        Attached *attached; /* NULL: the listener is that of 'host'; with it: */
        Authority *attached_authority;
        Api *replica_api; /* of 'host', which gets its requests */
        bool restricted;
        Api *api;
        Timer tick;
        char address[ADDRESS_SIZE];
        Names names; /* ServerNames= */
} Fixture;

/* A user, or another owner of a certificate. */
typedef struct User {
        char name[TLS_SUBJECT_SIZE];
        TlsPrivateKey *key;
        TlsCredentials *credentials;
        bool issued;
        Fixture *fixture;
} User;

/* A connection, and what was received on it. */
typedef struct Client {
        Fixture *fixture;
        const TlsCredentials *credentials; /* NULL: plain text */
        Stream *stream;
        Text in;
        bool connected, closed;
        int error;
        TlsPin root_pin;
        unsigned status; /* of the last answer */
        char *body;
} Client;

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        if (f->attached_authority)
                authority_tick(f->attached_authority);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

static void listen_tls(Fixture *f) {
        Error err = {};

        if (api_listen(f->api, API_TLS, f->address, &err) < 0)
                fail_msg("%s", err.message);
}

static Authority *authority_on(Host *h, Attached *a) {
        Settings *settings = a ? &a->settings : &h->settings;
        Authority *authority;

        settings->listen_peer = (char *) "127.0.0.1:1";
        assert_int_equal(authority_new(&authority, a ? &a->components : &h->components), 0);
        return authority;
}

static Api *api_on(Fixture *f, Attached *a) {
        ComponentHost *host = a ? &a->components : &f->host->components;
        Api *api;

        host->authority = a ? f->attached_authority : f->authority;
        *(a ? &a->settings.server_names : &f->host->settings.server_names) = f->names;
        assert_int_equal(api_new(&api, host), 0);
        return api;
}

static int setup_on(void **state, bool attached) {
        Fixture *f = NEW0(Fixture, 1);

        f->host = host_new(false);
        host_machine(f->host);
        snprintf(f->address, sizeof(f->address), "127.0.0.1:%d", scratch_port());
        assert_int_equal(names_add(&f->names, "fleet.example", 13), 0);
        assert_int_equal(names_add(&f->names, "::1", 3), 0);
        f->authority = authority_on(f->host, NULL);
        if (attached) {
                f->attached = attached_new(f->host);
                f->attached_authority = authority_on(f->host, f->attached);
                f->replica_api = api_on(f, NULL);
        }
        f->api = api_on(f, f->attached);
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        *state = f;
        return 0;
}

static int low_setup(void **state) {
        return setup_on(state, false);
}

static int setup(void **state) {
        int r = low_setup(state);

        host_raise(((Fixture *) *state)->host, KV_LEVEL_IDENTITY);
        listen_tls(*state);
        return r;
}

/* The host states that it accepts users; a restricted one in vain. */
static void accept_users(Fixture *f) {
        Machine m = { .name = (char *) "beta", .address = (char *) "10.0.0.2", .users = true };
        HostRecord host = { .joined_ms = 1, .pins = { .n = 1 }, .restricted = f->restricted };
        HostChange change = { .machine = f->attached->id, .host = &host };

        memset(host.pins.items[0], '1', DIGEST_SIZE - 1);
        memcpy(m.id, f->attached->id, sizeof(m.id));
        assert_int_equal(
                host_wait(f->host, registry_set_host(f->host->registry, &change, host_on_done, f->host)),
                KV_OK);
        assert_int_equal(
                host_wait(f->host, registry_publish_facts(f->host->registry, &m, host_on_done, f->host)),
                KV_OK);
}

static int setup_attached(void **state) {
        Fixture *f;
        int r;

        r = setup_on(state, true);
        f = *state;
        accept_users(f);
        listen_tls(f);
        return r;
}

static int low_setup_attached(void **state) {
        return setup_on(state, true);
}

static int teardown(void **state) {
        Fixture *f = *state;

        timer_stop(&f->tick);
        api_free(f->api);
        if (f->attached) {
                api_free(f->replica_api);
                authority_free(f->attached_authority);
                attached_free(f->attached);
        }
        authority_free(f->authority);
        host_free(f->host);
        names_done(&f->names);
        free(f);
        return 0;
}

/* Wait until the host of the listener has the record of a user as the replica has it. */
static void wait_for_user(Fixture *f, const char *name) {
        const ClusterPrincipal *known = cluster_principal(registry_cluster(f->host->registry), name);

        if (!f->attached || f->restricted)
                return;
        for (;;) {
                const ClusterPrincipal *here = cluster_principal(registry_cluster(f->attached->registry),
                                                                 name);

                if (known ? here && here->index == known->index : !here)
                        break;
                f->host->wanted = "the record of a user arrives";
                host_turn(f->host);
        }
        HOST_UNTIL(f->host, TAILQ_FIRST(&f->api->listeners)->listener);
}

/* Until a revocation takes effect, in ms: at once, or after a round trip to the replica. */
static unsigned limit_ms(const Fixture *f) {
        return f->attached ? 1000 : 100;
}

/* -- Users -- */

static void on_issued(void *userdata, int error, const char *message, const AuthorityResult *result) {
        const EnterAnswer *answer = result ? result->answer : NULL;
        User *u = userdata;
        Error err = {};

        if (error < 0)
                fail_msg("%s", message);
        if (tls_credentials_new(u->key, answer->certificate, answer->roots, &u->credentials, &err) < 0)
                fail_msg("%s", err.message);
        u->issued = true;
}

static RightList *rights_of(const char *text) {
        RightList *list = NULL;
        Error err = {};

        for (const char *p = text; *p; p += strcspn(p, ","), p += *p == ',')
                if (right_list_add_text(&list, p, strcspn(p, ","), &err) < 0)
                        fail_msg("%s", err.message);
        return list;
}

static void user_new(User *u, Fixture *f, const char *name, const char *rights) {
        _cleanup_right_list_ RightList *list = rights_of(rights);
        _cleanup_text_ Text csr = {};
        Error err = {};

        *u = (User) { .fixture = f };
        snprintf(u->name, sizeof(u->name), "%s", name);
        assert_int_equal(tls_private_key_new(&u->key, &err), 0);
        assert_int_equal(tls_request_create(u->key, &csr, &err), 0);
        if (authority_certify_user(
                    f->authority,
                    &(UserRequest) {
                            .name = name, .csr = csr.chars, .rights = list, .replace = true, .by = "" },
                    on_issued, u, &err) < 0)
                fail_msg("%s", err.message);
        HOST_UNTIL(f->host, u->issued && cluster_principal(registry_cluster(f->host->registry), name));
        wait_for_user(f, name);
}

static void user_done(User *u) {
        u->key = tls_private_key_free(u->key);
        u->credentials = tls_credentials_free(u->credentials);
}

/* Write another record of the user; rights NULL: revoke it. */
static void user_set(const User *u, const char *rights, uint64_t expires_ms) {
        const ClusterPrincipal *known = cluster_principal(registry_cluster(u->fixture->host->registry),
                                                          u->name);
        _cleanup_right_list_ RightList *list = rights_of(rights ?: "");
        PrincipalRecord record = known->record;
        Error err = {};

        record.expires_ms = expires_ms;
        assert_int_equal(right_list_record(list, &record, &err), 0);
        assert_int_equal(host_wait(u->fixture->host,
                                   registry_set_user(
                                           u->fixture->host->registry,
                                           &(UserChange) { .name = u->name, .user = rights ? &record : NULL },
                                           host_on_done, u->fixture->host)),
                         KV_OK);
        wait_for_user(u->fixture, u->name);
}

/* -- Clients -- */

static void stop(void *userdata) {
        loop_uv_stop(userdata);
}

/* Run turns of the loop, at first without waiting (host_turn() takes a millisecond): limits of a second are
 * tested. Later each takes a millisecond, so that a missing event takes no processor time. */
#define UNTIL(f, expression)                                                         \
        for (uint64_t begun_ms = clock_monotonic_ms(); !(expression);) {             \
                Deferred deferred = DEFERRED(stop, (f)->host->uv);                   \
                Timer wake = TIMER(stop, (f)->host->uv);                             \
                                                                                     \
                if (clock_monotonic_ms() < begun_ms + 200)                           \
                        loop_defer((f)->host->loop, &deferred);                      \
                else                                                                 \
                        assert_int_equal(timer_start(&wake, (f)->host->loop, 1), 0); \
                assert_true(loop_uv_run((f)->host->uv) >= 0);                        \
                assert_true(clock_monotonic_ms() < begun_ms + 20000);                \
        }

static void client_on_read(void *userdata, const void *bytes, size_t size) {
        Client *c = userdata;

        text_append_bytes(&c->in, bytes, size);
        if (size == 0)
                stream_close(c->stream);
}

static void client_on_close(void *userdata, int error, const char *reason) {
        Client *c = userdata;

        c->stream = NULL;
        c->closed = true;
        c->error = error;
}

static const StreamEvents client_events = { .on_read = client_on_read, .on_close = client_on_close };

static void client_on_secure(void *userdata, Stream *stream, int error, const char *reason) {
        Client *c = userdata;

        c->stream = stream;
        c->error = error;
        c->closed = !stream;
        c->connected = true;
        if (!stream)
                return;
        stream_set_events(stream, &client_events, c);
        stream_pause(stream, false);
}

static void client_on_connected(void *userdata, Stream *stream, int error) {
        Client *c = userdata;
        TlsOptions options = { .side = TLS_CLIENT,
                               .credentials = c->credentials,
                               .check = { .roles = 1u << TLS_ROLE_LISTENER, .root_pin = &c->root_pin } };
        KvState state;

        if (!stream || !c->credentials) {
                client_on_secure(c, stream, error, "");
                return;
        }
        kv_state(c->fixture->host->store, &state);
        options.check.cluster_id = state.cluster_id;
        assert_int_equal(tls_start(c->fixture->host->loop, stream, &options, client_on_secure, c, NULL), 0);
}

/* Connect as a client that verifies the listener by the root of the cluster. */
static void client_open(Client *c, Fixture *f, const TlsCredentials *credentials) {
        const CaRoots *roots = registry_cluster(f->host->registry)->ca_roots;
        Network *net = f->host->network;
        int error = 0;

        *c = (Client) { .fixture = f, .credentials = credentials };
        if (roots)
                assert_int_equal(tls_pin_parse(ca_roots_current(roots)->id, &c->root_pin), 0);
        assert_non_null(net->ops->connect(net, f->address, 5000, client_on_connected, c, &error));
        UNTIL(f, c->connected);
}

static void client_close(Client *c) {
        if (c->stream)
                stream_close(c->stream);
        UNTIL(c->fixture, c->closed);
        text_done(&c->in);
        free(c->body);
}

static void client_send_to(Client *c, const char *host, const char *method, const char *target,
                           const char *fields) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, target, host, fields);
        if (c->stream)
                assert_int_equal(stream_write(c->stream, t.chars, t.size), 0);
}

/* Take an answer with its length, if it is complete. */
static bool client_takes(Client *c) {
        const char *end = c->in.size > 0 ? strstr(c->in.chars, "\r\n\r\n") : NULL, *length;
        size_t size;

        if (!end)
                return c->closed;
        (void) sscanf(c->in.chars, "HTTP/1.1 %u", &c->status);
        length = strcasestr(c->in.chars, "Content-Length: ");
        size = (size_t) (end + 4 - c->in.chars);
        if (length && length < end)
                size += (size_t) strtoul(length + 16, NULL, 10);
        if (c->in.size < size)
                return c->closed;
        free(c->body);
        c->body = strndup(end + 4, size - (size_t) (end + 4 - c->in.chars));
        memmove(c->in.chars, c->in.chars + size, c->in.size - size + 1);
        c->in.size -= size;
        return true;
}

/* Return the status, 0 if the connection ended without an answer. */
static unsigned ask_at(Client *c, const char *host, const char *method, const char *target,
                       const char *fields) {
        c->status = 0;
        client_send_to(c, host, method, target, fields);
        UNTIL(c->fixture, client_takes(c));
        return c->status;
}

static unsigned ask(Client *c, const char *method, const char *target) {
        return ask_at(c, c->fixture->address, method, target, "");
}

/* -- Rights -- */

static void a_user_has_the_rights_that_were_granted_and_no_others(void **state) {
        static const struct {
                const char *rights, *method, *target;
                unsigned status;
                const char *says;
        } rows[] = {
                { "units-see", "GET", "/version", 200, "" },
                { "units-see", "GET", "/fleet/v1/units", 200, "" },
                { "units-see", "GET", "/fleet/v1/cluster", 200, "" },
                { "units-see", "GET", "/v2/keys/app/a", 401, "\"errorCode\":110" },
                { "units-see", "DELETE", "/fleet/v1/units/a.service", 403,
                  "user:anna has no right units-change (fleetctl cert set)" },
                { "units-see", "GET", "/fleet/v1/cluster/users", 403, "has no right administer" },
                { "units-change", "DELETE", "/fleet/v1/units/a.service", 404, "" },
                { "administer", "GET", "/fleet/v1/cluster/users", 200, "\"name\":\"anna\"" },
                { "administer", "GET", "/fleet/v1/units", 403, "has no right units-see" },
                { "keys-read:/app", "GET", "/fleet/v1/units", 403, "has no right units-see" },
                { "keys-read:/app", "GET", "/v2/keys/app/a", 404, "\"errorCode\":100" },
                { "keys-read:/app", "PUT", "/v2/keys/app/a?value=1", 401, "\"errorCode\":110" },
                { "keys-write:/app", "PUT", "/v2/keys/app/a?value=1", 201, "" },
                { "keys-read:/app", "GET", "/v2/keys/app/a", 200, "\"value\":\"1\"" },
                { "keys-read:/other", "GET", "/v2/keys/app/a", 404, "\"errorCode\":100" },
                { "keys-read:/other", "GET", "/v2/keys/_fleet", 404, "\"errorCode\":100" },
                { "keys-write:/", "PUT", "/v2/keys/_fleet/a?value=1", 401, "\"errorCode\":110" },
                { "keys-read:/", "GET", "/fleet/v1/kv/list?prefix=/_fleet/cluster/principal", 200,
                  "\"nodes\":[]" },
        };
        Fixture *f = *state;
        _cleanup_(user_done) User anna;
        _cleanup_(client_close) Client c;

        user_new(&anna, f, "anna", "units-see");
        client_open(&c, f, anna.credentials);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                user_set(&anna, rows[i].rights, 0);
                if (ask(&c, rows[i].method, rows[i].target) != rows[i].status ||
                    !strstr(c.body, rows[i].says))
                        fail_msg("%s: %s %s: %u %s", rows[i].rights, rows[i].method, rows[i].target, c.status,
                                 c.body);
        }
}

static void a_request_names_the_listener_and_comes_from_no_other_page(void **state) {
        static const struct {
                const char *host, *fields;
                unsigned status;
        } rows[] = {
                { "127.0.0.1", "", 200 },
                { "127.0.0.1:1", "", 200 },
                { "fleet.example", "", 200 },
                { "FLEET.example:443", "", 200 },
                { "[::1]:443", "", 200 },
                { "[0:0:0:0:0:0:0:1]", "", 200 },
                { "evil.example", "", 403 },
                { "localhost", "", 403 },
                { "[::1", "", 403 },
                { "[::1]x", "", 403 },
                { "fleet.example:x", "", 403 },
                { "fleet.example.evil", "", 403 },
                { "", "", 403 },
                { "fleet.example", "Origin: https://fleet.example\r\n", 200 },
                { "fleet.example", "Origin: http://fleet.example\r\n", 403 },
                { "fleet.example", "Origin: https://evil.example\r\n", 403 },
        };
        Fixture *f = *state;
        _cleanup_(user_done) User anna;
        _cleanup_(client_close) Client c;

        user_new(&anna, f, "anna", "units-see");
        client_open(&c, f, anna.credentials);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (ask_at(&c, rows[i].host, "GET", "/version", rows[i].fields) != rows[i].status)
                        fail_msg("%s, %s: %u %s", rows[i].host, rows[i].fields, c.status, c.body);
}

/* -- Rights that end -- */

static const char *const streams[] = {
        "/v2/keys/app/a?wait=true",         "/v2/keys/app?wait=true&recursive=true&stream=true",
        "/fleet/v1/kv/changes?prefix=/app", "/fleet/v1/events",
        "/fleet/v1/events?details=true",    "/fleet/v1/history?follow=true",
};

static void open_streams(Fixture *f, const User *u, Client clients[static ELEMENTS(streams)]) {
        for (size_t i = 0; i < ELEMENTS(streams); i++) {
                client_open(&clients[i], f, u->credentials);
                client_send_to(&clients[i], f->address, "GET", streams[i], "");
                UNTIL(f, clients[i].in.size > 0 && strstr(clients[i].in.chars, "\r\n\r\n"));
                if (!starts_with(clients[i].in.chars, "HTTP/1.1 200"))
                        fail_msg("%s: %s", streams[i], clients[i].in.chars);
        }
}

static void a_lost_right_ends_streams_and_not_the_connection(void **state) {
        Client clients[ELEMENTS(streams)], idle;
        Fixture *f = *state;
        uint64_t before_ms;
        User anna, bert;
        _cleanup_(client_close) Client other;

        user_new(&anna, f, "anna", "keys-read:/app,units-see");
        user_new(&bert, f, "bert", "keys-read:/app");
        open_streams(f, &anna, clients);
        client_open(&idle, f, anna.credentials);
        client_open(&other, f, bert.credentials);
        client_send_to(&other, f->address, "GET", streams[0], "");
        UNTIL(f, other.in.size > 0);

        before_ms = clock_monotonic_ms();
        user_set(&anna, "keys-read:/other", 0);
        for (size_t i = 0; i < ELEMENTS(streams); i++)
                UNTIL(f, clients[i].closed || strstr(clients[i].in.chars, "\r\n0\r\n"));
        assert_in_range(clock_monotonic_ms() - before_ms, 0, limit_ms(f));
        print_message("%zu streams of a user ended %llu ms after the loss of a right\n", ELEMENTS(streams),
                      (unsigned long long) (clock_monotonic_ms() - before_ms));
        assert_int_equal(ask(&idle, "GET", "/fleet/v1/units"), 403);
        assert_false(other.closed || strstr(other.in.chars, "\r\n0\r\n"));
        for (size_t i = 0; i < ELEMENTS(streams); i++)
                client_close(&clients[i]);
        client_close(&idle);
        user_done(&anna);
        user_done(&bert);
}

static void a_revoked_user_loses_its_streams_and_connections(void **state) {
        Client clients[ELEMENTS(streams)], idle, other, again;
        Fixture *f = *state;
        uint64_t before_ms;
        User anna, bert;

        user_new(&anna, f, "anna", "keys-read:/app,units-see");
        user_new(&bert, f, "bert", "units-see");
        open_streams(f, &anna, clients);
        client_open(&idle, f, anna.credentials);
        client_open(&other, f, bert.credentials);
        assert_int_equal(ask(&idle, "GET", "/version"), 200);

        before_ms = clock_monotonic_ms();
        user_set(&anna, NULL, 0);
        for (size_t i = 0; i < ELEMENTS(streams); i++)
                UNTIL(f, clients[i].closed);
        UNTIL(f, idle.closed);
        assert_in_range(clock_monotonic_ms() - before_ms, 0, limit_ms(f));
        print_message("%zu streams and a connection of a user ended %llu ms after its revocation\n",
                      ELEMENTS(streams), (unsigned long long) (clock_monotonic_ms() - before_ms));
        assert_int_equal(ask(&other, "GET", "/version"), 200);

        client_open(&again, f, anna.credentials);
        assert_int_equal(ask(&again, "GET", "/version"), 403);
        assert_non_null(strstr(again.body, "no user anna of this cluster has this key"));
        for (size_t i = 0; i < ELEMENTS(streams); i++)
                client_close(&clients[i]);
        client_close(&idle);
        client_close(&other);
        client_close(&again);
        user_done(&anna);
        user_done(&bert);
}

static void another_key_ends_the_connections_of_the_former_one(void **state) {
        Fixture *f = *state;
        User former, anna;
        Client c, again;

        user_new(&former, f, "anna", "units-see");
        client_open(&c, f, former.credentials);
        assert_int_equal(ask(&c, "GET", "/version"), 200);
        user_new(&anna, f, "anna", "units-see"); /* with 'replace' */
        UNTIL(f, c.closed);
        client_open(&again, f, former.credentials);
        assert_int_equal(ask(&again, "GET", "/version"), 403);
        assert_non_null(strstr(again.body, "no user anna of this cluster has this key"));
        client_close(&again);
        client_open(&again, f, anna.credentials);
        assert_int_equal(ask(&again, "GET", "/version"), 200);
        client_close(&again);
        client_close(&c);
        user_done(&former);
        user_done(&anna);
}

/* -- Denied rights in the log -- */

static Text denied; /* lines */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!starts_with(message, "denied "))
                return;
        assert_string_equal(fields->message_id, history_message_id(HISTORY_DENIED));
        assert_true(starts_with(fields->principal, "user:"));
        text_printf(&denied, "%s\n", message);
}

static int add_denied(void *userdata, const KvHistoryRow *row) {
        HistoryEvent event;

        assert_int_equal(history_decode(row->body, &event), 0);
        if (event.kind == HISTORY_DENIED)
                text_printf(userdata, "%s %s\n", event.user, event.reason);
        return 1;
}

static void denied_rights_are_logged_once_a_second_and_counted(void **state) {
        Fixture *f = *state;
        User anna, bert;
        Client a, b;

        user_new(&anna, f, "anna", "keys-read:/app");
        user_new(&bert, f, "bert", "units-see");
        client_open(&a, f, anna.credentials);
        client_open(&b, f, bert.credentials);
        log_set_sink(on_log, NULL);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(ask(&a, "PUT", "/v2/keys/app/%0Ax?value=1"), 401);
        assert_int_equal(ask(&a, "GET", "/v2/keys/hidden"), 404); /* reads as absent: nothing was denied */
        assert_int_equal(ask(&b, "DELETE", "/fleet/v1/units/a.service"), 403);
        UNTIL(f, strstr(denied.chars, "more requests"));
        log_set_sink(NULL, NULL);
        assert_string_equal(denied.chars,
                            "denied user:anna: PUT /v2/keys/app/\\x0ax\n"
                            "denied user:bert: DELETE /fleet/v1/units/a.service\n"
                            "denied user:anna: 19 more requests, the last one PUT /v2/keys/app/\\x0ax\n");
        text_clear(&denied); /* the history has the first one of the minute, without the key */
        assert_int_equal(kv_local_history(f->host->store, 0, false, add_denied, &denied), 0);
        assert_string_equal(denied.chars, "user:anna PUT /v2/keys\n");
        text_done(&denied);
        client_close(&a);
        client_close(&b);
        user_done(&anna);
        user_done(&bert);
}

/* -- A restricted host -- */

static Text waiting; /* a message */

static void on_waiting(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (strstr(message, "does not listen yet"))
                text_printf(&waiting, "%s\n", message);
}

static void a_restricted_host_accepts_no_users(void **state) {
        Fixture *f = *state;
        _cleanup_(user_done) User anna;

        f->restricted = true;
        accept_users(f);
        user_new(&anna, f, "anna", "units-see");
        log_set_sink(on_waiting, NULL);
        listen_tls(f);
        UNTIL(f, waiting.size > 0);
        log_set_sink(NULL, NULL);
        assert_non_null(strstr(waiting.chars, "this host is restricted: it gets no certificate for users"));
        assert_null(TAILQ_FIRST(&f->api->listeners)->listener);
        assert_null(cluster_principal(registry_cluster(f->attached->registry), "anna"));
        text_done(&waiting);
}

/* -- Wrong clients -- */

/* Issue a certificate for the key of 'u' by a CA of the test. */
static void self_issue(User *u, TlsRole role, uint64_t cluster_id, uint64_t now_ms, uint64_t lifetime_ms) {
        static const uint8_t serial[TLS_SERIAL_BYTES] = { 1 };
        TlsIssue issue = { .uri = { .cluster_id = cluster_id, .role = role },
                           .now_ms = now_ms,
                           .lifetime_ms = lifetime_ms };
        _cleanup_text_ Text root = {}, csr = {}, certificate = {};
        TlsPrivateKey *ca;
        Error err = {};

        assert_int_equal(tls_private_key_new(&ca, &err), 0);
        assert_int_equal(tls_root_create(ca, cluster_id, serial, now_ms, &root, &err), 0);
        assert_int_equal(tls_request_create(u->key, &csr, &err), 0);
        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", u->name);
        issue.request = csr.chars;
        issue.request_size = csr.size;
        issue.root = root.chars;
        issue.root_size = root.size;
        if (tls_issue(&issue, ca, &certificate, &err) < 0)
                fail_msg("%s", err.message);
        tls_private_key_free(ca);
        u->credentials = tls_credentials_free(u->credentials);
        assert_int_equal(tls_credentials_new(u->key, certificate.chars, root.chars, &u->credentials, &err),
                         0);
}

static void a_client_of_another_kind_is_rejected_with_the_reason(void **state) {
        const uint64_t day_ms = 86400000;
        TlsCredentials *none;
        Fixture *f = *state;
        KvState kv;
        _cleanup_(user_done) User anna;
        Client c;
        Error err = {};

        user_new(&anna, f, "anna", "units-see");
        kv_state(f->host->store, &kv);
        const uint64_t now_ms = loop_wall_ms(f->host->loop);
        const struct {
                TlsRole role;
                const char *name;
                uint64_t cluster_id, now_ms;
                unsigned status; /* 0: a TLS alert */
                const char *says;
        } rows[] = {
                { TLS_ROLE_USER, "anna", kv.cluster_id, now_ms, 200, "" },
                { TLS_ROLE_USER, "anna", kv.cluster_id + 1, now_ms, 0, "" },
                { TLS_ROLE_USER, "anna", kv.cluster_id, now_ms - 40 * day_ms, 403,
                  "the certificate expired at " },
                { TLS_ROLE_USER, "anna", kv.cluster_id, now_ms + day_ms, 403, "is not valid before " },
                { TLS_ROLE_USER, "bert", kv.cluster_id, now_ms, 403,
                  "no user bert of this cluster has this key" },
                { TLS_ROLE_HOST, f->host->id, kv.cluster_id, now_ms, 403, "role host is not accepted here" },
                { TLS_ROLE_REPLICA, f->host->id, kv.cluster_id, now_ms, 403,
                  "role replica is not accepted here" },
        };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                snprintf(anna.name, sizeof(anna.name), "%s", rows[i].name);
                self_issue(&anna, rows[i].role, rows[i].cluster_id, rows[i].now_ms, 30 * day_ms);
                client_open(&c, f, anna.credentials);
                if (ask(&c, "GET", "/version") != rows[i].status || !strstr(c.body ?: "", rows[i].says))
                        fail_msg("row %zu: %u %s", i, c.status, c.body);
                client_close(&c);
        }

        /* Later dates in a certificate of its own making do not prolong the life that the cluster has
         * recorded. */
        snprintf(anna.name, sizeof(anna.name), "anna");
        self_issue(&anna, TLS_ROLE_USER, kv.cluster_id, now_ms, 30 * day_ms);
        user_set(&anna, "units-see", now_ms - day_ms);
        client_open(&c, f, anna.credentials);
        assert_int_equal(ask(&c, "GET", "/version"), 403);
        assert_non_null(
                strstr(c.body, "the certificate of user anna has expired: 'fleetctl cert anna' renews it"));
        client_close(&c);

        assert_int_equal(tls_credentials_new(NULL, NULL, NULL, &none, &err), 0);
        client_open(&c, f, none);
        assert_int_equal(ask(&c, "GET", "/version"), 0); /* the TLS alert is "certificate required" */
        assert_int_equal(c.error, -EKEYREJECTED);
        client_close(&c);
        tls_credentials_free(none);

        client_open(&c, f, NULL);
        assert_int_equal(ask(&c, "GET", "/version"), 400);
        assert_non_null(
                strstr(c.body, "this listener accepts https only, with a certificate of fleetctl cert"));
        client_close(&c);
}

/* Open connections that send nothing until the listener ends the first of them. Return how many are open. A
 * fast machine opens thousands: those that the listener has ended make room in 'strangers'. */
static unsigned open_strangers(Fixture *f, Client *strangers, unsigned max, unsigned *ret_n) {
        unsigned n = 0, n_open = 0, n_passed = 0;

        for (unsigned i = 0; n == 0 || !strangers[0].closed; i = i + 1 < max ? i + 1 : 1) {
                if (i < n && !strangers[i].closed) {
                        assert_true(n_passed++ < max);
                        continue;
                }
                n_passed = 0;
                if (i < n)
                        client_close(&strangers[i]);
                else
                        n++;
                client_open(&strangers[i], f, NULL);
        }
        for (unsigned i = 0; i < n; i++)
                n_open += !strangers[i].closed;
        *ret_n = n;
        return n_open;
}

static void strangers_have_limits_until_a_user_of_their_address_is_authenticated(void **state) {
        Client strangers[20], c;
        Fixture *f = *state;
        unsigned n, n_refused = 0;
        _cleanup_(user_done) User anna;

        user_new(&anna, f, "anna", "units-see");
        assert_in_range(open_strangers(f, strangers, ELEMENTS(strangers), &n), 8, 10); /* of one address */
        for (unsigned i = 0; i < n; i++)
                client_close(&strangers[i]);

        for (unsigned i = 0; i < 60; i++) { /* 40 at once, and 20 in a second */
                client_open(&c, f, NULL);
                client_close(&c);
        }
        do { /* she waits with them */
                client_open(&c, f, anna.credentials);
                (void) ask(&c, "GET", "/version");
                n = c.status;
                n_refused += n != 200;
                client_close(&c);
        } while (n != 200);
        assert_true(n_refused > 0);
}

/* Many users may be behind an address. */
static void a_trusted_address_has_a_fifth_of_the_handshakes(void **state) {
        enum { STRANGERS = 400 };
        Client *strangers = NEW0(Client, STRANGERS), c;
        Fixture *f = *state;
        User anna;
        unsigned n;

        user_new(&anna, f, "anna", "units-see");
        client_open(&c, f, anna.credentials);
        assert_int_equal(ask(&c, "GET", "/version"), 200);
        client_close(&c);
        assert_in_range(open_strangers(f, strangers, STRANGERS, &n), 256 / 5,
                        256 / 5 + 9); /* some are refused */
        do {
                client_open(&c, f, anna.credentials);
                (void) ask(&c, "GET", "/version");
                client_close(&c);
        } while (c.status != 200);
        for (unsigned i = 0; i < n; i++)
                client_close(&strangers[i]);
        user_done(&anna);
        free(strangers);
}

/* Also of a user whose connections have ended before. */
static void the_trust_of_an_address_ends_with_its_user(void **state) {
        Client strangers[20], c;
        Fixture *f = *state;
        _cleanup_(user_done) User anna;
        unsigned n;

        user_new(&anna, f, "anna", "units-see");
        client_open(&c, f, anna.credentials);
        assert_int_equal(ask(&c, "GET", "/version"), 200);
        client_close(&c);
        user_set(&anna, NULL, 0);
        assert_in_range(open_strangers(f, strangers, ELEMENTS(strangers), &n), 8, 10);
        for (unsigned i = 0; i < n; i++)
                client_close(&strangers[i]);
}

/* -- The listener -- */

static void without_a_ca_nothing_listens_and_the_first_user_opens_the_listener(void **state) {
        Fixture *f = *state;
        _cleanup_(user_done) User anna;
        Client c;

        listen_tls(f);
        client_open(&c, f, NULL);
        assert_int_equal(c.error, -ECONNREFUSED);
        client_close(&c);
        host_raise(f->host, KV_LEVEL_IDENTITY);
        user_new(&anna, f, "anna", "units-see");
        client_open(&c, f, anna.credentials);
        assert_int_equal(ask(&c, "GET", "/version"), 200);
        client_close(&c);
}

static void an_address_of_another_host_is_an_error_at_the_start(void **state) {
        Fixture *f = *state;
        Error err = {};

        assert_int_equal(api_listen(f->api, API_TLS, "192.0.2.1:2443", &err), -EADDRNOTAVAIL);
        assert_non_null(strstr(err.message, "192.0.2.1:2443"));
        assert_int_equal(api_listen(f->api, API_TLS, "nowhere", &err), -EINVAL);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define EACH(f) T(f), { #f "_without_a_replica", f, setup_attached, teardown, NULL }
                EACH(a_user_has_the_rights_that_were_granted_and_no_others),
                EACH(a_request_names_the_listener_and_comes_from_no_other_page),
                EACH(a_lost_right_ends_streams_and_not_the_connection),
                EACH(a_revoked_user_loses_its_streams_and_connections),
                EACH(another_key_ends_the_connections_of_the_former_one),
                cmocka_unit_test_setup_teardown(a_restricted_host_accepts_no_users, low_setup_attached,
                                                teardown),
                T(denied_rights_are_logged_once_a_second_and_counted),
                T(a_client_of_another_kind_is_rejected_with_the_reason),
                T(strangers_have_limits_until_a_user_of_their_address_is_authenticated),
                T(a_trusted_address_has_a_fifth_of_the_handshakes),
                T(the_trust_of_an_address_ends_with_its_user),
                cmocka_unit_test_setup_teardown(
                        without_a_ca_nothing_listens_and_the_first_user_opens_the_listener, low_setup,
                        teardown),
                cmocka_unit_test_setup_teardown(an_address_of_another_host_is_an_error_at_the_start,
                                                low_setup, teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
