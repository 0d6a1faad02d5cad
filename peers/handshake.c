#include "peers/handshake.h"

#include "base/parse.h"

static const uint32_t magic = 0x64746c66; /* "fltd" */

void printable_copy(char *ret, size_t ret_size, const void *bytes, size_t size) {
        const char *p = bytes;
        size_t n = MIN(size, ret_size - 1);

        for (size_t i = 0; i < n; i++)
                ret[i] = p[i] ?: '?';
        ret[n] = 0;
        text_keep_to_one_line(ret);
}

const char *handshake_name(const PeerHandshake *handshake) {
        return *handshake->name ? handshake->name : handshake->machine_id;
}

void handshake_write(Writer *w, const PeerHandshake *handshake) {
        write_u32(w, magic);
        write_u16(w, HANDSHAKE_PROTOCOL);
        write_u16(w, HANDSHAKE_PROTOCOL_OLDEST);
        write_u64(w, handshake->cluster_id);
        write_u64(w, handshake->lineage);
        write_string(w, handshake->machine_id);
        write_string(w, handshake->boot_id);
        write_u64(w, handshake->start_number);
        write_u64(w, handshake->nonce);
        write_u64(w, handshake->raft_id);
        write_string(w, handshake->address);
        write_string(w, handshake->name);
}

/* Read a string into an array; a string that does not fit fails the reader. */
static void handshake_read_string(Reader *r, char *ret, size_t ret_size) {
        size_t size;
        const void *p = read_blob(r, ret_size - 1, &size);

        if (p)
                printable_copy(ret, ret_size, p, size);
}

int handshake_read(const void *bytes, size_t size, PeerHandshake *ret, Error *err) {
        Reader r = reader_over(bytes, size);
        PeerHandshake handshake = {};
        unsigned newest, oldest;

        if (read_u32(&r) != magic || r.failed)
                return error_set(err, -EBADMSG, "invalid handshake: not from a fleetd");

        newest = read_u16(&r);
        oldest = read_u16(&r);
        if (!r.failed && (newest < HANDSHAKE_PROTOCOL_OLDEST || oldest > HANDSHAKE_PROTOCOL))
                return error_set(
                        err, -EPROTONOSUPPORT,
                        "no common protocol version: one host supports %u to %u, the other %u to %u; "
                        "upgrade the older host",
                        oldest, newest, HANDSHAKE_PROTOCOL_OLDEST, HANDSHAKE_PROTOCOL);

        handshake.cluster_id = read_u64(&r);
        handshake.lineage = read_u64(&r);
        handshake_read_string(&r, handshake.machine_id, sizeof(handshake.machine_id));
        handshake_read_string(&r, handshake.boot_id, sizeof(handshake.boot_id));
        handshake.start_number = read_u64(&r);
        handshake.nonce = read_u64(&r);
        handshake.raft_id = read_u64(&r);
        handshake_read_string(&r, handshake.address, sizeof(handshake.address));
        handshake_read_string(&r, handshake.name, sizeof(handshake.name));
        if (r.failed || parse_hex_id(handshake.machine_id, 32) < 0 ||
            (*handshake.boot_id && parse_hex_id(handshake.boot_id, 32) < 0))
                return error_set(err, -EBADMSG, "invalid handshake: malformed fields");

        *ret = handshake;
        return 0;
}

bool handshake_has_lineage_of(const PeerHandshake *a, const PeerHandshake *b) {
        return a->lineage == b->lineage || a->lineage == 0 || b->lineage == 0;
}

void rejection_write(Writer *w, Rejection cause, const char *message) {
        write_u16(w, cause);
        write_blob(w, message, MIN(strlen(message), (size_t) REJECTION_MAX / 2));
}

int rejection_read(const void *bytes, size_t size, Rejection *ret, char ret_message[static REJECTION_MAX]) {
        Reader r = reader_over(bytes, size);
        unsigned cause = read_u16(&r);
        size_t n;
        const void *message = read_blob(&r, REJECTION_MAX - 1, &n);

        if (r.failed)
                return -EBADMSG;

        *ret = cause < _REJECTION_MAX ? cause : REJECTION_OTHER;
        printable_copy(ret_message, REJECTION_MAX, message, n);
        return 0;
}
