/* The state machine: one batch in one transaction, an answer and events for each command. Reads no clock, no chance,
 * touches nothing but the transaction: every replica with the same tree and the same entry ends with the same tree and
 * the same answers. Semantics: etcd v2 (reference: its API description), plus transactions. */
#pragma once

#include "kvstore/command.h"
#include "kvstore/tree.h"

/* One change of one key, as watchers see it. Borrowed for the call of 'on_event'. */
typedef struct KvEvent {
        KvAction action;
        uint64_t index;      /* the store's */
        KvNode node;         /* for delete and expire: key, indexes, dir */
        bool has_prev;
        KvNode prev;
        bool refresh;        /* watchers are not told; it takes a slot of the window */
        uint64_t now_ms;     /* cluster time of the entry */
} KvEvent;

typedef struct ApplySink {
        void (*on_result)(void *userdata, uint64_t origin, uint64_t number, const KvResult *result);
        void (*on_event)(void *userdata, const KvEvent *event);
        void *userdata;
} ApplySink;

/* Applies one Raft entry's batch inside 'txn' and moves the tree's meta (applied index and term, store's index, cluster
 * time, which never runs backward). A refused command is an answer like any other and changes nothing. A negative errno
 * means that this replica can no longer follow the log: the caller aborts the transaction and stops the replica. */
int apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes, size_t size, const ApplySink *sink);

/* The same for an entry without commands (a no-op, a configuration): only the meta moves. */
int apply_empty(TreeTxn *txn, uint64_t raft_index, uint64_t term);

/* One command, for tests and fuzzers: as apply_batch() does it, without the batch. */
int apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term, const ApplySink *sink, KvResult *ret);
