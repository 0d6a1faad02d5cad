/* Slices: a subscription has the set of keys that its host may lack, and each page carries some of them. */
#include "kvstore/kvstore_internal.h"
#include "kvstore/serve_internal.h"

enum { ITEM_KEPT_MAX = 16 * 1024 }; /* bytes of an item that stays in memory for other hosts */

/* 0 or -ENOMEM. */
static int subscription_add(Subscription *s, KvBytes key) {
        Changed *c;

        HASH_FIND(hh, s->changed, key.data, key.size, c);
        if (c)
                return 0;
        c = malloc(sizeof(*c) + key.size);
        if (!c)
                return -ENOMEM;
        c->size = key.size;
        memcpy(c->key, key.data, key.size);
        HASH_ADD(hh, s->changed, key, key.size, c);
        return TABLE_ADDED_OR_FREED(c) ? 0 : -ENOMEM;
}

static int subscription_on_key(void *userdata, KvBytes key) {
        loop_count(((Subscription *) userdata)->serve->loop, 1, 0);
        return subscription_add(userdata, key);
}

static int subscription_add_all(Subscription *s) {
        const KvSlices *slices = &s->serve->slices;

        return slices->each(slices->userdata, s->machine, subscription_on_key, s);
}

/* -- Pages -- */

/* Return whether the host had this version; it is not reported as dropped then. */
static bool subscription_take_version(Subscription *s, uint64_t hash) {
        Version *v;

        HASH_FIND(hh, s->versions, &hash, sizeof(hash), v);
        if (!v)
                return false;
        HASH_DEL(s->versions, v);
        return true;
}

static bool serve_has_item(const Serve *serve, KvBytes key) {
        return serve->last_key.size == key.size && memcmp(serve->last_key.bytes, key.data, key.size) == 0;
}

static void serve_keep_item(Serve *serve, KvBytes key, const void *item, size_t size) {
        serve->last_key.size = serve->last_item.size = 0;
        if (size > ITEM_KEPT_MAX)
                return;
        write_raw(&serve->last_item, item, size);
        if (serve->last_item.error == 0)
                write_raw(&serve->last_key, key.data, key.size);
}

/* Write the key as the tree has it now; *txn is begun when it is needed. Many hosts that get the same key in
 * a turn of the loop have it from one read. A key that cannot be read is not absent: 0, or the error;
 * -EAGAIN: no tree can be read now. */
static int page_add(Subscription *s, TreeTxn **txn, KvBytes key, Writer *w) {
        Serve *serve = s->serve;
        RemoteItem item = { .kind = REMOTE_REMOVED, .node.key = key };
        size_t begin = w->size;
        KvNode node;
        int r = -ENOENT;

        if (serve->slices.has(serve->slices.userdata, s->machine, key)) {
                if (!s->versions && serve_has_item(serve, key)) {
                        write_raw(w, serve->last_item.bytes, serve->last_item.size);
                        return 0;
                }
                if (!*txn && kv_read(serve->store, txn) < 0)
                        return -EAGAIN;
                r = tree_get(*txn, key, &node);
        }
        if (r == 0) {
                node.key = key;
                if (subscription_take_version(s, remote_hash(key, node.modified)))
                        return 0;
                item = (RemoteItem) { .kind = REMOTE_NODE, .node = node };
        } else if (r != -ENOENT)
                return r;
        remote_item_write(&item, w);
        if (r == 0 && w->error == 0)
                serve_keep_item(serve, key, w->bytes + begin, w->size - begin);
        return 0;
}

static void page_add_dropped(Subscription *s, Writer *w) {
        for (Version *v = s->versions; v; v = v->hh.next)
                remote_item_write(&(RemoteItem) { .kind = REMOTE_DROPPED, .hash = v->hash }, w);
}

/* Write changed keys up to the size of a page. Return whether none is left, or an error of the tree. */
static int page_fill(Subscription *s, TreeTxn **txn, Writer *w) {
        Changed *c;

        while ((c = s->changed) && w->size < REMOTE_PAGE) {
                TRY(page_add(s, txn, (KvBytes) { c->key, c->size }, w));
                HASH_DEL(s->changed, c);
                loop_count(s->serve->loop, 1, 0);
                free(c);
        }
        return !s->changed;
}

/* The index is read before the tree, which may be newer: the host then has a newer version of some keys, and
 * receives them again. */
bool slice_send(Subscription *s, PeerSession *session) {
        const KvSlices *slices = &s->serve->slices;
        uint64_t index = slices->each ? slices->index(slices->userdata) : 0;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_writer_ Writer items = {};
        int complete;

        if (index < s->least || index == 0)
                return false;
        if (!s->changed && s->sent >= index)
                return true;
        complete = page_fill(s, &txn, &items);
        if (complete == -EAGAIN && items.size == 0)
                return false;
        if (complete == -EAGAIN)
                complete = false;
        if (complete < 0) { /* the host uses another replica */
                subscription_end(s, REMOTE_GONE_BEHIND, 0);
                return true;
        }
        if (complete && s->sent == 0)
                page_add_dropped(s, &items);
        if (subscription_send(s, session, complete ? index : 0, &items) < 0) {
                subscription_end(s, REMOTE_GONE_OVERFLOW, 0);
                return true;
        }
        if (!complete) {
                subscription_ready(s);
                return true;
        }
        if (s->sent == 0)
                slice_forget(s);
        s->sent = index;
        return true;
}

/* -- Changes -- */

int slice_begin(Subscription *s, RemoteSubscribe *subscribe) {
        s->unread = subscribe->hashes;
        write_raw(&s->hashes, s->unread.bytes, s->unread.left);
        s->unread.bytes = s->hashes.bytes;
        return s->hashes.error < 0 ? -ENOMEM : subscription_add_all(s);
}

int slice_enter_versions(Subscription *s) {
        size_t n = MIN(s->unread.left / sizeof(uint64_t), (size_t) SERVE_VERSIONS_AT_ONCE);
        RemoteSubscribe next = { .hashes = s->unread };
        VersionBlock *block;

        if (n == 0)
                return 1;
        block = calloc(1, sizeof(*block) + n * sizeof(Version));
        if (!block)
                return -ENOMEM;
        SLIST_INSERT_HEAD(&s->blocks, block, blocks);
        for (Version *v = block->versions, *same; v < block->versions + n; v++) {
                (void) remote_next_hash(&next, &v->hash);
                HASH_FIND(hh, s->versions, &v->hash, sizeof(v->hash), same);
                if (same)
                        continue;
                HASH_ADD(hh, s->versions, hash, sizeof(v->hash), v);
                if (!TABLE_ADDED(v))
                        return -ENOMEM;
        }
        loop_count(s->serve->loop, n, 0);
        s->unread = next.hashes;
        return s->unread.left == 0;
}

static void subscription_touch(Subscription *s, KvBytes key) {
        if (subscription_add(s, key) < 0)
                subscription_end(s, REMOTE_GONE_OVERFLOW, 0);
        else if (s->synced)
                subscription_ready(s);
}

void kv_slice_touched(KvStore *store, const char *machine, KvBytes key) {
        Subscription *s = store->serve ? store->serve->by_machine : NULL;

        if (s && machine)
                s = TABLE_FIND(store->serve->by_machine, machine);
        if (s && machine)
                subscription_touch(s, key);
        for (Subscription *next; s && !machine; s = next) {
                next = s->hh.next;
                subscription_touch(s, key);
        }
}

void serve_slice_at_least(Serve *serve, const char *machine, uint64_t index) {
        Subscription *s = TABLE_FIND(serve->by_machine, machine);

        if (!s || !s->synced)
                return;
        s->least = MAX(s->least, index);
        subscription_ready(s);
}
