#include "peers/strangers.h"

#include <arpa/inet.h>

#include "base/parse.h"
#include "base/sizes.h"
#include "base/table.h"

uint64_t strangers_key(const char *address) {
        char host[ADDRESS_SIZE] = "";
        struct in6_addr ip;
        uint16_t port;

        (void) parse_address(address, host, sizeof(host), &port); /* others, as sockets of tests: one row */
        if (inet_pton(AF_INET6, host, &ip) == 1)
                return XXH3_64bits(&ip, 8) | 1;
        return XXH3_64bits(host, strlen(host)) | 1;
}

/* -- Addresses -- */

static bool row_is_trusted(const StrangersRow *row, uint64_t now_ms) {
        return row->trusted_ms > 0 && now_ms - row->trusted_ms < STRANGERS_TRUSTED_MS;
}

/* The row of a known address counts its part, of which it would have all again without the row. */
static bool row_is_kept(const StrangersRow *row, uint64_t now_ms) {
        return (row->known && now_ms - row->used_ms < STRANGERS_TRUSTED_MS) || row_is_trusted(row, now_ms);
}

static bool row_goes_before(const StrangersRow *a, const StrangersRow *b, uint64_t now_ms) {
        if (row_is_kept(a, now_ms) != row_is_kept(b, now_ms))
                return row_is_kept(b, now_ms);
        return MAX(a->used_ms, a->trusted_ms) < MAX(b->used_ms, b->trusted_ms);
}

static StrangersRow *strangers_set(const Strangers *strangers, uint64_t key) {
        return (StrangersRow *) strangers->rows + key / 2 % (STRANGERS_ROWS / STRANGERS_SET) * STRANGERS_SET;
}

/* Find the row of an address, or replace the row of its set that is needed least. */
static StrangersRow *strangers_row(Strangers *strangers, uint64_t key, uint64_t now_ms) {
        StrangersRow *set = strangers_set(strangers, key), *least = set;

        for (size_t i = 0; i < STRANGERS_SET; i++) {
                if (set[i].key == key)
                        return set + i;
                if (row_goes_before(set + i, least, now_ms))
                        least = set + i;
        }
        *least = (StrangersRow) { .key = key, .used_ms = now_ms };
        return least;
}

size_t strangers_trust(Strangers *strangers, uint64_t key, uint64_t now_ms) {
        StrangersRow *row = strangers_row(strangers, key, now_ms);

        row->trusted_ms = now_ms;
        return (size_t) (row - strangers->rows);
}

void strangers_distrust(Strangers *strangers, uint64_t key) {
        StrangersRow *set = strangers_set(strangers, key);

        for (size_t i = 0; i < STRANGERS_SET; i++)
                if (set[i].key == key) {
                        set[i].trusted_ms = 0;
                        set[i].known = false;
                }
}

bool strangers_is_trusted(const Strangers *strangers, uint64_t key, uint64_t now_ms) {
        const StrangersRow *set = strangers_set(strangers, key);

        for (size_t i = 0; i < STRANGERS_SET; i++)
                if (set[i].key == key)
                        return row_is_trusted(set + i, now_ms);
        return false;
}

/* -- Decisions -- */

/* Count a connection within a part of the limit in all. Above the part, accept it while less than 'above' of
 * the burst in all is used: so connections that the others do not need are not lost, and the others have
 * theirs at any time. Return whether to accept it. */
static bool strangers_has_part(Strangers *strangers, Pace *part, uint64_t per_second, uint64_t burst,
                               uint64_t admission, uint64_t above, uint64_t now_ms) {
        if (pace_wait_ms(part, per_second, burst, now_ms) > 0)
                return !strangers->bounds_parts && pace_wait_ms(&strangers->connections, admission,
                                                                MAX(above, (uint64_t) 1), now_ms) == 0;
        pace_take(part, 1);
        return true;
}

/* The part of one trusted address: above it, half of a burst. */
static bool strangers_accept_trusted(Strangers *strangers, StrangersRow *row, uint64_t admission,
                                     uint64_t now_ms) {
        uint64_t part = MAX(admission / STRANGERS_TRUSTED_PART, (uint64_t) 1);

        return strangers_has_part(strangers, &row->connections, part,
                                  MAX(part / 5, (uint64_t) STRANGERS_BURST), admission, admission / 10,
                                  now_ms);
}

/* The part of all strangers: above it, a quarter of a burst, so that a trusted address with many hosts comes
 * first. After all replicas have restarted, each host of the cluster is a stranger to them. */
static bool strangers_accept_stranger(Strangers *strangers, StrangersRow *row, uint64_t admission,
                                      uint64_t now_ms) {
        uint64_t part = MAX(admission / 2, (uint64_t) 1);

        if (pace_wait_ms(&row->connections, STRANGERS_PER_SECOND, STRANGERS_BURST, now_ms) > 0 ||
            !strangers_has_part(strangers, &strangers->strangers, part, MAX(part / 5, (uint64_t) 1),
                                admission, admission / 20, now_ms))
                return false;
        pace_take(&row->connections, 1);
        return true;
}

bool strangers_accept(Strangers *strangers, uint64_t key, bool known, uint64_t admission, uint64_t now_ms) {
        StrangersRow *row = strangers_row(strangers, key, now_ms);
        bool trusted;

        row->used_ms = now_ms;
        row->known = known;
        trusted = row_is_kept(row, now_ms);

        /* A burst is a fifth of a second: the loop does the work of all of them at once. */
        if (pace_wait_ms(&strangers->connections, admission, MAX(admission / 5, (uint64_t) 1), now_ms) > 0)
                return false;
        if (!(trusted ? strangers_accept_trusted : strangers_accept_stranger)(strangers, row, admission,
                                                                              now_ms))
                return false;
        pace_take(&strangers->connections, 1);
        return true;
}

uint64_t strangers_join(Strangers *strangers, uint64_t key, uint64_t now_ms, bool *ret_wrong_tokens) {
        StrangersRow *row = strangers_row(strangers, key, now_ms);
        bool trusted = row_is_kept(row, now_ms);
        uint64_t wait_ms;

        *ret_wrong_tokens = now_ms < row->paused_ms;
        if (*ret_wrong_tokens)
                return row->paused_ms - now_ms;
        wait_ms = pace_wait_ms(&strangers->joins, STRANGERS_JOINS_PER_SECOND, STRANGERS_JOINS_PER_SECOND,
                               now_ms);
        if (!trusted)
                wait_ms = MAX(wait_ms, pace_wait_ms(&row->joins, 1, STRANGERS_JOINS_BURST, now_ms));
        if (wait_ms > 0)
                return wait_ms;
        pace_take(&strangers->joins, 1);
        if (!trusted)
                pace_take(&row->joins, 1);
        return 0;
}

void strangers_wrong_token(Strangers *strangers, uint64_t key, uint64_t now_ms) {
        StrangersRow *row = strangers_row(strangers, key, now_ms);

        if (row->n_wrong == 0 || now_ms - row->wrong_ms >= STRANGERS_WRONG_MS) {
                row->n_wrong = 0;
                row->wrong_ms = now_ms;
        }
        if (++row->n_wrong < STRANGERS_WRONG_MAX)
                return;
        row->n_wrong = 0;
        row->paused_ms = now_ms + STRANGERS_PAUSE_MS;
}

bool strangers_log(Strangers *strangers, uint64_t key, uint64_t now_ms, unsigned *ret_omitted) {
        StrangersRow *row = strangers_row(strangers, key, now_ms);
        bool recent = row->logged_ms > 0 && now_ms - row->logged_ms < STRANGERS_LOG_MS;

        if (recent || pace_wait_ms(&strangers->logs, STRANGERS_LOGS_PER_SECOND, STRANGERS_LOGS_PER_SECOND,
                                   now_ms) > 0) {
                strangers->n_omitted++;
                return false;
        }
        pace_take(&strangers->logs, 1);
        row->logged_ms = now_ms;
        *ret_omitted = strangers->n_omitted;
        strangers->n_omitted = 0;
        return true;
}
