/* Certificates: what this program creates is accepted, and each of many wrong certificates has its own
 * message. */
#include "tests/lib/test.h"
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "io/tls_roles.h"

#define CLUSTER UINT64_C(0x0123456789abcdef)
#define MACHINE "0000000000000000000000000000000a"
#define DAY_MS  UINT64_C(86400000)
#define NOW_MS  (UINT64_C(1790000000) * 1000)
#define PREFIX  "fleet://0123456789abcdef/"
#define REPLICA PREFIX "replica/" MACHINE

enum { PEERS = 1u << TLS_ROLE_HOST | 1u << TLS_ROLE_REPLICA, USERS = 1u << TLS_ROLE_USER };

/* A CA, as this program creates it. */
typedef struct Ca {
        TlsPrivateKey *key;
        Text root;
        gnutls_x509_privkey_t raw_key;
        gnutls_x509_crt_t raw_root;
} Ca;

typedef struct World {
        Ca ca, other;
        TlsRoots *roots;
        TlsPrivateKey *key;
        Text request;
        TlsPin pin;
        gnutls_x509_privkey_t raw_key, rsa, p224;
        TlsKnown known;
        char asked[TLS_SUBJECT_SIZE];
} World;

static const uint8_t serial[TLS_SERIAL_BYTES] = { 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

#define OK(call)                                                        \
        do {                                                            \
                int _r = (call);                                        \
                if (_r < 0)                                             \
                        fail_msg("%s: %d, %s", #call, _r, err.message); \
        } while (0)

/* The same key as GnuTLS has it. */
static gnutls_x509_privkey_t raw_key(const TlsPrivateKey *key) {
        gnutls_x509_privkey_t raw;
        Error err = {};
        size_t size;
        char *pem;

        OK(tls_private_key_print(key, &pem, &size, &err));
        OK(gnutls_x509_privkey_init(&raw));
        OK(gnutls_x509_privkey_import2(raw, &(gnutls_datum_t) { (unsigned char *) pem, size },
                                       GNUTLS_X509_FMT_PEM, NULL, 0));
        tls_secret_free(pem, size);
        return raw;
}

static void ca_new(Ca *ca) {
        Error err = {};

        OK(tls_private_key_new(&ca->key, &err));
        OK(tls_root_create(ca->key, CLUSTER, serial, NOW_MS - 100 * DAY_MS, &ca->root, &err));
        ca->raw_key = raw_key(ca->key);
        OK(gnutls_x509_crt_init(&ca->raw_root));
        OK(gnutls_x509_crt_import(ca->raw_root, &(gnutls_datum_t) { ca->root.bytes, ca->root.size },
                                  GNUTLS_X509_FMT_PEM));
}

static void ca_done(Ca *ca) {
        ca->key = tls_private_key_free(ca->key);
        text_done(&ca->root);
        gnutls_x509_privkey_deinit(ca->raw_key);
        gnutls_x509_crt_deinit(ca->raw_root);
}

static int setup(void **state) {
        World *w = NEW0(World, 1);
        Error err = {};

        ca_new(&w->ca);
        ca_new(&w->other);
        OK(tls_roots_read(w->ca.root.chars, w->ca.root.size, &w->roots, &err));
        OK(tls_private_key_new(&w->key, &err));
        OK(tls_request_create(w->key, &w->request, &err));
        OK(tls_request_read(w->request.chars, w->request.size, &w->pin, &err));
        w->raw_key = raw_key(w->key);
        OK(gnutls_x509_privkey_init(&w->rsa));
        OK(gnutls_x509_privkey_generate(w->rsa, GNUTLS_PK_RSA, 1024, 0));
        OK(gnutls_x509_privkey_init(&w->p224));
        OK(gnutls_x509_privkey_generate(w->p224, GNUTLS_PK_ECDSA,
                                        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP224R1), 0));
        *state = w;
        return 0;
}

static int teardown(void **state) {
        World *w = *state;

        ca_done(&w->ca);
        ca_done(&w->other);
        w->roots = tls_roots_free(w->roots);
        w->key = tls_private_key_free(w->key);
        text_done(&w->request);
        gnutls_x509_privkey_deinit(w->raw_key);
        gnutls_x509_privkey_deinit(w->rsa);
        gnutls_x509_privkey_deinit(w->p224);
        free(w);
        return 0;
}

/* Between tests: the machine is a replica with its pin. */
static int reset(void **state) {
        World *w = *state;

        w->known = (TlsKnown) { .state = TLS_KNOWN, .replica = true, .n_pins = 1, .pins = { w->pin } };
        w->asked[0] = 0;
        return 0;
}

static void known(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        World *w = userdata;

        snprintf(w->asked, sizeof(w->asked), "%s", subject);
        *ret = w->known;
}

static TlsCheck peer_check(World *w) {
        return (TlsCheck) { .cluster_id = CLUSTER,
                            .roles = PEERS,
                            .now_ms = NOW_MS,
                            .roots = w->roots,
                            .known = known,
                            .userdata = w };
}

/* -- Certificates as this program issues them -- */

static TlsIssue issue_for(World *w, TlsRole role, const char *subject) {
        TlsIssue issue = { .uri = { .cluster_id = CLUSTER, .role = role },
                           .common_name = "alpha",
                           .now_ms = NOW_MS,
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .request = w->request.chars,
                           .request_size = w->request.size,
                           .root = w->ca.root.chars,
                           .root_size = w->ca.root.size };

        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", subject);
        memcpy(issue.serial, serial, sizeof(serial));
        return issue;
}

static gnutls_datum_t pem_to_der(const char *pem, size_t size) {
        gnutls_x509_crt_t crt;
        gnutls_datum_t der;
        Error err = {};

        OK(gnutls_x509_crt_init(&crt));
        OK(gnutls_x509_crt_import(crt, &(gnutls_datum_t) { (unsigned char *) pem, size },
                                  GNUTLS_X509_FMT_PEM));
        OK(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der));
        gnutls_x509_crt_deinit(crt);
        return der;
}

/* Issue, and verify by 'check'. */
static int issue_and_verify(const TlsIssue *issue, const Ca *ca, const TlsCheck *check, TlsVerified *ret,
                            Error *err) {
        _cleanup_text_ Text pem = {};
        gnutls_datum_t leaf, root;
        int r;

        r = tls_issue(issue, ca->key, &pem, err);
        if (r < 0)
                fail_msg("%s", err->message);
        leaf = pem_to_der(pem.chars, pem.size);
        root = pem_to_der(ca->root.chars, ca->root.size);
        r = tls_verify((TlsDer[]) { { leaf.data, leaf.size }, { root.data, root.size } }, 2, check, ret, err);
        gnutls_free(leaf.data);
        gnutls_free(root.data);
        return r;
}

static void an_issued_certificate_is_accepted_by_its_pin(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsVerified v;
        Error err = {};

        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.by_pin && v.replica);
        assert_string_equal(v.leaf.uri.subject, MACHINE);
        assert_int_equal(v.leaf.uri.role, TLS_ROLE_REPLICA);
        assert_true(v.leaf.uri.cluster_id == CLUSTER && tls_pin_equal(&v.leaf.pin, &w->pin));
        assert_true(v.leaf.not_before_ms == NOW_MS - 3600000);
        assert_true(v.leaf.not_after_ms == NOW_MS + 30 * DAY_MS);
        assert_string_equal(w->asked, MACHINE);

        w->known.n_pins = 2; /* the next key is known before it is used */
        w->known.pins[1] = w->pin;
        memset(&w->known.pins[0], 1, sizeof(TlsPin));
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
}

static void the_role_of_a_known_machine_is_that_of_the_cluster(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_HOST, MACHINE);
        TlsVerified v;
        Error err = {};

        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.replica);
        w->known.replica = false;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_false(v.replica);
        issue.uri.role = TLS_ROLE_REPLICA; /* of a former replica */
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.by_pin && !v.replica);

        w->known.chain_counts = true; /* a tree that lags may not know it yet */
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.replica && v.by_pin);
        check.roots = NULL;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EPERM);
}

static void a_pin_counts_in_spite_of_dates_and_root(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_HOST, MACHINE);
        TlsVerified v;
        Error err = {};

        check.now_ms = NOW_MS + 31 * DAY_MS;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.by_pin);
        check.now_ms = 0; /* the clock of this host is in 1970 */
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.by_pin);

        issue.root = w->other.root.chars;
        issue.root_size = w->other.root.size;
        OK(issue_and_verify(&issue, &w->other, &check, &v, &err));
        assert_true(v.by_pin);
        check.roots = NULL;
        OK(issue_and_verify(&issue, &w->other, &check, &v, &err));
        assert_true(v.by_pin);
}

static void another_key_is_rejected_also_with_a_valid_chain(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsVerified v;
        Error err = {};

        w->known.chain_counts = true;
        w->known.pins[0].bytes[31] ^= 1;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        assert_non_null(strstr(err.message, "has another key than the cluster knows"));
        assert_non_null(strstr(err.message, "fleetctl token --replace=" MACHINE));
        w->known.n_pins = 0;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
}

/* A host whose tree is older than the machine, and whose roots are older than the certificate. */
static void a_stored_pin_counts_where_a_chain_may(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_HOST, MACHINE);
        TlsVerified v;
        Error err = {};

        issue.root = w->other.root.chars;
        issue.root_size = w->other.root.size;
        w->known.state = TLS_UNKNOWN;
        w->known.replica = false;
        assert_int_equal(issue_and_verify(&issue, &w->other, &check, &v, &err), -ENOKEY);
        w->known.chain_counts = true;
        check.now_ms = NOW_MS + 60 * DAY_MS;
        OK(issue_and_verify(&issue, &w->other, &check, &v, &err));
        assert_true(v.by_pin && v.replica);
        w->known.pins[0].bytes[0] ^= 1;
        assert_int_equal(issue_and_verify(&issue, &w->other, &check, &v, &err), -ENOKEY);
}

static void a_removed_machine_is_rejected_with_its_pin(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_HOST, MACHINE);
        TlsVerified v;
        Error err = {};

        w->known.state = TLS_REMOVED;
        w->known.chain_counts = true;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREVOKED);
        assert_string_equal(err.message, "machine " MACHINE
                                         " was removed from the cluster: it joins again with a new token");
}

static void a_chain_counts_for_a_replica_only_and_only_where_it_may(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsVerified v;
        Error err = {};

        w->known = (TlsKnown) {};
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        assert_non_null(strstr(
                err.message, "is unknown to this cluster: unless it joins at this moment, it needs a token"));
        check.known = NULL;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        check.known = known;

        w->known.chain_counts = true;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.replica && !v.by_pin);
        issue.uri.role = TLS_ROLE_HOST;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        issue.uri.role = TLS_ROLE_REPLICA;

        w->known.chain_counts = false;
        w->known.chain_waits = true;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        assert_non_null(strstr(err.message, "counts when none of these has answered for 10 minutes"));
        w->known.chain_waits = false;
        w->known.chain_counts = true;

        w->known.issued_after_ms = NOW_MS;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYEXPIRED);
        assert_string_equal(err.message, "the certificate is older than the list of replicas of this host");
        w->known.issued_after_ms = NOW_MS - 1;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));

        check.roots = NULL;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EPERM);
        assert_string_equal(err.message, "the certificate leads to no root that this host trusts");
        check.roots = w->roots;
        issue.root = w->other.root.chars; /* a retired root, or another CA of the same name */
        issue.root_size = w->other.root.size;
        assert_int_equal(issue_and_verify(&issue, &w->other, &check, &v, &err), -EPERM);
}

/* A host that has been cut off does not know that a replica has another key since. */
static void another_key_counts_with_a_later_certificate_only(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsVerified v;
        Error err = {};

        w->known.pins[0].bytes[0] ^= 1;
        w->known.replica = w->known.chain_counts = true;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        w->known.issued_after_ms = NOW_MS;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        w->known.issued_after_ms = NOW_MS - 1;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.replica && !v.by_pin);

        w->known.replica = false;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        w->known.replica = true;
        w->known.chain_counts = false;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        w->known.chain_waits = true;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        w->known.chain_waits = false;
        w->known.chain_counts = true;
        w->known.state = TLS_REMOVED;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREVOKED);
        w->known.state = TLS_KNOWN;
        issue.uri.role = TLS_ROLE_HOST;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYREJECTED);
        issue.uri.role = TLS_ROLE_REPLICA;
        issue.root = w->other.root.chars; /* of another CA */
        issue.root_size = w->other.root.size;
        assert_int_equal(issue_and_verify(&issue, &w->other, &check, &v, &err), -EKEYREJECTED);
}

static void dates_of_a_chain_have_ten_minutes_of_tolerance(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsVerified v;
        Error err = {};

        w->known = (TlsKnown) { .chain_counts = true };
        check.now_ms = NOW_MS + 30 * DAY_MS + TLS_CLOCK_TOLERANCE_MS;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        check.now_ms++;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYEXPIRED);
        assert_string_equal(
                err.message,
                "the certificate expired at 2026-10-21 14:13:20 UTC, and the clock of this host shows "
                "2026-10-21 14:23:20 UTC: check the clocks, then renew it");
        check.now_ms = NOW_MS - 3600000 - TLS_CLOCK_TOLERANCE_MS;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        check.now_ms--;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYEXPIRED);
        assert_string_equal(
                err.message,
                "the certificate is not valid before 2026-09-21 13:13:20 UTC, and the clock of this host "
                "shows 2026-09-21 13:03:19 UTC: check the clocks");

        issue.now_ms = check.now_ms = NOW_MS + 3651 * DAY_MS; /* after the end of the root */
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYEXPIRED);
        assert_non_null(strstr(err.message, "the root expired at "));
}

static void a_joining_host_trusts_the_root_of_its_token_with_any_clock(void **state) {
        World *w = *state;
        TlsIssue issue = issue_for(w, TLS_ROLE_REPLICA, MACHINE);
        TlsPin root_pin;
        TlsCheck check = { .cluster_id = CLUSTER, .roles = 1u << TLS_ROLE_REPLICA, .root_pin = &root_pin };
        TlsVerified v;
        Error err = {};

        tls_private_key_pin(w->ca.key, &root_pin);
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_true(v.replica && !v.by_pin);

        issue.uri.role = TLS_ROLE_HOST; /* an attached host collects no tokens */
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EACCES);
        assert_string_equal(err.message, "a certificate of role host is not accepted here");
        issue.uri.role = TLS_ROLE_REPLICA;

        tls_private_key_pin(w->other.key, &root_pin); /* the token of another cluster, or before a rotation */
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EPERM);
        assert_non_null(strstr(err.message, "does not prove the root of the token"));
        assert_non_null(strstr(err.message, "'fleetctl token'"));

        /* The root of the token is shown, and another one signed. */
        issue.root = w->other.root.chars;
        issue.root_size = w->other.root.size;
        tls_private_key_pin(w->ca.key, &root_pin);
        {
                _cleanup_text_ Text pem = {};
                gnutls_datum_t leaf, root;

                OK(tls_issue(&issue, w->other.key, &pem, &err));
                leaf = pem_to_der(pem.chars, pem.size);
                root = pem_to_der(w->ca.root.chars, w->ca.root.size);
                assert_int_equal(tls_verify((TlsDer[]) { { leaf.data, leaf.size }, { root.data, root.size } },
                                            2, &check, &v, &err),
                                 -EPERM);
                gnutls_free(leaf.data);
                gnutls_free(root.data);
        }
}

static void a_user_needs_a_pin_and_valid_dates(void **state) {
        World *w = *state;
        TlsCheck check = peer_check(w);
        TlsIssue issue = issue_for(w, TLS_ROLE_USER, "anna.b-1");
        TlsVerified v;
        Error err = {};

        check.roles = USERS;
        OK(issue_and_verify(&issue, &w->ca, &check, &v, &err));
        assert_string_equal(w->asked, "anna.b-1");
        check.now_ms = NOW_MS + 31 * DAY_MS;
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -EKEYEXPIRED);
        w->known = (TlsKnown) { .chain_counts = true };
        assert_int_equal(issue_and_verify(&issue, &w->ca, &check, &v, &err), -ENOKEY);
        assert_non_null(strstr(err.message, "no user anna.b-1 of this cluster has this key"));
}

/* -- Wrong certificates -- */

typedef enum Signer { BY_CA, BY_OTHER, BY_ITSELF, BY_LEAF } Signer;

/* Zero: a certificate as tls_issue() creates it. */
typedef struct Wrong {
        const char *uri, *second_uri, *dns, *email, *common_name; /* NULL: the usual one, or none */
        size_t uri_size;
        const char *purpose; /* NULL: both; "": none */
        Signer signer;
        gnutls_digest_algorithm_t digest;
        int64_t from_days, to_days; /* 0: 30 */
        unsigned usage;
        unsigned version;
        int ca; /* -1: no basic constraints */
        bool no_uri, critical, rsa, p224;
} Wrong;

static void wrong_set_raw_uri(gnutls_x509_crt_t crt, const char *uri, size_t size) {
        uint8_t names[128] = { 0x30, size + 2, 0x86, size };
        Error err = {};

        memcpy(names + 4, uri, size);
        OK(gnutls_x509_crt_set_extension_by_oid(crt, "2.5.29.17", names, size + 4, 0));
}

static void wrong_set_names(gnutls_x509_crt_t crt, const Wrong *wrong) {
        const char *uri = wrong->uri ?: REPLICA, *cn = wrong->common_name ?: "alpha";
        Error err = {};

        OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn, strlen(cn)));
        if (wrong->uri_size > 0) /* bytes that GnuTLS does not write into a URI */
                wrong_set_raw_uri(crt, uri, wrong->uri_size);
        else if (!wrong->no_uri)
                OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, uri, strlen(uri),
                                                        GNUTLS_FSAN_APPEND));
        if (wrong->second_uri)
                OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, wrong->second_uri,
                                                        strlen(wrong->second_uri), GNUTLS_FSAN_APPEND));
        if (wrong->dns)
                OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, wrong->dns,
                                                        strlen(wrong->dns), GNUTLS_FSAN_APPEND));
        if (wrong->email)
                OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_RFC822NAME, wrong->email,
                                                        strlen(wrong->email), GNUTLS_FSAN_APPEND));
}

static void wrong_set_usage(gnutls_x509_crt_t crt, const Wrong *wrong) {
        Error err = {};

        if (wrong->ca >= 0)
                OK(gnutls_x509_crt_set_basic_constraints(crt, wrong->ca, -1));
        OK(gnutls_x509_crt_set_key_usage(crt, wrong->usage ?: GNUTLS_KEY_DIGITAL_SIGNATURE));
        if (!wrong->purpose) {
                OK(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0));
                OK(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0));
        } else if (*wrong->purpose)
                OK(gnutls_x509_crt_set_key_purpose_oid(crt, wrong->purpose, 0));
        if (wrong->critical)
                OK(gnutls_x509_crt_set_extension_by_oid(crt, "1.2.3.4", "\x05", 2, 1));
}

static gnutls_x509_crt_t wrong_new(World *w, const Wrong *wrong) {
        gnutls_x509_privkey_t key = wrong->rsa ? w->rsa : wrong->p224 ? w->p224 : w->raw_key;
        gnutls_digest_algorithm_t digest = wrong->digest ?: GNUTLS_DIG_SHA256;
        time_t now = NOW_MS / 1000;
        gnutls_x509_crt_t crt, leaf = NULL;
        Error err = {};

        OK(gnutls_x509_crt_init(&crt));
        OK(gnutls_x509_crt_set_version(crt, wrong->version ?: 3));
        OK(gnutls_x509_crt_set_serial(crt, "\x41\x02", 2));
        OK(gnutls_x509_crt_set_activation_time(crt, now + wrong->from_days * 86400));
        OK(gnutls_x509_crt_set_expiration_time(crt, now + (wrong->to_days ?: 30) * 86400));
        OK(gnutls_x509_crt_set_key(crt, key));
        wrong_set_names(crt, wrong);
        wrong_set_usage(crt, wrong);
        switch (wrong->signer) {
        case BY_CA:
                OK(gnutls_x509_crt_sign2(crt, w->ca.raw_root, w->ca.raw_key, digest, 0));
                break;
        case BY_OTHER:
                OK(gnutls_x509_crt_sign2(crt, w->other.raw_root, w->other.raw_key, digest, 0));
                break;
        case BY_ITSELF:
                OK(gnutls_x509_crt_sign2(crt, crt, key, digest, 0));
                break;
        case BY_LEAF:
                leaf = wrong_new(w, &(Wrong) { .common_name = "leaf" });
                OK(gnutls_x509_crt_sign2(crt, leaf, w->raw_key, digest, 0));
                gnutls_x509_crt_deinit(leaf);
                break;
        }
        return crt;
}

static int wrong_verify(World *w, const Wrong *wrong, unsigned roles, Error *err) {
        gnutls_x509_crt_t crt = wrong_new(w, wrong);
        TlsCheck check = peer_check(w);
        gnutls_datum_t der, leaf;
        gnutls_x509_crt_t issuer;
        TlsVerified v;
        int r;

        check.roles = roles;
        r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der);
        assert_true(r >= 0);
        issuer = wrong_new(w, &(Wrong) { .common_name = "leaf" });
        r = gnutls_x509_crt_export2(issuer, GNUTLS_X509_FMT_DER, &leaf);
        assert_true(r >= 0);
        r = tls_verify((TlsDer[]) { { der.data, der.size }, { leaf.data, leaf.size } }, 2, &check, &v, err);
        gnutls_free(der.data);
        gnutls_free(leaf.data);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_crt_deinit(issuer);
        return r;
}

static const char long_uri[] = PREFIX
        "replica/"
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

static void each_wrong_certificate_has_its_own_message(void **state) {
        static const struct {
                Wrong wrong;
                unsigned roles; /* 0: of peers */
                int error;
                const char *message;
        } rows[] = {
                { { .uri = REPLICA }, 0, 0, "" },
                { { .signer = BY_ITSELF }, 0, -EPERM, "the certificate is self-signed" },
                { { .signer = BY_OTHER }, 0, -EPERM, "leads to no root that this host trusts" },
                { { .signer = BY_LEAF }, 0, -EPERM, "leads to no root that this host trusts" },
                { { .uri = "fleet://0123456789abcdee/replica/" MACHINE },
                  0,
                  -EXDEV,
                  "is of cluster 0123456789abcdee, not of 0123456789abcdef" },
                { { .from_days = -31, .to_days = -1 }, 0, -EKEYEXPIRED, "the certificate expired at " },
                { { .from_days = 1 }, 0, -EKEYEXPIRED, "the certificate is not valid before " },
                { { .second_uri = PREFIX "host/" MACHINE }, 0, -EBADMSG, "has more than one URI" },
                { { .no_uri = true }, 0, -EBADMSG, "the certificate has no URI" },
                { { .no_uri = true, .dns = "alpha" }, 0, -EBADMSG, "has names, but no URI" },
                { { .no_uri = true, .common_name = "fleet://0123456789abcdef" },
                  0,
                  -EBADMSG,
                  "has its URI in the common name" },
                { { .dns = "alpha" }, 0, -EBADMSG, "has other names in addition to its URI" },
                { { .email = "a@b" }, 0, -EBADMSG, "has other names in addition to its URI" },
                { { .uri = "http://0123456789abcdef/replica/" MACHINE },
                  0,
                  -EBADMSG,
                  "does not begin with 'fleet://'" },
                { { .uri = REPLICA "\0.evil", .uri_size = sizeof(REPLICA) + 5 },
                  0,
                  -EBADMSG,
                  "contains a NUL byte" },
                { { .uri = PREFIX "replica%2f" MACHINE }, 0, -EBADMSG, "contains a percent escape" },
                { { .uri = PREFIX "replica/0000000000000000000000000000000A" },
                  0,
                  -EBADMSG,
                  "contains an upper-case letter" },
                { { .uri = REPLICA "/" }, 0, -EBADMSG, "ends with '/'" },
                { { .uri = REPLICA "0" }, 0, -EBADMSG, "names no valid machine ID" },
                { { .uri = PREFIX "replica/a/" MACHINE }, 0, -EBADMSG, "names no valid machine ID" },
                { { .uri = PREFIX "replica//" MACHINE }, 0, -EBADMSG, "names no valid machine ID" },
                { { .uri = PREFIX "/replica/" MACHINE }, 0, -EBADMSG, "has an empty part" },
                { { .uri = PREFIX "leader/" MACHINE }, 0, -EBADMSG, "has an unknown role" },
                { { .uri = "fleet://123/replica/" MACHINE },
                  0,
                  -EBADMSG,
                  "is not fleet://CLUSTER/ROLE/SUBJECT" },
                { { .uri = PREFIX "replica" }, 0, -EBADMSG, "is not fleet://CLUSTER/ROLE/SUBJECT" },
                { { .uri = long_uri }, 0, -EBADMSG, "and at most 127 are allowed" },
                { { .uri = PREFIX "user/-anna", .purpose = GNUTLS_KP_TLS_WWW_CLIENT },
                  USERS,
                  -EBADMSG,
                  "names no valid user" },
                { { .uri = PREFIX "user/anna", .purpose = GNUTLS_KP_TLS_WWW_CLIENT },
                  0,
                  -EACCES,
                  "of role user is not accepted here" },
                { { .uri = PREFIX "host/" MACHINE }, USERS, -EACCES, "of role host is not accepted here" },
                { { .uri = PREFIX "listener/" MACHINE, .purpose = GNUTLS_KP_TLS_WWW_SERVER },
                  0,
                  -EACCES,
                  "of role listener is not accepted here" },
                { { .uri = PREFIX "listener/" MACHINE, .purpose = GNUTLS_KP_TLS_WWW_SERVER, .dns = "alpha" },
                  USERS,
                  -EACCES,
                  "of role listener is not accepted here" },
                { { .purpose = "" }, 0, -EBADMSG, "has no extended key usage" },
                { { .purpose = GNUTLS_KP_TLS_WWW_CLIENT },
                  0,
                  -EBADMSG,
                  "wrong extended key usage for the role replica" },
                { { .purpose = GNUTLS_KP_EMAIL_PROTECTION },
                  0,
                  -EBADMSG,
                  "wrong extended key usage for the role replica" },
                { { .ca = 1 }, 0, -EBADMSG, "is that of a CA, not of a host or user" },
                { { .ca = -1 }, 0, -EBADMSG, "has no critical basic constraints" },
                { { .usage = GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_CERT_SIGN },
                  0,
                  -EBADMSG,
                  "has another key usage than digitalSignature" },
                { { .critical = true }, 0, -EBADMSG, "has the unknown critical extension 1.2.3.4" },
                { { .rsa = true }, 0, -EBADMSG, "is of type RSA with 1024 bits, not ECDSA with P-256" },
                { { .p224 = true }, 0, -EBADMSG, "is on the curve SECP224R1, not on P-256" },
                { { .digest = GNUTLS_DIG_SHA1 }, 0, -EBADMSG, "is signed with ECDSA-SHA1" },
                { { .digest = GNUTLS_DIG_SHA512 }, 0, -EBADMSG, "is signed with ECDSA-SHA512" },
        };
        World *w = *state;

        w->known = (TlsKnown) { .chain_counts = true };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Error err = {};
                int r = wrong_verify(w, &rows[i].wrong, rows[i].roles ?: PEERS, &err);

                if (r != rows[i].error || !strstr(err.message, rows[i].message))
                        fail_msg("row %zu: %d, '%s'", i, r, err.message);
        }
}

/* The listener of users (ListenTLS=): what is rejected there, although the cluster has a user anna, with this
 * key. */
static void each_wrong_certificate_at_the_listener_of_users_has_its_own_message(void **state) {
#define ANNA   PREFIX "user/anna"
#define CLIENT .purpose = GNUTLS_KP_TLS_WWW_CLIENT
#define SERVER .purpose = GNUTLS_KP_TLS_WWW_SERVER
        static const struct {
                Wrong wrong;
                int error;
                const char *message;
        } rows[] = {
                { { .uri = ANNA, CLIENT }, 0, "" },
                /* The pin authenticates, not the signature: as for hosts. */
                { { .uri = ANNA, CLIENT, .signer = BY_ITSELF }, 0, "" },
                { { .uri = ANNA, CLIENT, .signer = BY_OTHER }, 0, "" },
                { { .uri = ANNA, CLIENT, .signer = BY_LEAF }, 0, "" },
                { { .uri = "fleet://0123456789abcdee/user/anna", CLIENT },
                  -EXDEV,
                  "is of cluster 0123456789abcdee" },
                { { .uri = ANNA, CLIENT, .from_days = -31, .to_days = -1 },
                  -EKEYEXPIRED,
                  "the certificate expired at " },
                { { .uri = ANNA, CLIENT, .from_days = 1 },
                  -EKEYEXPIRED,
                  "the certificate is not valid before " },
                { { .uri = ANNA, CLIENT, .second_uri = PREFIX "user/bert" },
                  -EBADMSG,
                  "has more than one URI" },
                { { .no_uri = true, CLIENT }, -EBADMSG, "the certificate has no URI" },
                { { .no_uri = true, CLIENT, .dns = "anna" }, -EBADMSG, "has names, but no URI" },
                { { .no_uri = true, CLIENT, .common_name = "fleet://0123456789abcdef" },
                  -EBADMSG,
                  "has its URI in the common name" },
                { { .uri = ANNA, CLIENT, .dns = "anna" },
                  -EBADMSG,
                  "has other names in addition to its URI" },
                { { .uri = ANNA, CLIENT, .email = "a@b" },
                  -EBADMSG,
                  "has other names in addition to its URI" },
                { { .uri = "https://0123456789abcdef/user/anna", CLIENT },
                  -EBADMSG,
                  "does not begin with 'fleet://'" },
                { { .uri = ANNA "\0.b", CLIENT, .uri_size = sizeof(ANNA) + 2 },
                  -EBADMSG,
                  "contains a NUL byte" },
                { { .uri = PREFIX "user%2fanna", CLIENT }, -EBADMSG, "contains a percent escape" },
                { { .uri = PREFIX "user/Anna", CLIENT }, -EBADMSG, "contains an upper-case letter" },
                { { .uri = ANNA "/", CLIENT }, -EBADMSG, "ends with '/'" },
                { { .uri = PREFIX "user/-anna", CLIENT }, -EBADMSG, "names no valid user" },
                { { .uri = PREFIX "user/a/anna", CLIENT }, -EBADMSG, "names no valid user" },
                { { .uri = PREFIX "user//anna", CLIENT }, -EBADMSG, "names no valid user" },
                { { .uri = PREFIX "/user/anna", CLIENT }, -EBADMSG, "has an empty part" },
                { { .uri = PREFIX "admin/anna", CLIENT }, -EBADMSG, "has an unknown role" },
                { { .uri = PREFIX "user", CLIENT }, -EBADMSG, "is not fleet://CLUSTER/ROLE/SUBJECT" },
                { { .uri = long_uri, CLIENT }, -EBADMSG, "and at most 127 are allowed" },
                /* There is no bert, and carl has another key: a stranger does not learn which. */
                { { .uri = PREFIX "user/bert", CLIENT },
                  -ENOKEY,
                  "no user bert of this cluster has this key: unknown, revoked" },
                { { .uri = PREFIX "user/carl", CLIENT },
                  -ENOKEY,
                  "no user carl of this cluster has this key: unknown, revoked" },
                { { .uri = PREFIX "host/" MACHINE }, -EACCES, "of role host is not accepted here" },
                { { .uri = REPLICA }, -EACCES, "of role replica is not accepted here" },
                { { .uri = PREFIX "listener/" MACHINE, SERVER },
                  -EACCES,
                  "of role listener is not accepted here" },
                { { .uri = ANNA, .purpose = "" }, -EBADMSG, "has no extended key usage" },
                { { .uri = ANNA }, -EBADMSG, "wrong extended key usage for the role user" },
                { { .uri = ANNA, SERVER }, -EBADMSG, "wrong extended key usage for the role user" },
                { { .uri = ANNA, CLIENT, .ca = 1 }, -EBADMSG, "is that of a CA, not of a host or user" },
                { { .uri = ANNA, CLIENT, .ca = -1 }, -EBADMSG, "has no critical basic constraints" },
                { { .uri = ANNA, CLIENT, .usage = GNUTLS_KEY_KEY_CERT_SIGN },
                  -EBADMSG,
                  "has another key usage than digitalSignature" },
                { { .uri = ANNA, CLIENT, .critical = true },
                  -EBADMSG,
                  "has the unknown critical extension 1.2.3.4" },
                { { .uri = ANNA, CLIENT, .rsa = true },
                  -EBADMSG,
                  "is of type RSA with 1024 bits, not ECDSA with P-256" },
                { { .uri = ANNA, CLIENT, .p224 = true },
                  -EBADMSG,
                  "is on the curve SECP224R1, not on P-256" },
                { { .uri = ANNA, CLIENT, .digest = GNUTLS_DIG_SHA1 }, -EBADMSG, "is signed with ECDSA-SHA1" },
                { { .uri = ANNA, CLIENT, .digest = GNUTLS_DIG_SHA512 },
                  -EBADMSG,
                  "is signed with ECDSA-SHA512" },
        };
        World *w = *state;
        TlsPin pin;

        gnutls_x509_crt_t crt = wrong_new(w, &(Wrong) { .uri = ANNA, CLIENT });
        size_t size = sizeof(pin.bytes);
        assert_int_equal(gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, pin.bytes, &size), 0);
        gnutls_x509_crt_deinit(crt);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *uri = rows[i].wrong.uri ?: "";
                Error err = {};
                int r;

                w->known = (TlsKnown) { .state = TLS_KNOWN, .n_pins = 1, .pins = { pin } };
                if (strstr(uri, "bert"))
                        w->known = (TlsKnown) {};
                if (strstr(uri, "carl"))
                        w->known.pins[0].bytes[0] ^= 1;
                r = wrong_verify(w, &rows[i].wrong, USERS, &err);
                if (r != rows[i].error || !strstr(err.message, rows[i].message))
                        fail_msg("row %zu: %d, '%s'", i, r, err.message);
        }
        print_message("%zu certificates at the listener of users\n", ELEMENTS(rows));
#undef ANNA
#undef CLIENT
#undef SERVER
}

static void a_listener_has_addresses_and_dns_names(void **state) {
        static const char *const valid[] = {
                "a", "fleet.example", "10.0.0.1", "2001:db8::1", "a-b.c1", "1.a"
        };
        static const char *const invalid[] = {
                "",
                ".",
                "a.",
                ".a",
                "a..b",
                "-a",
                "a-",
                "a.-b",
                "*.example",
                "a b",
                "a/b",
                "a:80",
                "10.0.0",
                "10.0.0.256",
                "[::1]",
                "a\nb",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b"
        };

        for (size_t i = 0; i < ELEMENTS(valid); i++)
                if (!tls_name_is_valid(valid[i]))
                        fail_msg("'%s'", valid[i]);
        for (size_t i = 0; i < ELEMENTS(invalid); i++)
                if (tls_name_is_valid(invalid[i]))
                        fail_msg("'%s'", invalid[i]);
}

static void a_peer_sends_up_to_three_certificates_and_a_leaf_of_up_to_4_kib(void **state) {
        World *w = *state;
        static uint8_t large[64 * 1024] = { 0x30, 0x82, 0xff, 0xff };
        TlsCheck check = peer_check(w);
        TlsDer many[10];
        TlsVerified v;
        Error err = {};

        assert_int_equal(tls_verify(NULL, 0, &check, &v, &err), -EBADMSG);
        assert_string_equal(err.message, "no certificate");
        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = (TlsDer) { w->ca.root.bytes, w->ca.root.size };
        assert_int_equal(tls_verify(many, ELEMENTS(many), &check, &v, &err), -EBADMSG);
        assert_string_equal(err.message, "10 certificates, and at most 3 are allowed");
        assert_int_equal(tls_verify(&(TlsDer) { large, sizeof(large) }, 1, &check, &v, &err), -EBADMSG);
        assert_string_equal(err.message, "the certificate has 65536 bytes, and at most 4096 are allowed");
        assert_int_equal(tls_verify(&(TlsDer) { large, TLS_LEAF_MAX }, 1, &check, &v, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "Failed to read a certificate: "));
        assert_int_equal(tls_verify(&(TlsDer) { "", 0 }, 1, &check, &v, &err), -EBADMSG);
}

/* -- Keys, requests, roots -- */

static void a_private_key_is_read_as_it_was_printed(void **state) {
        World *w = *state;
        TlsPrivateKey *again = NULL;
        TlsPin pin;
        Error err = {};
        size_t size;
        char *pem;

        OK(tls_private_key_print(w->key, &pem, &size, &err));
        assert_true(starts_with(pem, "-----BEGIN PRIVATE KEY-----\n") && strlen(pem) == size);
        OK(tls_private_key_read(pem, size, &again, &err));
        tls_private_key_pin(again, &pin);
        assert_true(tls_pin_equal(&pin, &w->pin));
        again = tls_private_key_free(again);
        tls_secret_free(pem, size);
        assert_null(tls_secret_free(NULL, 0));
        assert_null(tls_private_key_free(NULL));
}

static void other_private_keys_are_rejected(void **state) {
        World *w = *state;
        static char large[TLS_LEAF_MAX + 1];
        TlsPrivateKey *key = NULL;
        gnutls_datum_t pem;
        Error err = {};

        assert_int_equal(tls_private_key_read("", 0, &key, &err), -EINVAL);
        assert_int_equal(tls_private_key_read("x", 1, &key, &err), -EINVAL);
        assert_non_null(strstr(err.message, "not a private key: "));
        assert_int_equal(tls_private_key_read(large, sizeof(large), &key, &err), -EINVAL);
        assert_string_equal(err.message, "not a private key: more than 4096 bytes");
        for (unsigned i = 0; i < 2; i++) {
                OK(gnutls_x509_privkey_export2(i ? w->rsa : w->p224, GNUTLS_X509_FMT_PEM, &pem));
                assert_int_equal(tls_private_key_read((char *) pem.data, pem.size, &key, &err), -EINVAL);
                assert_string_equal(err.message, "not a private key of ECDSA with P-256");
                gnutls_free(pem.data);
        }
        assert_null(key);
}

static void a_request_proves_its_key(void **state) {
        World *w = *state;
        gnutls_x509_crq_t crq;
        gnutls_datum_t der, pem;
        static char large[TLS_LEAF_MAX + 1];
        Error err = {};
        TlsPin pin;

        assert_int_equal(tls_request_read("", 0, &pin, &err), -EBADMSG);
        assert_int_equal(tls_request_read(large, sizeof(large), &pin, &err), -EBADMSG);
        assert_string_equal(err.message,
                            "the certificate request has 4097 bytes, and at most 4096 are allowed");
        assert_int_equal(tls_request_read(w->ca.root.chars, w->ca.root.size, &pin, &err), -EBADMSG);

        /* A request with another signature. */
        OK(gnutls_x509_crq_init(&crq));
        OK(gnutls_x509_crq_import(crq, &(gnutls_datum_t) { w->request.bytes, w->request.size },
                                  GNUTLS_X509_FMT_PEM));
        OK(gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_DER, &der));
        der.data[der.size - 1] ^= 1;
        OK(gnutls_pem_base64_encode2("CERTIFICATE REQUEST", &der, &pem));
        assert_int_equal(tls_request_read((char *) pem.data, pem.size, &pin, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "is not signed with its own key"));
        gnutls_free(der.data);
        gnutls_free(pem.data);
        gnutls_x509_crq_deinit(crq);

        OK(gnutls_x509_crq_init(&crq));
        OK(gnutls_x509_crq_set_version(crq, 1));
        OK(gnutls_x509_crq_set_key(crq, w->rsa));
        OK(gnutls_x509_crq_sign2(crq, w->rsa, GNUTLS_DIG_SHA256, 0));
        OK(gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_PEM, &pem));
        assert_int_equal(tls_request_read((char *) pem.data, pem.size, &pin, &err), -EBADMSG);
        assert_string_equal(
                err.message,
                "the key of the certificate request is of type RSA with 1024 bits, not ECDSA with P-256");
        gnutls_free(pem.data);
        gnutls_x509_crq_deinit(crq);
}

static void issuing_checks_its_arguments(void **state) {
        World *w = *state;
        _cleanup_text_ Text pem = {};
        TlsIssue good = issue_for(w, TLS_ROLE_HOST, MACHINE), issue;
        const char *const names[] = { "10.0.0.1", "2001:db8::1", "fleet.example" };
        TlsCertificate fields;
        Error err = {};

        issue = good;
        issue.uri.subject[0] = 'x';
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EINVAL);
        issue = good;
        issue.uri.role = _TLS_ROLE_MAX;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EINVAL);
        assert_string_equal(err.message, "Failed to issue a certificate: invalid role or subject");
        issue = good;
        issue.lifetime_ms = 366 * DAY_MS;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EINVAL);
        issue.lifetime_ms = 0;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EINVAL);
        assert_string_equal(err.message, "Failed to issue a certificate: a lifetime is up to 365 days");
        issue = good;
        issue.names = names;
        issue.n_names = 3;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EINVAL);
        assert_string_equal(err.message,
                            "Failed to issue a certificate: up to 32 names, for a listener only");
        assert_int_equal(tls_issue(&good, w->other.key, &pem, &err), -EINVAL);
        assert_string_equal(err.message, "Failed to issue a certificate: the key is not that of the root");
        issue = good;
        issue.request_size = 3;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EBADMSG);
        issue = good;
        issue.root_size = 3;
        assert_int_equal(tls_issue(&issue, w->ca.key, &pem, &err), -EBADMSG);
        assert_int_equal(pem.size, 0);

        issue = good;
        issue.uri.role = TLS_ROLE_LISTENER;
        issue.names = names;
        issue.n_names = 3;
        issue.common_name =
                "b\xc3\xa4r\n with a name that is longer than the 64 bytes which a common name may have";
        OK(tls_issue(&issue, w->ca.key, &pem, &err));
        OK(tls_certificate_read(pem.chars, pem.size, &fields, &err));
        assert_int_equal(fields.uri.role, TLS_ROLE_LISTENER);
        assert_true(fields.not_after_ms == NOW_MS + TLS_LEAF_LIFETIME_MS);
        text_clear(&pem);
        issue.common_name = NULL;
        OK(tls_issue(&issue, w->ca.key, &pem, &err));
}

static void roots_are_read_and_checked(void **state) {
        World *w = *state;
        _cleanup_text_ Text both = {}, leaf = {};
        TlsIssue issue = issue_for(w, TLS_ROLE_HOST, MACHINE);
        TlsCertificate fields;
        TlsRoots *roots = NULL;
        Error err = {};
        TlsPin pin;

        text_append_bytes(&both, w->ca.root.chars, w->ca.root.size);
        text_append_bytes(&both, w->other.root.chars, w->other.root.size);
        OK(tls_roots_read(both.chars, both.size, &roots, &err));
        assert_int_equal(tls_roots_count(roots), 2);
        tls_roots_get(roots, 1, &fields);
        tls_private_key_pin(w->other.key, &pin);
        assert_true(tls_pin_equal(&fields.pin, &pin));
        assert_int_equal(fields.uri.role, _TLS_ROLE_INVALID);
        assert_true(fields.not_after_ms == NOW_MS + 3550 * DAY_MS);
        roots = tls_roots_free(roots);
        OK(tls_certificate_read(both.chars, both.size, &fields, &err));
        assert_int_equal(fields.uri.role, _TLS_ROLE_INVALID);

        while (both.size < 9 * w->ca.root.size)
                text_append_bytes(&both, w->ca.root.chars, w->ca.root.size);
        assert_int_equal(tls_roots_read(both.chars, both.size, &roots, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "roots, and at most 8 are allowed"));
        while (both.size <= 65536)
                text_append_bytes(&both, w->ca.root.chars, w->ca.root.size);
        assert_int_equal(tls_roots_read(both.chars, both.size, &roots, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "bytes, and at most 65536 are allowed"));
        assert_int_equal(tls_certificate_read(both.chars, both.size, &fields, &err), -EBADMSG);
        assert_int_equal(tls_roots_read("", 0, &roots, &err), -EBADMSG);
        OK(tls_issue(&issue, w->ca.key, &leaf, &err));
        assert_int_equal(tls_roots_read(leaf.chars, leaf.size, &roots, &err), -EBADMSG);
        assert_string_equal(err.message, "root 1: the certificate is not that of a CA with path length 0");
        assert_null(roots);
}

static void pins_have_64_digits(void **state) {
        char text[TLS_PIN_SIZE];
        TlsPin pin, again;

        for (unsigned i = 0; i < TLS_PIN_BYTES; i++)
                pin.bytes[i] = i * 8;
        tls_pin_print(&pin, text);
        assert_string_equal(text, "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8");
        assert_int_equal(tls_pin_parse(text, &again), 0);
        assert_true(tls_pin_equal(&pin, &again));
        text[63] = 'G';
        assert_int_equal(tls_pin_parse(text, &again), -EINVAL);
        text[63] = 0;
        assert_int_equal(tls_pin_parse(text, &again), -EINVAL);
}

/* RFC 5915: the private value has 32 bytes. Half of the keys had 33 bytes, and a longer text. */
static void each_private_key_has_a_text_of_one_length(void **state) {
        size_t first = 0;

        for (unsigned i = 0; i < 32; i++) {
                _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
                Error err = {};
                size_t size;
                char *pem;

                OK(tls_private_key_new(&key, &err));
                OK(tls_private_key_print(key, &pem, &size, &err));
                first = first > 0 ? first : size;
                assert_int_equal(size, first);
                tls_secret_free(pem, size);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_private_key_has_a_text_of_one_length),
#define T(f) cmocka_unit_test_setup(f, reset)
                T(an_issued_certificate_is_accepted_by_its_pin),
                T(the_role_of_a_known_machine_is_that_of_the_cluster),
                T(a_pin_counts_in_spite_of_dates_and_root),
                T(another_key_is_rejected_also_with_a_valid_chain),
                T(a_removed_machine_is_rejected_with_its_pin),
                T(a_stored_pin_counts_where_a_chain_may),
                T(a_chain_counts_for_a_replica_only_and_only_where_it_may),
                T(another_key_counts_with_a_later_certificate_only),
                T(dates_of_a_chain_have_ten_minutes_of_tolerance),
                T(a_joining_host_trusts_the_root_of_its_token_with_any_clock),
                T(a_user_needs_a_pin_and_valid_dates),
                T(each_wrong_certificate_has_its_own_message),
                T(each_wrong_certificate_at_the_listener_of_users_has_its_own_message),
                T(a_listener_has_addresses_and_dns_names),
                T(a_peer_sends_up_to_three_certificates_and_a_leaf_of_up_to_4_kib),
                T(a_private_key_is_read_as_it_was_printed),
                T(other_private_keys_are_rejected),
                T(a_request_proves_its_key),
                T(issuing_checks_its_arguments),
                T(roots_are_read_and_checked),
                T(pins_have_64_digits),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("tls_roles", tests, setup, teardown);
}
