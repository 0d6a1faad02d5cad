/* The operations of clients on one object with their results, and whether the history is linearizable.
 *
 * The object is a key, or a directory with in-order children. Each operation writes its number as the value,
 * so that a value identifies its writer. The algorithm is Wing and Gong's search with Lowe's cache: depth
 * first over the possible next operations, never twice with the same set of operations and the same state. An
 * operation without a result, or with an unknown one, may take effect at any time after its call, or never.
 *
 * The model covers v2: conditions, previous values, indexes, expiry by cluster time (never early). */
#pragma once

#include "base/error.h"
#include "kvstore/command/command.h"

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
        OpOutcome outcome;         /* without a result: unknown */
        uint64_t called, returned; /* places in the order of all that clients saw */
        uint64_t compare_index;
        int compare_op;  /* the writer of the compared value, or of the deleted child */
        uint64_t ttl_ms; /* 0: none */
        unsigned pad;    /* size of the value */

        KvStatus status;        /* from here on: the answer */
        uint64_t index, now_ms; /* the store's, and cluster time */
        int found;              /* the writer of the previous value, or of the value read; -1: none */
        uint64_t found_modified, found_created, found_expires_ms;
        uint64_t children[HISTORY_WORDS]; /* read of a directory: a bit for each child's writer */

        uint64_t effect; /* the index that it wrote, once a client has seen it; 0: not yet */
} Op;

typedef struct History {
        bool dir;
        unsigned n, n_unknown;
        Op ops[HISTORY_OPS];
} History;

/* The next operation, its number is its place in 'ops'; NULL: full. */
Op *history_call(History *h, OpKind kind, uint64_t at);
int history_number(const History *h, const Op *op);

/* A client saw the value that operation 'number' wrote, with this index. -EUCLEAN: there is no such
 * operation, or it had another index. */
int history_seen(History *h, int number, uint64_t modified);

/* Return 0 if the history is linearizable; -EUCLEAN with a message if it is not; -E2BIG if the search reached
 * its limit. */
int history_judge(const History *h, Error *err);
