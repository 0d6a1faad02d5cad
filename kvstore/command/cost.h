/* The cost of a command: the bytes that it moves and the nodes that it visits, as one number. Pure.
 *
 * The cost bounds the memory and the time that each replica needs for a command, at once and at each replay.
 * It depends on values that are equal on all replicas: sizes of keys and of old and new values, and the
 * number of nodes. From feature level 3 on, apply rejects a command above COST_COMMAND_MAX before its first
 * effect, and defers a command that exceeds the remaining budget of its entry (KV_DEFERRED). The leader
 * estimates the same number before the log (kvstore/estimate.h).
 *
 * The unit is a byte. The price of a node is the number of bytes that the processor can move in the same
 * time, at COST_ENTRY_MAX in COST_ENTRY_MS (measured by tests/bench/cost). */
#pragma once

#include "base/error.h"
#include "kvstore/command/command.h"

enum {
        COST_ENTRY_MAX = 16 * 1024 * 1024,    /* of all commands of one entry */
        COST_ENTRY_MS = 20,                   /* CPU time of an entry of this cost */
        COST_COMMAND_MAX = COST_ENTRY_MAX,    /* of one command, which may fill an entry */
        COST_HEAVY = 1024 * 1024,             /* a more expensive command is heavy (kvstore/propose.h) */
        COST_ANSWER_MAX = 2 * 1024 * 1024,    /* bytes of new values in the answer to one transaction */
        COST_EXPIRE_MAX = COST_ENTRY_MAX / 2, /* of one command of expiry; removes a directory of more than
                                               * half of this in pages */
        COST_LONG_KEYS_MAX = 4096, /* keys of more than 480 bytes that share their first 480 bytes */

        COST_SLICE = COST_ENTRY_MAX / 8, /* of the entries that one turn of the loop applies; the entry that
                                          * exceeds it is the last */

        /* Prices. */
        COST_COMMAND = 2048,     /* of a command: decoding, cached result */
        COST_NESTED = 16 * 1024, /* of a transaction of several writes, which can be rolled back */
        COST_VISIT = 512,        /* of a node that is looked up */
        COST_PASS = 128,         /* of a node that a walk passes */
        COST_REMOVE = 256,       /* of a node that is removed with the directory above it */
        COST_WRITE = 3584,       /* of a node that is written or removed, without its event */
        COST_EVENT = 1024,       /* of an event, which may remove another from the window */
        COST_KEPT = 48,          /* of a cached result that a search passes */
        COST_NOTE = 8 * 1024,    /* of a row of the history, which may replace or remove another */
        COST_EXPIRY = 1792,      /* of an entry of the table of expiry, written or removed */
};

typedef struct Cost {
        uint64_t bytes; /* moved: read, compared, written, copied */
        uint64_t nodes; /* visited, passed, written, removed */
        uint64_t total; /* bytes, and nodes at their prices; subject to the limits */
} Cost;

void cost_add(Cost *cost, const Cost *more);
void cost_bytes(Cost *cost, uint64_t bytes);
void cost_nodes(Cost *cost, uint64_t nodes, unsigned price);

/* A change of a node that has an event and an answer. 'old' and 'size' are sizes of values. */
typedef struct CostChange {
        size_t key, size, old;
        bool expired, expires; /* the old node had an expiry; the new one has */
        bool refresh;          /* its event and its cached result contain no value */
        bool gone;             /* no new node replaces the old one */
} CostChange;

void cost_change(Cost *cost, const CostChange *change);
/* Add missing parent directories of a key, which have no events. */
void cost_parents(Cost *cost, size_t n, size_t bytes);
/* Add a node that is removed with the directory above it, without COST_PASS. */
void cost_below(Cost *cost, size_t key, size_t value, bool expires);
/* Add a node that is looked up by its key. */
void cost_visit(Cost *cost, size_t key);
/* Add the row of a write, if it has one. */
void cost_note(Cost *cost, const KvNote *note);

/* Set the reason for rejecting a command of this cost or more; counting stops at the limit. Return -E2BIG. */
int cost_error(uint64_t total, Error *err);
