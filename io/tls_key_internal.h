/* The pre-shared key of a cluster as tls_key.c reads it, for tls.c. */
#pragma once

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdint.h>

enum { TLS_KEY_MIN = 32, TLS_KEY_MAX = 64 }; /* bytes */

extern const char tls_key_name[]; /* that both ends give to the key */

struct TlsKey {
        unsigned refs; /* sessions use the credentials */
        size_t size;
        uint8_t bytes[TLS_KEY_MAX];
        gnutls_priority_t priority;
        gnutls_psk_client_credentials_t client;
        gnutls_psk_server_credentials_t server;
};
