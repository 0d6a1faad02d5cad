/* Admission: a session from its stream to its end, and which hosts are admitted. */
#include "peers/peers_internal.h"

#include "base/log.h"

enum {
        LASTED_MS = 2000, /* after a session that was open for this time, the host is redialed at once */
        PING_ANSWER_MS = 1000,
        SESSIONS_BURST = 10, /* of one host without a replica; then one in a second */
};

/* -- Handshakes -- */

static void session_leave_pending(Peers *peers, PeerSession *s) {
        if (!s->pending)
                return;
        HASH_DELETE(hh_pending, peers->pending, s);
        s->pending = false;
}

/* Find the open sessions of 'host' that belong to another start of its daemon than 's'. */
static unsigned host_conflicts(const PeerHost *host, const PeerSession *s, PeerSession *ret[2]) {
        unsigned n = 0;

        if (host->dialed && host->dialed->handshake.nonce != s->handshake.nonce)
                ret[n++] = host->dialed;
        if (host->accepted && host->accepted->handshake.nonce != s->handshake.nonce)
                ret[n++] = host->accepted;
        return n;
}

static void host_on_handshake(PeerHost *host, const PeerSession *s) {
        host->handshake = s->handshake;
        host->bye[0] = 0;
        host_on_contact(host, s->contact_ms);
        host_index(host);
        host_changed(host);
}

/* Make 's' the accepted session of 'host', and dial the host without further pause: it is reachable. */
static void host_set_accepted(PeerHost *host, PeerSession *s) {
        Peers *peers = host->peers;

        host->accepted = s;
        if (peers_has_tls(peers))
                host_trust(host, s->source);
        peers_clear_warnings(peers, host->machine_id);
        if (host->n_known == 0 || host->dialed)
                return;
        for (KnownAddress *k = peers->known; k; k = k->hh.next)
                if (k->host == host && timer_armed(&k->timer))
                        known_redial(k);
}

/* Open a session without conflicts, or whose conflicting sessions did not answer. */
static void peers_admit(Peers *peers, PeerHost *host, PeerSession *s) {
        PeerSession *old[2], *same;
        unsigned n = host_conflicts(host, s, old);

        for (unsigned i = 0; i < n; i++)
                session_cut(old[i], -ESTALE, "the peer's daemon has restarted");

        /* The newer session replaces the older one on both hosts, so that they agree. It may use another
         * address of the same host. */
        same = s->dialed ? host->dialed : host->accepted;
        if (same)
                session_cut(same, -ESTALE, "replaced by a newer session");
        if (s->state == SESSION_ENDED) /* by an observer of these ends */
                return;

        if (!s->dialed && pace_wait_ms(&peers->finished, PEERS_FINISHED_SEC, 2 * PEERS_FINISHED_BUSY,
                                       loop_now_ms(peers->loop)) == 0)
                pace_take(&peers->finished, 1);
        session_leave_pending(peers, s);
        peers->key_rejected = false;
        s->host = host;
        host_unindex(host);
        if (s->dialed) {
                peers_end_removal(peers);
                peers->busy_ms = 0;
                host->dialed = s;
                host->problem[0] = s->known->problem[0] = 0;
                known_set_host(s->known, host);
        } else
                host_set_accepted(host, s);
        s->begun_ms = loop_now_ms(peers->loop);
        host_on_handshake(host, s);
        log_info(((LogFields) { .machine = host->machine_id }), "session %s %s (%s)",
                 s->dialed ? "to" : "from", handshake_name(&s->handshake), s->address);
        session_open(s);
        if (s->dialed && s->peer.kind == TLS_PEER_KEY)
                peers_redial_later(peers);
}

static void peers_reject(Peers *peers, PeerSession *s, Rejection cause, const char *message) {
        if (s->dialed)
                known_warn(s->known, cause, message);
        else
                peers_warn(peers, s, cause, message);
        session_reject(s, cause, message);
}

/* -- Certificates -- */

void peers_known(void *userdata, TlsRole role, const char *machine_id, TlsKnown *ret) {
        *ret = peers_knowledge(userdata, machine_id).tls;
}

/* Set whether the machine of a session has the replica that its handshake names. */
static void session_check_replica(Peers *peers, PeerSession *s) {
        PeerKnown known;

        if (s->peer.kind != TLS_PEER_CERTIFICATE || peers->options.token_root || !peers->options.known) {
                s->is_replica = true;
                return;
        }
        known = peers_knowledge(peers, s->handshake.machine_id);
        s->is_replica = known.tls.chain_counts ? s->peer.verified.replica || known.tls.replica :
                                                 known.tls.replica;
        if (known.raft_id != 0 && known.raft_id != s->handshake.raft_id && !known.tls.chain_counts)
                s->is_replica = false;
}

/* Check that the machine of a certificate sent the handshake, and still is as it was in TLS. */
static int session_check_certificate(Peers *peers, const PeerSession *s, Error *err) {
        const TlsCertificate *leaf = &s->peer.verified.leaf;
        TlsKnown known;

        if (!streq(s->handshake.machine_id, leaf->uri.subject))
                return error_set(err, -EKEYREJECTED,
                                 "the certificate is of machine %s, the handshake of machine %s",
                                 leaf->uri.subject, s->handshake.machine_id);
        if (peers->options.token_root || !s->peer.verified.by_pin)
                return 0;

        known = peers_knowledge(peers, leaf->uri.subject).tls;
        for (unsigned i = 0; i < known.n_pins && known.state != TLS_REMOVED; i++)
                if (tls_pin_equal(known.pins + i, &leaf->pin))
                        return 0;
        return error_set(err, -EKEYREJECTED, "machine %s was removed, or its key was replaced",
                         leaf->uri.subject);
}

int session_check_key(const PeerSession *s, Error *err) {
        const TlsOptions *tls = &s->context->tls;
        const char *name = handshake_name(&s->handshake);

        if ((tls->key && !s->context->key_ended) || (!tls->key && !tls->credentials)) /* without TLS */
                return 0;
        return error_set(err, -EKEYREJECTED,
                         "the cluster requires certificates, and its key file does not count any more: on "
                         "a host of it, run fleetctl token --replace=%s, then fleetctl join on %s",
                         name, name);
}

int session_recheck(Peers *peers, const PeerSession *s, Error *err) {
        const TlsCertificate *leaf = &s->peer.verified.leaf;
        PeerKnown known;

        if (s->peer.kind != TLS_PEER_CERTIFICATE || peers->options.token_root || !peers->options.known)
                return 0;
        known = peers_knowledge(peers, leaf->uri.subject);
        if (known.tls.chain_counts || known.tls.chain_waits) /* the tree may be older than the certificate */
                return 0;
        if (known.tls.state == TLS_REMOVED)
                return error_set(err, -EKEYREVOKED, "machine %s was removed from the cluster",
                                 leaf->uri.subject);
        if (known.tls.state == TLS_UNKNOWN)
                return s->peer.verified.by_pin ?
                               error_set(err, -ENOKEY, "the cluster has no key of machine %s any more",
                                         leaf->uri.subject) :
                               0;
        if (s->is_replica && s->peer.verified.by_pin && !known.tls.replica)
                return error_set(err, -EACCES, "machine %s has no replica any more", leaf->uri.subject);
        for (unsigned i = 0; i < known.tls.n_pins; i++)
                if (tls_pin_equal(known.tls.pins + i, &leaf->pin))
                        return 0;
        return error_set(err, -EKEYREJECTED, "machine %s has another key than the cluster knows",
                         leaf->uri.subject);
}

/* Check how the other host was authenticated. */
static int session_check_peer(Peers *peers, const PeerSession *s, Error *err) {
        switch (s->peer.kind) {
        case TLS_PEER_KEY:
                return session_check_key(s, err);
        case TLS_PEER_CERTIFICATE:
                return session_check_certificate(peers, s, err);
        case TLS_PEER_REJECTED:
                return error_set(err, s->peer.rejected->code, "%s", s->peer.rejected->message);
        case TLS_PEER_ANONYMOUS:
                break;
        }
        if (s->handshake.cluster_id != 0)
                return error_set(
                        err, -ENOKEY,
                        "%s is a member of a cluster and has no certificate: it joins again with a token of "
                        "'fleetctl token'",
                        handshake_name(&s->handshake));
        return s->state == SESSION_OPEN ? error_set(err, -EBADMSG, "a joining host sent a second handshake") :
                                          0;
}

/* Open the session of a joining host. It belongs to no machine: the machine ID that it names is not
 * authenticated. It counts as pending until its end. */
static void peers_admit_joining(Peers *peers, PeerSession *s) {
        log_debug(NO_FIELDS, "session from the joining host %s (%s)", handshake_name(&s->handshake),
                  s->address);
        session_open(s);
        session_limit(s, PEER_JOIN_REQUEST_MS);
}

/* Return whether a session may carry frames of a type. */
static bool session_may_send(Peers *peers, PeerSession *s, PeerDirection direction) {
        switch (s->peer.kind) {
        case TLS_PEER_KEY:
                return true;
        case TLS_PEER_CERTIFICATE:
                if (direction & PEER_FROM_REPLICAS && !s->is_replica) /* it may have become one */
                        session_check_replica(peers, s);
                return !(direction & PEER_FROM_JOINING) &&
                       (!(direction & PEER_FROM_REPLICAS) || s->is_replica);
        case TLS_PEER_ANONYMOUS:
                if (!(direction & PEER_FROM_JOINING) || s->requested)
                        return false;
                s->requested = true;
                session_limit(s, PEER_JOIN_MS);
                return true;
        case TLS_PEER_REJECTED:
                break;
        }
        return false;
}

/* -- Admission -- */

static int session_clone_error(const PeerSession *first, const PeerSession *second, Error *err) {
        return error_set(err, -EEXIST,
                         "two running hosts, %s (%s) and %s (%s), have machine id %s: give the clone its own "
                         "id (rm /etc/machine-id; systemd-machine-id-setup)",
                         handshake_name(&first->handshake), first->address,
                         handshake_name(&second->handshake), second->address, first->handshake.machine_id);
}

/* Ask admit(). While another start of the host has a session, a replica that is an old image of itself is a
 * clone of it. */
static int peers_ask(Peers *peers, const PeerSession *s, Rejection *ret_cause, Error *err) {
        PeerSession *conflicts[2];
        const PeerHost *host;
        int r;

        *ret_cause = REJECTION_ADMISSION;
        r = peers->options.admit(peers->options.userdata, &s->handshake, err);
        if (r < 0 && err->code == 0)
                error_set(err, r, "not admitted: %s", strerror(-r));
        if (r != -ESTALE)
                return r;

        host = host_find(peers, s->handshake.machine_id);
        *ret_cause = host && host_conflicts(host, s, conflicts) > 0 ? REJECTION_CLONE : REJECTION_OUTDATED;
        return *ret_cause == REJECTION_CLONE ? session_clone_error(conflicts[0], s, err) : r;
}

/* Check whether both hosts can be in one cluster, and ask admit(). */
static int peers_check(Peers *peers, const PeerSession *s, Rejection *ret_cause, Error *err) {
        const PeerHandshake *self = &peers->self, *peer = &s->handshake;

        *ret_cause = s->peer.kind == TLS_PEER_KEY ? REJECTION_CERTIFICATE : REJECTION_ADMISSION;
        TRY(session_check_peer(peers, s, err));

        *ret_cause = REJECTION_SELF;
        if (streq(peer->machine_id, self->machine_id) && peer->nonce == self->nonce)
                return error_set(err, -ELOOP, "the host dialed itself");

        *ret_cause = REJECTION_CLONE;
        if (streq(peer->machine_id, self->machine_id))
                return error_set(err, -EEXIST,
                                 "two hosts, %s and %s, have machine id %s: give the clone its own id "
                                 "(rm /etc/machine-id; systemd-machine-id-setup)",
                                 *self->name ? self->name : "the other", handshake_name(peer),
                                 self->machine_id);

        if (host_is_other_clone(peers, s))
                return host_other_clone_error(s, err);

        *ret_cause = REJECTION_CLUSTER;
        if (peer->cluster_id != 0 && self->cluster_id != 0 && peer->cluster_id != self->cluster_id)
                return error_set(err, -EXDEV, "%s belongs to cluster %016llx, %s to cluster %016llx",
                                 handshake_name(peer), (unsigned long long) peer->cluster_id,
                                 handshake_name(self), (unsigned long long) self->cluster_id);

        if (peer->cluster_id != 0 && self->cluster_id == 0 && peers->cluster_id != 0 &&
            peer->cluster_id != peers->cluster_id)
                return error_set(
                        err, -EXDEV,
                        "%s belongs to cluster %016llx, %s is attached to cluster %016llx; to attach it to "
                        "another one: systemctl stop fleetd; fleetd --reset; systemctl start fleetd",
                        handshake_name(peer), (unsigned long long) peer->cluster_id, handshake_name(self),
                        (unsigned long long) peers->cluster_id);

        *ret_cause = REJECTION_LINEAGE;
        if (peer->cluster_id == self->cluster_id && !handshake_has_lineage_of(peer, self))
                return error_set(err, -EXDEV,
                                 "%s is of another lineage of this cluster than %s: one of them was left out "
                                 "when the cluster was recovered or restored, and must join again",
                                 handshake_name(peer), handshake_name(self));

        return session_is_joining(s) || !peers->options.admit ? 0 : peers_ask(peers, s, ret_cause, err);
}

static void host_on_clone_check(void *userdata) {
        PeerHost *host = userdata;
        PeerSession *s = TAKE_PTR(host->candidate);

        if (s)
                peers_admit(host->peers, host, s);
}

/* Admit a session, but check for a clone first: if open sessions of an earlier start of the host answer a
 * ping, two hosts have the same machine id. */
static void peers_check_clone(Peers *peers, PeerSession *s) {
        PeerSession *conflicts[2];
        unsigned n;
        PeerHost *host;

        if (host_get(peers, s->handshake.machine_id, &host) < 0) {
                session_cut(s, -ENOMEM, "out of memory for a host");
                return;
        }

        n = host_conflicts(host, s, conflicts);
        if (n == 0) {
                peers_admit(peers, host, s);
                return;
        }

        if (host->candidate)
                session_cut(host->candidate, -ESTALE, "replaced by a newer session");
        host->clone_check.fire = host_on_clone_check;
        host->clone_check.userdata = host;
        if (timer_start(&host->clone_check, peers->loop, PING_ANSWER_MS) < 0) {
                session_cut(s, -ENOMEM, "out of memory for a timer");
                return;
        }
        session_leave_pending(peers, s);
        s->host = host;
        host->candidate = s;
        session_hold(s);
        for (unsigned i = 0; i < n; i++)
                (void) peer_reply(conflicts[i], PEER_PING, NULL, 0); /* a failed ping has no answer */
}

/* The tombstone is of this lineage: in another one the host may be a member, and in a newer tree, too. */
static Rejection removal_rejection(const Peers *peers, const PeerSession *s) {
        if (!handshake_has_lineage_of(&s->handshake, &peers->self))
                return REJECTION_LINEAGE;
        return peers_knowledge(peers, s->handshake.machine_id).stale ? REJECTION_ADMISSION :
                                                                       REJECTION_REMOVED;
}

/* Reject a session of a host without a replica that opens them too often: each costs a handshake, and a
 * slice. Return whether it was rejected. */
static bool peers_delays_session(Peers *peers, PeerSession *s) {
        PeerHost *host = host_find(peers, s->handshake.machine_id);

        if (!host || s->dialed || (s->is_replica && s->handshake.raft_id != 0))
                return false;
        if (pace_try(&host->sessions, 1, SESSIONS_BURST, loop_now_ms(peers->loop)))
                return false;
        peers_reject(peers, s, REJECTION_BUSY, "this host opens sessions too often: try again in 5 s");
        return true;
}

static void peers_on_handshake(void *userdata, PeerSession *s) {
        Peers *peers = userdata;
        Rejection cause;
        Error err = {};
        PeerHost *host;
        int r;

        r = peers_check(peers, s, &cause, &err);
        if (r == -EKEYREVOKED)
                cause = removal_rejection(peers, s);
        if (r < 0) {
                if (cause == REJECTION_CLONE && !session_is_joining(s) && /* its machine ID is not proved */
                    host_get(peers, s->handshake.machine_id, &host) >= 0)
                        host_clone_rejected(host);
                if (cause == REJECTION_SELF)
                        session_reject(s, cause,
                                       err.message); /* the dialing end stops dialing this address */
                else
                        peers_reject(peers, s, cause, err.message);
                return;
        }

        if (session_is_joining(s)) {
                peers_admit_joining(peers, s);
                return;
        }
        session_check_replica(peers, s);
        if (s->state == SESSION_OPEN)
                host_on_handshake(s->host, s);
        else if (!peers_delays_session(peers, s))
                peers_check_clone(peers, s);
}

static void peers_on_pong(void *userdata, PeerSession *s) {
        Peers *peers = userdata;
        PeerSession *candidate = s->host ? s->host->candidate : NULL;
        Error err = {};

        if (!candidate || candidate->handshake.nonce == s->handshake.nonce)
                return;

        timer_stop(&s->host->clone_check);
        host_clone_rejected(s->host);
        session_clone_error(s, candidate, &err);
        peers_reject(peers, candidate, REJECTION_CLONE, err.message);
}

/* End a session that sent a frame of a type that its role does not allow. */
static void peers_cut_forbidden(Peers *peers, PeerSession *s, PeerFrame type) {
        char message[96];

        snprintf(message, sizeof(message), "frame of type %u, which the role of the host does not allow",
                 type);
        peers_warn(peers, s, WARNING_FORBIDDEN, message);
        session_cut(s, -EACCES, message);
}

/* Reject a request to join above the limits; the joining host repeats it. Return whether it was rejected. */
static bool peers_delays_join(Peers *peers, PeerSession *s) {
        bool wrong_tokens;
        uint64_t wait_ms = strangers_join(&peers->strangers, s->source, loop_now_ms(peers->loop),
                                          &wrong_tokens);
        char message[128];

        if (wait_ms == 0)
                return false;
        snprintf(message, sizeof(message), "%s: try again in %llu s",
                 wrong_tokens ? "5 wrong tokens came from the address of this host within a minute" :
                                "too many hosts join at once",
                 (unsigned long long) (wait_ms + 999) / 1000);
        peers_reject(peers, s, wrong_tokens ? REJECTION_OTHER : REJECTION_BUSY, message);
        return true;
}

static void peers_on_frame(void *userdata, PeerSession *s, const Frame *frame) {
        Peers *peers = userdata;
        PeerHandler handler = peers->handlers[frame->type];

        if (peers->closing)
                return;
        if (!session_may_send(peers, s, peers->types[frame->type].direction)) {
                peers_cut_forbidden(peers, s, frame->type);
                return;
        }
        if (session_is_joining(s) && peers_delays_join(peers, s))
                return;
        if (handler && s->state == SESSION_OPEN)
                handler(peers->handlers_userdata[frame->type], s, frame->type, frame->payload, frame->size);
}

/* Whether the other host proved that it is a replica of the cluster. A host that is dialed may reject before
 * its handshake: then its certificate counts alone. */
static bool session_is_of_replica(Peers *peers, PeerSession *s) {
        TlsKnown known;

        if (s->peer.kind != TLS_PEER_CERTIFICATE)
                return s->peer.kind == TLS_PEER_KEY;
        if (s->has_handshake) {
                session_check_replica(peers, s);
                return s->is_replica;
        }
        known = peers_knowledge(peers, s->peer.verified.leaf.uri.subject).tls;
        return known.replica || (known.chain_counts && s->peer.verified.replica);
}

static void peers_on_rejected(void *userdata, PeerSession *s, Rejection cause, const char *message) {
        Peers *peers = userdata;
        char text[REJECTION_MAX + 32];
        PeerHost *host;

        if (cause == REJECTION_OUTDATED && session_is_of_replica(peers, s) &&
            host_get(peers, peers->self.machine_id, &host) >= 0) {
                host->outdated_raft_id = peers->self.raft_id;
                host_changed(host);
        }
        if (!s->known) {
                peers_warn(peers, s, cause, message);
                return;
        }
        if (cause == REJECTION_SELF) {
                s->known->is_self = true;
                return;
        }
        if (cause == REJECTION_CLONE && host_get(peers, peers->self.machine_id, &host) >= 0)
                host_clone_rejected(host);
        if (cause == REJECTION_REMOVED && session_is_of_replica(peers, s)) {
                if (!peers->removed && host_get(peers, peers->self.machine_id, &host) >= 0)
                        host_changed(host);
                peers->removed = true;
        }
        peers->key_rejected = cause == REJECTION_CERTIFICATE && !peers_has_certificate(peers);
        snprintf(text, sizeof(text), "rejected by the peer: %s", message);
        known_warn(s->known, cause, text);
}

static void peers_on_bye(void *userdata, PeerSession *s, const char *reason) {
        if (s->host && s->host->candidate != s)
                memcpy(s->host->bye, reason, strnlen(reason, sizeof(s->host->bye) - 1) + 1);
}

/* -- The end of a session -- */

static void host_on_session_end(PeerHost *host, PeerSession *s, bool was_open, const char *reason) {
        uint64_t now_ms = loop_now_ms(host->peers->loop), silent_ms = session_silent_ms(s);

        if (was_open && s->dialed)
                snprintf(host->problem, sizeof(host->problem), "%s", reason);
        host_on_contact(host, now_ms - MIN(silent_ms, now_ms));
        host->used_ms = now_ms;
        if (host->candidate == s) {
                host->candidate = NULL;
                timer_stop(&host->clone_check);
        }
        if (!was_open)
                return;
        if (host->dialed == s)
                host->dialed = NULL;
        else
                host->accepted = NULL;
        host_index(host);
        host_changed(host);
}

/* While the key file counts, too: after a rejected certificate, dial with the key file once, and vice versa.
 */
static void known_choose_key(KnownAddress *k, const PeerSession *s, bool was_open, int error) {
        const TlsOptions *tls = &k->peers->session_context.tls;
        bool rejected = error < 0 && error != -ECONNRESET && error != -ETIMEDOUT && error != -ENOMEM;

        k->use_key = tls->key && tls->credentials && !k->peers->session_context.key_ended && !was_open &&
                     !s->used_key && rejected;
}

static void known_on_session_end(KnownAddress *k, const PeerSession *s, bool lasted) {
        if (k->former == s) { /* replaced by 'session', or lost before */
                k->former = NULL;
                return;
        }
        k->session = TAKE_PTR(k->former);
        if (k->session) { /* it could not be replaced */
                k->session->n_rejected += s->rejected;
                return;
        }
        known_attempted(k);
        if (lasted) {
                k->warned = 0;
                k->backoff_ms = PEERS_BACKOFF_MIN_MS;
                known_redial(k);
        } else
                known_retry(k);
}

/* A host with the key file alone cannot know whether the others have another one, or require certificates. */
static void known_warn_unauthenticated(KnownAddress *k, unsigned cause, const char *reason) {
        Peers *peers = k->peers;
        char message[PEER_PROBLEM_SIZE];

        peers->key_rejected = cause == WARNING_KEY && peers->session_context.tls.key && !peers->credentials;
        if (peers->key_rejected)
                snprintf(message, sizeof(message),
                         "%s; if its cluster requires certificates: on a host of it, run fleetctl token "
                         "--replace=%s, then fleetctl join on this one",
                         reason, handshake_name(&peers->self));
        known_warn(k, cause, peers->key_rejected ? message : reason);
}

static void peers_on_end(void *userdata, PeerSession *s, int error, const char *reason) {
        Peers *peers = userdata;
        PeerHost *host = TAKE_PTR(s->host);
        KnownAddress *k = TAKE_PTR(s->known);
        PeerSession *conflicts[2];
        const PeersObserver *observer;
        bool was_open = host && (host->dialed == s || host->accepted == s);
        bool lasted = was_open && loop_now_ms(peers->loop) - s->begun_ms >= LASTED_MS;
        unsigned cause = WARNING_NO_HANDSHAKE;

        if (error == -EKEYREJECTED)
                cause = WARNING_KEY;
        else if (error == -EPROTONOSUPPORT)
                cause = REJECTION_VERSION;
        session_leave_pending(peers, s);
        if (host)
                host_on_session_end(host, s, was_open, reason);
        if (was_open && !peers->closing)
                log_info(((LogFields) { .machine = host->machine_id, .error = error }),
                         "session %s %s (%s) ended: %s", s->dialed ? "to" : "from",
                         handshake_name(&s->handshake), s->address, reason);
        if (!was_open && !s->dialed && error < 0 && !s->has_handshake)
                peers_warn(peers, s, cause, reason);
        if (k && !was_open && !s->has_handshake && !s->rejected && !peers->closing)
                known_warn_unauthenticated(k, cause, reason);
        if (was_open && s->dialed)
                peers->busy_ms = 0;
        else if (k && !k->former && !s->has_handshake && error == -ECONNRESET && peers_is_attached(peers))
                peers_busy(peers);
        if (k && !k->former)
                known_choose_key(k, s, was_open, error);
        if (k)
                known_on_session_end(k, s, lasted);
        if (!was_open)
                return;

        if (!peers->closing)
                LIST_FOREACH(observer, &peers->observers, observers)
                        observer->on_end(observer->userdata, s);
        if (host->candidate && !peers->closing && host_conflicts(host, host->candidate, conflicts) == 0)
                (void) timer_start(&host->clone_check, peers->loop, 0);
}

static void peers_on_free(void *userdata, PeerSession *s) {
        Peers *peers = userdata;

        if (TABLE_ADDED(s))
                HASH_DEL(peers->sessions, s);
        if (--peers->n_sessions == 0 && peers->closing)
                loop_defer(peers->loop, &peers->gone);
}

const SessionEvents peers_session_events = {
        .on_handshake = peers_on_handshake,
        .on_frame = peers_on_frame,
        .on_pong = peers_on_pong,
        .on_rejected = peers_on_rejected,
        .on_bye = peers_on_bye,
        .on_end = peers_on_end,
        .on_free = peers_on_free,
};

int peers_begin(Peers *peers, Stream *stream, KnownAddress *known) {
        PeerSession *s;

        TRY(session_new(&s, &peers->session_context, stream, known != NULL, known && known->use_key));

        peers->n_sessions++;
        s->number = ++peers->last_number;
        s->source = strangers_key(s->address);
        s->is_stranger = !known && peers_has_tls(peers) && !peers_trusts(peers, s->source);
        HASH_ADD(hh, peers->sessions, number, sizeof(s->number), s);
        if (TABLE_ADDED(s) && !known) {
                HASH_ADD(hh_pending, peers->pending, number, sizeof(s->number), s);
                s->pending = s->hh_pending.tbl != NULL;
        }
        if (!TABLE_ADDED(s) || (!known && !s->pending)) {
                session_cut(s, -ENOMEM, "out of memory for a session");
                return -ENOMEM;
        }

        if (known) {
                s->known = known;
                known->session = s;
        }
        return 0;
}

void peers_wrong_token(Peers *peers, const PeerSession *session) {
        strangers_wrong_token(&peers->strangers, session->source, loop_now_ms(peers->loop));
}
