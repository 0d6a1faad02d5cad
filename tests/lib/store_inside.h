/* What tests of other components check inside a store, and kvstore.h does not offer. */
#pragma once

#include "kvstore/kvstore_internal.h"
#include "kvstore/remote_internal.h"

static inline int store_copy_node(void *userdata, const KvNode *node) {
        *(KvNode *) userdata = *node;
        return 0;
}

/* Return 0 or -ENOENT, as kv_local_get(). The node borrows from the tree until the next write. */
static inline int store_node(KvStore *store, const char *key, KvNode *ret) {
        *ret = (KvNode) {};
        return kv_local_get(store, kv_string(key), store_copy_node, ret);
}

static inline bool store_has(KvStore *store, const char *key) {
        KvNode node;

        return store_node(store, key, &node) == 0;
}

/* Return 0 if every node of the tree decodes and its sums agree. */
static inline int store_check(KvStore *store, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(store, &txn);
        return r < 0 ? r : tree_check(txn, err);
}

static inline int store_meta(KvStore *store, TreeMeta *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(store, &txn);
        return r < 0 ? r : tree_meta(txn, ret);
}

/* Return the hash of the tree, and the applied index that it belongs to. */
static inline int store_hash(KvStore *store, uint64_t *ret_hash, uint64_t *ret_applied) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = kv_read(store, &txn);
        if (r < 0)
                return r;
        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        *ret_applied = meta.applied;
        return tree_hash(txn, ret_hash);
}

/* Return the index up to which the slice of an attached host was sent from here; 0: it does not use this
 * replica. */
static inline uint64_t store_sent_index(const KvStore *store, const char *machine_id) {
        PeerSession *session = store->serve ? peers_accepted(store->peers, machine_id) : NULL;
        uint64_t index = 0, events;

        if (session)
                serve_indexes(store->serve, session, &index, &events);
        return index;
}

/* Return the index up to which an attached host has its slice from the replica in use; 0: not complete. */
static inline uint64_t store_slice_index(const KvStore *store) {
        return store->remote && store->remote->complete ? store->remote->current : 0;
}

/* Transfer leadership, 0: to the voter that is up to date first. */
static inline int store_transfer(KvStore *store, uint64_t raft_id) {
        return replica_transfer(store->replica, raft_id);
}

/* Return whether the replica has stopped, and writes go to a known leader. */
static inline bool store_forwards(const KvStore *store) {
        return replica_error(store->replica, NULL) < 0 && replica_known_leader(store->replica) != 0;
}

/* End all watches as a snapshot does that replaces the tree. */
static inline void store_clear_watches(KvStore *store, uint64_t index) {
        hub_cleared(store->hub, index);
}
