/* Heartbeats: each host with a replica sends two a second to the leader, an attached host to the replica that
 * it uses, and fewer to another one. A heartbeat carries the problem of its sender's
 * replica, which such a replica cannot publish through the log, and the sender's wall clock. A byte 0 ends
 * the problem, where an older version stops to read.
 *
 * Without contact with a leader, the heartbeats go to all hosts, and carry the end of the sender's log: then
 * each host knows whether another one has more, which decides where a lost majority is recovered; and a
 * replica that has a leader reports the sender to it. */
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "fleetd/sessions/membership_internal.h"
#include "units/verdict_former.h"

/* A connection counts as alive while its TCP keep-alives of 1 s are answered. */
enum { KERNEL_SILENT_MS = 1500 };

/* A heartbeat is due each 500 ms. */
enum { CONTACT_MS = 1000 };

/* Differences of clocks beyond this one are not added. */
#define HEARTBEAT_CLOCK_MAX (INT64_MAX / 4)

/* The replicas that report a host learn so often that its heartbeats come to the leader again. */
enum { LEAVES_TICKS = 4 };

/* A replica reports the rejection of a key until its own tree has the changed record of the host. */
enum { RECORD_LAG_MS = 5000 };

/* The leader sends the cluster key to a member that lacks it, or has that of a former cluster, as soon as the
 * member reports that. */
enum { KEY_SENT_MS = 5000 };

/* The end of a log is unknown after so long without a heartbeat: its host may have a leader again. */
enum { POSITION_MAX_MS = 2000 };

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

/* What follows the byte 0: facts, each after its number. The rest after an unknown one is not read. */
enum {
        HEARTBEAT_POSITION = 1,
        HEARTBEAT_CLOCK,
        HEARTBEAT_ATTACHED, /* the host uses the replica of another one, or is about to: it needs an answer */
        HEARTBEAT_VERDICT,  /* the code of the problem, and its arguments */
};

enum { ATTACHED_IN_USE = 1, ATTACHED_RARE = 2 }; /* its byte */

typedef struct Facts {
        bool has_clock, has_position;
        bool attached, in_use, rare; /* in use: the replica that receives this; rare: once in a second */
        uint64_t wall_ms, term, index;
        char verdict[UINT8_MAX + 1]; /* name, then arguments after VERDICT_NEXT; "": none */
} Facts;

/* A difference above the first begins a condition, one below the second ends it, and another difference is
 * reported again from the third on: the condition is a replicated write. */
enum { CLOCK_BEGIN_MS = 30 * 1000, CLOCK_END_MS = 20 * 1000, CLOCK_AGAIN_MS = 60 * 1000 };

/* Return the code of KvState.problem, which is a message of the store. */
static VerdictCode replica_code(const KvState *state) {
        if (state->stopped)
                return VERDICT_REPLICA_STOPPED;
        if (!state->ready) /* or it has no leader */
                return VERDICT_SAID;
        if (state->differs)
                return VERDICT_TREE_DIFFERS;
        return state->undecided ? VERDICT_TREE_UNDECIDED : VERDICT_TREE_REFUSED;
}

void replica_problem(const Membership *m, const KvState *state, Verdict *ret) {
        bool any = state->stopped || state->differs || state->undecided || state->refuses;
        char said[REPLICA_PROBLEM_SIZE];

        kv_replica_problem(m->store, said, sizeof(said));
        any &= !(state->lost && m->joining.attach); /* it needs none */
        if (said[0])
                verdict_say(ret, VERDICT_REPLICA_STOPPED, said);
        else if (any) {
                snprintf(said, sizeof(said), "%s", state->problem);
                verdict_say(ret, replica_code(state), said);
        } else if (m->unlistened)
                verdict_set(ret, VERDICT_NO_LISTENER, "%s", m->peer_address);
        else
                authority_problem(m->authority, ret);
}

static void facts_read(Facts *ret, const void *payload, size_t size) {
        const uint8_t *end = size > 0 ? memchr(payload, 0, size) : NULL;
        Reader r = reader_over(end ? end + 1 : NULL,
                               end ? size - (size_t) (end + 1 - (uint8_t *) payload) : 0);
        const char *name;
        uint8_t how, n;
        Facts f = {};

        for (;;) {
                switch (read_u8(&r)) {
                case HEARTBEAT_POSITION:
                        f.has_position = true;
                        f.term = read_u64(&r);
                        f.index = read_u64(&r);
                        break;
                case HEARTBEAT_CLOCK:
                        f.has_clock = true;
                        f.wall_ms = read_u64(&r);
                        break;
                case HEARTBEAT_ATTACHED:
                        f.attached = true;
                        how = read_u8(&r);
                        f.in_use = how & ATTACHED_IN_USE;
                        f.rare = how & ATTACHED_RARE;
                        break;
                case HEARTBEAT_VERDICT:
                        n = read_u8(&r);
                        name = read_raw(&r, n);
                        snprintf(f.verdict, sizeof(f.verdict), "%.*s", name ? (int) n : 0, name ?: "");
                        break;
                default:
                        return;
                }
                if (r.failed)
                        return;
                *ret = f;
        }
}

static bool facts_have_clock(const Facts *f) {
        return f->has_clock && f->wall_ms <= INT64_MAX;
}

/* The code counts for the message that was read before. */
static void facts_set_verdict(Facts *f, Verdict *v) {
        size_t size = strcspn(f->verdict, VERDICT_NEXT);
        const char *args = f->verdict + size + (f->verdict[size] ? 1 : 0);

        f->verdict[size] = 0;
        if (size > 0)
                verdict_set_named(v, f->verdict, args, strlen(args));
}

/* Return the wall clock of the sender minus that of this host; 0: it sends none. */
static int64_t facts_clock_ms(const Membership *m, const Facts *f) {
        return facts_have_clock(f) ? (int64_t) f->wall_ms - (int64_t) loop_wall_ms(m->loop) : 0;
}

static uint8_t facts_signs(const Facts *f) {
        if (f->attached)
                return f->in_use ? SIGN_IN_USE | (f->rare ? SIGN_RARE : 0) : 0;
        return f->has_position ? SIGN_IN_USE | SIGN_ALONE : 0;
}

/* Keep the end of the sender's log, or forget it if the heartbeat has none. */
static void heartbeats_note_position(Membership *m, const char *id, const Facts *f) {
        Position *p;

        if (!f->has_position) {
                named_remove(&m->heartbeats.positions, id);
                return;
        }
        p = named_get(&m->heartbeats.positions, id, sizeof(Position));
        if (!p)
                return;
        p->term = f->term;
        p->index = f->index;
        p->at_ms = loop_now_ms(m->loop);
}

bool membership_position(const Membership *m, const char *machine_id, uint64_t *ret_term,
                         uint64_t *ret_index) {
        const Position *p = named_find(m->heartbeats.positions, machine_id);

        if (!p || loop_now_ms(m->loop) - p->at_ms > POSITION_MAX_MS)
                return false;
        *ret_term = p->term;
        *ret_index = p->index;
        return true;
}

static void heartbeats_on_heartbeat(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                    size_t size) {
        Membership *m = userdata;
        const char *id = peer_handshake(session)->machine_id;
        char problem[REPLICA_PROBLEM_SIZE];
        Facts facts = {};
        Sender *s;

        loop_periodic_input(m->loop);
        joining_retire(m, session);
        facts_read(&facts, payload, size);
        heartbeats_note_position(m, id, &facts);
        if (reporting_on_heartbeat(m, session, facts.attached, facts_signs(&facts)))
                kv_answer_heartbeat(m->store, session, reporter_requests_rare(&m->reporting.reporter));
        snprintf(problem, sizeof(problem), "%.*s", (int) MIN(size, sizeof(problem) - 1),
                 (const char *) payload);
        if (facts.in_use)
                conditions_note(m, id, problem, facts_clock_ms(m, &facts));
        else
                conditions_note(m, id, "", 0);
        /* An attached host that is normal needs no entry. */
        s = facts.attached ? named_find(m->heartbeats.senders, id) :
                             named_get(&m->heartbeats.senders, id, sizeof(Sender));
        if (!s)
                return;
        s->heartbeat = true;
        s->attached = facts.attached;
        s->at_ms = loop_now_ms(m->loop);
        s->has_clock = facts_have_clock(&facts);
        s->clock_ms = facts_clock_ms(m, &facts);
        verdict_read_former(VERDICT_IN_HEARTBEAT, problem, &s->problem);
        facts_set_verdict(&facts, &s->problem);
        if (s->problem.code != VERDICT_KEY_MISSING && s->problem.code != VERDICT_KEY_DAMAGED)
                s->keyless_ms = 0;
        else if (s->keyless_ms == 0)
                s->keyless_ms = s->at_ms;
}

/* A change of the record of a host ends the report of another key, see revocation.c: the host may have been
 * admitted with it. */
static void heartbeats_check_record(Membership *m, Sender *s, const ClusterMachine *machine) {
        if (s->host_index == machine->host_index)
                return;
        if (s->host_index > 0) {
                s->changed_ms = loop_now_ms(m->loop);
                s->rejected &= (uint8_t) ~CONDITION_KEY;
        }
        s->host_index = machine->host_index;
}

static void heartbeats_take_rejection(Membership *m, Sender *s, const ClusterMachine *machine,
                                      uint8_t flags) {
        uint64_t now_ms = loop_now_ms(m->loop);

        heartbeats_check_record(m, s, machine);
        if (s->changed_ms > 0 && now_ms - s->changed_ms < RECORD_LAG_MS)
                flags &= (uint8_t) ~CONDITION_KEY;
        if (!(flags & (CONDITION_CLONE | CONDITION_KEY)))
                return;
        s->rejected = flags;
        s->rejected_ms = now_ms;
}

void heartbeats_take_condition(Membership *m, const HostCondition *c, int64_t replica_ms) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), c->machine);
        uint64_t now_ms = loop_now_ms(m->loop);
        Sender *s;

        if (!machine)
                return;
        s = named_get(&m->heartbeats.senders, c->machine, sizeof(Sender));
        if (!s)
                return;
        if (s->at_ms == 0)
                s->attached = true;
        if (c->flags & (CONDITION_CLONE | CONDITION_KEY))
                heartbeats_take_rejection(m, s, machine, c->flags);
        if (!(c->flags & CONDITION_IN_USE) || !s->attached)
                return;
        s->at_ms = now_ms;
        s->has_clock = c->clock_ms > -HEARTBEAT_CLOCK_MAX && c->clock_ms < HEARTBEAT_CLOCK_MAX;
        s->clock_ms = s->has_clock ? c->clock_ms + replica_ms : 0;
        verdict_read_former(VERDICT_IN_HEARTBEAT, c->problem, &s->problem);
}

/* A difference counts from CLOCK_BEGIN_MS on, and until it is below CLOCK_END_MS. The reported one changes by
 * more than CLOCK_AGAIN_MS. */
static void heartbeats_judge_clock(Sender *s) {
        int64_t limit_ms = s->reported_ms != 0 ? CLOCK_END_MS : CLOCK_BEGIN_MS;
        int64_t changed_ms = s->clock_ms - s->reported_ms;

        if (s->clock_ms <= limit_ms && s->clock_ms >= -limit_ms)
                s->reported_ms = 0;
        else if (s->reported_ms == 0 || changed_ms > CLOCK_AGAIN_MS || changed_ms < -CLOCK_AGAIN_MS)
                s->reported_ms = s->clock_ms;
}

void heartbeats_tick(Membership *m) {
        uint64_t now_ms = loop_now_ms(m->loop);

        for (Sender *s = (Sender *) m->heartbeats.senders; s; s = (Sender *) s->machine.hh.next) {
                /* A host that had a replica may use that of another host now, which reports it. */
                if (s->at_ms > 0 && now_ms - s->at_ms > CONDITION_VALID_MS) {
                        s->at_ms = 0;
                        s->has_clock = false;
                        s->reported_ms = 0;
                        s->problem = (Verdict) {};
                }
                if (s->has_clock)
                        heartbeats_judge_clock(s);
        }
}

uint8_t heartbeats_rejected(Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        Sender *s = named_find(m->heartbeats.senders, machine_id);

        if (s && machine && s->rejected)
                heartbeats_check_record(m, s, machine);
        return s && s->rejected && loop_now_ms(m->loop) - s->rejected_ms <= CONDITION_VALID_MS ? s->rejected :
                                                                                                 0;
}

bool heartbeats_knows(const Membership *m, const ClusterMachine *machine) {
        return named_find_of(m->heartbeats.senders, &machine->hh) != NULL;
}

const Verdict *heartbeats_problem(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);

        return s ? &s->problem : NULL;
}

bool heartbeats_awaits_key(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);

        return s && s->keyless_ms > 0 && loop_now_ms(m->loop) - s->keyless_ms < KEY_SENT_MS;
}

bool heartbeats_clock(const Membership *m, const char *machine_id, Verdict *ret) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);
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
static bool heartbeats_count(const Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        PeerState peer;

        return !machine || !machine->removed ||
               (!cluster_machine_has_left(machine) && peers_state(m->peers, machine_id, &peer) >= 0 &&
                peer.accepted);
}

LivenessSign heartbeats_sign(Membership *m, const char *machine_id) {
        Sender *s = named_find(m->heartbeats.senders, machine_id);
        LivenessSign sign;

        if (streq(machine_id, m->machine_id))
                return (LivenessSign) { .heartbeat = true, .kernel = true, .session = true };

        sign = heartbeats_session_sign(m, machine_id);
        if (s) {
                sign.heartbeat = s->heartbeat && heartbeats_count(m, machine_id);
                s->heartbeat = false;
        }
        kernels_complete(m, machine_id, &sign);
        return sign;
}

void heartbeats_each(Membership *m, void (*each)(Membership *m, const char *machine_id)) {
        for (const Named *s = m->heartbeats.senders; s; s = s->hh.next)
                each(m, s->name);
}

void heartbeats_each_sender(Membership *m, void (*each)(Membership *m, const char *machine_id)) {
        for (Sender *s = (Sender *) m->heartbeats.senders, *next; s; s = next) {
                next = (Sender *) s->machine.hh.next;
                if (!s->attached)
                        each(m, s->machine.name);
        }
}

bool heartbeats_has_sender(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);

        return s && !s->attached;
}

bool heartbeats_has_contact(const Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);

        return s && !s->attached && loop_now_ms(m->loop) - s->at_ms < CONTACT_MS;
}

LivenessSign heartbeats_session_sign(const Membership *m, const char *machine_id) {
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

typedef struct Sending {
        Membership *m;
        Writer frame;
        size_t attached; /* where the byte of HEARTBEAT_ATTACHED is; 0: there is none */
} Sending;

static void heartbeats_send_to(Sending *s, const char *machine_id) {
        Membership *m = s->m;

        if (s->attached > 0)
                s->frame.bytes[s->attached] = !attaching_uses(m, machine_id) ? 0 :
                                              m->heartbeats.rare ? ATTACHED_IN_USE | ATTACHED_RARE :
                                                                   ATTACHED_IN_USE;
        (void) peers_send(m->peers, machine_id, PEER_HEARTBEAT, s->frame.bytes, s->frame.size);
}

static void heartbeats_send_one(void *userdata, const PeerState *peer) {
        Sending *s = userdata;
        const char *id = peer->handshake.machine_id;

        if (peer->dialed && (!s->m->heartbeats.attached || attaching_heartbeat_is_due(s->m, id)))
                heartbeats_send_to(s, id);
}

/* Older versions stop to read at a fact that is new to them. */
static void heartbeats_write_verdict(const Membership *m, Writer *w) {
        const Verdict *v = &m->heartbeats.problem;
        _cleanup_text_ Text t = {};

        text_append(&t, verdict_name(v));
        if (!v->said && v->args[0])
                text_printf(&t, VERDICT_NEXT "%s", v->args);
        if (m->codeless || t.size == 0 || t.size > UINT8_MAX)
                return;
        write_u8(w, HEARTBEAT_VERDICT);
        write_u8(w, (uint8_t) t.size);
        write_raw(w, t.chars, t.size);
}

static void heartbeats_write(Sending *s, const KvState *state, bool alone) {
        Membership *m = s->m;
        Writer *w = &s->frame;
        _cleanup_text_ Text problem = {};

        verdict_append(&problem, &m->heartbeats.problem);
        write_raw(w, text_chars(&problem), MIN(problem.size, (size_t) REPLICA_PROBLEM_SIZE - 1));
        write_u8(w, 0);
        write_u8(w, HEARTBEAT_CLOCK);
        write_u64(w, loop_wall_ms(m->loop));
        if (alone && state->last_index > 0) {
                write_u8(w, HEARTBEAT_POSITION);
                write_u64(w, state->last_term);
                write_u64(w, state->last_index);
        }
        if (m->attaching.active) {
                write_u8(w, HEARTBEAT_ATTACHED);
                write_u8(w, 0); /* heartbeats_send_to() */
                s->attached = w->size - 1;
        }
        heartbeats_write_verdict(m, w);
}

/* Return whether no heartbeat can reach a leader. */
static bool heartbeats_is_alone(const Membership *m, const KvState *state) {
        return !state->attached &&
               (!state->leader_machine_id[0] || !peers_dialed(m->peers, state->leader_machine_id));
}

void heartbeats_send(Membership *m, const KvState *state) {
        bool alone = heartbeats_is_alone(m, state);
        Sending s = { .m = m };

        replica_problem(m, state, &m->heartbeats.problem);
        if (state->leader_id != 0)
                named_clear(&m->heartbeats.positions);
        m->heartbeats.attached = state->attached;
        m->heartbeats.rare = state->rare;
        heartbeats_write(&s, state, alone);
        /* An admitted host learns which host leads only with its replica, and gets the replica only when the
         * leader receives its heartbeats. */
        m->attaching.ticks++;
        if (m->attaching.active || alone)
                m->heartbeats.leaves = LEAVES_TICKS;
        else if (m->heartbeats.leaves > 0)
                m->heartbeats.leaves--;
        if (s.frame.error == 0 && (state->attached || m->heartbeats.leaves > 0))
                peers_each(m->peers, heartbeats_send_one, &s);
        else if (s.frame.error == 0)
                heartbeats_send_to(&s, state->leader_machine_id);
        writer_done(&s.frame);
}

void heartbeats_clear(Membership *m) {
        named_clear(&m->heartbeats.senders);
        named_clear(&m->kernels);
}

static const PeerFrameType heartbeat_frame_types[] = {
        { PEER_HEARTBEAT, heartbeats_on_heartbeat },
};

void heartbeats_init(Membership *m) {
        peers_register(m->peers, heartbeat_frame_types, ELEMENTS(heartbeat_frame_types), m);
}

void heartbeats_done(Membership *m) {
        peers_unregister(m->peers, heartbeat_frame_types, ELEMENTS(heartbeat_frame_types));
        heartbeats_clear(m);
        named_clear(&m->heartbeats.positions);
}
