/* Any bytes as a URI, a request, a certificate in PEM or DER, roots, a private key and a pin. An accepted URI
 * and pin have one spelling; no certificate of other bytes than those that the CA signed is accepted by its
 * chain. */

#include "io/tls_roles.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void uri(const uint8_t *bytes, size_t size) {
        char again[TLS_URI_SIZE];
        Error err = {};
        TlsUri uri;

        if (tls_uri_read(bytes, size, &uri, &err) < 0) {
                assert(err.message[0]);
                return;
        }
        tls_uri_print(&uri, again);
        assert(strlen(again) == size && memcmp(again, bytes, size) == 0);
}

static void pin(const char *text) {
        char again[TLS_PIN_SIZE];
        TlsPin pin;

        if (tls_pin_parse(text, &pin) < 0)
                return;
        tls_pin_print(&pin, again);
        assert(streq(again, text));
}

static void known(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        assert(role >= 0 && role < _TLS_ROLE_MAX && strlen(subject) < TLS_SUBJECT_SIZE);
        ret->chain_counts = true;
}

/* Verify against roots that are the same bytes. */
static void chain(const uint8_t *bytes, size_t size, const TlsRoots *roots) {
        TlsPin root_pin = {};
        TlsCheck check = { .cluster_id = 1, .roles = ~0u, .roots = roots, .known = known };
        TlsVerified v;
        Error err = {};

        for (unsigned i = 0; i < 2; i++) {
                if (tls_verify((TlsDer[]) { { bytes, size }, { bytes, size } }, 2, &check, &v, &err) >= 0)
                        assert(v.leaf.uri.cluster_id == 1 && !v.by_pin);
                else
                        assert(err.message[0]);
                check.root_pin = &root_pin;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_(tls_roots_freep) TlsRoots *roots = NULL;
        _cleanup_free_ char *text = malloc(size + 1);
        TlsCertificate certificate;
        TlsPin request;

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;

        uri(bytes, size);
        pin(text);
        (void) tls_request_read(text, size, &request, NULL);
        if (tls_certificate_read(text, size, &certificate, NULL) >= 0)
                assert(certificate.uri.role < _TLS_ROLE_MAX);
        if (tls_roots_read(text, size, &roots, NULL) >= 0)
                assert(tls_roots_count(roots) >= 1 && tls_roots_count(roots) <= TLS_ROOTS_MAX);
        (void) tls_private_key_read(text, size, &key, NULL);
        chain(bytes, size, roots);
        return 0;
}
