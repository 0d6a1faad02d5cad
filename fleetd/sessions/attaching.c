/* Attached hosts: a host without a replica that works uses that of another one, by the session in use, and
 * keeps an idle session to a second one, to which it moves over. */

#include "fleetd/sessions/choosing.h"
#include "fleetd/sessions/membership_internal.h"
#include "units/singleton.h"

enum {
        ANSWER_MS = 1500,      /* of the replica in use: answers are due each second */
        IDLE_ANSWER_MS = 2400, /* of the other one: each 2 s, and less than a tick later */
        MOVE_PAUSE_MS = 2000,  /* between two moves, except after a closed session */
        BETTER_MIN_MS =
                60000, /* until a host returns to its first replica, with a jitter of ten times as much */
        CANDIDATES_MAX = 64,
        LATER_MS = 250,    /* a replica without a leader is left for one whose last known contact with a
                            * leader is at least so much later */
        FAILED_LEASES = 5, /* of the time of a lease: a replica has not worked */
        BEHIND_MS = 2000,  /* a replica answers, and has not sent the slice: the pause between two moves */
        IDLE_JITTER_MS = 30000, /* until the second session is dialed, or dialed again */
        DIAL_MS = 2000,         /* for a session to a replica, until it is the turn of another one */
        REST_MS = 10000,        /* until its next turn */
        ALONE_MS = 20000,       /* without a session, until all addresses that are known are dialed */
};

typedef struct Candidates {
        Membership *membership;
        ReplicaChoice items[CANDIDATES_MAX];
        char machines[CANDIDATES_MAX][MACHINE_ID_SIZE];
        size_t n;
        bool known; /* by the slice: with their roles */
} Candidates;

static unsigned candidate_weight(const KvState *state, uint64_t raft_id) {
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == raft_id)
                        return state->members[i].role == KV_MEMBER_STANDBY ? CHOICE_STANDBY : CHOICE_VOTER;
        return 0;
}

static void candidates_add(Candidates *c, const char *machine, uint64_t raft_id, unsigned weight,
                           const char *place) {
        for (size_t i = 0; i < c->n; i++)
                if (streq(c->machines[i], machine))
                        return;
        if (c->n == CANDIDATES_MAX)
                return;
        snprintf(c->machines[c->n], MACHINE_ID_SIZE, "%s", machine);
        c->items[c->n] = (ReplicaChoice) {
                .machine = c->machines[c->n], .raft_id = raft_id, .weight = weight, .place = place
        };
        c->n++;
}

static void candidates_add_peer(void *userdata, const PeerState *peer) {
        if (peer->dialed && peer->handshake.raft_id != 0)
                candidates_add(userdata, peer->handshake.machine_id, peer->handshake.raft_id, CHOICE_VOTER,
                               NULL);
}

/* The replicas of the slice, in the order of this host; before the first slice, those to which a session is
 * open. */
static void candidates_find(Membership *m, const KvState *state, Candidates *ret) {
        const Cluster *c = registry_cluster(m->registry);
        const char *spread = cluster_settings(c)->spread;

        ret->n = 0;
        for (const ClusterMachine *machine = LIST_FIRST(&c->members); machine;
             machine = LIST_NEXT(machine, of_members))
                if (machine->member.peer[0] && candidate_weight(state, machine->member.raft_id) > 0)
                        candidates_add(ret, machine->id, machine->member.raft_id,
                                       candidate_weight(state, machine->member.raft_id),
                                       pairs_get(&machine->metadata, spread));
        ret->known = ret->n > 0;
        if (ret->n == 0)
                peers_each(m->peers, candidates_add_peer, ret);
        choose_replicas(m->machine_id, ret->items, ret->n);
}

/* What a session has to be. */
typedef enum CandidateNeed {
        NEED_SESSION, /* open */
        NEED_ANSWER,  /* answered recently, or new */
        NEED_LEADER,  /* the same, and its replica has contact with a leader */
} CandidateNeed;

static bool candidate_has(const Membership *m, const char *machine, CandidateNeed need) {
        uint64_t silent_ms;

        switch (need) {
        case NEED_LEADER:
                return kv_replica_answers(m->store, machine, IDLE_ANSWER_MS);
        case NEED_ANSWER:
                silent_ms = kv_replica_silent_ms(m->store, machine);
                return silent_ms < IDLE_ANSWER_MS || silent_ms == UINT64_MAX;
        default:
                return true;
        }
}

/* Return the first candidate with such a session, or NULL; not 'than'. */
static const char *candidates_pick(const Membership *m, const Candidates *c, CandidateNeed need,
                                   const char *than) {
        for (size_t i = 0; i < c->n; i++)
                if (peers_dialed(m->peers, c->items[i].machine) && !streq(c->items[i].machine, than) &&
                    candidate_has(m, c->items[i].machine, need))
                        return c->items[i].machine;
        return NULL;
}

/* -- The sessions that this host dials: two, when the replicas are known -- */

static DialedReplica *attaching_dialed(Attaching *a, const char *machine) {
        DialedReplica *oldest = &a->dialed[0];

        for (size_t i = 0; i < ELEMENTS(a->dialed); i++) {
                if (streq(a->dialed[i].machine, machine))
                        return &a->dialed[i];
                if (!a->dialed[i].wanted && (oldest->wanted || a->dialed[i].since_ms < oldest->since_ms))
                        oldest = &a->dialed[i];
        }
        *oldest = (DialedReplica) {};
        snprintf(oldest->machine, sizeof(oldest->machine), "%s", machine);
        return oldest;
}

/* Return whether to dial a replica now: it has its turn for some time, and then others do. */
static bool attaching_has_turn(Membership *m, const char *machine) {
        DialedReplica *d = attaching_dialed(&m->attaching, machine);
        uint64_t now_ms = loop_now_ms(m->loop);

        if (now_ms < d->rest_until_ms)
                return false;
        if (!d->wanted || peers_dialed(m->peers, machine) || d->since_ms == 0)
                d->since_ms = now_ms;
        if (now_ms - d->since_ms < DIAL_MS)
                return true;
        d->rest_until_ms = now_ms + REST_MS;
        d->since_ms = 0;
        return false;
}

typedef struct Wanted {
        const char *machines[DIALED_REPLICAS_MAX];
        size_t n;
} Wanted;

static void wanted_add(Wanted *w, const char *machine) {
        for (size_t i = 0; i < w->n; i++)
                if (streq(w->machines[i], machine))
                        return;
        if (w->n < ELEMENTS(w->machines))
                w->machines[w->n++] = machine;
}

/* Whether a second session may be dialed: at once while the session in use does not answer. */
static bool attaching_wants_idle(Membership *m, const KvState *state, bool other_open) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);

        if (other_open || !a->in_use[0] || !kv_replica_answers(m->store, a->in_use, ANSWER_MS)) {
                a->idle_from_ms = 0;
                return true;
        }
        if (a->idle_from_ms == 0 && state->ready)
                a->idle_from_ms = now_ms + 1 + random_below(loop_random(m->loop), IDLE_JITTER_MS);
        return a->idle_from_ms > 0 && now_ms >= a->idle_from_ms;
}

/* A change of the first two replicas is followed later, not by all hosts at once. */
static bool attaching_is_better_due(Membership *m, const Candidates *c, bool other_open) {
        Attaching *a = &m->attaching;
        const char *second = c->n > 1 ? c->items[1].machine : "";
        uint64_t now_ms = loop_now_ms(m->loop);

        if (!streq(a->first, c->items[0].machine) || !streq(a->second, second)) {
                if (a->first[0])
                        a->better_ms = now_ms + BETTER_MIN_MS +
                                       random_below(loop_random(m->loop), 9 * BETTER_MIN_MS);
                snprintf(a->first, sizeof(a->first), "%s", c->items[0].machine);
                snprintf(a->second, sizeof(a->second), "%s", second);
        }
        return now_ms >= a->better_ms && other_open && a->in_use[0] && peers_dialed(m->peers, a->in_use);
}

/* Whether no open session answers. The kernel ends one whose network was cut after 10 s only: the host would
 * be lost before. */
static bool attaching_all_silent(const Membership *m, const Wanted *w) {
        for (size_t i = 0; i < w->n; i++)
                if (kv_replica_silent_ms(m->store, w->machines[i]) <
                    (attaching_uses(m, w->machines[i]) ? ANSWER_MS : IDLE_ANSWER_MS))
                        return false;
        return w->n > 0;
}

/* The session in use, and the best other one that is open, if possible one that has answered; otherwise those
 * whose turn it is, two at a time. */
static void attaching_want(Membership *m, const KvState *state, const Candidates *c, Wanted *ret) {
        const Attaching *a = &m->attaching;
        bool open = a->in_use[0] && peers_dialed(m->peers, a->in_use), other_open;
        size_t max;

        if (open)
                wanted_add(ret, a->in_use);
        for (size_t i = 0; i < 2 * c->n && ret->n < 2; i++) { /* twice: first those that have answered */
                const char *machine = c->items[i % c->n].machine;

                if (peers_dialed(m->peers, machine) && (i >= c->n || !attaching_is_unanswered(m, machine)))
                        wanted_add(ret, machine);
        }
        other_open = ret->n > open;
        if (attaching_is_better_due(m, c, other_open))
                for (size_t i = 0; i < MIN(c->n, (size_t) 2); i++)
                        if (peers_dialed(m->peers, c->items[i].machine) ||
                            attaching_has_turn(m, c->items[i].machine))
                                wanted_add(ret, c->items[i].machine);
        max = attaching_wants_idle(m, state, other_open) ? 2 : 1;
        if (attaching_all_silent(m, ret)) /* their replicas may have paused: they stay open */
                max = ret->n + 2;
        for (size_t i = 0; i < c->n && ret->n < max; i++)
                if (attaching_has_turn(m, c->items[i].machine))
                        wanted_add(ret, c->items[i].machine);
        for (size_t i = 0; i < c->n && ret->n == 0; i++) /* all rest: begin again */
                attaching_dialed(&m->attaching, c->items[i].machine)->rest_until_ms = 0;
}

static void attaching_dial(Membership *m, const KvState *state, const Candidates *c) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);
        Wanted w = {};
        bool limited, changed;

        if (!c->known || candidates_pick(m, c, NEED_SESSION, ""))
                a->alone_ms = now_ms;
        limited = state->attached && state->raft_id == 0 && c->known && now_ms - a->alone_ms < ALONE_MS;
        changed = limited != a->limited;

        if (limited)
                attaching_want(m, state, c, &w);
        for (size_t i = 0; i < w.n; i++)
                (void) attaching_dialed(a, w.machines[i]);
        for (size_t i = 0; i < ELEMENTS(a->dialed); i++) {
                bool wanted = false;

                for (size_t k = 0; k < w.n; k++)
                        wanted |= streq(a->dialed[i].machine, w.machines[k]);
                changed |= wanted != a->dialed[i].wanted;
                a->dialed[i].wanted = wanted;
        }
        a->limited = limited;
        if (changed)
                dialing_update_later(m);
}

/* -- The replica in use -- */

static void attaching_use(Membership *m, const char *machine) {
        Attaching *a = &m->attaching;

        if (machine && !streq(machine, a->in_use)) {
                a->moves = true;
                a->moved_ms = loop_now_ms(m->loop);
                if (!streq(machine, a->first)) /* else the better second one is due as well */
                        a->better_ms = a->moved_ms + BETTER_MIN_MS +
                                       random_below(loop_random(m->loop), 9 * BETTER_MIN_MS);
        }
        if (machine != a->in_use)
                snprintf(a->in_use, sizeof(a->in_use), "%s", machine ?: "");
        kv_attach(m->store, machine);
}

/* The same, and the other one is not known to have had one since: its last answer may be older. If the leader
 * is gone, the replica in use has what this host has seen, and another one may not. */
static bool attaching_is_as_good(const Membership *m, const char *other) {
        return attaching_is_leaderless(m) && kv_replica_leader_ms(m->store, other) + LATER_MS >
                                                     kv_replica_leader_ms(m->store, m->attaching.in_use);
}

/* Ask the other replica at once whether it has a leader, not with its next heartbeat. */
static void attaching_ask(Membership *m, const KvState *state) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);

        if (!attaching_asks(m) || now_ms - a->asked_ms < LIVENESS_TICK_MS)
                return;
        a->asked_ms = now_ms;
        heartbeats_send(m, state);
}

/* Choose the replica to use: it stays while it answers, and sends the slice. */
static void attaching_select(Membership *m, const KvState *state, const Candidates *c) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);
        bool answers = a->in_use[0] && kv_replica_answers(m->store, a->in_use, ANSWER_MS),
             silent = !a->in_use[0] || kv_replica_silent_ms(m->store, a->in_use) >= ANSWER_MS;
        const char *other;

        if (state->ready)
                a->ready_ms = now_ms;
        if (!a->in_use[0] || !peers_dialed(m->peers, a->in_use)) {
                attaching_use(m, candidates_pick(m, c, NEED_LEADER, "") ?:
                                         candidates_pick(m, c, NEED_ANSWER, ""));
                return;
        }
        other = candidates_pick(m, c, NEED_LEADER, a->in_use);
        if (other && !answers && !silent && attaching_is_as_good(m, other))
                other = NULL;
        if (!other && silent) /* one that was dialed just now; without a leader, this one is as good */
                other = candidates_pick(m, c, NEED_ANSWER, a->in_use);
        if (other && now_ms - a->moved_ms >= MOVE_PAUSE_MS &&
            (!answers || now_ms - MAX(a->ready_ms, a->moved_ms) >= BEHIND_MS ||
             (now_ms >= a->better_ms && streq(other, c->items[0].machine))))
                attaching_use(m, other);
        else
                attaching_use(m, a->in_use); /* its session may be another one */
}

/* Choose again when the replica in use is silent for too long, or when another move is allowed, not at the
 * next tick. An answer in time starts the timer again: it does not fire on a host that is idle. */
static void attaching_wait(Membership *m, const KvState *state) {
        const Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop), next_ms = UINT64_MAX,
                 silent_ms = a->in_use[0] ? kv_replica_silent_ms(m->store, a->in_use) : UINT64_MAX;
        const uint64_t due_ms[] = {
                silent_ms != UINT64_MAX ? now_ms - silent_ms + ANSWER_MS : 0,
                state->ready ? 0 : MAX(a->ready_ms, a->moved_ms) + BEHIND_MS,
                a->moved_ms + MOVE_PAUSE_MS,
        };

        for (size_t i = 0; i < ELEMENTS(due_ms); i++)
                if (due_ms[i] > now_ms)
                        next_ms = MIN(next_ms, due_ms[i]);
        if (next_ms == UINT64_MAX)
                timer_stop(&m->move);
        else
                (void) timer_start(&m->move, m->loop, next_ms - now_ms);
}

/* Return how long a replica may fail before another one is used: short enough that this host renews its lease
 * of singletons, and OnPartition=stop stops nothing. In a new process, the former one has used up some of
 * that time already: 0 if the replica does not begin to work. */
static uint64_t attaching_patience_ms(const Membership *m, const KvState *state) {
        if (!m->attaching.worked && (state->stopped || state->lost))
                return 0;
        return singleton_lease_ms(cluster_settings(registry_cluster(m->registry))->singleton_lease_ms) /
               FAILED_LEASES;
}

/* Whether the replica of this host, if it has one, does not work. A cluster of old programs does not serve
 * other hosts: the answer to a request to join says so. */
static bool attaching_is_due(Membership *m, const KvState *state) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop), due_ms;

        timer_stop(&m->move);
        if (state->attached)
                return true;
        if (state->raft_id == 0 && (m->joining.attach || state->cluster_id == 0))
                return m->joining.attach;
        if ((state->level < KV_LEVEL_ATTACHED && state->index > 0) ||
            (!state->stopped && !state->lost && state->n_members > 0)) {
                a->failed_ms = 0;
                a->worked = true;
                return false;
        }
        if (a->failed_ms == 0)
                a->failed_ms = now_ms;
        due_ms = a->failed_ms + attaching_patience_ms(m, state);
        if (now_ms >= due_ms)
                return true;
        (void) timer_start(&m->move, m->loop, due_ms - now_ms);
        return false;
}

void attaching_update(Membership *m, const KvState *state) {
        Attaching *a = &m->attaching;
        Candidates c = {};

        a->active = attaching_is_due(m, state);
        if (!a->active) {
                if (a->limited)
                        dialing_update_later(m);
                *a = (Attaching) { .failed_ms = a->failed_ms, .worked = a->worked };
                kv_attach_no_more(m->store);
                return;
        }
        candidates_find(m, state, &c);
        if (c.n > 0 || state->attached)
                attaching_select(m, state, &c);
        attaching_dial(m, state, &c);
        attaching_wait(m, state);
        if (a->moves) { /* its replica reports it at once */
                heartbeats_send(m, state);
                a->moves = false;
        }
}

void attaching_state_changed(Membership *m, const KvState *state) {
        Attaching *a = &m->attaching;
        uint64_t silent_ms = a->in_use[0] ? kv_replica_silent_ms(m->store, a->in_use) : UINT64_MAX,
                 answered_ms;

        if (silent_ms == UINT64_MAX)
                return;
        answered_ms = loop_now_ms(m->loop) - silent_ms;
        if (answered_ms == a->answered_ms && !attaching_is_leaderless(m))
                return;
        a->answered_ms = answered_ms;
        attaching_update(m, state);
        attaching_ask(m, state);
}

static void attaching_on_move(void *userdata) {
        Membership *m = userdata;
        KvState state;

        kv_state(m->store, &state);
        attaching_update(m, &state);
}

void attaching_init(Membership *m) {
        m->move = TIMER(attaching_on_move, m);
}
