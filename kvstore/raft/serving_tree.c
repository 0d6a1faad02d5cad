/* The live tree, and the serving tree while the live one is being rebuilt. */
#include "kvstore/raft/replica_internal.h"

int replica_tree_meta(const Replica *p, Tree *tree, TreeMeta *ret, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = tree_begin_read(tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, ret);
        return r < 0 ? error_set(err, r, "Failed to read the tree in %s: %s", p->data_dir.path,
                                 strerror(-r)) :
                       0;
}

Tree *replica_serving(const Replica *p) {
        return p->trees.previous ?: p->trees.live;
}

Tree *replica_live_tree(const Replica *p) {
        return p->trees.live;
}

bool replica_is_rebuilding(const Replica *p) {
        return p->trees.previous;
}

Tree *replica_close_live_tree(Replica *p) {
        return p->trees.live = tree_close(p->trees.live);
}

/* The live tree serves from now on. */
static void serve_live(Replica *p) {
        p->trees.previous = tree_close(p->trees.previous);
        p->trees.replaced |= p->trees.previous_wrong;
        p->trees.previous_wrong = false;
}

void replica_caught_up(Replica *p, uint64_t applied) {
        if (p->trees.previous && applied >= p->trees.previous_applied)
                serve_live(p);
}

int replica_exchange_tree(Replica *p, Tree *tree, bool wrong) {
        ServingTree *t = &p->trees;
        TreeMeta meta;

        if (!t->previous && t->live && replica_tree_meta(p, t->live, &meta, NULL) >= 0) {
                t->previous = TAKE_PTR(t->live);
                t->previous_applied = meta.applied;
                t->previous_wrong = false;
        }
        t->previous_wrong |= wrong;
        (void) replica_close_live_tree(p);
        t->live = tree;

        TRY(replica_tree_meta(p, tree, &meta, NULL));
        if (!t->previous || meta.applied > t->previous_applied) {
                t->previous_wrong = true; /* no observer was notified of the entries between the two */
                serve_live(p);
        } else
                replica_caught_up(p, meta.applied);
        return 0;
}

void replica_install_tree(Replica *p, Tree *tree, uint64_t index) {
        /* A new replica of this host may be behind the tree of its quarantined predecessor. */
        bool behind = p->trees.previous && index < p->trees.previous_applied;

        if (!behind)
                p->trees.previous = tree_close(p->trees.previous);
        p->trees.previous_wrong |= behind;
        p->trees.replaced |= !behind;
        (void) replica_close_live_tree(p);
        p->trees.live = tree;
}
