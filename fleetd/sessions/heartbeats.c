/* Heartbeats: each host with a replica sends two a second to the leader, an attached host to the replica that
 * it uses, and fewer to another one. A heartbeat carries the problem of its sender's
 * replica, which such a replica cannot publish through the log, and the sender's wall clock. A byte 0 ends
 * the problem, where an older version stops to read.
 *
 * Without contact with a leader, the heartbeats go to all hosts, and carry the end of the sender's log: then
 * each host knows whether another one has more, which decides where a lost majority is recovered; and a
 * replica that has a leader reports the sender to it. */

#include "fleetd/sessions/membership_internal.h"
#include "units/verdict_former.h"

/* The replicas that report a host learn so often that its heartbeats come to the leader again. */
enum { LEAVES_TICKS = 4 };

/* What follows the byte 0: facts, each after its number. The rest after an unknown one is not read. */
enum {
        HEARTBEAT_POSITION = 1,
        HEARTBEAT_CLOCK,
        HEARTBEAT_ATTACHED, /* the host uses the replica of another one, or is about to: it needs an answer */
        HEARTBEAT_VERDICT,  /* the code of the problem, and its arguments */
};

enum { ATTACHED_IN_USE = 1, ATTACHED_RARE = 2 }; /* its byte */

static void facts_read(HeartbeatFacts *ret, const void *payload, size_t size) {
        const uint8_t *end = size > 0 ? memchr(payload, 0, size) : NULL;
        Reader r = reader_over(end ? end + 1 : NULL,
                               end ? size - (size_t) (end + 1 - (uint8_t *) payload) : 0);
        char text[UINT8_MAX + 1];
        const char *code;
        uint8_t how, n;
        HeartbeatFacts f = {};

        snprintf(text, REPLICA_PROBLEM_SIZE, "%.*s", (int) MIN(size, (size_t) REPLICA_PROBLEM_SIZE - 1),
                 (const char *) payload);
        verdict_read_former(VERDICT_IN_HEARTBEAT, text, &f.problem);
        *ret = f;
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
                        code = read_raw(&r, n);
                        snprintf(text, sizeof(text), "%.*s", code ? (int) n : 0, code ?: "");
                        verdict_set_code(&f.problem, text);
                        break;
                default:
                        return;
                }
                if (r.failed)
                        return;
                *ret = f;
        }
}

static void facts_compare_clocks(HeartbeatFacts *f, uint64_t wall_ms) {
        f->has_clock &= f->wall_ms <= INT64_MAX;
        f->clock_ms = f->has_clock ? (int64_t) f->wall_ms - (int64_t) wall_ms : 0;
}

static uint8_t facts_signs(const HeartbeatFacts *f) {
        if (f->attached)
                return f->in_use ? SIGN_IN_USE | (f->rare ? SIGN_RARE : 0) : 0;
        return f->has_position ? SIGN_IN_USE | SIGN_ALONE : 0;
}

void heartbeats_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Membership *m = userdata;
        const char *id = peer_handshake(session)->machine_id;
        HeartbeatFacts facts = {};

        loop_periodic_input(m->loop);
        retiring_check(m, session);
        facts_read(&facts, payload, size);
        facts_compare_clocks(&facts, loop_wall_ms(m->loop));
        if (reporting_on_heartbeat(m, session, facts.attached, facts_signs(&facts)))
                kv_answer_heartbeat(m->store, session, reporter_requests_rare(&m->reporting.reporter));
        if (facts.in_use)
                conditions_note(m, id, &facts.problem, facts.clock_ms);
        else
                conditions_note(m, id, &(Verdict) {}, 0);
        senders_take(m, id, &facts);
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
        _cleanup_text_ Text t = {};

        verdict_append_code(&t, &m->heartbeats.problem);
        if (registry_is_codeless(m->registry) || t.size == 0 || t.size > UINT8_MAX)
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
                named_clear(&m->senders.positions);
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
