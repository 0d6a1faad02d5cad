/* TLS 1.3 with a pre-shared key between hosts: a Stream over a Stream. */
#pragma once

#include "io/stream.h"

/* The cluster's key, read from a file: 32 to 64 bytes as hex digits on one line. This user must own the file,
 * and no other user may read it. Errors name the remedy ("openssl rand -hex 32 >FILE; chmod 600 FILE"). */
typedef struct TlsKey TlsKey;

int tls_key_read(const char *path, TlsKey **ret, Error *err);
TlsKey *tls_key_free(TlsKey *key); /* wipes the key; returns NULL */

typedef enum TlsSide { TLS_CLIENT, TLS_SERVER } TlsSide;

/* A handshake in progress; freed after 'done' or tls_cancel(). */
typedef struct TlsHandshake TlsHandshake;

typedef void TlsDone(void *userdata, Stream *secure, int error, const char *reason);

/* Begin TLS over 'inner', and take it, also on failure (-ENOMEM). 'done' is called once, from the loop, never
 * from inside this call, and not after a failure: with the paused secure stream, or with NULL, a message that
 * is borrowed for the call, and a negative errno:
 *   -EKEYREJECTED   the peer has another key, or none
 *   -ETIMEDOUT      after 10 s
 * 'key' may be freed after 'done'. *ret is for tls_cancel(); 'ret' may be NULL. */
int tls_start(Loop *loop, Stream *inner, const TlsKey *key, TlsSide side, TlsDone *done, void *userdata,
              TlsHandshake **ret);

/* Cancel a handshake and close its inner stream. 'done' is not called. */
void tls_cancel(TlsHandshake *handshake);
