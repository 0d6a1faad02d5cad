/* Field by field, little-endian. Entries carry their terms as differences: most terms equal the previous one.
 */
#include "kvstore/raft/message.h"

enum { MESSAGE_VERSION = 1 };

/* Bits of the flags byte. */
enum { FLAG_A = 1, FLAG_B = 2 };

/* One direction of a message: fields are written, or read. */
typedef struct Codec {
        Writer *w; /* NULL: read */
        Reader r;
} Codec;

static void code_varint(Codec *c, uint64_t *value) {
        if (c->w)
                write_varint(c->w, *value);
        else
                *value = read_varint(&c->r);
}

static void code_u16(Codec *c, uint16_t *value) {
        if (c->w)
                write_u16(c->w, *value);
        else
                *value = read_u16(&c->r);
}

static void code_flags(Codec *c, bool *a, bool *b) {
        uint8_t flags;

        if (c->w) {
                write_u8(c->w, (*a ? FLAG_A : 0) | (*b ? FLAG_B : 0));
                return;
        }
        flags = read_u8(&c->r);
        c->r.failed |= (flags & ~(FLAG_A | FLAG_B)) != 0;
        *a = flags & FLAG_A;
        *b = flags & FLAG_B;
}

/* Write or read the fields of fixed number. Entries and a configuration follow them. */
static int code_fields(Codec *c, RaftMessage *m) {
        code_varint(c, &m->term);
        switch (m->type) {
        case RAFT_MESSAGE_APPEND:
                code_varint(c, &m->append.prev_index);
                code_varint(c, &m->append.prev_term);
                code_varint(c, &m->append.commit);
                return 0;
        case RAFT_MESSAGE_APPEND_RESULT:
                code_varint(c, &m->append_result.rejected);
                code_varint(c, &m->append_result.last_index);
                code_u16(c, &m->append_result.features);
                code_u16(c, &m->append_result.capacity);
                return 0;
        case RAFT_MESSAGE_VOTE:
                code_varint(c, &m->vote.candidate);
                code_varint(c, &m->vote.last_index);
                code_varint(c, &m->vote.last_term);
                code_flags(c, &m->vote.disrupt_leader, &m->vote.pre_vote);
                return 0;
        case RAFT_MESSAGE_VOTE_RESULT:
                code_flags(c, &m->vote_result.granted, &m->vote_result.pre_vote);
                code_u16(c, &m->vote_result.features);
                code_u16(c, &m->vote_result.capacity);
                return 0;
        case RAFT_MESSAGE_SNAPSHOT:
                code_varint(c, &m->snapshot.index);
                code_varint(c, &m->snapshot.index_term);
                code_varint(c, &m->snapshot.configuration_index);
                return 0;
        case RAFT_MESSAGE_TIMEOUT_NOW:
                code_varint(c, &m->timeout_now.last_index);
                code_varint(c, &m->timeout_now.last_term);
                return 0;
        }
        return -EPROTONOSUPPORT;
}

void raft_message_encode(Writer *w, const RaftMessage *m) {
        RaftMessage fields = *m;
        uint64_t term;

        write_u8(w, MESSAGE_VERSION);
        write_u8(w, m->type);
        (void) code_fields(&(Codec) { .w = w }, &fields);
        if (m->type == RAFT_MESSAGE_SNAPSHOT)
                write_blob(w, m->snapshot.configuration, m->snapshot.configuration_size);
        if (m->type != RAFT_MESSAGE_APPEND)
                return;

        write_varint(w, m->append.n_entries);
        term = m->append.prev_term;
        for (size_t i = 0; i < m->append.n_entries; i++) {
                const RaftEntry *e = &m->append.entries[i];

                write_u8(w, e->type);
                write_varint(w, e->term - term);
                write_blob(w, e->data, e->size);
                term = e->term;
        }
}

static int decode_entries(Reader *r, RaftMessage *m) {
        uint64_t n = read_varint(r), term = m->append.prev_term;

        if (r->failed || n > RAFT_MESSAGE_ENTRIES_MAX)
                return -EBADMSG;
        if (n == 0)
                return 0;

        m->append.entries = NEW0(RaftEntry, n);
        if (!m->append.entries)
                return -ENOMEM;

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
        Codec c = { .r = reader_over(bytes, size) };
        uint8_t version = read_u8(&c.r);
        RaftMessage m = { .type = read_u8(&c.r) };
        int r;

        if (c.r.failed)
                return -EBADMSG;
        if (version != MESSAGE_VERSION)
                return -EPROTONOSUPPORT;

        r = code_fields(&c, &m);
        if (r == 0 && m.type == RAFT_MESSAGE_APPEND)
                r = decode_entries(&c.r, &m);
        if (r == 0 && m.type == RAFT_MESSAGE_SNAPSHOT)
                m.snapshot.configuration = read_blob(&c.r, RAFT_CONFIGURATION_SIZE_MAX,
                                                     &m.snapshot.configuration_size);
        if (r == 0)
                r = reader_end(&c.r);
        if (r < 0) {
                raft_message_done(&m);
                return r;
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
