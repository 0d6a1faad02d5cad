/* Commands, batches and results, and their versioned codec.
 *
 * A command is an operation of the v2 API, or a transaction of checks and writes. A batch is the content of
 * one Raft entry: cluster time, and commands with their origins. Each replica applies each command, and so
 * has its result; the proposing daemon finds its waiter by (origin, number). Codec: version byte, op byte,
 * fixed little-endian fields, varint sizes; one canonical encoding; decoded commands borrow from the bytes of
 * the entry. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

enum {
        KV_KEY_MAX = 8192,  /* bytes of a path ("/a/b") */
        KV_DEPTH_MAX = 512, /* segments */
        KV_VALUE_MAX = 240 *
                       1024, /* bytes; a unit file as JSON fits, and the command fits into a Raft entry */
        KV_TXN_ITEMS_MAX = 4096,
        KV_COMMAND_MAX = 250 * 1024, /* bytes, encoded */
        KV_BATCH_MAX = 256 * 1024,   /* bytes, encoded; a single larger command is a batch */
        KV_BATCH_COMMANDS_MAX = 1000,
        KV_WRITTEN_MAX = 1024 * 1024, /* bytes of old values in the answer to one transaction */
        KV_CAUSE_MAX = 2 * KV_VALUE_MAX + KV_KEY_MAX, /* bytes: a failed comparison has both values */
        KV_PRINCIPAL_MAX = 255,                       /* bytes of the text of a principal */
};

/* A path or a value, borrowed. Paths begin with '/', and have no empty segment and no trailing slash; the
 * root is "/". They may contain NUL. */
typedef struct KvBytes {
        const void *data;
        size_t size;
} KvBytes;

static inline KvBytes kv_string(const char *s) {
        return (KvBytes) { s, s ? strlen(s) : 0 };
}

/* Feature levels. Apply depends on the level in the tree, not on the version of the program, so that all
 * replicas agree. A new behaviour has a new level, which is raised when all hosts support it (KV_RAISE). An
 * unknown level or command stops the replica. From level 5 on, apply has not changed. */
enum {
        KV_LEVEL_FIRST = 1,       /* 2: a quota of nodes in the head of a batch */
        KV_LEVEL_COST = 3,        /* limits of the cost of a command and of an entry */
        KV_LEVEL_HISTORY = 4,     /* rows of the history (KvNote) */
        KV_LEVEL_IDENTITY = 5,    /* keys and frames of membership with certificates */
        KV_LEVEL_ATTACHED = 6,    /* hosts without a replica: all hosts know their frames */
        KV_LEVEL_MAINTENANCE = 7, /* the engines of all hosts know the options of a drain */
        KV_LEVEL_REVISIONS = 8,   /* former texts of units are stored */
        KV_LEVEL_UPDATES = 9,     /* assignments name the text of a unit, and rollouts change it */
        KV_LEVEL_VERDICTS = 10,   /* rows of the history have codes (units/verdict.h) */
        KV_LEVEL_SERVICES = 11,   /* endpoints of services are keys; options of services */
        KV_LEVEL_SCHEDULING =
                12,           /* data, replicas and sizes of units: options, keys, and rules of machines */
        KV_LEVEL_INPUTS = 13, /* secrets, and inputs of units */
        KV_LEVEL_MAX = 13
};

typedef enum KvOp {
        KV_SET,    /* PUT: create or replace; with conditions, compareAndSwap: see prev_* */
        KV_CREATE, /* PUT prevExist=false */
        KV_UPDATE, /* PUT prevExist=true */
        KV_POST,   /* in-order child of key: 20 decimal digits of its index */
        KV_DELETE,
        KV_TXN,    /* checks, then writes; all or nothing */
        KV_EXPIRE, /* of the leader: remove at most 'limit' nodes that expire up to the entry's cluster time.
                    * From KV_LEVEL_COST on, with has_ttl: only the node that expires at 'ttl_ms' and was
                    * created at 'prev_index', if it is the first one */
        KV_RAISE,  /* of the engine: raise the feature level to 'limit' */
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

/* A row of the history, which the proposer attaches to a write. The store does not interpret 'body'. A
 * command that takes effect adds its rows to the tree, in the same transaction, from KV_LEVEL_HISTORY on;
 * below, the store omits notes from what it proposes, and apply rejects a write with one. */
enum { KV_NOTE_MAX = 512 }; /* bytes of a body */
typedef struct KvNote {
        uint64_t wall_ms; /* wall clock of the proposer */
        KvBytes body;     /* size 0: no row */
} KvNote;

/* A row of the history (kvstore/apply/history.h). A repetition within an hour of its first occurrence raises
 * the count of the row, and moves the row to the end. */
typedef struct KvHistoryRow {
        uint64_t index;             /* store index of the last occurrence; increases from row to row */
        uint64_t first_ms, last_ms; /* wall clocks of the proposers; last_ms is not below first_ms */
        uint64_t count;
        KvBytes body; /* borrowed */
} KvHistoryRow;

/* One operation. A write of a transaction is KV_SET, KV_CREATE, KV_UPDATE or KV_DELETE, with 'internal' and
 * 'term' of the transaction. */
typedef struct KvCommand {
        KvOp op;
        KvBytes key;
        KvBytes value;
        bool dir, recursive, refresh;
        bool has_ttl;
        uint64_t ttl_ms;     /* after the entry's cluster time; 0 with has_ttl: expires at once */
        uint64_t prev_index; /* 0: no condition */
        bool has_prev_value;
        KvBytes prev_value;
        bool later;        /* low priority before the log; not encoded */
        bool internal;     /* may write below /_fleet: set by components of the daemon, never by a client's
                              request */
        KvBytes principal; /* the sender, as text; size 0: this host itself. Not encoded: it goes to the
                              leader with the proposal */
        uint64_t term;     /* valid only in an entry of this Raft term; 0: any */
        uint64_t limit;    /* KV_EXPIRE, KV_RAISE */
        KvNote note;       /* of an internal write of a key */
        KvCheck *checks;   /* KV_TXN; borrowed array */
        size_t n_checks;
        struct KvCommand *writes;
        size_t n_writes;
} KvCommand;

static inline bool kv_command_compares(const KvCommand *cmd) {
        return cmd->prev_index > 0 || cmd->has_prev_value;
}

typedef enum KvStatus {
        KV_OK,
        KV_NOT_FOUND,      /* 100; cause: the first missing node */
        KV_COMPARE_FAILED, /* 101; of a transaction: a check or condition failed; cause: its key */
        KV_NOT_FILE,       /* 102 */
        KV_NOT_DIR,        /* 104; cause: the file in the path */
        KV_EXISTS,         /* 105 */
        KV_ROOT_READ_ONLY, /* 107 */
        KV_DIR_NOT_EMPTY,  /* 108 */
        KV_FORBIDDEN,      /* 110: /_fleet is internal */
        KV_TOO_LARGE,      /* a limit is exceeded; the cause names it */
        KV_INVALID,        /* no component creates such a command; the cause gives the reason */
        KV_TERM_CHANGED,   /* the entry has another term */
        /* Without an index of the store. Set before the log: */
        KV_NO_LEADER, /* no effect; cause: the number of reachable voters */
        KV_BUSY,      /* queue full; no effect */
        /* Set by apply, too: */
        KV_UNKNOWN,  /* the leader was lost: the command may have taken effect, or may still do */
        KV_LATE,     /* applied after its deadline: no effect. The proposer proposes it again */
        KV_DEFERRED, /* exceeded the budget of its entry: no effect. The proposer proposes it again */
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

const char *kv_action_name(KvAction a); /* as in etcd: "compareAndSwap" */

/* A current or previous node. KvResult and KvEvent own their copies; nodes from the tree borrow. */
typedef struct KvNode {
        KvBytes key;
        KvBytes value;
        bool dir;
        uint64_t created, modified; /* store indexes */
        uint64_t expires_ms;        /* cluster time; 0: never */
} KvNode;

/* Visit one node: > 0 continues, 0 stops, < 0 fails. */
typedef int (*KvVisit)(void *userdata, const KvNode *node);

/* The effect of one write of a transaction. */
typedef struct KvWritten {
        KvAction action;
        KvNode node, prev;
        bool has_prev;
        bool prev_cut;  /* the old value is omitted: KV_WRITTEN_MAX */
        bool refreshed; /* the value is unchanged: from KV_LEVEL_COST on, the cached result omits it */
} KvWritten;

/* The result of a command. Valid as long as the arena of the apply call. */
typedef struct KvResult {
        KvStatus status;
        KvAction action;                    /* the effect; of a rejected command: the requested one */
        bool internal;                      /* of the command */
        uint64_t index;                     /* the store's index after the command; of a write: its own */
        bool has_node, has_prev, refreshed; /* refreshed: as KvWritten's */
        KvNode node, prev;
        KvWritten *written; /* of a successful transaction that is not internal: one per write */
        size_t n_written;
        size_t refused_at; /* of a rejected transaction: the number of the check, or of the write after the
                            * checks, from 1; 0: none */
        bool has_found;    /* a check failed, and 'found' is the node at its key */
        KvNode found;
        KvBytes cause;   /* as in etcd, or a message; may be "" */
        uint64_t now_ms; /* cluster time of the entry, for "ttl" */
        uint64_t raft_index, term;
        uint64_t charged; /* of a deferred command: its cost, or the part that exceeded the budget of the
                             entry */
        bool again;       /* a cached result (kvstore/apply/dedup.h) */
} KvResult;

/* Return the effect of a command that is not a transaction. */
static inline KvWritten kv_result_change(const KvResult *r) {
        return (KvWritten) { r->action, r->node, r->prev, r->has_prev, .refreshed = r->refreshed };
}

/* Return a copy in one block, which the caller frees by free(); NULL without memory. */
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

/* Normalize a path from a client: resolve slashes and dots as Go's path.Clean does, with a leading and
 * without a trailing slash. The caller frees *ret ("/" for the root, which "" denotes, too). It may contain
 * NUL: use *ret_size. -ENAMETOOLONG: more than KV_KEY_MAX or KV_DEPTH_MAX. */
int kv_path_clean(const void *path, size_t size, char **ret, size_t *ret_size);
bool kv_path_is_ours(KvBytes path);                    /* "/_fleet" or below */
bool kv_path_is_below(KvBytes path, KvBytes ancestor); /* strictly */
bool kv_path_hidden_from(KvBytes path, KvBytes base);  /* a segment of 'path' below 'base' begins with '_' */
bool kv_bytes_equal(KvBytes a, KvBytes b);
/* Copy the bytes to *at, let 'bytes' refer to the copy, and advance *at; the same for key and value of a
 * node.
 */
void kv_bytes_place(char **at, KvBytes *bytes);
void kv_node_place(char **at, KvNode *node);

/* -- Codec -- */

/* Encode one command without a batch, for a tree of this feature level: without what a program of that level
 * cannot decode. */
int kv_command_encode(const KvCommand *cmd, unsigned level, Writer *w);
/* Decode exactly 'size' bytes, and check the limits above. The arrays of a transaction are in *ret_arena,
 * which the caller frees. -EBADMSG, -ENOMEM; -ENOTSUP: a newer version. */
int kv_command_decode(const void *bytes, size_t size, KvCommand *ret, void **ret_arena);
/* Check sizes, depth, form, and 'internal' against the keys; before the log, and again in apply. Return 0 and
 * KV_OK, or a negative errno, the status of the answer, and a message. */
int kv_command_check(const KvCommand *cmd, KvStatus *ret_status, Error *err);
/* Return an upper bound of the encoded size of a transaction: at most KV_COMMAND_MAX is accepted. */
size_t kv_transaction_size(const KvCommand *cmd);

/* kvstore/apply/dedup.h explains the first four members. */
typedef struct KvBatchItem {
        uint64_t origin;       /* random for each start of the proposing daemon; not 0 */
        uint64_t number;       /* sequence number of the origin, at least 'acknowledged' */
        uint64_t acknowledged; /* acknowledged bound: the lowest number for which the origin still waits */
        uint64_t deadline_ms;  /* in cluster time; 0: never repeated, and its result is not cached */
        const void *command;
        size_t command_size;
} KvBatchItem;

/* The leader stamps an entry with these values; apply depends on them, and on no state of its host. */
typedef struct KvBatchHead {
        uint64_t cluster_ms;
        uint64_t quota;       /* limit of the weight of users' nodes from now on; 0: unchanged */
        unsigned level;       /* of the tree at the proposal: determines the fields */
        uint64_t quota_nodes; /* from level 2 on: limit of the number of users' nodes; 0: unchanged */
} KvBatchHead;

/* Items with the same origin and acknowledged bound, increasing numbers, and no deadline before that of the
 * first form a group, whose common fields are encoded once. */
typedef struct KvBatch {
        Reader reader;
        uint8_t version;
        uint64_t origin, number, acknowledged, deadline_ms; /* of the current group */
} KvBatch;

/* Begin a batch; append items while commands arrive. A batch has no end marker. */
void kv_batch_begin(KvBatch *b, Writer *w, const KvBatchHead *head);
void kv_batch_add(KvBatch *b, Writer *w, const KvBatchItem *item);
/* Read the head, then one item per call: 1, or 0 at the end. -EBADMSG; -ENOTSUP: an unknown feature level. */
int kv_batch_open(KvBatch *b, const void *bytes, size_t size, KvBatchHead *ret_head);
int kv_batch_next(KvBatch *b, KvBatchItem *ret);
