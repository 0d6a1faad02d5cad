/* Text of a token, which permits hosts to join a cluster: "fleet1-" and base64url of a record.
 *
 * The record, little-endian: u8 version, u64 cluster ID, 32 bytes SHA-256 of the public key of the cluster's
 * root, 6 bytes ID, 16 bytes secret, u8 number of endpoints, the endpoints (u8 size, bytes), u32 CRC-32C of
 * all bytes before. A joining host trusts the server that proves this root, and sends the secret only to it.
 */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"

#define TOKEN_PREFIX "fleet1-"

enum {
        TOKEN_ROOT_BYTES = 32,
        TOKEN_ID_BYTES = 6,
        TOKEN_ID_SIZE = 2 * TOKEN_ID_BYTES + 1, /* 12 lower-case hex digits with their terminator */
        TOKEN_SECRET_BYTES = 16,
        TOKEN_HASH_SIZE = 65, /* 64 lower-case hex digits with their terminator */
        TOKEN_ENDPOINTS_MAX = 3,
        TOKEN_TEXT_MAX = 512, /* characters; a longer text is not a token */
};

/* Plain value; strings are terminated. It contains a secret: wipe it with explicit_bzero(). */
typedef struct Token {
        uint64_t cluster_id;
        uint8_t root[TOKEN_ROOT_BYTES];
        char id[TOKEN_ID_SIZE];
        uint8_t secret[TOKEN_SECRET_BYTES];
        unsigned n_endpoints;
        char endpoints[TOKEN_ENDPOINTS_MAX][ADDRESS_SIZE]; /* "ADDR:PORT" or "[ADDR6]:PORT" */
} Token;

/* Append the text to 'ret', whose own error reports a lack of memory. */
void token_print(const Token *token, Text *ret);
/* Read a text; surrounding spaces are errors. No message quotes any part of it. On failure, *ret is
 * untouched. Errors:
 *   -EINVAL           not a token
 *   -ENODATA          truncated
 *   -EBADMSG          wrong checksum: a character was changed
 *   -EPROTONOSUPPORT  of a version that this program does not know
 *   -ENOMEM */
int token_read(const char *text, Token *ret, Error *err);

/* Write the SHA-256 of a secret, which the cluster stores in place of it. 0 or -EOPNOTSUPP. */
int token_secret_hash(const uint8_t secret[static TOKEN_SECRET_BYTES], char ret[static TOKEN_HASH_SIZE]);
