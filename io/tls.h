/* TLS 1.3 with a pre-shared key between hosts: a Stream over a Stream (the one home of gnutls). */
#pragma once

#include "base/error.h"
#include "io/stream.h"

/* The cluster's secret, read from a file: 32 to 64 bytes as hex digits on one line. The file must belong to
 * us and be readable by nobody else; errors say what to do ("openssl rand -hex 32 >FILE; chmod 600 FILE"). */
typedef struct TlsKey TlsKey;

int tls_key_read(const char *path, TlsKey **ret, Error *err);
TlsKey *tls_key_free(TlsKey *key); /* wipes it; returns NULL */

typedef enum TlsSide { TLS_CLIENT, TLS_SERVER } TlsSide;

/* A handshake under way; gone with 'done' or tls_cancel(). */
typedef struct TlsHandshake TlsHandshake;

/* Puts TLS over 'inner', which it owns from now on (also after failure). 'done' comes once, from the loop and
 * never from inside this call: the paused secure stream, or NULL, a negative errno (-EKEYREJECTED: the other
 * side has another key, or none; -ETIMEDOUT after 10 s) and a sentence that is borrowed for the call. 'key'
 * is not needed after 'done'. 'ret' (may be NULL) is for tls_cancel(). Fails with -ENOMEM, then 'done' does
 * not come. */
int tls_start(Loop *loop, Stream *inner, const TlsKey *key, TlsSide side,
              void (*done)(void *userdata, Stream *secure, int error, const char *reason), void *userdata,
              TlsHandshake **ret);

/* Gives a handshake up and closes its inner stream: 'done' will not be called. */
void tls_cancel(TlsHandshake *handshake);
