/* The server: accepts connections, counts those of each client, and limits the memory of all.
 *
 * All bytes that a connection holds count: unparsed input, the request, and the answers that the kernel has
 * not accepted. A connection that exceeds a small buffer enters a queue. When all together exceed the limit,
 * the first of the queue is disconnected, until they do not. Fast clients finish before they become first, so
 * this affects slow clients. */

#include "base/log.h"
#include "base/table.h"
#include "io/http_connection.h"

const HttpLimits http_limits_default = {
        .connections = 10000,
        .line_size = 16 * 1024,
        .head_size = 32 * 1024,
        .fields = 64,
        .ahead_size = 64 * 1024,
        .backlog_size = 256 * 1024,
        .buffer_size = 64 * 1024 * 1024,
        .head_ms = 10000,
        .body_ms = 10000,
        .answer_ms = 10000,
        .idle_ms = 60000,
};

/* The connections of an address, or of a user. */
struct HttpClient {
        UT_hash_handle hh;
        unsigned n;
        char name[ADDRESS_SIZE]; /* without the port */
};

/* A rejected connection, until the client has read the answer. */
struct HttpRejected {
        HttpServer *server; /* NULL after http_server_free() */
        LIST_ENTRY(HttpRejected) rejected;
};

/* -- Counts -- */

const char *http_limit_name(HttpLimit limit) {
        static const char *const names[_HTTP_LIMIT_MAX] = {
                [HTTP_LIMIT_CONNECTIONS] = "connections",
                [HTTP_LIMIT_MEMORY] = "memory",
                [HTTP_LIMIT_TIME] = "time",
                [HTTP_LIMIT_LINE] = "line",
                [HTTP_LIMIT_HEAD] = "head",
                [HTTP_LIMIT_BODY] = "body",
        };

        return names[limit];
}

void http_server_answered(HttpServer *server, unsigned status) {
        unsigned class = status / 100;

        if (class >= 1 && class <= HTTP_CLASSES)
                server->counts.answers[class - 1]++;
}

void http_server_exceeded(HttpServer *server, HttpLimit limit) {
        if (limit < _HTTP_LIMIT_MAX)
                server->counts.rejected[limit]++;
}

HttpCounts http_server_counts(const HttpServer *server) {
        HttpCounts counts = server->counts;

        counts.n_connections = server->n_connections;
        return counts;
}

/* -- Memory -- */

void http_connection_count(HttpConnection *c) {
        size_t held = c->bytes.capacity + c->pending.capacity + stream_held(c->stream);
        HttpServer *server = c->server;

        if (!server || held == c->held)
                return;
        if (held > HTTP_KEPT_MAX && c->held <= HTTP_KEPT_MAX)
                TAILQ_INSERT_TAIL(&server->holders, c, holders);
        else if (held <= HTTP_KEPT_MAX && c->held > HTTP_KEPT_MAX)
                TAILQ_REMOVE(&server->holders, c, holders);
        server->held += held - c->held;
        c->held = held;
        if (server->held > server->limits.buffer_size)
                loop_defer(server->loop, &server->relieve);
}

static void connection_relieve(HttpConnection *c) {
        char text[32];

        if (c->state == HTTP_IN_HEAD || c->state == HTTP_IN_BODY || c->state == HTTP_WAITING) {
                snprintf(c->server->why, sizeof(c->server->why),
                         "all requests together are limited to %s, and this one is the oldest: try again",
                         size_text(c->server->limits.buffer_size, text));
                http_reject(c, 503, c->server->why);
        } else {
                log_debug(NO_FIELDS,
                          "http: disconnected %s: memory limit of all clients exceeded, and its %zu bytes "
                          "are the oldest",
                          stream_peer_address(c->stream), c->held);
                http_server_exceeded(c->server, HTTP_LIMIT_MEMORY);
                http_connection_close(c);
        }
}

static void server_relieve(void *userdata) {
        HttpServer *server = userdata;
        HttpConnection *c;

        while (server->held > server->limits.buffer_size && (c = TAILQ_FIRST(&server->holders))) {
                connection_relieve(c);
                /* The rest is freed with its stream. */
                if (c->held > HTTP_KEPT_MAX)
                        TAILQ_REMOVE(&server->holders, c, holders);
                server->held -= c->held;
                c->held = 0;
        }
}

/* -- Clients -- */

static void client_release(HttpServer *server, HttpClient *client) {
        if (!client || --client->n > 0)
                return;
        HASH_DEL(server->clients, client);
        free(client);
}

/* Count one more connection of the client. -EUSERS: the limit is reached. */
static int client_take(HttpServer *server, const Stream *stream, HttpClient **ret) {
        const char *peer = stream_peer_address(stream), *colon = strrchr(peer, ':');
        char name[ADDRESS_SIZE];
        HttpClient *client;
        uid_t uid;

        if (server->limits.connections_per_client == 0)
                return 0;
        if (colon)
                snprintf(name, sizeof(name), "%.*s", (int) (colon - peer), peer);
        else if (stream_peer_uid(stream, &uid) == 0)
                snprintf(name, sizeof(name), "user %u", (unsigned) uid);
        else
                return 0;

        HASH_FIND_STR(server->clients, name, client);
        if (!client) {
                client = NEW0(HttpClient, 1);
                if (!client)
                        return -ENOMEM;
                memcpy(client->name, name, sizeof(name));
                HASH_ADD_STR(server->clients, name, client);
                if (!TABLE_ADDED_OR_FREED(client))
                        return -ENOMEM;
        }
        if (client->n >= server->limits.connections_per_client)
                return -EUSERS;
        client->n++;
        *ret = client;
        return 0;
}

/* -- Rejected connections -- */

static void rejected_on_read(void *userdata, const void *bytes, size_t size) {}

static void rejected_on_close(void *userdata, int error, const char *reason) {
        HttpRejected *rejected = userdata;

        if (rejected && rejected->server) {
                LIST_REMOVE(rejected, rejected);
                rejected->server->n_rejected--;
        }
        free(rejected);
}

static const StreamEvents rejected_events = { .on_read = rejected_on_read, .on_close = rejected_on_close };

/* For a limited number of connections, wait until the client has read the answer. */
void http_server_reject(HttpServer *server, Stream *stream, void *listener, unsigned status,
                        const char *why) {
        HttpRejected *rejected = server->n_rejected < HTTP_REJECTED_MAX ? NEW0(HttpRejected, 1) : NULL;

        stream_set_events(stream, &rejected_events, rejected);
        if (rejected) {
                rejected->server = server;
                LIST_INSERT_HEAD(&server->rejected, rejected, rejected);
                server->n_rejected++;
        }
        http_reject_stream(server, stream, listener, status, why);
        if (!rejected)
                stream_close(stream);
}

/* Reject a connection beyond a limit. */
static void server_reject(HttpServer *server, Stream *stream, void *listener, int error) {
        snprintf(server->why, sizeof(server->why),
                 error == -EUSERS ? "too many connections of this client; the limit is %llu" :
                                    "too many connections",
                 (unsigned long long) server->limits.connections_per_client);
        http_server_exceeded(server, HTTP_LIMIT_CONNECTIONS);
        http_server_reject(server, stream, listener, 503, server->why);
}

/* -- Scheduling of requests --
 *
 * A request that completes while the turn has budget is handled at once. Others wait in the order of
 * completion, as does the next request of a connection that was served. Small requests do not wait for larger
 * ones: each turn serves one of each class, and then, within its budget, small ones first. */

static bool server_has_no_waiting(const HttpServer *server) {
        return TAILQ_EMPTY(&server->classes[0].waiting) && TAILQ_EMPTY(&server->classes[1].waiting);
}

bool http_server_admit(HttpConnection *c) {
        HttpServer *server = c->server;

        c->class = c->bytes.size > HTTP_SMALL_MAX;
        if (TAILQ_EMPTY(&server->classes[0].waiting) && (c->class == 0 || server_has_no_waiting(server)) &&
            loop_has_budget(server->loop))
                return true;
        if (TAILQ_EMPTY(&server->classes[c->class].waiting))
                server->classes[c->class].served_turn = loop_turns(server->loop)->n;
        TAILQ_INSERT_TAIL(&server->classes[c->class].waiting, c, waiting);
        c->in_queue = true;
        loop_defer(server->loop, &server->serve);
        return false;
}

static void connection_leave_queue(HttpServer *server, HttpConnection *c) {
        if (c->in_queue)
                TAILQ_REMOVE(&server->classes[c->class].waiting, c, waiting);
        c->in_queue = false;
}

static void server_serve_class(HttpServer *server, unsigned class) {
        uint64_t turn = loop_turns(server->loop)->n;
        HttpConnection *c;

        while ((c = TAILQ_FIRST(&server->classes[class].waiting)) &&
               (loop_has_budget(server->loop) || server->classes[class].served_turn != turn)) {
                connection_leave_queue(server, c);
                if (c->state != HTTP_WAITING)
                        continue; /* it was rejected, or closes */
                server->classes[class].served_turn = turn;
                http_connection_handle(c);
                http_connection_count(c);
        }
}

static void server_serve(void *userdata) {
        HttpServer *server = userdata;

        for (unsigned class = 0; class < ELEMENTS(server->classes); class ++)
                server_serve_class(server, class);
        if (!server_has_no_waiting(server))
                loop_defer(server->loop, &server->serve);
}

/* -- Connections -- */

void http_server_accept(HttpServer *server, Stream *stream, void *listener) {
        HttpConnection *c;
        HttpClient *client = NULL;
        int r;

        r = -EMFILE;
        if (server->n_connections < server->limits.connections)
                r = client_take(server, stream, &client);
        c = r == 0 ? NEW0(HttpConnection, 1) : NULL;
        if (!c) {
                client_release(server, client);
                server_reject(server, stream, listener, r);
                return;
        }

        c->server = server;
        c->loop = server->loop;
        c->stream = stream;
        c->client = client;
        c->request.connection = c;
        c->request.listener = listener;
        c->request.stream = stream;
        LIST_INSERT_HEAD(&server->connections, c, connections);
        server->n_connections++;
        http_connection_init(c);
}

void http_connection_unlink(HttpConnection *c) {
        HttpServer *server = c->server;

        if (!server)
                return;
        LIST_REMOVE(c, connections);
        server->n_connections--;
        connection_leave_queue(server, c);
        if (c->held > HTTP_KEPT_MAX)
                TAILQ_REMOVE(&server->holders, c, holders);
        server->held -= c->held;
        client_release(server, c->client);
        c->server = NULL;
}

void http_server_end(HttpServer *server, bool (*ends)(void *userdata, const Stream *stream), void *userdata) {
        HttpConnection *c, *next;

        for (c = LIST_FIRST(&server->connections); c; c = next) {
                next = LIST_NEXT(c, connections);
                if (ends(userdata, c->stream))
                        http_connection_close(c);
        }
}

void http_server_set_limits(HttpServer *server, const HttpLimits *limits) {
        const uint64_t *defaults = (const uint64_t *) &http_limits_default;
        uint64_t *values = (uint64_t *) &server->limits;

        static_assert(sizeof(HttpLimits) % sizeof(uint64_t) == 0, "all limits are 64-bit numbers");
        server->limits = limits ? *limits : http_limits_default;
        for (size_t i = 0; i < sizeof(HttpLimits) / sizeof(uint64_t); i++)
                values[i] = values[i] ?: defaults[i];
}

int http_server_new(HttpServer **ret, Loop *loop, const HttpHandler *handler, void *userdata,
                    const HttpLimits *limits) {
        HttpServer *server = NEW0(HttpServer, 1);

        if (!server)
                return -ENOMEM;

        *server = (HttpServer) { .loop = loop, .handler = handler, .userdata = userdata };
        TAILQ_INIT(&server->holders);
        for (unsigned class = 0; class < ELEMENTS(server->classes); class ++)
                TAILQ_INIT(&server->classes[class].waiting);
        server->serve = DEFERRED(server_serve, server);
        server->relieve = DEFERRED(server_relieve, server);
        http_server_set_limits(server, limits);
        *ret = server;
        return 0;
}

HttpServer *http_server_free(HttpServer *server) {
        HttpRejected *rejected;
        HttpConnection *c;

        if (!server)
                return NULL;

        while ((c = LIST_FIRST(&server->connections))) {
                http_connection_unlink(c);
                http_connection_close(c); /* freed with its stream */
        }
        LIST_FOREACH(rejected, &server->rejected, rejected)
                rejected->server = NULL; /* freed with its stream, too */
        deferred_cancel(&server->serve);
        deferred_cancel(&server->relieve);
        text_done(&server->out);
        free(server);
        return NULL;
}
