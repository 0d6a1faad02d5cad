/* What a command costs: the bytes that it moves and the nodes that it visits, in one figure. Pure.
 *
 * The cost of a command bounds the memory and the time that each replica needs for it, at once and at every
 * replay. It follows from figures that all replicas share: sizes of keys and values, old and new, and the
 * number of nodes. From feature level 3 on, apply refuses a command above COST_COMMAND_MAX before its first
 * effect, and defers a command that exceeds what is left of its entry's budget (KV_DEFERRED). The leader
 * estimates the same figure before the log (kvstore/estimate.h).
 *
 * A unit is a byte. A node has a price in bytes: what the processor could move in the time that the node
 * takes, at COST_ENTRY_MAX in COST_ENTRY_MS (measured by tests/bench/cost). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        COST_ENTRY_MAX = 16 * 1024 * 1024, /* of all commands of one entry */
        COST_ENTRY_MS = 20, /* of the thread's processor time, for an entry that costs so much */
        COST_COMMAND_MAX = COST_ENTRY_MAX, /* of one command: a command may need an entry of its own */
        COST_HEAVY = 1024 * 1024,          /* a command above it is heavy: see kvstore/propose.h */
        COST_ANSWER_MAX = 2 * 1024 * 1024, /* bytes of new values in the answer to one transaction */
        COST_EXPIRE_MAX =
                COST_ENTRY_MAX /
                2, /* what one command of expiry removes; a directory of more than half of it goes in pages */
        COST_LONG_KEYS_MAX = 4096, /* keys of more than 480 bytes that share their first 480 bytes */

        COST_SLICE =
                COST_ENTRY_MAX /
                8, /* of the entries that one turn of the loop applies: the one that exceeds it is the last */

        /* Prices. */
        COST_COMMAND = 2048,     /* of a command: its decoding and its kept answer */
        COST_NESTED = 16 * 1024, /* of a transaction of more than one write, which can be taken back */
        COST_VISIT = 512,        /* of a node that is looked up */
        COST_PASS = 128,         /* of a node that a walk passes */
        COST_REMOVE = 256,       /* of a node that goes with the directory above it */
        COST_WRITE = 3584,       /* of a node that is written or removed by itself, besides its event */
        COST_EVENT = 1024,       /* of an event: another one may leave the window for it */
        COST_KEPT = 48,          /* of a kept answer that is passed to find the one of an earlier number */
        COST_EXPIRY = 1792,      /* of an entry of the table of expiry, written or removed */
};

typedef struct Cost {
        uint64_t bytes; /* moved: read, compared, written, copied */
        uint64_t nodes; /* visited, passed, written, removed */
        uint64_t total; /* bytes, and nodes at their prices: what the limits are about */
} Cost;

void cost_add(Cost *cost, const Cost *more);
void cost_bytes(Cost *cost, uint64_t bytes);
void cost_nodes(Cost *cost, uint64_t nodes, unsigned price);

/* One change of one node that watchers and the requester are told: 'old' and 'size' are sizes of values. */
typedef struct CostChange {
        size_t key, size, old;
        bool expired, expires; /* the old node had an expiry; the new one has */
        bool refresh;          /* its event and its kept answer hold no value */
        bool gone;             /* nothing is stored in the old one's place */
} CostChange;

void cost_change(Cost *cost, const CostChange *change);
/* Directories on the way to a key, which have no events of their own; a node that goes with the directory
 * above it, besides COST_PASS. */
void cost_ways(Cost *cost, size_t n, size_t bytes);
void cost_below(Cost *cost, size_t key, size_t value, bool expires);
/* A node that is looked up by its key. */
void cost_visit(Cost *cost, size_t key);

enum { COST_MESSAGE_SIZE = 160 };

/* Why a command is refused that costs so much, or more: it was not counted further. */
void cost_message(uint64_t total, char ret[static COST_MESSAGE_SIZE]);
