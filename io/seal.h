/* Secrets at rest: random bytes, and authenticated encryption (ChaCha20-Poly1305, RFC 8439). */
#pragma once

#include "base/text.h"

enum {
        SEAL_KEY_BYTES = 32,
        SEAL_OVERHEAD = 28, /* bytes: nonce and tag */
};

/* Fill 'ret' with unpredictable bytes. 0 or -EIO. */
int secret_random(void *ret, size_t size);

/* Append to 'ret' a random nonce, and 'secret' encrypted under 'key'. 'context' is authenticated, but neither
 * encrypted nor stored: unseal() needs the same. 0 or -EIO; Text.error reports a lack of memory. */
int seal(const uint8_t key[static SEAL_KEY_BYTES], const void *context, size_t context_size,
         const void *secret, size_t size, Text *ret);
/* Return the secret, terminated, for tls_secret_free(). -EBADMSG: another key or context, or changed bytes.
 */
int unseal(const uint8_t key[static SEAL_KEY_BYTES], const void *context, size_t context_size,
           const void *sealed, size_t sealed_size, char **ret, size_t *ret_size);
