/* The subscriptions of hosts without a replica: their queues, what waits in all, and events of keys. */

#include "kvstore/kvstore_internal.h"
#include "kvstore/serve_internal.h"

/* -- Queues -- */

void subscription_dequeue(Subscription *s) {
        if (!s->queue)
                return;
        s->serve->n_ready -= s->queue == &s->serve->ready;
        TAILQ_REMOVE(s->queue, s, queued);
        s->queue = NULL;
}

void subscription_ready(Subscription *s) {
        Serve *serve = s->serve;

        if (s->queue == &serve->ready)
                return;
        subscription_dequeue(s);
        s->queue = &serve->ready;
        TAILQ_INSERT_TAIL(&serve->ready, s, queued);
        serve->n_ready++;
        loop_defer(serve->loop, &serve->flush);
}

void subscription_wait(Subscription *s) {
        Serve *serve = s->serve;

        if (s->queue)
                return;
        s->queue = &serve->waiting;
        TAILQ_INSERT_TAIL(&serve->waiting, s, queued);
        if (!timer_armed(&serve->retry))
                (void) timer_start(&serve->retry, serve->loop, SERVE_RETRY_MS);
}

/* Return how much waits at most; the sessions are not searched for it. */
static size_t serve_waiting(const Serve *serve) {
        return serve->queued + serve->waited + (size_t) (peers_sent(serve->peers) - serve->sent);
}

static void serve_count_waiting(Serve *serve, size_t most) {
        serve->waited = peers_bound_waiting(serve->peers, most);
        serve->sent = peers_sent(serve->peers);
}

/* There is room for 8 MiB then, until the sessions are searched again. */
void serve_bound(Serve *serve) {
        if (serve_waiting(serve) > SERVE_QUEUES_MAX / 8 * 7)
                serve_count_waiting(serve, SERVE_QUEUES_MAX / 4 * 3 -
                                                   MIN(serve->queued, (size_t) SERVE_QUEUES_MAX / 2));
}

/* Many events may ask for this in a row: the sessions are searched only if that can change the answer. */
static bool serve_is_full(Serve *serve) {
        if (serve_waiting(serve) > SERVE_QUEUES_MAX && serve->queued <= SERVE_QUEUES_MAX &&
            peers_sent(serve->peers) - serve->sent > SERVE_QUEUE_MAX)
                serve_count_waiting(serve, SIZE_MAX);
        return serve_waiting(serve) > SERVE_QUEUES_MAX;
}

/* -- Subscriptions -- */

bool serve_may_read(const Serve *serve, const char *machine, KvBytes key) {
        return serve->slices.may_read ? serve->slices.may_read(serve->slices.userdata, machine, key) :
                                        !kv_path_is_ours(key);
}

static void events_clear(Subscription *s) {
        s->served.session->held[0] -= s->events.size;
        s->serve->queued -= s->events.size;
        writer_done(&s->events);
        s->events = (Writer) {};
}

void slice_forget(Subscription *s) {
        for (Changed *c = s->changed, *next; c; c = next) {
                next = c->hh.next;
                HASH_DEL(s->changed, c);
                free(c);
        }
        HASH_CLEAR(hh, s->versions);
        for (VersionBlock *block; (block = SLIST_FIRST(&s->blocks));) {
                SLIST_REMOVE_HEAD(&s->blocks, blocks);
                free(block);
        }
        writer_done(&s->hashes);
        s->hashes = (Writer) {};
        s->unread = (Reader) {};
}

void subscription_free(Subscription *s) {
        Serve *serve = s->serve;

        if (s->syncing)
                kv_sync_cancel(serve->store, &s->sync);
        kv_watch_close(s->watch);
        events_clear(s);
        slice_forget(s);
        subscription_dequeue(s);
        if (s->kind == REMOTE_SLICE)
                HASH_DEL(serve->by_machine, s);
        served_remove(&s->served);
        serve->n--;
        free(s);
}

void serve_send_gone(Serve *serve, PeerSession *session, const RemoteEnd *end) {
        _cleanup_writer_ Writer w = {};
        int r;

        remote_end_write(end, &w);
        r = w.error < 0 ? w.error : peer_reply(session, PEER_GONE, w.bytes, w.size);
        if (r < 0 && r != -ENOTCONN) /* its connection has ended: the session follows */
                peers_end(serve->peers, peer_handshake(session)->machine_id, "too much waits for this host");
}

void subscription_end(Subscription *s, RemoteGone cause, uint64_t oldest) {
        PeerSession *session = served_session(&s->served);

        if (session)
                serve_send_gone(s->serve, session,
                                &(RemoteEnd) { .number = (uint32_t) s->served.number,
                                               .cause = cause,
                                               .retry_ms = cause == REMOTE_GONE_RIGHTS ? SERVE_AGAIN_MS : 0,
                                               .oldest = oldest,
                                               .index = kv_index(s->serve->store) });
        subscription_free(s);
}

/* -- Events of keys -- */

int subscription_send(Subscription *s, PeerSession *session, uint64_t index, const Writer *items) {
        _cleanup_writer_ Writer w = {};
        KvPosition position;

        kv_position(s->serve->store, &position);
        remote_page_write(&(RemotePage) { .number = (uint32_t) s->served.number,
                                          .index = index,
                                          .lineage = position.lineage },
                          &w);
        write_raw(&w, items->bytes, items->size);
        loop_count(s->serve->loop, 0, w.size);
        if (w.error < 0 || items->error < 0)
                return -ENOMEM;
        return peer_reply(session, s->kind == REMOTE_SLICE ? PEER_PAGE : PEER_EVENTS, w.bytes, w.size);
}

bool events_flush(Subscription *s, PeerSession *session) {
        uint64_t index = kv_index(s->serve->store);

        if (!kv_watch_progress(s->watch, &index))
                index = 0;
        if (s->events.size == 0 && s->sent >= index)
                return true;
        if (subscription_send(s, session, index, &s->events) < 0) {
                subscription_end(s, REMOTE_GONE_OVERFLOW, 0);
                return true;
        }
        s->begun = true;
        s->sent = MAX(s->sent, index);
        events_clear(s);
        return true;
}

static void events_on_event(void *userdata, KvWatchEvent *event) {
        Subscription *s = userdata;
        size_t before = s->events.size;

        remote_item_write(&(RemoteItem) { .kind = REMOTE_EVENT, .event = event->event }, &s->events);
        loop_count(s->serve->loop, 1, s->events.size - before);
        s->served.session->held[0] += s->events.size - before;
        s->serve->queued += s->events.size - before;
        if (s->served.session->held[0] > SERVE_QUEUE_MAX || serve_is_full(s->serve) || s->events.error < 0) {
                PeerSession *session = served_session(&s->served);

                /* The host continues after these: it gets on, also with more than that. */
                if (session && s->events.error == 0 && peer_queued(session) <= SERVE_QUEUE_MAX)
                        (void) subscription_send(s, session, 0, &s->events);
                subscription_end(s, REMOTE_GONE_OVERFLOW, 0);
        } else
                subscription_ready(s);
}

/* The host could have become a restricted one. */
static bool events_sees(void *userdata, const KvEvent *event) {
        const Subscription *s = userdata;

        return serve_may_read(s->serve, s->machine, event->node.key);
}

static void events_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Subscription *s = userdata;

        s->watch = NULL;
        subscription_end(s, REMOTE_GONE_WINDOW, oldest);
}

int events_watch(Subscription *s, KvBytes key, uint64_t since) {
        static const KvWatchOps ops = { .sees = events_sees,
                                        .on_event = events_on_event,
                                        .on_cleared = events_on_cleared };
        const KvWatchOptions options = { .key = key,
                                         .recursive = s->kind == REMOTE_BELOW || s->kind == REMOTE_BELOW_V2,
                                         .absent = s->kind == REMOTE_KEY_V2 || s->kind == REMOTE_BELOW_V2,
                                         .since = since,
                                         .internal = true,
                                         .refreshes = true };
        uint64_t oldest = 0;
        int r;

        if (!serve_may_read(s->serve, s->machine, key)) {
                subscription_end(s, REMOTE_GONE_RIGHTS, 0);
                return -EACCES;
        }
        r = kv_watch(s->serve->store, &options, &ops, s, &s->watch, &oldest);
        if (r == -ESTALE)
                subscription_end(s, REMOTE_GONE_WINDOW, oldest);
        else if (r < 0)
                subscription_end(s, REMOTE_GONE_FULL, 0);
        return r;
}
