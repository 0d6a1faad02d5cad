/* A core with members that send arbitrary messages: each step of the input is one byte for its kind and a few
 * for its numbers, which are small, so that equal ones are likely. No message crashes the core: it drops or
 * follows it, or ends with an error. */

#include "kvstore/raft/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct Fuzz {
        RaftCore *core;
        uint64_t now_ms, generation, written;
        uint64_t applied, applied_term, configuration_index;
        void *configuration;
        size_t configuration_size;
        RaftStateInfo install; /* without its configuration */
        void *confs[4];
        size_t conf_sizes[4];
} Fuzz;

static int on_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        return 0;
}

static int on_append(void *userdata, uint64_t generation, uint64_t first, const RaftEntry *entries,
                     size_t n) {
        Fuzz *f = userdata;

        assert(n > 0);
        for (size_t i = 0; i < n; i++)
                assert(entries[i].term > 0 && (entries[i].size == 0 || entries[i].data));
        f->generation = generation;
        f->written = first + n - 1;
        return 0;
}

static void on_send(void *userdata, uint64_t to, const char *address, const RaftMessage *m) {
        _cleanup_writer_ Writer w = {};
        RaftMessage back;
        int r;

        raft_message_encode(&w, m);
        r = raft_message_decode(w.bytes, w.size, &back);
        assert(r == 0);
        raft_message_done(&back);
}

static void on_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term,
                             uint64_t index) {}

static void set_configuration(Fuzz *f, uint64_t index, const void *bytes, size_t size) {
        void *copy = malloc(size);

        memcpy(copy, bytes, size);
        free(f->configuration);
        f->configuration = copy;
        f->configuration_size = size;
        f->configuration_index = index;
}

static int on_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        Fuzz *f = userdata;

        if (!keep_state) {
                f->applied = info->index;
                f->applied_term = info->term;
                set_configuration(f, info->configuration_index, info->configuration,
                                  info->configuration_size);
        }
        return 0;
}

static int on_apply(void *userdata, uint64_t first, const RaftEntry *entries, size_t n) {
        Fuzz *f = userdata;

        assert(first == f->applied + 1);
        f->applied = first + n - 1;
        f->applied_term = entries[n - 1].term;
        if (entries[n - 1].type == RAFT_ENTRY_CHANGE)
                set_configuration(f, f->applied, entries[n - 1].data, entries[n - 1].size);
        return (int) n;
}

static void on_changed(void *userdata, unsigned what) {
        Fuzz *f = userdata;

        assert(raft_core_servers(f->core)->n <= RAFT_SERVERS_MAX);
}

static const RaftCoreOps ops = {
        .write_meta = on_write_meta,
        .append = on_append,
        .send = on_send,
        .send_snapshot = on_send_snapshot,
        .install = on_install,
        .apply = on_apply,
        .changed = on_changed,
};

static void make_configurations(Fuzz *f) {
        static const RaftServerRole roles[4][4] = {
                { RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_STANDBY },
                { RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_VOTER },
                { RAFT_ROLE_VOTER, RAFT_ROLE_STANDBY, RAFT_ROLE_STANDBY, RAFT_ROLE_SPARE },
                { RAFT_ROLE_STANDBY, RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_SPARE },
        };
        static const char *const addresses[] = { "a:1", "b:1", "c:1", "d:1" };
        int r;

        for (unsigned i = 0; i < 4; i++) {
                RaftServer items[4];
                RaftServers servers = { .items = items, .n = i == 3 ? 3 : 4 };

                for (unsigned j = 0; j < 4; j++)
                        items[j] = (RaftServer) { .id = j + 1,
                                                  .address = (char *) addresses[j],
                                                  .role = roles[i][j] };
                r = raft_configuration_encode_servers(&servers, &f->confs[i], &f->conf_sizes[i]);
                assert(r == 0);
        }
}

static int receive(Fuzz *f, Reader *r) {
        RaftEntry entries[4];
        RaftMessage m = {};
        uint8_t head = read_u8(r), a = read_u8(r), b = read_u8(r), c = read_u8(r);

        m.type = 1 + head % 6;
        m.term = raft_core_term(f->core) + a % 5 - MIN(raft_core_term(f->core), (uint64_t) 2);
        switch (m.type) {
        case RAFT_MESSAGE_APPEND:
                m.append.prev_index = b % 32;
                m.append.prev_term = c % 8;
                m.append.commit = read_u8(r) % 40;
                m.append.entries = entries;
                m.append.n_entries = read_u8(r) % 5;
                for (size_t i = 0; i < m.append.n_entries; i++) {
                        uint8_t kind = read_u8(r), conf = (kind >> 5) % 4;

                        entries[i] = (RaftEntry) { .term = 1 + kind % 8,
                                                   .type = kind & 8 ? RAFT_ENTRY_CHANGE :
                                                                      RAFT_ENTRY_COMMAND };
                        if (kind & 8) {
                                entries[i].data = f->confs[conf];
                                entries[i].size = f->conf_sizes[conf];
                        }
                }
                break;
        case RAFT_MESSAGE_APPEND_RESULT:
                m.append_result.rejected = b % 32;
                m.append_result.last_index = c % 64;
                break;
        case RAFT_MESSAGE_VOTE:
                m.vote.candidate = 2 + (head >> 4) % 3;
                m.vote.last_index = b % 32;
                m.vote.last_term = b % 8;
                m.vote.disrupt_leader = c & 1;
                m.vote.pre_vote = c & 2;
                break;
        case RAFT_MESSAGE_VOTE_RESULT:
                m.vote_result.granted = b & 1;
                m.vote_result.pre_vote = b & 2;
                break;
        case RAFT_MESSAGE_SNAPSHOT:
                m.snapshot.index = b % 40;
                m.snapshot.index_term = c % 8;
                m.snapshot.configuration_index = 1 + c / 8;
                m.snapshot.configuration = f->confs[b >> 6];
                m.snapshot.configuration_size = f->conf_sizes[b >> 6];
                break;
        case RAFT_MESSAGE_TIMEOUT_NOW:
                m.timeout_now.last_index = b % 32;
                m.timeout_now.last_term = c % 8;
                break;
        }
        return raft_core_receive(f->core, f->now_ms, 2 + (head >> 4) % 3, "x:1", &m);
}

static int change(Fuzz *f, uint8_t what) {
        RaftChange c = { .kind = what % 5, .id = 1 + what / 5 % 5, .address = "e:1", .force = true };
        uint64_t index;
        int r;

        r = raft_core_change(f->core, f->now_ms, &c, &index, NULL);
        return r == -ERESTART || r == -ESHUTDOWN ? r : 0;
}

static int checkpoint(Fuzz *f, uint8_t trailing) {
        RaftStateInfo info = { f->applied, f->applied_term, f->configuration_index, f->configuration,
                               f->configuration_size };
        int r;

        r = f->configuration ? raft_core_checkpointed(f->core, f->now_ms, &info, trailing % 8) : 0;
        return r == -EAGAIN || r == -ESTALE ? 0 : r;
}

/* Execute one step; return 0, or the error that ended the core. */
static int happen(Fuzz *f, Reader *r) {
        uint64_t index, term;
        uint8_t what = read_u8(r);
        int e;

        switch (what % 12) {
        case 0:
                f->now_ms += read_u8(r) * 4;
                return raft_core_tick(f->core, f->now_ms);
        case 1:
                f->now_ms = MAX(f->now_ms, raft_core_timeout_ms(f->core));
                return raft_core_tick(f->core, f->now_ms);
        case 2:
                return f->generation ? raft_core_appended(f->core, f->now_ms, f->generation, f->written) : 0;
        case 3:
                return raft_core_installing(f->core) ? raft_core_installed(f->core, f->now_ms) : 0;
        case 4:
                e = raft_core_submit(f->core, f->now_ms, "x", 1, &index, &term);
                return e == -EREMOTE || e == -EAGAIN ? 0 : e;
        case 5:
                return checkpoint(f, read_u8(r));
        case 6:
                return change(f, read_u8(r));
        case 7:
                e = raft_core_transfer(f->core, f->now_ms, read_u8(r) % 5);
                return e == -ESHUTDOWN || e == -ERESTART ? e : 0;
        default:
                return receive(f, r);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        Fuzz f = { .now_ms = 1000 };
        Reader r = reader_over(bytes, size);
        RaftEntry entries[6];
        int e;

        make_configurations(&f);
        e = raft_core_new(&(RaftCoreOptions) { .id = 1, .address = "a:1", .seed = 1 }, &ops, &f, &f.core);
        assert(e == 0);
        for (size_t i = 0; i < ELEMENTS(entries); i++)
                entries[i] = (RaftEntry) { .term = 1 + i / 2, .type = RAFT_ENTRY_COMMAND };
        entries[0].type = RAFT_ENTRY_CHANGE;
        entries[0].data = f.confs[read_u8(&r) % 4];
        for (unsigned i = 0; i < 4; i++)
                if (f.confs[i] == entries[0].data)
                        entries[0].size = f.conf_sizes[i];
        e = raft_core_start(
                f.core, f.now_ms,
                &(RaftCoreStart) {
                        .term = 3, .first_index = 1, .entries = entries, .n_entries = ELEMENTS(entries) });

        while (e == 0 && r.left > 0)
                e = happen(&f, &r);
        assert(e == 0 || e == -ESHUTDOWN || e == -ERESTART);

        raft_core_free(f.core);
        free(f.configuration);
        for (unsigned i = 0; i < 4; i++)
                free(f.confs[i]);
        return 0;
}
