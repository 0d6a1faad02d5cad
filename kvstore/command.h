/* What a Raft entry says, and what it answered: commands, batches, results; the versioned codec.
 *
 * A command is one thing somebody asked for: a v2 operation, or a transaction of checks and writes. A batch
 * is what one Raft entry carries: cluster time, and commands with who asked. Every replica applies every
 * command and so knows every result; the daemon that asked finds its waiter by (origin, number). Codec:
 * version byte, op byte, fixed little-endian fields, varint sizes; one canonical form (decode then encode
 * gives the same bytes); decoded commands borrow from the entry's bytes. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
        KV_KEY_MAX = 8192,  /* bytes of a path ("/a/b"), longer ones are refused */
        KV_DEPTH_MAX = 512, /* segments */
        KV_VALUE_MAX =
                240 *
                1024, /* bytes; a unit file as JSON fits, and so does the command into an entry of Raft's */
        KV_TXN_ITEMS_MAX = 4096,
        KV_COMMAND_MAX = 250 * 1024, /* encoded */
        KV_BATCH_MAX = 256 * 1024,   /* encoded; a single larger command makes a batch of its own */
        KV_BATCH_COMMANDS_MAX = 1000,
        KV_WRITTEN_MAX = 1024 * 1024, /* bytes of old values that the answer to one transaction brings */
};

/* Bytes that are not ours: a path or a value. Paths begin with '/', have no empty segment and no trailing
 * slash; the root is "/". NUL may be inside. */
typedef struct KvBytes {
        const void *data;
        size_t size;
} KvBytes;

static inline KvBytes kv_string(const char *s) {
        return (KvBytes) { s, s ? strlen(s) : 0 };
}

/* What apply does is the same on all replicas because it goes by the level in the tree, not by the program:
 * what is new comes with a new level, which is raised when all hosts can (KV_RAISE). A program that meets a
 * level or a command that it does not know stops its replica. 2: a quota of nodes, by the batch's head. 3:
 * what a command and an entry may cost (kvstore/cost.h). */
enum { KV_LEVEL_FIRST = 1, KV_LEVEL_COST = 3, KV_LEVEL_MAX = 3 };

typedef enum KvOp {
        KV_SET,    /* PUT: make or replace; with conditions this is compareAndSwap, see prev_* */
        KV_CREATE, /* PUT prevExist=false */
        KV_UPDATE, /* PUT prevExist=true */
        KV_POST,   /* in-order child of key: 20 decimal digits of its index */
        KV_DELETE,
        KV_TXN,    /* checks, then writes; all or nothing */
        KV_EXPIRE, /* the leader's: remove what is due at the entry's cluster time, at most 'limit' nodes.
                      From KV_LEVEL_COST on, with has_ttl: only the node that expires at 'ttl_ms' and was
                      created at 'prev_index', if it is the first one */
        KV_RAISE,  /* fleet's: the feature level becomes 'limit', if it was lower */
        _KV_OP_MAX,
        _KV_OP_INVALID = -EINVAL,
} KvOp;

typedef enum KvCheckKind {
        KV_CHECK_ABSENT,
        KV_CHECK_EXISTS,
        KV_CHECK_MODIFIED, /* modified index equals 'index'; 0: absent */
        KV_CHECK_VALUE,    /* a file whose value equals 'value' */
        _KV_CHECK_MAX,
} KvCheckKind;

typedef struct KvCheck {
        KvCheckKind kind;
        KvBytes key;
        uint64_t index;
        KvBytes value;
} KvCheck;

/* One operation; of a transaction's writes 'op' is KV_SET, KV_CREATE, KV_UPDATE or KV_DELETE, and 'internal'
 * and 'term' are the transaction's. */
typedef struct KvCommand {
        KvOp op;
        KvBytes key;
        KvBytes value;
        bool dir, recursive, refresh;
        bool has_ttl;
        uint64_t ttl_ms;     /* from the entry's cluster time; 0 with has_ttl: due at once */
        uint64_t prev_index; /* 0: no condition */
        bool has_prev_value;
        KvBytes prev_value;
        bool later;     /* gives way to all other commands on its way to the log; of no meaning there, and not
                           encoded */
        bool internal;  /* may write below /_fleet: set by our own rooms, never by a client's request */
        uint64_t term;  /* valid only in an entry of this Raft term; 0: any (ARCHITECTURE rule 24) */
        uint64_t limit; /* KV_EXPIRE, KV_RAISE */
        KvCheck *checks; /* KV_TXN; borrowed array */
        size_t n_checks;
        struct KvCommand *writes;
        size_t n_writes;
} KvCommand;

typedef enum KvStatus {
        KV_OK,
        KV_NOT_FOUND,      /* 100; cause: the first missing node */
        KV_COMPARE_FAILED, /* 101; of a transaction: a check or a condition failed, cause: its key */
        KV_NOT_FILE,       /* 102 */
        KV_NOT_DIR,        /* 104; cause: the file in the way */
        KV_EXISTS,         /* 105 */
        KV_ROOT_READ_ONLY, /* 107 */
        KV_DIR_NOT_EMPTY,  /* 108 */
        KV_FORBIDDEN,      /* 110: /_fleet is ours */
        KV_TOO_LARGE,      /* a limit of section 13 rule 5; the cause names it */
        KV_INVALID,        /* not a command that any of our rooms makes; the cause says why */
        KV_TERM_CHANGED,   /* 'term' is not the entry's */
        /* From the way to the log, never out of it: */
        KV_NO_LEADER, /* nothing happened; cause says how many voters are reachable */
        KV_BUSY,      /* queue full; nothing happened */
        KV_UNKNOWN,   /* the leader was lost after it had been asked: it may have happened, or may yet */
        KV_LATE, /* its deadline was past when it came to the log: nothing happened. Who asked asks anew, and
                    tells nobody */
        KV_DEFERRED, /* it exceeds what was left of its entry's budget: nothing happened. The proposer
                        proposes it again */
        _KV_STATUS_MAX,
} KvStatus;

const char *kv_status_name(KvStatus s);

typedef enum KvAction {
        KV_ACTION_GET,
        KV_ACTION_SET,
        KV_ACTION_CREATE,
        KV_ACTION_UPDATE,
        KV_ACTION_CAS,
        KV_ACTION_CAD,
        KV_ACTION_DELETE,
        KV_ACTION_EXPIRE,
        _KV_ACTION_MAX,
} KvAction;

const char *kv_action_name(KvAction a); /* etcd's words: "compareAndSwap" */

/* A node as it is, or was. Owned copies live in KvResult and KvEvent; those from the tree borrow. */
typedef struct KvNode {
        KvBytes key;
        KvBytes value;
        bool dir;
        uint64_t created, modified; /* store indexes */
        uint64_t expires_ms;        /* cluster time; 0: never */
} KvNode;

/* What one write of a transaction did. */
typedef struct KvWritten {
        KvAction action;
        KvNode node, prev;
        bool has_prev;
        bool prev_cut;  /* the old value was left out: KV_WRITTEN_MAX */
        bool refreshed; /* the value stayed: from KV_LEVEL_COST on it is not kept with the answer */
} KvWritten;

/* What a command answered. Lives as long as the apply call's arena: copy what outlives it. */
typedef struct KvResult {
        KvStatus status;
        KvAction action; /* what was done; of a refused command: what was asked for */
        bool internal;   /* the command was one of our own rooms' */
        uint64_t index;  /* the store's index after the command (of the write itself when it was one) */
        bool has_node, has_prev, refreshed; /* refreshed: as KvWritten's */
        KvNode node, prev;
        KvWritten *
                written; /* of a transaction of others than our rooms, when it was done: one for each write */
        size_t n_written;
        size_t refused_at; /* of a refused transaction: its check, or behind the checks its write, from 1; 0:
                              none of them */
        bool has_found;    /* a check refused it, and 'found' is what stands at its key */
        KvNode found;
        KvBytes cause; /* etcd's cause, or a sentence where etcd has none; "" when there is nothing to say */
        uint64_t now_ms; /* cluster time of the entry, for "ttl" */
        uint64_t raft_index, term;
        uint64_t charged; /* of a command that was deferred: what it costs, or the part at which it exceeded
                             what was left of the entry */
        bool again;       /* asked before: the answer of the first time (kvstore/apply/dedup.h) */
} KvResult;

/* A copy in one block, to be freed by free(); NULL without memory. */
KvResult *kv_result_copy(const KvResult *result);

/* One change of one key, as watchers receive it. */
typedef struct KvEvent {
        KvAction action;
        uint64_t index; /* the store's */
        KvNode node;    /* of a deletion or expiry: key, indexes, dir; a directory takes all below it along */
        bool has_prev;
        KvNode prev;
        bool refresh;    /* only the time to live changed: it takes a slot of the window */
        uint64_t now_ms; /* cluster time of the entry */
} KvEvent;

/* -- Paths -- */

/* Cleans what a client sent: collapses slashes and dots as Go's path.Clean, a leading but no trailing slash;
 * -ENAMETOOLONG beyond KV_KEY_MAX or KV_DEPTH_MAX. The caller frees *ret ("/" for the root, "" is the root,
 * too); *ret_size counts, NUL may be inside. */
int kv_path_clean(const void *path, size_t size, char **ret, size_t *ret_size);
bool kv_path_is_ours(KvBytes path);                    /* "/_fleet" or below */
bool kv_path_is_below(KvBytes path, KvBytes ancestor); /* strictly */
bool kv_path_hidden_from(KvBytes path, KvBytes base);  /* a segment of 'path' below 'base' begins with '_' */
bool kv_bytes_equal(KvBytes a, KvBytes b);

/* -- Codec -- */

/* One command, alone (as sessions carry it). */
int kv_command_encode(const KvCommand *cmd, Writer *w);
/* Decodes exactly 'size' bytes; arrays of a transaction are in *ret_arena, which the caller frees. -EBADMSG,
 * -ENOTSUP for a newer version, -ENOMEM. Limits above are checked here too. */
int kv_command_decode(const void *bytes, size_t size, KvCommand *ret, void **ret_arena);
/* Checked before the log, and again by apply: sizes, depth, shape, and 'internal' against the keys. 0 and
 * KV_OK; else a negative errno, the answer to give in *ret_status, and its sentence in 'err'. */
int kv_command_check(const KvCommand *cmd, KvStatus *ret_status, Error *err);

/* (kvstore/apply/dedup.h says what the first four are for.) */
typedef struct KvBatchItem {
        uint64_t origin;      /* drawn by the daemon that asked, when it started; not 0 */
        uint64_t number;      /* its own count, not below 'floor' */
        uint64_t floor;       /* the lowest number that it still waits for */
        uint64_t deadline_ms; /* in cluster time; 0: asked once, and no answer is kept */
        const void *command;
        size_t command_size;
} KvBatchItem;

/* What the leader stamps an entry with: apply goes by these and by nothing of its own host. */
typedef struct KvBatchHead {
        uint64_t cluster_ms;
        uint64_t quota;       /* bytes that users' nodes may weigh from now on; 0: as before */
        unsigned level;       /* the tree's, when it was proposed: which fields there are */
        uint64_t quota_nodes; /* from level 2 on: how many users' nodes there may be; 0: as before */
} KvBatchHead;

/* Items with one origin and floor, numbers that rise and no deadline before the first one's share what they
 * have in common. */
typedef struct KvBatch {
        Reader reader;
        uint8_t version;
        uint64_t origin, number, floor, deadline_ms; /* the next item's follow from these */
} KvBatch;

/* A batch is begun, and appended to while commands arrive; there is nothing to close. */
void kv_batch_begin(KvBatch *b, Writer *w, const KvBatchHead *head);
void kv_batch_add(KvBatch *b, Writer *w, const KvBatchItem *item);
/* Reads the head, then items one by one: 1, 0 at the end, -EBADMSG; -ENOTSUP of a feature level that is
 * not known here. */
int kv_batch_open(KvBatch *b, const void *bytes, size_t size, KvBatchHead *ret_head);
int kv_batch_next(KvBatch *b, KvBatchItem *ret);
