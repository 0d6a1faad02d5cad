/* The routes of tokens, of the CA and of users on a real host. */
#include "tests/lib/test.h"
#include "fleetd/api/api.h"
#include "fleetd/identity/authority.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "units/json.h"

typedef struct Fixture {
        Host *host;
        Authority *authority;
        Api *api;
        Timer tick;
        char *socket, *answer;
        char loopback[ADDRESS_SIZE];
} Fixture;

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

static int low_setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        Error err = {};

        f->host = host_new(false);
        host_machine(f->host);
        f->socket = scratch_path(f->host->scratch, "socket");
        snprintf(f->loopback, sizeof(f->loopback), "127.0.0.1:%d", scratch_port());
        f->host->settings.listen_peer = (char *) "127.0.0.1:2380";
        assert_int_equal(authority_new(&f->authority, &f->host->components), 0);
        f->host->components.authority = f->authority;
        assert_int_equal(api_new(&f->api, &f->host->components), 0);
        if (api_listen(f->api, API_SOCKET, f->socket, &err) < 0 ||
            api_listen(f->api, API_LOOPBACK, f->loopback, &err) < 0)
                fail_msg("%s", err.message);
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        *state = f;
        return 0;
}

static int setup(void **state) {
        int r = low_setup(state);

        host_raise(((Fixture *) *state)->host, KV_LEVEL_IDENTITY);
        return r;
}

static int teardown(void **state) {
        Fixture *f = *state;

        timer_stop(&f->tick);
        api_free(f->api);
        authority_free(f->authority);
        host_free(f->host);
        free(f->socket);
        free(f->answer);
        free(f);
        return 0;
}

static unsigned ask_at(Fixture *f, const char *address, const char *method, const char *target,
                       const char *body) {
        _cleanup_text_ Text t = {};
        unsigned status = 0;

        text_printf(&t,
                    "%s /fleet/v1/cluster/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                    "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                    method, target, address == f->socket ? "fleet" : address, strlen(body), body);
        free(f->answer);
        f->answer = host_ask(f->host, address, t.chars, t.size);
        (void) sscanf(f->answer, "HTTP/1.1 %u", &status);
        return status;
}

static unsigned ask(Fixture *f, const char *method, const char *target, const char *body) {
        return ask_at(f, f->socket, method, target, body);
}

static void assert_says(Fixture *f, const char *text) {
        if (!strstr(f->answer, text))
                fail_msg("'%s' is not in '%s'", text, f->answer);
}

/* Copy the text member of the answer. */
static void member_of(Fixture *f, const char *name, char *ret, size_t size) {
        char start[32];
        const char *p;

        snprintf(start, sizeof(start), "\"%s\":\"", name);
        p = strstr(f->answer, start);
        assert_non_null(p);
        p += strlen(start);
        snprintf(ret, size, "%.*s", (int) strcspn(p, "\""), p);
}

static void a_token_is_created_listed_and_revoked(void **state) {
        Fixture *f = *state;
        char text[TOKEN_TEXT_MAX], id[TOKEN_ID_SIZE], target[64];
        Token token;
        Error err = {};

        assert_int_equal(ask(f, "GET", "tokens", ""), 200);
        assert_says(f, "{\"tokens\":[]}");
        assert_int_equal(ask(f, "GET", "ca", ""), 200);
        assert_says(f, "{\"roots\":[]}");
        assert_int_equal(ask(f, "POST", "ca/rotate", "{}"), 409);
        assert_says(f, "the cluster has no CA");
        assert_int_equal(ask(f, "POST", "rekey", ""), 409);
        assert_says(f, "the cluster has no CA");

        assert_int_equal(
                ask(f, "POST", "tokens",
                    "{\"from\":\"10.0.0.0/8\",\"metadata\":{\"zone\":\"a\"},\"ttl\":7200,\"uses\":3}"),
                201);
        member_of(f, "token", text, sizeof(text));
        member_of(f, "id", id, sizeof(id));
        assert_says(f, "\"uses\":3");
        assert_int_equal(token_read(text, &token, &err), 0);
        assert_string_equal(token.id, id);
        HOST_UNTIL(f->host, cluster_token(registry_cluster(f->host->registry), id));

        assert_int_equal(ask(f, "GET", "tokens", ""), 200);
        assert_says(f, "\"from\":\"10.0.0.0/8\",\"hosts\":[],\"id\":\"");
        assert_says(f, "\"metadata\":{\"zone\":\"a\"},\"total\":3,\"uses\":3}");
        assert_null(strstr(f->answer, "fleet1-"));
        assert_null(strstr(f->answer, "hash"));
        assert_int_equal(ask(f, "GET", "ca", ""), 200);
        assert_says(f, "BEGIN CERTIFICATE");
        assert_says(f, "\"state\":\"current\"");
        assert_null(strstr(f->answer, "PRIVATE"));

        snprintf(target, sizeof(target), "tokens/%s", id);
        cluster_token(registry_cluster(f->host->registry), id)->index--; /* not that of the tree */
        assert_int_equal(ask(f, "DELETE", target, ""), 409);
        assert_says(f, "another request changed the token meanwhile; try again");
        cluster_token(registry_cluster(f->host->registry), id)->index++;
        assert_int_equal(ask(f, "DELETE", target, ""), 204);
        HOST_UNTIL(f->host, cluster_token(registry_cluster(f->host->registry), id)->record.revoked);
        assert_int_equal(ask(f, "DELETE", target, ""), 409);
        assert_says(f, "was revoked before");
        assert_int_equal(ask(f, "GET", "tokens", ""), 200);
        assert_says(f, "\"revoked\":true");
        assert_int_equal(ask(f, "DELETE", "tokens/000000000000", ""), 404);
        assert_int_equal(ask(f, "POST", "ca/rotate", "{\"compromised\":1}"), 400);
        assert_int_equal(ask(f, "POST", "rekey", ""), 204);
        HOST_UNTIL(f->host, registry_cluster(f->host->registry)->ca_keys->items[0].cluster_key == 2);
        assert_int_equal(ask(f, "GET", "ca", ""), 200);
        assert_says(f, "{\"clusterKey\":2,\"roots\":");
        assert_int_equal(ask(f, "POST", "ca/rotate", "{\"compromised\":true}"), 204);
        HOST_UNTIL(f->host, !cluster_token(registry_cluster(f->host->registry), id));
        assert_int_equal(ask(f, "POST", "tokens", "{}"), 201);
        assert_int_equal(ask(f, "POST", "tokens", "{\"replace\":\"aaaaaaaa\"}"), 201);
}

static void invalid_requests_get_the_reason(void **state) {
        static const struct {
                const char *body;
                unsigned status;
                const char *message;
        } rows[] = {
                { "", 400, "" },
                { "[]", 400, "expected a JSON object" },
                { "{\"uses\":\"x\"}", 400, "uses: expected a whole number" },
                { "{\"uses\":10001}", 400, "10001 uses: expected 1 to 10000" },
                { "{\"ttl\":59}", 400, "a life of 59 s: expected 1 minute to 7 days" },
                { "{\"ttl\":9223372036854775807}", 400, "expected 1 minute to 7 days" },
                { "{\"from\":\"x\"}", 400, "'x' is not a network" },
                { "{\"metadata\":{\"a b\":\"c\"}}", 400, "a b" },
                { "{\"replace\":\"none\"}", 404, "no machine 'none'" },
                { "{\"restricted\":true}", 400, "which needs feature level 6" },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (ask(f, "POST", "tokens", rows[i].body) != rows[i].status)
                        fail_msg("%s: %s", rows[i].body, f->answer);
                assert_says(f, rows[i].message);
        }
        assert_null(registry_cluster(f->host->registry)->ca_roots);
}

static void only_administrators_have_tokens(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask_at(f, f->loopback, "GET", "tokens", ""), 403);
        assert_int_equal(ask_at(f, f->loopback, "POST", "tokens", "{}"), 403);
        assert_int_equal(ask_at(f, f->loopback, "DELETE", "tokens/000000000000", ""), 403);
        assert_int_equal(ask_at(f, f->loopback, "GET", "ca", ""), 403);
        assert_int_equal(ask_at(f, f->loopback, "POST", "ca/rotate", "{}"), 403);
        assert_int_equal(ask_at(f, f->loopback, "POST", "rekey", ""), 403);
        assert_int_equal(ask(f, "PUT", "tokens", "{}"), 405);
        assert_int_equal(ask(f, "POST", "ca", "{}"), 405);
}

static void below_its_level_no_token_is_created(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask(f, "POST", "tokens", "{}"), 409);
        assert_says(f, "tokens and certificates begin at feature level 5");
}

/* -- Users -- */

static void make_csr(Text *ret) {
        TlsPrivateKey *key;
        Error err = {};

        text_clear(ret);
        assert_int_equal(tls_private_key_new(&key, &err), 0);
        assert_int_equal(tls_request_create(key, ret, &err), 0);
        tls_private_key_free(key);
}

/* Request a certificate; 'rest': the other members. */
static unsigned certify(Fixture *f, const char *name, const char *csr, const char *rest) {
        _cleanup_text_ Text body = {};
        char target[128];

        json_open(&body, NULL, '{');
        json_add_string(&body, "csr", csr);
        text_append(&body, rest);
        json_close(&body, '}');
        snprintf(target, sizeof(target), "users/%s", name);
        return ask(f, "PUT", target, body.chars);
}

static void certificate_of(Fixture *f, TlsCertificate *ret) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *body = strstr(f->answer, "\r\n\r\n") + 4, *pem = "", *roots = "";
        TlsRoots *trusted;
        Error err = {};

        assert_int_equal(json_object_parse(body, strlen(body), &root, &err), 0);
        assert_int_equal(json_read_string(root, "certificate", &pem, &err), 0);
        assert_int_equal(json_read_string(root, "roots", &roots, &err), 0);
        if (tls_certificate_read(pem, strlen(pem), ret, &err) < 0 ||
            tls_roots_read(roots, strlen(roots), &trusted, &err) < 0)
                fail_msg("%s", err.message);
        tls_roots_free(trusted);
}

static void a_user_gets_a_certificate_and_rights_and_loses_both(void **state) {
        Fixture *f = *state;
        _cleanup_text_ Text csr = {}, other = {};
        TlsCertificate first, renewed;
        char digits[TLS_PIN_SIZE];
        TlsPin pin;
        Error err = {};

        make_csr(&csr);
        make_csr(&other);
        assert_int_equal(tls_request_read(csr.chars, csr.size, &pin, &err), 0);
        tls_pin_print(&pin, digits);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_says(f, "{\"users\":[]}");

        assert_int_equal(certify(f, "ops.1", csr.chars,
                                 ",\"rights\":[\"keys-write:/app\",\"units-see\"],\"ttl\":7200"),
                         201);
        certificate_of(f, &first);
        assert_int_equal(first.uri.role, TLS_ROLE_USER);
        assert_string_equal(first.uri.subject, "ops.1");
        assert_true(tls_pin_equal(&first.pin, &pin));
        assert_int_equal(first.not_after_ms - first.not_before_ms, (7200 + 3600) * 1000);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_says(f, digits);
        assert_says(f, "\"name\":\"ops.1\",\"rights\":[\"keys-write:/app\",\"units-see\"]");

        /* The same key: a renewal, with the rights that the user has. */
        assert_int_equal(certify(f, "ops.1", csr.chars, ""), 201);
        certificate_of(f, &renewed);
        assert_true(renewed.not_after_ms > first.not_after_ms);
        assert_int_equal(certify(f, "ops.1", other.chars, ""), 409);
        assert_says(f, "user ops.1 has another key: renew its certificate with that key, or end the key with "
                       "--replace");
        assert_int_equal(certify(f, "ops.1", other.chars, ",\"replace\":true"), 201);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_null(strstr(f->answer, digits));
        assert_says(f, "\"units-see\"");

        assert_int_equal(ask(f, "PUT", "users/ops.1", "{\"rights\":[\"administer\"]}"), 204);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_says(f, "\"rights\":[\"administer\"]");
        cluster_principal(registry_cluster(f->host->registry), "ops.1")->index--; /* not that of the tree */
        assert_int_equal(ask(f, "DELETE", "users/ops.1", ""), 409);
        assert_says(f, "another request changed the user meanwhile; try again");
        cluster_principal(registry_cluster(f->host->registry), "ops.1")->index++;
        assert_int_equal(ask(f, "DELETE", "users/ops.1", ""), 204);
        assert_int_equal(ask(f, "DELETE", "users/ops.1", ""), 404);
        assert_says(f, "there is no user ops.1");
        assert_int_equal(ask(f, "PUT", "users/ops.1", "{\"rights\":[\"administer\"]}"), 404);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_says(f, "{\"users\":[]}");
}

static void a_wrong_request_of_a_user_says_what_is_wrong(void **state) {
        static const char see[] = ",\"rights\":[\"units-see\"]";
        static const struct {
                const char *name, *rest, *says;
        } rows[] = {
                { "a", "", "user a has no rights: state them, for example --rights=units-see" },
                { "a", ",\"rights\":[]", "rights: expected a list of rights" },
                { "a", ",\"rights\":\"x\"", "rights: expected a list of rights" },
                { "a", ",\"rights\":[7]", "rights: expected strings" },
                { "a", ",\"rights\":[\"fly\"]", "there is no right 'fly': expected keys-read:PREFIX" },
                { "a", ",\"rights\":[\"keys-read\"]", "keys-read requires a prefix" },
                { "a", ",\"rights\":[\"units-see:/a\"]", "units-see has no prefix" },
                { "a", ",\"rights\":[\"keys-write:/_fleet\"]", "no right extends to keys below /_fleet" },
                { "a", ",\"rights\":[\"keys-write:/_fleet/x\"]", "no right extends to keys below /_fleet" },
                { "a", ",\"rights\":[\"keys-write:/a/../_fleet\"]", "none of '.' and '..'" },
                { "a", ",\"rights\":[\"units-see\"],\"ttl\":315360000", "expected 1 minute to 365 days" },
                { "a", ",\"rights\":[\"units-see\"],\"ttl\":59", "a life of 59 s: expected 1 minute" },
                { "a", ",\"rights\":[\"units-see\"],\"ttl\":\"x\"", "ttl: expected" },
                { "...", see, "'...' is no name of a user" },
                { "Alice", see, "'Alice' is no name of a user" },
                { "a%2Fb", see, "" },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", see,
                  "is no name of a user: expected 1 to 64 of a-z" },
        };
        Fixture *f = *state;
        _cleanup_text_ Text csr = {};

        make_csr(&csr);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                unsigned status = certify(f, rows[i].name, csr.chars, rows[i].rest);

                if ((status != 400 && status != 404) || !strstr(f->answer, rows[i].says))
                        fail_msg("row %zu: %s", i, f->answer);
        }
        assert_int_equal(certify(f, "a", "x", see), 400);
        assert_int_equal(certify(f, "a", NULL, see + 1), 404);
        assert_int_equal(ask(f, "GET", "users", ""), 200);
        assert_says(f, "{\"users\":[]}");
        assert_null(registry_cluster(f->host->registry)->ca_roots);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_token_is_created_listed_and_revoked, setup, teardown),
                cmocka_unit_test_setup_teardown(invalid_requests_get_the_reason, setup, teardown),
                cmocka_unit_test_setup_teardown(only_administrators_have_tokens, setup, teardown),
                cmocka_unit_test_setup_teardown(below_its_level_no_token_is_created, low_setup, teardown),
                cmocka_unit_test_setup_teardown(a_user_gets_a_certificate_and_rights_and_loses_both, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_wrong_request_of_a_user_says_what_is_wrong, setup,
                                                teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
