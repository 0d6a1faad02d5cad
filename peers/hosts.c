/* Known hosts and addresses; notification of changes. */
#include "peers/peers_internal.h"

#include "base/log.h"

enum {
        REDIAL_MS = 20, /* longest random delay of an immediate redial: not all hosts dial at the same time */
        CLONE_REPORTED_MS = 60000,
};

/* -- Hosts -- */

PeerHost *host_find(const Peers *peers, const char *machine_id) {
        PeerHost *host;

        HASH_FIND_STR(peers->hosts, machine_id, host);
        return host;
}

PeerKnown peers_knowledge(const Peers *peers, const char *machine_id) {
        PeerKnown known = {};

        if (peers->options.known)
                peers->options.known(peers->options.userdata, machine_id, &known);
        return known;
}

Pace *peers_paces(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);

        return host ? host->paces : NULL;
}

void host_changed(PeerHost *host) {
        Peers *peers = host->peers;

        if (host->changed || peers->closing)
                return;
        TAILQ_INSERT_TAIL(&peers->changed, host, changes);
        host->changed = true;
        loop_defer(peers->loop, &peers->notify);
}

void host_on_contact(PeerHost *host, uint64_t when_ms) {
        host->contact_ms = MAX(host->contact_ms, when_ms);
}

void host_unindex(PeerHost *host) {
        host->index_unfinished = false;
        if (!host->hh_raft.tbl)
                return;
        HASH_DELETE(hh_raft, host->peers->by_raft, host);
        host->hh_raft.tbl = NULL;
}

/* The list is short: an accepted session of a host without a replica does not add the host. */
static void host_list(PeerHost *host) {
        struct PeerHostList *list = &host->peers->listed;
        bool belongs = host->n_known > 0 || host->dialed || host->handshake.raft_id != 0;
        PeerHost *next;

        if (belongs == host->is_listed)
                return;
        host->is_listed = belongs;
        if (!belongs) {
                TAILQ_REMOVE(list, host, listed);
                return;
        }
        TAILQ_FOREACH(next, list, listed)
                if (strcmp(host->machine_id, next->machine_id) < 0)
                        break;
        if (next)
                TAILQ_INSERT_BEFORE(next, host, listed);
        else
                TAILQ_INSERT_TAIL(list, host, listed);
}

static void host_count(PeerHost *host) {
        bool connected = host->dialed || host->accepted;

        host->peers->n_connected += (size_t) connected - host->is_counted;
        host->is_counted = connected;
}

void host_index(PeerHost *host) {
        PeerHost *other;

        host_count(host);
        host_list(host);
        host_unindex(host);
        if (!host->dialed || !host->dialed->is_replica || host->handshake.raft_id == 0)
                return;
        HASH_FIND(hh_raft, host->peers->by_raft, &host->handshake.raft_id, sizeof(uint64_t), other);
        if (other)
                host_unindex(other); /* an earlier identity of a host that joined again */
        HASH_ADD(hh_raft, host->peers->by_raft, handshake.raft_id, sizeof(uint64_t), host);
        host->index_unfinished = !host->hh_raft.tbl;
}

static void host_leave_source(PeerHost *host) {
        PeerSource *source = TAKE_PTR(host->source);

        if (!source || --source->n > 0)
                return;
        HASH_DEL(host->peers->sources, source);
        free(source);
}

static PeerSource *source_find(const Peers *peers, uint64_t key) {
        PeerSource *source;

        HASH_FIND(hh, peers->sources, &key, sizeof(key), source);
        return source;
}

void host_trust(PeerHost *host, uint64_t key) {
        Peers *peers = host->peers;
        PeerSource *source = source_find(peers, key);

        strangers_trust(&peers->strangers, key, loop_now_ms(peers->loop));
        if (source && host->source == source)
                return;
        host_leave_source(host);
        if (!source) {
                source = NEW0(PeerSource, 1);
                if (!source)
                        return;
                source->key = key;
                HASH_ADD(hh, peers->sources, key, sizeof(key), source);
                if (!TABLE_ADDED_OR_FREED(source))
                        return;
        }
        source->n++;
        host->source = source;
}

bool peers_trusts(const Peers *peers, uint64_t source) {
        return peers_dials(peers, source) || source_find(peers, source) ||
               strangers_is_trusted(&peers->strangers, source, loop_now_ms(peers->loop));
}

void peer_host_free(PeerHost *host) {
        Peers *peers = host->peers;

        assert(!host->dialed && !host->accepted && !host->candidate && host->n_known == 0);
        timer_stop(&host->clone_check);
        host_leave_source(host);
        host_unindex(host);
        if (host->changed)
                TAILQ_REMOVE(&peers->changed, host, changes);
        if (host->is_listed)
                TAILQ_REMOVE(&peers->listed, host, listed);
        HASH_DEL(peers->hosts, host);
        free(host);
}

void host_distrust(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);

        if (!host || !host->source)
                return;
        if (host->source->n == 1)
                strangers_distrust(&peers->strangers, host->source->key);
        host_leave_source(host);
}

int host_get(Peers *peers, const char *machine_id, PeerHost **ret) {
        uint64_t now_ms = loop_now_ms(peers->loop);
        PeerHost *host = host_find(peers, machine_id);

        if (!host) {
                host = NEW0(PeerHost, 1);
                if (!host)
                        return -ENOMEM;
                host->peers = peers;
                host->contact_ms = now_ms;
                memcpy(host->machine_id, machine_id, sizeof(host->machine_id));
                memcpy(host->handshake.machine_id, machine_id, sizeof(host->machine_id));
                HASH_ADD_STR(peers->hosts, machine_id, host);
                if (!TABLE_ADDED_OR_FREED(host))
                        return -ENOMEM;
                if (!timer_armed(&peers->tick))
                        (void) timer_start_with_slack(&peers->tick, peers->loop, PEERS_TICK_MS,
                                                      PEERS_TICK_SLACK_MS);
        }

        host->used_ms = now_ms;
        *ret = host;
        return 0;
}

void host_clone_rejected(PeerHost *host) {
        host->clone_ms = loop_now_ms(host->peers->loop);
        host_changed(host);
}

bool host_is_other_clone(const Peers *peers, const PeerSession *s) {
        const PeerHost *host = host_find(peers, s->handshake.machine_id);

        return host && host->clone_nonce == s->handshake.nonce &&
               loop_now_ms(peers->loop) < host->clone_until_ms;
}

int host_other_clone_error(const PeerSession *s, Error *err) {
        return error_set(
                err, -EEXIST,
                "two running hosts have machine id %s: %s (%s), and one with a session to another host: "
                "give the clone its own id (rm /etc/machine-id; systemd-machine-id-setup)",
                s->handshake.machine_id, handshake_name(&s->handshake), s->address);
}

void peers_reject_clone(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);
        Error err = {};

        if (!host || !host->accepted)
                return;
        host->clone_nonce = host->accepted->handshake.nonce;
        host->clone_until_ms = loop_now_ms(peers->loop) + CLONE_REPORTED_MS;
        host_clone_rejected(host);
        host_other_clone_error(host->accepted, &err);
        peers_warn(peers, host->accepted, REJECTION_CLONE, err.message);
        session_reject(host->accepted, REJECTION_CLONE, err.message);
}

void peers_report_key(Peers *peers, const char *machine_id) {
        PeerHost *host;

        if (host_get(peers, machine_id, &host) < 0)
                return;
        host->key_ms = loop_now_ms(peers->loop);
        host_changed(host);
}

void peers_forget_key(Peers *peers, const char *machine_id) {
        PeerHost *host = host_find(peers, machine_id);

        if (!host || host->key_ms == 0)
                return;
        host->key_ms = 0;
        host_changed(host);
}

/* -- Notification -- */

void peers_observe(Peers *peers, PeersObserver *observer) {
        LIST_INSERT_HEAD(&peers->observers, observer, observers);
}

void peers_unobserve(PeersObserver *observer) {
        LIST_REMOVE(observer, observers);
}

void peers_notify(void *userdata) {
        Peers *peers = userdata;

        while (!TAILQ_EMPTY(&peers->changed) && !peers->closing) {
                PeerHost *host = TAILQ_FIRST(&peers->changed);
                char machine_id[MACHINE_ID_SIZE];

                memcpy(machine_id, host->machine_id, sizeof(machine_id));
                TAILQ_REMOVE(&peers->changed, host, changes);
                host->changed = false;
                if (peers->options.on_change)
                        peers->options.on_change(peers->options.userdata, machine_id);
        }
}

/* -- Addresses -- */

void known_set_host(KnownAddress *k, PeerHost *host) {
        if (k->host == host)
                return;
        if (k->host) {
                k->host->n_known--;
                k->host->used_ms = loop_now_ms(k->peers->loop);
                host_list(k->host);
        }
        k->host = host;
        if (!host)
                return;
        host->n_known++;
        host_list(host);
}

void known_warn(KnownAddress *k, unsigned cause, const char *message) {
        if (!k->former) {
                snprintf(k->problem, sizeof(k->problem), "%s", message);
                k->cause = cause;
        }
        if (k->host && !k->former)
                snprintf(k->host->problem, sizeof(k->host->problem), "%s", message);
        if (k->warned & (1u << cause))
                return;

        k->warned |= 1u << cause;
        log_warning(((LogFields) { .machine = k->host ? k->host->machine_id : NULL }),
                    "Failed to open a session to %s%s%s%s: %s", k->name, *k->name ? " (" : "", k->address,
                    *k->name ? ")" : "", message);
}

void known_attempted(KnownAddress *k) {
        k->attempted_ms = k->dialed_ms;
}

void known_wait(KnownAddress *k, uint64_t delay_ms) {
        Peers *peers = k->peers;

        /* A session that was to be replaced may end while its successor connects, which comes instead. */
        if (peers->closing || k->is_self || k->connecting || k->session)
                return;
        if (timer_start(&k->timer, peers->loop, delay_ms) < 0)
                log_error(NO_FIELDS, "Failed to schedule dialing %s: out of memory", k->address);
}

/* A host that joins waits for its turn with a person at the terminal. */
bool peers_is_attached(const Peers *peers) {
        return peers->self.raft_id == 0 && peers->self.cluster_id != 0;
}

/* Attached hosts wait for longer after each rejection. */
static bool known_is_rejected(const KnownAddress *k) {
        return k->problem[0] && k->cause < _REJECTION_MAX && peers_is_attached(k->peers);
}

/* A host that has lost its replicas dials all addresses that it knows: each has its turn as one of two. */
static void peers_pause(Peers *peers) {
        uint64_t half_ms = peers->busy_ms / MAX(HASH_COUNT(peers->known), 2u);

        peers->busy_until_ms = loop_now_ms(peers->loop) + half_ms +
                               random_below(loop_random(peers->loop), half_ms + 1);
}

void peers_busy(Peers *peers) {
        peers->busy_ms = peers->busy_ms > 0 ? MIN(2 * peers->busy_ms, (uint64_t) PEERS_BUSY_MAX_MS) :
                                              (uint64_t) PEERS_BACKOFF_MIN_MS;
        peers_pause(peers);
}

uint64_t peers_take_turn(Peers *peers) {
        uint64_t now_ms = loop_now_ms(peers->loop);

        if (peers->busy_ms == 0 || !peers_is_attached(peers))
                return 0;
        if (now_ms < peers->busy_until_ms)
                return peers->busy_until_ms - now_ms;
        peers_pause(peers);
        return 0;
}

void known_retry(KnownAddress *k) {
        uint64_t half_ms = k->backoff_ms / 2,
                 max_ms = known_is_rejected(k) ? PEERS_REJECTED_MAX_MS : PEERS_BACKOFF_MAX_MS;

        known_wait(k, half_ms + random_below(loop_random(k->peers->loop), half_ms + 1));
        k->backoff_ms = MIN(k->backoff_ms * 2, max_ms);
}

void known_redial(KnownAddress *k) {
        known_wait(k, random_below(loop_random(k->peers->loop), REDIAL_MS + 1));
}

bool known_is_outdated(const KnownAddress *k) {
        const TlsCertificate *own = tls_credentials_certificate(k->peers->credentials);
        const PeerSession *s = k->session;

        if (!own || !s || s->state != SESSION_OPEN)
                return false;
        if (s->peer.kind == TLS_PEER_KEY)
                return k->peers->session_context.tls.key != NULL;
        return s->peer.kind == TLS_PEER_CERTIFICATE && !tls_pin_equal(&s->own_pin, &own->pin);
}

void peers_redial_later(Peers *peers) {
        bool waits = false;

        for (const KnownAddress *k = peers->known; k; k = k->hh.next)
                waits |= known_is_outdated(k);
        if (waits && !peers->closing && !timer_armed(&peers->redial) &&
            timer_start(&peers->redial, peers->loop, PEERS_REDIAL_EACH_MS) < 0)
                log_error(NO_FIELDS, "Failed to start the timer of new sessions: out of memory");
}

bool peers_dials(const Peers *peers, uint64_t source) {
        for (const KnownAddress *k = peers->known; k; k = k->hh.next)
                if (k->source == source)
                        return true;
        return false;
}

bool peers_has_certificate(const Peers *peers) {
        return tls_credentials_certificate(peers->credentials);
}

/* -- State -- */

static bool host_was_rejected(const PeerHost *host, uint64_t when_ms) {
        return when_ms > 0 && loop_now_ms(host->peers->loop) - when_ms < CLONE_REPORTED_MS;
}

void peers_rejected(const Peers *peers, const char *machine_id, bool *ret_clone, bool *ret_key) {
        const PeerHost *host = host_find(peers, machine_id);

        *ret_clone = host && host_was_rejected(host, host->clone_ms);
        *ret_key = host && host_was_rejected(host, host->key_ms);
}

static bool known_is_busy(const KnownAddress *k) {
        return k->problem[0] && k->cause == REJECTION_BUSY;
}

static void host_state(const PeerHost *host, PeerState *ret) {
        uint64_t now_ms = loop_now_ms(host->peers->loop);
        uint64_t dialed = host->dialed ? session_silent_ms(host->dialed) : UINT64_MAX;
        uint64_t accepted = host->accepted ? session_silent_ms(host->accepted) : UINT64_MAX;
        uint64_t silent_ms = MIN(now_ms - MIN(host->contact_ms, now_ms), MIN(dialed, accepted));

        *ret = (PeerState) {
                .handshake = host->handshake,
                .dialed = host->dialed != NULL,
                .accepted = host->accepted != NULL,
                .by_key = (host->dialed && host->dialed->peer.kind == TLS_PEER_KEY) ||
                          (host->accepted && host->accepted->peer.kind == TLS_PEER_KEY),
                .outdated = host->outdated_raft_id > 0 && host->outdated_raft_id == host->peers->self.raft_id,
        };
        memcpy(ret->bye, host->bye, sizeof(ret->bye));
        memcpy(ret->problem, host->problem, sizeof(ret->problem));
        for (const KnownAddress *k = host->n_known > 0 ? host->peers->known : NULL; k; k = k->hh.next) {
                if (k->host != host)
                        continue;
                ret->busy |= known_is_busy(k);
                if (!*host->handshake.address)
                        memcpy(ret->handshake.address, k->address, sizeof(k->address));
                /* The daemon of a host that hangs sends no handshake, but its kernel acknowledges. */
                if (!host->dialed && !host->accepted && k->session)
                        silent_ms = MIN(silent_ms, session_silent_ms(k->session));
        }
        ret->kernel_silent_ms = silent_ms;
}

int peers_state(const Peers *peers, const char *machine_id, PeerState *ret) {
        const PeerHost *host = host_find(peers, machine_id);

        if (!host)
                return -ENOENT;
        host_state(host, ret);
        return 0;
}

bool peers_is_removed(const Peers *peers) {
        return peers->removed;
}

void peers_end_removal(Peers *peers) {
        peers->removed = false;
}

const char *peers_rejection(const Peers *peers, Rejection *ret_cause, const char **ret_reason) {
        for (const KnownAddress *k = peers->known; k; k = k->hh.next) {
                if (!k->problem[0] || k->cause >= _REJECTION_MAX)
                        continue;
                *ret_cause = k->cause;
                *ret_reason = k->problem;
                return k->address;
        }
        return NULL;
}

const char *peers_other_lineage(const Peers *peers) {
        for (const KnownAddress *k = peers->known; k; k = k->hh.next)
                if (k->problem[0] && k->cause == REJECTION_LINEAGE)
                        return k->address;
        return NULL;
}

uint64_t peers_attempt_age_ms(const Peers *peers) {
        uint64_t now_ms = loop_now_ms(peers->loop), age_ms = 0;

        for (const KnownAddress *k = peers->known; k; k = k->hh.next) {
                if (k->is_self || (k->session && k->session->state == SESSION_OPEN) ||
                    (k->host && k->host->dialed)) /* at another of its addresses */
                        continue;
                age_ms = MAX(age_ms, now_ms - k->attempted_ms);
        }
        return age_ms;
}

static bool host_is_connected(const PeerHost *host) {
        return host->dialed || host->accepted || host->n_known > 0;
}

/* Whether the Raft ID in the handshake of a host is that of its replica, and not one that it only names. */
static bool host_has_replica(const PeerHost *host) {
        if (!host->dialed && !host->accepted)
                return host->n_known > 0;
        return (host->dialed && host->dialed->is_replica) || (host->accepted && host->accepted->is_replica);
}

const PeerHandshake *peers_replica(const Peers *peers, uint64_t raft_id) {
        const PeerHandshake *found = NULL;
        const PeerHost *host;

        TAILQ_FOREACH(host, &peers->listed, listed)
                if (host->handshake.raft_id == raft_id && host_has_replica(host))
                        found = &host->handshake;
        return found;
}

void peers_each(const Peers *peers, void (*each)(void *userdata, const PeerState *state), void *userdata) {
        const PeerHost *host;

        for (const KnownAddress *k = peers->known; k; k = k->hh.next) {
                PeerState state = {};

                if (k->host || k->is_self)
                        continue;
                memcpy(state.handshake.address, k->address, sizeof(k->address));
                snprintf(state.problem, sizeof(state.problem), "%s", k->problem);
                state.busy = known_is_busy(k);
                each(userdata, &state);
        }

        TAILQ_FOREACH(host, &peers->listed, listed) {
                PeerState state;

                if (!host_is_connected(host))
                        continue;
                host_state(host, &state);
                each(userdata, &state);
        }
}

size_t peers_count(const Peers *peers) {
        return peers->n_connected;
}

/* -- All sessions -- */

PeerSession *peers_find_session(Peers *peers, uint64_t number) {
        PeerSession *s;

        HASH_FIND(hh, peers->sessions, &number, sizeof(number), s);
        return s;
}

void peers_each_session(Peers *peers, void (*each)(PeerSession *s, const void *argument),
                        const void *argument) {
        for (PeerSession *s = peers->sessions, *next; s; s = next) {
                uint64_t freed = peers->last_number - peers->n_sessions, number;

                next = s->hh.next;
                number = next ? next->number : 0;
                each(s, argument);
                if (next && peers->last_number - peers->n_sessions != freed)
                        next = peers_find_session(peers, number);
        }
}

/* -- What waits for hosts without a replica -- */

static size_t session_waiting(const PeerSession *s) {
        bool replica = s->is_replica && s->handshake.raft_id != 0;

        return s->state == SESSION_OPEN && !s->dialed && !replica ? peer_queued(s) : 0;
}

typedef struct Waiting {
        size_t longer_than, most;
        size_t *size; /* of all sessions */
} Waiting;

static void session_cut_if_long(PeerSession *s, const void *argument) {
        const Waiting *w = argument;
        size_t size = session_waiting(s);

        if (*w->size <= w->most || size <= w->longer_than)
                return;
        *w->size -= size;
        session_cut(s, -ENOBUFS, "too much waits for all hosts, and most of it for this one");
}

/* If the end of one session is not enough, a round ends all for which more than half of the most waits: there
 * are few rounds. */
size_t peers_bound_waiting(Peers *peers, size_t most) {
        size_t size, longest;

        for (;;) {
                size = longest = 0;
                for (const PeerSession *s = peers->sessions; s; s = s->hh.next) {
                        size_t waiting = session_waiting(s); /* outside of MAX() */

                        size += waiting;
                        longest = MAX(longest, waiting);
                }
                if (size <= most)
                        return size;
                peers_each_session(
                        peers, session_cut_if_long,
                        &(Waiting) { .longer_than = size - longest <= most ? longest - 1 : longest / 2,
                                     .most = most,
                                     .size = &size });
        }
}
