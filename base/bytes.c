#include "base/bytes.h"

void write_varint(Writer *w, uint64_t v) {
        for (; v >= 0x80; v >>= 7)
                write_u8(w, (v & 0x7f) | 0x80);
        write_u8(w, v);
}

void write_blob(Writer *w, const void *bytes, size_t size) {
        write_varint(w, size);
        write_raw(w, bytes, size);
}

void write_string(Writer *w, const char *s) {
        write_blob(w, s, s ? strlen(s) : 0);
}

const void *read_raw(Reader *r, size_t size) {
        const void *p = r->bytes;

        if (r->failed || size > r->left) {
                r->failed = true;
                return NULL;
        }
        r->bytes += size;
        r->left -= size;
        return p;
}

uint64_t read_varint(Reader *r) {
        uint64_t v = 0;

        for (unsigned shift = 0; shift < 64; shift += 7) {
                uint8_t b = read_u8(r);

                if (r->failed)
                        return 0;
                if ((shift == 63 && b > 1) || (b == 0 && shift > 0))
                        break;
                v |= (uint64_t) (b & 0x7f) << shift;
                if (!(b & 0x80))
                        return v;
        }
        r->failed = true;
        return 0;
}

const void *read_blob(Reader *r, size_t max, size_t *ret_size) {
        uint64_t size = read_varint(r);
        const void *p;

        *ret_size = 0;
        if (size > max)
                r->failed = true;
        p = read_raw(r, r->failed ? 0 : size);
        if (p)
                *ret_size = size;
        return p;
}

char *read_string(Reader *r, size_t max) {
        size_t size;
        const char *p = read_blob(r, max, &size);
        char *s;

        if (!p || memchr(p, 0, size)) {
                r->failed = true;
                return NULL;
        }
        s = strndup(p, size);
        if (!s)
                r->failed = true;
        return s;
}

int reader_end(const Reader *r) {
        return r->failed || r->left > 0 ? -EBADMSG : 0;
}

uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size) {
        static const uint32_t nibbles[16] = {
                /* of the reflected polynomial 0x82f63b78, four bits per step */
                0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
        };
        const uint8_t *p = bytes;

        crc = ~crc;
        for (; size > 0; size--, p++) {
                crc ^= *p;
                crc = nibbles[crc & 15] ^ (crc >> 4);
                crc = nibbles[crc & 15] ^ (crc >> 4);
        }
        return ~crc;
}

#ifdef __x86_64__
/* The instruction of the processor, eight bytes per step: about twenty times faster. */
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *bytes, size_t size) {
        const uint8_t *p = bytes;
        uint64_t c = (uint32_t) ~crc;

        for (; size >= 8; size -= 8, p += 8) {
                uint64_t v;

                memcpy(&v, p, 8);
                c = __builtin_ia32_crc32di(c, v);
        }
        for (; size > 0; size--, p++)
                c = __builtin_ia32_crc32qi(c, *p);
        return ~(uint32_t) c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size) {
#ifdef __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
                return crc32c_sse42(crc, bytes, size);
#endif
        return crc32c_portable(crc, bytes, size);
}
