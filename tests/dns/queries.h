/* Tables of services and queries, for tests. */
#pragma once

#include "base/text.h"
#include "dns/message.h"

#define THIS_HOST  "0123456789abcdef0123456789abcdef"
#define OTHER_HOST "1123456789abcdef0123456789abcdef"
#define THIRD_HOST "2123456789abcdef0123456789abcdef"

static inline void table_file(Table *table, const char *name, const char *text) {
        int r = table_take(table, name, text ? strdup(text) : NULL);

        if (r < 0)
                abort();
}

/* Write a query into 'ret', which has 4096 bytes. 'udp_size' 0: without EDNS. Return its size. */
static inline size_t query_print(uint8_t *ret, const char *name, unsigned type, unsigned udp_size) {
        static const uint8_t head[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        size_t n = sizeof(head);

        memcpy(ret, head, n);
        while (*name && !streq(name, ".")) {
                size_t size = strcspn(name, ".");

                ret[n++] = (uint8_t) size;
                memcpy(ret + n, name, size);
                n += size;
                name += size + (name[size] == '.');
        }
        ret[n++] = 0;
        ret[n++] = (uint8_t) (type >> 8);
        ret[n++] = (uint8_t) type;
        ret[n++] = 0;
        ret[n++] = 1;
        if (udp_size > 0) {
                const uint8_t opt[] = { 0, 0, 41, (uint8_t) (udp_size >> 8), (uint8_t) udp_size, 0, 0, 0x80,
                                        0, 0, 0 };

                ret[11] = 1;
                memcpy(ret + n, opt, sizeof(opt));
                n += sizeof(opt);
        }
        return n;
}
