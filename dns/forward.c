#include "dns/forward.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

enum {
        EVENTS_MAX = 64, /* of one turn */
        READS_MAX = 8,   /* of one socket in a turn */
};

/* A query to the servers, one after the other. */
typedef struct ForwardQuery {
        TAILQ_ENTRY(ForwardQuery) link;
        size_t size; /* of the query */
        bool tcp;
        Address servers[FORWARD_SERVERS_MAX]; /* without those that failed: an error, SERVFAIL or REFUSED */
        size_t n_servers;
        unsigned n_attempts;
        int fd;                /* -1: none */
        uint64_t deadline_ms;  /* of this attempt */
        size_t n_sent, n_read; /* TCP */
        uint8_t *answer;       /* TCP: with its size; owned */
        uint8_t *failure;      /* the last answer with SERVFAIL or REFUSED; owned */
        size_t failure_size;
        ForwardClient *clients; /* owned */
        size_t n_clients;
        uint8_t bytes[]; /* the size of the query, as over TCP, and the query with its own ID */
} ForwardQuery;

struct Forward {
        const ForwardOps *ops;
        void *userdata;
        int epoll_fd;
        TAILQ_HEAD(, ForwardQuery) queries;
        Address servers[FORWARD_SERVERS_MAX];
        size_t n_servers;
        Address preferred;
        uint64_t preferred_ms; /* until then */
        uint8_t buffer[NS_MAXMSG];
};

int forward_new(const ForwardOps *ops, void *userdata, Forward **ret) {
        _cleanup_(forward_freep) Forward *f = NEW0(Forward, 1);

        if (!f)
                return -ENOMEM;
        f->ops = ops;
        f->userdata = userdata;
        TAILQ_INIT(&f->queries);
        f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (f->epoll_fd < 0)
                return -errno;
        *ret = TAKE_PTR(f);
        return 0;
}

static void query_close(ForwardQuery *q) {
        if (q->fd >= 0)
                close(q->fd); /* leaves the epoll descriptor, too */
        q->fd = -1;
        free(q->answer);
        q->answer = NULL;
        q->n_sent = q->n_read = 0;
}

static ForwardQuery *query_free(ForwardQuery *q) {
        if (q) {
                query_close(q);
                free(q->failure);
                free(q->clients);
        }
        free(q);
        return NULL;
}

DEFINE_CLEANUP(ForwardQuery *, query_free)

Forward *forward_free(Forward *f) {
        ForwardQuery *q;

        if (f) {
                while ((q = TAILQ_FIRST(&f->queries))) {
                        TAILQ_REMOVE(&f->queries, q, link);
                        query_free(q);
                }
                if (f->epoll_fd > 0)
                        close(f->epoll_fd);
        }
        free(f);
        return NULL;
}

int forward_fd(const Forward *f) {
        return f->epoll_fd;
}

bool forward_is_same_source(const ForwardClient *a, const ForwardClient *b) {
        return a->kind == b->kind &&
               (a->kind == SOURCE_HOST || a->source.sin_addr.s_addr == b->source.sin_addr.s_addr);
}

/* Parse an address: "10.0.0.1", "fd00::1", or "fe80::1%eth0" with the name or number of its interface. */
static bool address_parse(char *text, Address *ret) {
        char *zone = strchr(text, '%');

        *ret = (Address) { .in6.sin6_port = htons(NS_DEFAULTPORT) };
        ret->sa.sa_family = strchr(text, ':') ? AF_INET6 : AF_INET;
        if (ret->sa.sa_family == AF_INET)
                return inet_pton(AF_INET, text, &ret->in.sin_addr) == 1;
        if (zone) {
                *zone++ = 0;
                ret->in6.sin6_scope_id = if_nametoindex(zone) ?: (uint32_t) strtoul(zone, NULL, 10);
        }
        return inet_pton(AF_INET6, text, &ret->in6.sin6_addr) == 1;
}

size_t forward_read_servers(Forward *f, const char *text, const struct sockaddr_in *own, size_t n_own) {
        char address[64];

        f->n_servers = 0;
        for (const char *line = text; line && f->n_servers < FORWARD_SERVERS_MAX;
             line = strchr(line, '\n'), line += line != NULL) {
                Address *server = &f->servers[f->n_servers];
                size_t i = 0;

                if (sscanf(line, "nameserver%*[ \t]%63[^ \t\r\n;#]", address) != 1 ||
                    !address_parse(address, server))
                        continue;
                while (i < n_own && memcmp(&own[i], &server->in, sizeof(own[i])) != 0)
                        i++;
                f->n_servers += i == n_own;
        }
        return f->n_servers;
}

/* -- Queries -- */

/* Answer all clients, and end the query. 'answer' NULL: no memory for one. */
static void query_end(Forward *f, ForwardQuery *q, uint8_t *answer, size_t size) {
        for (size_t i = 0; answer && i < q->n_clients; i++) {
                memcpy(answer, q->clients[i].id, 2);
                f->ops->answer(f->userdata, &q->clients[i], answer, size);
        }
        TAILQ_REMOVE(&f->queries, q, link);
        query_free(q);
}

/* No server is left: pass the last failure on, or SERVFAIL. */
static void query_fail(Forward *f, ForwardQuery *q) {
        DnsAnswer answer = { .rcode = ns_r_servfail };
        DnsQuery query;

        if (!q->failure && message_read(q->bytes + FORWARD_HEAD_SIZE, q->size, &query) == 0)
                (void) message_write(&query, &answer, true, q->tcp, &q->failure, &q->failure_size);
        query_end(f, q, q->failure, q->failure_size);
}

static bool query_watch(Forward *f, ForwardQuery *q, int operation, uint32_t events) {
        struct epoll_event event = { .events = events, .data.ptr = q };

        return epoll_ctl(f->epoll_fd, operation, q->fd, &event) == 0;
}

static bool query_send_udp(ForwardQuery *q) {
        return send(q->fd, q->bytes + FORWARD_HEAD_SIZE, q->size, MSG_NOSIGNAL) == (ssize_t) q->size;
}

/* Take the server that was asked out of the list, or put it at the end. A single one keeps its socket. */
static void query_rotate(ForwardQuery *q, bool has_failed) {
        Address asked = q->servers[0];

        if (has_failed || q->n_servers > 1)
                query_close(q);
        memmove(q->servers, q->servers + 1, --q->n_servers * sizeof(asked));
        if (!has_failed)
                q->servers[q->n_servers++] = asked;
}

static bool query_open(Forward *f, ForwardQuery *q) {
        uint16_t id = f->ops->id(f->userdata);

        query_close(q);
        memcpy(q->bytes + FORWARD_HEAD_SIZE, &id, 2);
        q->fd = f->ops->open(f->userdata, &q->servers[0], q->tcp);
        return q->fd >= 0 && query_watch(f, q, EPOLL_CTL_ADD, q->tcp ? EPOLLOUT : EPOLLIN) &&
               (q->tcp || query_send_udp(q));
}

/* Ask the first server. If it is the same one again, send by the same socket with the same ID, so that a late
 * answer counts. */
static void query_ask(Forward *f, ForwardQuery *q, uint64_t now_ms) {
        while (q->n_attempts < FORWARD_ATTEMPTS_MAX && q->n_servers > 0) {
                q->n_attempts++;
                q->deadline_ms = now_ms + FORWARD_ATTEMPT_MS;
                if (q->fd < 0 ? query_open(f, q) : q->tcp || query_send_udp(q))
                        return;
                query_rotate(q, true);
        }
        query_fail(f, q);
}

static void query_on_failure(Forward *f, ForwardQuery *q, uint64_t now_ms) {
        query_rotate(q, true);
        query_ask(f, q, now_ms);
}

/* A message of the server. Return whether it ends this attempt. */
static bool query_take(Forward *f, ForwardQuery *q, uint8_t *bytes, size_t size, uint64_t now_ms) {
        int rcode = message_answers(q->bytes + FORWARD_HEAD_SIZE, q->size, bytes, size);
        uint8_t *copy;

        if (rcode < 0)
                return false;
        if (rcode != ns_r_servfail && rcode != ns_r_refused) {
                f->preferred = q->servers[0];
                f->preferred_ms = now_ms + FORWARD_PREFERRED_MS;
                query_end(f, q, bytes, size);
                return true;
        }
        copy = malloc(size);
        if (copy) {
                free(q->failure);
                q->failure = memcpy(copy, bytes, size);
                q->failure_size = size;
        }
        query_on_failure(f, q, now_ms);
        return true;
}

static void query_on_udp(Forward *f, ForwardQuery *q, uint64_t now_ms) {
        for (int i = 0; i < READS_MAX; i++) {
                ssize_t n = recv(q->fd, f->buffer, sizeof(f->buffer), MSG_DONTWAIT);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < 0) {
                        query_on_failure(f, q, now_ms);
                        return;
                }
                if (query_take(f, q, f->buffer, (size_t) n, now_ms))
                        return;
        }
}

int forward_read_tcp(int fd, size_t max, uint8_t **bytes, size_t *n) {
        for (;;) {
                size_t size = *n < FORWARD_HEAD_SIZE ? 0 : (size_t) (*bytes)[0] << 8 | (*bytes)[1];
                uint8_t *grown;
                ssize_t r;

                if (size > max || (*n == FORWARD_HEAD_SIZE && size == 0))
                        return -EBADMSG;
                if (*n > FORWARD_HEAD_SIZE && *n == FORWARD_HEAD_SIZE + size)
                        return 1;
                grown = realloc(*bytes, FORWARD_HEAD_SIZE + size);
                if (!grown)
                        return -ENOMEM;
                *bytes = grown;
                r = recv(fd, grown + *n, FORWARD_HEAD_SIZE + size - *n, MSG_DONTWAIT);
                if (r < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                if (r == 0)
                        return -ECONNRESET;
                *n += (size_t) r;
        }
}

int forward_write_tcp(int fd, const uint8_t *bytes, size_t size, size_t *n) {
        ssize_t r = send(fd, bytes + *n, size - *n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (r < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        *n += (size_t) r;
        return *n == size;
}

static void query_on_tcp(Forward *f, ForwardQuery *q, uint64_t now_ms) {
        bool writes = q->n_sent < FORWARD_HEAD_SIZE + q->size;
        int r = writes ? forward_write_tcp(q->fd, q->bytes, FORWARD_HEAD_SIZE + q->size, &q->n_sent) :
                         forward_read_tcp(q->fd, NS_MAXMSG, &q->answer, &q->n_read);

        if (r > 0 &&
            (writes ? query_watch(f, q, EPOLL_CTL_MOD, EPOLLIN) :
                      query_take(f, q, q->answer + FORWARD_HEAD_SIZE, q->n_read - FORWARD_HEAD_SIZE, now_ms)))
                return;
        if (r != 0)
                query_on_failure(f, q, now_ms);
}

/* Return whether one more query of this client may be in flight: each source has a share, and so have this
 * host and all others together. Set *ret_equal to one that is equal, all bytes after the ID, and has room, or
 * to NULL. */
static bool forward_has_room(const Forward *f, const ForwardClient *client, const uint8_t *bytes, size_t size,
                             ForwardQuery **ret_equal) {
        bool is_host = client->kind == SOURCE_HOST;
        size_t n = 0, n_half = 0, n_bytes = size, n_half_bytes = size;
        ForwardQuery *q;

        *ret_equal = NULL;
        TAILQ_FOREACH(q, &f->queries, link) {
                for (size_t i = 0; i < q->n_clients; i++) {
                        bool is_same = forward_is_same_source(&q->clients[i], client),
                             is_half = (q->clients[i].kind == SOURCE_HOST) == is_host;

                        n += is_same;
                        n_half += is_half;
                        n_bytes += is_same && i == 0 ? q->size : 0;
                        n_half_bytes += is_half && i == 0 ? q->size : 0;
                }
                if (q->size == size && q->tcp == (client->connection > 0) &&
                    q->n_clients < FORWARD_SHARED_MAX &&
                    memcmp(q->bytes + FORWARD_HEAD_SIZE + 2, bytes + 2, size - 2) == 0)
                        *ret_equal = q;
        }
        return n_half < FORWARD_HALF_CLIENTS_MAX && (is_host || n < FORWARD_SOURCE_CLIENTS_MAX) &&
               (*ret_equal ||
                (n_half_bytes <= FORWARD_HALF_BYTES_MAX && (is_host || n_bytes <= FORWARD_SOURCE_BYTES_MAX)));
}

static int query_add_client(ForwardQuery *q, const ForwardClient *client) {
        ForwardClient *more = realloc(q->clients, (q->n_clients + 1) * sizeof(*more));

        if (!more)
                return -ENOMEM;
        q->clients = more;
        q->clients[q->n_clients++] = *client;
        return 0;
}

ns_rcode forward_query(Forward *f, const ForwardClient *client, const uint8_t *bytes, size_t size,
                       uint64_t now_ms) {
        _cleanup_(query_freep) ForwardQuery *q = NULL;
        ForwardQuery *equal;

        if (f->n_servers == 0)
                return ns_r_refused;
        if (!forward_has_room(f, client, bytes, size, &equal))
                return ns_r_servfail;
        if (equal)
                return query_add_client(equal, client) < 0 ? ns_r_servfail : ns_r_noerror;
        q = calloc(1, sizeof(*q) + FORWARD_HEAD_SIZE + size);
        if (q)
                q->fd = -1;
        if (!q || query_add_client(q, client) < 0)
                return ns_r_servfail;
        q->bytes[0] = (uint8_t) (size >> 8);
        q->bytes[1] = (uint8_t) size;
        memcpy(q->bytes + FORWARD_HEAD_SIZE, bytes, size);
        q->size = size;
        q->tcp = client->connection > 0;
        memcpy(q->servers, f->servers, sizeof(q->servers));
        q->n_servers = f->n_servers;
        for (size_t i = 1; i < q->n_servers && now_ms < f->preferred_ms &&
                           memcmp(&q->servers[0], &f->preferred, sizeof(f->preferred)) != 0;
             i++)
                query_rotate(q, false);
        TAILQ_INSERT_TAIL(&f->queries, q, link);
        query_ask(f, TAKE_PTR(q), now_ms);
        return ns_r_noerror;
}

uint64_t forward_process(Forward *f, uint64_t now_ms) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(f->epoll_fd, events, ELEMENTS(events), 0);
        uint64_t deadline_ms = UINT64_MAX;
        ForwardQuery *q, *next;

        for (int i = 0; i < n; i++) {
                q = events[i].data.ptr;
                if (q->tcp)
                        query_on_tcp(f, q, now_ms);
                else
                        query_on_udp(f, q, now_ms);
        }
        for (q = TAILQ_FIRST(&f->queries); q; q = next) {
                next = TAILQ_NEXT(q, link);
                if (q->deadline_ms <= now_ms) {
                        query_rotate(q, false);
                        query_ask(f, q, now_ms);
                }
        }
        TAILQ_FOREACH(q, &f->queries, link)
                deadline_ms = MIN(deadline_ms, q->deadline_ms);
        return deadline_ms;
}
