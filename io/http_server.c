/* The server: takes connections over, counts what each client and all together have, and gives memory back.
 *
 * All that a connection holds is counted: what was read and not parsed, the request, and what the kernel did
 * not take of its answers. Whoever comes to hold more than a small buffer stands in a queue; when all
 * together hold too much, the first of the queue goes, until they do not. Who sends or reads as fast as
 * others do is through before it is his turn: it hits who is slow. */
#include <errno.h>
#include <stdio.h>

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

/* How many connections an address has, or a user. */
struct HttpClient {
        UT_hash_handle hh;
        unsigned n;
        char name[];
};

/* A refused one, until it has read why. */
struct HttpStray {
        HttpServer *server; /* NULL once the server is gone */
        HttpStray *next, *prev;
};

/* -- What they hold -- */

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
                http_refuse(c, 503, c->server->why);
        } else {
                log_debug(NO_FIELDS,
                          "http: %s has held %zu bytes for longest, and all together hold too many: cut",
                          stream_peer_address(c->stream), c->held);
                http_connection_gone(c);
                http_connection_close(c);
        }
}

static void server_relieve(void *userdata) {
        HttpServer *server = userdata;
        HttpConnection *c;

        while (server->held > server->limits.buffer_size && (c = TAILQ_FIRST(&server->holders))) {
                connection_relieve(c);
                /* What it still has goes with its stream. */
                if (c->held > HTTP_KEPT_MAX)
                        TAILQ_REMOVE(&server->holders, c, holders);
                server->held -= c->held;
                c->held = 0;
        }
}

size_t http_server_held(const HttpServer *server) {
        return server->held;
}

/* -- Who they are -- */

static void client_release(HttpServer *server, HttpClient *client) {
        if (!client || --client->n > 0)
                return;
        HASH_DEL(server->clients, client);
        free(client);
}

/* Counts one more connection of this client. -EUSERS: it has as many as it may. */
static int client_take(HttpServer *server, const Stream *stream, HttpClient **ret) {
        const char *peer = stream_peer_address(stream), *colon = strrchr(peer, ':');
        char name[80];
        size_t size;
        HttpClient *client;
        uid_t uid;
        gid_t gid;
        pid_t pid;

        if (server->limits.connections_per_client == 0)
                return 0;
        if (colon)
                snprintf(name, sizeof(name), "%.*s", (int) (colon - peer), peer);
        else if (stream_peer_credentials(stream, &uid, &gid, &pid) == 0)
                snprintf(name, sizeof(name), "user %u", (unsigned) uid);
        else
                return 0;

        size = strlen(name);
        HASH_FIND(hh, server->clients, name, size, client);
        if (!client) {
                client = calloc(1, sizeof(HttpClient) + size + 1);
                if (!client)
                        return -ENOMEM;
                memcpy(client->name, name, size);
                HASH_ADD_KEYPTR(hh, server->clients, client->name, size, client);
                if (!TABLE_ADDED(client)) {
                        free(client);
                        return -ENOMEM;
                }
        }
        if (client->n >= server->limits.connections_per_client)
                return -EUSERS;
        client->n++;
        *ret = client;
        return 0;
}

/* -- Who is not let in -- */

static void stray_on_read(void *userdata, const void *bytes, size_t size) {}

static void stray_on_close(void *userdata, int error, const char *reason) {
        HttpStray *stray = userdata;

        if (stray && stray->server) {
                *(stray->prev ? &stray->prev->next : &stray->server->strays) = stray->next;
                if (stray->next)
                        stray->next->prev = stray->prev;
                stray->server->n_strays--;
        }
        free(stray);
}

static const StreamEvents stray_events = { .on_read = stray_on_read, .on_close = stray_on_close };

/* Says why, and waits until it was heard; but not for any number of them. */
static void server_refuse(HttpServer *server, Stream *stream, void *door, int error) {
        HttpStray *stray = server->n_strays < HTTP_STRAYS_MAX ? NEW0(HttpStray, 1) : NULL;

        stream_set_events(stream, &stray_events, stray);
        if (stray) {
                stray->server = server;
                stray->next = server->strays;
                if (stray->next)
                        stray->next->prev = stray;
                server->strays = stray;
                server->n_strays++;
        }
        snprintf(server->why, sizeof(server->why),
                 error == -EUSERS ? "too many connections of this client, who may have %llu" :
                                    "too many connections",
                 (unsigned long long) server->limits.connections_per_client);
        http_refuse_stream(server, stream, door, 503, server->why);
        if (!stray)
                stream_close(stream);
}

/* -- Requests, a turn's work at a time --
 *
 * Requests that are complete while this turn has room are handled at once. The others wait in the order in
 * which they were complete, and so does the next one of a connection that has been served. Small ones do not
 * wait for larger ones: of each lane one is served in every turn, and then, while there is room, small ones
 * first. */

static bool is_empty(const HttpServer *server) {
        return TAILQ_EMPTY(&server->lanes[0].waiting) && TAILQ_EMPTY(&server->lanes[1].waiting);
}

bool http_server_admit(HttpConnection *c) {
        HttpServer *server = c->server;

        c->lane = c->bytes.size > HTTP_SMALL_MAX;
        if (TAILQ_EMPTY(&server->lanes[0].waiting) && (c->lane == 0 || is_empty(server)) &&
            loop_has_room(server->loop))
                return true;
        if (TAILQ_EMPTY(&server->lanes[c->lane].waiting))
                server->lanes[c->lane].served_turn = loop_turns(server->loop)->n;
        TAILQ_INSERT_TAIL(&server->lanes[c->lane].waiting, c, waiting);
        c->in_queue = true;
        loop_defer(server->loop, &server->serve);
        return false;
}

static void leave_queue(HttpServer *server, HttpConnection *c) {
        if (c->in_queue)
                TAILQ_REMOVE(&server->lanes[c->lane].waiting, c, waiting);
        c->in_queue = false;
}

static void serve_priority(HttpServer *server, unsigned lane) {
        uint64_t turn = loop_turns(server->loop)->n;
        HttpConnection *c;

        while ((c = TAILQ_FIRST(&server->lanes[lane].waiting)) &&
               (loop_has_room(server->loop) || server->lanes[lane].served_turn != turn)) {
                leave_queue(server, c);
                if (c->state != HTTP_WAITING)
                        continue; /* it was refused, or closes */
                server->lanes[lane].served_turn = turn;
                http_connection_handle(c);
                http_connection_count(c);
        }
}

static void server_serve(void *userdata) {
        HttpServer *server = userdata;

        for (unsigned lane = 0; lane < ELEMENTS(server->lanes); lane++)
                serve_priority(server, lane);
        if (!is_empty(server))
                loop_defer(server->loop, &server->serve);
}

/* -- Connections -- */

void http_server_accept(HttpServer *server, Stream *stream, void *door) {
        HttpConnection *c = NULL;
        HttpClient *client = NULL;
        int r;

        r = server->n_connections < server->limits.connections ? client_take(server, stream, &client) :
                                                                 -EMFILE;
        if (r == 0)
                c = NEW0(HttpConnection, 1);
        if (!c) {
                client_release(server, client);
                server_refuse(server, stream, door, r);
                return;
        }

        c->server = server;
        c->loop = server->loop;
        c->stream = stream;
        c->client = client;
        c->request.connection = c;
        c->request.door = door;
        c->request.stream = stream;
        c->next = server->connections;
        if (c->next)
                c->next->prev = c;
        server->connections = c;
        server->n_connections++;
        http_connection_init(c);
}

void http_connection_unlink(HttpConnection *c) {
        HttpServer *server = c->server;

        if (!server)
                return;
        *(c->prev ? &c->prev->next : &server->connections) = c->next;
        if (c->next)
                c->next->prev = c->prev;
        server->n_connections--;
        leave_queue(server, c);
        if (c->held > HTTP_KEPT_MAX)
                TAILQ_REMOVE(&server->holders, c, holders);
        server->held -= c->held;
        client_release(server, c->client);
        c->server = NULL;
}

void http_server_set_limits(HttpServer *server, const HttpLimits *limits) {
        HttpLimits *l = &server->limits;

        *l = limits ? *limits : http_limits_default;
        l->connections = l->connections ?: http_limits_default.connections;
        l->line_size = l->line_size ?: http_limits_default.line_size;
        l->head_size = l->head_size ?: http_limits_default.head_size;
        l->fields = l->fields ?: http_limits_default.fields;
        l->ahead_size = l->ahead_size ?: http_limits_default.ahead_size;
        l->backlog_size = l->backlog_size ?: http_limits_default.backlog_size;
        l->buffer_size = l->buffer_size ?: http_limits_default.buffer_size;
        l->head_ms = l->head_ms ?: http_limits_default.head_ms;
        l->body_ms = l->body_ms ?: http_limits_default.body_ms;
        l->answer_ms = l->answer_ms ?: http_limits_default.answer_ms;
        l->idle_ms = l->idle_ms ?: http_limits_default.idle_ms;
}

int http_server_new(HttpServer **ret, Loop *loop, const HttpHandler *handler, void *userdata,
                    const HttpLimits *limits) {
        HttpServer *server = NEW0(HttpServer, 1);

        if (!server)
                return -ENOMEM;

        *server = (HttpServer) { .loop = loop, .handler = handler, .userdata = userdata };
        TAILQ_INIT(&server->holders);
        for (unsigned lane = 0; lane < ELEMENTS(server->lanes); lane++)
                TAILQ_INIT(&server->lanes[lane].waiting);
        server->serve = DEFERRED(server_serve, server);
        server->relieve = DEFERRED(server_relieve, server);
        http_server_set_limits(server, limits);
        *ret = server;
        return 0;
}

HttpServer *http_server_free(HttpServer *server) {
        if (!server)
                return NULL;

        while (server->connections) {
                HttpConnection *c = server->connections;

                http_connection_unlink(c);
                http_connection_close(c); /* the connection goes with its stream */
        }
        for (HttpStray *stray = server->strays; stray; stray = stray->next)
                stray->server = NULL; /* goes with its stream, too */
        deferred_cancel(&server->serve);
        deferred_cancel(&server->relieve);
        text_done(&server->out);
        free(server);
        return NULL;
}

unsigned http_server_connections(const HttpServer *server) {
        return server->n_connections;
}
