/* The certificate of a host, on a host with a real loop, store and sessions that leads its cluster. */
#include "tests/lib/test.h"
#include "fleetd/identity/identity.h"
#include "fleetd/identity/renewal.h"
#include "fleetd/identity/rotation.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"

#define SELF  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PIN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DAY   UINT64_C(86400000)
#define HOUR  UINT64_C(3600000)

/* The wall clock is this much ahead. */
static uint64_t ahead_ms;

uint64_t __real_loop_wall_ms(const Loop *loop);
uint64_t __wrap_loop_wall_ms(const Loop *loop);

uint64_t __wrap_loop_wall_ms(const Loop *loop) {
        return __real_loop_wall_ms(loop) + ahead_ms;
}

typedef struct Fixture {
        char id[TOKEN_ID_SIZE]; /* of the last token */
        Host *host;
        Authority *authority;
        Renewal *renewal;
        Timer tick;
        unsigned tokens;
} Fixture;

static unsigned stored;

static void on_identity(ComponentHost *host) {
        stored++;
}

static void open_renewal(Fixture *f) {
        assert_int_equal(renewal_new(&f->renewal, &f->host->components, f->authority), 0);
}

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        renewal_tick(f->renewal);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

static void on_token(void *userdata, int error, const char *message, const AuthorityResult *token) {
        Fixture *f = userdata;

        assert_int_equal(error, 0);
        f->tokens++;
        snprintf(f->id, sizeof(f->id), "%s", token->id);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        ahead_ms = stored = 0;
        f->host = host_new(false);
        f->host->components.on_identity = on_identity;
        f->host->settings.listen_peer = (char *) "127.0.0.1:2380";
        assert_int_equal(authority_new(&f->authority, &f->host->components), 0);
        open_renewal(f);
        host_raise(f->host, KV_LEVEL_IDENTITY);
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        timer_stop(&f->tick);
        renewal_free(f->renewal);
        authority_free(f->authority);
        host_free(f->host);
        free(f);
        return 0;
}

/* The member key of this host: it has a replica. */
static void write_member(Fixture *f) {
        const MemberRecord member = { .raft_id = 1, .peer = "127.0.0.1:2380" };

        assert_int_equal(host_wait(f->host, registry_record_start(f->host->registry, SELF, &member,
                                                                  host_on_done, f->host)),
                         KV_OK);
}

static void create_token(Fixture *f) {
        unsigned before = f->tokens;
        Error err = {};

        assert_int_equal(authority_create_token(f->authority, &(TokenRequest) {}, on_token, f, &err), 0);
        HOST_UNTIL(f->host, f->tokens > before);
}

static TlsCertificate own_certificate(Fixture *f) {
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate certificate = {};
        Error err = {};

        assert_int_equal(identity_read(f->host->scratch, &identity, &err), 0);
        assert_int_equal(
                tls_certificate_read(identity.certificate, strlen(identity.certificate), &certificate, &err),
                0);
        return certificate;
}

static void a_certificate_is_due_at_two_thirds_of_its_life(void **state) {
        const TlsCertificate certificate = { .not_before_ms = 100 * DAY - HOUR, .not_after_ms = 130 * DAY };
        uint64_t least = UINT64_MAX, most = 0;

        for (unsigned i = 0; i < 1000; i++) {
                char id[MACHINE_ID_SIZE];
                uint64_t due_ms;

                snprintf(id, sizeof(id), "%032x", i);
                due_ms = renewal_due_ms(&certificate, id);
                assert_true(due_ms == renewal_due_ms(&certificate, id));
                least = MIN(least, due_ms);
                most = MAX(most, due_ms);
        }
        /* 20 days, and up to 3 days earlier or later. */
        assert_in_range(least, 117 * DAY, 117 * DAY + HOUR);
        assert_in_range(most, 123 * DAY - HOUR, 123 * DAY);
        assert_int_equal(renewal_due_ms(&(TlsCertificate) { .not_before_ms = 5, .not_after_ms = 5 }, SELF),
                         0);
}

/* A cluster with a key file gets certificates from the first token on. */
static void a_member_gets_its_first_certificate_from_the_ca(void **state) {
        Fixture *f = *state;
        TlsCertificate first, second;
        HostRecord host;
        char pin[TLS_PIN_SIZE];

        host_pause(f->host, 100);
        assert_int_equal(identity_read(f->host->scratch, &(HostIdentity) {}, &(Error) {}), -ENOENT);
        write_member(f);
        create_token(f);
        HOST_UNTIL(f->host, stored == 1);
        first = own_certificate(f);
        assert_int_equal(first.uri.role, TLS_ROLE_REPLICA);
        assert_string_equal(first.uri.subject, SELF);
        tls_pin_print(&first.pin, pin);
        host = *cluster_machine(registry_cluster(f->host->registry), SELF)->host;
        assert_true(pins_have(&host.pins, pin));

        /* It is not renewed before its time, nor by a restart. */
        renewal_free(f->renewal);
        open_renewal(f);
        host_pause(f->host, 200);
        assert_int_equal(stored, 1);

        ahead_ms = 24 * DAY;
        renewal_free(f->renewal);
        open_renewal(f);
        HOST_UNTIL(f->host, stored == 2);
        second = own_certificate(f);
        assert_true(tls_pin_equal(&second.pin, &first.pin)); /* the key stays */
        assert_true(second.not_after_ms > first.not_after_ms + 23 * DAY);
        host = *cluster_machine(registry_cluster(f->host->registry), SELF)->host;
        assert_true(host.expires_ms > first.not_after_ms + 23 * DAY);
        assert_int_equal(host.pins.n, 1);
}

/* Expired for ever so long: the key counts. */
static void an_expired_certificate_is_renewed(void **state) {
        Fixture *f = *state;

        write_member(f);
        create_token(f);
        HOST_UNTIL(f->host, stored == 1);
        ahead_ms = 20 * 365 * DAY;
        renewal_free(f->renewal);
        open_renewal(f);
        HOST_UNTIL(f->host, stored == 2);
        assert_true(own_certificate(f).not_after_ms > loop_wall_ms(f->host->loop));
}

/* A restored tree may be from before the key of the host, by which other hosts authenticate it. */
static void a_leader_with_a_newer_key_than_its_tree_records_the_key(void **state) {
        Fixture *f = *state;
        const Cluster *c = registry_cluster(f->host->registry);
        HostRecord former = { .joined_ms = 1, .pins = { .n = 1, .items = { PIN_B PIN_B } } };
        char pin[TLS_PIN_SIZE];
        TlsCertificate own;

        write_member(f);
        create_token(f);
        HOST_UNTIL(f->host, stored == 1);
        own = own_certificate(f);
        tls_pin_print(&own.pin, pin);
        former.expires_ms = own.not_after_ms;
        assert_int_equal(
                host_wait(f->host, registry_set_host(f->host->registry,
                                                     &(HostChange) { .machine = SELF, .host = &former },
                                                     host_on_done, f->host)),
                KV_OK);
        renewal_free(f->renewal);
        open_renewal(f);
        HOST_UNTIL(f->host, stored == 2);
        HOST_UNTIL(f->host, pins_have(&cluster_machine(c, SELF)->host->pins, pin));
        assert_int_equal(cluster_machine(c, SELF)->host->pins.n, 1);
        own = own_certificate(f);
        tls_pin_print(&own.pin, former.pins.items[0]);
        assert_string_equal(former.pins.items[0], pin); /* the key stays */
}

/* -- The answer -- */

static void make_root(uint64_t cluster_id, TlsPrivateKey **ret_key, Text *ret, CaRoots *ret_roots) {
        static const uint8_t serial[TLS_SERIAL_BYTES] = { 1 };
        CaRoot *root = ret_roots ? &ret_roots->items[ret_roots->n++] : NULL;
        Error err = {};
        TlsPin pin;

        assert_int_equal(tls_private_key_new(ret_key, &err), 0);
        assert_int_equal(tls_root_create(*ret_key, cluster_id, serial, 100 * DAY, ret, &err), 0);
        if (!root)
                return;
        tls_private_key_pin(*ret_key, &pin);
        tls_pin_print(&pin, root->id);
        root->pem = ret->chars;
}

/* Any dialed host could send an answer: its certificate and its roots are those of the cluster, or nothing is
 * stored. */
static void an_answer_is_of_this_key_and_of_the_roots_in_the_tree(void **state) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *ca = NULL, *other_ca = NULL, *key = NULL;
        _cleanup_text_ Text root = {}, other_root = {}, request = {}, both = {};
        struct {
                TlsUri uri;
                bool other_ca;
                int expected;
                const char *message;
        } cases[] = {
                { { 7, TLS_ROLE_REPLICA, SELF }, false, 0, "" },
                { { 7, TLS_ROLE_HOST, SELF }, false, 0, "" },
                { { 7, TLS_ROLE_HOST, PIN_B }, false, -EBADMSG, "another key or machine" },
                { { 7, TLS_ROLE_LISTENER, SELF }, false, -EBADMSG, "another key or machine" },
                { { 8, TLS_ROLE_HOST, SELF }, false, -EBADMSG, "of another cluster" },
                { { 7, TLS_ROLE_HOST, SELF }, true, -EBADMSG, "no root of the answer has signed" },
        };
        EnterAnswer answer = {};
        CaRoots roots = {}, none = {};
        TlsPin pin, other_pin;
        Error err = {};

        make_root(7, &ca, &root, &roots);
        make_root(7, &other_ca, &other_root, NULL);
        assert_int_equal(tls_private_key_new(&key, &err), 0);
        tls_private_key_pin(key, &pin);
        tls_private_key_pin(ca, &other_pin);
        assert_int_equal(tls_request_create(key, &request, &err), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const Text *by = cases[i].other_ca ? &other_root : &root;
                TlsIssue issue = { .uri = cases[i].uri,
                                   .now_ms = 100 * DAY,
                                   .lifetime_ms = DAY,
                                   .request = request.chars,
                                   .request_size = request.size,
                                   .root = by->chars,
                                   .root_size = by->size };
                _cleanup_text_ Text certificate = {};

                assert_int_equal(tls_issue(&issue, cases[i].other_ca ? other_ca : ca, &certificate, &err), 0);
                answer = (EnterAnswer) { .certificate = certificate.chars, .roots = root.chars };
                assert_int_equal(renewal_check(&answer, &roots, &pin, SELF, 7, &err), cases[i].expected);
                assert_non_null(strstr(err.message, cases[i].message));
                if (i > 0)
                        continue;
                assert_int_equal(renewal_check(&answer, &roots, &other_pin, SELF, 7, &err), -EBADMSG);
                assert_int_equal(renewal_check(&answer, &none, &pin, SELF, 7, &err), -ENOTCONN);
                assert_int_equal(renewal_check(&answer, NULL, &pin, SELF, 7, &err), -ENOTCONN);
                text_append(&both, root.chars);
                text_append(&both, other_root.chars);
                answer.roots = both.chars; /* one more than the tree has */
                assert_int_equal(renewal_check(&answer, &roots, &pin, SELF, 7, &err), -ENOTCONN);
                answer.roots = (char *) "no root";
                assert_int_equal(renewal_check(&answer, &roots, &pin, SELF, 7, &err), -EBADMSG);
                err.message[0] = 0;
        }
}

/* -- Rotation -- */

#define EIGHT(digits)       digits digits digits digits digits digits digits digits
#define ROOT(digits, state) "{\"id\":\"" EIGHT(digits) "\",\"pem\":\"p\",\"state\":\"" state "\"}"
#define A8                  "aaaaaaaa"
#define B8                  "bbbbbbbb"
#define PIN                 EIGHT(A8)

/* A host that is up, has a key, and has its certificate from before ('old') or after the roots. */
static void put_host(ClusterView *p, const char *machine, Presence presence) {
        char id[MACHINE_ID_SIZE], key[128];

        cluster_view_machine(p, machine, "", presence);
        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, machine));
        cluster_view_put(p, key, "{\"pins\":[\"" PIN "\"]}");
}

static void put_rotation(ClusterView *p, const char *json) {
        cluster_view_put(p, "/_fleet/cluster/ca/roots",
                         "{\"roots\":[" ROOT(A8, "current") "," ROOT(B8, "next") "]}");
        cluster_view_put(p, "/_fleet/cluster/ca/rotation", json);
}

static void a_rotation_waits_for_hosts_that_are_up(void **state) {
        const ClusterMachine *waits;
        _cleanup_cluster_view_ ClusterView p = {};

        assert_int_equal(rotation_step(&p.cluster, 0, &waits), ROTATION_WAIT);
        put_host(&p, "A", PRESENCE_UP);
        put_host(&p, "B", PRESENCE_AWAY);
        put_host(&p, "C", PRESENCE_UP);
        put_host(&p, "D", PRESENCE_UP);
        cluster_view_put(&p, "/_fleet/cluster/removed/dddddddddddddddddddddddddddddddd", "{}");
        put_rotation(&p, "{\"since\":1000,\"state\":\"distribute\"}");
        assert_int_equal(rotation_step(&p.cluster, 1000, &waits), ROTATION_WAIT);
        assert_int_equal(waits->id[0], 'a');
        put_host(&p, "A", PRESENCE_UP);
        assert_int_equal(rotation_step(&p.cluster, UINT64_MAX, &waits), ROTATION_WAIT);
        assert_int_equal(waits->id[0], 'c');
        put_host(&p, "C", PRESENCE_LOST);
        assert_int_equal(rotation_step(&p.cluster, 1000, &waits), ROTATION_ISSUE);
        assert_null(waits);
        cluster_view_put(&p, "/_fleet/cluster/ca/rotation", "{\"since\":1000,\"state\":\"issue\"}");
        assert_int_equal(rotation_step(&p.cluster, 1000, &waits), ROTATION_END);

        /* A compromised root does not wait for long. */
        put_rotation(&p, "{\"compromised\":true,\"since\":1000,\"state\":\"issue\"}");
        assert_int_equal(rotation_step(&p.cluster, 1000 + ROTATION_COMPROMISED_MS - 1, &waits),
                         ROTATION_WAIT);
        assert_int_equal(rotation_step(&p.cluster, 1000 + ROTATION_COMPROMISED_MS, &waits), ROTATION_END);
}

static void each_step_of_a_rotation_changes_the_roots(void **state) {
        const CaRoots roots = { .items = { { .id = "1", .state = CA_ROOT_CURRENT },
                                           { .id = "2", .state = CA_ROOT_NEXT } },
                                .n = 2 };
        CaRoots issue, end;

        rotation_roots(&roots, ROTATION_ISSUE, &issue);
        assert_int_equal(issue.n, 2);
        assert_int_equal(issue.items[0].state, CA_ROOT_FORMER);
        assert_int_equal(issue.items[1].state, CA_ROOT_CURRENT);
        rotation_roots(&issue, ROTATION_END, &end);
        assert_int_equal(end.n, 1);
        assert_string_equal(end.items[0].id, "2");
}

static void a_rotation_ends_with_new_certificates_and_without_the_former_root(void **state) {
        Fixture *f = *state;
        const Cluster *c = registry_cluster(f->host->registry);
        char former[DIGEST_SIZE], token[TOKEN_ID_SIZE];
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate before, after;
        Error err = {};

        assert_int_equal(authority_rotate(f->authority, false, "root", host_on_done, f->host, &err), -ENOKEY);
        write_member(f);
        create_token(f);
        HOST_UNTIL(f->host, stored == 1);
        before = own_certificate(f);
        memcpy(token, f->id, sizeof(token));
        memcpy(former, ca_roots_current(c->ca_roots)->id, sizeof(former));
        host_machine(f->host);
        assert_int_equal(host_wait(f->host, authority_rotate(f->authority, false, "root", host_on_done,
                                                             f->host, &err)),
                         KV_OK);
        HOST_UNTIL(f->host, c->ca_roots->n == 2);
        assert_int_equal(authority_rotate(f->authority, false, "root", host_on_done, f->host, &err),
                         -EALREADY);
        HOST_UNTIL(f->host, c->ca_roots->n == 1);
        assert_string_not_equal(ca_roots_current(c->ca_roots)->id, former);
        assert_null(c->ca_rotation);
        assert_int_equal(c->ca_keys->n, 1);
        assert_null(cluster_token(c, token));
        /* The new roots are stored, too. */
        HOST_UNTIL(f->host, cluster_machine(c, SELF)->host_index > c->ca_roots_index);
        host_pause(f->host, 100);
        after = own_certificate(f);
        assert_true(tls_pin_equal(&before.pin, &after.pin));
        assert_int_equal(identity_read(f->host->scratch, &identity, &err), 0);
        assert_string_equal(identity.roots, ca_roots_current(c->ca_roots)->pem);
        create_token(f);
        assert_string_equal(cluster_token(c, f->id)->record.root, ca_roots_current(c->ca_roots)->id);
        assert_int_equal(
                host_wait(f->host, authority_rotate(f->authority, true, "root", host_on_done, f->host, &err)),
                KV_OK);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_certificate_is_due_at_two_thirds_of_its_life),
                cmocka_unit_test_setup_teardown(a_member_gets_its_first_certificate_from_the_ca, setup,
                                                teardown),
                cmocka_unit_test(a_rotation_waits_for_hosts_that_are_up),
                cmocka_unit_test(each_step_of_a_rotation_changes_the_roots),
                cmocka_unit_test_setup_teardown(
                        a_rotation_ends_with_new_certificates_and_without_the_former_root, setup, teardown),
                cmocka_unit_test_setup_teardown(an_expired_certificate_is_renewed, setup, teardown),
                cmocka_unit_test_setup_teardown(a_leader_with_a_newer_key_than_its_tree_records_the_key,
                                                setup, teardown),
                cmocka_unit_test(an_answer_is_of_this_key_and_of_the_roots_in_the_tree),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
