/* TLS 1.3 between hosts, with a pre-shared key or with certificates: a Stream over a Stream. */
#pragma once

#include "io/stream.h"
#include "io/tls_credentials.h"

/* The cluster's key, read from a file: 32 to 64 bytes as hex digits on one line. This user must own the file,
 * and no other user may read it. Errors name the remedy ("openssl rand -hex 32 >FILE; chmod 600 FILE"). */
typedef struct TlsKey TlsKey;

int tls_key_read(const char *path, TlsKey **ret, Error *err);
TlsKey *tls_key_free(TlsKey *key); /* wipes the key; returns NULL */

typedef enum TlsSide { TLS_CLIENT, TLS_SERVER } TlsSide;

/* 'key' and 'credentials' may be freed after tls_start(). A server accepts either, if both are set. A client
 * uses the credentials if they are set, otherwise the key. */
typedef struct TlsOptions {
        TlsSide side;
        const TlsKey *key;                 /* or NULL */
        const TlsCredentials *credentials; /* or NULL */
        TlsCheck check; /* of the peer's certificate; 'now_ms' and 'roots' have no effect: the clock of the
                         * loop and the roots of 'credentials' count. Its pointers are borrowed until 'done'.
                         */
        bool anonymous; /* a server accepts a client without a certificate: a joining host */
        /* A server: what a client gets that does not begin with TLS, before the connection ends, with
         * -EPROTO. Static; NULL: a TLS alert. */
        const char *to_plain;
} TlsOptions;

/* How a peer was authenticated. */
typedef enum TlsPeerKind {
        TLS_PEER_ANONYMOUS,   /* not at all: it sent no certificate */
        TLS_PEER_KEY,         /* by the pre-shared key */
        TLS_PEER_CERTIFICATE, /* by a certificate that tls_verify() accepted */
        TLS_PEER_REJECTED, /* to a server: it has the key of a certificate of this cluster that is rejected.
                            * Send the message, and close. */
} TlsPeerKind;

typedef struct TlsPeer {
        TlsPeerKind kind;
        TlsVerified verified;  /* TLS_PEER_CERTIFICATE */
        const Error *rejected; /* TLS_PEER_REJECTED */
} TlsPeer;

/* Return how the peer of a secure stream was authenticated. Borrowed from the stream. */
const TlsPeer *tls_peer(const Stream *secure);

/* A handshake in progress; freed after 'done' or tls_cancel(). */
typedef struct TlsHandshake TlsHandshake;

typedef void TlsDone(void *userdata, Stream *secure, int error, const char *reason);

/* Begin TLS over 'inner', and take it, also on failure (-ENOMEM). 'done' is called once, from the loop, never
 * from inside this call, and not after a failure: with the paused secure stream, or with NULL, a message that
 * is borrowed for the call, and a negative errno:
 *   -EKEYREJECTED   the peer has another key, or none, or rejected the certificate of this host
 *   -ETIMEDOUT      a client after 10 s; a server after 1 s without a byte, or 5 s
 *   others          of tls_verify()
 * In TLS 1.3 a client is done before the server has checked its certificate. The first bytes from the server
 * are the confirmation. *ret is for tls_cancel(); 'ret' may be NULL. */
int tls_start(Loop *loop, Stream *inner, const TlsOptions *options, TlsDone *done, void *userdata,
              TlsHandshake **ret);

/* Return whether a byte has arrived. */
bool tls_has_input(const TlsHandshake *handshake);
/* Cancel a handshake and close its inner stream. 'done' is not called. */
void tls_cancel(TlsHandshake *handshake);
