/* What clients asked of one object and what they were told, and whether one order of it all explains that.
 *
 * The object is a key, or a directory with in-order children. Each operation writes a value of its own, its
 * number, so that a value tells who wrote it. The judge is Wing and Gong's search with Lowe's cache: depth
 * first over what may come next, never twice with the same set of operations done and the same state. Who was
 * not answered, or only "unknown", may have happened at any time after he asked, or never.
 *
 * The model is all of v2: conditions, what was there before, indexes, expiry by cluster time (never early).
 */
#pragma once

#include "base/error.h"
#include "kvstore/command.h"

enum { HISTORY_OPS = 400, HISTORY_WORDS = (HISTORY_OPS + 63) / 64 };

typedef enum OpKind {
        OP_SET,
        OP_CREATE,
        OP_UPDATE,
        OP_SWAP_INDEX,
        OP_SWAP_VALUE,
        OP_DELETE,
        OP_DELETE_INDEX,
        OP_DELETE_VALUE, /* of a key */
        OP_POST,
        OP_DELETE_CHILD,
        OP_CLEAR,      /* of a directory */
        OP_READ,       /* linearizable, of either */
        OP_PLAIN_READ, /* may be old, never invented */
        _OP_MAX,
} OpKind;

typedef enum OpOutcome { OP_UNKNOWN, OP_REFUSED, OP_ANSWERED } OpOutcome;

typedef struct Op {
        OpKind kind;
        OpOutcome outcome;         /* as long as nothing was said: unknown */
        uint64_t called, returned; /* places in the order of all that clients saw */
        uint64_t compare_index;
        int compare_op;  /* who wrote the value that is compared, or the child that is deleted */
        uint64_t ttl_ms; /* 0: none */
        unsigned pad;    /* size of the value */

        KvStatus status;        /* from here on: the answer */
        uint64_t index, now_ms; /* the store's, and cluster time */
        int found; /* who wrote what was there before (or what was read); -1: nothing was there */
        uint64_t found_modified, found_created, found_expires_ms;
        uint64_t children[HISTORY_WORDS]; /* read of a directory: a bit for each child's writer */

        uint64_t effect; /* the index that it wrote, once anybody has seen it; 0: nobody has */
} Op;

typedef struct History {
        bool dir;
        unsigned n, n_unknown;
        Op ops[HISTORY_OPS];
} History;

/* The next operation, its number is its place in 'ops'; NULL: full. */
Op *history_call(History *h, OpKind kind, uint64_t at);
int history_number(const History *h, const Op *op);

/* Somebody saw what operation 'number' wrote, with this index. -EUCLEAN: that was never asked, or had another
 * index. */
int history_seen(History *h, int number, uint64_t modified);

/* 0: there is an order. -EUCLEAN and a sentence: there is none. -E2BIG: not found out within the bound. */
int history_judge(const History *h, Error *err);
