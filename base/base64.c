#include "base/base64.h"

void text_append_base64(Text *t, const void *bytes, size_t size, bool for_url) {
        static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        const char *alphabet = for_url ? url : standard;
        const uint8_t *p = bytes;

        for (size_t i = 0; i < size; i += 3) {
                size_t n = MIN(size - i, (size_t) 3);
                uint32_t v = (uint32_t) p[i] << 16 | (n > 1 ? p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
                char four[4];

                for (unsigned k = 0; k < 4; k++)
                        four[k] = k <= n ? alphabet[(v >> (18 - 6 * k)) & 63] : '=';
                text_append_bytes(t, four, for_url ? n + 1 : 4);
        }
}

static int base64_digit(char c) {
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == '+' || c == '-')
                return 62;
        return c == '/' || c == '_' ? 63 : -1;
}

int base64_decode(const char *s, size_t size, char **ret, size_t *ret_size) {
        size_t padding = 0, n = 0;
        _cleanup_free_ char *bytes = NULL;
        uint32_t v = 0;
        int digit = 0;

        while (padding < 2 && size > 0 && s[size - 1] == '=') {
                size--;
                padding++;
        }
        if (size % 4 == 1 || (padding > 0 && (size + padding) % 4 != 0))
                return -EINVAL;
        bytes = malloc(size / 4 * 3 + 3);
        if (!bytes)
                return -ENOMEM;

        for (size_t i = 0; i < size && (digit = base64_digit(s[i])) >= 0; i++) {
                v = v << 6 | (uint32_t) digit;
                if (i % 4 > 0)
                        bytes[n++] = v >> (6 - i % 4 * 2);
                if (i % 4 == 3)
                        v = 0;
        }
        /* The unused bits of the last digit must be 0, so that each text has one decoding and one encoding.
         */
        if (digit < 0 || (size % 4 == 2 && (v & 15)) || (size % 4 == 3 && (v & 3))) {
                explicit_bzero(bytes, n); /* it may be a secret */
                return -EINVAL;
        }
        bytes[n] = 0;
        *ret = TAKE_PTR(bytes);
        *ret_size = n;
        return 0;
}
