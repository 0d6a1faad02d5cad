/* The real network: connecting and listening, TCP and unix sockets, on libuv. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/parse.h"
#include "io/net_uv_internal.h"

enum {
        LISTEN_BACKLOG =
                4096, /* thousands of hosts may return at once; the kernel has a limit, too (somaxconn) */
        ACCEPTS_PER_TURN = 64,

        /* A vanished client is detected within half a minute. */
        KEEPALIVE_IDLE_SEC = 15,
        KEEPALIVE_INTERVAL_SEC = 5,
        KEEPALIVE_COUNT = 3,

        /* Bytes that the kernel accepts before it sends them. Its default is megabytes for each connection
         * whose peer does not read, and no limit of the daemon counts them. */
        UNSENT_MAX = 128 * 1024,
};

/* A connect() in progress. */
struct Connecting {
        uv_connect_t req;
        Timer timeout;
        UvStream *stream;
        UvNetwork *net;
        StreamConnected *done; /* NULL: cancelled, or called */
        void *userdata;
        int error;
};

struct Listener {
        UvLoop *loop;
        UvNetwork *net;
        StreamAccepted *accepted;
        void *userdata;
        unsigned n_accepted; /* in this turn */
        bool waiting;        /* libuv holds a connection that is not accepted yet */
        bool is_tcp, closed;
        Deferred next_turn;
        char *path; /* of a unix socket that this listener created and removes, with its identity */
        dev_t device;
        ino_t inode;
        UvHandle uv;
};

/* -- Addresses -- */

static int address_parse(const char *s, Address *ret, socklen_t *ret_size) {
        char host[INET6_ADDRSTRLEN];
        uint16_t port;

        *ret = (Address) {};
        if (s[0] == '/') {
                if (strlen(s) >= sizeof(ret->un.sun_path))
                        return -ENAMETOOLONG;
                ret->un.sun_family = AF_UNIX;
                memcpy(ret->un.sun_path, s, strlen(s) + 1);
                *ret_size = sizeof(ret->un);
                return 0;
        }
        TRY(parse_address(s, host, sizeof(host), &port));
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

/* Accepted connections inherit these options from their listener. */
static void socket_tune(int fd) {
        int on = 1, idle_sec = KEEPALIVE_IDLE_SEC, interval_sec = KEEPALIVE_INTERVAL_SEC,
            count = KEEPALIVE_COUNT, unsent = UNSENT_MAX;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_sec, sizeof(idle_sec));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_sec, sizeof(interval_sec));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
        (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* -- Connecting -- */

static void connecting_on_closed(uv_handle_t *handle) {
        UvStream *s = handle->data;
        Connecting *c = s->connecting;
        UvLoop *loop = s->loop;

        loop_uv_enter(loop);
        free(s);
        if (c->done)
                c->done(c->userdata, NULL, c->error);
        free(c);
        loop_uv_leave(loop, "connect");
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

        if (uv_is_closing(&s->uv.handle)) /* timed out or cancelled: the close callback reports and frees */
                return;
        if (status < 0) {
                connecting_fail(c, status);
                return;
        }
        loop_uv_enter(s->loop);
        timer_stop(&c->timeout);
        s->connecting = NULL;
        if (s->is_tcp && uv_fileno(&s->uv.handle, &fd) == 0)
                socket_tune(fd);
        uv_stream_connected(s, c->net);
        c->done(c->userdata, &s->base, 0);
        free(c);
        loop_uv_leave(s->loop, "connect");
}

static int connecting_start(Connecting *c, const char *address) {
        Address a;
        socklen_t size;
        int r;

        r = TRY(address_parse(address, &a, &size));
        if (a.any.sa_family != AF_UNIX) {
                r = uv_tcp_connect(&c->req, &c->stream->uv.tcp, &a.any, connecting_on_connected);
                return r == -EINVAL ? -ENETUNREACH : r; /* of a valid address: its route is a blackhole */
        }
        uv_pipe_connect(&c->req, &c->stream->uv.pipe, address, connecting_on_connected);
        return 0;
}

static void net_cancel(Network *net, void *handle) {
        Connecting *c = handle;

        c->done = NULL;
        connecting_fail(c, -ECANCELED);
}

static void *net_connect(Network *net, const char *address, uint64_t timeout_ms, StreamConnected *done,
                         void *userdata, int *ret_error) {
        _cleanup_free_ Connecting *c = NEW0(Connecting, 1);
        int r;

        if (c)
                c->stream = uv_stream_new(loop_uv(net->loop), address[0] != '/');
        if (!c || !c->stream) {
                *ret_error = -ENOMEM;
                return NULL;
        }
        c->net = container_of(net, UvNetwork, base);
        c->done = done;
        c->userdata = userdata;
        c->timeout = TIMER(connecting_on_timeout, c);
        c->stream->connecting = c;

        r = timer_start(&c->timeout, net->loop, timeout_ms);
        if (r == 0)
                r = connecting_start(c, address);
        if (r < 0) {
                net_cancel(net, TAKE_PTR(c));
                *ret_error = r;
                return NULL;
        }
        return TAKE_PTR(c);
}

/* -- Listening -- */

static void listener_accept(Listener *l) {
        UvStream *s;

        l->n_accepted++;
        loop_defer(loop_uv_base(l->loop), &l->next_turn);

        s = uv_stream_new(l->loop, l->is_tcp);
        if (!s)
                return; /* libuv stops accepting until the next turn tries again */
        l->waiting = false;
        if (uv_accept(&l->uv.stream, &s->uv.stream) < 0) {
                uv_stream_end(s, 0); /* it has no owner yet: no event */
                return;
        }
        uv_stream_connected(s, l->net);
        l->accepted(l->userdata, &s->base);
}

/* libuv calls this for each connection until one is not accepted; then it stops until uv_accept(). */
static void listener_on_connection(uv_stream_t *stream, int status) {
        Listener *l = stream->data;

        if (status < 0)
                return;
        loop_uv_enter(l->loop);
        l->waiting = true;
        if (l->n_accepted < ACCEPTS_PER_TURN)
                listener_accept(l);
        loop_uv_leave(l->loop, "accept");
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

int net_uv_listen_fd(Network *net, int given_fd, StreamAccepted *accepted, void *userdata, Listener **ret) {
        _cleanup_close_ int fd = given_fd;
        Address a = {};
        socklen_t size = sizeof(a);
        Listener *l;
        int r;

        if (getsockname(fd, &a.any, &size) < 0)
                return -errno;
        l = NEW0(Listener, 1);
        if (!l)
                return -ENOMEM;
        *l = (Listener) {
                .loop = loop_uv(net->loop),
                .net = container_of(net, UvNetwork, base),
                .accepted = accepted,
                .userdata = userdata,
                .is_tcp = a.any.sa_family != AF_UNIX,
                .next_turn = DEFERRED(listener_on_next_turn, l),
        };
        uv_handle_start(&l->uv, l->loop, l->is_tcp, l);

        if (l->is_tcp)
                socket_tune(fd);
        r = l->is_tcp ? uv_tcp_open(&l->uv.tcp, fd) : uv_pipe_open(&l->uv.pipe, fd);
        if (r == 0) {
                (void) TAKE_FD(fd);
                r = uv_listen(&l->uv.stream, LISTEN_BACKLOG, listener_on_connection);
        }
        if (r < 0) {
                uv_close(&l->uv.handle, listener_on_closed);
                return r;
        }
        *ret = l;
        return 0;
}

/* Return whether this unix socket has no listener. */
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
                if (a->any.sa_family == AF_INET6 &&
                    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                        return -errno;
                return bind(fd, &a->any, size) < 0 ? -errno : 0;
        }

        if (bind(fd, &a->any, size) < 0) {
                if (errno != EADDRINUSE || !socket_is_stale(a, size))
                        return -errno;
                if (unlink(a->un.sun_path) < 0 || bind(fd, &a->any, size) < 0)
                        return -errno;
        }
        /* No client can connect before listen(), so no connection sees another mode. */
        return chmod(a->un.sun_path, 0660) < 0 ? -errno : 0;
}

static int listener_bind(Network *net, const Address *a, socklen_t size, StreamAccepted *accepted,
                         void *userdata, Listener **ret) {
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *path = NULL;
        struct stat st = {};

        fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        TRY(listen_bind(fd, a, size));
        if (a->any.sa_family == AF_UNIX) {
                path = strdup(a->un.sun_path);
                if (!path)
                        return -ENOMEM;
                if (lstat(path, &st) < 0)
                        return -errno;
        }

        TRY(net_uv_listen_fd(net, TAKE_FD(fd), accepted, userdata, ret));
        (*ret)->path = TAKE_PTR(path);
        (*ret)->device = st.st_dev;
        (*ret)->inode = st.st_ino;
        return 0;
}

static int net_listen(Network *net, const char *address, StreamAccepted *accepted, void *userdata,
                      Listener **ret, Error *err) {
        Address a;
        socklen_t size;
        int r;

        r = address_parse(address, &a, &size);
        if (r < 0)
                return error_set(
                        err, r,
                        "Failed to listen on '%s': expected ADDR:PORT, [ADDR6]:PORT or /PATH, in numbers",
                        address);

        r = listener_bind(net, &a, size, accepted, userdata, ret);
        if (r == -EADDRINUSE)
                return error_set(err, r, "Failed to listen on %s: the address is in use", address);
        if (r == -EADDRNOTAVAIL)
                return error_set(err, r, "Failed to listen on %s: this host does not have the address",
                                 address);
        return r < 0 ? error_set(err, r, "Failed to listen on %s: %s", address, strerror(-r)) : 0;
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
        while (!LIST_EMPTY(&net->streams))
                uv_stream_end(LIST_FIRST(&net->streams), 0);
        free(net);
        return NULL;
}
