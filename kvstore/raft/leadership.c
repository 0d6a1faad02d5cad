/* Leadership: its transfer, the commit index for followers, and the contact of this host with its leader. */
#include "kvstore/raft/replica_internal.h"

/* -- Transfer --
 *
 * The engine requests a transfer as soon as it has sent all entries. The other voter complies only if they
 * are on its disk, which is rare under load, and the engine does not repeat the request. Therefore the
 * replica accepts no proposals, and requests the transfer when a voter has acknowledged the last entry. */

static bool leadership_may_go_to(const Replica *p, const RaftServer *s) {
        return s->id != raft_core_id(p->core) && s->role == RAFT_ROLE_VOTER &&
               (p->transfer.to == 0 || s->id == p->transfer.to);
}

/* Also while the replica fails. */
static bool leadership_is_held(const Replica *p) {
        return replica_takes_inputs(p) && raft_core_state(p->core) == RAFT_STATE_LEADER;
}

/* Request the transfer to a voter that is up to date. 0 also while there is none. */
static int transfer_request(Replica *p) {
        const RaftServers *servers = raft_core_servers(p->core);
        uint64_t to = 0, match, now = loop_now_ms(p->loop);
        bool hopeful = false;
        int r;

        for (size_t i = 0; i < servers->n && to == 0; i++) {
                if (!leadership_may_go_to(p, &servers->items[i]))
                        continue;
                hopeful = true;
                if (raft_core_match_index(p->core, servers->items[i].id, &match) >= 0 &&
                    match == raft_core_last_index(p->core))
                        to = servers->items[i].id;
        }
        if (to == 0 && hopeful && now < p->transfer.due_ms)
                return 0;

        /* With no voter up to date, the engine reports the error, or tries the best one. */
        p->transfer.due_ms = 0;
        replica_enter_paused(p);
        r = raft_core_transfer(p->core, now, to ?: p->transfer.to);
        replica_leave(p, 0);
        replica_notify_later(p, 0);
        return r;
}

static int transfer_begin(Replica *p, uint64_t raft_id) {
        p->transfer.to = raft_id;
        p->transfer.due_ms = loop_now_ms(p->loop) + p->options.election_ms;
        return transfer_request(p);
}

int replica_transfer(Replica *p, uint64_t raft_id) {
        if (!replica_is_leader(p))
                return -EREMOTE;
        return replica_is_transferring(p) ? -EBUSY : transfer_begin(p, raft_id);
}

int replica_give_up_leadership(Replica *p) {
        if (!leadership_is_held(p))
                return -EREMOTE;
        if (replica_is_transferring(p) && p->transfer.to == 0)
                return 0;
        return transfer_begin(p, 0);
}

bool replica_is_transferring(const Replica *p) {
        return p->transfer.due_ms > 0;
}

void replica_transfer_step(Replica *p) {
        if (!leadership_is_held(p))
                p->transfer.due_ms = 0;
        if (replica_is_transferring(p))
                (void) transfer_request(p);
}

/* -- Commit index --
 *
 * The engine sends the commit index with the next entries or heartbeat. A proposer or watcher on a follower
 * would wait for that up to a heartbeat, so an empty AppendEntries follows each commit that no other message
 * carries. */

static uint64_t *notices_sent_to(Replica *p, uint64_t id) {
        CommitNotices *n = &p->notices;
        uint64_t term = raft_core_term(p->core);

        if (n->term != term) {
                n->term = term;
                n->n_followers = 0;
        }
        for (size_t i = 0; i < n->n_followers; i++)
                if (n->followers[i].id == id)
                        return &n->followers[i].sent;
        if (n->n_followers == RAFT_SERVERS_MAX)
                return NULL;
        n->followers[n->n_followers].id = id;
        n->followers[n->n_followers].sent = 0;
        return &n->followers[n->n_followers++].sent;
}

void replica_note_sent(Replica *p, uint64_t to, const RaftMessage *message) {
        uint64_t *sent;

        if (message->type != RAFT_MESSAGE_APPEND)
                return;
        sent = notices_sent_to(p, to);
        if (sent)
                *sent = MAX(*sent, MIN(message->append.commit,
                                       message->append.prev_index + message->append.n_entries));
}

static void notices_send_to(Replica *p, const RaftServer *s, uint64_t commit) {
        const RaftEntry *e;
        uint64_t match, *sent;

        if (s->id == raft_core_id(p->core) || s->role == RAFT_ROLE_SPARE ||
            raft_core_match_index(p->core, s->id, &match) < 0)
                return;
        sent = notices_sent_to(p, s->id);
        e = raft_core_entry(p->core, match);
        if (!sent || !e || MIN(commit, match) <= *sent)
                return;
        replica_send_message(
                p, s->id,
                &(RaftMessage) { .type = RAFT_MESSAGE_APPEND,
                                 .term = raft_core_term(p->core),
                                 .append = { .prev_index = match, .prev_term = e->term, .commit = commit } });
        *sent = MIN(commit, match);
}

static void notices_on_send(void *userdata) {
        Replica *p = userdata;
        const RaftServers *servers;

        if (!replica_is_leader(p))
                return;
        servers = raft_core_servers(p->core);
        for (size_t i = 0; i < servers->n; i++)
                notices_send_to(p, &servers->items[i], raft_core_commit_index(p->core));
}

void replica_send_notices(Replica *p) {
        if (replica_is_leader(p))
                loop_defer(p->loop, &p->notices.send);
}

/* -- Contact with the leader, beyond Raft's election timeout: of a host without a vote, and of a failed
 * replica -- */

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
                replica_contact_wait(p, p->contact.observed.ms);
        if (!same)
                replica_notify_later(p, RAFT_CHANGED_LEADER);
}

static void contact_on_silence(void *userdata) {
        Replica *p = userdata;
        uint64_t now = loop_now_ms(p->loop);

        if (!p->core && p->contact.observed.id != 0) {
                if (now < p->contact.observed.ms + replica_silence_ms(p)) {
                        replica_contact_wait(p, p->contact.observed.ms);
                        return;
                }
                replica_observe_leader(p, 0, p->contact.observed.term);
        }
        if (!replica_takes_inputs(p) || replica_has_vote(p))
                return;
        if (now < p->contact.last_ms + replica_silence_ms(p)) {
                replica_contact_wait(p, p->contact.last_ms);
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

uint64_t replica_leader_ms(const Replica *p) {
        return p->contact.last_ms;
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

void replica_leadership_init(Replica *p) {
        p->notices.send = DEFERRED(notices_on_send, p);
        p->contact.silence = TIMER(contact_on_silence, p);
}
