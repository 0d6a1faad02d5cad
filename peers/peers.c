/* Dialing, listening, and the public interface. */
#include "peers/peers_internal.h"

#include "base/log.h"

enum {
        /* Without a session, a refused connection is the only sign of a kernel (PeerState). On a session the
         * kernel is probed once a second; likewise, one second without a link or one lost packet must not
         * count as three seconds of silence. */
        DIAL_TIMEOUT_MS = 1000,
        PROBE_MS = 500,
        SILENT_CUT_MS = 10000,
        SILENT_ASK_MS = 2500, /* longer than between two heartbeats of an idle session */
        HOST_KEPT_MS = 600000,
        PENDING_HELD_MS = 250,   /* a new connection displaces the oldest pending one after this time only, */
        PENDING_BUSY_MS = 2000,  /* or this one while many handshakes end well */
        REDIAL_PAUSE_MS = 10000, /* between two attempts to replace one session */
        REJECTED_MAX = 4,        /* attempts to replace one session, see known_is_useless() */
};

/* -- Dialing -- */

static const char *known_error_text(int error) {
        switch (error) {
        case -ECONNREFUSED:
                return "connection refused: no fleetd listens there";
        case -ETIMEDOUT:
                return "connection timed out";
        case -EINVAL:
                return "invalid address: expected ADDR:PORT or [ADDR6]:PORT, in numbers";
        default:
                return strerror(-error);
        }
}

static void known_unreachable(KnownAddress *k, int error) {
        known_warn(k, WARNING_UNREACHABLE, known_error_text(error));
        known_attempted(k);
        k->peers->busy_until_ms = 0; /* it took no turn at a replica */
        if (error == -ETIMEDOUT)
                known_redial(k);
        else {
                k->backoff_ms = MIN(k->backoff_ms, (uint64_t) PROBE_MS);
                known_retry(k);
        }
}

static void known_on_connected(void *userdata, Stream *stream, int error) {
        KnownAddress *k = userdata;
        int r;

        k->connecting = NULL;
        if (k->session && k->session->state == SESSION_OPEN && stream) {
                k->former = k->session;
                if (peers_begin(k->peers, stream, k) < 0)
                        k->former = NULL;
                return;
        }
        if (k->session) /* to be replaced, but the host cannot be reached */
                return;
        if (k->host && (stream || error == -ECONNREFUSED || error == -ECONNRESET))
                host_on_contact(k->host, loop_now_ms(k->peers->loop));

        r = stream ? peers_begin(k->peers, stream, k) : error;
        if (r < 0)
                known_unreachable(k, r);
}

/* Begin a connection; -errno if that fails at once. */
static int known_connect(KnownAddress *k) {
        Peers *peers = k->peers;
        int r = 0;

        k->dialed_ms = loop_now_ms(peers->loop);
        k->connecting = peers->network->ops->connect(peers->network, k->address, DIAL_TIMEOUT_MS,
                                                     known_on_connected, k, &r);
        return k->connecting ? 0 : r;
}

static void known_dial(void *userdata) {
        KnownAddress *k = userdata;
        Peers *peers = k->peers;
        uint64_t wait_ms;
        int r;

        assert(!k->connecting && !k->session);
        if (peers->closing || k->is_self)
                return;
        if (k->host && k->host->dialed) { /* at another of its addresses */
                known_wait(k, PEERS_BACKOFF_MAX_MS);
                return;
        }

        wait_ms = peers_take_turn(peers);
        if (wait_ms > 0) {
                known_wait(k, wait_ms);
                return;
        }
        r = known_connect(k);
        if (r < 0)
                known_unreachable(k, r);
}

/* -- From the key file to certificates, and from a former key to another -- */

/* Return whether the cluster has the key of that host: it can prove a certificate, or soon will. */
static bool known_has_pin(const KnownAddress *k) {
        TlsKnown known = k->host ? peers_knowledge(k->peers, k->host->machine_id).tls : (TlsKnown) {};

        return known.state == TLS_KNOWN && known.n_pins > 0;
}

/* Return whether a session with a former key of this replica has no use. The other replica rejects the
 * present key, and has no session for its answers to this one; but it has a leader while this session brings
 * heartbeats. */
static bool known_is_useless(const KnownAddress *k) {
        return k->peers->self.raft_id != 0 && k->session->peer.kind == TLS_PEER_CERTIFICATE &&
               k->session->n_rejected >= REJECTED_MAX && !k->host->accepted;
}

/* Replace the session that has waited longest: both hosts have certificates now. The session stays open until
 * the host has admitted the new one, and peers_admit() ends it, or until it is useless. */
static void peers_on_redial(void *userdata) {
        KnownAddress *next = NULL;
        Peers *peers = userdata;
        uint64_t now_ms = loop_now_ms(peers->loop);

        for (KnownAddress *k = peers->known; k; k = k->hh.next)
                if (known_is_outdated(k) && !k->connecting && now_ms >= k->redial_ms &&
                    (!next || k->redial_ms < next->redial_ms) && known_has_pin(k))
                        next = k;
        if (next && known_is_useless(next))
                session_bye(next->session, PEER_BYE_UNUSED);
        else if (next) {
                next->redial_ms = now_ms + REDIAL_PAUSE_MS;
                next->use_key = false;
                (void) known_connect(next); /* a failure is repeated after the pause */
        }
        peers_redial_later(peers);
}

/* The session ends last: observers of its end may call peers_set_known(). */
static void known_free(KnownAddress *k) {
        Peers *peers = k->peers;
        PeerSession *ending[] = { k->session, k->former };

        timer_stop(&k->timer);
        if (k->connecting)
                peers->network->ops->cancel(peers->network, k->connecting);
        known_set_host(k, NULL);
        HASH_DEL(peers->known, k);
        free(k);
        for (size_t i = 0; i < ELEMENTS(ending); i++)
                if (ending[i])
                        ending[i]->known = NULL;
        for (size_t i = 0; i < ELEMENTS(ending); i++)
                if (ending[i])
                        session_bye(ending[i], PEER_BYE_UNUSED);
}

static KnownAddress *known_add(Peers *peers, const char *address) {
        KnownAddress *k = NEW0(KnownAddress, 1);

        if (!k)
                return NULL;

        k->peers = peers;
        k->backoff_ms = PEERS_BACKOFF_MIN_MS;
        k->timer = TIMER(known_dial, k);
        memcpy(k->address, address, sizeof(k->address));
        k->source = strangers_key(k->address);
        HASH_ADD_STR(peers->known, address, k);
        if (!TABLE_ADDED_OR_FREED(k))
                return NULL;
        known_redial(k);
        return k;
}

/* Add or update the address 'a' of the list. */
static int known_update(Peers *peers, const PeerAddress *a) {
        PeerHost *host = NULL;
        KnownAddress *k;
        int r = 0;

        HASH_FIND_STR(peers->known, a->address, k);
        if (!k)
                k = known_add(peers, a->address);
        if (!k)
                return -ENOMEM;
        k->wanted = true;
        memcpy(k->name, a->name, sizeof(k->name));
        if (!*a->machine_id || streq(a->machine_id, k->given_id))
                return 0;

        /* The handshake of an open session takes precedence over the list; a changed list permits dialing
         * again. */
        memcpy(k->given_id, a->machine_id, sizeof(k->given_id));
        if (k->session && k->session->state == SESSION_OPEN)
                return 0;
        r = host_get(peers, a->machine_id, &host);
        if (r < 0)
                k->given_id[0] = 0; /* the next call tries again */
        else
                known_set_host(k, host);
        if (k->is_self) {
                k->is_self = false;
                known_redial(k);
        }
        return r;
}

int peers_set_known(Peers *peers, const PeerAddress *known, size_t n) {
        KnownAddress *k;
        int r = 0;

        if (peers->closing)
                return 0;

        for (k = peers->known; k; k = k->hh.next)
                k->wanted = false;

        for (size_t i = 0; i < n; i++)
                if (*known[i].address && !streq(known[i].machine_id, peers->self.machine_id) &&
                    !streq(known[i].address, peers->self.address) && known_update(peers, known + i) < 0)
                        r = -ENOMEM;

        for (k = peers->known; k;) {
                if (k->wanted) {
                        k = k->hh.next;
                        continue;
                }
                known_free(k);
                k = peers->known; /* an observer may have changed the list */
        }
        return r;
}

/* -- Listening -- */

size_t peers_waiting(const Peers *peers) {
        return HASH_CNT(hh_pending, peers->pending);
}

/* Return the oldest pending session of an address, and of strangers only; 0: of all. */
static PeerSession *peers_oldest(const Peers *peers, uint64_t source, bool strangers, size_t *ret_n) {
        PeerSession *oldest = NULL;

        *ret_n = 0;
        for (PeerSession *s = peers->pending; s; s = s->hh_pending.next) {
                if ((source != 0 && s->source != source) || (strangers && !s->is_stranger))
                        continue;
                oldest = oldest ?: s;
                ++*ret_n;
        }
        return oldest;
}

/* End the oldest pending connection to make room for a new one, unless all are recent: then many regular
 * hosts dial at once. If each displaced the one before it, no host would complete its handshake. That holds
 * for longer on a busy machine, where handshakes wait for a processor. 'at_once': also a recent one. Return
 * whether there is room. */
static bool peers_displace(Peers *peers, PeerSession *oldest, bool at_once) {
        uint64_t now_ms = loop_now_ms(peers->loop);
        bool busy = session_has_input(oldest) &&
                    pace_wait_ms(&peers->finished, PEERS_FINISHED_SEC, PEERS_FINISHED_BUSY, now_ms) > 0;

        if (!at_once && now_ms - oldest->begun_ms < (busy ? PENDING_BUSY_MS : PENDING_HELD_MS))
                return false;
        session_cut(oldest, -EBUSY, "too many connections without a handshake");
        return true;
}

/* Return the oldest pending session of the address that has most of them, and the numbers of that address and
 * of 'source'. There is at least one. */
static PeerSession *peers_oldest_of_most(const Peers *peers, uint64_t source, unsigned *ret_most,
                                         unsigned *ret_own) {
        struct {
                PeerSession *oldest;
                unsigned n;
        } of[2 * STRANGERS_PENDING_MAX] = {}, *most = of, *row;

        *ret_own = 0;
        for (PeerSession *s = peers->pending; s; s = s->hh_pending.next) {
                row = of + s->source % ELEMENTS(of);
                while (row->n > 0 && row->oldest->source != s->source)
                        row = row + 1 < of + ELEMENTS(of) ? row + 1 : of;
                row->oldest = row->oldest ?: s;
                row->n++;
                *ret_own += s->source == source;
                if (row->n > most->n || (row->n == most->n && row->oldest->number < most->oldest->number))
                        most = row;
        }
        *ret_most = most->n;
        return most->oldest;
}

static bool peers_has_room(Peers *peers, uint64_t source, bool is_stranger) {
        uint64_t max = peers->options.limits.sessions ?: (uint64_t) PEERS_SESSIONS;
        PeerSession *oldest;
        unsigned most, own;
        size_t n;

        if (peers->n_sessions >= max && !peers_dials(peers, source))
                return false;
        if (is_stranger) {
                oldest = peers_oldest(peers, source, false, &n);
                if (n >= STRANGERS_PENDING_PER_ADDRESS && !peers_displace(peers, oldest, false))
                        return false;
                oldest = peers_oldest(peers, 0, true, &n);
                if (n >= STRANGERS_PENDING_MAX / 2 && !peers_displace(peers, oldest, false))
                        return false;
        }
        if (peers_waiting(peers) < STRANGERS_PENDING_MAX)
                return true;
        oldest = peers_oldest_of_most(peers, source, &most, &own); /* it leaves room for one with fewer */
        return peers_displace(peers, oldest, !is_stranger && own + 1 < most);
}

static void peers_on_accept(void *userdata, Stream *stream) {
        Peers *peers = ((PeerListener *) userdata)->peers;
        uint64_t source = strangers_key(stream_peer_address(stream)), now_ms = loop_now_ms(peers->loop);
        bool secure = peers_has_tls(peers), trusted = !secure || peers_trusts(peers, source);

        if (peers->closing ||
            (secure && !strangers_accept(&peers->strangers, source, trusted, peers->options.limits.admission,
                                         now_ms)) ||
            !peers_has_room(peers, source, !trusted)) {
                stream_close(stream);
                return;
        }
        (void) peers_begin(peers, stream, NULL);
}

int peers_listen(Peers *peers, const char *address, Error *err) {
        _cleanup_free_ PeerListener *l = NEW0(PeerListener, 1);

        if (!l)
                return -ENOMEM;

        l->peers = peers;
        TRY(peers->network->ops->listen(peers->network, address, peers_on_accept, l, &l->listener, err));

        SLIST_INSERT_HEAD(&peers->listeners, l, listeners);
        (void) TAKE_PTR(l);
        return 0;
}

static void peers_on_no_accept(void *userdata, Stream *stream) {
        stream_close(stream);
}

int peers_try_listen(Peers *peers, const char *address, Error *err) {
        Listener *listener;
        int r;

        if (address[0] == ':' || streq(address, peers->self.address))
                return 0;
        r = peers->network->ops->listen(peers->network, address, peers_on_no_accept, NULL, &listener, err);
        if (r == 0)
                peers->network->ops->unlisten(peers->network, listener);
        return r;
}

static void session_cut_if_silent(PeerSession *s, const void *unused) {
        uint64_t silent_ms;

        if (s->state != SESSION_OPEN || loop_now_ms(s->context->loop) - s->contact_ms < SILENT_ASK_MS)
                return;
        silent_ms = stream_kernel_silent_ms(s->stream);
        if (silent_ms != UINT64_MAX && silent_ms >= SILENT_CUT_MS)
                session_cut(s, -ETIMEDOUT, "no packet from the host for 10 s");
}

static void session_bye_for(PeerSession *s, const void *reason) {
        session_bye(s, reason);
}

static void session_send_changed_self(PeerSession *s, const void *unused) {
        if (s->state == SESSION_OPEN && !session_is_joining(s) && session_write_handshake(s, false) < 0)
                session_cut(s, -ENOMEM, "Failed to send the changed handshake");
}

uint64_t peers_sent(const Peers *peers) {
        return peers->sent;
}

/* End silent sessions: a link that works again is dialed at once, instead of after the kernel's next
 * retransmission, whose pauses have grown by then. Free hosts without contact for long. */
static void peers_on_tick(void *userdata) {
        Peers *peers = userdata;
        uint64_t now_ms = loop_now_ms(peers->loop);

        peers_each_session(peers, session_cut_if_silent, NULL);

        for (PeerHost *host = peers->hosts, *following; host; host = following) {
                following = host->hh.next;
                if (host->index_unfinished)
                        host_index(host);
                if (!host->dialed && !host->accepted && !host->candidate && host->n_known == 0 &&
                    now_ms - host->used_ms >= HOST_KEPT_MS)
                        peer_host_free(host);
        }

        if (peers->hosts && !peers->closing &&
            timer_start_with_slack(&peers->tick, peers->loop, PEERS_TICK_MS, PEERS_TICK_SLACK_MS) < 0)
                log_error(NO_FIELDS, "Failed to start the session timer: out of memory");
}

/* -- Public interface -- */

static void peers_on_all_gone(void *userdata) {
        Peers *peers = userdata;
        void (*closed)(void *) = peers->closed;
        void *closed_userdata = peers->closed_userdata;

        assert(peers->closing && peers->n_sessions == 0 && !peers->known);
        while (peers->hosts)
                peer_host_free(peers->hosts);
        tls_credentials_free(peers->credentials);
        free(peers);
        closed(closed_userdata);
}

/* Certificates must be of the cluster of this host, or of its token. A host whose store waits for its
 * admission is in the cluster of its own certificate. */
static void peers_check_cluster(Peers *peers) {
        const TlsCertificate *own = tls_credentials_certificate(peers->credentials);
        uint64_t cluster_id = peers->self.cluster_id;

        if (peers->options.token_root)
                cluster_id = peers->options.token_cluster_id;
        else if (cluster_id == 0 && own)
                cluster_id = own->uri.cluster_id;
        peers->session_context.tls.check.cluster_id = cluster_id;
}

int peers_new(Peers **ret, Loop *loop, Network *network, const PeersOptions *options) {
        Peers *peers = NEW0(Peers, 1);

        if (!peers)
                return -ENOMEM;

        peers->loop = loop;
        peers->network = network;
        peers->options = *options;
        peers->options.limits.admission = options->limits.admission ?: STRANGERS_ADMISSION;
        peers->self = options->self;
        TAILQ_INIT(&peers->changed);
        TAILQ_INIT(&peers->listed);
        peers->notify = DEFERRED(peers_notify, peers);
        peers->credentials = tls_credentials_ref(options->credentials);
        peers->session_context = (SessionContext) {
                .loop = loop,
                .tls = { .key = options->key,
                         .credentials = peers->credentials,
                         .check = { .roles = 1u << TLS_ROLE_HOST | 1u << TLS_ROLE_REPLICA,
                                    .known = peers_known,
                                    .userdata = peers } },
                .self = &peers->self,
                .sent = &peers->sent,
                .types = peers->types,
                .events = &peers_session_events,
                .userdata = peers,
        };
        if (options->token_root) {
                peers->session_context.tls.check.root_pin = options->token_root;
                peers->session_context.tls.check.roles = 1u << TLS_ROLE_REPLICA;
        }
        peers_check_cluster(peers);
        peers->gone = DEFERRED(peers_on_all_gone, peers);
        peers->tick = TIMER(peers_on_tick, peers);
        peers->redial = TIMER(peers_on_redial, peers);
        *ret = peers;
        return 0;
}

void peers_close(Peers *peers, const char *reason, void (*closed)(void *userdata), void *userdata) {
        assert(!peers->closing);
        peers->closing = true;
        peers->closed = closed;
        peers->closed_userdata = userdata;
        deferred_cancel(&peers->notify);
        timer_stop(&peers->tick);
        timer_stop(&peers->redial);

        while (!SLIST_EMPTY(&peers->listeners)) {
                PeerListener *l = SLIST_FIRST(&peers->listeners);

                SLIST_REMOVE_HEAD(&peers->listeners, listeners);
                peers->network->ops->unlisten(peers->network, l->listener);
                free(l);
        }
        peers_each_session(peers, session_bye_for, reason);
        while (peers->known)
                known_free(peers->known);

        if (peers->n_sessions == 0)
                loop_defer(peers->loop, &peers->gone);
}

void peers_set_self(Peers *peers, const PeerHandshake *self) {
        assert(streq(self->machine_id, peers->self.machine_id) && self->nonce == peers->self.nonce);
        if (memcmp(self, &peers->self, sizeof(*self)) == 0)
                return;

        peers->self = *self;
        peers_check_cluster(peers);
        peers_each_session(peers, session_send_changed_self, NULL);
}

void peers_set_cluster(Peers *peers, uint64_t cluster_id) {
        peers->cluster_id = cluster_id;
}

const PeerHandshake *peers_self(const Peers *peers) {
        return &peers->self;
}

/* A host without a certificate is accepted while a component handles its request. */
static void peers_check_joining(Peers *peers) {
        peers->session_context.tls.anonymous = peers->handlers[PEER_ENTER] && peers_has_certificate(peers);
}

static void session_end_by_key(PeerSession *s, const void *unused) {
        Error err = {};

        if (s->state != SESSION_TLS && s->state != SESSION_ENDED && s->peer.kind == TLS_PEER_KEY &&
            session_check_key(s, &err) < 0)
                session_reject(s, REJECTION_CERTIFICATE, err.message);
}

void peers_set_credentials(Peers *peers, const TlsCredentials *credentials, bool key_counts) {
        TlsCredentials *before = peers->credentials;

        peers->credentials = tls_credentials_ref(credentials);
        peers->session_context.tls.credentials = peers->credentials;
        peers->session_context.tls.key = key_counts ? peers->options.key : NULL;
        peers_check_joining(peers);
        peers_check_cluster(peers);
        tls_credentials_free(before);
        peers->key_rejected = false;
        if (!peers->session_context.tls.key)
                peers_each_session(peers, session_end_by_key, NULL);
        peers_redial_later(peers);
}

bool peers_need_certificate(const Peers *peers) {
        return peers->key_rejected;
}

void peers_end_key(Peers *peers) {
        peers->session_context.key_ended = true;
        peers_each_session(peers, session_end_by_key, NULL);
}

bool peers_has_key(const Peers *peers) {
        return peers->options.key;
}

const TlsPin *peers_own_pin(const Peers *peers) {
        const TlsCertificate *own = tls_credentials_certificate(peers->credentials);

        return own ? &own->pin : NULL;
}

const TlsPin *peer_pin(const PeerSession *s) {
        return s->peer.kind == TLS_PEER_CERTIFICATE ? &s->peer.verified.leaf.pin : NULL;
}

typedef struct Ending {
        const char *machine_id, *reason;
} Ending;

static void session_end_of_machine(PeerSession *s, const void *argument) {
        const Ending *ending = argument;
        const char *machine_id = session_machine(s);

        if (machine_id && streq(machine_id, ending->machine_id))
                session_reject(s, REJECTION_ADMISSION, ending->reason);
}

void peers_end(Peers *peers, const char *machine_id, const char *reason) {
        host_distrust(peers, machine_id);
        peers_each_session(peers, session_end_of_machine, &(Ending) { machine_id, reason });
}

static void session_end_if_revoked(PeerSession *s, const void *peers) {
        Error err = {};

        if (session_recheck((Peers *) peers, s, &err) < 0)
                session_reject(s, REJECTION_ADMISSION, err.message);
}

void peers_recheck(Peers *peers) {
        peers_each_session(peers, session_end_if_revoked, peers);
}

void peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata) {
        for (size_t i = 0; i < n; i++) {
                PeerFrame type = types[i].type;

                peers->types[type] = peer_frame_rule(type);
                assert(type > PEER_BYE && peers->types[type].direction);
                peers->handlers[type] = types[i].handler;
                peers->handlers_userdata[type] = userdata;
        }
        peers_check_joining(peers);
}

/* The rules stay: frames on the wrong session still end it, and queued frames are still sent. */
void peers_unregister(Peers *peers, const PeerFrameType *types, size_t n) {
        for (size_t i = 0; i < n; i++)
                peers->handlers[types[i].type] = NULL;
        peers_check_joining(peers);
}

PeerSession *peers_dialed(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);

        return host ? host->dialed : NULL;
}

PeerSession *peers_accepted(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);

        return host ? host->accepted : NULL;
}

int peers_send(Peers *peers, const char *machine_id, PeerFrame type, const void *payload, size_t size) {
        PeerSession *s = peers_dialed(peers, machine_id);

        return s ? peer_reply(s, type, payload, size) : -ENOTCONN;
}

int peers_send_raft(Peers *peers, uint64_t raft_id, PeerFrame type, const void *payload, size_t size) {
        PeerHost *host;

        HASH_FIND(hh_raft, peers->by_raft, &raft_id, sizeof(raft_id), host);
        return host && host->dialed ? peer_reply(host->dialed, type, payload, size) : -ENOTCONN;
}

PeerSession *peers_session(Peers *peers, uint64_t number) {
        PeerSession *s = peers_find_session(peers, number);

        return s && s->state == SESSION_OPEN ? s : NULL;
}
