/* Who may come in, and who is whom: a session from its stream to its end. */
#include "peers/peers_internal.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

enum {
        LASTED_MS = 2000, /* a session that was open for so long is no part of a storm: its end is redialed at
                             once */
        PING_ANSWER_MS = 1000,
};

/* -- Complaints about those who dial us -- */

/* Whether 'who' has not been complained of for 'cause' lately: strangers must not fill the journal. */
static bool peers_first_complaint(Peers *peers, const char *who, unsigned cause) {
        uint64_t hash = XXH3_64bits_withSeed(who, strlen(who), cause + 1);

        for (size_t i = 0; i < PEERS_COMPLAINTS_KEPT; i++)
                if (peers->complaints[i] == hash)
                        return false;
        peers->complaints[peers->next_complaint++ % PEERS_COMPLAINTS_KEPT] = hash;
        return true;
}

static void peers_forget_complaints(Peers *peers, const char *who) {
        for (unsigned cause = 0; cause <= COMPLAINT_NO_HANDSHAKE; cause++) {
                uint64_t hash = XXH3_64bits_withSeed(who, strlen(who), cause + 1);

                for (size_t i = 0; i < PEERS_COMPLAINTS_KEPT; i++)
                        if (peers->complaints[i] == hash)
                                peers->complaints[i] = 0;
        }
}

static void peers_complain(Peers *peers, const PeerSession *s, unsigned cause, const char *sentence) {
        char who[64];
        char *colon;

        /* The port of a stranger is another one each time. */
        snprintf(who, sizeof(who), "%s", s->has_handshake ? s->hello.machine_id : s->address);
        colon = s->has_handshake ? NULL : strrchr(who, ':');
        if (colon)
                *colon = 0;
        if (!peers_first_complaint(peers, who, cause))
                return;
        log_warning(((LogFields) { .machine = s->has_handshake ? s->hello.machine_id : NULL }),
                    "refused a session from %s%s%s%s: %s", s->address, s->has_handshake ? " (" : "",
                    s->has_handshake ? handshake_name(&s->hello) : "", s->has_handshake ? ")" : "", sentence);
}

/* -- Hellos -- */

static void session_leave_pending(Peers *peers, PeerSession *s) {
        if (!s->pending)
                return;
        HASH_DELETE(hh_pending, peers->pending, s);
        s->pending = false;
}

/* Sessions of 'host' that live and belong to another start of the machine than 's'. */
static unsigned host_rivals(const Host *host, const PeerSession *s, PeerSession *ret[2]) {
        unsigned n = 0;

        if (host->dialed && host->dialed->hello.nonce != s->hello.nonce)
                ret[n++] = host->dialed;
        if (host->accepted && host->accepted->hello.nonce != s->hello.nonce)
                ret[n++] = host->accepted;
        return n;
}

static void host_on_handshake(Host *host, const PeerSession *s) {
        host->hello = s->hello;
        host->bye[0] = 0;
        host_on_contact(host, s->contact_ms);
        host_index(host);
        host_changed(host);
}

/* Lets a judged or unrivalled session in. */
static void peers_let_in(Peers *peers, Host *host, PeerSession *s) {
        PeerSession *old[2], *same;
        unsigned n = host_rivals(host, s, old);

        for (unsigned i = 0; i < n; i++)
                session_cut(old[i], -ESTALE, "its daemon has started anew");

        /* The newer one wins on both sides, so that both agree: it may also come by another address of the
         * same host. */
        same = s->dialed ? host->dialed : host->accepted;
        if (same)
                session_cut(same, -ESTALE, "a new session took its place");
        if (s->state == SESSION_ENDED) /* an observer of those ends ended it */
                return;

        session_leave_pending(peers, s);
        s->host = host;
        host_unindex(host);
        if (s->dialed) {
                host->dialed = s;
                host->problem[0] = s->known->problem[0] = 0;
                known_set_host(s->known, host);
        } else {
                host->accepted = s;
                peers_forget_complaints(peers, host->machine_id);
                /* It is back: no reason to sit out a pause. */
                for (Known *k = host->n_known > 0 && !host->dialed ? peers->known : NULL; k; k = k->hh.next)
                        if (k->host == host && timer_armed(&k->timer))
                                known_redial(k);
        }
        s->begun_ms = loop_now_ms(peers->loop);
        host_on_handshake(host, s);
        log_info(((LogFields) { .machine = host->machine_id }), "session %s %s (%s)",
                 s->dialed ? "to" : "from", handshake_name(&s->hello), s->address);
        session_open(s);
}

static void peers_refuse(Peers *peers, PeerSession *s, Refusal cause, const char *sentence) {
        if (s->dialed)
                known_complain(s->known, cause, sentence);
        else
                peers_complain(peers, s, cause, sentence);
        session_refuse(s, cause, sentence);
}

/* Whether the other side and we can be of one cluster at all. */
static int peers_check(Peers *peers, const PeerSession *s, Refusal *cause, Error *err) {
        const PeerHandshake *self = &peers->self, *hello = &s->hello;
        int r;

        *cause = REFUSAL_SELF;
        if (streq(hello->machine_id, self->machine_id) && hello->nonce == self->nonce)
                return error_set(err, -ELOOP, "this is the host itself that dialed");

        *cause = REFUSAL_CLONE;
        if (streq(hello->machine_id, self->machine_id))
                return error_set(
                        err, -EEXIST,
                        "machine id %s is the one of two hosts, %s and %s: give the copy an id of its own "
                        "(rm /etc/machine-id; systemd-machine-id-setup)",
                        self->machine_id, *self->name ? self->name : "the other", handshake_name(hello));

        *cause = REFUSAL_CLUSTER;
        if (hello->cluster_id != 0 && self->cluster_id != 0 && hello->cluster_id != self->cluster_id)
                return error_set(err, -EXDEV, "%s belongs to cluster %016llx, %s to cluster %016llx",
                                 handshake_name(hello), (unsigned long long) hello->cluster_id,
                                 handshake_name(self), (unsigned long long) self->cluster_id);

        *cause = REFUSAL_LINEAGE;
        if (hello->cluster_id == self->cluster_id && hello->lineage != 0 && self->lineage != 0 &&
            hello->lineage != self->lineage)
                return error_set(
                        err, -EXDEV,
                        "%s is of another lineage of this cluster than %s: one of them was left out when the "
                        "cluster was recovered or restored, and must join anew",
                        handshake_name(hello), handshake_name(self));

        *cause = REFUSAL_ADMISSION;
        if (!s->dialed && peers->options.admit) {
                r = peers->options.admit(peers->options.userdata, hello, err);
                if (r < 0 && err->code == 0)
                        error_set(err, r, "not admitted: %s", strerror(-r));
                return r;
        }
        return 0;
}

static void host_on_verdict(void *userdata) {
        Host *host = userdata;
        PeerSession *s = TAKE_PTR(host->judged);

        if (s)
                peers_let_in(host->peers, host, s);
}

/* Rule 16: a second start of a machine while the first one's sessions seem to live. */
static void peers_judge(Peers *peers, PeerSession *s) {
        PeerSession *rivals[2];
        unsigned n;
        Host *host;

        if (host_get(peers, s->hello.machine_id, &host) < 0) {
                session_cut(s, -ENOMEM, "no memory for a host");
                return;
        }

        n = host_rivals(host, s, rivals);
        if (n == 0) {
                peers_let_in(peers, host, s);
                return;
        }

        if (host->judged)
                session_cut(host->judged, -ESTALE, "a new session took its place");
        host->verdict.fire = host_on_verdict;
        host->verdict.userdata = host;
        if (timer_start(&host->verdict, peers->loop, PING_ANSWER_MS) < 0) {
                session_cut(s, -ENOMEM, "no memory for a timer");
                return;
        }
        session_leave_pending(peers, s);
        s->host = host;
        host->judged = s;
        session_judge(s);
        for (unsigned i = 0; i < n; i++)
                (void) session_ping(rivals[i]); /* what cannot be asked does not answer */
}

static void peers_on_handshake(void *userdata, PeerSession *s) {
        Peers *peers = userdata;
        Refusal cause;
        Error err = {};
        Host *host;

        if (peers_check(peers, s, &cause, &err) < 0) {
                if (cause == REFUSAL_CLONE && host_get(peers, s->hello.machine_id, &host) >= 0)
                        host_clone_refused(host);
                if (cause == REFUSAL_SELF)
                        session_refuse(s, cause, err.message); /* the dialing half of us learns it thereby */
                else
                        peers_refuse(peers, s, cause, err.message);
                return;
        }

        if (s->state == SESSION_OPEN) { /* said again */
                host_on_handshake(s->host, s);
                return;
        }
        peers_judge(peers, s);
}

static void peers_on_pong(void *userdata, PeerSession *s) {
        Peers *peers = userdata;
        PeerSession *judged = s->host ? s->host->judged : NULL;
        char sentence[256];

        if (!judged || judged->hello.nonce == s->hello.nonce)
                return;

        timer_stop(&s->host->verdict);
        host_clone_refused(s->host);
        snprintf(sentence, sizeof(sentence),
                 "machine id %s is the one of two running hosts, %s (%s) and %s (%s): give the copy "
                 "an id of its own (rm /etc/machine-id; systemd-machine-id-setup)",
                 s->host->machine_id, handshake_name(&s->hello), s->address, handshake_name(&judged->hello),
                 judged->address);
        peers_refuse(peers, judged, REFUSAL_CLONE, sentence);
}

static void peers_on_frame(void *userdata, PeerSession *s, const Frame *frame) {
        Peers *peers = userdata;

        if (!peers->closing && peers->handlers[frame->type].handler)
                peers->handlers[frame->type].handler(peers->handlers[frame->type].userdata, s, frame->type,
                                                     frame->payload, frame->size);
}

static void peers_on_refused(void *userdata, PeerSession *s, Refusal cause, const char *sentence) {
        Peers *peers = userdata;
        char text[FRAME_REFUSED_MAX + 32];
        Host *host;

        if (!s->known) {
                peers_complain(peers, s, cause, sentence);
                return;
        }
        if (cause == REFUSAL_SELF) {
                s->known->ourselves = true;
                return;
        }
        if (cause == REFUSAL_CLONE && host_get(peers, peers->self.machine_id, &host) >= 0)
                host_clone_refused(host);
        snprintf(text, sizeof(text), "refused there: %s", sentence);
        known_complain(s->known, cause, text);
}

static void peers_on_bye(void *userdata, PeerSession *s, const char *reason) {
        if (s->host && s->host->judged != s)
                memcpy(s->host->bye, reason, strnlen(reason, sizeof(s->host->bye) - 1) + 1);
}

static void peers_on_end(void *userdata, PeerSession *s, int error, const char *reason) {
        Peers *peers = userdata;
        Host *host = TAKE_PTR(s->host);
        Known *k = TAKE_PTR(s->known);
        uint64_t now_ms = loop_now_ms(peers->loop);
        bool was_open = host && (host->dialed == s || host->accepted == s);
        bool lasted = was_open && now_ms - s->begun_ms >= LASTED_MS;

        session_leave_pending(peers, s);
        if (was_open && s->dialed)
                snprintf(host->problem, sizeof(host->problem), "%s", reason);
        if (host) {
                uint64_t silent_ms = session_silent_ms(s);

                host_on_contact(host, now_ms - MIN(silent_ms, now_ms));
                host->used_ms = now_ms;
        }
        if (host && host->judged == s) {
                host->judged = NULL;
                timer_stop(&host->verdict);
        }
        if (was_open) {
                if (host->dialed == s)
                        host->dialed = NULL;
                else
                        host->accepted = NULL;
                host_index(host);
                host_changed(host);
                if (!peers->closing)
                        log_info(((LogFields) { .machine = host->machine_id, .error = error }),
                                 "session %s %s (%s) ended: %s", s->dialed ? "to" : "from",
                                 handshake_name(&s->hello), s->address, reason);
        } else if (!s->dialed && error < 0 && !s->has_handshake)
                peers_complain(peers, s, error == -EKEYREJECTED ? COMPLAINT_KEY : COMPLAINT_NO_HANDSHAKE,
                               reason);

        if (k) {
                k->session = NULL;
                if (!was_open && !s->has_handshake && error != -EPERM && !peers->closing)
                        known_complain(k, error == -EKEYREJECTED ? COMPLAINT_KEY : COMPLAINT_NO_HANDSHAKE,
                                       reason);
                if (lasted) {
                        k->complained = 0;
                        k->backoff_ms = PEERS_BACKOFF_MIN_MS;
                        known_redial(k);
                } else
                        known_retry(k);
        }
        if (was_open)
                peers_notify_observers(peers, NULL, s);
        /* The last rival is gone: nothing to wait for. */
        if (was_open && host->judged && !peers->closing) {
                PeerSession *rivals[2];

                if (host_rivals(host, host->judged, rivals) == 0)
                        (void) timer_start(&host->verdict, peers->loop, 0);
        }
}

static void peers_on_gone(void *userdata, PeerSession *s) {
        Peers *peers = userdata;

        if (TABLE_ADDED(s))
                HASH_DEL(peers->sessions, s);
        if (--peers->n_sessions == 0 && peers->closing)
                loop_defer(peers->loop, &peers->gone);
}

static const SessionEvents session_events = {
        .on_handshake = peers_on_handshake,
        .on_frame = peers_on_frame,
        .on_pong = peers_on_pong,
        .on_refused = peers_on_refused,
        .on_bye = peers_on_bye,
        .on_end = peers_on_end,
        .on_gone = peers_on_gone,
};

/* Takes over 'stream': one that we dialed for 'known', or one that was accepted. */
int peers_begin(Peers *peers, Stream *stream, Known *known) {
        PeerSession *s;
        int r;

        r = session_new(&s, peers->loop, stream, peers->options.key, known != NULL, &peers->self,
                        &session_events, peers);
        if (r < 0)
                return r;

        peers->n_sessions++;
        s->number = ++peers->last_number;
        HASH_ADD(hh, peers->sessions, number, sizeof(s->number), s);
        if (TABLE_ADDED(s) && !known) {
                HASH_ADD(hh_pending, peers->pending, number, sizeof(s->number), s);
                s->pending = s->hh_pending.tbl != NULL;
        }
        if (!TABLE_ADDED(s) || (!known && !s->pending)) {
                session_cut(s, -ENOMEM, "no memory for a session");
                return -ENOMEM;
        }

        if (known) {
                s->known = known;
                known->session = s;
        }
        return 0;
}
