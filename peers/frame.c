#include "peers/frame.h"

#include <errno.h>

#include "base/parse.h"

static const uint32_t magic = 0x64746c66; /* "fltd" */

void frame_head(uint8_t head[FRAME_HEAD], PeerFrame type, size_t size) {
        for (size_t i = 0; i < 4; i++)
                head[i] = size >> (8 * i);
        head[4] = type;
}

ssize_t frame_take(const uint8_t *bytes, size_t size, size_t max, Frame *ret) {
        Reader r = reader_over(bytes, size);
        size_t payload = read_u32(&r);
        unsigned type = read_u8(&r);

        if (r.failed)
                return 0;
        if (payload > max)
                return -EMSGSIZE;
        if (payload > r.left)
                return 0;

        *ret = (Frame) { .type = type, .payload = r.bytes, .size = payload };
        return FRAME_HEAD + payload;
}

void printable_copy(char *ret, size_t ret_size, const void *bytes, size_t size) {
        const unsigned char *p = bytes;
        size_t n = MIN(size, ret_size - 1);

        for (size_t i = 0; i < n; i++)
                ret[i] = p[i] >= 0x20 && p[i] != 0x7f ? p[i] : '?';
        ret[n] = 0;
}

void handshake_write(Writer *w, const PeerHandshake *hello) {
        write_u32(w, magic);
        write_u16(w, FRAME_PROTOCOL);
        write_u16(w, FRAME_PROTOCOL_OLDEST);
        write_u64(w, hello->cluster_id);
        write_u64(w, hello->lineage);
        write_string(w, hello->machine_id);
        write_string(w, hello->boot_id);
        write_u64(w, hello->start_number);
        write_u64(w, hello->nonce);
        write_u64(w, hello->raft_id);
        write_string(w, hello->address);
        write_string(w, hello->name);
}

/* A string of fixed room; too long a one fails the reader. */
static void read_fixed(Reader *r, char *ret, size_t ret_size) {
        size_t size;
        const void *p = read_blob(r, ret_size - 1, &size);

        if (p)
                printable_copy(ret, ret_size, p, size);
}

int handshake_read(const void *bytes, size_t size, PeerHandshake *ret, Error *err) {
        Reader r = reader_over(bytes, size);
        PeerHandshake hello = {};
        unsigned newest, oldest;

        if (read_u32(&r) != magic || r.failed)
                return error_set(err, -EBADMSG, "what came is no hello of a fleetd");

        newest = read_u16(&r);
        oldest = read_u16(&r);
        if (!r.failed && (newest < FRAME_PROTOCOL_OLDEST || oldest > FRAME_PROTOCOL))
                return error_set(err, -EPROTONOSUPPORT,
                                 "no common protocol: one side speaks versions %u to %u, the other %u to %u; "
                                 "upgrade the older",
                                 oldest, newest, FRAME_PROTOCOL_OLDEST, FRAME_PROTOCOL);

        hello.cluster_id = read_u64(&r);
        hello.lineage = read_u64(&r);
        read_fixed(&r, hello.machine_id, sizeof(hello.machine_id));
        read_fixed(&r, hello.boot_id, sizeof(hello.boot_id));
        hello.start_number = read_u64(&r);
        hello.nonce = read_u64(&r);
        hello.raft_id = read_u64(&r);
        read_fixed(&r, hello.address, sizeof(hello.address));
        read_fixed(&r, hello.name, sizeof(hello.name));
        if (r.failed || parse_hex_id(hello.machine_id, 32) < 0 ||
            (*hello.boot_id && parse_hex_id(hello.boot_id, 32) < 0))
                return error_set(err, -EBADMSG, "the hello is malformed");

        *ret = hello;
        return 0;
}

void refusal_write(Writer *w, Refusal cause, const char *sentence) {
        write_u16(w, cause);
        write_blob(w, sentence, MIN(strlen(sentence), (size_t) FRAME_REFUSED_MAX / 2));
}

int refusal_read(const void *bytes, size_t size, Refusal *ret, char ret_message[static FRAME_REFUSED_MAX]) {
        Reader r = reader_over(bytes, size);
        unsigned cause = read_u16(&r);
        size_t n;
        const void *sentence = read_blob(&r, FRAME_REFUSED_MAX - 1, &n);

        if (r.failed)
                return -EBADMSG;

        *ret = cause < _REFUSAL_MAX ? cause : REFUSAL_OTHER;
        printable_copy(ret_message, FRAME_REFUSED_MAX, sentence, n);
        return 0;
}
