/* The operations that the core requests of its owner: appends, messages, snapshots, applied entries. */

#include "tests/lib/raft_names.h"
#include "tests/sim/raft_world.h"

static uint64_t hash_bytes(const void *bytes, size_t size) {
        const uint8_t *b = bytes;
        uint64_t h = size;

        for (size_t i = 0; i < size; i++)
                h = (h ^ b[i]) * 0x100000001b3;
        return h;
}

static int op_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        Server *s = userdata;

        if (term < s->storage.term)
                check_failed(s->world, "server %" PRIu64 " goes back to term %" PRIu64, s->id, term);
        if (term == s->storage.term && s->storage.vote != 0 && vote != s->storage.vote)
                check_failed(s->world, "server %" PRIu64 " votes twice in term %" PRIu64, s->id, term);
        s->storage.term = term;
        s->storage.vote = s->world->options.bug == BUG_LOSE_VOTE ? 0 : vote;
        return 0;
}

static int op_append(void *userdata, uint64_t generation, uint64_t first, const RaftEntry *entries,
                     size_t n) {
        Server *s = userdata;
        LogWrite write = { .kind = LOG_APPEND, .generation = generation, .first = first, .n = n };

        check_append(s, first, entries, n);
        write.entries = NEW0(RaftEntry, n);
        for (size_t i = 0; i < n; i++) {
                write.entries[i] = entries[i];
                write.entries[i].data = raft_copy_bytes(entries[i].data, entries[i].size);
        }
        server_queue_write(s, write);
        return 0;
}

static void send_bytes(Server *s, uint64_t to_id, uint8_t *bytes, size_t size, SimState *bulk,
                       uint64_t extra_ms) {
        World *w = s->world;
        unsigned to = slot_of(to_id);
        Event event = { .kind = EVENT_MESSAGE,
                        .slot = to,
                        .from = s->slot,
                        .from_id = s->id,
                        .from_incarnation = s->incarnation };

        event.bytes = bytes;
        event.size = size;
        event.bulk = bulk;
        event.incarnation = w->servers[to].incarnation;
        event.at_ms = w->now_ms + extra_ms + 1 + world_random(w, w->delay_max_ms);
        if (!w->reorder)
                event.at_ms = MAX(event.at_ms, w->arrival[s->slot][to]);
        else if (event.at_ms < w->arrival[s->slot][to])
                world_count(w, "messages-reordered");
        w->arrival[s->slot][to] = event.at_ms;

        if (w->servers[to].id != to_id || w->cut[s->slot][to] || world_random(w, 100) < w->loss_percent) {
                world_count(w, "message-lost");
                event_done(&event);
                return;
        }
        if (w->reorder && !bulk && world_random(w, 20) == 0) {
                Event again = event;

                world_count(w, "message-duplicated");
                again.bytes = raft_copy_bytes(bytes, size);
                again.at_ms += world_random(w, 300);
                world_push(w, again);
        }
        world_push(w, event);
}

static void op_send(void *userdata, uint64_t to, const char *address, const RaftMessage *m) {
        Server *s = userdata;
        Writer writer = {};

        if (m->type == RAFT_MESSAGE_APPEND_RESULT && s->world->options.bug != BUG_ACK_BEFORE_SYNC)
                check_acknowledgement(s, m, to);
        world_trace(s->world, s, "-> %" PRIu64 " %s term %" PRIu64, to, raft_message_type_name(m->type),
                    m->term);

        raft_message_encode(&writer, m);
        assert(writer.error == 0);
        send_bytes(s, to, writer.bytes, writer.size, NULL, 0);
}

static void op_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term,
                             uint64_t index) {
        Server *s = userdata;
        const SimState *state = s->storage.checkpoint.index >= index ? &s->storage.checkpoint :
                                                                       &s->storage.state;
        RaftMessage m = { .type = RAFT_MESSAGE_SNAPSHOT, .term = term };
        Writer writer = {};
        SimState *bulk;

        if (state->index < index)
                check_failed(s->world, "server %" PRIu64 " has no state at %" PRIu64 " to send", s->id,
                             index);
        if (s->sending_state[slot_of(to)] && world_random(s->world, 4) > 0)
                return;
        s->sending_state[slot_of(to)] = true;

        bulk = NEW0(SimState, 1);
        if (!bulk)
                abort();
        *bulk = raft_state_copy(state);
        m.snapshot.index = state->index;
        m.snapshot.index_term = state->term;
        m.snapshot.configuration_index = state->configuration_index;
        m.snapshot.configuration = state->configuration;
        m.snapshot.configuration_size = state->configuration_size;
        raft_message_encode(&writer, &m);
        world_trace(s->world, s, "-> %" PRIu64 " state at %" PRIu64, to, state->index);
        send_bytes(s, to, writer.bytes, writer.size, bulk, world_random(s->world, 300));
}

static int op_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        Server *s = userdata;

        assert(s->incoming.index == info->index && s->incoming.term == info->term);
        assert(s->incoming.configuration_index == info->configuration_index);
        s->world->count.installs++;
        world_count(s->world, "state-installed");
        s->install = INSTALL_RENAMING;
        s->install_keeps = keep_state;
        world_trace(s->world, s, "installs the state at %" PRIu64 "%s", info->index,
                    keep_state ? ", keeping its own" : "");
        server_push(s, EVENT_INSTALL, 1 + world_random(s->world, 100));
        return 0;
}

static int op_apply(void *userdata, uint64_t first, const RaftEntry *entries, size_t n) {
        Server *s = userdata;
        SimState *state = &s->storage.state;

        assert(first == state->index + 1);
        if (n > 1 && world_random(s->world, 3) == 0) {
                world_count(s->world, "applied-in-slices");
                n = world_random(s->world, n);
        }
        for (size_t i = 0; i < n; i++) {
                const RaftEntry *e = &entries[i];

                state->index = first + i;
                state->term = e->term;
                state->chain = raft_mix(raft_mix(state->chain, state->index),
                                        raft_mix(e->term, hash_bytes(e->data, e->size) + e->type));
                if (e->type == RAFT_ENTRY_CHANGE) {
                        assert(i == n - 1);
                        free(state->configuration);
                        state->configuration = raft_copy_bytes(e->data, e->size);
                        state->configuration_size = e->size;
                        state->configuration_index = state->index;
                        world_trace(s->world, s, "applies configuration %" PRIu64, state->index);
                }
                check_apply(s, state->index, e, state->chain);
                s->world->count.entries++;
        }
        return (int) n;
}

static void op_changed(void *userdata, unsigned what) {
        Server *s = userdata;
        const char *const states[] = { "follower", "candidate", "leader" };

        if (what & RAFT_CHANGED_STATE)
                world_trace(s->world, s, "%s in term %" PRIu64, states[raft_core_state(s->core)],
                            raft_core_term(s->core));
}

const RaftCoreOps raft_world_ops = {
        .write_meta = op_write_meta,
        .append = op_append,
        .send = op_send,
        .send_snapshot = op_send_snapshot,
        .install = op_install,
        .apply = op_apply,
        .changed = op_changed,
};
