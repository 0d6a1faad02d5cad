/* TLS with certificates between two ends of a real socket: who is authenticated, and how each other peer
 * fails. */
#include "tests/unit/io_pair.h"

#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "io/tls.h"

#define CLUSTER UINT64_C(0x0123456789abcdef)
#define ID_A    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

enum { PEERS = 1u << TLS_ROLE_HOST | 1u << TLS_ROLE_REPLICA };

/* A host: its key, its certificate, and what it knows about all other hosts. */
typedef struct Host {
        TlsPrivateKey *key;
        TlsPin pin;
        Text certificate;
        TlsCredentials *credentials;
        TlsKnown known; /* about the peer */
        TlsOptions options;
} Host;

typedef struct Secure {
        Pair pair;
        TlsKey *key;
        TlsPrivateKey *ca_key;
        TlsPin root_pin;
        Text root;
        Host a, b; /* the server; the client */
} Secure;

typedef struct Side {
        Pair *pair;
        TlsHandshake *handshake;
        End end;
        bool done;
        int error;
        TlsPeerKind kind; /* when the handshake was complete */
        char reason[300];
} Side;

#define OK(call)                                                        \
        do {                                                            \
                int _r = (call);                                        \
                if (_r < 0)                                             \
                        fail_msg("%s: %d, %s", #call, _r, err.message); \
        } while (0)

static void side_done(void *userdata, Stream *secure, int error, const char *reason) {
        Side *side = userdata;

        assert_false(side->done);
        side->done = true;
        side->error = error;
        snprintf(side->reason, sizeof(side->reason), "%s", reason);
        if (secure) {
                side->kind = tls_peer(secure)->kind;
                end_take(&side->end, side->pair, secure);
        }
        loop_uv_stop(side->pair->uv);
}

static void known(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        *ret = ((Host *) userdata)->known;
}

static void host_issue(Host *h, Secure *s, TlsRole role, const char *id, uint64_t cluster_id) {
        _cleanup_text_ Text request = {};
        TlsIssue issue = { .uri = { .cluster_id = cluster_id, .role = role },
                           .now_ms = loop_wall_ms(s->pair.loop),
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .root = s->root.chars,
                           .root_size = s->root.size };
        Error err = {};

        OK(tls_request_create(h->key, &request, &err));
        issue.request = request.chars;
        issue.request_size = request.size;
        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", id);
        text_clear(&h->certificate);
        OK(tls_issue(&issue, s->ca_key, &h->certificate, &err));
        h->credentials = tls_credentials_free(h->credentials);
        OK(tls_credentials_new(h->key, h->certificate.chars, s->root.chars, &h->credentials, &err));
        h->options.credentials = h->credentials;
}

static void host_new(Host *h, Secure *s, TlsSide side, const char *id) {
        Error err = {};

        OK(tls_private_key_new(&h->key, &err));
        tls_private_key_pin(h->key, &h->pin);
        h->options = (TlsOptions) {
                .side = side,
                .check = { .cluster_id = CLUSTER, .roles = PEERS, .known = known, .userdata = h }
        };
        host_issue(h, s, TLS_ROLE_REPLICA, id, CLUSTER);
}

static void host_done(Host *h) {
        h->key = tls_private_key_free(h->key);
        h->credentials = tls_credentials_free(h->credentials);
        text_done(&h->certificate);
}

static TlsKey *key_file(Pair *pair) {
        static const char digits[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
        char path[128];
        TlsKey *key;
        Error err = {};
        int fd;

        snprintf(path, sizeof(path), "%s/key", pair->folder);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, digits, sizeof(digits) - 1), sizeof(digits) - 1);
        close(fd);
        OK(tls_key_read(path, &key, &err));
        return key;
}

static int setup(void **state) {
        static const uint8_t serial[TLS_SERIAL_BYTES] = { 1 };
        Secure *s = NEW0(Secure, 1);
        Error err = {};

        pair_open(&s->pair);
        s->key = key_file(&s->pair);
        OK(tls_private_key_new(&s->ca_key, &err));
        tls_private_key_pin(s->ca_key, &s->root_pin);
        OK(tls_root_create(s->ca_key, CLUSTER, serial, loop_wall_ms(s->pair.loop), &s->root, &err));
        host_new(&s->a, s, TLS_SERVER, ID_A);
        host_new(&s->b, s, TLS_CLIENT, ID_B);
        s->a.known = (TlsKnown) { .state = TLS_KNOWN, .replica = true, .n_pins = 1, .pins = { s->b.pin } };
        s->b.known = (TlsKnown) { .state = TLS_KNOWN, .replica = true, .n_pins = 1, .pins = { s->a.pin } };
        *state = s;
        return 0;
}

static int teardown(void **state) {
        Secure *s = *state;

        host_done(&s->a);
        host_done(&s->b);
        s->key = tls_key_free(s->key);
        s->ca_key = tls_private_key_free(s->ca_key);
        text_done(&s->root);
        pair_close(&s->pair);
        free(s);
        return 0;
}

static Stream *connect_raw(Secure *s, End *raw) {
        unsigned n = s->pair.n_accepted;

        end_connect(raw, &s->pair);
        RUN_UNTIL(&s->pair, s->pair.n_accepted > n);
        return s->pair.accepted[n];
}

static void side_start(Side *side, Secure *s, Stream *stream, const TlsOptions *options) {
        *side = (Side) { .pair = &s->pair };
        assert_int_equal(tls_start(s->pair.loop, stream, options, side_done, side, &side->handshake), 0);
        assert_false(side->done);
}

/* Both sides of a new connection: host b dials host a. */
static void shake(Secure *s, Side *client, Side *server) {
        Stream *accepted, *dialed;
        End raw;

        accepted = connect_raw(s, &raw);
        dialed = TAKE_PTR(raw.stream);
        stream_pause(dialed, true);
        side_start(server, s, accepted, &s->a.options);
        side_start(client, s, dialed, &s->b.options);
        RUN_UNTIL(&s->pair, client->done && server->done);
}

static void sides_done(Side *client, Side *server) {
        end_done(&client->end);
        end_done(&server->end);
}

static void two_hosts_authenticate_each_other_by_their_pins(void **state) {
        Secure *s = *state;
        Side client, server;
        const TlsPeer *peer;

        shake(s, &client, &server);
        assert_int_equal(client.error, 0);
        assert_int_equal(server.error, 0);
        peer = tls_peer(server.end.stream);
        assert_int_equal(peer->kind, TLS_PEER_CERTIFICATE);
        assert_string_equal(peer->verified.leaf.uri.subject, ID_B);
        assert_true(peer->verified.by_pin && peer->verified.replica);
        assert_true(tls_pin_equal(&peer->verified.leaf.pin, &s->b.pin));
        peer = tls_peer(client.end.stream);
        assert_int_equal(peer->kind, TLS_PEER_CERTIFICATE);
        assert_string_equal(peer->verified.leaf.uri.subject, ID_A);

        end_send(&client.end, "hello");
        RUN_UNTIL(&s->pair, streq(end_text(&server.end), "hello"));
        end_send(&server.end, "world");
        RUN_UNTIL(&s->pair, streq(end_text(&client.end), "world"));
        sides_done(&client, &server);
}

static void credentials_that_were_replaced_serve_the_handshakes_in_progress(void **state) {
        Secure *s = *state;
        Side client, server;
        Stream *accepted;
        End raw;

        accepted = connect_raw(s, &raw);
        side_start(&server, s, accepted, &s->a.options);
        s->a.credentials = tls_credentials_free(s->a.credentials);
        stream_pause(raw.stream, true);
        side_start(&client, s, TAKE_PTR(raw.stream), &s->b.options);
        RUN_UNTIL(&s->pair, client.done && server.done);
        assert_int_equal(server.error, 0);
        sides_done(&client, &server);
}

static void one_listener_accepts_the_key_file_and_certificates(void **state) {
        Secure *s = *state;
        Side client, server;

        s->a.options.key = s->key;
        s->b.options.key = s->key; /* a client that has both uses its certificate */
        shake(s, &client, &server);
        assert_int_equal(tls_peer(server.end.stream)->kind, TLS_PEER_CERTIFICATE);
        assert_int_equal(tls_peer(client.end.stream)->kind, TLS_PEER_CERTIFICATE);
        sides_done(&client, &server);

        s->b.options.credentials = NULL;
        shake(s, &client, &server);
        assert_int_equal(client.error, 0);
        assert_int_equal(tls_peer(server.end.stream)->kind, TLS_PEER_KEY);
        assert_int_equal(tls_peer(client.end.stream)->kind, TLS_PEER_KEY);
        end_send(&client.end, "hello");
        RUN_UNTIL(&s->pair, streq(end_text(&server.end), "hello"));
        sides_done(&client, &server);

        s->a.options.key = NULL; /* the key file counts no more */
        shake(s, &client, &server);
        assert_int_equal(client.error, -EKEYREJECTED);
        assert_int_equal(server.error, -EKEYREJECTED);

        s->a.options.key = s->key; /* a client with a certificate, and a server of the former version */
        s->a.options.credentials = NULL;
        s->b.options.credentials = s->b.credentials;
        shake(s, &client, &server);
        assert_int_equal(client.error, -EKEYREJECTED);
        assert_int_equal(server.error, -EKEYREJECTED);
}

static void another_key_file_is_rejected_by_a_listener_with_certificates(void **state) {
        Secure *s = *state;
        Side client, server;
        TlsKey *key = s->key;

        s->a.options.key = key;
        s->b.options.credentials = NULL;
        {
                char path[128];
                Error err = {};
                FILE *f;

                snprintf(path, sizeof(path), "%s/key", s->pair.folder);
                f = fopen(path, "w");
                fputs("ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", f);
                fclose(f);
                OK(tls_key_read(path, (TlsKey **) &s->b.options.key, &err));
        }
        shake(s, &client, &server);
        assert_int_equal(client.error, -EKEYREJECTED);
        assert_int_equal(server.error, -EKEYREJECTED);
        tls_key_free((TlsKey *) s->b.options.key);
}

/* Credentials without a certificate, and the root of a token. */
static TlsCredentials *as_joining_host(Host *h, const TlsPin *root_pin) {
        TlsCredentials *none;
        Error err = {};

        OK(tls_credentials_new(NULL, NULL, NULL, &none, &err));
        assert_null(tls_credentials_certificate(none));
        h->options.credentials = none;
        h->options.check.root_pin = root_pin;
        h->options.check.roles = 1u << TLS_ROLE_REPLICA;
        return none;
}

static void a_joining_host_is_anonymous_and_checks_the_root_of_its_token(void **state) {
        Secure *s = *state;
        TlsCredentials *none = as_joining_host(&s->b, &s->root_pin);
        Side client, server;

        s->a.options.anonymous = true;
        shake(s, &client, &server);
        assert_int_equal(client.error, 0);
        assert_int_equal(server.error, 0);
        assert_int_equal(tls_peer(server.end.stream)->kind, TLS_PEER_ANONYMOUS);
        assert_int_equal(tls_peer(client.end.stream)->kind, TLS_PEER_CERTIFICATE);
        assert_false(tls_peer(client.end.stream)->verified.by_pin);
        end_send(&client.end, "join");
        RUN_UNTIL(&s->pair, streq(end_text(&server.end), "join"));
        sides_done(&client, &server);

        s->a.options.key = s->key;
        shake(s, &client, &server);
        assert_int_equal(tls_peer(server.end.stream)->kind, TLS_PEER_ANONYMOUS);
        sides_done(&client, &server);

        s->a.options.anonymous = false;
        shake(s, &client, &server);
        assert_int_equal(server.error, -EKEYREJECTED);
        assert_string_equal(server.reason, "the peer has no certificate, and not the key of the cluster");
        RUN_UNTIL(&s->pair, client.end.closed);
        assert_int_equal(client.end.error, -EKEYREJECTED);
        end_done(&client.end);
        none = tls_credentials_free(none);
}

static void a_joining_host_sends_nothing_to_a_server_without_the_root_of_its_token(void **state) {
        Secure *s = *state;
        TlsPin other = s->root_pin;
        TlsCredentials *none = as_joining_host(&s->b, &other);
        Side client, server;

        other.bytes[0] ^= 1;
        s->a.options.anonymous = true;
        shake(s, &client, &server);
        assert_int_equal(client.error, -EPERM);
        assert_non_null(strstr(client.reason, "does not prove the root of the token"));
        assert_int_equal(server.error, -EKEYREJECTED);

        other = s->root_pin; /* an attached host has no part in joining */
        host_issue(&s->a, s, TLS_ROLE_HOST, ID_A, CLUSTER);
        shake(s, &client, &server);
        assert_int_equal(client.error, -EACCES);
        none = tls_credentials_free(none);
}

static void a_client_rejects_a_server_that_it_does_not_know(void **state) {
        Secure *s = *state;
        Side client, server;

        s->b.known.pins[0].bytes[5] ^= 1;
        shake(s, &client, &server);
        assert_int_equal(client.error, -EKEYREJECTED);
        assert_non_null(strstr(client.reason, "machine " ID_A " has another key"));
        assert_int_equal(server.error, -EKEYREJECTED);
        assert_non_null(strstr(server.reason, "Certificate is bad"));

        s->b.known = (TlsKnown) {};
        shake(s, &client, &server);
        assert_int_equal(client.error, -ENOKEY);
}

static void a_server_can_tell_a_host_of_its_cluster_why_it_is_rejected(void **state) {
        Secure *s = *state;
        Side client, server;
        const TlsPeer *peer;

        s->a.known.state = TLS_REMOVED;
        shake(s, &client, &server);
        assert_int_equal(client.error, 0); /* a client in TLS 1.3 is done before it is checked */
        assert_int_equal(server.error, 0);
        peer = tls_peer(server.end.stream);
        assert_int_equal(peer->kind, TLS_PEER_REJECTED);
        assert_int_equal(peer->rejected->code, -EKEYREVOKED);
        assert_non_null(strstr(peer->rejected->message, "was removed from the cluster"));
        assert_string_equal(peer->verified.leaf.uri.subject, "");
        sides_done(&client, &server);
}

static void a_server_tells_nothing_to_a_host_of_another_cluster(void **state) {
        Secure *s = *state;
        Side client, server;

        host_issue(&s->b, s, TLS_ROLE_REPLICA, ID_B, CLUSTER + 1);
        shake(s, &client, &server);
        assert_int_equal(server.error, -EXDEV);
        assert_string_equal(server.reason,
                            "the certificate is of cluster 0123456789abcdf0, not of 0123456789abcdef");
        RUN_UNTIL(&s->pair, client.end.closed);
        assert_int_equal(client.end.error, -EKEYREJECTED);
        assert_string_equal(
                client.end.reason,
                "the peer rejected the certificate of this host (Certificate is bad): its journal has "
                "the reason");
        end_done(&client.end);
}

static void credentials_need_the_key_of_their_certificate(void **state) {
        Secure *s = *state;
        TlsCredentials *c = NULL;
        Error err = {};

        assert_int_equal(tls_credentials_new(s->a.key, s->b.certificate.chars, s->root.chars, &c, &err),
                         -EINVAL);
        assert_string_equal(err.message, "the certificate of this host is not for its key");
        assert_int_equal(tls_credentials_new(s->ca_key, s->root.chars, s->root.chars, &c, &err), -EINVAL);
        assert_int_equal(tls_credentials_new(s->a.key, "x", s->root.chars, &c, &err), -EBADMSG);
        assert_int_equal(tls_credentials_new(s->a.key, s->a.certificate.chars, "x", &c, &err), -EBADMSG);
        assert_null(c);
        assert_string_equal(tls_credentials_certificate(s->a.credentials)->uri.subject, ID_A);
        assert_int_equal(tls_roots_count(tls_credentials_roots(s->a.credentials)), 1);
}

/* -- A client that is no fleetd -- */

typedef struct Raw {
        End end;
        size_t at;
        gnutls_session_t session;
} Raw;

static ssize_t raw_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size) {
        Raw *raw = ptr;

        if (raw->end.stream)
                (void) stream_write(raw->end.stream, bytes, size);
        return size;
}

static ssize_t raw_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size) {
        Raw *raw = ptr;

        size = MIN(size, raw->end.got.size - raw->at);
        if (size == 0 && !raw->end.finished && !raw->end.closed) {
                gnutls_transport_set_errno(raw->session, EAGAIN);
                return -1;
        }
        if (size > 0)
                memcpy(bytes, raw->end.got.chars + raw->at, size);
        raw->at += size;
        return size;
}

static gnutls_certificate_credentials_t raw_credentials(const char *chain, const TlsPrivateKey *key) {
        gnutls_certificate_credentials_t credentials;
        static gnutls_pcert_st certificates[512];
        unsigned n = ELEMENTS(certificates);
        gnutls_privkey_t private_key;
        Error err = {};
        size_t size;
        char *pem;

        OK(tls_private_key_print(key, &pem, &size, &err));
        OK(gnutls_privkey_init(&private_key));
        OK(gnutls_privkey_import_x509_raw(private_key, &(gnutls_datum_t) { (unsigned char *) pem, size },
                                          GNUTLS_X509_FMT_PEM, NULL, 0));
        tls_secret_free(pem, size);
        OK(gnutls_certificate_allocate_credentials(&credentials));
        gnutls_certificate_set_flags(credentials, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
        OK(gnutls_pcert_list_import_x509_raw(certificates, &n,
                                             &(gnutls_datum_t) { (unsigned char *) chain, strlen(chain) },
                                             GNUTLS_X509_FMT_PEM, 0));
        OK(gnutls_certificate_set_key(credentials, NULL, 0, certificates, (int) n, private_key));
        return credentials;
}

/* Dial host a, present these certificates with this key, and return the error of its side. */
static int raw_shake(Secure *s, const char *priorities, const char *chain, const TlsPrivateKey *key,
                     Side *server) {
        gnutls_certificate_credentials_t credentials = raw_credentials(chain, key);
        Raw raw = {};
        Error err = {};

        OK(gnutls_init(&raw.session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT));
        OK(gnutls_priority_set_direct(raw.session, priorities, NULL));
        OK(gnutls_credentials_set(raw.session, GNUTLS_CRD_CERTIFICATE, credentials));
        gnutls_transport_set_ptr(raw.session, &raw);
        gnutls_transport_set_push_function(raw.session, raw_push);
        gnutls_transport_set_pull_function(raw.session, raw_pull);
        gnutls_handshake_set_timeout(raw.session, GNUTLS_INDEFINITE_TIMEOUT);

        side_start(server, s, connect_raw(s, &raw.end), &s->a.options);
        while (!server->done) {
                (void) gnutls_handshake(raw.session);
                if (!server->done)
                        loop_uv_run(s->pair.uv);
        }
        end_done(&raw.end);
        gnutls_deinit(raw.session);
        gnutls_certificate_free_credentials(credentials);
        return server->error;
}

static void a_client_proves_its_key_in_tls_1_3(void **state) {
        Secure *s = *state;
        _cleanup_text_ Text long_chain = {}, huge = {};
        Side server;

        assert_int_equal(raw_shake(s, "NORMAL", s->b.certificate.chars, s->b.key, &server), 0);
        assert_int_equal(server.kind, TLS_PEER_CERTIFICATE);
        end_done(&server.end);

        /* The certificate of another host. */
        assert_int_equal(raw_shake(s, "NORMAL", s->b.certificate.chars, s->a.key, &server), -EKEYREJECTED);
        assert_null(server.end.stream);
        s->a.known.state = TLS_REMOVED; /* nothing is explained to it, either */
        assert_int_equal(raw_shake(s, "NORMAL", s->b.certificate.chars, s->a.key, &server), -EKEYREJECTED);
        assert_null(server.end.stream);
        s->a.known.state = TLS_KNOWN;

        assert_int_equal(
                raw_shake(s, "NORMAL:-VERS-ALL:+VERS-TLS1.2", s->b.certificate.chars, s->b.key, &server),
                -EKEYREJECTED);
        assert_int_equal(
                raw_shake(s, "NORMAL:-CIPHER-ALL:+AES-128-CCM", s->b.certificate.chars, s->b.key, &server),
                -EKEYREJECTED);
        assert_int_equal(
                raw_shake(s, "NORMAL:-GROUP-ALL:+GROUP-FFDHE2048", s->b.certificate.chars, s->b.key, &server),
                -EKEYREJECTED);

        text_append(&long_chain, s->b.certificate.chars);
        for (unsigned i = 0; i < 9; i++)
                text_append(&long_chain, s->root.chars);
        assert_int_equal(raw_shake(s, "NORMAL", long_chain.chars, s->b.key, &server), -EBADMSG);
        assert_string_equal(server.reason, "10 certificates, and at most 3 are allowed");

        while (huge.size < 120 * 1024)
                text_append(&huge, long_chain.chars);
        assert_int_equal(raw_shake(s, "NORMAL", huge.chars, s->b.key, &server), -EKEYREJECTED);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(two_hosts_authenticate_each_other_by_their_pins),
                T(credentials_that_were_replaced_serve_the_handshakes_in_progress),
                T(one_listener_accepts_the_key_file_and_certificates),
                T(another_key_file_is_rejected_by_a_listener_with_certificates),
                T(a_joining_host_is_anonymous_and_checks_the_root_of_its_token),
                T(a_joining_host_sends_nothing_to_a_server_without_the_root_of_its_token),
                T(a_client_rejects_a_server_that_it_does_not_know),
                T(a_server_can_tell_a_host_of_its_cluster_why_it_is_rejected),
                T(a_server_tells_nothing_to_a_host_of_another_cluster),
                T(credentials_need_the_key_of_their_certificate),
                T(a_client_proves_its_key_in_tls_1_3),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("tls_certificates", tests, NULL, NULL);
}
