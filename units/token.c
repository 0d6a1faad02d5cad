#include "units/token.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "base/parse.h"
#include "units/hash.h"

enum { TOKEN_VERSION = 1, CHECKSUM_SIZE = 4 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void token_print(const Token *token, Text *ret) {
        uint8_t bytes[TOKEN_TEXT_MAX], id[TOKEN_ID_BYTES] = {};
        Text w = { .bytes = bytes,
                   .capacity = sizeof(bytes) }; /* on the stack: nothing frees the secret unwiped */

        write_u8(&w, TOKEN_VERSION);
        write_u64(&w, token->cluster_id);
        write_raw(&w, token->root, TOKEN_ROOT_BYTES);
        (void) hex_read(token->id, id, TOKEN_ID_BYTES);
        write_raw(&w, id, TOKEN_ID_BYTES);
        write_raw(&w, token->secret, TOKEN_SECRET_BYTES);
        write_u8(&w, token->n_endpoints);
        for (unsigned i = 0; i < token->n_endpoints; i++) {
                write_u8(&w, strlen(token->endpoints[i]));
                write_raw(&w, token->endpoints[i], strlen(token->endpoints[i]));
        }
        write_u32(&w, crc32c(0, w.bytes, w.size));
        assert(w.bytes == bytes && w.error == 0);

        text_append(ret, TOKEN_PREFIX);
        text_append_base64(ret, w.bytes, w.size, true);
        explicit_bzero(bytes, sizeof(bytes));
}

/* Read a record up to its checksum. A reader that failed is a record that ended early. */
static int token_read_record(Reader *r, Token *ret) {
        const uint8_t *p;
        unsigned n;

        (void) read_u8(r); /* the version */
        ret->cluster_id = read_u64(r);
        p = read_raw(r, TOKEN_ROOT_BYTES);
        if (p)
                memcpy(ret->root, p, TOKEN_ROOT_BYTES);
        p = read_raw(r, TOKEN_ID_BYTES);
        if (p)
                hex_print(p, TOKEN_ID_BYTES, ret->id);
        p = read_raw(r, TOKEN_SECRET_BYTES);
        if (p)
                memcpy(ret->secret, p, TOKEN_SECRET_BYTES);

        n = read_u8(r);
        if (n > TOKEN_ENDPOINTS_MAX)
                return -EBADMSG;
        for (ret->n_endpoints = 0; ret->n_endpoints < n && !r->failed; ret->n_endpoints++) {
                char *endpoint = ret->endpoints[ret->n_endpoints], host[ADDRESS_SIZE];
                size_t size = read_u8(r);
                uint16_t port;

                if (size >= ADDRESS_SIZE)
                        return -EBADMSG;
                p = read_raw(r, size);
                if (!p)
                        break;
                memcpy(endpoint, p, size);
                if (strlen(endpoint) != size || parse_address(endpoint, host, sizeof(host), &port) < 0)
                        return -EBADMSG;
        }
        return 0;
}

static bool token_has_checksum(const uint8_t *bytes, size_t size) {
        Reader r;

        if (size <= CHECKSUM_SIZE)
                return false;
        r = reader_over(bytes + size - CHECKSUM_SIZE, CHECKSUM_SIZE);
        return read_u32(&r) == crc32c(0, bytes, size - CHECKSUM_SIZE);
}

/* Read the record of a token. 'exact': its characters are those that encode 'bytes', and no others. */
static int token_decode(const uint8_t *bytes, size_t size, bool exact, Token *ret, Error *err) {
        Reader r = reader_over(bytes, size);
        uint32_t checksum, expected;
        int error;

        /* A token of each version ends in its checksum. */
        if (size > 0 && bytes[0] != TOKEN_VERSION && !token_has_checksum(bytes, size))
                return error_set(
                        err, -EINVAL,
                        "not a token, or not a whole one: copy the line that 'fleetctl token' prints "
                        "on a host of the cluster");
        if (size > 0 && bytes[0] != TOKEN_VERSION)
                return error_set(err, -EPROTONOSUPPORT,
                                 "the token has version %u, and this program knows version %u only: "
                                 "install the version of the cluster",
                                 bytes[0], TOKEN_VERSION);

        error = token_read_record(&r, ret);
        expected = crc32c(0, bytes, size - r.left);
        checksum = read_u32(&r);
        if (r.failed)
                return error_set(err, -ENODATA,
                                 "the token is truncated: copy the whole line that 'fleetctl token' printed");
        if (error < 0 || checksum != expected || r.left > 0 || !exact)
                return error_set(
                        err, -EBADMSG,
                        "the token has a wrong checksum: a character was changed; copy the line that "
                        "'fleetctl token' printed again");
        return 0;
}

/* Decode base64 as far as the characters go: a truncated text ends at any of them. */
static int token_read_base64(const char *s, Token *ret, Error *err) {
        char padded[TOKEN_TEXT_MAX + 4];
        size_t n = strlen(s), size;
        char *bytes;
        int r;

        memcpy(padded, s, n);
        memset(padded + n, 'A', 4);
        r = base64_decode(padded, (n + 3) / 4 * 4, &bytes, &size);
        if (r >= 0) {
                size_t whole = n * 6 / 8;

                bool exact = n % 4 == 0 || (n % 4 != 1 && bytes[whole] == 0);

                r = token_decode((uint8_t *) bytes, whole, exact, ret, err);
                explicit_bzero(bytes, size);
                free(bytes);
        }
        explicit_bzero(padded, sizeof(padded));
        return r;
}

int token_read(const char *text, Token *ret, Error *err) {
        const char *s = text + strlen(TOKEN_PREFIX);
        Token token = {};
        int r;

        if (!starts_with(text, TOKEN_PREFIX) || strlen(text) > TOKEN_TEXT_MAX ||
            strspn(s, alphabet) != strlen(s))
                return error_set(err, -EINVAL,
                                 "not a token: expected '" TOKEN_PREFIX
                                 "' and letters, digits, '-' and '_', as "
                                 "'fleetctl token' prints it on a host of the cluster");

        r = token_read_base64(s, &token, err);
        if (r >= 0)
                *ret = token;
        explicit_bzero(&token, sizeof(token));
        return r;
}

int token_secret_hash(const uint8_t secret[static TOKEN_SECRET_BYTES], char ret[static TOKEN_HASH_SIZE]) {
        return bytes_sha256(secret, TOKEN_SECRET_BYTES, ret);
}
