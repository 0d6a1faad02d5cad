/* Shared by io/tls_issue.c, which creates certificates, io/tls_verify.c, which reads them, and
 * io/tls_credentials.c, which uses them. No other file includes this header. */
#pragma once

#include "io/tls_roles.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

enum {
        TLS_PURPOSES = 2,
        TLS_BACKDATED_MS = 3600000, /* certificates are valid from an hour before their issue */
};

/* Extended key usage: the OIDs, and bits of them by role. */
extern const char *const tls_purpose_oids[TLS_PURPOSES];
extern const unsigned tls_role_purposes[_TLS_ROLE_MAX];

DEFINE_CLEANUP(gnutls_x509_crt_t, gnutls_x509_crt_deinit);
DEFINE_CLEANUP(gnutls_pubkey_t, gnutls_pubkey_deinit);

/* Set a message for an error of GnuTLS: "Failed to WHAT: ...". Return -ENOMEM or -EBADMSG. */
int tls_failed(Error *err, int gnutls_error, const char *what);

/* Check that a public key is of P-256, and set its pin. 'whose': "certificate". -EBADMSG, -ENOMEM. */
int tls_public_key_read(gnutls_pubkey_t key, const char *whose, TlsPin *ret, Error *err);

/* Read a certificate and check that it is a root. -EBADMSG, -ENOMEM. */
int tls_root_read(const gnutls_datum_t *bytes, gnutls_x509_crt_fmt_t format, gnutls_x509_crt_t *ret,
                  TlsCertificate *ret_fields, Error *err);

/* Return whether a subject may stand in the URI of a certificate of that role. */
bool tls_uri_is_subject(TlsRole role, const char *s);

/* Append 'pem', which is freed; a certificate in PEM. -EBADMSG, -ENOMEM. */
int tls_append_pem(gnutls_datum_t *pem, Text *ret, Error *err);
int tls_append_certificate(gnutls_x509_crt_t crt, Text *ret, Error *err);
