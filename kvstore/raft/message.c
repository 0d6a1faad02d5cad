/* Field by field, little-endian. Entries carry their terms as differences: most terms equal the previous one.
 */
#include "kvstore/raft/message.h"

#include <errno.h>

enum { MESSAGE_VERSION = 1 };

/* Bits of the flags byte. */
enum { FLAG_A = 1, FLAG_B = 2 };

static void write_flags(Writer *w, bool a, bool b) {
        write_u8(w, (a ? FLAG_A : 0) | (b ? FLAG_B : 0));
}

static void read_flags(Reader *r, bool *ret_a, bool *ret_b) {
        uint8_t flags = read_u8(r);

        if (flags & ~(FLAG_A | FLAG_B))
                r->failed = true;

        *ret_a = flags & FLAG_A;
        *ret_b = flags & FLAG_B;
}

void raft_message_encode(Writer *w, const RaftMessage *m) {
        uint64_t term;

        write_u8(w, MESSAGE_VERSION);
        write_u8(w, m->type);
        write_varint(w, m->term);

        switch (m->type) {
        case RAFT_MESSAGE_APPEND:
                write_varint(w, m->append.prev_index);
                write_varint(w, m->append.prev_term);
                write_varint(w, m->append.commit);
                write_varint(w, m->append.n_entries);
                term = m->append.prev_term;
                for (size_t i = 0; i < m->append.n_entries; i++) {
                        const RaftEntry *e = &m->append.entries[i];

                        write_u8(w, e->type);
                        write_varint(w, e->term - term);
                        write_blob(w, e->data, e->size);
                        term = e->term;
                }
                break;
        case RAFT_MESSAGE_APPEND_RESULT:
                write_varint(w, m->append_result.rejected);
                write_varint(w, m->append_result.last_index);
                write_u16(w, m->append_result.features);
                write_u16(w, m->append_result.capacity);
                break;
        case RAFT_MESSAGE_VOTE:
                write_varint(w, m->vote.candidate);
                write_varint(w, m->vote.last_index);
                write_varint(w, m->vote.last_term);
                write_flags(w, m->vote.disrupt_leader, m->vote.pre_vote);
                break;
        case RAFT_MESSAGE_VOTE_RESULT:
                write_flags(w, m->vote_result.granted, m->vote_result.pre_vote);
                write_u16(w, m->vote_result.features);
                write_u16(w, m->vote_result.capacity);
                break;
        case RAFT_MESSAGE_SNAPSHOT:
                write_varint(w, m->snapshot.index);
                write_varint(w, m->snapshot.index_term);
                write_varint(w, m->snapshot.configuration_index);
                write_blob(w, m->snapshot.configuration, m->snapshot.configuration_size);
                break;
        case RAFT_MESSAGE_TIMEOUT_NOW:
                write_varint(w, m->timeout_now.last_index);
                write_varint(w, m->timeout_now.last_term);
                break;
        }
}

static int decode_append(Reader *r, RaftMessage *m) {
        uint64_t n, term;

        m->append.prev_index = read_varint(r);
        m->append.prev_term = read_varint(r);
        m->append.commit = read_varint(r);
        n = read_varint(r);
        if (r->failed || n > RAFT_MESSAGE_ENTRIES_MAX)
                return -EBADMSG;
        if (n == 0)
                return 0;

        m->append.entries = NEW0(RaftEntry, n);
        if (!m->append.entries)
                return -ENOMEM;

        term = m->append.prev_term;
        for (uint64_t i = 0; i < n; i++) {
                RaftEntry *e = &m->append.entries[i];
                uint8_t type = read_u8(r);
                uint64_t more = read_varint(r);

                if (type < RAFT_ENTRY_COMMAND || type > RAFT_ENTRY_CHANGE || more > UINT64_MAX - term)
                        return -EBADMSG;

                term += more;
                e->type = type;
                e->term = term;
                e->data = read_blob(r, RAFT_ENTRY_SIZE_MAX, &e->size);
        }
        m->append.n_entries = n;
        return 0;
}

int raft_message_decode(const void *bytes, size_t size, RaftMessage *ret) {
        RaftMessage m = {};
        Reader reader = reader_over(bytes, size), *r = &reader;
        uint8_t version, type;
        int error = 0;

        version = read_u8(r);
        type = read_u8(r);
        if (r->failed)
                return -EBADMSG;
        if (version != MESSAGE_VERSION)
                return -EPROTONOSUPPORT;

        m.type = type;
        m.term = read_varint(r);
        switch (type) {
        case RAFT_MESSAGE_APPEND:
                error = decode_append(r, &m);
                break;
        case RAFT_MESSAGE_APPEND_RESULT:
                m.append_result.rejected = read_varint(r);
                m.append_result.last_index = read_varint(r);
                m.append_result.features = read_u16(r);
                m.append_result.capacity = read_u16(r);
                break;
        case RAFT_MESSAGE_VOTE:
                m.vote.candidate = read_varint(r);
                m.vote.last_index = read_varint(r);
                m.vote.last_term = read_varint(r);
                read_flags(r, &m.vote.disrupt_leader, &m.vote.pre_vote);
                break;
        case RAFT_MESSAGE_VOTE_RESULT:
                read_flags(r, &m.vote_result.granted, &m.vote_result.pre_vote);
                m.vote_result.features = read_u16(r);
                m.vote_result.capacity = read_u16(r);
                break;
        case RAFT_MESSAGE_SNAPSHOT:
                m.snapshot.index = read_varint(r);
                m.snapshot.index_term = read_varint(r);
                m.snapshot.configuration_index = read_varint(r);
                m.snapshot.configuration = read_blob(r, RAFT_CONFIGURATION_SIZE_MAX,
                                                     &m.snapshot.configuration_size);
                break;
        case RAFT_MESSAGE_TIMEOUT_NOW:
                m.timeout_now.last_index = read_varint(r);
                m.timeout_now.last_term = read_varint(r);
                break;
        default:
                return -EPROTONOSUPPORT;
        }

        if (error == 0)
                error = reader_end(r);
        if (error < 0) {
                raft_message_done(&m);
                return error;
        }

        *ret = m;
        return 0;
}

void raft_message_done(RaftMessage *m) {
        if (m->type != RAFT_MESSAGE_APPEND)
                return;

        free(m->append.entries);
        m->append.entries = NULL;
        m->append.n_entries = 0;
}
