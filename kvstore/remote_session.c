#include "kvstore/remote_internal.h"

/* -- Requests -- */

PeerSession *remote_session(const Remote *r) {
        return r->machine[0] ? peers_session(r->peers, r->session) : NULL;
}

int remote_send(Remote *r, PeerFrame type, const Writer *w) {
        if (!remote_session(r))
                return -ENOTCONN;
        return w->error < 0 ? w->error : peers_send(r->peers, r->machine, type, w->bytes, w->size);
}

/* A replica that rejects each subscription gets few of them. */
static void remote_subscribe_again(Remote *r, uint64_t delay_ms) {
        r->complete = false;
        (void) timer_start(&r->again, r->loop, MAX(delay_ms, r->again_ms));
        r->again_ms = MIN(MAX(2 * r->again_ms, (uint64_t) REMOTE_AGAIN_MS), (uint64_t) REMOTE_WAIT_MS);
}

static void remote_subscribe(Remote *r) {
        _cleanup_free_ uint64_t *hashes = NULL;
        _cleanup_writer_ Writer w = {};

        r->complete = false;
        writer_done(&r->parts);
        r->parts = (Writer) {};
        r->slice_number = ++r->number;
        if (r->slice.n > 0) {
                hashes = NEW0(uint64_t, r->slice.n);
                if (!hashes) {
                        remote_subscribe_again(r, REMOTE_WAIT_MS);
                        return;
                }
        }
        for (size_t i = 0; i < r->slice.n; i++)
                hashes[i] = remote_hash(r->slice.items[i]->key, r->slice.items[i]->modified);
        remote_subscribe_write(&(RemoteSubscribe) { .number = r->slice_number,
                                                    .kind = REMOTE_SLICE,
                                                    .lineage = r->lineage,
                                                    .bound = r->bound },
                               hashes, r->slice.n, &w);
        if (remote_send(r, PEER_SUBSCRIBE, &w) < 0)
                remote_subscribe_again(r, REMOTE_WAIT_MS);
}

static void remote_on_again(void *userdata) {
        Remote *r = userdata;

        if (remote_session(r))
                remote_subscribe(r);
}

/* -- Pages -- */

/* Report a change of the slice. The nodes are those of the last complete page and of this one. */
static void slice_report(Remote *r, KvAction action, const KvNode *node) {
        KvEvent event = {
                .action = action, .index = r->index, .node = *node, .now_ms = r->answer.cluster_ms
        };

        if (r->has_slice)
                r->events.on_event(r->events.userdata, &event);
}

static void slice_drop(Remote *r, KvBytes key) {
        const KvNode *node = node_set_find(&r->slice, key);
        KvNode gone;
        _cleanup_free_ char *copy = NULL;

        if (!node)
                return;
        copy = malloc(key.size);
        if (!copy)
                return; /* it is dropped when the host subscribes again */
        gone = *node;
        gone.key = (KvBytes) { memcpy(copy, key.data, key.size), key.size };
        gone.value = (KvBytes) {};
        (void) node_set_remove(&r->slice, gone.key);
        slice_report(r, KV_ACTION_DELETE, &gone);
}

static void slice_drop_version(Remote *r, uint64_t hash) {
        for (size_t i = 0; i < r->slice.n; i++)
                if (remote_hash(r->slice.items[i]->key, r->slice.items[i]->modified) == hash) {
                        slice_drop(r, r->slice.items[i]->key);
                        return;
                }
}

static int slice_take_item(Remote *r, const RemoteItem *item) {
        int e;

        switch (item->kind) {
        case REMOTE_NODE:
                e = node_set_put(&r->slice, &item->node);
                if (e > 0)
                        slice_report(r, KV_ACTION_SET, &item->node);
                return MIN(e, 0);
        case REMOTE_REMOVED:
                slice_drop(r, item->node.key);
                return 0;
        case REMOTE_DROPPED:
                slice_drop_version(r, item->hash);
                return 0;
        default:
                return -EBADMSG;
        }
}

/* Apply the pages of one state at once: the host sees each transaction of the cluster completely. */
static int slice_take(Remote *r, uint64_t index) {
        RemotePage page = { .items = reader_over(r->parts.bytes, r->parts.size) };
        RemoteItem item;
        int e;

        /* An event may be newer than the index of its page, and later pages repeat it: indexes of events
         * rise. */
        r->index = MAX(index, r->index + (r->parts.size > 0));
        while ((e = remote_next_item(&page, &item)) > 0) {
                e = slice_take_item(r, &item);
                if (e < 0)
                        break;
        }
        r->current = MAX(r->current, index);
        r->bound = MAX(r->bound, index);
        return e;
}

static void remote_check_syncs(Remote *r);

static void remote_on_page(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Remote *r = userdata;
        RemotePage page;
        bool reset;
        int e;

        e = remote_page_read(payload, size, &page);
        if (e < 0 || session != remote_session(r) || page.number != r->slice_number)
                return;
        reset = r->has_slice && page.lineage != r->lineage;
        write_raw(&r->parts, page.items.bytes, page.items.left);
        if (r->parts.error < 0 || r->parts.size > REMOTE_PARTS_MAX) {
                remote_subscribe_again(r, REMOTE_WAIT_MS);
                return;
        }
        if (page.index == 0)
                return;
        if (!reset && page.index < r->current) { /* no replica that serves this host is so old */
                remote_subscribe_again(r, REMOTE_WAIT_MS);
                return;
        }

        if (reset) {
                r->current = r->index = r->bound = 0;
                r->has_slice = false;
        }
        r->lineage = page.lineage;
        e = slice_take(r, page.index);
        writer_done(&r->parts);
        r->parts = (Writer) {};
        if (e < 0) {
                remote_subscribe_again(r, REMOTE_WAIT_MS);
                return;
        }
        r->again_ms = 0;
        reset = !r->has_slice;
        r->has_slice = true;
        if (!r->complete || reset) {
                r->complete = true;
                if (reset)
                        r->events.on_reset(r->events.userdata);
                r->events.on_state(r->events.userdata);
        }
        remote_check_syncs(r);
}

static void remote_on_events(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        Remote *r = userdata;
        RemotePage page;

        if (remote_page_read(payload, size, &page) == 0 && session == remote_session(r))
                watches_on_events(r, &page);
}

static void remote_on_gone(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Remote *r = userdata;
        RemoteEnd end;

        if (remote_end_read(payload, size, &end) < 0 || session != remote_session(r) ||
            watches_on_gone(r, &end) || end.number != r->slice_number)
                return;
        remote_subscribe_again(r, end.retry_ms);
        r->events.on_state(r->events.userdata);
}

/* -- Answers to heartbeats -- */

static void remote_note_answer(Remote *r, PeerSession *session, const RemoteCurrent *current) {
        const char *machine = peer_handshake(session)->machine_id;
        RemoteAnswer *a = &r->answers[0];

        for (size_t i = 0; i < ELEMENTS(r->answers); i++) {
                if (streq(r->answers[i].machine, machine)) {
                        a = &r->answers[i];
                        break;
                }
                if (r->answers[i].answered_ms < a->answered_ms)
                        a = &r->answers[i];
        }
        *a = (RemoteAnswer) { .session = peer_number(session),
                              .answered_ms = loop_now_ms(r->loop),
                              .stale_ms = current->stale_ms,
                              .stops = current->stops };
        memcpy(a->machine, machine, sizeof(a->machine));
}

/* Return the last answer on the present session to a machine, or NULL. */
static const RemoteAnswer *remote_answer_of(const Remote *r, const char *machine_id) {
        PeerSession *session = peers_dialed(r->peers, machine_id);

        for (size_t i = 0; session && i < ELEMENTS(r->answers); i++)
                if (streq(r->answers[i].machine, machine_id) && r->answers[i].session == peer_number(session))
                        return &r->answers[i];
        return NULL;
}

bool remote_answers(const Remote *r, const char *machine_id, uint64_t within_ms) {
        const RemoteAnswer *a = remote_answer_of(r, machine_id);

        return a && loop_now_ms(r->loop) - a->answered_ms < within_ms && a->stale_ms < REMOTE_LEADER_MS &&
               !a->stops;
}

uint64_t remote_silent_ms(const Remote *r, const char *machine_id) {
        const RemoteAnswer *a = remote_answer_of(r, machine_id);

        return a ? loop_now_ms(r->loop) - a->answered_ms : UINT64_MAX;
}

uint64_t remote_leader_ms(const Remote *r, const char *machine_id) {
        const RemoteAnswer *a = remote_answer_of(r, machine_id);

        return a ? loop_now_ms(r->loop) - a->answered_ms + a->stale_ms : UINT64_MAX;
}

const char *remote_other(const Remote *r) {
        for (size_t i = 0; i < ELEMENTS(r->answers); i++) {
                const char *machine = r->answers[i].machine;

                if (machine[0] && !streq(machine, r->machine) && remote_answers(r, machine, REMOTE_IDLE_MS))
                        return machine;
        }
        return NULL;
}

void remote_problem(const Remote *r, char *ret, size_t size) {
        uint64_t silent_ms = UINT64_MAX;
        _cleanup_text_ Text names = {};
        PeerState peer;

        for (size_t i = 0; i < ELEMENTS(r->answers); i++) {
                const RemoteAnswer *a = &r->answers[i];

                if (a->machine[0] == 0)
                        continue;
                silent_ms = MIN(silent_ms, loop_now_ms(r->loop) - a->answered_ms);
                if (peers_state(r->peers, a->machine, &peer) == 0)
                        text_printf(&names, "%s%s", names.size > 0 ? ", " : "",
                                    handshake_name(&peer.handshake));
        }
        if (silent_ms < REMOTE_FRESH_MS || silent_ms == UINT64_MAX)
                snprintf(ret, size, "attached host: no replica with a leader is reachable");
        else
                snprintf(ret, size, "attached host: no replica reachable for %llu s (%s)",
                         (unsigned long long) silent_ms / 1000, names.chars ?: "");
}

static void remote_on_current(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                              size_t size) {
        Remote *r = userdata;
        RemoteCurrent current;

        if (remote_current_read(payload, size, &current) < 0)
                return;
        remote_note_answer(r, session, &current);
        if (session != remote_session(r)) {
                r->events.on_state(
                        r->events.userdata); /* a host that needs a replica with a leader waits for it */
                return;
        }
        r->answer = current;
        r->answered_ms = loop_now_ms(r->loop);
        if (r->complete && current.lineage == r->lineage && current.index > r->current)
                r->current = current.index;
        if (current.stale_ms == 0 && remote_is_fresh(r))
                peers_end_removal(r->peers);
        watches_on_current(r, current.events);
        remote_check_syncs(r);
        r->events.on_state(r->events.userdata);
}

/* -- Reads -- */

/* The reads of the request under way wait for the next one, before all others. */
static void remote_ask_later(Remote *r) {
        KvSync *sync;

        call_end(&r->sync);
        while ((sync = TAILQ_LAST(&r->asking, KvSyncs))) {
                TAILQ_REMOVE(&r->asking, sync, entry);
                TAILQ_INSERT_HEAD(&r->syncs, sync, entry);
        }
}

/* One request serves all reads that arrived before it. */
static void remote_ask(Remote *r) {
        _cleanup_writer_ Writer w = {};

        if (r->sync.session != 0 || !TAILQ_FIRST(&r->syncs))
                return;
        remote_read_write(&(RemoteRead) { .number = (uint32_t) call_number(&r->sync), .kind = REMOTE_SYNC },
                          &w);
        if (call_send(&r->sync, remote_session(r), PEER_READ, &w) < 0)
                return;
        r->sync_index = 0;
        TAILQ_CONCAT(&r->asking, &r->syncs, entry);
}

static void remote_check_syncs(Remote *r) {
        uint64_t number = r->sync.number;

        if (r->sync.session == 0 || r->sync_index == 0 || !r->complete || r->current < r->sync_index)
                return;
        syncs_answer(&r->asking, UINT64_MAX,
                     KV_OK); /* a sync that begins in a callback waits for the next request */
        if (r->sync.number == number)
                call_end(&r->sync);
        remote_ask(r);
}

static void remote_on_found(Call *call, const void *payload, size_t size) {
        Remote *r = container_of(call->calls, Remote, calls);
        RemoteFound found;

        if (remote_found_read(payload, size, &found) < 0)
                return;
        if (call != &r->sync)
                requests_on_found(call, &found);
        else if (found.status == KV_OK) {
                r->sync_index = MAX(found.index, 1u);
                remote_saw(r, found.index);
                remote_check_syncs(r);
        } else
                remote_ask_later(r); /* until they are due */
}

/* Reads are sent again with the next look, or to the next replica. */
static void remote_on_lost(Call *call) {
        Remote *r = container_of(call->calls, Remote, calls);

        if (call == &r->sync)
                remote_ask_later(r);
}

static const CallType read_calls = { .number_size = sizeof(uint32_t),
                                     .answers = { { PEER_FOUND, 1, remote_on_found } },
                                     .on_lost = remote_on_lost };

static void remote_on_due(void *userdata) {
        Remote *r = userdata;
        uint64_t now = loop_now_ms(r->loop);

        syncs_answer(&r->asking, now, KV_UNKNOWN);
        if (!TAILQ_FIRST(&r->asking))
                call_end(&r->sync); /* its answer is late, or lost */
        syncs_answer(&r->syncs, now, KV_NO_LEADER);
        remote_ask(r);
        if (requests_on_due(r) | watches_on_due(r) || TAILQ_FIRST(&r->asking) || TAILQ_FIRST(&r->syncs))
                (void) timer_start(&r->due, r->loop, REMOTE_WAIT_MS / 10);
}

void remote_sync(Remote *r, KvSync *sync) {
        sync->due_ms = loop_now_ms(r->loop) + REMOTE_WAIT_MS;
        TAILQ_INSERT_TAIL(&r->syncs, sync, entry);
        remote_ask(r);
        remote_keep_time(r);
}

void remote_keep_time(Remote *r) {
        if (!timer_armed(&r->due))
                (void) timer_start(&r->due, r->loop, REMOTE_WAIT_MS / 10);
}

void remote_sync_cancel(Remote *r, KvSync *sync) {
        if (!syncs_remove(&r->asking, sync))
                (void) syncs_remove(&r->syncs, sync);
}

KvSync *remote_take_sync(Remote *r) {
        KvSync *sync;

        remote_ask_later(r);
        sync = TAILQ_FIRST(&r->syncs);
        if (sync)
                TAILQ_REMOVE(&r->syncs, sync, entry);
        return sync;
}

void remote_end(Remote *r) {
        remote_ask_later(r);
        syncs_answer(&r->syncs, UINT64_MAX, KV_UNKNOWN);
        requests_end(r, -ECANCELED);
}

/* -- The replica in use -- */

void remote_use(Remote *r, const char *machine_id) {
        PeerSession *session = machine_id ? peers_dialed(r->peers, machine_id) : NULL;

        if (session && streq(r->machine, machine_id) && peer_number(session) == r->session)
                return;
        snprintf(r->machine, sizeof(r->machine), "%s", session ? machine_id : "");
        r->session = session ? peer_number(session) : 0;
        r->complete = false;
        remote_ask_later(r);
        if (session) {
                timer_stop(&r->again);
                r->again_ms = 0;
                remote_subscribe(r);
                remote_ask(r);
                watches_subscribe_all(r);
        }
        requests_send(r);
        r->events.on_state(r->events.userdata);
}

const char *remote_in_use(const Remote *r) {
        return remote_session(r) ? r->machine : "";
}

uint64_t remote_session_number(const Remote *r) {
        return remote_session(r) ? r->session : 0;
}

const NodeSet *remote_slice(const Remote *r) {
        return &r->slice;
}

bool remote_has_slice(const Remote *r) {
        return r->has_slice;
}

bool remote_is_fresh(const Remote *r) {
        bool follows = r->answer.stale_ms == 0 ||
                       (r->answer.leader_id != 0 && r->answer.stale_ms < REMOTE_LEADER_MS);

        return r->complete && r->answered_ms > 0 && follows && r->answer.lineage == r->lineage &&
               loop_now_ms(r->loop) - r->answered_ms < REMOTE_FRESH_MS;
}

uint64_t remote_index(const Remote *r) {
        return r->index;
}

void remote_saw(Remote *r, uint64_t index) {
        r->bound = MAX(r->bound, index);
}

uint64_t remote_seen(Remote *r) {
        if (r->has_slice && r->answer.lineage == r->lineage)
                remote_saw(r, MAX(r->answer.index, r->answer.events));
        return r->bound;
}

const RemoteCurrent *remote_current(const Remote *r) {
        return &r->answer;
}

static const PeerFrameType frame_types[] = {
        { PEER_PAGE, remote_on_page },
        { PEER_EVENTS, remote_on_events },
        { PEER_GONE, remote_on_gone },
        { PEER_CURRENT, remote_on_current },
};

int remote_new(Remote **ret, Loop *loop, Peers *peers, const RemoteEvents *events) {
        Remote *r = NEW0(Remote, 1);

        if (!r)
                return -ENOMEM;
        *r = (Remote) { .loop = loop, .peers = peers, .events = *events };
        TAILQ_INIT(&r->syncs);
        TAILQ_INIT(&r->asking);
        r->due = TIMER(remote_on_due, r);
        r->again = TIMER(remote_on_again, r);
        peers_register(peers, frame_types, ELEMENTS(frame_types), r);
        calls_open(&r->calls, loop, peers, &read_calls);
        call_init(&r->sync, &r->calls, 0);
        *ret = r;
        return 0;
}

Remote *remote_free(Remote *r) {
        if (!r)
                return NULL;
        while (!LIST_EMPTY(&r->requests))
                remote_cancel(LIST_FIRST(&r->requests));
        watches_drop(r);
        call_end(&r->sync);
        calls_close(&r->calls);
        peers_unregister(r->peers, frame_types, ELEMENTS(frame_types));
        timer_stop(&r->due);
        timer_stop(&r->again);
        writer_done(&r->parts);
        node_set_done(&r->slice);
        free(r);
        return NULL;
}
