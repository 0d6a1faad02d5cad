/* Any bytes from an upstream server: the first byte says how they come, and in what pieces; the rest are
 * datagrams, or a stream of TCP. Each client gets one answer at most, and one at the end of the time. */
#include <sys/socket.h>

#include "dns/forward.h"
#include "tests/dns/queries.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int ends[16];
static size_t n_ends, n_answers;

static int fuzz_open(void *userdata, const Address *server, bool tcp) {
        int fds[2];

        if (n_ends == ELEMENTS(ends) ||
            socketpair(AF_UNIX, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                abort();
        ends[n_ends++] = fds[1];
        return fds[0];
}

static uint16_t fuzz_id(void *userdata) {
        return 0x3412; /* that of the query, so that its bytes are an answer with QR */
}

static void fuzz_answer(void *userdata, const ForwardClient *client, const uint8_t *bytes, size_t size) {
        assert(size >= NS_HFIXEDSZ && memcmp(bytes, client->id, 2) == 0 && bytes[2] & 0x80);
        n_answers++;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const ForwardOps ops = { fuzz_open, fuzz_id, fuzz_answer };
        _cleanup_(forward_freep) Forward *f = NULL;
        ForwardClient client = { .kind = SOURCE_HOST, .id = { 'i', 'd' } };
        uint8_t query[4096];
        uint64_t now_ms = 1;
        size_t piece;

        if (size == 0)
                return 0;
        client.connection = bytes[0] & 1;
        piece = 1 + (bytes[0] >> 1) * 8u;
        n_ends = n_answers = 0;
        if (forward_new(&ops, NULL, &f) < 0)
                abort();
        (void) forward_read_servers(f, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n", NULL, 0);
        assert(forward_query(f, &client, query, query_print(query, "a.example", ns_t_a, 0), now_ms) ==
               ns_r_noerror);
        forward_process(f, now_ms);
        for (size_t at = 1; at < size && n_answers == 0; at += piece) {
                (void) !send(ends[n_ends - 1], bytes + at, MIN(piece, size - at), MSG_NOSIGNAL);
                (void) forward_process(f, now_ms);
                (void) forward_process(f, now_ms);
        }
        for (int i = 0; i < 3; i++)
                forward_process(f, now_ms += FORWARD_ATTEMPT_MS);
        assert(n_answers == 1 && forward_process(f, now_ms) == UINT64_MAX);
        for (size_t i = 0; i < n_ends; i++)
                close(ends[i]);
        return 0;
}
