/* A second decoder of DNS messages, for tests: strict, and without a library. */
#pragma once

#include <arpa/inet.h>

#include "base/memory.h"

enum { DECODED_MAX = 4000, DECODED_NAME = 260, DECODED_TEXT = 600 };

typedef struct DecodedRecord {
        int section; /* 1 answer, 2 authority, 3 additional */
        char name[DECODED_NAME];
        unsigned type, class, ttl;
        char text[DECODED_TEXT]; /* the data */
} DecodedRecord;

typedef struct Decoded {
        unsigned id, flags, counts[4];
        char question[DECODED_NAME]; /* with the case of the message; "" without a question */
        unsigned type, class;
        bool has_opt, opt_do;
        unsigned opt_size, opt_version, rcode;
        size_t n_opts, n;
        DecodedRecord records[DECODED_MAX]; /* without OPT */
} Decoded;

enum { FLAG_QR = 0x8000, FLAG_AA = 0x400, FLAG_TC = 0x200, FLAG_RD = 0x100, FLAG_RA = 0x80 };

/* Decode a name. 'plain': without pointers. Return the position after it, 0 if it is malformed. */
static inline size_t decode_name(const uint8_t *bytes, size_t size, size_t pos, bool plain, char *ret) {
        size_t end = 0, n = 0, last = pos;

        while (pos < size) {
                unsigned c = bytes[pos];

                if (c >= 0xc0) {
                        size_t target;

                        if (plain || pos + 1 >= size)
                                return 0;
                        target = (c & 0x3fu) << 8 | bytes[pos + 1];
                        end = end ?: pos + 2;
                        if (target >= last) /* only backwards */
                                return 0;
                        last = pos = target;
                        continue;
                }
                if (c >= 64 || pos + 1 + c > size || n + c + 1 > 255)
                        return 0;
                if (c == 0) {
                        if (n == 0)
                                ret[n++] = '.';
                        ret[n] = 0;
                        return end ?: pos + 1;
                }
                memcpy(ret + n, bytes + pos + 1, c);
                n += c;
                ret[n++] = '.';
                pos += 1 + c;
        }
        return 0;
}

static inline unsigned decode_u16(const uint8_t *p) {
        return (unsigned) p[0] << 8 | p[1];
}

static inline unsigned decode_u32(const uint8_t *p) {
        return decode_u16(p) << 16 | decode_u16(p + 2);
}

/* Return what is wrong with the data of a record, or NULL. */
static inline const char *decode_data(const uint8_t *bytes, size_t pos, size_t end, DecodedRecord *r) {
        char a[DECODED_NAME], b[DECODED_NAME];
        const uint8_t *p = bytes + pos;

        switch (r->type) {
        case 1:
                if (end - pos != 4)
                        return "size of A";
                inet_ntop(AF_INET, p, r->text, sizeof(r->text));
                return NULL;
        case 28:
                if (end - pos != 16)
                        return "size of AAAA";
                inet_ntop(AF_INET6, p, r->text, sizeof(r->text));
                return NULL;
        case 33:
                if (end - pos < 7 || decode_name(bytes, end, pos + 6, true, a) != end)
                        return "SRV, or its target is compressed";
                snprintf(r->text, sizeof(r->text), "%u %u %u %s", decode_u16(p), decode_u16(p + 2),
                         decode_u16(p + 4), a);
                return NULL;
        case 2:
                if (decode_name(bytes, end, pos, false, a) != end)
                        return "NS";
                snprintf(r->text, sizeof(r->text), "%s", a);
                return NULL;
        case 6:
                pos = decode_name(bytes, end, pos, false, a);
                if (pos > 0)
                        pos = decode_name(bytes, end, pos, false, b);
                if (pos == 0 || end - pos != 20)
                        return "SOA";
                p = bytes + pos;
                snprintf(r->text, sizeof(r->text), "%s %s %u %u %u %u %u", a, b, decode_u32(p),
                         decode_u32(p + 4), decode_u32(p + 8), decode_u32(p + 12), decode_u32(p + 16));
                return NULL;
        case 13:
                if (end - pos < 2 || pos + 1 + p[0] >= end || pos + 2 + p[0] + p[1 + p[0]] != end)
                        return "HINFO";
                snprintf(r->text, sizeof(r->text), "\"%.*s\" \"%.*s\"", p[0], p + 1, p[1 + p[0]],
                         p + 2 + p[0]);
                return NULL;
        default:
                return "a type that is never answered";
        }
}

/* Decode a message. Return what is wrong with it, or NULL. */
static inline const char *decode(const uint8_t *bytes, size_t size, Decoded *d) {
        size_t pos = 12;

        d->n = d->n_opts = 0;
        d->has_opt = d->opt_do = false;
        d->question[0] = 0;
        if (size < 12)
                return "no header";
        d->id = decode_u16(bytes);
        d->flags = decode_u16(bytes + 2);
        d->rcode = d->flags & 0xf;
        for (int i = 0; i < 4; i++)
                d->counts[i] = decode_u16(bytes + 4 + 2 * i);
        if (d->counts[0] > 1)
                return "two questions";
        if (d->counts[0] == 1) {
                pos = decode_name(bytes, size, pos, true, d->question);
                if (pos == 0 || pos + 4 > size)
                        return "question";
                d->type = decode_u16(bytes + pos);
                d->class = decode_u16(bytes + pos + 2);
                pos += 4;
        }
        for (int section = 1; section < 4; section++)
                for (unsigned i = 0; i < d->counts[section]; i++) {
                        DecodedRecord *r = &d->records[d->n];
                        const char *wrong;
                        size_t end;

                        if (d->n == DECODED_MAX)
                                return "too many records";
                        pos = decode_name(bytes, size, pos, false, r->name);
                        if (pos == 0 || pos + 10 > size)
                                return "owner";
                        r->section = section;
                        r->type = decode_u16(bytes + pos);
                        r->class = decode_u16(bytes + pos + 2);
                        r->ttl = decode_u32(bytes + pos + 4);
                        end = pos + 10 + decode_u16(bytes + pos + 8);
                        pos += 10;
                        if (end > size)
                                return "size of data";
                        if (r->type == 41) {
                                if (section != 3 || d->has_opt || !streq(r->name, ".") || end != pos)
                                        return "OPT";
                                d->has_opt = true;
                                d->opt_size = r->class;
                                d->opt_do = r->ttl & 0x8000;
                                d->opt_version = r->ttl >> 16 & 0xff;
                                d->rcode |= r->ttl >> 24 << 4;
                        } else {
                                wrong = decode_data(bytes, pos, end, r);
                                if (wrong)
                                        return wrong;
                                d->n++;
                        }
                        pos = end;
                }
        return pos == size ? NULL : "bytes after the last record";
}
