/* Streams of the real network: TCP and unix sockets on libuv.
 *
 * A write is tried at once; only bytes that the kernel does not accept are copied and queued. So an answer to
 * a client that reads costs one system call and no memory. All streams read into the loop's one buffer: an
 * idle connection costs only its handle. on_close is called from libuv's close callback, therefore never from
 * inside a call of the owner. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "io/net_uv_internal.h"

enum {
        LINGER_MS = 2000, /* wait of stream_finish() for the peer's FIN */

        /* Probes for streams whose kernel is monitored: every second, so that a silent one is detected within
         * six. Not for all: 10,000 parked clients would cost 20,000 packets per second. */
        PROBED_IDLE_SEC = 1,
        PROBED_COUNT = 5,
};

typedef struct Sending {
        uv_write_t req;
        UvStream *stream;
        Shared *shared; /* or NULL: 'bytes' is used */
        size_t size;
        uint8_t bytes[];
} Sending;

static void address_print(const Address *a, char *ret, size_t size) {
        char host[INET6_ADDRSTRLEN] = "";

        ret[0] = 0;
        if (a->any.sa_family == AF_INET && inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host)))
                snprintf(ret, size, "%s:%u", host, ntohs(a->in.sin_port));
        else if (a->any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host)))
                snprintf(ret, size, "[%s]:%u", host, ntohs(a->in6.sin6_port));
}

/* -- The end of a stream -- */

static void stream_on_closed(uv_handle_t *handle) {
        UvStream *s = handle->data;
        UvLoop *loop = s->loop;
        const char *name = stream_events_name(&s->base);

        loop_uv_enter(loop);
        /* A stream that no owner has accepted yet has no events. */
        if (s->base.events)
                s->base.events->on_close(s->base.userdata, s->error,
                                         s->error < 0 ? strerror(-s->error) : "closed");
        free(s);
        loop_uv_leave(loop, name);
}

void uv_stream_end(UvStream *s, int error) {
        if (s->closing)
                return;

        s->closing = true;
        s->error = error;
        if (s->net)
                LIST_REMOVE(s, streams);
        s->net = NULL;
        if (s->linger) {
                timer_stop(s->linger);
                free(TAKE_PTR(s->linger));
        }
        uv_close(&s->uv.handle, stream_on_closed);
}

/* -- Reading -- */

static void stream_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
        UvStream *s = handle->data;

        *buffer = uv_buf_init(loop_uv_buffer(s->loop), LOOP_UV_BUFFER_SIZE);
}

static void stream_take(UvStream *s, ssize_t size, const void *bytes) {
        if (size == UV_EOF) {
                s->saw_end = true;
                s->reading = false;
                uv_read_stop(&s->uv.stream);
                if (s->linger)
                        uv_stream_end(s, 0);
                else if (!s->finishing)
                        s->base.events->on_read(s->base.userdata, "", 0);
        } else if (size < 0)
                uv_stream_end(s, s->linger ? 0 : (int) size);
        else if (!s->finishing)
                s->base.events->on_read(s->base.userdata, bytes, size);
}

static void stream_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
        UvStream *s = stream->data;

        if (size == 0 || s->closing)
                return;
        loop_uv_enter(s->loop);
        loop_uv_base(s->loop)->n_inputs++;
        stream_take(s, size, buffer->base);
        if (size > 0) /* it may have a token or a secret */
                explicit_bzero(buffer->base, (size_t) size);
        loop_uv_leave(s->loop,
                      stream_events_name(&s->base)); /* still valid: libuv frees it after this callback */
}

static void uv_stream_pause(Stream *base, bool paused) {
        UvStream *s = container_of(base, UvStream, base);
        int r;

        if (s->closing || s->finishing || s->saw_end || s->reading == !paused)
                return;
        if (paused)
                r = uv_read_stop(&s->uv.stream);
        else
                r = uv_read_start(&s->uv.stream, stream_on_alloc, stream_on_read);
        if (r < 0)
                uv_stream_end(s, r);
        else
                s->reading = !paused;
}

/* -- Finishing -- */

static void stream_on_lingered(void *userdata) {
        uv_stream_end(userdata, 0);
}

/* The kernel has accepted all bytes. If the peer's bytes are unread, closing now would send a reset, which
 * can overtake the last bytes. So send FIN, and discard input until the peer's FIN. */
static void stream_linger(UvStream *s) {
        int fd;

        if (s->saw_end || !(s->linger = NEW0(Timer, 1))) {
                uv_stream_end(s, 0);
                return;
        }
        *s->linger = TIMER(stream_on_lingered, s);
        if (timer_start(s->linger, loop_uv_base(s->loop), LINGER_MS) < 0 ||
            uv_fileno(&s->uv.handle, &fd) < 0 || shutdown(fd, SHUT_WR) < 0 ||
            (!s->reading && uv_read_start(&s->uv.stream, stream_on_alloc, stream_on_read) < 0))
                uv_stream_end(s, 0);
}

static void uv_stream_finish(Stream *base) {
        UvStream *s = container_of(base, UvStream, base);

        if (s->closing || s->finishing)
                return;
        s->finishing = true;
        if (base->held == 0)
                stream_linger(s);
}

/* Queued bytes are dropped, so send a reset: the kernel must not keep its own part for a peer that may never
 * read it. */
static void uv_stream_close(Stream *base) {
        UvStream *s = container_of(base, UvStream, base);
        struct linger reset = { .l_onoff = 1 };
        int fd;

        if (!s->closing && base->held > 0 && s->is_tcp && uv_fileno(&s->uv.handle, &fd) == 0)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        uv_stream_end(s, 0);
}

/* -- Writing -- */

static void stream_on_sent(uv_write_t *req, int status) {
        Sending *sending = container_of(req, Sending, req);
        UvStream *s = sending->stream;

        s->base.held -= sizeof(Sending) + sending->size;
        shared_unref(sending->shared);
        free(sending);

        if (s->closing)
                return;
        loop_uv_enter(s->loop);
        if (status < 0)
                uv_stream_end(s, status);
        else if (s->base.held == 0) {
                if (s->finishing)
                        stream_linger(s);
                else if (s->base.events && s->base.events->on_drain)
                        s->base.events->on_drain(s->base.userdata);
        }
        loop_uv_leave(s->loop, stream_events_name(&s->base));
}

static int stream_queue(UvStream *s, const uint8_t *bytes, size_t size, Shared *shared) {
        _cleanup_free_ Sending *sending = malloc(sizeof(Sending) + (shared ? 0 : size));
        uv_buf_t buffer;

        if (!sending)
                return -ENOMEM;

        sending->stream = s;
        sending->size = size;
        sending->shared = shared;
        if (!shared)
                memcpy(sending->bytes, bytes, size);
        buffer = uv_buf_init(shared ? (char *) bytes : (char *) sending->bytes, size);
        TRY(uv_write(&sending->req, &s->uv.stream, &buffer, 1, stream_on_sent));

        if (shared)
                shared_ref(shared);
        s->base.held += sizeof(Sending) + size;
        (void) TAKE_PTR(sending);
        return 0;
}

static int uv_stream_write(Stream *base, const void *bytes, size_t size, Shared *shared) {
        UvStream *s = container_of(base, UvStream, base);
        int r;

        if (s->closing || s->finishing)
                return -EPIPE;

        if (base->held == 0) {
                uv_buf_t buffer = uv_buf_init((char *) bytes, MIN(size, (size_t) INT32_MAX));

                r = uv_try_write(&s->uv.stream, &buffer, 1);
                if (r < 0 && r != UV_EAGAIN) {
                        uv_stream_end(s, r);
                        return -EPIPE;
                }
                if (r > 0) {
                        bytes = (const uint8_t *) bytes + r;
                        size -= r;
                }
                if (size == 0)
                        return 0;
        }
        r = stream_queue(s, bytes, size, shared);
        if (r < 0)
                uv_stream_end(s, r); /* a part of the message may have left: no other can follow */
        return r;
}

static size_t uv_stream_queued(const Stream *base) {
        const UvStream *s = container_of((Stream *) base, UvStream, base);

        return uv_stream_get_write_queue_size(&s->uv.stream);
}

/* -- State in the kernel -- */

static uint64_t uv_stream_kernel_silent_ms(const Stream *base) {
        UvStream *s = container_of((Stream *) base, UvStream, base);
        int fd, idle_sec = PROBED_IDLE_SEC, count = PROBED_COUNT;
        struct tcp_info info;
        socklen_t size = sizeof(info);

        if (!s->is_tcp || s->closing || uv_fileno(&s->uv.handle, &fd) < 0)
                return UINT64_MAX;
        if (!s->probed) {
                (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_sec, sizeof(idle_sec));
                (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_sec, sizeof(idle_sec));
                (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
                s->probed = true;
        }
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
                return UINT64_MAX;
        return info.tcpi_last_ack_recv;
}

/* The descriptor of a unix socket. */
static int uv_stream_socket(const Stream *base, int *ret) {
        const UvStream *s = container_of((Stream *) base, UvStream, base);

        if (s->is_tcp)
                return -ENOTSUP;
        return uv_fileno(&s->uv.handle, ret) < 0 ? -ENOTCONN : 0;
}

static int uv_stream_peer(const Stream *base, struct ucred *ret) {
        socklen_t size = sizeof(*ret);
        int fd;

        TRY(uv_stream_socket(base, &fd));
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &size) < 0 ? -errno : 0;
}

static int uv_stream_peer_uid(const Stream *base, uid_t *ret) {
        struct ucred peer;

        TRY(uv_stream_peer(base, &peer));
        *ret = peer.uid;
        return 0;
}

static int uv_stream_peer_groups(const Stream *base, gid_t **ret, size_t *ret_n) {
        _cleanup_free_ gid_t *groups = NULL;
        struct ucred peer;
        socklen_t size = 0;
        int fd;

        TRY(uv_stream_peer(base, &peer));
        TRY(uv_stream_socket(base, &fd));
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) < 0 && errno != ERANGE)
                return -errno;
        groups = malloc(size + sizeof(gid_t));
        if (!groups)
                return -ENOMEM;
        if (size > 0 && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
                return -errno;
        groups[size / sizeof(gid_t)] = peer.gid;
        *ret_n = size / sizeof(gid_t) + 1;
        *ret = TAKE_PTR(groups);
        return 0;
}

static const StreamOps uv_stream_ops = {
        .write = uv_stream_write,
        .pause = uv_stream_pause,
        .close = uv_stream_close,
        .finish = uv_stream_finish,
        .queued = uv_stream_queued,
        .kernel_silent_ms = uv_stream_kernel_silent_ms,
        .peer_uid = uv_stream_peer_uid,
        .peer_groups = uv_stream_peer_groups,
};

void uv_handle_start(UvHandle *uv, UvLoop *loop, bool is_tcp, void *owner) {
        if (is_tcp)
                (void) uv_tcp_init(loop_uv_handle(loop), &uv->tcp); /* creates no socket yet: cannot fail */
        else
                (void) uv_pipe_init(loop_uv_handle(loop), &uv->pipe, 0);
        uv->handle.data = owner;
}

UvStream *uv_stream_new(UvLoop *loop, bool is_tcp) {
        UvStream *s = NEW0(UvStream, 1);

        if (!s)
                return NULL;
        s->base.ops = &uv_stream_ops;
        s->loop = loop;
        s->is_tcp = is_tcp;
        uv_handle_start(&s->uv, loop, is_tcp, s);
        return s;
}

void uv_stream_connected(UvStream *s, UvNetwork *net) {
        Address a = {};
        socklen_t size = sizeof(a);
        int fd;

        s->net = net;
        LIST_INSERT_HEAD(&net->streams, s, streams);
        if (s->is_tcp && uv_fileno(&s->uv.handle, &fd) == 0 && getpeername(fd, &a.any, &size) == 0)
                address_print(&a, s->base.peer_address, sizeof(s->base.peer_address));
}
