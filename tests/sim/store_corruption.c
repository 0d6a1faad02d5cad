/* Corruption: a disk changes bytes of checkpoints and trees. */
#include <fcntl.h>
#include <sys/stat.h>

#include "kvstore/kvstore_internal.h"
#include "tests/sim/stores.h"

enum { DOUBT_MS = 60000 };

static uint64_t inode_of(const Host *h, const char *name) {
        _cleanup_free_ char *path = NULL;
        struct stat st;

        if (asprintf(&path, "%s/%s/data.mdb", h->tree, name) < 0)
                abort();
        return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static void flip(World *w, const Host *h, const char *name, uint64_t at) {
        _cleanup_free_ char *path = NULL;
        uint8_t byte;
        int fd;

        if (asprintf(&path, "%s/%s/data.mdb", h->tree, name) < 0)
                abort();
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || pread(fd, &byte, 1, (off_t) at) != 1)
                abort();
        byte ^= (uint8_t) (1 << world_draw(w, 8));
        if (pwrite(fd, &byte, 1, (off_t) at) != 1)
                abort();
        close(fd);
}

static bool others_are_well(Stores *all) {
        for (unsigned i = 0; i < all->n; i++)
                if (all->hosts[i].corrupt_checkpoint || all->hosts[i].corrupt_tree ||
                    all->hosts[i].replica_is_odd || all->hosts[i].disk_breaks)
                        return false;
        return true;
}

void store_flip_checkpoint(Host *h, unsigned n) {
        for (; n > 0; n--)
                flip(h->all->world, h, "checkpoint",
                     world_draw(h->all->world, replica_data_dir(h->store->replica)->checkpoint.size));
}

bool store_rot_checkpoint(Host *h) {
        Stores *all = h->all;
        const DataDir *folder;

        if (!others_are_well(all) || !stores_may_lose(all, h))
                return false;
        folder = replica_data_dir(h->store->replica);
        if (folder->checkpoint.fd < 0 || replica_error(h->store->replica, NULL) < 0)
                return false;
        store_flip_checkpoint(h, 1 + (unsigned) world_draw(all->world, 8));
        h->corrupt_checkpoint = inode_of(h, "checkpoint");
        h->damaged = true;
        all->lost_voter = h->raft_id;
        world_trace(all->world, h->name, "its checkpoint of entry %" PRIu64 " rots",
                    folder->checkpoint.meta.applied);
        return true;
}

/* -- The live tree: values only, since a corrupt page ends the process, which is a crash -- */

typedef struct Search {
        World *world;
        uint64_t n;
        const uint8_t *found;
} Search;

static int on_node(void *userdata, const KvNode *node) {
        Search *s = userdata;

        /* Choose keys that no client compares: a comparison with a corrupt value changes the tree and its
         * indexes, which is another fault, stores_flip(). */
        if (node->value.size >= 8 && kv_path_is_below(node->key, kv_string("/d")) &&
            world_draw(s->world, ++s->n) == 0)
                s->found = (const uint8_t *) node->value.data + node->value.size - 1; /* after the number */
        return 1;
}

/* Return the offset in its file of bytes that a transaction returned. */
static bool offset_in_file(const void *at, uint64_t inode, uint64_t *ret) {
        FILE *maps = fopen("/proc/self/maps", "re");
        unsigned long begin, end, offset, ino;
        bool found = false;
        char line[1024];

        while (maps && !found && fgets(line, sizeof(line), maps)) {
                found = sscanf(line, "%lx-%lx %*s %lx %*s %lu", &begin, &end, &offset, &ino) == 4 &&
                        (unsigned long) at >= begin && (unsigned long) at < end && ino == inode;
                *ret = (unsigned long) at - begin + offset;
        }
        if (maps)
                fclose(maps);
        return found;
}

bool store_rot_tree(Host *h) {
        Stores *all = h->all;
        Search search = { .world = all->world };
        uint64_t inode = inode_of(h, "live"), at;
        KvState state;
        TreeTxn *txn;
        bool r;

        if (!others_are_well(all) || !stores_may_lose(all, h) || replica_is_rebuilding(h->store->replica) ||
            replica_error(h->store->replica, NULL) < 0)
                return false;
        kv_state(h->store, &state);
        if (state.n_voters < 3 || kv_read(h->store, &txn) < 0)
                return false;
        (void) tree_walk(txn, kv_string("/"), true, on_node, &search);
        r = search.found && offset_in_file(search.found, inode, &at);
        tree_abort(txn);
        if (!r)
                return false;
        flip(all->world, h, "live", at);
        h->corrupt_tree = inode;
        h->corrupt = replica_live_tree(h->store->replica);
        h->corrupt_life = h->lives;
        h->corrupt_entry = state.raft_index;
        world_trace(all->world, h->name, "its tree rots");
        return true;
}

/* -- Detection -- */

/* The checkpoint was replaced, by its own copy or the leader's: its content must be right. */
static void check_checkpoint(Host *h, uint64_t applied) {
        _cleanup_free_ char *path = NULL;
        uint64_t hash = 0;
        TreeTxn *txn;
        Tree *tree;

        h->corrupt_entry = applied;
        if (asprintf(&path, "%s/checkpoint", h->tree) < 0)
                abort();
        if (tree_open(path, &(TreeOptions) { .read_only = true }, &tree, NULL) < 0 ||
            tree_begin_read(tree, &txn) < 0)
                abort();
        if (tree_check(txn, NULL) < 0 || tree_hash(txn, &hash) < 0 ||
            (h->all->n_hashes > applied && h->all->hashes[applied] != 0 && h->all->hashes[applied] != hash))
                world_failed(h->all->world, "no-checkpoint-of-a-corrupt-tree", "%s: of entry %" PRIu64,
                             h->name, applied);
        tree_abort(txn);
        tree_close(tree);
}

void store_see_rot(Host *h) {
        Stores *all = h->all;
        Replica *p;

        if (h->corrupt_checkpoint && inode_of(h, "checkpoint") != h->corrupt_checkpoint) {
                world_trace(all->world, h->name, "has another checkpoint");
                h->corrupt_checkpoint = 0;
                if (all->lost_voter == h->raft_id && store_is_up(h) &&
                    replica_state(h->store->replica) != REPLICA_QUARANTINED)
                        all->lost_voter = 0;
                h->damaged = all->lost_voter == h->raft_id;
        }
        if (!h->corrupt_tree || !store_is_up(h))
                return;
        p = h->store->replica;
        /* The next daemon opens the same file; within one daemon, the open tree is observed. */
        if (h->lives != h->corrupt_life && inode_of(h, "live") == h->corrupt_tree) {
                h->corrupt = replica_live_tree(p);
                h->corrupt_life = h->lives;
        }
        all->doubt_until_ms = world_now_ms(all->world) + DOUBT_MS;
        if (h->lives != h->corrupt_life || replica_serving(p) != h->corrupt) {
                world_trace(all->world, h->name, "has another tree");
                h->corrupt_tree = 0;
                all->counts[FAULT_ROT_FOUND]++;
        } else {
                const Checkpoint *c = &replica_data_dir(p)->checkpoint;

                if (c->fd >= 0 && c->meta.applied > h->corrupt_entry)
                        check_checkpoint(h, c->meta.applied);
        }
}

bool store_may_show_rot(const Host *h, bool written) {
        bool r = h->corrupt_tree != 0;

        for (unsigned i = 0; written && i < h->all->n; i++)
                r |= h->all->hosts[i].corrupt_tree != 0;
        return r;
}
