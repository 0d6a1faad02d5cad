#include "kvstore/serve_reads.h"

#include "base/table.h"
#include "kvstore/remote_frames.h"
#include "kvstore/serving.h"

/* A session with reads. */
typedef struct ReadSession {
        uint64_t session; /* its number */
        size_t n, n_syncs;
        UT_hash_handle hh;
} ReadSession;

/* A read that waits for a ReadIndex check, for the bound of its host, or for budget of the loop. */
typedef struct Reading {
        ServeReads *reads;
        ReadSession *from;
        RemoteRead read; /* owns its key, below */
        KvSync sync;
        bool syncing;
        uint64_t until_ms;
        TAILQ_ENTRY(Reading) all;
        char key[];
} Reading;

struct ServeReads {
        Loop *loop;
        Peers *peers;
        KvStore *store;
        Serve *serve;
        TAILQ_HEAD(Readings, Reading) all; /* in the order of arrival */
        ReadSession *sessions;             /* table by session */
        size_t n;                          /* of keys */
        Timer retry;
        Deferred next; /* reads that wait for budget of the loop */
};

/* How many reads of this kind its session has. */
static size_t *reading_count(const Reading *r) {
        return r->read.kind == REMOTE_SYNC ? &r->from->n_syncs : &r->from->n;
}

static void reading_free(Reading *r) {
        ReadSession *from = r->from;

        if (r->syncing)
                kv_sync_cancel(r->reads->store, &r->sync);
        TAILQ_REMOVE(&r->reads->all, r, all);
        r->reads->n -= r->read.kind != REMOTE_SYNC;
        (*reading_count(r))--;
        if (from->n == 0 && from->n_syncs == 0) {
                HASH_DEL(r->reads->sessions, from);
                free(from);
        }
        free(r);
}

/* Send the answer, and free the read. */
static void reading_answer(Reading *r, const RemoteFound *found, const KvNode *node) {
        _cleanup_writer_ Writer w = {};
        PeerSession *session;

        serve_bound(r->reads->serve);
        session = peers_session(r->reads->peers, r->from->session);
        remote_found_write(found, &w);
        if (node)
                remote_item_write(&(RemoteItem) { .kind = REMOTE_NODE, .node = *node }, &w);
        if (session && w.error == 0)
                (void) peer_reply(session, PEER_FOUND, w.bytes, w.size);
        reading_free(r);
}

/* Return whether the host may read a key now. */
static bool reading_is_permitted(const Reading *r, KvBytes key) {
        const PeerSession *session = peers_session(r->reads->peers, r->from->session);

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
        PeerSession *session = peers_session(r->reads->peers, r->from->session);
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

        for (Reading *r = TAILQ_FIRST(&reads->all), *next; r; r = next) {
                next = TAILQ_NEXT(r, all);
                if (r->syncing)
                        continue;
                if (first && reading_can_start(r)) {
                        first = false;
                        reading_read(r);
                } else
                        reading_start(r);
        }
}

/* Return the session, if it may have one more read of this kind; or NULL. */
static ReadSession *read_session(ServeReads *reads, PeerSession *session, RemoteReadKind kind) {
        uint64_t number = peer_number(session);
        bool sync = kind == REMOTE_SYNC;
        ReadSession *from;

        HASH_FIND(hh, reads->sessions, &number, sizeof(number), from);
        if (sync ? from && from->n_syncs >= SERVE_SYNCS_OF_SESSION_MAX :
                   reads->n >= SERVE_READS_MAX || (from && from->n >= SERVE_READS_OF_SESSION_MAX))
                return NULL;
        if (from)
                return from;
        from = NEW0(ReadSession, 1);
        if (!from)
                return NULL;
        from->session = number;
        HASH_ADD(hh, reads->sessions, session, sizeof(from->session), from);
        if (!TABLE_ADDED(from)) {
                free(from);
                return NULL;
        }
        return from;
}

static Reading *reading_new(ServeReads *reads, PeerSession *session, const RemoteRead *read) {
        Reading *r = calloc(1, sizeof(*r) + read->key.size);
        ReadSession *from = r ? read_session(reads, session, read->kind) : NULL;
        char *at;

        if (!from) {
                free(r);
                return NULL;
        }
        *r = (Reading) { .reads = reads,
                         .from = from,
                         .read = *read,
                         .until_ms = loop_now_ms(reads->loop) + SERVE_BEHIND_MS };
        at = r->key;
        kv_bytes_place(&at, &r->read.key);
        TAILQ_INSERT_TAIL(&reads->all, r, all);
        reads->n += read->kind != REMOTE_SYNC;
        (*reading_count(r))++;
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

static const PeerFrameType frame_types[] = {
        { PEER_READ, reads_on_read },
};

int serve_reads_new(ServeReads **ret, Loop *loop, Peers *peers, KvStore *store, Serve *serve) {
        ServeReads *reads = NEW0(ServeReads, 1);

        if (!reads)
                return -ENOMEM;
        *reads = (ServeReads) { .loop = loop, .peers = peers, .store = store, .serve = serve };
        TAILQ_INIT(&reads->all);
        reads->retry = TIMER(reads_on_next, reads);
        reads->next = DEFERRED(reads_on_next, reads);
        peers_register(peers, frame_types, ELEMENTS(frame_types), reads);
        *ret = reads;
        return 0;
}

ServeReads *serve_reads_free(ServeReads *reads) {
        if (!reads)
                return NULL;
        while (!TAILQ_EMPTY(&reads->all))
                reading_free(TAILQ_FIRST(&reads->all));
        peers_unregister(reads->peers, frame_types, ELEMENTS(frame_types));
        timer_stop(&reads->retry);
        deferred_cancel(&reads->next);
        free(reads);
        return NULL;
}
