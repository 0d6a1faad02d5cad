/* A herd of attached hosts in one process, with the sessions and the remote store of the daemon: each keeps
 * two TLS sessions to replicas, its slice, and sends heartbeats. Only the choice of replicas is simpler than
 * in fleetd/sessions. Execute lines from stdin, and answer each with a line.
 *
 *   replica MACHINE ADDR:PORT   a replica of the cluster
 *   start N NAMESPACES FIRST    start hosts until there are N, with numbers from FIRST on: "ok N". The
 *                               first NAMESPACES (0: none) of /run/netns/herd0, herd1, ... have the
 *                               connections of hosts 0, 1, ... in turn
 *   mark                        begin to measure: "ok"
 *   wait use|both N SECONDS     until N hosts have a fresh slice, or have had also their idle session
 *                               since the last mark: ms since then; hosts with a fresh slice; with both
 *   certify N SECONDS           each host gets a certificate, until N hosts have it on their sessions,
 *                               and do not use the key file any more: as "wait"
 *   count                       hosts with a fresh slice; with both sessions; sessions; events of the
 *                               slices; moves to another replica; bytes of memory of this process; us
 *                               of its processor time
 *   answers                     the longest time from a heartbeat to its answer since the last such
 *                               command, in us
 *   watch PREFIX                count the hosts that receive an event of a key with that prefix: "ok"
 *   seen N SECONDS              until N hosts have: the time of the first, of half and of the last in us
 *                               of CLOCK_MONOTONIC; their number
 *   stand                       all hosts stand still until the next command: "ok"
 *   arrived SINCE               hosts for which the kernel has received bytes on the session in use
 *                               after that time, which they read only now: times and number as above
 *
 * Each host publishes its facts once, so that the cluster has a machine for it. With --states it reports
 * each of its assignments as running. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/sessions/choosing.h"
#include "fleetd/identity/enter_message.h"
#include "peers/frames.h"
#include "fleetd/identity/renewal.h"
#include "fleetd/registry/layout.h"
#include "io/net_uv_internal.h"
#include "io/tls.h"
#include "kvstore/remote.h"
#include "peers/peers.h"
#include "peers/session.h"
#include "units/stored_cluster.h"
#include "units/stored_json.h"

enum {
        TICK_MS = 500,
        RARE_TICKS = 2,
        IDLE_TICKS = 4,
        ANSWER_MS = 1500,
        IDLE_ANSWER_MS = 5000,
        DIAL_MS = 2000,         /* until another replica is dialed, too */
        IDLE_JITTER_MS = 30000, /* until the second session is dialed */
        PUBLISH_MS = 10000,     /* for an answer to the facts, and from sending to the deadline */
        CERTIFY_MS = 15000,     /* for a certificate */
        CERTIFY_RATE = 250,     /* requests of this process in a second */
        REPLICAS_MAX = 5,
        NAMESPACES_MAX = 64,
        LINE_MAX_SIZE = 256,
        HEARTBEAT_CLOCK = 2,
        HEARTBEAT_ATTACHED = 3,
        ATTACHED_IN_USE = 1,
        ATTACHED_RARE = 2,
        RELAY_FRAME_VERSION = 1,
};

typedef struct Herd Herd;

/* Connections of one host: from an address of its own, as replicas count connections by address, and in
 * another network namespace. */
typedef struct Place {
        Network base;
        Herd *herd;
        int fd; /* -1: in the namespace of this process */
        struct sockaddr_in source;
} Place;

typedef struct Agent {
        Herd *herd;
        char id[MACHINE_ID_SIZE];
        Place place;
        PeerHandshake self;
        Peers *peers;
        Remote *remote;
        Timer tick;
        unsigned ticks;
        ReplicaChoice choices[REPLICAS_MAX];
        bool dialed[REPLICAS_MAX]; /* by the order of 'choices' */
        uint64_t alone_ms;         /* when a session was open last */
        uint64_t idle_from_ms;     /* the second session is dialed from then on; 0: not decided */
        uint64_t publish_ms;       /* the facts are published again from then on */
        uint64_t certify_ms; /* a certificate is requested again from then on; 0: not before "certify" */
        TlsPrivateKey *key;
        TlsCredentials *credentials;
        uint64_t origin, number;
        uint64_t sent_us; /* the last heartbeat on the session in use, without an answer; 0: none */
        bool fresh, both, published, seen, certified;
        bool had_both; /* since the last mark */
} Agent;

struct Herd {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        TlsKey *key;
        int own_fd, fds[NAMESPACES_MAX]; /* the namespace of this process, and those of hosts; 0: not open */
        char replicas[REPLICAS_MAX][MACHINE_ID_SIZE], addresses[REPLICAS_MAX][ADDRESS_SIZE];
        TlsPin pins[REPLICAS_MAX];
        bool has_pin[REPLICAS_MAX];
        size_t n_replicas;
        Agent *agents;
        size_t n, max, first; /* hosts; the number of the first */
        size_t n_fresh, n_both, n_had_both, n_seen, n_certified, n_events, n_moves;
        uint64_t mark_ms, first_us, half_us, last_us, answer_us;
        char watched[LINE_MAX_SIZE];
        /* The command that waits for its answer. */
        enum { WAITS_NOT, WAITS_USE, WAITS_BOTH, WAITS_SEEN, WAITS_CERTIFIED } waits;
        size_t wanted;
        Timer due;
        bool states, quiet;
        char line[LINE_MAX_SIZE];
        size_t line_size;
        Guest *input;
};

static uint64_t now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

_Noreturn static void fail(const char *what, int error) {
        fprintf(stderr, "herd: %s: %s\n", what, strerror(error < 0 ? -error : error));
        exit(1);
}

/* -- Answers -- */

static void herd_answer(Herd *h) {
        if (h->waits == WAITS_SEEN)
                printf("%llu %llu %llu %zu\n", (unsigned long long) h->first_us,
                       (unsigned long long) h->half_us, (unsigned long long) h->last_us, h->n_seen);
        else
                printf("%llu %zu %zu\n", (unsigned long long) (loop_now_ms(h->loop) - h->mark_ms), h->n_fresh,
                       h->n_had_both);
        fflush(stdout);
        h->waits = WAITS_NOT;
        timer_stop(&h->due);
}

static void herd_check(Herd *h) {
        size_t n = h->waits == WAITS_USE       ? h->n_fresh :
                   h->waits == WAITS_BOTH      ? h->n_had_both :
                   h->waits == WAITS_CERTIFIED ? h->n_certified :
                                                 h->n_seen;

        if (h->waits != WAITS_NOT && n >= h->wanted)
                herd_answer(h);
}

static void herd_on_due(void *userdata) {
        herd_answer(userdata);
}

static void herd_wait(Herd *h, int waits, uint64_t n, uint64_t seconds) {
        h->waits = waits;
        h->wanted = n;
        if (timer_start(&h->due, h->loop, seconds * 1000) < 0)
                fail("timer", ENOMEM);
        herd_check(h);
}

/* -- Connections -- */

static struct sockaddr_in connect_source; /* of connect(); sin_family 0: none */

/* libuv calls this one. */
int connect(int fd, const struct sockaddr *address, socklen_t size) {
        int one = 1;

        if (connect_source.sin_family == AF_INET &&
            (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
             bind(fd, (struct sockaddr *) &connect_source, sizeof(connect_source)) < 0))
                fail("bind", errno);
        return (int) syscall(SYS_connect, fd, address, size);
}

static void *place_connect(Network *net, const char *address, uint64_t timeout_ms, StreamConnected *done,
                           void *userdata, int *ret_error) {
        Place *p = (Place *) net;
        Network *real = p->herd->network;
        void *handle;

        if (p->fd >= 0 && setns(p->fd, CLONE_NEWNET) < 0)
                fail("setns", errno);
        connect_source = p->source;
        handle = real->ops->connect(real, address, timeout_ms, done, userdata, ret_error);
        connect_source = (struct sockaddr_in) {};
        if (p->fd >= 0 && setns(p->herd->own_fd, CLONE_NEWNET) < 0)
                fail("setns", errno);
        return handle;
}

static void place_cancel(Network *net, void *handle) {
        Network *real = ((Place *) net)->herd->network;

        real->ops->cancel(real, handle);
}

static const NetworkOps place_ops = { .connect = place_connect, .cancel = place_cancel };

static int herd_namespace(Herd *h, size_t i) {
        char path[64];

        snprintf(path, sizeof(path), "/run/netns/herd%zu", i);
        if (h->fds[i] == 0)
                h->fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (h->fds[i] < 0)
                fail(path, errno);
        return h->fds[i];
}

/* The address of a host is NET.(NUMBER / 256).(NUMBER % 256): in namespace I, NET is 10.(100 + I), and the
 * namespace takes all of them as its own; without namespaces, it is 127.1. */
static void place_init(Place *p, Herd *h, size_t i, size_t n_places) {
        uint32_t net = 127 << 8 | 1, number = (uint32_t) (h->first + i + 1);

        if (number > UINT16_MAX)
                fail("a process has addresses for 65,535 hosts", ERANGE);
        *p = (Place) { .base = { &place_ops, h->loop }, .herd = h, .fd = -1 };
        if (n_places > 0) {
                p->fd = herd_namespace(h, i % n_places);
                net = 10 << 8 | (uint32_t) (100 + i % n_places);
        }
        p->source = (struct sockaddr_in) { .sin_family = AF_INET,
                                           .sin_addr.s_addr = htonl(net << 16 | number) };
}

/* -- What a host counts -- */

static bool agent_has(const Agent *a, size_t choice, uint64_t within_ms) {
        return peers_dialed(a->peers, a->choices[choice].machine) &&
               remote_answers(a->remote, a->choices[choice].machine, within_ms);
}

static void agent_count(Agent *a) {
        bool fresh = remote_is_fresh(a->remote);
        size_t open = 0;

        for (size_t i = 0; i < a->herd->n_replicas; i++)
                open += agent_has(a, i, IDLE_ANSWER_MS);
        a->herd->n_fresh += (size_t) fresh - (size_t) a->fresh;
        a->herd->n_both += (size_t) (fresh && open >= 2) - (size_t) a->both;
        a->fresh = fresh;
        a->both = fresh && open >= 2;
        a->herd->n_had_both += a->both && !a->had_both;
        a->had_both |= a->both;
        herd_check(a->herd);
}

static void agent_see(Agent *a) {
        Herd *h = a->herd;

        a->seen = true;
        h->last_us = now_us();
        if (h->n_seen++ == 0)
                h->first_us = h->last_us;
        if (h->n_seen == h->n / 2)
                h->half_us = h->last_us;
        herd_check(h);
}

/* -- Writes -- */

static void agent_write(Agent *a, LayoutKind kind, const char *unit, const char *value) {
        const RemoteCurrent *current = remote_current(a->remote);
        _cleanup_writer_ Writer w = {}, command = {};
        char key[LAYOUT_KEY_MAX];
        const KvCommand set = { .op = KV_SET,
                                .internal = true,
                                .key = kv_string(layout_key(key, kind, unit, a->id)),
                                .value = kv_string(value) };

        if (kv_command_encode(&set, KV_LEVEL_MAX, &command) < 0)
                fail("command", EINVAL);
        write_u8(&w, RELAY_FRAME_VERSION);
        write_u64(&w, a->origin);
        write_u64(&w, a->number + 1); /* the results of earlier ones are not needed */
        write_u8(&w, 0);
        write_varint(&w, 1);
        write_u64(&w, ++a->number);
        write_u64(&w, current->cluster_ms + PUBLISH_MS);
        write_blob(&w, command.bytes, command.size);
        write_blob(&w, NULL, 0);
        if (w.error == 0)
                (void) peers_send(a->peers, remote_in_use(a->remote), PEER_RELAY, w.bytes, w.size);
}

static void agent_publish(Agent *a) {
        _cleanup_text_ Text text = {};
        char name[32], version[] = PACKAGE_VERSION;
        Machine facts = { .name = name, .address = name, .version = version, .capacity = { 131072, 3200 } };

        snprintf(facts.id, sizeof(facts.id), "%s", a->id);
        snprintf(name, sizeof(name), "herd%zu", a->herd->first + (size_t) (a - a->herd->agents));
        stored_facts_write(&text, &facts);
        agent_write(a, LAYOUT_FACTS, NULL, text.chars);
}

static void herd_learn_pin(Herd *h, const char *machine, const KvNode *node) {
        HostRecord host;
        Error err = {};

        for (size_t i = 0; i < h->n_replicas; i++)
                if (streq(h->replicas[i], machine) &&
                    stored_host_read(node->value.data, node->value.size, &host, &err) >= 0 && host.pins.n > 0)
                        h->has_pin[i] = tls_pin_parse(host.pins.items[host.pins.n - 1], &h->pins[i]) >= 0;
}

static void agent_take(Agent *a, const KvNode *node) {
        LayoutKey key;

        if (!layout_parse(node->key, &key))
                return;
        if (key.kind == LAYOUT_FACTS && streq(key.machine, a->id))
                a->published = true;
        if (key.kind == LAYOUT_HOST)
                herd_learn_pin(a->herd, key.machine, node);
        if (key.kind == LAYOUT_ASSIGNMENT && a->herd->states)
                agent_write(a, LAYOUT_STATE, key.unit,
                            "{\"load\":\"loaded\",\"active\":\"active\",\"sub\":\"running\"}");
}

/* -- Events of the remote store -- */

static void agent_on_event(void *userdata, const KvEvent *event) {
        Agent *a = userdata;
        Herd *h = a->herd;
        size_t size = strlen(h->watched);

        h->n_events++;
        if (size > 0 && !a->seen && event->node.key.size >= size &&
            memcmp(event->node.key.data, h->watched, size) == 0)
                agent_see(a);
        if (event->action == KV_ACTION_SET)
                agent_take(a, &event->node);
}

static void agent_on_reset(void *userdata) {
        Agent *a = userdata;
        const NodeSet *slice = remote_slice(a->remote);

        for (size_t i = 0; i < slice->n; i++)
                agent_take(a, slice->items[i]);
}

static void agent_on_state(void *userdata) {
        Agent *a = userdata;

        if (a->sent_us > 0 && remote_silent_ms(a->remote, remote_in_use(a->remote)) == 0) {
                a->herd->answer_us = MAX(a->herd->answer_us, now_us() - a->sent_us);
                a->sent_us = 0;
        }
        agent_count(a);
}

/* -- The choice of replicas -- */

static void agent_use(Agent *a, size_t choice) {
        a->herd->n_moves++;
        remote_use(a->remote, a->choices[choice].machine);
}

/* The replica in use stays while it answers; otherwise the first one that does, or whose session has just
 * begun. */
static void agent_select(Agent *a) {
        const char *in_use = remote_in_use(a->remote);
        size_t n = a->herd->n_replicas;

        if (in_use[0] && remote_answers(a->remote, in_use, ANSWER_MS))
                return;
        for (size_t i = 0; i < n; i++)
                if (!streq(a->choices[i].machine, in_use) && agent_has(a, i, IDLE_ANSWER_MS)) {
                        agent_use(a, i);
                        return;
                }
        for (size_t i = 0; i < n && !in_use[0]; i++)
                if (peers_dialed(a->peers, a->choices[i].machine)) {
                        agent_use(a, i);
                        return;
                }
}

static void agent_dial(Agent *a) {
        Herd *h = a->herd;
        uint64_t now_ms = loop_now_ms(h->loop);
        PeerAddress addresses[REPLICAS_MAX] = {};
        bool wanted[REPLICAS_MAX] = {}, changed = false;
        size_t n = 0, open = 0;

        for (size_t i = 0; i < h->n_replicas; i++)
                open += peers_dialed(a->peers, a->choices[i].machine) != NULL;
        if (open > 0)
                a->alone_ms = now_ms;
        if (open < 2 && a->idle_from_ms == 0 && remote_is_fresh(a->remote))
                a->idle_from_ms = now_ms + 1 + random_below(loop_random(h->loop), IDLE_JITTER_MS);
        if (open >= 2 || !remote_in_use(a->remote)[0])
                a->idle_from_ms = 0;
        for (size_t i = 0; i < h->n_replicas; i++)
                wanted[i] = peers_dialed(a->peers, a->choices[i].machine) != NULL;
        if (open == 0) {
                wanted[0] = true;
                for (size_t i = 1; i < h->n_replicas; i++)
                        wanted[i] = now_ms - a->alone_ms >= DIAL_MS * i;
        }
        for (size_t i = 0, missing = open == 1; i < h->n_replicas && missing > 0 && a->idle_from_ms > 0; i++)
                if (!wanted[i] && now_ms >= a->idle_from_ms) {
                        wanted[i] = true;
                        missing = now_ms >= a->idle_from_ms + DIAL_MS * (i + 1); /* it cannot be reached */
                }
        for (size_t i = 0; i < h->n_replicas; i++) {
                changed |= wanted[i] != a->dialed[i];
                a->dialed[i] = wanted[i];
                if (!wanted[i])
                        continue;
                for (size_t k = 0; k < h->n_replicas; k++)
                        if (streq(h->replicas[k], a->choices[i].machine))
                                memcpy(addresses[n].address, h->addresses[k], ADDRESS_SIZE);
                memcpy(addresses[n++].machine_id, a->choices[i].machine, MACHINE_ID_SIZE);
        }
        if (changed && peers_set_known(a->peers, addresses, n) < 0)
                fail("addresses", ENOMEM);
}

static void agent_update(Agent *a) {
        agent_select(a);
        agent_dial(a);
        agent_count(a);
}

/* -- Certificates, as a host with a key file gets one -- */

static void agent_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        const Herd *h = ((const Agent *) userdata)->herd;

        for (size_t i = 0; i < h->n_replicas; i++)
                if (h->has_pin[i] && streq(h->replicas[i], machine_id))
                        ret->tls = (TlsKnown) {
                                .state = TLS_KNOWN, .replica = true, .n_pins = 1, .pins = { h->pins[i] }
                        };
}

static void agent_certify(Agent *a) {
        _cleanup_writer_ Writer w = {};
        _cleanup_text_ Text csr = {};
        Error err = {};

        if ((!a->key && tls_private_key_new(&a->key, &err) < 0) || tls_request_create(a->key, &csr, &err) < 0)
                fail(err.message, EINVAL);
        write_u8(&w, RENEWAL_PROTOCOL);
        write_string(&w, csr.chars);
        if (w.error == 0)
                (void) peers_send(a->peers, remote_in_use(a->remote), PEER_RENEW, w.bytes, w.size);
}

static void agent_on_renewed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        _cleanup_enter_answer_ EnterAnswer answer = {};
        Agent *a = userdata;
        Error err = {};

        if (enter_answer_read(payload, size, &answer, &err) < 0 || answer.refusal || a->credentials)
                return; /* it asks again */
        if (tls_credentials_new(a->key, answer.certificate, answer.roots, &a->credentials, &err) < 0)
                fail(err.message, EINVAL);
        a->key = tls_private_key_free(a->key);
        peers_set_credentials(a->peers, a->credentials, true);
}

static const PeerFrameType agent_frames[] = {
        { PEER_RENEWED, agent_on_renewed },
};

/* All its sessions have its certificate. */
static bool agent_is_certified(const Agent *a) {
        size_t n = 0;

        for (size_t i = 0; i < a->herd->n_replicas; i++) {
                const PeerSession *s = peers_dialed(a->peers, a->herd->replicas[i]);

                if (s && s->peer.kind != TLS_PEER_CERTIFICATE)
                        return false;
                n += s != NULL;
        }
        return n > 0;
}

/* A daemon knows the cluster that it has joined. */
static void agent_on_peer(void *userdata, const char *machine_id) {
        Agent *a = userdata;
        const PeerSession *peer = peers_dialed(a->peers, machine_id);

        if (peer && a->self.cluster_id == 0) {
                a->self.cluster_id = peer->handshake.cluster_id;
                peers_set_self(a->peers, &a->self);
        }
        agent_update(a);
}

static void agent_send_heartbeats(Agent *a) {
        const char *in_use = remote_in_use(a->remote);
        _cleanup_writer_ Writer w = {};

        write_u8(&w, 0);
        write_u8(&w, HEARTBEAT_CLOCK);
        write_u64(&w, loop_wall_ms(a->herd->loop));
        write_u8(&w, HEARTBEAT_ATTACHED);
        write_u8(&w, 0);
        if (w.error < 0)
                fail("heartbeat", ENOMEM);
        for (size_t i = 0; i < a->herd->n_replicas; i++) {
                const char *machine = a->choices[i].machine;
                bool used = streq(machine, in_use), rare = remote_current(a->remote)->rare;

                if (a->ticks % (!used ? IDLE_TICKS : rare ? RARE_TICKS : 1) != 0)
                        continue;
                w.bytes[w.size - 1] = !used ? 0 : rare ? ATTACHED_IN_USE | ATTACHED_RARE : ATTACHED_IN_USE;
                if (used)
                        a->sent_us = now_us();
                (void) peers_send(a->peers, machine, PEER_HEARTBEAT, w.bytes, w.size);
        }
}

static void agent_on_tick(void *userdata) {
        Agent *a = userdata;
        uint64_t now_ms = loop_now_ms(a->herd->loop);

        (void) timer_start(&a->tick, a->herd->loop, TICK_MS);
        a->ticks++;
        agent_update(a);
        agent_send_heartbeats(a);
        if (!a->published && now_ms >= a->publish_ms && remote_is_fresh(a->remote)) {
                a->publish_ms = now_ms + PUBLISH_MS;
                agent_publish(a);
        }
        if (a->certify_ms > 0 && !a->credentials && now_ms >= a->certify_ms && remote_is_fresh(a->remote)) {
                a->certify_ms = now_ms + CERTIFY_MS;
                agent_certify(a);
        }
        if (a->credentials && !a->certified && agent_is_certified(a)) {
                a->certified = true;
                peers_set_credentials(a->peers, a->credentials, false);
                a->herd->n_certified++;
                herd_check(a->herd);
        }
}

static void agent_start(Agent *a, Herd *h, size_t i, size_t n_places) {
        const RemoteEvents events = { agent_on_event, agent_on_reset, agent_on_state, a };
        PeersOptions options = {
                .key = h->key, .known = agent_known, .on_change = agent_on_peer, .userdata = a
        };
        Random *random = loop_random(h->loop);

        *a = (Agent) { .herd = h, .tick = TIMER(agent_on_tick, a), .origin = random_u64(random) | 1 };
        place_init(&a->place, h, i, n_places);
        snprintf(a->id, sizeof(a->id), "%032zx", 0x1000000 + h->first + i);
        memcpy(options.self.machine_id, a->id, sizeof(a->id));
        options.self.nonce = random_u64(random);
        options.self.start_number = 1;
        snprintf(options.self.name, sizeof(options.self.name), "herd%zu", h->first + i);
        for (size_t k = 0; k < h->n_replicas; k++)
                a->choices[k] = (ReplicaChoice) { .machine = h->replicas[k],
                                                  .raft_id = k + 1,
                                                  .weight = CHOICE_VOTER };
        choose_replicas(a->id, a->choices, h->n_replicas);
        if (peers_new(&a->peers, h->loop, &a->place.base, &options) < 0 ||
            remote_new(&a->remote, h->loop, a->peers, &events) < 0 ||
            timer_start(&a->tick, h->loop, 1 + random_below(random, TICK_MS)) < 0)
                fail("host", ENOMEM);
        peers_register(a->peers, agent_frames, ELEMENTS(agent_frames), a);
        a->self = options.self;
        a->alone_ms = loop_now_ms(h->loop);
}

/* -- Commands -- */

static void herd_start(Herd *h, uint64_t n, uint64_t n_places) {
        if (!h->agents) {
                h->agents = NEW0(Agent, h->max);
                if (!h->agents)
                        fail("hosts", ENOMEM);
        }
        for (; h->n < MIN(n, h->max); h->n++)
                agent_start(&h->agents[h->n], h, h->n, n_places);
        printf("ok %zu\n", h->n);
}

static void herd_certify(Herd *h, uint64_t n, uint64_t seconds) {
        uint64_t now_ms = loop_now_ms(h->loop);

        for (size_t i = 0; i < h->n; i++)
                h->agents[i].certify_ms = now_ms + 1 + i * 1000 / CERTIFY_RATE;
        herd_wait(h, WAITS_CERTIFIED, n, seconds);
}

static uint64_t processor_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

static void herd_count(Herd *h) {
        size_t sessions = 0;
        struct rusage usage;

        for (size_t i = 0; i < h->n; i++)
                for (size_t k = 0; k < h->n_replicas; k++)
                        sessions += peers_dialed(h->agents[i].peers, h->replicas[k]) != NULL;
        getrusage(RUSAGE_SELF, &usage);
        printf("%zu %zu %zu %zu %zu %ld %llu\n", h->n_fresh, h->n_both, sessions, h->n_events, h->n_moves,
               usage.ru_maxrss * 1024, (unsigned long long) processor_us());
}

static void herd_mark(Herd *h) {
        h->mark_ms = loop_now_ms(h->loop);
        h->n_had_both = 0;
        for (size_t i = 0; i < h->n; i++) {
                h->agents[i].had_both = false;
                agent_count(&h->agents[i]);
        }
        printf("ok\n");
}

/* -- Hosts that stand still -- */

/* The time at which the kernel received the last bytes on the session in use; 0: there is none. */
static uint64_t agent_received_us(const Agent *a) {
        PeerSession *session = peers_dialed(a->peers, remote_in_use(a->remote));
        Stream *stream = session ? session->stream : NULL;
        struct tcp_info info;
        socklen_t size = sizeof(info);
        int fd;

        while (stream && stream->inner)
                stream = stream->inner;
        if (!stream || uv_fileno(&container_of(stream, UvStream, base)->uv.handle, &fd) < 0 ||
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
                return 0;
        return now_us() - (uint64_t) info.tcpi_last_data_recv * 1000;
}

static int compare_times(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

static void herd_arrived(Herd *h, uint64_t since_us) {
        _cleanup_free_ uint64_t *times = NEW0(uint64_t, h->n + 1);
        size_t n = 0;

        if (!times)
                fail("times", ENOMEM);
        for (size_t i = 0; i < h->n; i++) {
                times[n] = agent_received_us(&h->agents[i]);
                n += times[n] > since_us;
        }
        qsort(times, n, sizeof(*times), compare_times);
        printf("%llu %llu %llu %zu\n", (unsigned long long) times[0], (unsigned long long) times[n / 2],
               (unsigned long long) times[n > 0 ? n - 1 : 0], n);
}

/* The next command, without a turn of the loop. Timers that are due meanwhile fire after it. */
static void herd_stand(Herd *h) {
        char line[LINE_MAX_SIZE] = "";
        unsigned long long since_us = 0;

        printf("ok\n");
        fflush(stdout);
        (void) fcntl(STDIN_FILENO, F_SETFL, 0);
        if (read(STDIN_FILENO, line, sizeof(line) - 1) < 0)
                fail("standard input", errno);
        (void) fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
        if (sscanf(line, "arrived %llu", &since_us) != 1)
                fail(line, EINVAL);
        herd_arrived(h, since_us);
}

static void herd_watch(Herd *h, const char *prefix) {
        snprintf(h->watched, sizeof(h->watched), "%s", prefix);
        h->n_seen = 0;
        for (size_t i = 0; i < h->n; i++)
                h->agents[i].seen = false;
        printf("ok\n");
}

static void herd_execute(Herd *h, char *line) {
        char a[LINE_MAX_SIZE] = "", b[LINE_MAX_SIZE] = "";
        unsigned long long n = 0, k = 0, first = 0;

        if (sscanf(line, "replica %32s %63s", a, b) == 2 && h->n_replicas < REPLICAS_MAX) {
                snprintf(h->replicas[h->n_replicas], MACHINE_ID_SIZE, "%.*s", MACHINE_ID_SIZE - 1, a);
                snprintf(h->addresses[h->n_replicas++], ADDRESS_SIZE, "%.*s", ADDRESS_SIZE - 1, b);
                printf("ok\n");
        } else if (sscanf(line, "start %llu %llu %llu", &n, &k, &first) == 3 && k <= NAMESPACES_MAX) {
                h->first = first;
                herd_start(h, n, k);
        } else if (sscanf(line, "wait use %llu %llu", &n, &k) == 2)
                herd_wait(h, WAITS_USE, n, k);
        else if (sscanf(line, "wait both %llu %llu", &n, &k) == 2)
                herd_wait(h, WAITS_BOTH, n, k);
        else if (sscanf(line, "certify %llu %llu", &n, &k) == 2)
                herd_certify(h, n, k);
        else if (sscanf(line, "seen %llu %llu", &n, &k) == 2)
                herd_wait(h, WAITS_SEEN, n, k);
        else if (sscanf(line, "watch %255s", a) == 1)
                herd_watch(h, a);
        else if (streq(line, "count"))
                herd_count(h);
        else if (streq(line, "mark"))
                herd_mark(h);
        else if (streq(line, "stand"))
                herd_stand(h);
        else if (streq(line, "answers")) {
                printf("%llu\n", (unsigned long long) h->answer_us);
                h->answer_us = 0;
        } else
                fail(line, EINVAL);
        fflush(stdout);
}

static int input_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        *fd = STDIN_FILENO;
        *events = 1; /* POLLIN */
        *timeout_ms = UINT64_MAX;
        return 0;
}

static int input_work(void *lib) {
        Herd *h = lib;
        ssize_t n = read(STDIN_FILENO, h->line + h->line_size, sizeof(h->line) - 1 - h->line_size);
        char *end;

        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
                _exit(0); /* the sessions end with the process */
        h->line_size += (size_t) n;
        while ((end = memchr(h->line, '\n', h->line_size))) {
                *end = 0;
                herd_execute(h, h->line);
                h->line_size -= (size_t) (end + 1 - h->line);
                memmove(h->line, end + 1, h->line_size);
        }
        return 1;
}

static void input_broken(void *lib, int error) {
        fail("standard input", error);
}

static const GuestOps input_ops = { input_wants, input_work, input_broken, "commands" };

int main(int argc, char **argv) {
        Herd *h = NEW0(Herd, 1);
        struct rlimit limit;
        Error err = {};

        if (!h || argc < 3 || argc > 4) {
                fprintf(stderr, "usage: herd KEY-FILE HOSTS [--states]\n");
                return 2;
        }
        h->max = strtoul(argv[2], NULL, 10);
        h->states = argc == 4 && streq(argv[3], "--states");
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                fail("limit of descriptors", errno);
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
        log_set_max_priority(LOG_ERR);
        h->due = TIMER(herd_on_due, h);
        h->own_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (tls_key_read(argv[1], &h->key, &err) < 0) {
                fprintf(stderr, "herd: %s\n", err.message);
                return 1;
        }
        if (loop_uv_new(&h->uv) < 0)
                fail("loop", ENOMEM);
        h->loop = loop_uv_base(h->uv);
        (void) fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
        if (net_uv_new(&h->network, h->loop) < 0 || guest_open(&h->input, h->uv, &input_ops, h) < 0)
                fail("network", ENOMEM);
        return loop_uv_run(h->uv) < 0;
}
