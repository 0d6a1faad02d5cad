/* Streams of the real network: TCP and unix sockets on libuv.
 *
 * A write is tried at once and only what the kernel does not take is copied and queued, so an answer to a client that
 * keeps up costs one call and no memory. All reading goes through the loop's one buffer: a connection that only waits
 * costs its handle. Ends are told from libuv's close callback, hence never from inside a call of the owner. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <uv.h>

#include "base/memory.h"
#include "base/parse.h"
#include "io/loop_uv.h"
#include "io/stream.h"

enum {
        LISTEN_BACKLOG = 1024,
        ACCEPTS_PER_TURN = 64,
        LINGER_MS = 2000, /* how long stream_finish() waits for the other side's FIN */

        /* A client that vanished is found within half a minute. Who asks how long a kernel was silent has it probed
         * every second, and found within six; not everybody, for 10,000 parked clients would cost 20,000 packets/s. */
        KEEPALIVE_IDLE_SEC = 15,
        KEEPALIVE_INTERVAL_SEC = 5,
        KEEPALIVE_COUNT = 3,
        PROBED_COUNT = 5,

        /* What the kernel takes of an answer before it has sent it. Its own measure is megabytes for each connection whose reader
         * sleeps, and nobody of ours counts them. */
        UNSENT_MAX = 128 * 1024,
};

typedef struct UvStream UvStream;

typedef struct UvNetwork {
        Network base;
        UvStream *streams; /* all that are open */
} UvNetwork;

/* One connect() under way. */
typedef struct Connecting {
        uv_connect_t req;
        Timer timeout;
        UvStream *stream;
        UvNetwork *net;
        void (*done)(void *userdata, Stream *s, int error); /* NULL: cancelled, or told */
        void *userdata;
        int error;
} Connecting;

struct UvStream {
        Stream base;
        UvLoop *loop;
        UvNetwork *net; /* NULL once it is gone */
        UvStream *next, *prev;
        Connecting *connecting; /* until connected */
        Timer *linger;          /* set while only the other side's FIN is awaited */
        int error;              /* why it ends */
        bool finishing, closing, saw_end, reading;
        bool is_tcp, probed;
        union {
                uv_handle_t handle;
                uv_stream_t stream;
                uv_tcp_t tcp;
                uv_pipe_t pipe;
        } uv;
};

typedef struct Sending {
        uv_write_t req;
        UvStream *stream;
        Shared *shared; /* or NULL: the bytes follow */
        size_t size;
        uint8_t bytes[];
} Sending;

struct Listener {
        UvLoop *loop;
        UvNetwork *net;
        void (*accepted)(void *userdata, Stream *s);
        void *userdata;
        unsigned n_accepted; /* in this turn */
        bool waiting;        /* libuv holds one more that we have not taken */
        bool is_tcp, closed;
        Deferred next_turn;
        char *path;          /* of a unix socket that we made, with its identity: ours to remove */
        dev_t device;
        ino_t inode;
        union {
                uv_handle_t handle;
                uv_stream_t stream;
                uv_tcp_t tcp;
                uv_pipe_t pipe;
        } uv;
};

typedef union Address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
} Address;

/* -- Addresses -- */

static int address_parse(const char *s, Address *ret, socklen_t *ret_size) {
        char host[INET6_ADDRSTRLEN];
        uint16_t port;
        int r;

        *ret = (Address) {};
        if (s[0] == '/') {
                if (strlen(s) >= sizeof(ret->un.sun_path))
                        return -ENAMETOOLONG;
                ret->un.sun_family = AF_UNIX;
                memcpy(ret->un.sun_path, s, strlen(s) + 1);
                *ret_size = sizeof(ret->un);
                return 0;
        }
        r = parse_address(s, host, sizeof(host), &port);
        if (r < 0)
                return r;
        if (inet_pton(AF_INET, host, &ret->in.sin_addr) == 1) {
                ret->in.sin_family = AF_INET;
                ret->in.sin_port = htons(port);
                *ret_size = sizeof(ret->in);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &ret->in6.sin6_addr) == 1) {
                ret->in6.sin6_family = AF_INET6;
                ret->in6.sin6_port = htons(port);
                *ret_size = sizeof(ret->in6);
                return 0;
        }
        return -EINVAL;
}

static void address_print(const Address *a, char *ret, size_t size) {
        char host[INET6_ADDRSTRLEN] = "";

        ret[0] = 0;
        if (a->any.sa_family == AF_INET && inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host)))
                snprintf(ret, size, "%s:%u", host, ntohs(a->in.sin_port));
        else if (a->any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host)))
                snprintf(ret, size, "[%s]:%u", host, ntohs(a->in6.sin6_port));
}

static void stream_learn_addresses(UvStream *s) {
        Address a = {};
        socklen_t size = sizeof(a);
        int fd;

        if (!s->is_tcp || uv_fileno(&s->uv.handle, &fd) < 0)
                return;
        if (getpeername(fd, &a.any, &size) == 0)
                address_print(&a, s->base.peer_address, sizeof(s->base.peer_address));
        size = sizeof(a);
        if (getsockname(fd, &a.any, &size) == 0)
                address_print(&a, s->base.local_address, sizeof(s->base.local_address));
}

/* -- The end of a stream -- */

static void stream_on_closed(uv_handle_t *handle) {
        UvStream *s = handle->data;

        /* The owner may not have taken notice yet: a connect that failed has none. */
        if (s->base.events)
                s->base.events->on_close(s->base.userdata, s->error,
                                         s->error < 0 ? strerror(-s->error) : "closed");
        free(s);
}

static void stream_unlink(UvStream *s) {
        if (!s->net)
                return;
        if (s->prev)
                s->prev->next = s->next;
        else
                s->net->streams = s->next;
        if (s->next)
                s->next->prev = s->prev;
        s->net = NULL;
}

static void stream_end(UvStream *s, int error) {
        if (s->closing)
                return;

        s->closing = true;
        s->error = error;
        stream_unlink(s);
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

static void stream_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
        UvStream *s = stream->data;

        if (size == 0 || s->closing)
                return;
        if (size == UV_EOF) {
                s->saw_end = true;
                s->reading = false;
                uv_read_stop(stream);
                if (s->linger)
                        stream_end(s, 0);
                else if (!s->finishing)
                        s->base.events->on_read(s->base.userdata, "", 0);
        } else if (size < 0)
                stream_end(s, s->linger ? 0 : (int) size);
        else if (!s->finishing)
                s->base.events->on_read(s->base.userdata, buffer->base, size);
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
                stream_end(s, r);
        else
                s->reading = !paused;
}

/* -- Finishing -- */

static void stream_on_lingered(void *userdata) {
        stream_end(userdata, 0);
}

/* Everything is with the kernel. Closing now, with bytes of the other side unread, would make the kernel send a reset,
 * which can overtake our last words; so say FIN, and read to no purpose until the other side has said its own. */
static void stream_linger(UvStream *s) {
        int fd;

        if (s->saw_end || !(s->linger = NEW0(Timer, 1))) {
                stream_end(s, 0);
                return;
        }
        *s->linger = (Timer) { .fire = stream_on_lingered, .userdata = s };
        if (timer_start(s->linger, loop_uv_base(s->loop), LINGER_MS) < 0 || uv_fileno(&s->uv.handle, &fd) < 0
            || shutdown(fd, SHUT_WR) < 0
            || (!s->reading && uv_read_start(&s->uv.stream, stream_on_alloc, stream_on_read) < 0))
                stream_end(s, 0);
}

static void uv_stream_finish(Stream *base) {
        UvStream *s = container_of(base, UvStream, base);

        if (s->closing || s->finishing)
                return;
        s->finishing = true;
        if (base->queued == 0)
                stream_linger(s);
}

/* Bytes are dropped: that is no orderly end, and the kernel must not keep its own for a reader who may never come. */
static void uv_stream_close(Stream *base) {
        UvStream *s = container_of(base, UvStream, base);
        struct linger reset = { .l_onoff = 1 };
        int fd;

        if (!s->closing && base->queued > 0 && s->is_tcp && uv_fileno(&s->uv.handle, &fd) == 0)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        stream_end(s, 0);
}

/* -- Writing -- */

static void stream_on_sent(uv_write_t *req, int status) {
        Sending *sending = container_of(req, Sending, req);
        UvStream *s = sending->stream;

        s->base.queued -= sending->size;
        shared_unref(sending->shared);
        free(sending);

        if (s->closing)
                return;
        if (status < 0)
                stream_end(s, status);
        else if (s->base.queued == 0) {
                if (s->finishing)
                        stream_linger(s);
                else if (s->base.events && s->base.events->on_drain)
                        s->base.events->on_drain(s->base.userdata);
        }
}

static int stream_queue(UvStream *s, const uint8_t *bytes, size_t size, Shared *shared) {
        _cleanup_free_ Sending *sending = malloc(sizeof(Sending) + (shared ? 0 : size));
        uv_buf_t buffer;
        int r;

        if (!sending)
                return -ENOMEM;

        sending->stream = s;
        sending->size = size;
        sending->shared = shared;
        if (!shared)
                memcpy(sending->bytes, bytes, size);
        buffer = uv_buf_init(shared ? (char *) bytes : (char *) sending->bytes, size);
        r = uv_write(&sending->req, &s->uv.stream, &buffer, 1, stream_on_sent);
        if (r < 0)
                return r;

        if (shared)
                shared_ref(shared);
        s->base.queued += size;
        (void) TAKE_PTR(sending);
        return 0;
}

static int uv_stream_write(Stream *base, const void *bytes, size_t size, Shared *shared) {
        UvStream *s = container_of(base, UvStream, base);
        int r;

        if (s->closing || s->finishing)
                return -EPIPE;

        if (base->queued == 0) {
                uv_buf_t buffer = uv_buf_init((char *) bytes, MIN(size, (size_t) INT32_MAX));

                r = uv_try_write(&s->uv.stream, &buffer, 1);
                if (r < 0 && r != UV_EAGAIN) {
                        stream_end(s, r);
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
                stream_end(s, r); /* half a message may have left: nothing can follow it */
        return r;
}

/* -- What the kernel knows -- */

static uint64_t uv_stream_kernel_silent_ms(const Stream *base) {
        UvStream *s = container_of((Stream *) base, UvStream, base);
        int fd, idle_sec = 1, count = PROBED_COUNT;
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

static int uv_stream_peer_credentials(const Stream *base, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid) {
        const UvStream *s = container_of((Stream *) base, UvStream, base);
        struct ucred who;
        socklen_t size = sizeof(who);
        int fd;

        if (s->is_tcp)
                return -ENOTSUP;
        if (uv_fileno(&s->uv.handle, &fd) < 0)
                return -ENOTCONN;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
                return -errno;
        *ret_uid = who.uid;
        *ret_gid = who.gid;
        *ret_pid = who.pid;
        return 0;
}

static const StreamOps uv_stream_ops = {
        .write = uv_stream_write,
        .pause = uv_stream_pause,
        .close = uv_stream_close,
        .finish = uv_stream_finish,
        .kernel_silent_ms = uv_stream_kernel_silent_ms,
        .peer_credentials = uv_stream_peer_credentials,
};

static UvStream *stream_new(UvLoop *loop, bool is_tcp) {
        UvStream *s = NEW0(UvStream, 1);

        if (!s)
                return NULL;
        s->base.ops = &uv_stream_ops;
        s->loop = loop;
        s->is_tcp = is_tcp;
        if (is_tcp)
                (void) uv_tcp_init(loop_uv_handle(loop), &s->uv.tcp); /* makes no socket yet: cannot fail */
        else
                (void) uv_pipe_init(loop_uv_handle(loop), &s->uv.pipe, 0);
        s->uv.handle.data = s;
        return s;
}

/* A connection has them from its listener. */
static void socket_tune(int fd) {
        int on = 1, idle_sec = KEEPALIVE_IDLE_SEC, interval_sec = KEEPALIVE_INTERVAL_SEC, count = KEEPALIVE_COUNT, unsent = UNSENT_MAX;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_sec, sizeof(idle_sec));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_sec, sizeof(interval_sec));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
        (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void stream_connected(UvStream *s, UvNetwork *net) {
        s->net = net;
        s->next = net->streams;
        if (s->next)
                s->next->prev = s;
        net->streams = s;
        stream_learn_addresses(s);
}

/* -- Connecting -- */

static void connecting_on_closed(uv_handle_t *handle) {
        UvStream *s = handle->data;
        Connecting *c = s->connecting;

        free(s);
        if (c->done)
                c->done(c->userdata, NULL, c->error);
        free(c);
}

static void connecting_fail(Connecting *c, int error) {
        timer_stop(&c->timeout);
        c->error = error;
        if (!uv_is_closing(&c->stream->uv.handle))
                uv_close(&c->stream->uv.handle, connecting_on_closed);
}

static void connecting_on_timeout(void *userdata) {
        connecting_fail(userdata, -ETIMEDOUT);
}

static void connecting_on_connected(uv_connect_t *req, int status) {
        Connecting *c = container_of(req, Connecting, req);
        UvStream *s = c->stream;
        int fd;

        if (uv_is_closing(&s->uv.handle)) /* timed out or cancelled: the close callback tells and frees */
                return;
        if (status < 0) {
                connecting_fail(c, status);
                return;
        }
        timer_stop(&c->timeout);
        s->connecting = NULL;
        if (s->is_tcp && uv_fileno(&s->uv.handle, &fd) == 0)
                socket_tune(fd);
        stream_connected(s, c->net);
        c->done(c->userdata, &s->base, 0);
        free(c);
}

static int connecting_start(Connecting *c, const char *address) {
        Address a;
        socklen_t size;
        int r;

        r = address_parse(address, &a, &size);
        if (r < 0)
                return r;
        if (a.any.sa_family != AF_UNIX)
                return uv_tcp_connect(&c->req, &c->stream->uv.tcp, &a.any, connecting_on_connected);
        uv_pipe_connect(&c->req, &c->stream->uv.pipe, address, connecting_on_connected);
        return 0;
}

static void connecting_drop(uv_handle_t *handle) {
        UvStream *s = handle->data;

        free(s->connecting);
        free(s);
}

static void *net_connect(Network *net, const char *address, uint64_t timeout_ms,
                         void (*done)(void *userdata, Stream *s, int error), void *userdata, int *ret_error) {
        _cleanup_free_ Connecting *c = NEW0(Connecting, 1);
        int r;

        if (c)
                c->stream = stream_new(loop_uv(net->loop), address[0] != '/');
        if (!c || !c->stream) {
                *ret_error = -ENOMEM;
                return NULL;
        }
        c->net = container_of(net, UvNetwork, base);
        c->done = done;
        c->userdata = userdata;
        c->timeout = (Timer) { .fire = connecting_on_timeout, .userdata = c };
        c->stream->connecting = c;

        r = timer_start(&c->timeout, net->loop, timeout_ms);
        if (r == 0)
                r = connecting_start(c, address);
        if (r < 0) {
                timer_stop(&c->timeout);
                uv_close(&TAKE_PTR(c)->stream->uv.handle, connecting_drop);
                *ret_error = r;
                return NULL;
        }
        return TAKE_PTR(c);
}

static void net_cancel(Network *net, void *handle) {
        Connecting *c = handle;

        c->done = NULL;
        connecting_fail(c, -ECANCELED);
}

/* -- Listening -- */

static void listener_accept(Listener *l) {
        UvStream *s;

        l->n_accepted++;
        loop_defer(loop_uv_base(l->loop), &l->next_turn);

        s = stream_new(l->loop, l->is_tcp);
        if (!s)
                return; /* libuv stops accepting until the next turn tries again */
        l->waiting = false;
        if (uv_accept(&l->uv.stream, &s->uv.stream) < 0) {
                stream_end(s, 0); /* nobody owns it yet: closed without a word */
                return;
        }
        stream_connected(s, l->net);
        l->accepted(l->userdata, &s->base);
}

/* libuv calls for one connection after the other until one is left with it; then it stops until that one is taken. */
static void listener_on_connection(uv_stream_t *stream, int status) {
        Listener *l = stream->data;

        if (status < 0)
                return;
        l->waiting = true;
        if (l->n_accepted < ACCEPTS_PER_TURN)
                listener_accept(l);
}

static void listener_on_next_turn(void *userdata) {
        Listener *l = userdata;

        l->n_accepted = 0;
        if (l->waiting)
                listener_accept(l);
}

static void listener_on_closed(uv_handle_t *handle) {
        Listener *l = handle->data;

        free(l->path);
        free(l);
}

static void net_unlisten(Network *net, Listener *l) {
        struct stat st;

        if (!l)
                return;

        deferred_cancel(&l->next_turn);
        if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
                (void) unlink(l->path);
        uv_close(&l->uv.handle, listener_on_closed);
}

static Listener *listener_new(UvNetwork *net, bool is_tcp, void (*accepted)(void *userdata, Stream *s), void *userdata) {
        UvLoop *loop = loop_uv(net->base.loop);
        Listener *l = NEW0(Listener, 1);

        if (!l)
                return NULL;
        *l = (Listener) { .loop = loop, .net = net, .accepted = accepted, .userdata = userdata, .is_tcp = is_tcp };
        l->next_turn = (Deferred) { .run = listener_on_next_turn, .userdata = l };
        if (is_tcp)
                (void) uv_tcp_init(loop_uv_handle(loop), &l->uv.tcp);
        else
                (void) uv_pipe_init(loop_uv_handle(loop), &l->uv.pipe, 0);
        l->uv.handle.data = l;
        return l;
}

int net_uv_listen_fd(Network *net, int given_fd, void (*accepted)(void *userdata, Stream *s), void *userdata,
                     Listener **ret, Error *err) {
        _cleanup_close_ int fd = given_fd;
        Address a = {};
        socklen_t size = sizeof(a);
        Listener *l;
        int r;

        if (getsockname(fd, &a.any, &size) < 0)
                return error_set(err, -errno, "cannot listen on descriptor %d: %s", fd, strerror(errno));
        l = listener_new(container_of(net, UvNetwork, base), a.any.sa_family != AF_UNIX, accepted, userdata);
        if (!l)
                return error_set(err, -ENOMEM, "cannot listen: out of memory");

        if (l->is_tcp)
                socket_tune(fd);
        r = l->is_tcp ? uv_tcp_open(&l->uv.tcp, fd) : uv_pipe_open(&l->uv.pipe, fd);
        if (r == 0) {
                (void) TAKE_FD(fd);
                r = uv_listen(&l->uv.stream, LISTEN_BACKLOG, listener_on_connection);
        }
        if (r < 0) {
                uv_close(&l->uv.handle, listener_on_closed);
                return error_set(err, r, "cannot listen: %s", strerror(-r));
        }
        *ret = l;
        return 0;
}

/* Does anybody answer on this unix socket? */
static bool socket_is_stale(const Address *a, socklen_t size) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (lstat(a->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
                return false;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return fd >= 0 && connect(fd, &a->any, size) < 0 && errno == ECONNREFUSED;
}

static int listen_bind(int fd, const Address *a, socklen_t size) {
        int on = 1;

        if (a->any.sa_family != AF_UNIX) {
                if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                        return -errno;
                if (a->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                        return -errno;
                return bind(fd, &a->any, size) < 0 ? -errno : 0;
        }

        if (bind(fd, &a->any, size) < 0) {
                if (errno != EADDRINUSE || !socket_is_stale(a, size))
                        return -errno;
                if (unlink(a->un.sun_path) < 0 || bind(fd, &a->any, size) < 0)
                        return -errno;
        }
        /* Nobody can connect before listen(), so there is no moment with another mode. */
        return chmod(a->un.sun_path, 0660) < 0 ? -errno : 0;
}

static int net_listen(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s), void *userdata,
                      Listener **ret, Error *err) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *path = NULL;
        struct stat st = {};
        Address a;
        socklen_t size;
        int r;

        r = address_parse(address, &a, &size);
        if (r < 0)
                return error_set(err, r, "cannot listen on '%s': expected ADDR:PORT, [ADDR6]:PORT or /PATH, in numbers",
                                 address);

        fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return error_set(err, -errno, "cannot listen on %s: %s", address, strerror(errno));
        r = listen_bind(fd, &a, size);
        if (r < 0)
                return error_set(err, r, "cannot listen on %s: %s", address,
                                 r == -EADDRINUSE ? "somebody else does already" : strerror(-r));
        if (address[0] == '/') {
                path = strdup(address);
                if (!path)
                        return error_set(err, -ENOMEM, "cannot listen on %s: out of memory", address);
                if (lstat(path, &st) < 0)
                        return error_set(err, -errno, "cannot listen on %s: %s", address, strerror(errno));
        }

        r = net_uv_listen_fd(net, TAKE_FD(fd), accepted, userdata, ret, NULL);
        if (r < 0)
                return error_set(err, r, "cannot listen on %s: %s", address,
                                 r == -EADDRINUSE ? "somebody else does already" : strerror(-r));
        (*ret)->path = TAKE_PTR(path);
        (*ret)->device = st.st_dev;
        (*ret)->inode = st.st_ino;
        return 0;
}

/* -- The network -- */

static const NetworkOps uv_network_ops = {
        .connect = net_connect,
        .cancel = net_cancel,
        .listen = net_listen,
        .unlisten = net_unlisten,
};

int net_uv_new(Network **ret, Loop *loop) {
        UvNetwork *net = NEW0(UvNetwork, 1);

        if (!net)
                return -ENOMEM;
        net->base = (Network) { .ops = &uv_network_ops, .loop = loop };
        *ret = &net->base;
        return 0;
}

Network *net_uv_free(Network *base) {
        UvNetwork *net;

        if (!base)
                return NULL;

        net = container_of(base, UvNetwork, base);
        while (net->streams)
                stream_end(net->streams, 0);
        free(net);
        return NULL;
}
