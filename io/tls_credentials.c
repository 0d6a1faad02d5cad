#include "io/tls_credentials.h"

#include "io/tls_roles_internal.h"

/* As in tls.c for the pre-shared key; signatures are those of the certificates. */
#define SUITES                                                                                              \
        ":-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:-SIGN-ALL:" \
        "+SIGN-ECDSA-SECP256R1-SHA256"
static const char certificate_priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-ECDSA" SUITES;
static const char both_priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-ECDSA:+ECDHE-PSK" SUITES;

struct TlsCredentials {
        unsigned refs;
        gnutls_certificate_credentials_t gnutls;
        gnutls_priority_t priority, both; /* 'both': in addition to a pre-shared key */
        TlsRoots *roots;
        bool has_certificate;
        TlsCertificate certificate;
};

TlsCredentials *tls_credentials_ref(const TlsCredentials *credentials) {
        TlsCredentials *c = (TlsCredentials *) credentials;

        if (c)
                c->refs++;
        return c;
}

TlsCredentials *tls_credentials_free(TlsCredentials *c) {
        if (!c || --c->refs > 0)
                return NULL;

        if (c->gnutls)
                gnutls_certificate_free_credentials(c->gnutls);
        if (c->priority)
                gnutls_priority_deinit(c->priority);
        if (c->both)
                gnutls_priority_deinit(c->both);
        tls_roots_free(c->roots);
        free(c);
        return NULL;
}

/* Set key, certificate and roots. */
static int credentials_set(TlsCredentials *c, const TlsPrivateKey *key, const char *certificate,
                           const char *roots, Error *err) {
        _cleanup_text_ Text chain = {};
        gnutls_datum_t chain_pem, key_pem;
        char *secret;
        size_t size;
        TlsPin pin;
        int r;

        TRY(tls_certificate_read(certificate, strlen(certificate), &c->certificate, err));
        tls_private_key_pin(key, &pin);
        if (c->certificate.uri.role < 0 || !tls_pin_equal(&pin, &c->certificate.pin))
                return error_set(err, -EINVAL, "the certificate of this host is not for its key");
        c->has_certificate = true;
        TRY(tls_roots_read(roots, strlen(roots), &c->roots, err));
        TRY(tls_roots_chain(c->roots, certificate, strlen(certificate), &chain, err));

        TRY(tls_private_key_print(key, &secret, &size, err));
        chain_pem = (gnutls_datum_t) { chain.bytes, chain.size };
        key_pem = (gnutls_datum_t) { (unsigned char *) secret, size };
        r = gnutls_certificate_set_x509_key_mem2(c->gnutls, &chain_pem, &key_pem, GNUTLS_X509_FMT_PEM, NULL,
                                                 0);
        tls_secret_free(secret, size);
        return r < 0 ? tls_failed(err, r, "use the certificate of this host") : 0;
}

int tls_credentials_new(const TlsPrivateKey *key, const char *certificate, const char *roots,
                        TlsCredentials **ret, Error *err) {
        _cleanup_(tls_credentials_freep) TlsCredentials *c = NEW0(TlsCredentials, 1);
        int r;

        if (!c)
                return error_set(err, -ENOMEM, "Failed to use certificates: out of memory");
        c->refs = 1;
        r = gnutls_certificate_allocate_credentials(&c->gnutls);
        if (r < 0)
                return tls_failed(err, r, "use certificates");
        r = gnutls_priority_init(&c->priority, certificate_priorities, NULL);
        if (r < 0)
                return tls_failed(err, r, "use certificates");
        r = gnutls_priority_init(&c->both, both_priorities, NULL);
        if (r < 0)
                return tls_failed(err, r, "use certificates");
        if (key)
                TRY(credentials_set(c, key, certificate, roots, err));
        *ret = TAKE_PTR(c);
        return 0;
}

const TlsRoots *tls_credentials_roots(const TlsCredentials *credentials) {
        return credentials->roots;
}

const TlsCertificate *tls_credentials_certificate(const TlsCredentials *credentials) {
        return credentials && credentials->has_certificate ? &credentials->certificate : NULL;
}

int tls_credentials_use(const TlsCredentials *credentials, gnutls_session_t session, bool with_key) {
        if (gnutls_priority_set(session, with_key ? credentials->both : credentials->priority) < 0 ||
            gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->gnutls) < 0)
                return -ENOMEM;
        return 0;
}
