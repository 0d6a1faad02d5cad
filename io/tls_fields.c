/* Names and keys in certificates: roles, pins, URIs. */
#include "io/tls_roles_internal.h"

#include "base/parse.h"

enum { HEX_ID_DIGITS = 16 };

static const char scheme[] = "fleet://";

const char *const tls_role_names[_TLS_ROLE_MAX] = {
        [TLS_ROLE_HOST] = "host",
        [TLS_ROLE_REPLICA] = "replica",
        [TLS_ROLE_USER] = "user",
        [TLS_ROLE_LISTENER] = "listener",
};

int tls_failed(Error *err, int gnutls_error, const char *what) {
        if (gnutls_error == GNUTLS_E_MEMORY_ERROR)
                return error_set(err, -ENOMEM, "Failed to %s: out of memory", what);
        return error_set(err, -EBADMSG, "Failed to %s: %s", what, gnutls_strerror(gnutls_error));
}

bool tls_pin_equal(const TlsPin *a, const TlsPin *b) {
        return memcmp(a, b, sizeof(*a)) == 0;
}

void tls_pin_print(const TlsPin *pin, char ret[static TLS_PIN_SIZE]) {
        hex_print(pin->bytes, TLS_PIN_BYTES, ret);
}

int tls_pin_parse(const char *s, TlsPin *ret) {
        return parse_hex_id(s, 2 * TLS_PIN_BYTES) < 0 ? -EINVAL : hex_read(s, ret->bytes, TLS_PIN_BYTES);
}

int tls_public_key_read(gnutls_pubkey_t key, const char *whose, TlsPin *ret, Error *err) {
        size_t size = TLS_PIN_BYTES;
        gnutls_ecc_curve_t curve;
        unsigned bits = 0;
        int r;

        r = gnutls_pubkey_get_pk_algorithm(key, &bits);
        if (r != GNUTLS_PK_ECDSA)
                return error_set(err, -EBADMSG,
                                 "the key of the %s is of type %s with %u bits, not ECDSA with P-256", whose,
                                 r < 0 ? "unknown" : gnutls_pk_get_name(r), bits);
        r = gnutls_pubkey_export_ecc_raw2(key, &curve, NULL, NULL, 0);
        if (r < 0)
                return tls_failed(err, r, "read the public key");
        if (curve != GNUTLS_ECC_CURVE_SECP256R1)
                return error_set(err, -EBADMSG, "the key of the %s is on the curve %s, not on P-256", whose,
                                 gnutls_ecc_curve_get_name(curve) ?: "unknown");

        r = gnutls_pubkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, ret->bytes, &size);
        return r < 0 ? tls_failed(err, r, "hash the public key") : 0;
}

void tls_uri_print(const TlsUri *uri, char ret[static TLS_URI_SIZE]) {
        snprintf(ret, TLS_URI_SIZE, "%s%016llx/%s/%s", scheme, (unsigned long long) uri->cluster_id,
                 tls_role_names[uri->role], uri->subject);
}

static bool uri_is_user_name(const char *s) {
        static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
        static const char other[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";

        return *s && strchr(first, *s) && s[strspn(s, other)] == 0;
}

bool tls_uri_is_subject(TlsRole role, const char *s) {
        return strlen(s) < TLS_SUBJECT_SIZE &&
               (role == TLS_ROLE_USER ? uri_is_user_name(s) : parse_hex_id(s, 32) >= 0);
}

/* Check the bytes that no URI of this format has, for messages that name the fault. */
static int uri_check_bytes(const char *s, size_t size, Error *err) {
        if (size >= TLS_URI_SIZE)
                return error_set(err, -EBADMSG,
                                 "the URI of the certificate has %zu bytes, and at most %u are allowed", size,
                                 TLS_URI_SIZE - 1);
        if (memchr(s, 0, size))
                return error_set(err, -EBADMSG, "the URI of the certificate contains a NUL byte");
        if (memchr(s, '%', size))
                return error_set(err, -EBADMSG, "the URI of the certificate contains a percent escape");
        for (size_t i = 0; i < size; i++)
                if (s[i] >= 'A' && s[i] <= 'Z')
                        return error_set(err, -EBADMSG,
                                         "the URI of the certificate contains an upper-case letter");
        if (size > 0 && s[size - 1] == '/')
                return error_set(err, -EBADMSG, "the URI of the certificate ends with '/'");
        if (size < strlen(scheme) || memcmp(s, scheme, strlen(scheme)) != 0)
                return error_set(err, -EBADMSG, "the URI of the certificate does not begin with '%s'",
                                 scheme);
        return 0;
}

int tls_uri_read(const void *bytes, size_t size, TlsUri *ret, Error *err) {
        char text[TLS_URI_SIZE] = "", again[TLS_URI_SIZE];
        char *cluster, *role, *subject, *save = NULL;
        TlsUri uri = {};

        TRY(uri_check_bytes(bytes, size, err));

        memcpy(text, bytes, size);
        cluster = strtok_r(text + strlen(scheme), "/", &save);
        role = strtok_r(NULL, "/", &save);
        subject = strtok_r(NULL, "", &save);
        if (!subject || parse_hex_id(cluster, HEX_ID_DIGITS) < 0)
                return error_set(err, -EBADMSG, "the URI of the certificate is not %sCLUSTER/ROLE/SUBJECT",
                                 scheme);

        uri.cluster_id = strtoull(cluster, NULL, 16);
        uri.role = parse_name(role, tls_role_names, _TLS_ROLE_MAX);
        if (uri.role < 0)
                return error_set(err, -EBADMSG, "the URI of the certificate has an unknown role");
        if (!tls_uri_is_subject(uri.role, subject))
                return error_set(err, -EBADMSG, "the URI of the certificate names no valid %s",
                                 uri.role == TLS_ROLE_USER ? "user" : "machine ID");
        memcpy(uri.subject, subject, strlen(subject));

        /* strtok_r() skips repeated slashes. */
        tls_uri_print(&uri, again);
        if (strlen(again) != size || memcmp(again, bytes, size) != 0)
                return error_set(err, -EBADMSG, "the URI of the certificate has an empty part");
        *ret = uri;
        return 0;
}

/* Append 'pem', which is freed, to 'ret'. */
int tls_append_pem(gnutls_datum_t *pem, Text *ret, Error *err) {
        text_append_bytes(ret, pem->data, pem->size);
        gnutls_free(pem->data);
        return ret->error < 0 ? error_set(err, -ENOMEM, "Failed to export a certificate: out of memory") : 0;
}

int tls_append_certificate(gnutls_x509_crt_t crt, Text *ret, Error *err) {
        gnutls_datum_t pem;
        int r;

        r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
        if (r < 0)
                return tls_failed(err, r, "export a certificate");
        return tls_append_pem(&pem, ret, err);
}
