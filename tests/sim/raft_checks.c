/* What must hold after each step. The names are those of the Raft dissertation where it has one. */

#include "kvstore/raft/core_internal.h"
#include "tests/sim/raft_world.h"

void check_failed(World *w, const char *format, ...) {
        va_list ap;

        if (w->failure[0])
                return;

        va_start(ap, format);
        vsnprintf(w->failure, sizeof(w->failure), format, ap);
        va_end(ap);
}

static Committed *committed_at(World *w, uint64_t index) {
        size_t had = w->n_committed;

        if (index >= w->n_committed) {
                if (GROW(w->committed, w->committed_capacity, index + 1) < 0)
                        abort();
                memset(w->committed + had, 0, (index + 1 - had) * sizeof(*w->committed));
                w->n_committed = index + 1;
        }
        return &w->committed[index];
}

/* Election safety: at most one leader in a term, and a restarted server is another one. */
static void check_election_safety(Server *s, uint64_t term) {
        World *w = s->world;
        size_t had = w->n_leaders;
        TermLeader *leader;

        if (term >= w->n_leaders) {
                if (GROW(w->leaders, w->leaders_capacity, term + 1) < 0)
                        abort();
                memset(w->leaders + had, 0, (term + 1 - had) * sizeof(*w->leaders));
                w->n_leaders = term + 1;
        }

        leader = &w->leaders[term];
        if (leader->id != 0 && (leader->id != s->id || leader->incarnation != s->incarnation))
                check_failed(w, "two leaders in term %llu: %llu and %llu", (unsigned long long) term,
                             (unsigned long long) leader->id, (unsigned long long) s->id);
        if (leader->id == 0)
                w->count.leaders++;
        *leader = (TermLeader) { .id = s->id, .incarnation = s->incarnation };
}

/* Leader completeness: a leader has all that was committed in earlier terms. */
static void check_leader_completeness(Server *s, uint64_t term) {
        World *w = s->world;

        for (uint64_t i = w->n_committed; i-- > 1;) {
                const Committed *committed = &w->committed[i];
                const RaftEntry *e = raft_core_entry(s->core, i);

                if (!committed->known || committed->seen_term >= term)
                        continue;
                if (i >= raft_core_first_index(s->core) && (!e || e->term != committed->term))
                        check_failed(w, "leader %llu of term %llu lacks committed entry %llu",
                                     (unsigned long long) s->id, (unsigned long long) term,
                                     (unsigned long long) i);
                return; /* what is before agrees by log matching, which the chains check */
        }
}

/* The index of the last configuration that is not applied yet; 0: there is none. */
static uint64_t last_change(const Server *s) {
        for (uint64_t i = raft_core_last_index(s->core); i > s->storage.state.configuration_index; i--) {
                const RaftEntry *e = raft_core_entry(s->core, i);

                if (!e || e->type == RAFT_ENTRY_CHANGE)
                        return e ? i : 0;
        }
        return 0;
}

/* The engine knows the configuration that was applied as the committed one, and has none pending that was
 * applied. */
static void check_configuration(Server *s) {
        uint64_t applied = s->storage.state.configuration_index,
                 committed = s->core->raft.configuration_committed_index;

        if (raft_core_installing(s->core) ||
            raft_core_commit_index(s->core) != raft_core_applied_index(s->core))
                return;
        if (committed < applied)
                check_failed(s->world, "server %llu takes configuration %llu for the committed one, %llu is",
                             (unsigned long long) s->id, (unsigned long long) committed,
                             (unsigned long long) applied);
        if (raft_core_change_pending(s->core) && last_change(s) <= applied)
                check_failed(s->world, "configuration %llu is committed, and still pending on server %llu",
                             (unsigned long long) applied, (unsigned long long) s->id);
}

void check_after_event(Server *s) {
        World *w = s->world;
        bool leads = raft_core_state(s->core) == RAFT_STATE_LEADER;
        uint64_t term = raft_core_term(s->core), commit = raft_core_commit_index(s->core);

        if (leads && (!s->led || s->led_term != term)) {
                check_election_safety(s, term);
                check_leader_completeness(s, term);
        }
        s->led = leads;
        s->led_term = term;

        if (term != s->storage.term)
                check_failed(w, "server %llu is in term %llu, its disk in %llu", (unsigned long long) s->id,
                             (unsigned long long) term, (unsigned long long) s->storage.term);
        if (!raft_core_installing(s->core) && raft_core_applied_index(s->core) < commit &&
            !(s->applying && raft_core_is_behind(s->core)))
                check_failed(w, "server %llu knows %llu as committed and applied %llu",
                             (unsigned long long) s->id, (unsigned long long) commit,
                             (unsigned long long) raft_core_applied_index(s->core));
        check_configuration(s);
}

/* State machine safety: no server applies another entry at an index. */
void check_apply(Server *s, uint64_t index, const RaftEntry *e, uint64_t chain) {
        Committed *committed = committed_at(s->world, index);

        if (committed->known &&
            (committed->term != e->term || (committed->chain != 0 && committed->chain != chain)))
                check_failed(s->world, "server %llu applied another entry at %llu",
                             (unsigned long long) s->id, (unsigned long long) index);
        if (!committed->known)
                *committed = (Committed) { .term = e->term,
                                           .known = true,
                                           .seen_term = raft_core_term(s->core) };
        committed->chain = chain;
        committed->change = e->type == RAFT_ENTRY_CHANGE;
}

/* A state that was received or loaded equals that of all servers at its index, with the configuration of that
 * index. */
void check_state(Server *s, const SimState *state) {
        Committed *committed;

        if (state->index == 0)
                return;

        committed = committed_at(s->world, state->index);
        if (!committed->known || committed->chain != state->chain || committed->term != state->term)
                check_failed(s->world, "the state of server %llu at %llu equals no other",
                             (unsigned long long) s->id, (unsigned long long) state->index);

        for (uint64_t i = state->configuration_index + 1; i <= state->index; i++)
                if (s->world->committed[i].known && s->world->committed[i].change)
                        check_failed(s->world,
                                     "the state of server %llu at %llu carries configuration %llu, not %llu",
                                     (unsigned long long) s->id, (unsigned long long) state->index,
                                     (unsigned long long) state->configuration_index, (unsigned long long) i);
}

/* Nothing that was applied is replaced. */
void check_append(Server *s, uint64_t first, const RaftEntry *entries, size_t n) {
        for (size_t i = 0; i < n && first + i <= s->storage.state.index; i++) {
                const Committed *committed = committed_at(s->world, first + i);

                if (committed->known && committed->term != entries[i].term)
                        check_failed(s->world, "server %llu replaces applied entry %llu",
                                     (unsigned long long) s->id, (unsigned long long) (first + i));
        }
}

/* A server that acknowledges an entry has it on its disk, and it equals the leader's entry. */
void check_acknowledgement(Server *s, const RaftMessage *m, uint64_t to) {
        World *w = s->world;
        const Server *leader = &w->servers[slot_of(to)];
        uint64_t index = m->append_result.last_index;
        const RaftEntry *durable, *own, *theirs;

        if (m->append_result.rejected != 0 || index == 0)
                return;
        if (index > MAX(raft_entries_last(&s->storage.log), s->storage.checkpoint.index))
                check_failed(w, "server %llu acknowledges %llu, its disk ends at %llu",
                             (unsigned long long) s->id, (unsigned long long) index,
                             (unsigned long long) raft_entries_last(&s->storage.log));

        durable = raft_entries_get(&s->storage.log, index);
        own = raft_core_entry(s->core, index);
        if (durable && own && durable->term != own->term)
                check_failed(w, "server %llu acknowledges %llu, its disk holds another entry there",
                             (unsigned long long) s->id, (unsigned long long) index);

        if (!leader->up || leader->id != to || raft_core_state(leader->core) != RAFT_STATE_LEADER ||
            raft_core_term(leader->core) != m->term)
                return;
        theirs = raft_core_entry(leader->core, index);
        if (index > raft_core_last_index(leader->core) || (own && theirs && own->term != theirs->term))
                check_failed(w, "server %llu acknowledges %llu, which is not leader %llu's entry",
                             (unsigned long long) s->id, (unsigned long long) index, (unsigned long long) to);
}
