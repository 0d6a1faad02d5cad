/* The credentials of this host in TLS with certificates: its private key, its certificate, and roots.
 */
#pragma once

#include "io/tls_roles.h"

struct gnutls_session_int;

/* Immutable and counted: handshakes in progress keep it while its owner replaces it. */
typedef struct TlsCredentials TlsCredentials;

/* 'certificate' and 'roots' are PEM, terminated; nothing is borrowed. The root that signed the certificate is
 * sent with it, so that a joining host finds it by the pin of its token. With 'key' NULL, the credentials
 * present no certificate: those of a joining host; then 'certificate' and 'roots' are NULL, too. Errors with
 * a message:
 *   -EBADMSG   the certificate or the roots cannot be read
 *   -EINVAL    the certificate is not for this key
 *   -ENOMEM */
int tls_credentials_new(const TlsPrivateKey *key, const char *certificate, const char *roots,
                        TlsCredentials **ret, Error *err);
TlsCredentials *tls_credentials_ref(const TlsCredentials *credentials);
TlsCredentials *tls_credentials_free(TlsCredentials *credentials); /* drops a reference; returns NULL */
DEFINE_CLEANUP(TlsCredentials *, tls_credentials_free);

const TlsRoots *tls_credentials_roots(const TlsCredentials *credentials); /* NULL: none */
/* Return the certificate of this host, or NULL. */
const TlsCertificate *tls_credentials_certificate(const TlsCredentials *credentials);

/* For tls.c: use the credentials in a session; 'with_key': in addition to a pre-shared key. The credentials
 * must exist until the session ends. 0 or -ENOMEM. */
int tls_credentials_use(const TlsCredentials *credentials, struct gnutls_session_int *session, bool with_key);
