/* Who is dialed, who may come in, who is whom.
 *
 * Three tables: the addresses to dial (Known), the machines that we have met (Host), the sessions. A Known learns its
 * machine from the hello of the session it dialed. A Host outlives its sessions, for those who judge its silence, by
 * HOST_KEPT_MS. All that happens to a session passes through the session events here, and nothing is called out from
 * inside but handlers, admit() and observers' on_end(): on_change() is deferred. */
#include "kvstore/session/peers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/table.h"
#include "kvstore/session/session.h"

enum {
        DIAL_TIMEOUT_MS = 1000,
        BACKOFF_MIN_MS = 100,
        BACKOFF_MAX_MS = 2000,
        REDIAL_MS = 20,           /* at once, but not all hosts in the same moment */
        LASTED_MS = 2000,         /* a session that was open for so long is no part of a storm: its end is redialed at once */
        GREETING_HELD_MS = 250,   /* a newcomer displaces the oldest greeting only when that had so long */
        PING_ANSWER_MS = 1000,
        SILENT_CUT_MS = 10000,
        TICK_MS = 2000,
        CLONE_SHOWN_MS = 60000,
        HOST_KEPT_MS = 600000,
        COMPLAINTS_KEPT = 64,
};

typedef struct Host {
        char machine_id[33];
        PeerHello hello;
        PeerSession *dialed, *accepted; /* open */
        PeerSession *judged;            /* waits for its rivals' answers */
        Timer verdict;
        Peers *peers;
        uint64_t heard_ms, used_ms, clone_ms;
        unsigned n_known;
        char bye[16], problem[160];
        bool changed;
        UT_hash_handle hh, hh_raft, hh_changed;
} Host;

typedef struct Known {
        char address[64];
        char given_id[33];
        Peers *peers;
        Host *host;      /* given, or learned from its hello; NULL: not known */
        bool ourselves;  /* it is us who answer there */
        bool wanted;     /* while the list is compared */
        void *connecting;
        PeerSession *session;
        Timer timer;
        uint64_t backoff_ms;
        unsigned complained; /* bits of causes that were logged since the last session that lasted */
        char problem[160];
        UT_hash_handle hh;
} Known;

typedef struct Accepting {
        Peers *peers;
        Listener *listener;
        struct Accepting *next;
} Accepting;

struct Peers {
        Loop *loop;       /* borrowed, as are the next */
        Network *network;
        PeersOptions options;
        PeerHello self;
        Accepting *accepting;
        Known *known;
        Host *hosts;
        Host *by_raft;    /* of those with a dialed session */
        Host *changed;
        PeerSession *sessions; /* all, by number: lingering ones too */
        PeerSession *pending;  /* accepted ones before their hello, oldest first */
        unsigned n_sessions;
        uint64_t last_number;
        struct {
                PeerHandler handler;
                void *userdata;
        } handlers[_PEER_FRAME_MAX];
        PeerObserver *observers;
        struct ObserverWalk *walks;
        Deferred tell, gone;
        Timer tick;
        bool closing;
        void (*closed)(void *userdata);
        void *closed_userdata;
        uint64_t complaints[COMPLAINTS_KEPT]; /* what was logged of those who dialed us, by hash */
        unsigned next_complaint;
};

enum { COMPLAINT_UNREACHABLE = _REFUSAL_MAX, COMPLAINT_KEY, COMPLAINT_NO_HELLO };

static void known_dial(void *userdata);
static void peers_judge(Peers *peers, PeerSession *s);

/* -- Hosts -- */

static Host *host_find(const Peers *peers, const char *machine_id) {
        Host *host;

        HASH_FIND_STR(peers->hosts, machine_id, host);
        return host;
}

static void host_changed(Host *host) {
        Peers *peers = host->peers;

        if (host->changed || peers->closing)
                return;
        HASH_ADD_KEYPTR(hh_changed, peers->changed, host->machine_id, strlen(host->machine_id), host);
        host->changed = host->hh_changed.tbl != NULL;
        loop_defer(peers->loop, &peers->tell);
}

static void host_heard(Host *host, uint64_t when_ms) {
        host->heard_ms = MAX(host->heard_ms, when_ms);
}

static void host_unindex(Host *host) {
        if (!host->hh_raft.tbl)
                return;
        HASH_DELETE(hh_raft, host->peers->by_raft, host);
        host->hh_raft.tbl = NULL;
}

/* Finds a host by Raft id while we have a session to it: the id is what that session's hello says. */
static void host_index(Host *host) {
        Host *other;

        host_unindex(host);
        if (!host->dialed || host->hello.raft_id == 0)
                return;
        HASH_FIND(hh_raft, host->peers->by_raft, &host->hello.raft_id, sizeof(uint64_t), other);
        if (other)
                host_unindex(other); /* an old image of a host that has joined anew: the later one is it */
        HASH_ADD(hh_raft, host->peers->by_raft, hello.raft_id, sizeof(uint64_t), host);
}

static void host_free(Host *host) {
        Peers *peers = host->peers;

        assert(!host->dialed && !host->accepted && !host->judged && host->n_known == 0);
        timer_stop(&host->verdict);
        host_unindex(host);
        if (host->changed)
                HASH_DELETE(hh_changed, peers->changed, host);
        HASH_DEL(peers->hosts, host);
        free(host);
}

static void host_on_verdict(void *userdata);

static int host_get(Peers *peers, const char *machine_id, Host **ret) {
        uint64_t now_ms = loop_now_ms(peers->loop);
        Host *host = host_find(peers, machine_id);

        if (!host) {
                host = NEW0(Host, 1);
                if (!host)
                        return -ENOMEM;
                host->peers = peers;
                host->heard_ms = now_ms;
                host->verdict = (Timer) { .fire = host_on_verdict, .userdata = host };
                memcpy(host->machine_id, machine_id, sizeof(host->machine_id));
                memcpy(host->hello.machine_id, machine_id, sizeof(host->machine_id));
                HASH_ADD_STR(peers->hosts, machine_id, host);
                if (!TABLE_ADDED(host)) {
                        free(host);
                        return -ENOMEM;
                }
                if (!timer_armed(&peers->tick))
                        (void) timer_start(&peers->tick, peers->loop, TICK_MS);
        }

        host->used_ms = now_ms;
        *ret = host;
        return 0;
}

static const char *hello_name(const PeerHello *hello) {
        return *hello->name ? hello->name : hello->machine_id;
}

/* Observers come and go while they are being told: whoever leaves is stepped over by all walks that stand on it. */
typedef struct ObserverWalk {
        PeerObserver *next;
        struct ObserverWalk *outer;
} ObserverWalk;

static void peers_tell_observers(Peers *peers, const char *machine_id, PeerSession *ended) {
        ObserverWalk walk = { .next = peers->observers, .outer = peers->walks };

        peers->walks = &walk;
        while (walk.next && !peers->closing) {
                PeerObserver *o = walk.next;

                walk.next = o->next;
                if (ended && o->on_end)
                        o->on_end(o->userdata, ended);
                if (!ended && o->on_change)
                        o->on_change(o->userdata, machine_id);
        }
        peers->walks = walk.outer;
}

void peers_observe(Peers *peers, PeerObserver *observer) {
        observer->next = peers->observers;
        peers->observers = observer;
}

void peers_unobserve(Peers *peers, PeerObserver *observer) {
        PeerObserver **p = &peers->observers;

        while (*p && *p != observer)
                p = &(*p)->next;
        if (!*p)
                return;
        *p = observer->next;
        for (ObserverWalk *w = peers->walks; w; w = w->outer)
                if (w->next == observer)
                        w->next = observer->next;
}

static void peers_tell(void *userdata) {
        Peers *peers = userdata;

        while (peers->changed && !peers->closing) {
                Host *host = peers->changed;
                char machine_id[33];

                memcpy(machine_id, host->machine_id, sizeof(machine_id));
                HASH_DELETE(hh_changed, peers->changed, host);
                host->changed = false;
                if (peers->options.on_change)
                        peers->options.on_change(peers->options.userdata, machine_id);
                peers_tell_observers(peers, machine_id, NULL);
        }
}

/* A clone was refused: 'host' is the one whose id it bears. */
static void host_clone_refused(Host *host) {
        host->clone_ms = loop_now_ms(host->peers->loop);
        host_changed(host);
}

/* -- Whom we dial -- */

static void known_set_host(Known *k, Host *host) {
        if (k->host == host)
                return;
        if (k->host) {
                k->host->n_known--;
                k->host->used_ms = loop_now_ms(k->peers->loop);
        }
        k->host = host;
        if (host)
                host->n_known++;
}

/* Says once why there is no session, and keeps it for peers_state(). */
static void known_complain(Known *k, unsigned cause, const char *sentence) {
        snprintf(k->problem, sizeof(k->problem), "%s", sentence);
        if (k->host)
                snprintf(k->host->problem, sizeof(k->host->problem), "%s", sentence);
        if (k->complained & (1u << cause))
                return;

        k->complained |= 1u << cause;
        log_warning(((LogFields) { .machine = k->host ? k->host->machine_id : NULL }), "no session to %s: %s", k->address,
                    sentence);
}

static void known_wait(Known *k, uint64_t delay_ms) {
        Peers *peers = k->peers;

        if (peers->closing || k->ourselves)
                return;
        if (timer_start(&k->timer, peers->loop, delay_ms) < 0)
                log_error(NO_FIELDS, "no memory to dial %s again", k->address);
}

static void known_retry(Known *k) {
        uint64_t half_ms = k->backoff_ms / 2;

        known_wait(k, half_ms + random_below(loop_random(k->peers->loop), half_ms + 1));
        k->backoff_ms = MIN(k->backoff_ms * 2, (uint64_t) BACKOFF_MAX_MS);
}

static void known_redial(Known *k) {
        if (!k->connecting && !k->session)
                known_wait(k, random_below(loop_random(k->peers->loop), REDIAL_MS + 1));
}

static void known_unreachable(Known *k, int error) {
        const char *sentence = error == -ECONNREFUSED ? "connection refused: no fleetd listens there"
                               : error == -ETIMEDOUT  ? "the host does not answer"
                               : error == -EINVAL     ? "not an address: expected ADDR:PORT or [ADDR6]:PORT, in numbers"
                                                      : strerror(-error);

        known_complain(k, COMPLAINT_UNREACHABLE, sentence);
        known_retry(k);
}

static int peers_begin(Peers *peers, Stream *stream, Known *known);

static void known_on_connected(void *userdata, Stream *stream, int error) {
        Known *k = userdata;
        int r;

        k->connecting = NULL;
        if (k->host && (stream || error == -ECONNREFUSED || error == -ECONNRESET))
                host_heard(k->host, loop_now_ms(k->peers->loop));

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
                known_wait(k, BACKOFF_MAX_MS);
                return;
        }

        k->connecting = peers->network->ops->connect(peers->network, k->address, DIAL_TIMEOUT_MS, known_on_connected, k, &r);
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
        k->backoff_ms = BACKOFF_MIN_MS;
        k->timer = (Timer) { .fire = known_dial, .userdata = k };
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

                if (streq(a->machine_id, peers->self.machine_id) || streq(a->address, peers->self.address) || !*a->address)
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
                /* What a hello has said counts more than what a list says; but a new word of the list is worth a look. */
                memcpy(k->given_id, a->machine_id, sizeof(k->given_id));
                if (k->session && k->session->state == SESSION_OPEN)
                        continue;
                if (host_get(peers, a->machine_id, &host) < 0)
                        r = -ENOMEM;
                else
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

/* Whether 'who' has not been complained of for 'cause' lately: strangers must not fill the journal. */
static bool peers_first_complaint(Peers *peers, const char *who, unsigned cause) {
        uint64_t hash = XXH3_64bits_withSeed(who, strlen(who), cause + 1);

        for (size_t i = 0; i < COMPLAINTS_KEPT; i++)
                if (peers->complaints[i] == hash)
                        return false;
        peers->complaints[peers->next_complaint++ % COMPLAINTS_KEPT] = hash;
        return true;
}

static void peers_forget_complaints(Peers *peers, const char *who) {
        for (unsigned cause = 0; cause <= COMPLAINT_NO_HELLO; cause++) {
                uint64_t hash = XXH3_64bits_withSeed(who, strlen(who), cause + 1);

                for (size_t i = 0; i < COMPLAINTS_KEPT; i++)
                        if (peers->complaints[i] == hash)
                                peers->complaints[i] = 0;
        }
}

static void peers_complain(Peers *peers, const PeerSession *s, unsigned cause, const char *sentence) {
        char who[64];
        char *colon;

        /* The port of a stranger is another one each time. */
        snprintf(who, sizeof(who), "%s", s->has_hello ? s->hello.machine_id : s->address);
        colon = s->has_hello ? NULL : strrchr(who, ':');
        if (colon)
                *colon = 0;
        if (!peers_first_complaint(peers, who, cause))
                return;
        log_warning(((LogFields) { .machine = s->has_hello ? s->hello.machine_id : NULL }), "refused a session from %s%s%s%s: %s",
                    s->address, s->has_hello ? " (" : "", s->has_hello ? hello_name(&s->hello) : "", s->has_hello ? ")" : "",
                    sentence);
}

static void accepting_on_stream(void *userdata, Stream *stream) {
        Accepting *a = userdata;
        Peers *peers = a->peers;
        PeerSession *oldest = peers->pending;

        if (peers->closing) {
                stream_close(stream);
                return;
        }

        /* The oldest goes; but when all of them are young this is a storm of honest hosts, and if each drove out the one
         * before it, none would ever get through: then the newcomer is told to come again. */
        if (HASH_CNT(hh_pending, peers->pending) >= PEER_GREETINGS_MAX) {
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

/* -- Sessions -- */

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

static void host_said_hello(Host *host, const PeerSession *s) {
        host->hello = s->hello;
        host->bye[0] = 0;
        host_heard(host, s->heard_ms);
        host_index(host);
        host_changed(host);
}

/* Lets a judged or unrivalled session in. */
static void peers_let_in(Peers *peers, Host *host, PeerSession *s) {
        PeerSession *old[2], *same;
        unsigned n = host_rivals(host, s, old);

        for (unsigned i = 0; i < n; i++)
                session_cut(old[i], -ESTALE, "its daemon has started anew");

        /* The newer one wins on both sides, so that both agree: it may also come by another address of the same host. */
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
        host_said_hello(host, s);
        log_info(((LogFields) { .machine = host->machine_id }), "session %s %s (%s)", s->dialed ? "to" : "from",
                 hello_name(&s->hello), s->address);
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
        const PeerHello *self = &peers->self, *hello = &s->hello;
        int r;

        *cause = REFUSAL_SELF;
        if (streq(hello->machine_id, self->machine_id) && hello->nonce == self->nonce)
                return error_set(err, -ELOOP, "this is the host itself that dialed");

        *cause = REFUSAL_CLONE;
        if (streq(hello->machine_id, self->machine_id))
                return error_set(err, -EEXIST, "machine id %s is the one of two hosts, %s and %s: give the copy an id of its own "
                                 "(rm /etc/machine-id; systemd-machine-id-setup)",
                                 self->machine_id, *self->name ? self->name : "the other", hello_name(hello));

        *cause = REFUSAL_CLUSTER;
        if (hello->cluster_id != 0 && self->cluster_id != 0 && hello->cluster_id != self->cluster_id)
                return error_set(err, -EXDEV, "%s belongs to cluster %016llx, %s to cluster %016llx", hello_name(hello),
                                 (unsigned long long) hello->cluster_id, hello_name(self),
                                 (unsigned long long) self->cluster_id);

        *cause = REFUSAL_LINEAGE;
        if (hello->cluster_id == self->cluster_id && hello->lineage != 0 && self->lineage != 0 &&
            hello->lineage != self->lineage)
                return error_set(err, -EXDEV, "%s is of another lineage of this cluster than %s: one of them was left out when the "
                                 "cluster was recovered or restored, and must join anew",
                                 hello_name(hello), hello_name(self));

        *cause = REFUSAL_ADMISSION;
        if (!s->dialed && peers->options.admit) {
                r = peers->options.admit(peers->options.userdata, hello, err);
                if (r < 0 && err->code == 0)
                        error_set(err, r, "not admitted: %s", strerror(-r));
                return r;
        }
        return 0;
}

static void peers_on_hello(void *userdata, PeerSession *s) {
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
                host_said_hello(s->host, s);
                return;
        }
        peers_judge(peers, s);
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

static void host_on_verdict(void *userdata) {
        Host *host = userdata;
        PeerSession *s = TAKE_PTR(host->judged);

        if (s)
                peers_let_in(host->peers, host, s);
}

static void peers_on_pong(void *userdata, PeerSession *s) {
        Peers *peers = userdata;
        PeerSession *judged = s->host ? s->host->judged : NULL;
        char sentence[256];

        if (!judged || judged->hello.nonce == s->hello.nonce)
                return;

        timer_stop(&s->host->verdict);
        host_clone_refused(s->host);
        snprintf(sentence, sizeof(sentence), "machine id %s is the one of two running hosts, %s (%s) and %s (%s): give the copy "
                 "an id of its own (rm /etc/machine-id; systemd-machine-id-setup)",
                 s->host->machine_id, hello_name(&s->hello), s->address, hello_name(&judged->hello), judged->address);
        peers_refuse(peers, judged, REFUSAL_CLONE, sentence);
}

static void peers_on_frame(void *userdata, PeerSession *s, const Frame *frame) {
        Peers *peers = userdata;

        if (!peers->closing && peers->handlers[frame->type].handler)
                peers->handlers[frame->type].handler(peers->handlers[frame->type].userdata, s, frame->type, frame->payload,
                                                     frame->size);
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
                host_heard(host, now_ms - MIN(session_silent_ms(s), now_ms));
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
                        log_info(((LogFields) { .machine = host->machine_id, .error = error }), "session %s %s (%s) ended: %s",
                                 s->dialed ? "to" : "from", hello_name(&s->hello), s->address, reason);
        } else if (!s->dialed && error < 0 && !s->has_hello)
                peers_complain(peers, s, error == -EKEYREJECTED ? COMPLAINT_KEY : COMPLAINT_NO_HELLO, reason);

        if (k) {
                k->session = NULL;
                if (!was_open && !s->has_hello && error != -EPERM && !peers->closing)
                        known_complain(k, error == -EKEYREJECTED ? COMPLAINT_KEY : COMPLAINT_NO_HELLO, reason);
                if (lasted) {
                        k->complained = 0;
                        k->backoff_ms = BACKOFF_MIN_MS;
                        known_redial(k);
                } else
                        known_retry(k);
        }
        if (was_open)
                peers_tell_observers(peers, NULL, s);
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
        .on_hello = peers_on_hello,
        .on_frame = peers_on_frame,
        .on_pong = peers_on_pong,
        .on_refused = peers_on_refused,
        .on_bye = peers_on_bye,
        .on_end = peers_on_end,
        .on_gone = peers_on_gone,
};

/* Takes over 'stream': one that we dialed for 'known', or one that was accepted. */
static int peers_begin(Peers *peers, Stream *stream, Known *known) {
        PeerSession *s;
        int r;

        r = session_new(&s, peers->loop, stream, peers->options.key, known != NULL, &peers->self, &session_events, peers);
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

/* For walks over sessions that end some: what follows 's' now, or its successor's number, may be gone afterwards. */
static PeerSession *session_after(Peers *peers, uint64_t number) {
        PeerSession *s = NULL;

        if (number > 0)
                HASH_FIND(hh, peers->sessions, &number, sizeof(number), s);
        return s;
}

/* Cuts what has been silent for long, so that a healed link is dialed anew at once instead of waiting for the kernel's
 * retransmission, whose pauses have grown by then; and forgets hosts that are long gone. */
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
                if (!host->dialed && !host->accepted && !host->judged && host->n_known == 0 &&
                    now_ms - host->used_ms >= HOST_KEPT_MS)
                        host_free(host);
        }

        if (peers->hosts && !peers->closing && timer_start(&peers->tick, peers->loop, TICK_MS) < 0)
                log_error(NO_FIELDS, "no memory to watch over sessions");
}

/* -- The whole -- */

static void peers_on_gone_all(void *userdata) {
        Peers *peers = userdata;
        void (*closed)(void *) = peers->closed;
        void *closed_userdata = peers->closed_userdata;

        assert(peers->closing && peers->n_sessions == 0 && !peers->known);
        while (peers->hosts)
                host_free(peers->hosts);
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
        peers->tell = (Deferred) { .run = peers_tell, .userdata = peers };
        peers->gone = (Deferred) { .run = peers_on_gone_all, .userdata = peers };
        peers->tick = (Timer) { .fire = peers_on_tick, .userdata = peers };
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

void peers_set_self(Peers *peers, const PeerHello *self) {
        uint64_t next;

        assert(streq(self->machine_id, peers->self.machine_id) && self->nonce == peers->self.nonce);
        if (memcmp(self, &peers->self, sizeof(*self)) == 0)
                return;

        peers->self = *self;
        for (PeerSession *s = peers->sessions; s; s = session_after(peers, next)) {
                next = s->hh.next ? ((PeerSession *) s->hh.next)->number : 0;
                if (s->state == SESSION_OPEN && session_say_hello(s) < 0)
                        session_cut(s, -ENOMEM, "cannot say our changed hello");
        }
}

const PeerHello *peers_self(const Peers *peers) {
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

static void host_state(const Host *host, PeerState *ret) {
        uint64_t now_ms = loop_now_ms(host->peers->loop);

        *ret = (PeerState) {
                .hello = host->hello,
                .dialed = host->dialed != NULL,
                .accepted = host->accepted != NULL,
                .kernel_silent_ms = now_ms - MIN(host->heard_ms, now_ms),
                .clone_refused = host->clone_ms > 0 && now_ms - host->clone_ms < CLONE_SHOWN_MS,
        };
        if (host->dialed)
                ret->kernel_silent_ms = MIN(ret->kernel_silent_ms, session_silent_ms(host->dialed));
        if (host->accepted)
                ret->kernel_silent_ms = MIN(ret->kernel_silent_ms, session_silent_ms(host->accepted));
        memcpy(ret->bye, host->bye, sizeof(ret->bye));
        memcpy(ret->problem, host->problem, sizeof(ret->problem));
        if (!*ret->hello.address)
                for (const Known *k = host->n_known > 0 ? host->peers->known : NULL; k; k = k->hh.next)
                        if (k->host == host)
                                memcpy(ret->hello.address, k->address, sizeof(k->address));
}

int peers_state(const Peers *peers, const char *machine_id, PeerState *ret) {
        const Host *host = host_find(peers, machine_id);

        if (!host)
                return -ENOENT;
        host_state(host, ret);
        return 0;
}

static int host_order(const Host *a, const Host *b) {
        return strcmp(a->machine_id, b->machine_id);
}

void peers_each(const Peers *peers, void (*each)(void *userdata, const PeerState *state), void *userdata) {
        Peers *sorted = (Peers *) peers; /* in itself the order of a table means nothing */

        for (const Known *k = peers->known; k; k = k->hh.next) {
                PeerState state = {};

                if (k->host || k->ourselves)
                        continue;
                memcpy(state.hello.address, k->address, sizeof(k->address));
                memcpy(state.problem, k->problem, sizeof(k->problem));
                each(userdata, &state);
        }

        HASH_SRT(hh, sorted->hosts, host_order);
        for (const Host *host = peers->hosts; host; host = host->hh.next) {
                PeerState state;

                if (!host->dialed && !host->accepted && host->n_known == 0)
                        continue;
                host_state(host, &state);
                each(userdata, &state);
        }
}
