/* Whom we dial, who dials us, and what can be asked of all. */
#include "peers/peers_internal.h"

#include <assert.h>
#include <errno.h>

#include "base/log.h"

enum {
        /* Without a session, a connection that is refused is the only sign of a kernel (PeerState). As on a
         * session, where the kernel is probed once a second, a second without a link or a lost packet must
         * not look like three seconds of silence. */
        DIAL_TIMEOUT_MS = 1000,
        PROBE_MS = 500,
        GREETING_HELD_MS = 250, /* a newcomer displaces the oldest greeting only when that had so long */
        SILENT_CUT_MS = 10000,
        HOST_KEPT_MS = 600000,
};

/* -- Whom we dial -- */

static void known_unreachable(Known *k, int error) {
        const char *sentence = error == -ECONNREFUSED ?
                                       "connection refused: no fleetd listens there" :
                               error == -ETIMEDOUT ?
                                       "the host does not answer" :
                               error == -EINVAL ?
                                       "not an address: expected ADDR:PORT or [ADDR6]:PORT, in numbers" :
                                       strerror(-error);

        known_complain(k, COMPLAINT_UNREACHABLE, sentence);
        if (error == -ETIMEDOUT)
                known_redial(k);
        else {
                k->backoff_ms = MIN(k->backoff_ms, (uint64_t) PROBE_MS);
                known_retry(k);
        }
}

static void known_on_connected(void *userdata, Stream *stream, int error) {
        Known *k = userdata;
        int r;

        k->connecting = NULL;
        if (k->host && (stream || error == -ECONNREFUSED || error == -ECONNRESET))
                host_on_contact(k->host, loop_now_ms(k->peers->loop));

        r = stream ? peers_begin(k->peers, stream, k) : error;
        if (r < 0)
                known_unreachable(k, r);
}

static void known_dial(void *userdata) {
        Known *k = userdata;
        Peers *peers = k->peers;
        int r = 0;

        assert(!k->connecting && !k->session);
        if (peers->closing || k->ourselves)
                return;
        if (k->host && k->host->dialed) { /* by another of its addresses */
                known_wait(k, PEERS_BACKOFF_MAX_MS);
                return;
        }

        k->connecting = peers->network->ops->connect(peers->network, k->address, DIAL_TIMEOUT_MS,
                                                     known_on_connected, k, &r);
        if (!k->connecting)
                known_unreachable(k, r);
}

/* The session goes last: those who hear of its end may come back to the list. */
static void known_free(Known *k) {
        Peers *peers = k->peers;
        PeerSession *s = k->session;

        timer_stop(&k->timer);
        if (k->connecting)
                peers->network->ops->cancel(peers->network, k->connecting);
        known_set_host(k, NULL);
        HASH_DEL(peers->known, k);
        free(k);
        if (s) {
                s->known = NULL;
                session_bye(s, "");
        }
}

static int known_add(Peers *peers, const PeerAddress *a) {
        _cleanup_free_ Known *k = NEW0(Known, 1);

        if (!k)
                return -ENOMEM;

        k->peers = peers;
        k->wanted = true;
        k->backoff_ms = PEERS_BACKOFF_MIN_MS;
        k->timer = TIMER(known_dial, k);
        memcpy(k->address, a->address, sizeof(k->address));
        HASH_ADD_STR(peers->known, address, k);
        if (!TABLE_ADDED(k))
                return -ENOMEM;

        known_redial(k);
        (void) TAKE_PTR(k);
        return 0;
}

int peers_set_known(Peers *peers, const PeerAddress *known, size_t n) {
        Known *k;
        int r = 0;

        if (peers->closing)
                return 0;

        for (k = peers->known; k; k = k->hh.next)
                k->wanted = false;

        for (size_t i = 0; i < n; i++) {
                const PeerAddress *a = known + i;
                Host *host = NULL;

                if (streq(a->machine_id, peers->self.machine_id) || streq(a->address, peers->self.address) ||
                    !*a->address)
                        continue;

                HASH_FIND_STR(peers->known, a->address, k);
                if (!k) {
                        if (known_add(peers, a) < 0) {
                                r = -ENOMEM;
                                continue;
                        }
                        HASH_FIND_STR(peers->known, a->address, k);
                }
                k->wanted = true;
                if (!*a->machine_id || streq(a->machine_id, k->given_id))
                        continue;
                /* What a hello has said counts more than what a list says; but a new word of the list is
                 * worth a look. */
                memcpy(k->given_id, a->machine_id, sizeof(k->given_id));
                if (k->session && k->session->state == SESSION_OPEN)
                        continue;
                if (host_get(peers, a->machine_id, &host) < 0) {
                        r = -ENOMEM;
                        k->given_id[0] = 0; /* who says it again has it looked at again */
                } else
                        known_set_host(k, host);
                if (k->ourselves) {
                        k->ourselves = false;
                        known_redial(k);
                }
        }

        for (k = peers->known; k;) {
                if (k->wanted) {
                        k = k->hh.next;
                        continue;
                }
                known_free(k);
                k = peers->known; /* which is what those who heard of it have left */
        }
        return r;
}

/* -- Who dials us -- */

static void accepting_on_stream(void *userdata, Stream *stream) {
        Accepting *a = userdata;
        Peers *peers = a->peers;
        PeerSession *oldest = peers->pending;

        if (peers->closing) {
                stream_close(stream);
                return;
        }

        /* The oldest goes; but when all of them are young this is a storm of honest hosts, and if each drove
         * out the one before it, none would ever get through: then the newcomer is told to come again. */
        if (HASH_CNT(hh_pending, peers->pending) >= PEER_HANDSHAKES_MAX) {
                if (loop_now_ms(peers->loop) - oldest->begun_ms < GREETING_HELD_MS) {
                        stream_close(stream);
                        return;
                }
                session_cut(oldest, -EBUSY, "too many connections wait to say their hello");
        }

        (void) peers_begin(peers, stream, NULL);
}

int peers_listen(Peers *peers, const char *address, Error *err) {
        _cleanup_free_ Accepting *a = NEW0(Accepting, 1);
        int r;

        if (!a)
                return -ENOMEM;

        a->peers = peers;
        r = peers->network->ops->listen(peers->network, address, accepting_on_stream, a, &a->listener, err);
        if (r < 0)
                return r;

        a->next = peers->accepting;
        peers->accepting = TAKE_PTR(a);
        return 0;
}

/* For walks over sessions that end some: what follows 's' now, or its successor's number, may be gone
 * afterwards. */
static PeerSession *session_after(Peers *peers, uint64_t number) {
        PeerSession *s = NULL;

        if (number > 0)
                HASH_FIND(hh, peers->sessions, &number, sizeof(number), s);
        return s;
}

/* Cuts what has been silent for long, so that a healed link is dialed anew at once instead of waiting for the
 * kernel's retransmission, whose pauses have grown by then; and forgets hosts that are long gone. */
static void peers_on_tick(void *userdata) {
        Peers *peers = userdata;
        uint64_t now_ms = loop_now_ms(peers->loop), next;

        for (PeerSession *s = peers->sessions; s; s = session_after(peers, next)) {
                next = s->hh.next ? ((PeerSession *) s->hh.next)->number : 0;
                if (s->state != SESSION_OPEN)
                        continue;

                uint64_t silent_ms = stream_kernel_silent_ms(s->stream);

                if (silent_ms != UINT64_MAX && silent_ms >= SILENT_CUT_MS)
                        session_cut(s, -ETIMEDOUT, "the host has been silent for 10 s");
        }

        for (Host *host = peers->hosts, *after; host; host = after) {
                after = host->hh.next;
                if (host->index_again)
                        host_index(host);
                if (!host->dialed && !host->accepted && !host->judged && host->n_known == 0 &&
                    now_ms - host->used_ms >= HOST_KEPT_MS)
                        peer_host_free(host);
        }

        if (peers->hosts && !peers->closing && timer_start(&peers->tick, peers->loop, PEERS_TICK_MS) < 0)
                log_error(NO_FIELDS, "no memory to watch over sessions");
}

/* -- The whole -- */

static void peers_on_gone_all(void *userdata) {
        Peers *peers = userdata;
        void (*closed)(void *) = peers->closed;
        void *closed_userdata = peers->closed_userdata;

        assert(peers->closing && peers->n_sessions == 0 && !peers->known);
        while (peers->hosts)
                peer_host_free(peers->hosts);
        free(peers);
        closed(closed_userdata);
}

int peers_new(Peers **ret, Loop *loop, Network *network, const PeersOptions *options) {
        Peers *peers = NEW0(Peers, 1);

        if (!peers)
                return -ENOMEM;

        peers->loop = loop;
        peers->network = network;
        peers->options = *options;
        peers->self = options->self;
        TAILQ_INIT(&peers->changed);
        peers->tell = DEFERRED(peers_notify, peers);
        peers->gone = DEFERRED(peers_on_gone_all, peers);
        peers->tick = TIMER(peers_on_tick, peers);
        *ret = peers;
        return 0;
}

void peers_close(Peers *peers, const char *reason, void (*closed)(void *userdata), void *userdata) {
        uint64_t next;

        assert(!peers->closing);
        peers->closing = true;
        peers->closed = closed;
        peers->closed_userdata = userdata;
        deferred_cancel(&peers->tell);
        timer_stop(&peers->tick);

        while (peers->accepting) {
                Accepting *a = peers->accepting;

                peers->accepting = a->next;
                peers->network->ops->unlisten(peers->network, a->listener);
                free(a);
        }
        for (PeerSession *s = peers->sessions; s; s = session_after(peers, next)) {
                next = s->hh.next ? ((PeerSession *) s->hh.next)->number : 0;
                session_bye(s, reason);
        }
        while (peers->known)
                known_free(peers->known);

        if (peers->n_sessions == 0)
                loop_defer(peers->loop, &peers->gone);
}

void peers_set_self(Peers *peers, const PeerHandshake *self) {
        uint64_t next;

        assert(streq(self->machine_id, peers->self.machine_id) && self->nonce == peers->self.nonce);
        if (memcmp(self, &peers->self, sizeof(*self)) == 0)
                return;

        peers->self = *self;
        for (PeerSession *s = peers->sessions; s; s = session_after(peers, next)) {
                next = s->hh.next ? ((PeerSession *) s->hh.next)->number : 0;
                if (s->state == SESSION_OPEN && session_send_handshake(s) < 0)
                        session_cut(s, -ENOMEM, "cannot say our changed hello");
        }
}

const PeerHandshake *peers_self(const Peers *peers) {
        return &peers->self;
}

void peers_handle(Peers *peers, PeerFrame type, PeerHandler handler, void *userdata) {
        assert(type > 0 && type < _PEER_FRAME_MAX);
        peers->handlers[type].handler = handler;
        peers->handlers[type].userdata = userdata;
}

PeerSession *peers_dialed(Peers *peers, const char *machine_id) {
        Host *host = host_find(peers, machine_id);

        return host ? host->dialed : NULL;
}

int peers_send(Peers *peers, const char *machine_id, PeerFrame type, const void *payload, size_t size) {
        PeerSession *s = peers_dialed(peers, machine_id);

        return s ? session_send(s, type, payload, size) : -ENOTCONN;
}

int peers_send_raft(Peers *peers, uint64_t raft_id, PeerFrame type, const void *payload, size_t size) {
        Host *host;

        HASH_FIND(hh_raft, peers->by_raft, &raft_id, sizeof(raft_id), host);
        return host && host->dialed ? session_send(host->dialed, type, payload, size) : -ENOTCONN;
}

PeerSession *peers_session(Peers *peers, uint64_t number) {
        PeerSession *s = session_after(peers, number);

        return s && s->state == SESSION_OPEN ? s : NULL;
}
