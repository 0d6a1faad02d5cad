/* Requests of hosts without a replica: they subscribe, and receive what they have subscribed to in turns of
 * the loop. */

#include "kvstore/kvstore_internal.h"
#include "kvstore/serve_internal.h"
#include "kvstore/serve_reads.h"

/* -- Flush -- */

/* Return whether the store has reached the bound of the host; ends a subscription that waits too long for it.
 */
static bool subscription_may_start(Subscription *s) {
        if (!s->synced)
                return false;
        if (kv_index(s->serve->store) >= s->bound)
                return true;
        if (loop_now_ms(s->serve->loop) >= s->until_ms)
                subscription_end(s, REMOTE_GONE_BEHIND, 0);
        else
                subscription_wait(s);
        return false;
}

/* Compare further versions of the host with its slice. Return whether the subscription has not finished that,
 * or has ended. */
static bool subscription_continues(Subscription *s) {
        int r = slice_enter_versions(s);

        if (r < 0)
                subscription_end(s, REMOTE_GONE_FULL, 0);
        else if (r == 0)
                subscription_ready(s);
        return r <= 0;
}

static void subscription_flush(Subscription *s) {
        PeerSession *session;

        serve_bound(s->serve);
        session = served_session(&s->served);

        if (!session)
                subscription_free(s);
        else if (!subscription_may_start(s) || subscription_continues(s))
                return;
        else if (peer_queued(session) > SERVE_QUEUE_MAX ||
                 !(s->kind == REMOTE_SLICE ? slice_send(s, session) : events_flush(s, session)))
                subscription_wait(s);
}

static void reply_free(Serve *serve, Reply *reply) {
        TAILQ_REMOVE(&serve->replies, reply, replies);
        serve->queued -= reply->bytes.size;
        writer_done(&reply->bytes);
        free(reply);
}

/* Send the replies whose receivers have the state that they are about, in their order. */
static void serve_flush_replies(Serve *serve) {
        uint64_t index = serve->slices.each ? serve->slices.index(serve->slices.userdata) : UINT64_MAX;
        Reply *reply;

        while ((reply = TAILQ_FIRST(&serve->replies)) && (index >= reply->index || index == 0)) {
                PeerSession *session = peers_session(serve->peers, reply->session);
                Subscription *s = session ?
                                          TABLE_FIND(serve->by_machine, peer_handshake(session)->machine_id) :
                                          NULL;

                if (s && s->sent > 0 && s->served.session->number == reply->session && s->sent < index)
                        (void) slice_send(s, session);
                if (session)
                        (void) peer_reply(session, reply->type, reply->bytes.bytes, reply->bytes.size);
                reply_free(serve, reply);
        }
        if (TAILQ_FIRST(&serve->replies) && !timer_armed(&serve->retry))
                (void) timer_start(&serve->retry, serve->loop, SERVE_RETRY_MS);
}

static void serve_on_flush(void *userdata) {
        Serve *serve = userdata;
        const TurnWork *now = &loop_turns(serve->loop)->now;
        Subscription *s;
        uint64_t before;

        serve->last_key.size = 0;
        serve_flush_replies(serve);
        before = turn_work_bytes(now);
        for (size_t n = MIN(serve->n_ready, (size_t) SERVE_PER_TURN);
             n > 0 && (s = TAILQ_FIRST(&serve->ready)) && turn_work_bytes(now) - before < SERVE_WORK_AT_ONCE;
             n--) {
                subscription_dequeue(s);
                subscription_flush(s);
        }
        if (serve->n_ready > 0)
                loop_defer(serve->loop, &serve->flush);
}

static void serve_on_retry(void *userdata) {
        Serve *serve = userdata;
        Subscription *s;

        while ((s = TAILQ_FIRST(&serve->waiting)))
                subscription_ready(s);
        loop_defer(serve->loop, &serve->flush);
}

/* -- Requests of hosts -- */

static void subscription_on_gone(Served *s) {
        subscription_free(container_of(s, Subscription, served));
}

static void serve_forget(Serve *serve, const PeerSession *session, uint32_t number) {
        Served *s = served_find(&serve->calls, session, number);

        if (s)
                subscription_on_gone(s);
}

static void subscription_on_synced(void *userdata, KvStatus status) {
        Subscription *s = userdata;

        s->syncing = false;
        if (status != KV_OK) {
                subscription_end(s, REMOTE_GONE_BEHIND, 0);
                return;
        }
        s->synced = true;
        s->least = kv_index(s->serve->store);
        subscription_ready(s);
}

/* NULL: there is no room, or no memory. */
static Subscription *subscription_new(Serve *serve, PeerSession *session, const RemoteSubscribe *subscribe) {
        const char *machine = peer_handshake(session)->machine_id;
        const ServedSession *of = served_of(&serve->calls, session);
        bool room = (!of || of->n < SERVE_OF_SESSION_MAX) && serve->n < SERVE_SUBSCRIPTIONS_MAX;
        Subscription *s = room ? NEW0(Subscription, 1) : NULL, *former = NULL;

        if (!s)
                return NULL;
        *s = (Subscription) { .serve = serve,
                              .kind = subscribe->kind,
                              .bound = subscribe->bound,
                              .until_ms = loop_now_ms(serve->loop) + SERVE_BEHIND_MS };
        s->sync = (KvSync) { .done = subscription_on_synced, .userdata = s };
        memcpy(s->machine, machine, sizeof(s->machine));
        if (served_add(&s->served, &serve->calls, session, subscribe->number) < 0) {
                free(s);
                return NULL;
        }
        serve->n++;
        if (s->kind != REMOTE_SLICE)
                return s;
        /* A host has one slice, on its last session. */
        former = TABLE_FIND(serve->by_machine, machine);
        if (former)
                subscription_end(former, REMOTE_GONE_OVERFLOW, 0);
        HASH_ADD_STR(serve->by_machine, machine, s);
        if (TABLE_ADDED(s))
                return s;
        s->kind = REMOTE_KEY; /* it is in no table */
        subscription_free(s);
        return NULL;
}

/* Return why a subscription cannot begin (RemoteGone), or -1. Indexes of another lineage are those of other
 * events; a slice is a state, and continues in each lineage. */
static int subscribe_refused(const Serve *serve, RemoteSubscribe *subscribe) {
        KvPosition position;

        if (kv_is_attached(serve->store) || (subscribe->kind == REMOTE_SLICE && !serve->slices.each))
                return REMOTE_GONE_BEHIND;
        kv_position(serve->store, &position);
        if (subscribe->lineage == 0 || subscribe->lineage == position.lineage)
                return -1;
        subscribe->bound = 0;
        return subscribe->kind == REMOTE_SLICE ? -1 : REMOTE_GONE_LINEAGE;
}

static void subscription_begin(Subscription *s, RemoteSubscribe *subscribe) {
        if (s->kind != REMOTE_SLICE && events_watch(s, subscribe->key, subscribe->since) < 0)
                return;
        if (s->kind == REMOTE_SLICE && slice_begin(s, subscribe) < 0) {
                subscription_end(s, REMOTE_GONE_FULL, 0);
                return;
        }
        s->syncing = true;
        kv_sync(s->serve->store, &s->sync);
}

static void serve_on_subscribe(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        Serve *serve = userdata;
        const TurnWork *now = &loop_turns(serve->loop)->now;
        uint64_t visits = now->nodes, wait_ms;
        RemoteSubscribe subscribe;
        Pace *paid = peers_paces(serve->peers, peer_handshake(session)->machine_id) + PEER_PACE_SUBSCRIPTIONS;
        Subscription *s;
        int cause;

        if (remote_subscribe_read(payload, size, &subscribe) < 0)
                return;
        serve_forget(serve, session, subscribe.number);
        /* The ms until the host may subscribe again: it has visited too much. */
        wait_ms = pace_wait_ms(paid, SERVE_VISITS_PER_SEC, SERVE_VISITS_BURST, loop_now_ms(serve->loop));
        cause = wait_ms > 0 ? REMOTE_GONE_OVERFLOW : subscribe_refused(serve, &subscribe);
        s = cause < 0 ? subscription_new(serve, session, &subscribe) : NULL;
        if (!s) {
                serve_send_gone(serve, session,
                                &(RemoteEnd) { .number = subscribe.number,
                                               .cause = cause < 0 ? REMOTE_GONE_FULL : (RemoteGone) cause,
                                               .retry_ms = MAX(wait_ms, (uint64_t) SERVE_AGAIN_MS),
                                               .index = kv_index(serve->store) });
                return;
        }
        if (s->kind == REMOTE_SLICE)
                pace_take(paid, subscribe.hashes.left / sizeof(uint64_t));
        subscription_begin(s, &subscribe);
        pace_take(paid, 1 + now->nodes - visits);
}

static void serve_on_unsubscribe(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                 size_t size) {
        uint32_t number;

        if (remote_unsubscribe_read(payload, size, &number) == 0)
                serve_forget(userdata, session, number);
}

/* -- Calls of the store -- */

void kv_set_slices(KvStore *s, const KvSlices *slices) {
        if (!s->serve)
                return;
        kv_slices_reset(s);
        s->serve->slices = slices ? *slices : (KvSlices) {};
}

void kv_reply_after(KvStore *store, PeerSession *session, uint64_t index, PeerFrame type, const Writer *w) {
        Serve *serve = store->serve;
        Reply *reply;

        if (!serve) /* this host stops, and the other one asks another replica */
                return;
        if (index == 0 || !TABLE_FIND(serve->by_machine, peer_handshake(session)->machine_id)) {
                (void) peer_reply(session, type, w->bytes, w->size);
                return;
        }
        reply = NEW0(Reply, 1);
        if (!reply)
                return; /* the host asks again */
        *reply = (Reply) { .session = peer_number(session), .index = index, .type = type };
        write_raw(&reply->bytes, w->bytes, w->size);
        serve->queued += reply->bytes.size;
        TAILQ_INSERT_TAIL(&serve->replies, reply, replies);
        if (reply->bytes.error < 0)
                reply_free(serve, reply);
        else
                loop_defer(serve->loop, &serve->flush);
}

void kv_slices_advanced(KvStore *s) {
        if (s->serve && TAILQ_FIRST(&s->serve->replies))
                loop_defer(s->loop, &s->serve->flush);
}

size_t kv_subscriptions(const KvStore *s) {
        return s->serve ? s->serve->n : 0;
}

void serve_indexes(const Serve *serve, PeerSession *session, uint64_t *ret_slice, uint64_t *ret_events) {
        const ServedSession *of = served_of(&serve->calls, session);
        Served *one;

        *ret_slice = 0;
        *ret_events = kv_index(serve->store);
        if (!of)
                return;
        TAILQ_FOREACH(one, &of->served, of_session) {
                const Subscription *s = container_of(one, Subscription, served);

                if (s->kind == REMOTE_SLICE)
                        *ret_slice = s->sent > 0 && !s->changed ?
                                             MAX(s->sent, serve->slices.index(serve->slices.userdata)) :
                                             s->sent;
                else if (s->begun && (s->events.size > 0 || !kv_watch_progress(s->watch, ret_events)))
                        *ret_events = MIN(*ret_events, s->sent);
        }
}

/* The host subscribes again, with what it has. */
void kv_slices_reset(KvStore *s) {
        while (s->serve && s->serve->by_machine)
                subscription_end(s->serve->by_machine, REMOTE_GONE_WINDOW, 0);
}

void serve_end(Serve *serve) {
        Served *s;

        while ((s = TAILQ_FIRST(&serve->calls.served)))
                subscription_end(container_of(s, Subscription, served), REMOTE_GONE_BEHIND, 0);
}

static const CallType subscription_calls = { .on_gone = subscription_on_gone };

static const PeerFrameType frame_types[] = {
        { PEER_SUBSCRIBE, serve_on_subscribe },
        { PEER_UNSUBSCRIBE, serve_on_unsubscribe },
};

int serve_new(Serve **ret, Loop *loop, Peers *peers, KvStore *store) {
        Serve *serve = NEW0(Serve, 1);

        if (!serve)
                return -ENOMEM;
        *serve = (Serve) { .loop = loop, .peers = peers, .store = store };
        TAILQ_INIT(&serve->ready);
        TAILQ_INIT(&serve->waiting);
        TAILQ_INIT(&serve->replies);
        serve->flush = DEFERRED(serve_on_flush, serve);
        serve->retry = TIMER(serve_on_retry, serve);
        calls_open(&serve->calls, loop, peers, &subscription_calls);
        peers_register(peers, frame_types, ELEMENTS(frame_types), serve);
        if (serve_reads_new(&serve->reads, loop, peers, store, serve) < 0) {
                serve_free(serve);
                return -ENOMEM;
        }
        *ret = serve;
        return 0;
}

Serve *serve_free(Serve *serve) {
        if (!serve)
                return NULL;
        while (!TAILQ_EMPTY(&serve->calls.served))
                subscription_on_gone(TAILQ_FIRST(&serve->calls.served));
        while (TAILQ_FIRST(&serve->replies))
                reply_free(serve, TAILQ_FIRST(&serve->replies));
        serve_reads_free(serve->reads);
        peers_unregister(serve->peers, frame_types, ELEMENTS(frame_types));
        calls_close(&serve->calls);
        deferred_cancel(&serve->flush);
        timer_stop(&serve->retry);
        writer_done(&serve->last_key);
        writer_done(&serve->last_item);
        free(serve);
        return NULL;
}
