#include "kvstore/serve_reads.h"

#include "kvstore/serving.h"
#include "peers/call.h"

/* A read that waits for a ReadIndex check, for the bound of its host, or for budget of the loop. */
typedef struct Reading {
        Served served;
        ServeReads *reads;
        RemoteRead read; /* owns its key, below */
        KvSync sync;
        bool syncing;
        uint64_t until_ms;
        char key[];
} Reading;

struct ServeReads {
        Loop *loop;
        Peers *peers;
        KvStore *store;
        Serve *serve;
        Calls keys, syncs;
        size_t n; /* of keys */
        Timer retry;
        Deferred next; /* reads that wait for budget of the loop */
};

static void reading_free(Reading *r) {
        if (r->syncing)
                kv_sync_cancel(r->reads->store, &r->sync);
        r->reads->n -= r->read.kind != REMOTE_SYNC;
        served_remove(&r->served);
        free(r);
}

static void reading_on_gone(Served *s) {
        reading_free(container_of(s, Reading, served));
}

/* Send the answer, and free the read. */
static void reading_answer(Reading *r, const RemoteFound *found, const KvNode *node) {
        _cleanup_writer_ Writer w = {};

        serve_bound(r->reads->serve);
        remote_found_write(found, &w);
        if (node)
                remote_item_write(&(RemoteItem) { .kind = REMOTE_NODE, .node = *node }, &w);
        (void) served_send(&r->served, PEER_FOUND, &w);
        reading_free(r);
}

/* Return whether the host may read a key now. */
static bool reading_is_permitted(const Reading *r, KvBytes key) {
        const PeerSession *session = served_session(&r->served);

        return session && serve_may_read(r->reads->serve, peer_handshake(session)->machine_id, key);
}

/* A key that the host may not read is absent. */
static void reading_hide(Reading *r) {
        reading_answer(r,
                       &(RemoteFound) { .number = r->read.number,
                                        .error = -ENOENT,
                                        .index = kv_index(r->reads->store),
                                        .missing = r->read.key },
                       NULL);
}

static void reading_fail(Reading *r, int error) {
        reading_answer(r, &(RemoteFound) { .number = r->read.number, .error = error }, NULL);
}

/* -- An index -- */

/* The slice of the host is sent up to this index, too: at once, because the host waits for it. */
static void reading_on_synced(void *userdata, KvStatus status) {
        Reading *r = userdata;
        PeerSession *session = served_session(&r->served);
        uint64_t index = kv_index(r->reads->store);

        r->syncing = false;
        if (session && status == KV_OK)
                serve_slice_at_least(r->reads->serve, peer_handshake(session)->machine_id, index);
        reading_answer(r, &(RemoteFound) { .number = r->read.number, .status = status, .index = index },
                       NULL);
}

/* -- A node -- */

static void reading_on_got(void *userdata, int result, const KvFound *found) {
        Reading *r = userdata;
        const KvNode *node;

        if (result < 0) {
                reading_fail(r, result);
                return;
        }
        node = found->node && found->node->key.size > 1 ? found->node : NULL; /* the root is not stored */
        reading_answer(r,
                       &(RemoteFound) { .number = r->read.number,
                                        .error = found->error,
                                        .index = found->index,
                                        .has_node = node,
                                        .is_file = found->is_file,
                                        .missing = found->missing },
                       node);
}

/* -- Start -- */

/* A host that has given up its replica meanwhile reads for no other one. */
static bool reading_can_start(const Reading *r) {
        const KvStore *store = r->reads->store;

        return !kv_is_attached(store) && kv_can_serve(store) && kv_index(store) >= r->read.bound;
}

static void reading_read(Reading *r) {
        KvGet get = { .key = r->read.key, .done = reading_on_got, .userdata = r };

        if (!reading_is_permitted(r, r->read.key)) {
                reading_hide(r);
                return;
        }
        kv_get(r->reads->store, &get); /* a local tree answers at once */
}

/* Read, or wait until the tree has reached the bound of the host. A session may send many requests at once:
 * a turn without budget leaves them to the next one. */
static void reading_start(Reading *r) {
        ServeReads *reads = r->reads;

        if (reading_can_start(r) && loop_has_budget(reads->loop))
                reading_read(r);
        else if (loop_now_ms(reads->loop) >= r->until_ms) /* its host does not wait for much longer */
                reading_fail(r, -EAGAIN);
        else if (reading_can_start(r))
                loop_defer(reads->loop, &reads->next);
        else if (!timer_armed(&reads->retry))
                (void) timer_start(&reads->retry, reads->loop, SERVE_RETRY_MS);
}

/* Start the oldest read that can start, and others as long as there is budget. */
static void reads_on_next(void *userdata) {
        ServeReads *reads = userdata;
        bool first = true;

        for (Served *s = TAILQ_FIRST(&reads->keys.served), *next; s; s = next) {
                Reading *r = container_of(s, Reading, served);

                next = TAILQ_NEXT(s, all);
                if (first && reading_can_start(r)) {
                        first = false;
                        reading_read(r);
                } else
                        reading_start(r);
        }
}

/* Return the new read, or NULL: the session may have no more of this kind. */
static Reading *reading_new(ServeReads *reads, PeerSession *session, const RemoteRead *read) {
        bool sync = read->kind == REMOTE_SYNC;
        Calls *calls = sync ? &reads->syncs : &reads->keys;
        const ServedSession *of = served_of(calls, session);
        Reading *r;
        char *at;

        if ((of && of->n >= (sync ? SERVE_SYNCS_OF_SESSION_MAX : SERVE_READS_OF_SESSION_MAX)) ||
            (!sync && reads->n >= SERVE_READS_MAX))
                return NULL;
        r = calloc(1, sizeof(*r) + read->key.size);
        if (!r)
                return NULL;
        *r = (Reading) { .reads = reads,
                         .read = *read,
                         .until_ms = loop_now_ms(reads->loop) + SERVE_BEHIND_MS };
        if (served_add(&r->served, calls, session, read->number) < 0) {
                free(r);
                return NULL;
        }
        at = r->key;
        kv_bytes_place(&at, &r->read.key);
        reads->n += !sync;
        return r;
}

/* Too many reads wait: the host sends it again, until it is due. */
static void reads_reject(PeerSession *session, uint32_t number) {
        _cleanup_writer_ Writer w = {};

        remote_found_write(&(RemoteFound) { .number = number, .status = KV_BUSY, .error = -EBUSY }, &w);
        if (w.error == 0)
                (void) peer_reply(session, PEER_FOUND, w.bytes, w.size);
}

static void reads_on_read(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        ServeReads *reads = userdata;
        RemoteRead read;
        Reading *r;

        if (remote_read_read(payload, size, &read) < 0 || kv_is_attached(reads->store))
                return;
        r = reading_new(reads, session, &read);
        if (!r) {
                reads_reject(session, read.number);
                return;
        }
        if (read.kind != REMOTE_SYNC) {
                if (!reads->next.loop) /* otherwise, older ones wait */
                        reading_start(r);
                return;
        }
        r->sync = (KvSync) { .done = reading_on_synced, .userdata = r };
        r->syncing = true;
        kv_sync(reads->store, &r->sync);
}

static const CallType read_calls = { .on_gone = reading_on_gone };

static const PeerFrameType frame_types[] = {
        { PEER_READ, reads_on_read },
};

int serve_reads_new(ServeReads **ret, Loop *loop, Peers *peers, KvStore *store, Serve *serve) {
        ServeReads *reads = NEW0(ServeReads, 1);

        if (!reads)
                return -ENOMEM;
        *reads = (ServeReads) { .loop = loop, .peers = peers, .store = store, .serve = serve };
        calls_open(&reads->keys, loop, peers, &read_calls);
        calls_open(&reads->syncs, loop, peers, &read_calls);
        reads->retry = TIMER(reads_on_next, reads);
        reads->next = DEFERRED(reads_on_next, reads);
        peers_register(peers, frame_types, ELEMENTS(frame_types), reads);
        *ret = reads;
        return 0;
}

ServeReads *serve_reads_free(ServeReads *reads) {
        if (!reads)
                return NULL;
        while (!TAILQ_EMPTY(&reads->keys.served))
                reading_on_gone(TAILQ_FIRST(&reads->keys.served));
        while (!TAILQ_EMPTY(&reads->syncs.served))
                reading_on_gone(TAILQ_FIRST(&reads->syncs.served));
        calls_close(&reads->keys);
        calls_close(&reads->syncs);
        peers_unregister(reads->peers, frame_types, ELEMENTS(frame_types));
        timer_stop(&reads->retry);
        deferred_cancel(&reads->next);
        free(reads);
        return NULL;
}
