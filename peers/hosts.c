/* The hosts and the addresses that we know, and who is told when something about them changes. */
#include "peers/peers_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/sizes.h"

enum { REDIAL_MS = 20 /* at once, but not all hosts in the same moment */, CLONE_SHOWN_MS = 60000 };

/* -- Hosts -- */

Host *host_find(const Peers *peers, const char *machine_id) {
        Host *host;

        HASH_FIND_STR(peers->hosts, machine_id, host);
        return host;
}

void host_changed(Host *host) {
        Peers *peers = host->peers;

        if (host->changed || peers->closing)
                return;
        TAILQ_INSERT_TAIL(&peers->changed, host, changes);
        host->changed = true;
        loop_defer(peers->loop, &peers->tell);
}

void host_on_contact(Host *host, uint64_t when_ms) {
        host->contact_ms = MAX(host->contact_ms, when_ms);
}

void host_unindex(Host *host) {
        host->index_again = false;
        if (!host->hh_raft.tbl)
                return;
        HASH_DELETE(hh_raft, host->peers->by_raft, host);
        host->hh_raft.tbl = NULL;
}

/* Finds a host by Raft id while we have a session to it: the id is what that session's hello says. */
void host_index(Host *host) {
        Host *other;

        host_unindex(host);
        if (!host->dialed || host->hello.raft_id == 0)
                return;
        HASH_FIND(hh_raft, host->peers->by_raft, &host->hello.raft_id, sizeof(uint64_t), other);
        if (other)
                host_unindex(other); /* an old image of a host that has joined anew: the later one is it */
        HASH_ADD(hh_raft, host->peers->by_raft, hello.raft_id, sizeof(uint64_t), host);
        host->index_again = !host->hh_raft.tbl;
}

void peer_host_free(Host *host) {
        Peers *peers = host->peers;

        assert(!host->dialed && !host->accepted && !host->judged && host->n_known == 0);
        timer_stop(&host->verdict);
        host_unindex(host);
        if (host->changed)
                TAILQ_REMOVE(&peers->changed, host, changes);
        HASH_DEL(peers->hosts, host);
        free(host);
}

int host_get(Peers *peers, const char *machine_id, Host **ret) {
        uint64_t now_ms = loop_now_ms(peers->loop);
        Host *host = host_find(peers, machine_id);

        if (!host) {
                host = NEW0(Host, 1);
                if (!host)
                        return -ENOMEM;
                host->peers = peers;
                host->contact_ms = now_ms;
                memcpy(host->machine_id, machine_id, sizeof(host->machine_id));
                memcpy(host->hello.machine_id, machine_id, sizeof(host->machine_id));
                HASH_ADD_STR(peers->hosts, machine_id, host);
                if (!TABLE_ADDED(host)) {
                        free(host);
                        return -ENOMEM;
                }
                if (!timer_armed(&peers->tick))
                        (void) timer_start(&peers->tick, peers->loop, PEERS_TICK_MS);
        }

        host->used_ms = now_ms;
        *ret = host;
        return 0;
}

const char *handshake_name(const PeerHandshake *hello) {
        return *hello->name ? hello->name : hello->machine_id;
}

/* A clone was refused: 'host' is the one whose id it bears. */
void host_clone_refused(Host *host) {
        host->clone_ms = loop_now_ms(host->peers->loop);
        host_changed(host);
}

/* -- Who is told -- */

/* Observers come and go while they are being told: whoever leaves is stepped over by all walks that stand on
 * it. */
typedef struct ObserverWalk {
        PeerObserver *next;
        struct ObserverWalk *outer;
} ObserverWalk;

void peers_notify_observers(Peers *peers, const char *machine_id, PeerSession *ended) {
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

void peers_notify(void *userdata) {
        Peers *peers = userdata;

        while (!TAILQ_EMPTY(&peers->changed) && !peers->closing) {
                Host *host = TAILQ_FIRST(&peers->changed);
                char machine_id[MACHINE_ID_SIZE];

                memcpy(machine_id, host->machine_id, sizeof(machine_id));
                TAILQ_REMOVE(&peers->changed, host, changes);
                host->changed = false;
                if (peers->options.on_change)
                        peers->options.on_change(peers->options.userdata, machine_id);
                peers_notify_observers(peers, machine_id, NULL);
        }
}

/* -- Addresses -- */

void known_set_host(Known *k, Host *host) {
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
void known_complain(Known *k, unsigned cause, const char *sentence) {
        snprintf(k->problem, sizeof(k->problem), "%s", sentence);
        if (k->host)
                snprintf(k->host->problem, sizeof(k->host->problem), "%s", sentence);
        if (k->complained & (1u << cause))
                return;

        k->complained |= 1u << cause;
        log_warning(((LogFields) { .machine = k->host ? k->host->machine_id : NULL }), "no session to %s: %s",
                    k->address, sentence);
}

void known_wait(Known *k, uint64_t delay_ms) {
        Peers *peers = k->peers;

        if (peers->closing || k->ourselves)
                return;
        if (timer_start(&k->timer, peers->loop, delay_ms) < 0)
                log_error(NO_FIELDS, "no memory to dial %s again", k->address);
}

void known_retry(Known *k) {
        uint64_t half_ms = k->backoff_ms / 2;

        known_wait(k, half_ms + random_below(loop_random(k->peers->loop), half_ms + 1));
        k->backoff_ms = MIN(k->backoff_ms * 2, (uint64_t) PEERS_BACKOFF_MAX_MS);
}

void known_redial(Known *k) {
        if (!k->connecting && !k->session)
                known_wait(k, random_below(loop_random(k->peers->loop), REDIAL_MS + 1));
}

/* -- What is known -- */

static void host_state(const Host *host, PeerState *ret) {
        uint64_t now_ms = loop_now_ms(host->peers->loop);
        uint64_t dialed = host->dialed ? session_silent_ms(host->dialed) : UINT64_MAX;
        uint64_t accepted = host->accepted ? session_silent_ms(host->accepted) : UINT64_MAX;
        uint64_t silent_ms = MIN(now_ms - MIN(host->contact_ms, now_ms), MIN(dialed, accepted));

        /* A host that hangs does not answer the handshake, but its kernel answers. */
        for (const Known *k = !host->dialed && !host->accepted && host->n_known > 0 ? host->peers->known :
                                                                                      NULL;
             k; k = k->hh.next)
                if (k->host == host && k->session)
                        silent_ms = MIN(silent_ms, session_silent_ms(k->session));
        *ret = (PeerState) {
                .hello = host->hello,
                .dialed = host->dialed != NULL,
                .accepted = host->accepted != NULL,
                .kernel_silent_ms = silent_ms,
                .clone_refused = host->clone_ms > 0 && now_ms - host->clone_ms < CLONE_SHOWN_MS,
        };
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
