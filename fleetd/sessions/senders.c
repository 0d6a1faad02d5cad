/* What this host knows of others by their heartbeats and sessions: their signs of life, and, while it leads,
 * their problems and clocks, from heartbeats, or as a replica reports them (conditions.c). */

#include "fleetd/sessions/membership_internal.h"

/* A connection counts as alive while its TCP keep-alives of 1 s are answered. */
enum { KERNEL_SILENT_MS = 1500 };

/* A heartbeat is due each 500 ms. */
enum { CONTACT_MS = 1000 };

/* Differences of clocks beyond this one are not added. */
#define HEARTBEAT_CLOCK_MAX (INT64_MAX / 4)

/* A replica reports the rejection of a key until its own tree has the changed record of the host. */
enum { RECORD_LAG_MS = 5000 };

/* The leader sends the cluster key to a member that lacks it, or has that of a former cluster, as soon as the
 * member reports that. */
enum { KEY_SENT_MS = 5000 };

/* The end of a log is unknown after so long without a heartbeat: its host may have a leader again. */
enum { POSITION_MAX_MS = 2000 };

/* A difference above the first begins a condition, one below the second ends it, and another difference is
 * reported again from the third on: the condition is a replicated write. */
enum { CLOCK_BEGIN_MS = 30 * 1000, CLOCK_END_MS = 20 * 1000, CLOCK_AGAIN_MS = 60 * 1000 };

/* A host that has sent a heartbeat since this host leads. */
typedef struct Sender {
        Named machine;
        bool heartbeat; /* since the last tick */
        bool attached;  /* it has no replica: reports have its signs */
        uint64_t at_ms; /* when its last heartbeat, or the last report of it, arrived; 0: not lately */
        Verdict problem;
        uint64_t keyless_ms; /* when the host first reported that it lacks the cluster key; 0: it has it */
        bool has_clock;      /* the last heartbeat had it */
        int64_t clock_ms;    /* its wall clock minus that of this host */
        int64_t reported_ms; /* the difference that counts, as of the last tick; 0: none */
        uint8_t rejected;    /* as a replica has reported it at 'rejected_ms' */
        uint64_t rejected_ms;
        uint64_t host_index; /* of the host's record at its last rejection, or later */
        uint64_t changed_ms; /* when that record changed; 0: not since the first rejection */
} Sender;

/* The end of the log of another host. */
typedef struct Position {
        Named machine;
        uint64_t term, index;
        uint64_t at_ms; /* when its heartbeat arrived */
} Position;

/* Keep the end of the sender's log, or forget it if the heartbeat has none. */
static void senders_note_position(Membership *m, const char *id, const HeartbeatFacts *f) {
        Position *p;

        if (!f->has_position) {
                named_remove(&m->senders.positions, id);
                return;
        }
        p = named_get(&m->senders.positions, id, sizeof(Position));
        if (!p)
                return;
        p->term = f->term;
        p->index = f->index;
        p->at_ms = loop_now_ms(m->loop);
}

bool membership_position(const Membership *m, const char *machine_id, uint64_t *ret_term,
                         uint64_t *ret_index) {
        const Position *p = named_find(m->senders.positions, machine_id);

        if (!p || loop_now_ms(m->loop) - p->at_ms > POSITION_MAX_MS)
                return false;
        *ret_term = p->term;
        *ret_index = p->index;
        return true;
}

void senders_take(Membership *m, const char *machine_id, const HeartbeatFacts *facts) {
        Sender *s;

        senders_note_position(m, machine_id, facts);
        /* An attached host that is normal needs no entry. */
        s = facts->attached ? named_find(m->senders.hosts, machine_id) :
                              named_get(&m->senders.hosts, machine_id, sizeof(Sender));
        if (!s)
                return;
        s->heartbeat = true;
        s->attached = facts->attached;
        s->at_ms = loop_now_ms(m->loop);
        s->has_clock = facts->has_clock;
        s->clock_ms = facts->clock_ms;
        s->problem = facts->problem;
        if (s->problem.code != VERDICT_KEY_MISSING && s->problem.code != VERDICT_KEY_DAMAGED)
                s->keyless_ms = 0;
        else if (s->keyless_ms == 0)
                s->keyless_ms = s->at_ms;
}

/* A change of the record of a host ends the report of another key, see revocation.c: the host may have been
 * admitted with it. */
static void senders_check_record(Membership *m, Sender *s, const ClusterMachine *machine) {
        if (s->host_index == machine->host_index)
                return;
        if (s->host_index > 0) {
                s->changed_ms = loop_now_ms(m->loop);
                s->rejected &= (uint8_t) ~CONDITION_KEY;
        }
        s->host_index = machine->host_index;
}

static void senders_take_rejection(Membership *m, Sender *s, const ClusterMachine *machine, uint8_t flags) {
        uint64_t now_ms = loop_now_ms(m->loop);

        senders_check_record(m, s, machine);
        if (s->changed_ms > 0 && now_ms - s->changed_ms < RECORD_LAG_MS)
                flags &= (uint8_t) ~CONDITION_KEY;
        if (!(flags & (CONDITION_CLONE | CONDITION_KEY)))
                return;
        s->rejected = flags;
        s->rejected_ms = now_ms;
}

void senders_take_condition(Membership *m, const HostCondition *c, int64_t replica_ms) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), c->machine);
        uint64_t now_ms = loop_now_ms(m->loop);
        Sender *s;

        if (!machine)
                return;
        s = named_get(&m->senders.hosts, c->machine, sizeof(Sender));
        if (!s)
                return;
        if (s->at_ms == 0)
                s->attached = true;
        if (c->flags & (CONDITION_CLONE | CONDITION_KEY))
                senders_take_rejection(m, s, machine, c->flags);
        if (!(c->flags & CONDITION_IN_USE) || !s->attached)
                return;
        s->at_ms = now_ms;
        s->has_clock = c->clock_ms > -HEARTBEAT_CLOCK_MAX && c->clock_ms < HEARTBEAT_CLOCK_MAX;
        s->clock_ms = s->has_clock ? c->clock_ms + replica_ms : 0;
        s->problem = c->problem;
}

/* A difference counts from CLOCK_BEGIN_MS on, and until it is below CLOCK_END_MS. The reported one changes by
 * more than CLOCK_AGAIN_MS. */
static void senders_judge_clock(Sender *s) {
        int64_t limit_ms = s->reported_ms != 0 ? CLOCK_END_MS : CLOCK_BEGIN_MS;
        int64_t changed_ms = s->clock_ms - s->reported_ms;

        if (s->clock_ms <= limit_ms && s->clock_ms >= -limit_ms)
                s->reported_ms = 0;
        else if (s->reported_ms == 0 || changed_ms > CLOCK_AGAIN_MS || changed_ms < -CLOCK_AGAIN_MS)
                s->reported_ms = s->clock_ms;
}

void senders_tick(Membership *m) {
        uint64_t now_ms = loop_now_ms(m->loop);

        for (Sender *s = (Sender *) m->senders.hosts; s; s = (Sender *) s->machine.hh.next) {
                /* A host that had a replica may use that of another host now, which reports it. */
                if (s->at_ms > 0 && now_ms - s->at_ms > CONDITION_VALID_MS) {
                        s->at_ms = 0;
                        s->has_clock = false;
                        s->reported_ms = 0;
                        s->problem = (Verdict) {};
                }
                if (s->has_clock)
                        senders_judge_clock(s);
        }
}

uint8_t senders_rejected(Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        Sender *s = named_find(m->senders.hosts, machine_id);

        if (s && machine && s->rejected)
                senders_check_record(m, s, machine);
        return s && s->rejected && loop_now_ms(m->loop) - s->rejected_ms <= CONDITION_VALID_MS ? s->rejected :
                                                                                                 0;
}

const Verdict *senders_problem(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->senders.hosts, machine_id);

        return s ? &s->problem : NULL;
}

bool senders_awaits_key(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->senders.hosts, machine_id);

        return s && s->keyless_ms > 0 && loop_now_ms(m->loop) - s->keyless_ms < KEY_SENT_MS;
}

bool senders_clock(const Membership *m, const char *machine_id, Verdict *ret) {
        const Sender *s = named_find(m->senders.hosts, machine_id);
        VerdictCode code;
        uint64_t seconds;

        if (!s || !s->has_clock || s->reported_ms == 0)
                return false;
        code = s->reported_ms < 0 ? VERDICT_CLOCK_BEHIND : VERDICT_CLOCK_AHEAD;
        seconds = (uint64_t) (s->reported_ms < 0 ? -s->reported_ms : s->reported_ms) / 1000;
        if (seconds < 2 * 3600)
                verdict_set(ret, code, "%" PRIu64 " s", seconds);
        else if (seconds < 2 * 86400)
                verdict_set(ret, code, "%" PRIu64 " h", seconds / 3600);
        else
                verdict_set(ret, code, "%" PRIu64 " days", seconds / 86400);
        return true;
}

/* A heartbeat from before the removal of a host does not revive it: it returns by a session. A host that has
 * left returns by a token, which ends its tombstone. */
static bool senders_count(const Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        PeerState peer;

        return !machine || !machine->removed ||
               (!cluster_machine_has_left(machine) && peers_state(m->peers, machine_id, &peer) >= 0 &&
                peer.accepted);
}

LivenessSign senders_session_sign(const Membership *m, const char *machine_id) {
        LivenessSign sign = {};
        PeerState peer;
        bool open;

        if (peers_state(m->peers, machine_id, &peer) < 0)
                return sign;
        open = peer.accepted || peer.dialed;
        sign.session = peer.accepted;
        /* Without a session, the kernel shows that it runs only when it rejects a connection, or when its
         * daemon ends. A host that has ended a session because it uses others may lose power later. */
        sign.kernel = peer.kernel_silent_ms <
                              (open ? KERNEL_SILENT_MS : KERNEL_SILENT_MS + PEERS_BACKOFF_MAX_MS) &&
                      (open || !streq(peer.bye, PEER_BYE_UNUSED));
        sign.stopped = streq(peer.bye, "stop");
        sign.shut_down = streq(peer.bye, "shutdown");
        return sign;
}

LivenessSign senders_sign(Membership *m, const char *machine_id) {
        Sender *s = named_find(m->senders.hosts, machine_id);
        LivenessSign sign;

        if (streq(machine_id, m->machine_id))
                return (LivenessSign) { .heartbeat = true, .kernel = true, .session = true };

        sign = senders_session_sign(m, machine_id);
        if (s) {
                sign.heartbeat = s->heartbeat && senders_count(m, machine_id);
                s->heartbeat = false;
        }
        return sign;
}

void senders_each_sender(Membership *m, void (*each)(Membership *m, const char *machine_id)) {
        for (Sender *s = (Sender *) m->senders.hosts, *next; s; s = next) {
                next = (Sender *) s->machine.hh.next;
                if (!s->attached)
                        each(m, s->machine.name);
        }
}

bool senders_has_sender(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->senders.hosts, machine_id);

        return s && !s->attached;
}

bool senders_has_contact(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->senders.hosts, machine_id);

        return s && !s->attached && loop_now_ms(m->loop) - s->at_ms < CONTACT_MS;
}
