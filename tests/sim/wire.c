#include "tests/lib/commands.h"
#include "tests/sim/wire.h"

Wire wire;

void wire_begin(Stores *all) {
        wire_done();
        memset(&wire, 0, sizeof(wire));
        wire.all = all;
        wire.vanish_from = wire.lose = wire.damage = NEVER;
}

void wire_done(void) {
        free(wire.last);
        wire.last = NULL;
}

static void note(const Replica *p, What what, uint64_t number, uint64_t offset, unsigned ack) {
        if (wire.n < ELEMENTS(wire.items))
                wire.items[wire.n++] = (Seen) { what, loop_now_ms(p->loop), number, offset, ack };
}

unsigned wire_count(What what, uint64_t from_ms, uint64_t until_ms) {
        unsigned n = 0;

        for (size_t i = 0; i < wire.n; i++)
                n += wire.items[i].what == what && wire.items[i].at_ms >= from_ms &&
                     wire.items[i].at_ms < until_ms;
        return n;
}

unsigned wire_numbers(void) {
        uint64_t last = 0;
        unsigned n = 0;

        for (size_t i = 0; i < wire.n; i++)
                if (wire.items[i].what == CHUNK && wire.items[i].number != last) {
                        last = wire.items[i].number;
                        n++;
                }
        return n;
}

unsigned wire_acks(unsigned least) {
        unsigned n = 0;

        for (size_t i = 0; i < wire.n; i++)
                n += wire.items[i].what == ACK && wire.items[i].ack >= least;
        return n;
}

uint64_t wire_wait(Stores *all, What what) {
        WAIT(all, "it-is-seen", wire_count(what, 0, NEVER) > 0);
        return world_now_ms(all->world);
}

int __real_replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w);
int __wrap_replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w);
int __wrap_replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w) {
        Reader r = reader_over(w->bytes, w->size);
        uint64_t number, offset;
        int result;

        if (type != PEER_SNAPSHOT)
                return __real_replica_send(p, to, type, w);
        (void) read_raw(&r, 4 * 8); /* the head, and the term */
        number = read_u64(&r);
        (void) read_u64(&r);
        offset = read_u64(&r);
        note(p, CHUNK, number, offset, 0);
        if (wire.refuse_chunks)
                return -ENOBUFS;
        wire_done();
        wire.last = malloc(w->size);
        if (!wire.last)
                abort();
        wire.last_size = w->size;
        memcpy(wire.last, w->bytes, w->size);
        if (offset >= wire.vanish_from)
                return 0;
        if (offset == wire.lose) {
                wire.lose = NEVER;
                return 0;
        }
        if (offset == wire.damage) {
                Writer copy = {};

                wire.damage = NEVER;
                write_raw(&copy, w->bytes, w->size);
                copy.bytes[copy.size - 1] ^= 1;
                result = __real_replica_send(p, to, type, &copy);
                writer_done(&copy);
                return result;
        }
        return __real_replica_send(p, to, type, w);
}

bool wire_repeat_chunk(Host *leader, const Host *to) {
        Writer w = { .bytes = wire.last, .size = wire.last_size, .capacity = wire.last_size };

        return __real_replica_send(leader->store->replica, to->raft_id, PEER_SNAPSHOT, &w) >= 0;
}

typedef struct Late {
        Replica *replica;
        uint64_t session;
        Writer w;
} Late;

void __real_replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w);
void __wrap_replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w);

static void on_late(void *userdata) {
        Late *late = userdata;

        __real_replica_answer(late->replica, late->session, PEER_SNAPSHOT_ACK, &late->w);
        writer_done(&late->w);
        free(late);
}

void __wrap_replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w) {
        Reader r = reader_over(w->bytes, w->size);
        uint64_t number, offset;
        Late *late;

        if (type == PEER_SNAPSHOT_ACK) {
                number = read_u64(&r);
                offset = read_u64(&r);
                note(p, ACK, number, offset, read_u8(&r));
        }
        if (type != PEER_SNAPSHOT_ACK || wire.acks_late_ms == 0) {
                __real_replica_answer(p, session_number, type, w);
                return;
        }
        late = NEW0(Late, 1);
        if (!late)
                abort();
        late->replica = p;
        late->session = session_number;
        write_raw(&late->w, w->bytes, w->size);
        world_at(wire.all->world, wire.acks_late_ms, NULL, on_late, late);
}

static void on_copy(void *userdata) {
        Host *h = userdata;

        world_loop_set_work_ms(h->loop, COPY_MS, COPY_MS);
        replica_checkpoint(h->store->replica);
}

void __real_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);
void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);
void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message) {
        if (message->type == RAFT_MESSAGE_SNAPSHOT) {
                note(p, CLOSING, 0, message->snapshot.index, 0);
                if (wire.lose_closing)
                        return;
                if (wire.copies)
                        world_at(wire.all->world, 0, NULL, on_copy, TAKE_PTR(wire.copies));
        }
        __real_replica_send_message(p, to, message);
}

int __real_data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total);
int __wrap_data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total);
int __wrap_data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total) {
        note(container_of(folder, const Replica, data_dir), ROOM, 0, 0, 0);
        if (wire.total == 0)
                return __real_data_dir_space(folder, ret_free, ret_total);
        *ret_free = wire.room;
        *ret_total = wire.total;
        return 0;
}

int __real_replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err);
int __wrap_replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err);
int __wrap_replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err) {
        note(p, REOPEN, 0, 0, 0);
        return __real_replica_reopen(p, rebuild, done, err);
}

/* -- Running -- */

void expect(Stores *all, const char *name, uint64_t value, uint64_t least, uint64_t most) {
        if (value < least || value > most)
                world_failed(all->world, name, "%" PRIu64 ", not from %" PRIu64 " to %" PRIu64, value, least,
                             most);
}

KvState state_of(const Host *h) {
        KvState state;

        kv_state(h->store, &state);
        return state;
}

bool is_whole(Stores *all, unsigned n_voters) {
        Host *leader = stores_leader(all);
        KvState state, other;

        if (!leader)
                return false;
        state = state_of(leader);
        for (unsigned i = 0; i < all->n; i++) {
                if (!store_is_up(&all->hosts[i]))
                        return false;
                other = state_of(&all->hosts[i]);
                if (other.leader_id != state.raft_id || other.raft_index != state.raft_index)
                        return false;
        }
        return state.n_voters == n_voters && state.n_voters_reachable == n_voters;
}

static void on_answer(void *userdata, const KvResult *result) {
        *(bool *) userdata = true;
}

static void on_any(void *userdata, const KvResult *result) {}

void begin_put(Host *h, const char *key) {
        if (kv_propose(h->store, &SET(key, "1"), on_any, NULL, NULL) < 0)
                abort();
}

void put(Stores *all, Host *h, const char *key, size_t size) {
        static char value[PUT_MAX];
        bool came = false;

        memset(value, 'x', sizeof(value));
        if (kv_propose(h->store, &COMMAND(KV_SET, key, .value = { value, size }), on_answer, &came, NULL) < 0)
                abort();
        WAIT(all, "a-write-is-answered", came);
}

uint64_t checkpoint_of(const Host *h) {
        const Checkpoint *c = &replica_data_dir(h->store->replica)->checkpoint;

        return c->fd < 0 ? 0 : c->meta.applied;
}

void make_checkpoint(Stores *all, Host *h) {
        UNTIL(all, "a-checkpoint-is-made",
              (replica_checkpoint(h->store->replica),
               checkpoint_of(h) == raft_core_applied_index(replica_core(h->store->replica))));
}

Host *three_voters(Stores *all, uint64_t for_ms) {
        wire_begin(all);
        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
        run_ms(all, for_ms);
        return stores_leader(all);
}
