#include "kvstore/command/cost.h"

void cost_add(Cost *cost, const Cost *more) {
        cost->bytes += more->bytes;
        cost->nodes += more->nodes;
        cost->total += more->total;
}

void cost_bytes(Cost *cost, uint64_t bytes) {
        cost->bytes += bytes;
        cost->total += bytes;
}

void cost_nodes(Cost *cost, uint64_t nodes, unsigned price) {
        cost->nodes += nodes;
        cost->total += nodes * price;
}

/* The old value is read and copied; the new one is stored. The event contains both, and is read again when it
 * leaves the window. The answer contains both; the cached result, which is encoded and stored, contains the
 * old one. */
void cost_change(Cost *cost, const CostChange *c) {
        uint64_t both = (uint64_t) c->size + c->old;

        cost_nodes(cost, 1, COST_WRITE + COST_EVENT);
        cost->total += (c->expired ? COST_EXPIRY : 0) + (c->expires ? COST_EXPIRY : 0);
        cost_bytes(cost, 4ull * c->key);
        cost_bytes(cost, c->old + (c->gone ? 0 : c->size));
        cost_bytes(cost, c->refresh ? 0 : 2 * both);
        cost_bytes(cost, both);
        cost_bytes(cost, c->refresh ? 0 : 2ull * c->old);
}

void cost_parents(Cost *cost, size_t n, size_t bytes) {
        cost_nodes(cost, n, COST_WRITE);
        cost_bytes(cost, 2ull * bytes);
}

void cost_below(Cost *cost, size_t key, size_t value, bool expires) {
        cost_nodes(cost, 1, COST_REMOVE + (expires ? COST_EXPIRY : 0));
        cost_bytes(cost, key + value);
}

void cost_visit(Cost *cost, size_t key) {
        cost_nodes(cost, 1, COST_VISIT);
        cost_bytes(cost, key);
}

void cost_note(Cost *cost, const KvNote *note) {
        cost_nodes(cost, note->body.size > 0, COST_NOTE);
}

int cost_error(uint64_t total, Error *err) {
        return error_set(err, -E2BIG,
                         "this costs %llu KiB or more, and at most %d KiB are allowed: do it in parts",
                         (unsigned long long) (total + 1023) / 1024, COST_COMMAND_MAX / 1024);
}
