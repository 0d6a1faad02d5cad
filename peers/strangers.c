#include "peers/strangers.h"

#include <arpa/inet.h>

#include "base/parse.h"
#include "base/sizes.h"
#include "base/table.h"

static uint64_t strangers_key(const char *address) {
        char host[ADDRESS_SIZE] = "";
        struct in6_addr ip;
        uint16_t port;

        (void) parse_address(address, host, sizeof(host), &port); /* others, as sockets of tests: one row */
        if (inet_pton(AF_INET6, host, &ip) == 1)
                return XXH3_64bits(&ip, 8) | 1;
        return XXH3_64bits(host, strlen(host)) | 1;
}

/* Find the row of an address, or replace the row of its set that was unused longest. */
static StrangersRow *strangers_row(Strangers *strangers, const char *address, uint64_t now_ms) {
        uint64_t key = strangers_key(address);
        StrangersRow *set = strangers->rows + key / 2 % (STRANGERS_ROWS / STRANGERS_SET) * STRANGERS_SET,
                     *oldest = set;

        for (size_t i = 0; i < STRANGERS_SET; i++) {
                if (set[i].key == key)
                        return set + i;
                if (MAX(set[i].used_ms, set[i].trusted_ms) < MAX(oldest->used_ms, oldest->trusted_ms))
                        oldest = set + i;
        }
        *oldest = (StrangersRow) { .key = key, .used_ms = now_ms, .thousandths = STRANGERS_BURST * 1000 };
        return oldest;
}

bool strangers_accept(Strangers *strangers, const char *address, uint64_t now_ms) {
        StrangersRow *row = strangers_row(strangers, address, now_ms);
        uint64_t passed_ms = MIN(now_ms - row->used_ms, 1000u * STRANGERS_BURST / STRANGERS_PER_SECOND);

        row->thousandths = MIN(row->thousandths + passed_ms * STRANGERS_PER_SECOND, 1000u * STRANGERS_BURST);
        row->used_ms = now_ms;
        if (row->trusted_ms > 0 && now_ms - row->trusted_ms < STRANGERS_TRUSTED_MS)
                return true;
        if (row->thousandths < 1000)
                return false;
        row->thousandths -= 1000;
        return true;
}

void strangers_trust(Strangers *strangers, const char *address, uint64_t now_ms) {
        strangers_row(strangers, address, now_ms)->trusted_ms = now_ms;
}
