#include "io/seal.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

enum { NONCE_BYTES = 12, TAG_BYTES = 16 };

int secret_random(void *ret, size_t size) {
        return gnutls_rnd(GNUTLS_RND_KEY, ret, size) < 0 ? -EIO : 0;
}

static int seal_open_cipher(const uint8_t *key, gnutls_aead_cipher_hd_t *ret) {
        gnutls_datum_t datum = { (unsigned char *) key, SEAL_KEY_BYTES };

        return gnutls_aead_cipher_init(ret, GNUTLS_CIPHER_CHACHA20_POLY1305, &datum) < 0 ? -EIO : 0;
}

int seal(const uint8_t key[static SEAL_KEY_BYTES], const void *context, size_t context_size,
         const void *secret, size_t size, Text *ret) {
        uint8_t nonce[NONCE_BYTES];
        size_t sealed_size = size + TAG_BYTES;
        gnutls_aead_cipher_hd_t cipher;
        int r;

        if (!text_reserve(ret, SEAL_OVERHEAD + size + 1))
                return 0;
        if (gnutls_rnd(GNUTLS_RND_NONCE, nonce, sizeof(nonce)) < 0 || seal_open_cipher(key, &cipher) < 0)
                return -EIO;
        text_append_bytes(ret, nonce, sizeof(nonce));
        r = gnutls_aead_cipher_encrypt(cipher, nonce, sizeof(nonce), context, context_size, TAG_BYTES, secret,
                                       size, ret->bytes + ret->size, &sealed_size);
        gnutls_aead_cipher_deinit(cipher);
        if (r < 0)
                return -EIO;
        ret->size += sealed_size;
        ret->bytes[ret->size] = 0;
        return 0;
}

int unseal(const uint8_t key[static SEAL_KEY_BYTES], const void *context, size_t context_size,
           const void *sealed, size_t sealed_size, char **ret, size_t *ret_size) {
        size_t size = sealed_size - SEAL_OVERHEAD, capacity;
        gnutls_aead_cipher_hd_t cipher;
        char *secret;
        int r;

        if (sealed_size < SEAL_OVERHEAD)
                return -EBADMSG;
        if (seal_open_cipher(key, &cipher) < 0)
                return -EIO;
        capacity = size + TAG_BYTES;
        secret = calloc(1, capacity + 1);
        if (!secret) {
                gnutls_aead_cipher_deinit(cipher);
                return -ENOMEM;
        }
        r = gnutls_aead_cipher_decrypt(cipher, sealed, NONCE_BYTES, context, context_size, TAG_BYTES,
                                       (const uint8_t *) sealed + NONCE_BYTES, size + TAG_BYTES, secret,
                                       &capacity);
        gnutls_aead_cipher_deinit(cipher);
        if (r < 0 || capacity != size) {
                free(secret);
                return -EBADMSG;
        }
        secret[size] = 0;
        *ret = secret;
        *ret_size = size;
        return 0;
}
