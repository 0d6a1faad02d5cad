#include "dns/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/file.h"
#include "base/log.h"

/* The events that are wanted. */
typedef enum ConnectionState {
        CONNECTION_READING = EPOLLIN,  /* a query */
        CONNECTION_WAITING = 0,        /* for its answer; nothing is read */
        CONNECTION_WRITING = EPOLLOUT, /* the answer, in 'output'; nothing is read */
} ConnectionState;

typedef struct Connection {
        TAILQ_ENTRY(Connection) link; /* the one that is idle longest is the first */
        Server *server;               /* borrowed */
        ConnectionState state;
        ForwardClient client;
        sd_event_source *io; /* owns the socket */
        uint64_t deadline_ms;
        uint8_t *input, *output; /* owned, with their sizes before them */
        size_t n_read, output_size, n_written;
} Connection;

struct Server {
        sd_event *event; /* borrowed, as the next three */
        const Table *table;
        SourceList *sources;
        const char *resolv_conf;
        FileStamp resolv_conf_stamp;
        uint64_t resolv_conf_ms; /* of the last look */
        sd_event_source *sockets[SERVER_SOCKETS_MAX], *timer, *post, *forward_io;
        struct sockaddr_in own[SERVER_SOCKETS_MAX]; /* addresses of the sockets */
        size_t n_sockets;
        Forward *forward;
        Random random;
        TAILQ_HEAD(Connections, Connection) connections;
        size_t n_connections, n_output; /* bytes of output */
        uint64_t n_accepted, stopping_ms, logged_ms;
        uint8_t buffer[SERVER_QUERY_MAX];
};

static uint64_t server_now_ms(const Server *s) {
        uint64_t usec = 0;

        (void) sd_event_now(s->event, CLOCK_MONOTONIC, &usec);
        return usec / 1000;
}

/* -- Connections -- */

static void connection_close(Connection *c) {
        c->server->n_output -= c->output_size;
        c->server->n_connections--;
        TAILQ_REMOVE(&c->server->connections, c, link);
        sd_event_source_disable_unref(c->io);
        free(c->input);
        free(c->output);
        free(c);
}

/* Enter a state, which is not idle: the deadline begins again. */
static void connection_enter(Connection *c, ConnectionState state) {
        c->state = state;
        c->deadline_ms = server_now_ms(c->server) + SERVER_NEXT_MS;
        TAILQ_REMOVE(&c->server->connections, c, link);
        TAILQ_INSERT_TAIL(&c->server->connections, c, link);
        if (c->server->stopping_ms > 0 && state == CONNECTION_READING)
                state = CONNECTION_WAITING;
        (void) sd_event_source_set_io_events(c->io, state);
}

/* Write what the socket takes. */
static void connection_write(Connection *c) {
        int r = forward_write_tcp(sd_event_source_get_io_fd(c->io), c->output, c->output_size, &c->n_written);

        if (r < 0)
                connection_close(c);
        if (r <= 0)
                return;
        c->server->n_output -= c->output_size;
        free(c->output);
        c->output = NULL;
        c->output_size = c->n_written = c->n_read = 0;
        connection_enter(c, CONNECTION_READING);
}

/* Write an answer. If too many bytes would wait, close the connections that wait longest before. */
static void connection_answer(Connection *c, const uint8_t *bytes, size_t size) {
        Server *s = c->server;
        Connection *other;

        while (s->n_output + FORWARD_HEAD_SIZE + size > SERVER_OUTPUT_MAX) {
                TAILQ_FOREACH(other, &s->connections, link)
                        if (other->state == CONNECTION_WRITING)
                                break;
                connection_close(other);
        }
        c->output = malloc(FORWARD_HEAD_SIZE + size);
        if (!c->output) {
                connection_close(c);
                return;
        }
        c->output[0] = (uint8_t) (size >> 8);
        c->output[1] = (uint8_t) size;
        memcpy(c->output + FORWARD_HEAD_SIZE, bytes, size);
        c->output_size = FORWARD_HEAD_SIZE + size;
        s->n_output += c->output_size;
        connection_enter(c, CONNECTION_WRITING);
        connection_write(c);
}

/* -- Answers -- */

static void server_send(void *userdata, const ForwardClient *client, const uint8_t *bytes, size_t size) {
        Server *s = userdata;
        Connection *c;

        if (client->connection == 0) /* a failure is as a lost packet */
                (void) sendto(client->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                              (const struct sockaddr *) &client->source, sizeof(client->source));
        TAILQ_FOREACH(c, &s->connections, link)
                if (c->client.connection == client->connection) {
                        connection_answer(c, bytes, size);
                        return;
                }
}

/* Read the servers again if the file behind the path has changed. */
static void server_look_at_resolv_conf(Server *s, uint64_t now_ms) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        FileStamp stamp = {};

        if (now_ms - s->resolv_conf_ms < SERVER_LOOK_MS)
                return;
        s->resolv_conf_ms = now_ms;
        (void) file_stamp_at(AT_FDCWD, s->resolv_conf, &stamp);
        if (memcmp(&stamp, &s->resolv_conf_stamp, sizeof(stamp)) == 0)
                return;
        s->resolv_conf_stamp = stamp;
        path = realpath(s->resolv_conf, NULL);
        if (path)
                (void) read_file_at(AT_FDCWD, path, RESOLV_CONF_MAX, &text, NULL);
        if (forward_read_servers(s->forward, text ?: "", s->own, s->n_sockets) == 0)
                log_warning(NO_FIELDS,
                            "%s names no other server; other names are refused until it has a nameserver",
                            s->resolv_conf);
}

/* Find the answer of a query that is not forwarded, or forward it. Return false if its answer follows. */
static bool server_resolve(Server *s, const ForwardClient *client, const DnsQuery *q, size_t size,
                           DnsAnswer *ret) {
        uint64_t now_ms = server_now_ms(s);

        *ret = (DnsAnswer) { .rcode = q->rcode };
        if (q->rcode != ns_r_noerror)
                return true;
        if (zone_contains(&q->question)) {
                if (q->edns_version > 0)
                        ret->rcode = ns_r_badvers;
                else if (zone_answer(s->table, &q->question, client->connection > 0, &s->random, ret) < 0)
                        ret->rcode = ns_r_servfail;
                return true;
        }
        ret->rcode = ns_r_refused;
        if (!s->resolv_conf || client->kind == SOURCE_ALLOWED || q->question.type == ns_t_axfr ||
            q->question.type == ns_t_ixfr)
                return true;
        server_look_at_resolv_conf(s, now_ms);
        ret->rcode = forward_query(s->forward, client, q->bytes, size, now_ms);
        if (ret->rcode == ns_r_servfail && now_ms - s->logged_ms >= SERVER_LOG_MS) {
                s->logged_ms = now_ms;
                log_warning(NO_FIELDS, "too many queries for other names are in flight; answering SERVFAIL");
        }
        return ret->rcode != ns_r_noerror;
}

/* Answer a query, now or later. Return false if it has no answer. */
static bool server_query(Server *s, ForwardClient *client, const uint8_t *bytes, size_t size) {
        _cleanup_dns_answer_ DnsAnswer answer = {};
        _cleanup_free_ uint8_t *out = NULL;
        size_t out_size;
        DnsQuery q;

        if (message_read(bytes, size, &q) < 0)
                return false;
        memcpy(client->id, bytes, sizeof(client->id));
        if (!server_resolve(s, client, &q, size, &answer))
                return true;
        if (message_write(&q, &answer, s->resolv_conf && client->kind != SOURCE_ALLOWED,
                          client->connection > 0, &out, &out_size) < 0)
                return false;
        server_send(s, client, out, out_size);
        return true;
}

/* -- Sockets -- */

/* Return the interface by which a packet came, from its control data; 0: unknown. */
static unsigned server_arrived(struct msghdr *m) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
                if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
                        return (unsigned) ((struct in_pktinfo *) CMSG_DATA(c))->ipi_ifindex;
        return 0;
}

static int server_on_udp(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Server *s = userdata;

        for (int i = 0; i < SERVER_TURN; i++) {
                ForwardClient client = { .fd = fd };
                _Alignas(struct cmsghdr) uint8_t control[128];
                struct iovec iov = { s->buffer, sizeof(s->buffer) };
                struct msghdr m = { &client.source, sizeof(client.source), &iov, 1,
                                    control,        sizeof(control),       0 };
                ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);

                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0)
                        continue; /* an error of an earlier answer */
                client.kind = sources_check(s->sources, client.source.sin_addr, false, server_arrived(&m),
                                            server_now_ms(s));
                if (client.kind != SOURCE_FOREIGN)
                        (void) server_query(s, &client, s->buffer, (size_t) n);
        }
        return 0;
}

static int connection_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Connection *c = userdata;

        if (c->state == CONNECTION_WRITING)
                connection_write(c);
        else if (c->state == CONNECTION_WAITING) /* the client is gone */
                connection_close(c);
        else {
                _cleanup_free_ uint8_t *query = NULL;
                int r = forward_read_tcp(fd, SERVER_QUERY_MAX, &c->input, &c->n_read);

                if (r > 0) {
                        query = TAKE_PTR(c->input);
                        connection_enter(c, CONNECTION_WAITING);
                        if (server_query(c->server, &c->client, query + FORWARD_HEAD_SIZE,
                                         c->n_read - FORWARD_HEAD_SIZE))
                                return 0;
                }
                if (r != 0)
                        connection_close(c);
        }
        return 0;
}

/* Make room for one more connection of this source. */
static void server_limit_connections(Server *s, const ForwardClient *client) {
        Connection *c, *idle = NULL;
        size_t n = 0;

        TAILQ_FOREACH_REVERSE(c, &s->connections, Connections, link)
        if (forward_is_same_source(&c->client, client)) {
                idle = c;
                n++;
        }
        if (n >= (client->kind == SOURCE_HOST ? SERVER_HOST_CONNECTIONS_MAX : SERVER_SOURCE_CONNECTIONS_MAX))
                connection_close(idle);
        else if (s->n_connections >= SERVER_CONNECTIONS_MAX)
                connection_close(TAILQ_FIRST(&s->connections));
}

/* Begin a connection, or close the socket. */
static void server_accept(Server *s, int fd, ForwardClient *client) {
        Connection *c;

        client->kind = sources_check(s->sources, client->source.sin_addr, true, 0, server_now_ms(s));
        c = client->kind == SOURCE_FOREIGN ? NULL : NEW0(Connection, 1);
        if (!c || sd_event_add_io(s->event, &c->io, fd, EPOLLIN, connection_on_io, c) < 0) {
                free(c);
                close(fd);
                return;
        }
        (void) sd_event_source_set_io_fd_own(c->io, true);
        server_limit_connections(s, client);
        client->connection = ++s->n_accepted;
        c->server = s;
        c->state = CONNECTION_READING;
        c->client = *client;
        c->deadline_ms = server_now_ms(s) + SERVER_FIRST_MS;
        TAILQ_INSERT_TAIL(&s->connections, c, link);
        s->n_connections++;
}

static int server_on_tcp(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata) {
        for (int i = 0; i < SERVER_TURN; i++) {
                ForwardClient client = {};
                socklen_t size = sizeof(client.source);
                int fd = accept4(listen_fd, (struct sockaddr *) &client.source, &size,
                                 SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd < 0)
                        break;
                server_accept(userdata, fd, &client);
        }
        return 0;
}

static bool server_set_option(int fd, int level, int option, int value) {
        return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

int server_add_socket(Server *s, int fd) {
        _cleanup_close_ int owned = fd;
        struct sockaddr_in *own = &s->own[s->n_sockets];
        socklen_t type_size = sizeof(int), size = sizeof(*own);
        int type;

        if (s->n_sockets == SERVER_SOCKETS_MAX)
                return -E2BIG;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 ||
            getsockname(fd, (struct sockaddr *) own, &size) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        if (own->sin_family != AF_INET)
                return -EAFNOSUPPORT;
        /* Connections inherit the sizes of their buffers. */
        if (type == SOCK_DGRAM ? !server_set_option(fd, IPPROTO_IP, IP_PKTINFO, true) :
                                 !server_set_option(fd, SOL_SOCKET, SO_SNDBUF, SERVER_BUFFER) ||
                                         !server_set_option(fd, SOL_SOCKET, SO_RCVBUF, SERVER_BUFFER))
                return -errno;
        TRY(sd_event_add_io(s->event, &s->sockets[s->n_sockets], fd, EPOLLIN,
                            type == SOCK_DGRAM ? server_on_udp : server_on_tcp, s));
        (void) sd_event_source_set_io_fd_own(s->sockets[s->n_sockets++], true);
        (void) TAKE_FD(owned);
        return 0;
}

/* -- The server -- */

static int server_open_upstream(void *userdata, const Address *server, bool tcp) {
        _cleanup_close_ int fd = socket(server->sa.sa_family,
                                        (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, &server->sa, sizeof(*server)) < 0 && errno != EINPROGRESS)
                return -errno;
        return TAKE_FD(fd);
}

static uint16_t server_id(void *userdata) {
        uint16_t id = 0;

        while (getrandom(&id, sizeof(id), 0) != sizeof(id))
                ;
        return id;
}

/* What these two report is found after each event. */
static int server_on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        return 0;
}

static int server_on_forward(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return 0;
}

/* After each event: do what is due, and set the timer to the next deadline, or leave the loop. */
static int server_on_post(sd_event_source *source, void *userdata) {
        Server *s = userdata;
        uint64_t now_ms = server_now_ms(s), deadline_ms = forward_process(s->forward, now_ms);
        Connection *c, *next;

        if (s->stopping_ms > 0 &&
            ((deadline_ms == UINT64_MAX && s->n_output == 0) || now_ms >= s->stopping_ms))
                return sd_event_exit(s->event, 0);
        if (s->stopping_ms > 0)
                deadline_ms = MIN(deadline_ms, s->stopping_ms);
        for (c = TAILQ_FIRST(&s->connections); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (c->deadline_ms <= now_ms)
                        connection_close(c);
                else
                        deadline_ms = MIN(deadline_ms, c->deadline_ms);
        }
        TRY(sd_event_source_set_time(s->timer, deadline_ms == UINT64_MAX ? UINT64_MAX : deadline_ms * 1000));
        return sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

int server_new(sd_event *event, const Table *table, SourceList *sources, const char *resolv_conf,
               Server **ret) {
        static const ForwardOps ops = { server_open_upstream, server_id, server_send };
        _cleanup_(server_freep) Server *s = NEW0(Server, 1);

        if (!s)
                return -ENOMEM;
        s->event = event;
        s->table = table;
        s->sources = sources;
        s->resolv_conf = resolv_conf;
        s->resolv_conf_stamp.device = UINT64_MAX; /* of no file */
        s->resolv_conf_ms = -(uint64_t) SERVER_LOOK_MS;
        s->logged_ms = -(uint64_t) SERVER_LOG_MS;
        TAILQ_INIT(&s->connections);
        TRY(random_seed_from_system(&s->random));
        TRY(forward_new(&ops, s, &s->forward));
        TRY(sd_event_add_io(event, &s->forward_io, forward_fd(s->forward), EPOLLIN, server_on_forward, s));
        TRY(sd_event_add_time(event, &s->timer, CLOCK_MONOTONIC, 0, 1000, server_on_time, s));
        TRY(sd_event_add_post(event, &s->post, server_on_post, s));
        *ret = TAKE_PTR(s);
        return 0;
}

Server *server_free(Server *s) {
        Connection *c;

        if (s) {
                while ((c = TAILQ_FIRST(&s->connections)))
                        connection_close(c);
                for (size_t i = 0; i < s->n_sockets; i++)
                        sd_event_source_disable_unref(s->sockets[i]);
                sd_event_source_disable_unref(s->forward_io);
                sd_event_source_disable_unref(s->timer);
                sd_event_source_disable_unref(s->post);
                forward_free(s->forward);
        }
        free(s);
        return NULL;
}

void server_stop(Server *s) {
        Connection *c;

        s->stopping_ms = server_now_ms(s) + SERVER_STOPPING_MS;
        for (size_t i = 0; i < s->n_sockets; i++)
                (void) sd_event_source_set_enabled(s->sockets[i], SD_EVENT_OFF);
        TAILQ_FOREACH(c, &s->connections, link)
                if (c->state == CONNECTION_READING)
                        (void) sd_event_source_set_io_events(c->io, 0);
}
