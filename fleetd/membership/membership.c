#include "fleetd/membership/membership.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/sizes.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "fleetd/membership/liveness.h"
#include "fleetd/membership/voters.h"

enum {
        LEVEL_WAIT_MS = 24 * 3600 * 1000
}; /* of cluster time in which all hosts could: time to go back to the older program */
enum {
        JOIN_RETRY_MS = 1000,
        JOIN_ANSWER_MS = 10000, /* for an answer, on a session that lasts */
        LATE_MS = 250,
        KERNEL_SILENT_MS = 1500,
        JOIN_PROTOCOL = 1,
        KNOWN_MAX = 1024,
        TROUBLE_MAX = 100,
};

static const char said_well[] = "its replica works again";

/* One host that beat since the last tick. */
typedef struct Heard {
        char machine[MACHINE_ID_SIZE];
        bool beat;
        char trouble[TROUBLE_MAX]; /* of its replica, by its own word; "": none */
        UT_hash_handle hh;
} Heard;

/* Somebody who asked to be let in, until the registry has answered. */
typedef struct Joining {
        Membership *membership;
        uint64_t session; /* number of the session that it asked on */
        char machine[MACHINE_ID_SIZE];
        uint64_t raft_id;
        TAILQ_ENTRY(Joining) joinings;
} Joining;

struct Membership {
        Loop *loop; /* borrowed, as the next three */
        Peers *peers;
        KvStore *store;
        Registry *registry;
        char machine_id[MACHINE_ID_SIZE], peer_address[ADDRESS_SIZE], name[64], client[CLUSTER_URL_SIZE];
        Names join;
        char *cluster_file;
        uint64_t voters;
        RegistryListener listener;
        Liveness *liveness;
        Heard *heard;
        Timer tick, join_timer;
        Deferred known;
        uint64_t last_tick_ms, led_term;
        uint64_t level_wait_ms;
        uint64_t raising;      /* number of the proposal under way that raises the feature level; 0: none */
        bool leading, writing; /* a presence transaction is in flight */
        bool joined_said, told_refusal;
        bool know_again;   /* whom to dial could not be kept: with the next tick */
        uint64_t asked_ms; /* when a host was asked to let us in; 0: no answer is due */
        char asked[MACHINE_ID_SIZE];
        char trouble[TROUBLE_MAX]; /* what our beats say */
        size_t trouble_size;
        TAILQ_HEAD(, Joining) joinings;
};

/* -- Whom to dial, and to remember -- */

static int membership_remember(Membership *m, const Text *addresses) {
        _cleanup_free_ char *dir = strdup(m->cluster_file), *base = strdup(m->cluster_file);
        _cleanup_close_ int dir_fd = -1;
        _cleanup_text_ Text t = {};
        const char *name;

        if (!dir || !base)
                return -ENOMEM;
        name = basename(base);
        dir_fd = open_dir(dirname(dir), 0755);
        if (dir_fd < 0)
                return dir_fd;

        text_printf(&t,
                    "# Written by fleetd: the other hosts of this cluster, for a start without memory of "
                    "it.\n[Fleetd]\nJoin=%s\n",
                    addresses->chars);
        if (t.error < 0)
                return t.error;
        if (file_holds_at(dir_fd, name, t.chars, t.size))
                return 0;
        return write_file_at(dir_fd, name, t.chars, t.size, 0644);
}

typedef struct Known {
        PeerAddress *items; /* KNOWN_MAX */
        size_t n;
        const char *own; /* our address */
        uint64_t cluster_id;
} Known;

static void known_add(Known *known, const char *address) {
        if (!address[0] || streq(address, known->own) || known->n == KNOWN_MAX)
                return;
        for (size_t i = 0; i < known->n; i++)
                if (streq(known->items[i].address, address))
                        return;
        snprintf(known->items[known->n++].address, sizeof(known->items->address), "%s", address);
}

static void known_add_peer(void *userdata, const PeerState *peer) {
        Known *known = userdata;

        if (peer->accepted && peer->hello.cluster_id == known->cluster_id)
                known_add(known, peer->hello.address);
}

/* 0, or -ENOMEM: then not all are known who should be. What cannot be written is said here. */
static int membership_know(Membership *m) {
        const Cluster *c = registry_cluster(m->registry);
        _cleanup_free_ PeerAddress *items = NEW0(PeerAddress, KNOWN_MAX);
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_text_ Text addresses = {};
        Known known = { .items = items, .own = m->peer_address };
        size_t n_machines = 0;
        KvState state;
        int r;

        machines = cluster_machines_sorted(c, &n_machines);
        if (!items || !machines)
                return -ENOMEM;
        for (size_t i = 0; i < n_machines && known.n < KNOWN_MAX; i++) {
                if (!machines[i]->peer[0] || streq(machines[i]->id, m->machine_id))
                        continue;
                memcpy(items[known.n].machine_id, machines[i]->id, sizeof(items->machine_id));
                snprintf(items[known.n].address, sizeof(items->address), "%s", machines[i]->peer);
                text_printf(&addresses, "%s%s", addresses.size > 0 ? " " : "", machines[i]->peer);
                known.n++;
        }

        /* Members that the picture does not know yet (a replica that is just being filled), then Join=. */
        kv_state(m->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                known_add(&known, state.members[i].address);
        for (size_t i = 0; i < m->join.n; i++)
                known_add(&known, m->join.items[i]);
        /* Let in, and no replica yet: one of those who dial us leads, and has to hear us before it gives us
         * one. */
        known.cluster_id = state.cluster_id;
        if (state.cluster_id != 0 && state.n_members == 0)
                peers_each(m->peers, known_add_peer, &known);
        r = peers_set_known(m->peers, items, known.n);
        if (r < 0)
                return r;
        r = addresses.error;
        if (addresses.size > 0 && m->cluster_file[0] && r == 0) {
                r = membership_remember(m, &addresses);
                if (r < 0)
                        log_warning(((LogFields) { .error = r }),
                                    "cannot write %s: %s; a start without memory would not find the cluster",
                                    m->cluster_file, strerror(-r));
        }
        return r == -ENOMEM ? r : 0;
}

static void membership_on_known(void *userdata) {
        Membership *m = userdata;

        m->know_again = membership_know(m) < 0;
}

/* -- Joining: PEER_JOIN is version, machine id, peer address; PEER_JOINED is version, error, sentence,
 * cluster, lineage, Raft id -- */

static void joined_reply(PeerSession *session, int error, const char *sentence, uint64_t cluster_id,
                         uint64_t lineage, uint64_t raft_id) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, JOIN_PROTOCOL);
        write_u8(&w, error < 0);
        write_string(&w, sentence);
        write_u64(&w, cluster_id);
        write_u64(&w, lineage);
        write_u64(&w, raft_id);
        if (w.error == 0)
                (void) peer_reply(session, PEER_JOINED, w.bytes, w.size);
}

static void membership_on_admitted(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Joining *j = userdata;
        Membership *m = j->membership;
        PeerSession *session = peers_session(m->peers, j->session);
        KvState state;

        if (session) {
                kv_state(m->store, &state);
                joined_reply(session, status == KV_OK ? 0 : -EIO, status == KV_OK ? "" : sentence,
                             state.cluster_id, state.lineage, j->raft_id);
                if (status == KV_OK)
                        log_notice(((LogFields) { .machine = j->machine, .index = index }),
                                   "let %s in as replica %llu", peer_handshake(session)->name,
                                   (unsigned long long) j->raft_id);
        }
        TAILQ_REMOVE(&m->joinings, j, joinings);
        free(j);
}

static int membership_let_in(Membership *m, PeerSession *session, const char *address, Error *err) {
        const PeerHandshake *hello = peer_handshake(session);
        const ClusterMachine *known = cluster_machine(registry_cluster(m->registry), hello->machine_id);
        size_t replicas;
        KvState state;
        Joining *j;
        int r;

        kv_state(m->store, &state);
        if (!state.ready)
                return error_set(err, -EAGAIN, "%s has no leader now; try again", m->name);
        replicas = voters_others(registry_cluster(m->registry), hello->machine_id, address);
        if (replicas >= VOTERS_WANTED + VOTERS_STANDBYS_MAX && !(known && known->raft_id))
                return error_set(err, -ENOSPC,
                                 "the cluster has %zu hosts, which is all this version takes: three voters "
                                 "and two standbys",
                                 replicas);

        j = NEW0(Joining, 1);
        if (!j)
                return error_set(err, -ENOMEM, "out of memory");
        j->membership = m;
        j->session = peer_number(session);
        snprintf(j->machine, sizeof(j->machine), "%s", hello->machine_id);
        r = registry_admit(m->registry, hello->machine_id, address, &j->raft_id, membership_on_admitted, j);
        if (r < 0) {
                free(j);
                return error_set(err, r, "%s cannot let it in: %s", m->name, strerror(-r));
        }
        TAILQ_INSERT_TAIL(&m->joinings, j, joinings);
        return 0;
}

static void membership_on_join(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *address = NULL;
        char host[64];
        uint8_t version;
        uint16_t port;
        Error err = {};
        int error;

        version = read_u8(&r);
        address = read_string(&r, sizeof(host) - 1);
        if (reader_end(&r) < 0 || version != JOIN_PROTOCOL ||
            parse_address(address, host, sizeof(host), &port) < 0)
                error = error_set(&err, -EBADMSG,
                                  "%s does not understand the request to join: another version?", m->name);
        else
                error = membership_let_in(m, session, address, &err);
        if (error < 0)
                joined_reply(session, error, err.message, 0, 0, 0);
}

static bool membership_is_waiting(const Membership *m) {
        KvState state;

        kv_state(m->store, &state);
        return state.cluster_id == 0 || state.lost;
}

static void membership_on_joined(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                 size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r), refused = read_u8(&r);
        _cleanup_free_ char *sentence = read_string(&r, ERROR_MESSAGE_MAX);
        uint64_t cluster_id = read_u64(&r), lineage = read_u64(&r), raft_id = read_u64(&r);
        const PeerHandshake *hello = peer_handshake(session);
        Error err = {};
        int error;

        m->asked_ms = 0;
        if (reader_end(&r) < 0 || version != JOIN_PROTOCOL ||
            (!refused && (cluster_id == 0 || raft_id == 0))) {
                log_warning(((LogFields) { .machine = hello->machine_id }),
                            "%s answered a request to join with what we do not understand", hello->name);
                return;
        }
        if (refused) {
                if (!m->told_refusal)
                        log_warning(((LogFields) { .machine = hello->machine_id }),
                                    "%s does not let this host in: %s", hello->name, sentence);
                m->told_refusal = true;
                return;
        }
        if (!membership_is_waiting(m))
                return;
        error = kv_joined(m->store, cluster_id, lineage, raft_id, &err);
        if (error < 0)
                log_error(((LogFields) { .error = error }), "cannot join the cluster: %s",
                          error_text(&err, error));
        else
                log_notice(((LogFields) { .machine = hello->machine_id }),
                           "joined the cluster %llx by %s, as replica %llu", (unsigned long long) cluster_id,
                           hello->name, (unsigned long long) raft_id);
}

/* Asks whoever has a session with us and belongs to a cluster. */
static void membership_ask_one(void *userdata, const PeerState *peer) {
        Membership *m = userdata;
        _cleanup_writer_ Writer w = {};

        if (m->joined_said || !peer->dialed || peer->hello.cluster_id == 0)
                return;
        write_u8(&w, JOIN_PROTOCOL);
        write_string(&w, m->peer_address);
        if (w.error < 0 || peers_send(m->peers, peer->hello.machine_id, PEER_JOIN, w.bytes, w.size) < 0)
                return;
        m->joined_said = true;
        m->asked_ms = loop_now_ms(m->loop);
        memcpy(m->asked, peer->hello.machine_id, sizeof(m->asked));
}

static void membership_on_join_timer(void *userdata) {
        Membership *m = userdata;

        if (!membership_is_waiting(m))
                return;
        /* Who is asked twice gives two ids: this host would take the first, and the cluster go by the second.
         */
        m->joined_said = m->asked_ms > 0 && loop_now_ms(m->loop) - m->asked_ms < JOIN_ANSWER_MS &&
                         peers_dialed(m->peers, m->asked);
        peers_each(m->peers, membership_ask_one, m);
        (void) timer_start(&m->join_timer, m->loop, JOIN_RETRY_MS);
}

/* -- Beats -- */

/* A beat says nothing but that its sender lives; or, besides, what its replica suffers from, which cannot be
 * said by the log. */
static size_t membership_trouble(const KvState *state, char ret[static TROUBLE_MAX]) {
        bool suffers = state->stopped || state->differs || state->undecided || state->refuses;

        return suffers ? MIN((size_t) snprintf(ret, TROUBLE_MAX, "%s", state->problem),
                             (size_t) TROUBLE_MAX - 1) :
                         0;
}

static void membership_on_beat(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        Membership *m = userdata;
        const char *id = peer_handshake(session)->machine_id;
        Heard *h;

        HASH_FIND_STR(m->heard, id, h);
        if (!h) {
                h = NEW0(Heard, 1);
                if (!h)
                        return;
                snprintf(h->machine, sizeof(h->machine), "%s", id);
                HASH_ADD_STR(m->heard, machine, h);
                if (!TABLE_ADDED(h)) {
                        free(h);
                        return;
                }
        }
        h->beat = true;
        snprintf(h->trouble, sizeof(h->trouble), "%.*s", (int) MIN(size, sizeof(h->trouble) - 1),
                 (const char *) payload);
}

static void membership_forget_heard(Membership *m) {
        Heard *h, *next;

        HASH_ITER(hh, m->heard, h, next) {
                HASH_DEL(m->heard, h);
                free(h);
        }
}

static LivenessSign membership_sign(void *userdata, const char *machine_id) {
        Membership *m = userdata;
        LivenessSign sign = {};
        PeerState peer;
        Heard *h;

        if (streq(machine_id, m->machine_id))
                return (LivenessSign) { .beat = true, .kernel = true, .session = true };

        HASH_FIND_STR(m->heard, machine_id, h);
        if (h) {
                sign.beat = h->beat;
                h->beat = false;
        }
        if (peers_state(m->peers, machine_id, &peer) < 0)
                return sign;
        sign.session = peer.accepted;
        /* Without a session its kernel is heard only when it refuses a connection. */
        sign.kernel = peer.kernel_silent_ms < (peer.accepted || peer.dialed ?
                                                       KERNEL_SILENT_MS :
                                                       KERNEL_SILENT_MS + PEERS_BACKOFF_MAX_MS);
        sign.bye = streq(peer.bye, "stop") ? "stop" : streq(peer.bye, "shutdown") ? "shutdown" : NULL;
        return sign;
}

static void membership_on_written(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Membership *m = userdata;

        m->writing = false; /* whatever became of it: the next tick sees what is */
}

static void membership_write(Membership *m, const KvState *state, const LivenessChange *changes, size_t n) {
        _cleanup_free_ PresenceChange *out = NEW0(PresenceChange, n + 1);
        const Cluster *c = registry_cluster(m->registry);

        if (!out)
                return;
        for (size_t i = 0; i < n; i++) {
                const ClusterMachine *machine = cluster_machine(c, changes[i].machine);

                snprintf(out[i].machine, sizeof(out[i].machine), "%s", changes[i].machine);
                snprintf(out[i].reason, sizeof(out[i].reason), "%s", changes[i].reason);
                out[i].presence = changes[i].presence;
                out[i].expected_index = machine ? machine->presence_index : 0;
        }
        if (registry_presence(m->registry, state->term, out, n, membership_on_written, m) < 0)
                return;
        m->writing = true;
}

/* -- The leader's tick -- */

static void membership_grow(Membership *m, const KvState *state) {
        VotersChange change;
        int r;

        if (m->voters == 1)
                return;
        voters_plan(state->members, state->n_members, state->leader_id, state->commit,
                    registry_cluster(m->registry), &change);
        switch (change.action) {
        case VOTERS_ADD:
                r = kv_member_add(m->store, change.raft_id, change.address);
                break;
        case VOTERS_PROMOTE:
                r = kv_member_promote(m->store, change.raft_id);
                break;
        case VOTERS_DEMOTE:
                r = kv_member_demote(m->store, change.raft_id);
                break;
        case VOTERS_REMOVE:
                r = kv_member_remove(m->store, change.raft_id);
                break;
        case VOTERS_VACATE:
                r = kv_member_vacate(m->store, change.raft_id);
                break;
        default:
                return;
        }
        if (r == 0)
                log_notice(((LogFields) { .term = state->term }), "%s replica %llu: %s",
                           voters_action_name(change.action), (unsigned long long) change.raft_id,
                           change.reason);
        else if (r != -EBUSY && r != -EAGAIN && r != -EREMOTE)
                log_warning(((LogFields) { .error = r }), "cannot %s replica %llu: %s",
                            voters_action_name(change.action), (unsigned long long) change.raft_id,
                            strerror(-r));
}

/* What a replica suffers from stands in its machine's presence, which everybody can read. */
static void membership_write_troubles(Membership *m, const KvState *state, const Cluster *c) {
        for (const ClusterMachine *machine = c->machines; machine && !m->writing;
             machine = machine->hh.next) {
                PresenceChange change = { .presence = PRESENCE_UP,
                                          .expected_index = machine->presence_index };
                bool told = starts_with(machine->presence_reason, MACHINE_TROUBLE);
                char own[TROUBLE_MAX] = "";
                const char *trouble = own;
                Heard *h;

                HASH_FIND_STR(m->heard, machine->id, h);
                if (streq(machine->id, m->machine_id))
                        (void) membership_trouble(state, own);
                else if (h)
                        trouble = h->trouble;
                else
                        continue; /* not heard since we lead */
                if (machine->presence != PRESENCE_UP || (!trouble[0] && !told))
                        continue;
                snprintf(change.machine, sizeof(change.machine), "%s", machine->id);
                snprintf(change.reason, sizeof(change.reason), "%s%s", trouble[0] ? MACHINE_TROUBLE : "",
                         trouble[0] ? trouble : said_well);
                if (!streq(change.reason, machine->presence_reason))
                        m->writing = registry_presence(m->registry, state->term, &change, 1,
                                                       membership_on_written, m) >= 0;
        }
}

/* -- The feature level: a new cluster begins at the newest; later it is raised when all hosts have known a
 * higher one for a day -- */

static void membership_on_raised(void *userdata, const KvResult *result) {
        Membership *m = userdata;

        m->raising = 0;
        if (result->status == KV_OK)
                log_notice(((LogFields) { .index = result->index }),
                           "all hosts have known a higher feature level for a day: it is in force");
}

static void membership_on_founded(void *userdata, const KvResult *result) {
        Membership *m = userdata;

        m->raising = 0;
        if (result->status == KV_OK)
                log_notice(((LogFields) { .index = result->index }),
                           "a new cluster: it begins at the newest feature level that this fleetd knows");
}

/* No host of an older version can be in a cluster that this start has founded, and that no other one has
 * joined. True: it is under way. */
static bool membership_begin_level(Membership *m, const KvState *state) {
        if (!state->founded || state->role != KV_ROLE_LEADER || state->n_members != 1 ||
            state->level >= state->level_max)
                return false;
        if (!m->raising)
                (void) kv_propose(m->store,
                                  &(KvCommand) { .op = KV_RAISE,
                                                 .internal = true,
                                                 .term = state->term,
                                                 .limit = state->level_max },
                                  membership_on_founded, m, &m->raising);
        return true;
}

static void membership_raise(Membership *m, const KvState *state) {
        unsigned can = cluster_level(registry_cluster(m->registry), state->level_max, NULL);
        uint64_t noted = 0, since_ms = 0;
        int r;

        if (membership_begin_level(m, state) || state->level >= state->level_max || m->writing ||
            m->raising || state->cluster_ms == 0)
                return; /* a time that has not begun is no time to wait from */
        r = registry_read_level(m->registry, &noted, &since_ms);
        if (can > state->level && r >= 0 && noted == can) {
                if (state->cluster_ms >= since_ms + m->level_wait_ms)
                        (void) kv_propose(
                                m->store,
                                &(KvCommand) {
                                        .op = KV_RAISE, .internal = true, .term = state->term, .limit = can },
                                membership_on_raised, m, &m->raising);
                return;
        }
        /* Somebody came who can less, or all can more: the day begins anew. */
        if (can > state->level || (r >= 0 && noted > can))
                m->writing = registry_note_level(m->registry, state->term, can, state->cluster_ms,
                                                 membership_on_written, m) == 0;
}

static void membership_lead(Membership *m, const KvState *state, bool late) {
        _cleanup_free_ LivenessChange *changes = NULL;
        const Cluster *c = registry_cluster(m->registry);
        size_t n = 0;

        if (m->led_term != state->term || !m->leading) {
                liveness_lead(m->liveness);
                m->led_term = state->term;
                m->leading = true;
        }
        late |= state->n_voters_reachable * 2 <= state->n_voters;
        if (liveness_tick(m->liveness, c, late, membership_sign, m, &changes, &n) == 0 && n > 0 &&
            !m->writing)
                membership_write(m, state, changes, n);
        membership_write_troubles(m, state, c);
        membership_grow(m, state);
        membership_raise(m, state);
}

/* Each start of a replica's daemon is put on record, with where its clients reach it, and the founder's seat,
 * which nobody gave to it, too. */
static void membership_say_start(Membership *m, const KvState *state) {
        const ClusterMachine *self = cluster_machine(registry_cluster(m->registry), m->machine_id);
        const PeerHandshake *hello = peers_self(m->peers);
        ClusterMachine founder = { .raft_id = state->raft_id,
                                   .start_number = hello->start_number,
                                   .level = state->level_max };
        bool seated = self && self->raft_id != 0, told;

        if (m->writing || !state->ready || !registry_ready(m->registry) || !m->peer_address[0])
                return;
        told = seated && streq(self->peer, m->peer_address) &&
               (self->start_number > hello->start_number ||
                (self->start_number == hello->start_number && self->start_nonce[0] &&
                 streq(self->client, m->client)));
        if (told || (seated && self->raft_id != state->raft_id))
                return;
        snprintf(founder.start_nonce, sizeof(founder.start_nonce), "%016llx",
                 (unsigned long long) hello->nonce);
        snprintf(founder.id, sizeof(founder.id), "%s", m->machine_id);
        snprintf(founder.peer, sizeof(founder.peer), "%s", m->peer_address);
        snprintf(founder.client, sizeof(founder.client), "%s", m->client);
        m->writing = registry_member_started(m->registry, &founder, membership_on_written, m) == 0;
}

static void membership_beat_one(void *userdata, const PeerState *peer) {
        Membership *m = userdata;

        if (peer->dialed)
                (void) peers_send(m->peers, peer->hello.machine_id, PEER_HEARTBEAT, m->trouble,
                                  m->trouble_size);
}

static void membership_on_tick(void *userdata) {
        Membership *m = userdata;
        uint64_t now_ms = loop_now_ms(m->loop);
        bool late = now_ms - m->last_tick_ms > LIVENESS_TICK_MS + LATE_MS;
        KvState state;

        m->last_tick_ms = now_ms;
        (void) timer_start(&m->tick, m->loop, LIVENESS_TICK_MS);
        if (m->know_again)
                loop_defer(m->loop, &m->known);

        kv_state(m->store, &state);
        if (state.role == KV_ROLE_LEADER) {
                if (state.ready && registry_ready(m->registry))
                        membership_lead(m, &state, late);
                membership_say_start(m, &state);
                return;
        }
        m->leading = false;
        membership_forget_heard(m); /* a heartbeat that is kept until this host leads would bring back a host
                                       that was lost meanwhile */
        m->trouble_size = membership_trouble(&state, m->trouble);
        membership_say_start(m, &state);
        if (state.leader_id == 0) {
                /* Who has just been let in hears of the leader only when it gets its replica, and gets that
                 * only when it is heard: so everybody is told that we live, and whoever leads knows. */
                peers_each(m->peers, membership_beat_one, m);
                return;
        }
        if (state.leader_machine_id[0])
                (void) peers_send(m->peers, state.leader_machine_id, PEER_HEARTBEAT, m->trouble,
                                  m->trouble_size);
}

/* -- Events -- */

static void membership_on_change(void *userdata, const RegistryChange *change) {
        Membership *m = userdata;

        if (change->kind == CHANGED_ALL || change->kind == CHANGED_MACHINE ||
            change->kind == CHANGED_CLUSTER) /* of those: a member's key */
                loop_defer(m->loop, &m->known);
}

void membership_state_changed(Membership *m) {
        KvState state;

        kv_state(m->store, &state);
        (void) membership_begin_level(m, &state); /* before anybody writes, not with the first tick */
        if (membership_is_waiting(m) && !timer_armed(&m->join_timer))
                (void) timer_start(&m->join_timer, m->loop, 0); /* its replica was lost just now */
        loop_defer(m->loop, &m->known);
}

void membership_peer_changed(Membership *m, const char *machine_id) {
        loop_defer(m->loop, &m->known);
        if (membership_is_waiting(m) && !m->joined_said)
                peers_each(m->peers, membership_ask_one, m);
}

int membership_admit(const Membership *m, const PeerHandshake *hello, Error *err) {
        const ClusterMachine *known = cluster_machine(registry_cluster(m->registry), hello->machine_id);
        char nonce[17];
        bool old;

        if (hello->raft_id == 0 || !known || known->raft_id != hello->raft_id)
                return 0;
        snprintf(nonce, sizeof(nonce), "%016llx", (unsigned long long) hello->nonce);
        old = hello->start_number < known->start_number ||
              (hello->start_number == known->start_number && known->start_nonce[0] &&
               !streq(known->start_nonce, nonce));
        if (old)
                return error_set(err, -ESTALE,
                                 "machine %s comes with an old image of its state (start %llu, the cluster "
                                 "has seen %llu): "
                                 "stop its fleetd, remove its state directory, and let it join anew",
                                 hello->machine_id, (unsigned long long) hello->start_number,
                                 (unsigned long long) known->start_number);
        return 0;
}

/* The next tick publishes it. */
void membership_set_client(Membership *m, const char *client) {
        snprintf(m->client, sizeof(m->client), "%s", client);
}

int membership_new(Membership **ret, Loop *loop, Peers *peers, KvStore *store, Registry *registry,
                   const MembershipOptions *options) {
        Membership *m = NEW0(Membership, 1);
        int r;

        if (!m)
                return -ENOMEM;
        *m = (Membership) {
                .loop = loop,
                .peers = peers,
                .store = store,
                .registry = registry,
                .voters = options->voters,
                .level_wait_ms = options->level_wait_ms > 0 ? options->level_wait_ms : LEVEL_WAIT_MS,
                .listener = { .on_change = membership_on_change, .userdata = m },
                .tick = TIMER(membership_on_tick, m),
                .join_timer = TIMER(membership_on_join_timer, m),
                .known = DEFERRED(membership_on_known, m),
                .last_tick_ms = loop_now_ms(loop),
        };
        TAILQ_INIT(&m->joinings);
        snprintf(m->machine_id, sizeof(m->machine_id), "%s", options->machine_id);
        snprintf(m->peer_address, sizeof(m->peer_address), "%s", options->peer_address);
        snprintf(m->name, sizeof(m->name), "%s", options->name);
        membership_set_client(m, options->client ?: "");
        m->cluster_file = strdup(options->cluster_file);
        r = m->cluster_file ? 0 : -ENOMEM;
        for (size_t i = 0; r == 0 && i < options->join->n; i++)
                r = names_add(&m->join, options->join->items[i], strlen(options->join->items[i]));
        if (r == 0)
                r = liveness_new(&m->liveness, NULL);
        if (r == 0)
                r = timer_start(&m->tick, loop, LIVENESS_TICK_MS);
        if (r == 0 && membership_is_waiting(m))
                r = timer_start(&m->join_timer, loop, JOIN_RETRY_MS);
        registry_listen(registry, &m->listener);
        peers_handle(peers, PEER_JOIN, membership_on_join, m);
        peers_handle(peers, PEER_JOINED, membership_on_joined, m);
        peers_handle(peers, PEER_HEARTBEAT, membership_on_beat, m);
        if (r < 0) {
                membership_free(m);
                return r;
        }
        loop_defer(loop, &m->known);
        *ret = m;
        return 0;
}

Membership *membership_free(Membership *m) {
        if (!m)
                return NULL;

        peers_handle(m->peers, PEER_JOIN, NULL, NULL);
        peers_handle(m->peers, PEER_JOINED, NULL, NULL);
        peers_handle(m->peers, PEER_HEARTBEAT, NULL, NULL);
        registry_unlisten(m->registry, &m->listener);
        timer_stop(&m->tick);
        timer_stop(&m->join_timer);
        deferred_cancel(&m->known);
        membership_forget_heard(m);
        liveness_free(m->liveness);
        names_done(&m->join);
        free(m->cluster_file);
        while (!TAILQ_EMPTY(&m->joinings)) {
                Joining *j = TAILQ_FIRST(&m->joinings);

                TAILQ_REMOVE(&m->joinings, j, joinings);
                registry_forget(m->registry, j);
                free(j);
        }
        registry_forget(m->registry, m);
        if (m->raising)
                kv_cancel(m->store, m->raising);
        free(m);
        return NULL;
}
