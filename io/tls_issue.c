/* Creation of keys, requests and certificates. io/tls_verify.c reads and checks certificates. */
#include "io/tls_roles_internal.h"

#include <arpa/inet.h>

#include "base/parse.h"

enum {
        PRIVATE_VALUE_SIZE = 32, /* bytes, of P-256 */
        NAME_MAX_BYTES = 253,    /* of a DNS name */
        LABEL_MAX_BYTES = 63,
        COMMON_NAME_MAX = 64, /* bytes: ub-common-name of RFC 5280 */
};

/* -- Private keys -- */

struct TlsPrivateKey {
        gnutls_x509_privkey_t key;
        TlsPin pin;
};

TlsPrivateKey *tls_private_key_free(TlsPrivateKey *key) {
        if (!key)
                return NULL;

        if (key->key)
                gnutls_x509_privkey_deinit(key->key); /* wipes the parameters */
        free(key);
        return NULL;
}

void *tls_secret_free(void *secret, size_t size) {
        if (secret)
                explicit_bzero(secret, size);
        free(secret);
        return NULL;
}

static TlsPrivateKey *private_key_alloc(void) {
        TlsPrivateKey *key = NEW0(TlsPrivateKey, 1);

        if (key && gnutls_x509_privkey_init(&key->key) < 0) {
                free(key);
                return NULL;
        }
        return key;
}

static int private_key_set_pin(TlsPrivateKey *key, Error *err) {
        size_t size = TLS_PIN_BYTES;
        int r;

        r = gnutls_x509_privkey_get_key_id(key->key, GNUTLS_KEYID_USE_SHA256, key->pin.bytes, &size);
        return r < 0 ? tls_failed(err, r, "hash the public key") : 0;
}

/* GnuTLS exports the private value as a number, with 33 bytes if the first bit is set, and with fewer than 32
 * if the first byte is 0. RFC 5915, 3: it has 32, and strict readers reject others. Return whether it has. */
static int private_key_is_strict(const TlsPrivateKey *key) {
        gnutls_datum_t value = {};
        int r = gnutls_x509_privkey_export_ecc_raw(key->key, NULL, NULL, NULL, &value),
            size = (int) value.size;

        if (r < 0)
                return r;
        gnutls_memset(value.data, 0, value.size);
        gnutls_free(value.data);
        return size == PRIVATE_VALUE_SIZE;
}

int tls_private_key_new(TlsPrivateKey **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        int r = 0;

        while (r == 0) { /* twice, on average */
                tls_private_key_free(key);
                key = private_key_alloc();
                if (!key)
                        return error_set(err, -ENOMEM, "Failed to generate a key: out of memory");
                r = gnutls_x509_privkey_generate(key->key, GNUTLS_PK_ECDSA,
                                                 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
                if (r >= 0)
                        r = private_key_is_strict(key);
                if (r < 0)
                        return tls_failed(err, r, "generate a key");
        }
        TRY(private_key_set_pin(key, err));
        *ret = TAKE_PTR(key);
        return 0;
}

int tls_private_key_read(const char *pem, size_t size, TlsPrivateKey **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = private_key_alloc();
        gnutls_datum_t datum = { (unsigned char *) pem, size };
        gnutls_ecc_curve_t curve;
        int r;

        if (!key)
                return error_set(err, -ENOMEM, "Failed to read a private key: out of memory");
        if (size > TLS_LEAF_MAX)
                return error_set(err, -EINVAL, "not a private key: more than %u bytes", TLS_LEAF_MAX);

        r = gnutls_x509_privkey_import2(key->key, &datum, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return tls_failed(err, r, "read a private key");
        if (r < 0)
                return error_set(err, -EINVAL, "not a private key: %s", gnutls_strerror(r));
        if (gnutls_x509_privkey_get_pk_algorithm(key->key) != GNUTLS_PK_ECDSA ||
            gnutls_x509_privkey_export_ecc_raw(key->key, &curve, NULL, NULL, NULL) < 0 ||
            curve != GNUTLS_ECC_CURVE_SECP256R1)
                return error_set(err, -EINVAL, "not a private key of ECDSA with P-256");
        TRY(private_key_set_pin(key, err));
        *ret = TAKE_PTR(key);
        return 0;
}

int tls_private_key_print(const TlsPrivateKey *key, char **ret, size_t *ret_size, Error *err) {
        gnutls_datum_t pem = {};
        char *text;
        int r;

        r = gnutls_x509_privkey_export2_pkcs8(key->key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem);
        if (r < 0)
                return tls_failed(err, r, "export a private key");

        text = malloc(pem.size + 1);
        if (text) {
                memcpy(text, pem.data, pem.size);
                text[pem.size] = 0;
        }
        explicit_bzero(pem.data, pem.size);
        gnutls_free(pem.data);
        if (!text)
                return error_set(err, -ENOMEM, "Failed to export a private key: out of memory");
        *ret = text;
        *ret_size = strlen(text);
        return 0;
}

void tls_private_key_pin(const TlsPrivateKey *key, TlsPin *ret) {
        *ret = key->pin;
}

/* -- Requests -- */

DEFINE_CLEANUP(gnutls_x509_crq_t, gnutls_x509_crq_deinit);

int tls_request_create(const TlsPrivateKey *key, Text *ret, Error *err) {
        _cleanup_(gnutls_x509_crq_deinitp) gnutls_x509_crq_t request = NULL;
        gnutls_datum_t pem;
        int r;

        r = gnutls_x509_crq_init(&request);
        if (r < 0)
                return tls_failed(err, r, "create a certificate request");
        r = gnutls_x509_crq_set_version(request, 1);
        if (r < 0)
                return tls_failed(err, r, "create a certificate request");
        r = gnutls_x509_crq_set_key(request, key->key);
        if (r < 0)
                return tls_failed(err, r, "create a certificate request");
        r = gnutls_x509_crq_sign2(request, key->key, GNUTLS_DIG_SHA256, 0);
        if (r < 0)
                return tls_failed(err, r, "sign a certificate request");
        r = gnutls_x509_crq_export2(request, GNUTLS_X509_FMT_PEM, &pem);
        if (r < 0)
                return tls_failed(err, r, "export a certificate request");
        return tls_append_pem(&pem, ret, err);
}

/* Read and check a request; its public key goes to 'key', which is initialized. */
static int request_read(const char *pem, size_t size, gnutls_pubkey_t key, TlsPin *ret, Error *err) {
        _cleanup_(gnutls_x509_crq_deinitp) gnutls_x509_crq_t request = NULL;
        gnutls_datum_t datum = { (unsigned char *) pem, size };
        int r;

        if (size > TLS_LEAF_MAX)
                return error_set(err, -EBADMSG,
                                 "the certificate request has %zu bytes, and at most %u are allowed", size,
                                 TLS_LEAF_MAX);
        r = gnutls_x509_crq_init(&request);
        if (r < 0)
                return tls_failed(err, r, "read the certificate request");
        r = gnutls_x509_crq_import(request, &datum, GNUTLS_X509_FMT_PEM);
        if (r < 0)
                return tls_failed(err, r, "read the certificate request");
        r = gnutls_pubkey_import_x509_crq(key, request, 0);
        if (r < 0)
                return tls_failed(err, r, "read the public key of the certificate request");
        TRY(tls_public_key_read(key, "certificate request", ret, err));
        r = gnutls_x509_crq_verify(request, 0);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return tls_failed(err, r, "check the certificate request");
        if (r < 0)
                return error_set(err, -EBADMSG, "the certificate request is not signed with its own key: %s",
                                 gnutls_strerror(r));
        return 0;
}

int tls_request_read(const char *pem, size_t size, TlsPin *ret, Error *err) {
        _cleanup_(gnutls_pubkey_deinitp) gnutls_pubkey_t key = NULL;
        int r;

        r = gnutls_pubkey_init(&key);
        if (r < 0)
                return tls_failed(err, r, "read the certificate request");
        return request_read(pem, size, key, ret, err);
}

/* -- Certificates -- */

/* The fields of all certificates. The two highest bits of a serial are fixed: a positive number of 16 bytes.
 * Return 0 or an error of GnuTLS. */
static int certificate_begin(gnutls_x509_crt_t crt, const uint8_t serial[static TLS_SERIAL_BYTES],
                             uint64_t now_ms, uint64_t lifetime_ms) {
        uint8_t number[TLS_SERIAL_BYTES];

        memcpy(number, serial, sizeof(number));
        number[0] = (number[0] & 0x3f) | 0x40;

        TRY(gnutls_x509_crt_set_version(crt, 3));
        TRY(gnutls_x509_crt_set_serial(crt, number, sizeof(number)));
        TRY(gnutls_x509_crt_set_activation_time(crt,
                                                (time_t) ((now_ms - MIN(now_ms, TLS_BACKDATED_MS)) / 1000)));
        return gnutls_x509_crt_set_expiration_time(crt, (time_t) ((now_ms + lifetime_ms) / 1000));
}

static int certificate_end(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer, const TlsPrivateKey *key,
                           Text *ret, Error *err) {
        int r;

        r = gnutls_x509_crt_sign2(crt, issuer, key->key, GNUTLS_DIG_SHA256, 0);
        if (r < 0)
                return tls_failed(err, r, "sign a certificate");
        return tls_append_certificate(crt, ret, err);
}

/* Set the fields of a root. Return 0 or an error of GnuTLS. */
static int root_set(gnutls_x509_crt_t crt, const TlsPrivateKey *key, uint64_t cluster_id) {
        char name[32];

        snprintf(name, sizeof(name), "fleet %016llx", (unsigned long long) cluster_id);
        TRY(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, strlen(name)));
        TRY(gnutls_x509_crt_set_key(crt, key->key));
        TRY(gnutls_x509_crt_set_basic_constraints(crt, 1, 0));
        TRY(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN));
        return gnutls_x509_crt_set_subject_key_id(crt, key->pin.bytes, TLS_PIN_BYTES);
}

int tls_root_create(const TlsPrivateKey *key, uint64_t cluster_id,
                    const uint8_t serial[static TLS_SERIAL_BYTES], uint64_t now_ms, Text *ret, Error *err) {
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        r = gnutls_x509_crt_init(&crt);
        if (r < 0)
                return tls_failed(err, r, "create a root");
        r = certificate_begin(crt, serial, now_ms, TLS_ROOT_LIFETIME_MS);
        if (r < 0)
                return tls_failed(err, r, "create a root");
        r = root_set(crt, key, cluster_id);
        if (r < 0)
                return tls_failed(err, r, "create a root");
        return certificate_end(crt, crt, key, ret, err);
}

bool tls_name_is_valid(const char *name) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
        size_t size = strlen(name);

        if (text_is_ip_address(name))
                return true;
        if (size == 0 || size > NAME_MAX_BYTES)
                return false;
        for (const char *p = name; *p; p += p[0] == '.') {
                size_t label = strspn(p, letters);

                if (label == 0 || label > LABEL_MAX_BYTES || p[0] == '-' || p[label - 1] == '-' ||
                    (p[label] && (p[label] != '.' || !p[label + 1])))
                        return false;
                p += label;
        }
        return name[strspn(name, "0123456789.")] != 0; /* an address with an error */
}

static int issue_check(const TlsIssue *issue, Error *err) {
        if (issue->uri.role < 0 || issue->uri.role >= _TLS_ROLE_MAX ||
            !tls_uri_is_subject(issue->uri.role, issue->uri.subject))
                return error_set(err, -EINVAL, "Failed to issue a certificate: invalid role or subject");
        if (issue->n_names > TLS_NAMES_MAX || (issue->n_names > 0 && issue->uri.role != TLS_ROLE_LISTENER))
                return error_set(err, -EINVAL,
                                 "Failed to issue a certificate: up to %u names, for a listener only",
                                 TLS_NAMES_MAX);
        for (size_t i = 0; i < issue->n_names; i++)
                if (!tls_name_is_valid(issue->names[i]))
                        return error_set(err, -EINVAL, "Failed to issue a certificate: invalid name '%.80s'",
                                         issue->names[i]);
        if (issue->lifetime_ms == 0 || issue->lifetime_ms > TLS_USER_LIFETIME_MAX_MS)
                return error_set(err, -EINVAL, "Failed to issue a certificate: a lifetime is up to 365 days");
        return 0;
}

/* Return 0 or an error of GnuTLS. */
static int leaf_set_name(gnutls_x509_crt_t crt, const char *name) {
        uint8_t address[sizeof(struct in6_addr)];

        if (inet_pton(AF_INET, name, address) == 1)
                return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, address,
                                                            sizeof(struct in_addr), GNUTLS_FSAN_APPEND);
        if (inet_pton(AF_INET6, name, address) == 1)
                return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, address,
                                                            sizeof(struct in6_addr), GNUTLS_FSAN_APPEND);
        return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, strlen(name),
                                                    GNUTLS_FSAN_APPEND);
}

static int leaf_set_names(gnutls_x509_crt_t crt, const TlsIssue *issue) {
        char common[COMMON_NAME_MAX + 1], uri[TLS_URI_SIZE];
        const char *name = issue->common_name ?: "";
        int r = 0;

        snprintf(common, sizeof(common), "%s", *name ? name : issue->uri.subject);
        for (char *p = common; *p; p++)
                if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
                        *p = '?';
        TRY(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, common, strlen(common)));
        tls_uri_print(&issue->uri, uri);
        r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, uri, strlen(uri), GNUTLS_FSAN_SET);
        for (size_t i = 0; i < issue->n_names && r >= 0; i++)
                r = leaf_set_name(crt, issue->names[i]);
        return r;
}

static int leaf_set(gnutls_x509_crt_t crt, const TlsIssue *issue, const TlsPrivateKey *ca_key) {
        TRY(certificate_begin(crt, issue->serial, issue->now_ms, issue->lifetime_ms));
        TRY(leaf_set_names(crt, issue));
        TRY(gnutls_x509_crt_set_basic_constraints(crt, 0, -1));
        TRY(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE));
        for (unsigned i = 0; i < TLS_PURPOSES; i++)
                if (tls_role_purposes[issue->uri.role] & 1u << i)
                        TRY(gnutls_x509_crt_set_key_purpose_oid(crt, tls_purpose_oids[i], 0));
        return gnutls_x509_crt_set_authority_key_id(crt, ca_key->pin.bytes, TLS_PIN_BYTES);
}

int tls_issue(const TlsIssue *issue, const TlsPrivateKey *ca_key, Text *ret, Error *err) {
        _cleanup_(gnutls_pubkey_deinitp) gnutls_pubkey_t key = NULL;
        _cleanup_(gnutls_x509_crt_deinitp) gnutls_x509_crt_t crt = NULL, root = NULL;
        TlsCertificate root_fields;
        TlsPin pin;
        int r;

        TRY(issue_check(issue, err));
        TRY(tls_root_read(&(gnutls_datum_t) { (unsigned char *) issue->root, issue->root_size },
                          GNUTLS_X509_FMT_PEM, &root, &root_fields, err));
        if (!tls_pin_equal(&root_fields.pin, &ca_key->pin))
                return error_set(err, -EINVAL,
                                 "Failed to issue a certificate: the key is not that of the root");

        r = gnutls_pubkey_init(&key);
        if (r < 0)
                return tls_failed(err, r, "issue a certificate");
        TRY(request_read(issue->request, issue->request_size, key, &pin, err));
        r = gnutls_x509_crt_init(&crt);
        if (r < 0)
                return tls_failed(err, r, "issue a certificate");
        r = gnutls_x509_crt_set_pubkey(crt, key);
        if (r < 0)
                return tls_failed(err, r, "issue a certificate");
        r = leaf_set(crt, issue, ca_key);
        if (r < 0)
                return tls_failed(err, r, "issue a certificate");
        return certificate_end(crt, root, ca_key, ret, err);
}
