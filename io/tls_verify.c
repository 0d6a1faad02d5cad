/* Reading and checking of certificates. The bytes may come from any host.
 *
 * A certificate is checked by its fields and, where a chain counts, by the signature of one root. There are
 * no intermediate certificates: other certificates that a peer sends have no effect, except the root that a
 * joining host finds by the pin of its token. */
#include "io/tls_roles_internal.h"

#include <time.h>

enum {
        ROOTS_PEM_MAX = 64 * 1024, /* bytes */
        OID_SIZE = 128,
        DATE_SIZE = 32,
};

const char *const tls_purpose_oids[TLS_PURPOSES] = { GNUTLS_KP_TLS_WWW_CLIENT, GNUTLS_KP_TLS_WWW_SERVER };

const unsigned tls_role_purposes[_TLS_ROLE_MAX] = {
        [TLS_ROLE_HOST] = 1u << 0 | 1u << 1,
        [TLS_ROLE_REPLICA] = 1u << 0 | 1u << 1,
        [TLS_ROLE_USER] = 1u << 0,
        [TLS_ROLE_LISTENER] = 1u << 1,
};

/* -- Fields -- */

/* Check what leaves and roots have in common, and read the key and the dates. */
static int certificate_read_common(gnutls_x509_crt_t crt, TlsCertificate *ret, Error *err) {
        _cleanup_(gnutls_pubkey_deinitp) gnutls_pubkey_t key = NULL;
        time_t from = gnutls_x509_crt_get_activation_time(crt), to = gnutls_x509_crt_get_expiration_time(crt);
        int r;

        if (gnutls_x509_crt_get_version(crt) != 3)
                return error_set(err, -EBADMSG, "the certificate is not of X.509 version 3");
        r = gnutls_pubkey_init(&key);
        if (r < 0)
                return tls_failed(err, r, "read a certificate");
        r = gnutls_pubkey_import_x509(key, crt, 0);
        if (r < 0)
                return tls_failed(err, r, "read the public key of the certificate");
        TRY(tls_public_key_read(key, "certificate", &ret->pin, err));
        r = gnutls_x509_crt_get_signature_algorithm(crt);
        if (r != GNUTLS_SIGN_ECDSA_SHA256)
                return error_set(err, -EBADMSG,
                                 "the certificate is signed with %s, not with ECDSA and SHA-256",
                                 (r < 0 ? NULL : gnutls_sign_get_name(r)) ?: "an unknown algorithm");
        if (from < 0 || to < 0)
                return error_set(err, -EBADMSG, "the certificate has invalid dates");
        ret->not_before_ms = (uint64_t) from * 1000;
        ret->not_after_ms = (uint64_t) to * 1000;
        return 0;
}

/* Reject critical extensions that this program does not check. */
static int certificate_check_extensions(gnutls_x509_crt_t crt, Error *err) {
        static const char *const checked[] = {
                "2.5.29.15", /* key usage */
                "2.5.29.17", /* subject alternative names */
                "2.5.29.19", /* basic constraints */
                "2.5.29.37", /* extended key usage */
        };

        for (unsigned i = 0;; i++) {
                char oid[OID_SIZE];
                size_t size = sizeof(oid);
                unsigned critical = 0;
                int r = gnutls_x509_crt_get_extension_info(crt, i, oid, &size, &critical);
                bool known = false;

                if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        return 0;
                if (r < 0)
                        return tls_failed(err, r, "read the extensions of the certificate");
                for (size_t k = 0; k < ELEMENTS(checked); k++)
                        known |= streq(oid, checked[k]);
                if (critical && !known)
                        return error_set(err, -EBADMSG,
                                         "the certificate has the unknown critical extension %s", oid);
        }
}

/* Check basic constraints and key usage. */
static int certificate_check_usage(gnutls_x509_crt_t crt, bool is_ca, unsigned expected, Error *err) {
        unsigned critical = 0, ca = 0, usage = 0;
        int path = -1, r;

        r = gnutls_x509_crt_get_basic_constraints(crt, &critical, &ca, &path);
        if (r < 0 || !critical)
                return error_set(err, -EBADMSG, "the certificate has no critical basic constraints");
        if (is_ca && (!ca || path != 0))
                return error_set(err, -EBADMSG, "the certificate is not that of a CA with path length 0");
        if (!is_ca && ca)
                return error_set(err, -EBADMSG, "the certificate is that of a CA, not of a host or user");

        r = gnutls_x509_crt_get_key_usage(crt, &usage, &critical);
        if (r < 0 || usage != expected)
                return error_set(err, -EBADMSG, "the certificate has another key usage than %s",
                                 is_ca ? "keyCertSign" : "digitalSignature");
        return 0;
}

static int leaf_check_purposes(gnutls_x509_crt_t crt, TlsRole role, Error *err) {
        unsigned found = 0;

        for (unsigned i = 0;; i++) {
                char oid[OID_SIZE];
                size_t size = sizeof(oid);
                unsigned critical, purpose = 0;
                int r = gnutls_x509_crt_get_key_purpose_oid(crt, i, oid, &size, &critical);

                if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        break;
                if (r < 0)
                        return tls_failed(err, r, "read the extended key usage of the certificate");
                while (purpose < TLS_PURPOSES && !streq(oid, tls_purpose_oids[purpose]))
                        purpose++;
                found |= 1u << purpose; /* TLS_PURPOSES: an unknown one */
        }
        if (found == 0)
                return error_set(err, -EBADMSG, "the certificate has no extended key usage");
        if (found != tls_role_purposes[role])
                return error_set(err, -EBADMSG,
                                 "the certificate has the wrong extended key usage for the role %s",
                                 tls_role_names[role]);
        return 0;
}

static int leaf_no_uri(gnutls_x509_crt_t crt, unsigned n_names, Error *err) {
        char name[TLS_URI_SIZE] = "";
        size_t size = sizeof(name) - 1;

        if (n_names > 0)
                return error_set(err, -EBADMSG, "the certificate has names, but no URI");
        if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) >= 0 &&
            starts_with(name, "fleet:"))
                return error_set(err, -EBADMSG,
                                 "the certificate has its URI in the common name, which has no meaning");
        return error_set(err, -EBADMSG, "the certificate has no URI");
}

/* Read the one URI, and check the other names. */
static int leaf_read_names(gnutls_x509_crt_t crt, TlsUri *ret, Error *err) {
        unsigned n, n_uris = 0, n_addresses = 0;
        int r;

        for (n = 0;; n++) {
                char name[TLS_LEAF_MAX];
                size_t size = sizeof(name);
                unsigned type;

                r = gnutls_x509_crt_get_subject_alt_name2(crt, n, name, &size, &type, NULL);
                if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        break;
                if (r < 0)
                        return tls_failed(err, r, "read the names of the certificate");
                if (type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_IPADDRESS)
                        n_addresses++;
                if (type != GNUTLS_SAN_URI)
                        continue;
                if (++n_uris > 1)
                        return error_set(err, -EBADMSG, "the certificate has more than one URI");
                r = TRY(tls_uri_read(name, size, ret, err));
        }
        if (n_uris == 0)
                return leaf_no_uri(crt, n, err);
        if (n > 1 + (ret->role == TLS_ROLE_LISTENER ? n_addresses : 0))
                return error_set(err, -EBADMSG, "the certificate has other names in addition to its URI");
        return 0;
}

static int leaf_read(gnutls_x509_crt_t crt, TlsCertificate *ret, Error *err) {
        TRY(certificate_read_common(crt, ret, err));
        TRY(certificate_check_usage(crt, false, GNUTLS_KEY_DIGITAL_SIGNATURE, err));
        TRY(leaf_read_names(crt, &ret->uri, err));
        TRY(leaf_check_purposes(crt, ret->uri.role, err));
        return certificate_check_extensions(crt, err);
}

/* Check the fields of a root. Its signature has no meaning: a host trusts a root because it stored it, or by
 * its pin. */
static int root_check(gnutls_x509_crt_t crt, TlsCertificate *ret, Error *err) {
        *ret = (TlsCertificate) { .uri.role = _TLS_ROLE_INVALID };
        TRY(certificate_read_common(crt, ret, err));
        TRY(certificate_check_usage(crt, true, GNUTLS_KEY_KEY_CERT_SIGN, err));
        return certificate_check_extensions(crt, err);
}

static int certificate_import(const gnutls_datum_t *bytes, gnutls_x509_crt_fmt_t format,
                              gnutls_x509_crt_t *ret, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        r = gnutls_x509_crt_init(&crt);
        if (r < 0)
                return tls_failed(err, r, "read a certificate");
        r = gnutls_x509_crt_import(crt, bytes, format);
        if (r < 0)
                return tls_failed(err, r, "read a certificate");
        *ret = TAKE_PTR(crt);
        return 0;
}

int tls_root_read(const gnutls_datum_t *bytes, gnutls_x509_crt_fmt_t format, gnutls_x509_crt_t *ret,
                  TlsCertificate *ret_fields, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;

        TRY(certificate_import(bytes, format, &crt, err));
        TRY(root_check(crt, ret_fields, err));
        *ret = TAKE_PTR(crt);
        return 0;
}

int tls_certificate_read(const char *pem, size_t size, TlsCertificate *ret, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        gnutls_datum_t bytes = { (unsigned char *) pem, size };
        TlsCertificate fields = {};
        unsigned critical;
        int r;

        if (size > ROOTS_PEM_MAX)
                return error_set(err, -EBADMSG, "a file of %zu bytes is too large for certificates", size);
        r = TRY(certificate_import(&bytes, GNUTLS_X509_FMT_PEM, &crt, err));
        if (gnutls_x509_crt_get_ca_status(crt, &critical) > 0)
                r = root_check(crt, &fields, err);
        else
                r = leaf_read(crt, &fields, err);
        if (r < 0)
                return r;
        *ret = fields;
        return 0;
}

/* -- Roots -- */

struct TlsRoots {
        unsigned n;
        gnutls_x509_crt_t *certificates;
        TlsCertificate fields[TLS_ROOTS_MAX];
};

TlsRoots *tls_roots_free(TlsRoots *roots) {
        if (!roots)
                return NULL;

        for (unsigned i = 0; i < roots->n; i++)
                gnutls_x509_crt_deinit(roots->certificates[i]);
        gnutls_free(roots->certificates);
        free(roots);
        return NULL;
}

int tls_roots_read(const char *pem, size_t size, TlsRoots **ret, Error *err) {
        _cleanup_(tls_roots_freep) TlsRoots *roots = NEW0(TlsRoots, 1);
        gnutls_datum_t bytes = { (unsigned char *) pem, size };
        int r;

        if (!roots)
                return error_set(err, -ENOMEM, "Failed to read the roots: out of memory");
        if (size > ROOTS_PEM_MAX)
                return error_set(err, -EBADMSG, "the roots have %zu bytes, and at most %u are allowed", size,
                                 ROOTS_PEM_MAX);
        r = gnutls_x509_crt_list_import2(&roots->certificates, &roots->n, &bytes, GNUTLS_X509_FMT_PEM, 0);
        if (r < 0) {
                roots->n = 0;
                return tls_failed(err, r, "read the roots");
        }
        if (roots->n > TLS_ROOTS_MAX)
                return error_set(err, -EBADMSG, "%u roots, and at most %u are allowed", roots->n,
                                 TLS_ROOTS_MAX);
        for (unsigned i = 0; i < roots->n; i++) {
                r = root_check(roots->certificates[i], roots->fields + i, err);
                if (r < 0)
                        return error_prefix(err, r, "root %u", i + 1);
        }
        *ret = TAKE_PTR(roots);
        return 0;
}

size_t tls_roots_count(const TlsRoots *roots) {
        return roots->n;
}

void tls_roots_get(const TlsRoots *roots, size_t i, TlsCertificate *ret) {
        *ret = roots->fields[i];
}

/* -- Verification -- */

/* Return whether 'root' signed 'leaf'. GnuTLS accepts a certificate that equals a trusted one without a look
 * at its signature; a leaf is no CA, so it never equals a root. */
static bool root_signed(gnutls_x509_crt_t root, gnutls_x509_crt_t leaf) {
        unsigned status = 0;

        return gnutls_x509_crt_verify(leaf, &root, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status) >= 0 &&
               status == 0;
}

/* Return the position of the root that signed 'leaf', or -1. */
static int roots_find(const TlsRoots *roots, gnutls_x509_crt_t leaf) {
        for (unsigned i = 0; roots && i < roots->n; i++)
                if (root_signed(roots->certificates[i], leaf))
                        return (int) i;
        return -1;
}

int tls_roots_chain(const TlsRoots *roots, const char *pem, size_t size, Text *ret, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t leaf = NULL;
        int i;

        TRY(certificate_import(&(gnutls_datum_t) { (unsigned char *) pem, size }, GNUTLS_X509_FMT_PEM, &leaf,
                               err));
        TRY(tls_append_certificate(leaf, ret, err));
        i = roots_find(roots, leaf);
        return i < 0 ? 0 : tls_append_certificate(roots->certificates[i], ret, err);
}

static bool dates_are_valid(const TlsCertificate *c, uint64_t now_ms) {
        return now_ms + TLS_CLOCK_TOLERANCE_MS >= c->not_before_ms &&
               now_ms <= c->not_after_ms + TLS_CLOCK_TOLERANCE_MS;
}

static const char *date_text(uint64_t ms, char buffer[static DATE_SIZE]) {
        time_t seconds = (time_t) (ms / 1000);
        struct tm tm;

        if (!gmtime_r(&seconds, &tm) || strftime(buffer, DATE_SIZE, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
                snprintf(buffer, DATE_SIZE, "an invalid time");
        return buffer;
}

/* 'what': "certificate" or "root". */
static int verify_dates(const TlsCertificate *c, const char *what, uint64_t now_ms, Error *err) {
        char date[DATE_SIZE], now[DATE_SIZE];

        if (dates_are_valid(c, now_ms))
                return 0;
        (void) date_text(now_ms, now);
        if (now_ms > c->not_after_ms)
                return error_set(
                        err, -EKEYEXPIRED,
                        "the %s expired at %s, and the clock of this host shows %s: check the clocks, then "
                        "renew it",
                        what, date_text(c->not_after_ms, date), now);
        return error_set(
                err, -EKEYEXPIRED,
                "the %s is not valid before %s, and the clock of this host shows %s: check the clocks", what,
                date_text(c->not_before_ms, date), now);
}

/* A joining host: the root of the token signed the leaf. */
static int verify_by_token(const TlsDer *chain, size_t n, gnutls_x509_crt_t leaf, const TlsPin *root_pin,
                           Error *err) {
        for (size_t i = 1; i < n; i++) {
                _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t root = NULL;
                gnutls_datum_t bytes = { (unsigned char *) chain[i].bytes, chain[i].size };
                TlsCertificate fields;

                if (tls_root_read(&bytes, GNUTLS_X509_FMT_DER, &root, &fields, NULL) >= 0 &&
                    tls_pin_equal(&fields.pin, root_pin) && root_signed(root, leaf))
                        return 0;
        }
        return error_set(err, -EPERM,
                         "the host does not prove the root of the token: the token is of another cluster, or "
                         "older than "
                         "the last 'fleetctl ca rotate'; create a new one with 'fleetctl token' in the "
                         "cluster to join");
}

static int verify_by_chain(const TlsCheck *check, gnutls_x509_crt_t leaf, const TlsCertificate *fields,
                           uint64_t issued_after_ms, Error *err) {
        int root = roots_find(check->roots, leaf);

        if (root < 0 && gnutls_x509_crt_check_issuer(leaf, leaf))
                return error_set(err, -EPERM, "the certificate is self-signed");
        if (root < 0)
                return error_set(err, -EPERM, "the certificate leads to no root that this host trusts");
        TRY(verify_dates(fields, "certificate", check->now_ms, err));
        TRY(verify_dates(check->roots->fields + root, "root", check->now_ms, err));
        if (fields->not_before_ms + TLS_BACKDATED_MS <= issued_after_ms)
                return error_set(err, -EKEYEXPIRED,
                                 "the certificate is older than the list of replicas of this host");
        return 0;
}

static const char *role_kind(TlsRole role) {
        return role == TLS_ROLE_USER ? "user" : "machine";
}

static bool known_has_pin(const TlsKnown *known, const TlsPin *pin) {
        for (unsigned i = 0; i < known->n_pins; i++)
                if (tls_pin_equal(known->pins + i, pin))
                        return true;
        return false;
}

static int verify_waits(const TlsUri *uri, Error *err) {
        return error_set(err, -ENOKEY,
                         "machine %s is not in the list of replicas that this host knew last, or has another "
                         "key: its certificate counts when none of these has answered for 10 minutes",
                         uri->subject);
}

/* The peer has proved nothing: whether there is such a user is not said. The ID of a machine cannot be
 * guessed. */
static int verify_no_user(const TlsUri *uri, Error *err) {
        return error_set(err, -ENOKEY,
                         "no user %s of this cluster has this key: unknown, revoked, or replaced by a later "
                         "'fleetctl cert %s --replace'",
                         uri->subject, uri->subject);
}

/* Of a machine that the tree does not know yet, or with another key, the pins are those of an earlier time.
 */
static int verify_unknown(const TlsCheck *check, const TlsKnown *known, gnutls_x509_crt_t leaf,
                          TlsVerified *ret, Error *err) {
        const TlsCertificate *fields = &ret->leaf;

        if (fields->uri.role == TLS_ROLE_USER)
                return verify_no_user(&fields->uri, err);
        ret->replica = true;
        if (known->chain_counts && known_has_pin(known, &fields->pin)) {
                ret->by_pin = true;
                return 0;
        }
        if (known->chain_waits && fields->uri.role == TLS_ROLE_REPLICA)
                return verify_waits(&fields->uri, err);
        if (!known->chain_counts || fields->uri.role != TLS_ROLE_REPLICA)
                return error_set(
                        err, -ENOKEY,
                        "%s %s is unknown to this cluster: unless it joins at this moment, it needs a token "
                        "of 'fleetctl token'",
                        role_kind(fields->uri.role), fields->uri.subject);
        return verify_by_chain(check, leaf, fields, known->issued_after_ms, err);
}

/* Return whether a replica with another key than the known one has a certificate that was issued after all
 * that this host knows, which may be out of date. */
static bool verify_is_later(const TlsCheck *check, const TlsKnown *known, gnutls_x509_crt_t leaf,
                            const TlsCertificate *fields) {
        return known->chain_counts && known->issued_after_ms > 0 && known->replica &&
               fields->uri.role == TLS_ROLE_REPLICA &&
               verify_by_chain(check, leaf, fields, known->issued_after_ms, &(Error) {}) == 0;
}

static int verify_known(const TlsCheck *check, const TlsKnown *known, gnutls_x509_crt_t leaf,
                        TlsVerified *ret, Error *err) {
        const TlsUri *uri = &ret->leaf.uri;

        if (known->state == TLS_REMOVED)
                return error_set(err, -EKEYREVOKED,
                                 "%s %s was removed from the cluster: it joins again with a new token",
                                 role_kind(uri->role), uri->subject);
        if (!known_has_pin(known, &ret->leaf.pin) && uri->role == TLS_ROLE_USER)
                return verify_no_user(uri, err);
        if (!known_has_pin(known, &ret->leaf.pin) && verify_is_later(check, known, leaf, &ret->leaf)) {
                ret->replica = true;
                return 0;
        }
        if (!known_has_pin(known, &ret->leaf.pin) && known->chain_waits && uri->role == TLS_ROLE_REPLICA)
                return verify_waits(uri, err);
        if (!known_has_pin(known, &ret->leaf.pin))
                return error_set(
                        err, -EKEYREJECTED,
                        "%s %s has another key than the cluster knows, as after a new installation, or the "
                        "restore of an older backup: run 'fleetctl token --replace=%s' on a host of the "
                        "cluster, then 'fleetctl join' on that machine",
                        role_kind(uri->role), uri->subject, uri->subject);

        ret->replica = known->replica;
        ret->by_pin = true;
        if (uri->role == TLS_ROLE_USER)
                return verify_dates(&ret->leaf, "certificate", check->now_ms, err);
        /* The cluster decides about the role: a replaced voter, and each host after a restore, has the
         * certificate of its former replica, and returns with the rights of a host. */
        if (uri->role != TLS_ROLE_REPLICA || known->replica || !known->chain_counts)
                return 0;

        ret->replica = true;
        return verify_by_chain(check, leaf, &ret->leaf, known->issued_after_ms, err);
}

/* Read the leaf of what a peer sent. */
static int verify_read_leaf(const TlsDer *chain, size_t n, gnutls_x509_crt_t *ret, TlsCertificate *ret_fields,
                            Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t leaf = NULL;

        if (n == 0)
                return error_set(err, -EBADMSG, "no certificate");
        if (n > TLS_CHAIN_MAX)
                return error_set(err, -EBADMSG, "%zu certificates, and at most %u are allowed", n,
                                 TLS_CHAIN_MAX);
        if (chain[0].size > TLS_LEAF_MAX)
                return error_set(err, -EBADMSG, "the certificate has %zu bytes, and at most %u are allowed",
                                 chain[0].size, TLS_LEAF_MAX);
        TRY(certificate_import(&(gnutls_datum_t) { (unsigned char *) chain[0].bytes, chain[0].size },
                               GNUTLS_X509_FMT_DER, &leaf, err));
        TRY(leaf_read(leaf, ret_fields, err));
        *ret = TAKE_PTR(leaf);
        return 0;
}

int tls_verify(const TlsDer *chain, size_t n, const TlsCheck *check, TlsVerified *ret, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t leaf = NULL;
        TlsVerified verified = {};
        const TlsUri *uri = &verified.leaf.uri;
        TlsKnown known = {};
        int r;

        r = TRY(verify_read_leaf(chain, n, &leaf, &verified.leaf, err));
        if (uri->cluster_id != check->cluster_id)
                return error_set(err, -EXDEV, "the certificate is of cluster %016llx, not of %016llx",
                                 (unsigned long long) uri->cluster_id,
                                 (unsigned long long) check->cluster_id);
        if (!(check->roles & 1u << uri->role))
                return error_set(err, -EACCES, "a certificate of role %s is not accepted here",
                                 tls_role_names[uri->role]);

        if (check->root_pin) {
                verified.replica = uri->role == TLS_ROLE_REPLICA;
                r = verify_by_token(chain, n, leaf, check->root_pin, err);
        } else {
                if (check->known)
                        check->known(check->userdata, uri->role, uri->subject, &known);
                if (known.state == TLS_UNKNOWN)
                        r = verify_unknown(check, &known, leaf, &verified, err);
                else
                        r = verify_known(check, &known, leaf, &verified, err);
        }
        if (r < 0)
                return r;
        *ret = verified;
        return 0;
}
