/* Contact with the leader, beyond Raft's own election timeout: of a host without a vote, and of a failed
 * replica. */
#include "kvstore/raft/replica_internal.h"

static uint64_t silence_ms(const Replica *p) {
        return 2 * p->options.election_ms;
}

static void contact_wait(Replica *p, uint64_t last_ms) {
        uint64_t due_ms = last_ms + silence_ms(p), now = loop_now_ms(p->loop);

        if (!timer_armed(&p->contact.silence))
                (void) timer_start(&p->contact.silence, p->loop, due_ms > now ? due_ms - now : 0);
}

/* Also of a host that had a vote with the last message: that message may have ended it. */
void replica_contact_watch(Replica *p) {
        if (!replica_has_vote(p) && !p->contact.silent)
                contact_wait(p, loop_now_ms(p->loop));
}

void replica_on_leader_message(Replica *p) {
        p->contact.last_ms = loop_now_ms(p->loop);
        if (p->contact.silent)
                p->changed |= RAFT_CHANGED_LEADER;
        p->contact.silent = false;
        replica_contact_watch(p);
}

void replica_observe_leader(Replica *p, uint64_t id, uint64_t term) {
        bool same = id == p->contact.observed.id && term == p->contact.observed.term;

        if (term < p->contact.observed.term)
                return;
        p->contact.observed.id = id;
        p->contact.observed.term = term;
        p->contact.observed.ms = loop_now_ms(p->loop);
        if (id != 0)
                contact_wait(p, p->contact.observed.ms);
        if (!same)
                replica_notify_later(p, RAFT_CHANGED_LEADER);
}

static void contact_on_silence(void *userdata) {
        Replica *p = userdata;
        uint64_t now = loop_now_ms(p->loop);

        if (!p->core && p->contact.observed.id != 0) {
                if (now < p->contact.observed.ms + silence_ms(p)) {
                        contact_wait(p, p->contact.observed.ms);
                        return;
                }
                replica_observe_leader(p, 0, p->contact.observed.term);
        }
        if (!replica_takes_inputs(p) || replica_has_vote(p))
                return;
        if (now < p->contact.last_ms + silence_ms(p)) {
                contact_wait(p, p->contact.last_ms);
                return;
        }
        p->contact.silent = true;
        replica_notify_later(p, RAFT_CHANGED_LEADER);
}

uint64_t replica_leader(const Replica *p) {
        if (!replica_is_open(p) || (p->contact.silent && !replica_has_vote(p)))
                return 0;
        return raft_core_leader(p->core);
}

static bool contact_observes(const Replica *p) {
        return (p->state == REPLICA_FAILED || p->state == REPLICA_PROBING) && !p->core &&
               p->contact.observed.id != 0;
}

uint64_t replica_known_leader(const Replica *p) {
        return contact_observes(p) ? p->contact.observed.id : replica_leader(p);
}

uint64_t replica_known_term(const Replica *p) {
        return contact_observes(p) ? p->contact.observed.term : replica_term(p);
}

void replica_contact_lost(Replica *p) {
        timer_stop(&p->contact.silence);
        p->contact.observed.id = 0;
        if (p->core)
                p->contact.observed.term = MAX(raft_core_term(p->core), p->contact.observed.term);
}

void replica_contact_reset(Replica *p) {
        p->contact.silent = false;
}

void replica_contact_stop(Replica *p) {
        timer_stop(&p->contact.silence);
}

void replica_contact_init(Replica *p) {
        p->contact.silence = TIMER(contact_on_silence, p);
}
