#include "fleetd/identity/enter_message.h"

#include "base/parse.h"
#include "peers/peers.h"

static_assert((int) ENTER_REQUEST_MAX <= (int) PEER_JOIN_FRAME_MAX, "a request is a frame of a joining host");

enum { ENTER_EXPOSED = 1 }; /* flags of a request */

void enter_request_done(EnterRequest *request) {
        free(request->csr);
        explicit_bzero(request, sizeof(*request));
}

void enter_answer_done(EnterAnswer *answer) {
        free(answer->refusal);
        free(answer->certificate);
        free(answer->roots);
        *answer = (EnterAnswer) {};
}

void enter_request_write(const EnterRequest *request, Writer *w) {
        write_u8(w, ENTER_PROTOCOL);
        write_u8(w, request->exposed ? ENTER_EXPOSED : 0);
        write_string(w, request->token);
        write_raw(w, request->secret, sizeof(request->secret));
        write_string(w, request->csr);
        write_u32(w, request->level);
}

int enter_request_read(const void *bytes, size_t size, EnterRequest *ret, Error *err) {
        _cleanup_enter_request_ EnterRequest read = {};
        Reader r = reader_over(bytes, size);
        _cleanup_free_ char *token = NULL;
        const void *secret;
        uint8_t version, flags;

        version = read_u8(&r);
        flags = read_u8(&r);
        token = read_string(&r, TOKEN_ID_SIZE - 1);
        secret = read_raw(&r, sizeof(read.secret));
        read.csr = read_string(&r, ENTER_CSR_MAX);
        read.level = read_u32(&r);
        if (reader_end(&r) < 0 || version != ENTER_PROTOCOL || parse_hex_id(token, TOKEN_ID_SIZE - 1) < 0 ||
            !read.csr[0])
                return error_set(err, -EBADMSG, "invalid join request; upgrade the older of the two hosts");
        memcpy(read.token, token, sizeof(read.token));
        memcpy(read.secret, secret, sizeof(read.secret));
        read.exposed = flags & ENTER_EXPOSED;
        *ret = read;
        read.csr = NULL;
        return 0;
}

void enter_answer_write(const EnterAnswer *answer, Writer *w) {
        write_u8(w, ENTER_PROTOCOL);
        write_u8(w, answer->refusal != NULL);
        write_string(w, answer->refusal);
        write_u64(w, answer->cluster_id);
        write_u64(w, answer->lineage);
        write_string(w, answer->certificate);
        write_string(w, answer->roots);
        write_varint(w, answer->n_endpoints);
        for (size_t i = 0; i < answer->n_endpoints; i++)
                write_string(w, answer->endpoints[i]);
}

static int enter_endpoints_read(Reader *r, EnterAnswer *ret) {
        uint64_t n = read_varint(r);
        char host[ADDRESS_SIZE];
        uint16_t port;

        if (n > ENTER_ENDPOINTS_MAX)
                return -EBADMSG;
        for (; ret->n_endpoints < n; ret->n_endpoints++) {
                _cleanup_free_ char *address = read_string(r, ADDRESS_SIZE - 1);

                if (!address || parse_address(address, host, sizeof(host), &port) < 0)
                        return -EBADMSG;
                snprintf(ret->endpoints[ret->n_endpoints], ADDRESS_SIZE, "%s", address);
        }
        return reader_end(r);
}

int enter_answer_read(const void *bytes, size_t size, EnterAnswer *ret, Error *err) {
        _cleanup_enter_answer_ EnterAnswer read = {};
        Reader r = reader_over(bytes, size);
        uint8_t version, rejected;

        version = read_u8(&r);
        rejected = read_u8(&r);
        read.refusal = read_string(&r, ERROR_MESSAGE_MAX);
        read.cluster_id = read_u64(&r);
        read.lineage = read_u64(&r);
        read.certificate = read_string(&r, ENTER_CERT_MAX);
        read.roots = read_string(&r, ENTER_ROOTS_MAX);
        if (enter_endpoints_read(&r, &read) < 0 || version != ENTER_PROTOCOL || rejected > 1 ||
            (!rejected && (read.cluster_id == 0 || read.lineage == 0 || !read.certificate[0] ||
                           !read.roots[0] || read.n_endpoints == 0)))
                return error_set(err, -EBADMSG,
                                 "invalid answer to the join request; upgrade the older of the two hosts");
        if (!rejected) {
                free(read.refusal);
                read.refusal = NULL;
        }
        *ret = TAKE_STRUCT(read);
        return 0;
}
