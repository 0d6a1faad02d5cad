/* Answers: assembled in the buffer of the server, and given to the stream in one write. */
#include <time.h>

#include "base/log.h"
#include "io/http_connection.h"

enum {
        WIPED_MAX = 4096,       /* bytes; an answer with a token is smaller */
        COPIED_MAX = 64 * 1024, /* bytes; up to this size, a copy is cheaper than a second system call */
};

static const char *status_name(unsigned status) {
        static const struct {
                unsigned status;
                const char *name;
        } names[] = {
                { 200, "OK" },
                { 201, "Created" },
                { 204, "No Content" },
                { 301, "Moved Permanently" },
                { 400, "Bad Request" },
                { 401, "Unauthorized" },
                { 403, "Forbidden" },
                { 404, "Not Found" },
                { 405, "Method Not Allowed" },
                { 408, "Request Timeout" },
                { 409, "Conflict" },
                { 410, "Gone" },
                { 412, "Precondition Failed" },
                { 413, "Request Entity Too Large" },
                { 414, "Request URI Too Long" },
                { 415, "Unsupported Media Type" },
                { 431, "Request Header Fields Too Large" },
                { 500, "Internal Server Error" },
                { 503, "Service Unavailable" },
                { 504, "Gateway Timeout" },
                { 505, "HTTP Version Not Supported" },
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (names[i].status == status)
                        return names[i].name;
        return "Unknown";
}

/* Return the IMF-fixdate of RFC 9110, formatted once per second. strftime() would depend on the locale. */
static const char *date_now(HttpServer *server) {
        static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
        static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        uint64_t now_sec = loop_wall_ms(server->loop) / 1000;
        struct tm tm;
        time_t t = now_sec;

        if (server->date_sec == now_sec && server->date[0])
                return server->date;
        server->date_sec = now_sec;
        if (!gmtime_r(&t, &tm))
                return server->date;
        snprintf(server->date, sizeof(server->date), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        return server->date;
}

/* Replace control characters, so that a value cannot inject a second field. */
static void append_value(Text *t, const char *value) {
        size_t clean = 0;

        while ((unsigned char) value[clean] >= ' ' || value[clean] == '\t')
                clean++;
        text_append_bytes(t, value, clean);
        for (const char *p = value + clean; *p; p++)
                text_append_char(t, (unsigned char) *p >= ' ' ? *p : ' ');
}

static void append_field(Text *t, const char *name, const char *value) {
        text_append(t, name);
        text_append_bytes(t, ": ", 2);
        append_value(t, value);
        text_append_bytes(t, "\r\n", 2);
}

/* 'name' contains the colon, and 'value' is the server's own: each answer has such fields. */
static void append_own_field(Text *t, const char *name, const char *value) {
        text_append(t, name);
        text_append(t, value);
        text_append_bytes(t, "\r\n", 2);
}

static void append_head(HttpConnection *c, Text *t, unsigned status, const char *type,
                        const HttpField *fields) {
        http_server_answered(c->server, status);
        text_append_bytes(t, "HTTP/1.1 ", 9);
        text_append_u64(t, status);
        text_append_char(t, ' ');
        text_append(t, status_name(status));
        text_append_bytes(t, "\r\n", 2);
        if (type)
                append_field(t, "Content-Type", type);
        for (const HttpField *f = fields; f && f->name; f++)
                append_field(t, f->name, f->value);
        append_own_field(t, "Date: ", date_now(c->server));
        if (!c->request.keep_alive)
                text_append(t, "Connection: close\r\n");
        else if (c->http10)
                text_append(t, "Connection: keep-alive\r\n");
}

/* Give the buffer to the stream. On a failed allocation, close the stream: a part of an answer must not be
 * sent. */
static int send_out(HttpConnection *c) {
        Text *t = &c->server->out;
        int r = t->error;

        if (r >= 0)
                r = stream_write(c->stream, t->chars, t->size);
        if (r >= 0)
                c->written += t->size;
        else if (r != -EPIPE)
                stream_close(c->stream);
        if (t->size <= WIPED_MAX && t->chars)
                explicit_bzero(t->chars, t->size);
        if (t->capacity > 4 * COPIED_MAX)
                text_done(t);
        return r;
}

static Text *begin_out(HttpConnection *c) {
        text_clear(&c->server->out);
        return &c->server->out;
}

/* While bytes wait for the client, monitor its progress. */
static void watch_progress(HttpConnection *c) {
        if (c->server && stream_queued(c->stream) > 0 && c->due_ms == 0) {
                c->progress = c->written - stream_queued(c->stream);
                http_connection_due_in(c, c->server->limits.answer_ms);
        }
        http_connection_count(c);
}

/* A handler may answer after http_server_free(), or while the stream closes. */
static bool can_answer(HttpRequest *request) {
        return request->connection->server && request->connection->state == HTTP_ACTIVE;
}

static void answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                   const void *body, size_t size, Shared *shared) {
        HttpConnection *c = request->connection;
        bool bodiless = status == 204 || status == 304, sends_body;
        char digits[TEXT_U64_SIZE];
        Text *t;
        int r;

        if (request->sink) {
                request->sink->answer(request, status, type, fields, body, size);
                return;
        }
        if (!can_answer(request))
                return;
        sends_body = !bodiless && !c->is_head && size > 0;
        assert(!c->answering);

        loop_count(c->loop, 0, HTTP_ANSWER_WORK * size);
        t = begin_out(c);
        append_head(c, t, status, type, fields);
        if (!bodiless)
                append_own_field(t, "Content-Length: ", text_u64(size, digits));
        text_append_bytes(t, "\r\n", 2);
        if (sends_body && size <= COPIED_MAX)
                text_append_bytes(t, body, size);
        r = send_out(c);
        if (r == 0 && sends_body && size > COPIED_MAX)
                r = shared ? stream_write_shared(c->stream, shared) : stream_write(c->stream, body, size);
        if (r == 0 && sends_body && size > COPIED_MAX)
                c->written += size;
        http_connection_answered(c);
}

void http_answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                 const void *body, size_t size) {
        answer(request, status, type, fields, body, size, NULL);
}

void http_answer_shared(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                        Shared *body) {
        answer(request, status, type, fields, body->bytes, body->size, body);
}

/* Write the body of an error. Invalid HTTP has the text of Go's server, as in etcd; an exceeded limit has the
 * format of the listener. */
static const char *write_error(HttpServer *server, void *listener, unsigned status, const char *why,
                               Text *body) {
        if (why && status != 400 && status != 505 && server->handler->write_error)
                return server->handler->write_error(server->userdata, listener, status, why, body);
        text_printf(body, "%u %s%s%s", status, status_name(status), why ? ": " : "", why ?: "");
        return "text/plain; charset=utf-8";
}

/* Return the limit that an error with this status reports; _HTTP_LIMIT_MAX: none. */
static HttpLimit limit_of(unsigned status) {
        switch (status) {
        case 408:
                return HTTP_LIMIT_TIME;
        case 413:
                return HTTP_LIMIT_BODY;
        case 414:
                return HTTP_LIMIT_LINE;
        case 431:
                return HTTP_LIMIT_HEAD;
        case 503:
                return HTTP_LIMIT_MEMORY;
        default:
                return _HTTP_LIMIT_MAX;
        }
}

void http_reject(HttpConnection *c, unsigned status, const char *why) {
        _cleanup_text_ Text body = {};
        const char *type = write_error(c->server, c->request.listener, status, why, &body);

        http_server_exceeded(c->server, limit_of(status));
        c->state = HTTP_ACTIVE; /* without a handler; answered at once */
        c->request.keep_alive = false;
        c->is_head = false;
        c->answering = false;
        http_answer(&c->request, status, type,
                    status == 503 ? (HttpField[]) { { "Retry-After", "1" }, {} } : NULL, body.chars ?: "",
                    body.size);
}

void http_reject_stream(HttpServer *server, Stream *stream, void *listener, unsigned status,
                        const char *why) {
        _cleanup_text_ Text body = {}, head = {};
        const char *type = write_error(server, listener, status, why, &body);

        http_server_answered(server, status);
        text_printf(&head,
                    "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: "
                    "close\r\n\r\n%s",
                    status, status_name(status), type, body.size, status == 503 ? "Retry-After: 1\r\n" : "",
                    body.chars ?: "");
        if (head.error == 0)
                (void) stream_write(stream, head.chars, head.size);
        stream_finish(stream);
}

void http_begin(HttpRequest *request, unsigned status, const char *type, const HttpField *fields) {
        HttpConnection *c = request->connection;
        Text *t;

        if (request->sink) {
                request->sink->begin(request, status, type, fields);
                return;
        }
        if (!can_answer(request))
                return;
        assert(!c->answering);

        c->answering = true;
        c->chunked = !c->http10;
        if (!c->chunked)
                request->keep_alive = false; /* the end of the connection marks the end of the body */
        t = begin_out(c);
        append_head(c, t, status, type, fields);
        if (c->chunked)
                text_append(t, "Transfer-Encoding: chunked\r\n");
        text_append_bytes(t, "\r\n", 2);
        (void) send_out(c);
        watch_progress(c);
        if (c->half_closed)
                loop_defer(c->loop, &c->resume);
}

static void append_chunk_size(Text *t, size_t size) {
        static const char hex[] = "0123456789abcdef";
        char digits[20], *p = digits + sizeof(digits);

        *--p = '\n';
        *--p = '\r';
        do
                *--p = hex[size & 15];
        while ((size >>= 4) > 0);
        text_append_bytes(t, p, digits + sizeof(digits) - p);
}

static void append_chunk(HttpConnection *c, Text *t, const void *bytes, size_t size) {
        if (size == 0 || c->is_head)
                return;
        if (c->chunked)
                append_chunk_size(t, size);
        text_append_bytes(t, bytes, size);
        if (c->chunked)
                text_append_bytes(t, "\r\n", 2);
}

/* Return 0 to send the chunk, 1 if there is nothing to send, or an error. The work of sending counts, that of
 * creating the chunk does not. */
static int check_chunk(HttpRequest *request, size_t size) {
        HttpConnection *c = request->connection;

        if (!can_answer(request))
                return -EPIPE;
        assert(c->answering);
        if (size == 0 || c->is_head)
                return 1;
        loop_count(c->loop, 0, size);
        if (stream_held(c->stream) >= c->server->limits.backlog_size) {
                c->wants_drain = true;
                return -ENOBUFS;
        }
        return 0;
}

int http_chunk(HttpRequest *request, const void *bytes, size_t size) {
        HttpConnection *c = request->connection;
        int r;

        if (request->sink)
                return size > 0 ? request->sink->chunk(request, bytes, size, false) : 0;
        r = check_chunk(request, size);
        if (r != 0)
                return r < 0 ? r : 0;
        append_chunk(c, begin_out(c), bytes, size);
        r = send_out(c);
        watch_progress(c);
        return r;
}

int http_chunk_shared(HttpRequest *request, Shared *payload) {
        HttpConnection *c = request->connection;
        int r;

        if (payload->size <= COPIED_MAX || request->sink)
                return http_chunk(request, payload->bytes, payload->size);

        r = check_chunk(request, payload->size);
        if (r != 0)
                return r < 0 ? r : 0;
        if (c->chunked) {
                append_chunk_size(begin_out(c), payload->size);
                r = send_out(c);
        }
        if (r == 0)
                r = stream_write_shared(c->stream, payload);
        if (r == 0) {
                c->written += payload->size;
                if (c->chunked) {
                        text_append_bytes(begin_out(c), "\r\n", 2);
                        r = send_out(c);
                }
        }
        watch_progress(c);
        return r;
}

void http_last(HttpRequest *request, const void *bytes, size_t size) {
        HttpConnection *c = request->connection;
        Text *t;

        if (request->sink) {
                (void) request->sink->chunk(request, bytes, size, true);
                return;
        }
        if (!can_answer(request))
                return;
        assert(c->answering);

        loop_count(c->loop, 0, size);
        t = begin_out(c);
        append_chunk(c, t, bytes, size);
        if (c->chunked && !c->is_head)
                text_append_bytes(t, "0\r\n\r\n", 5);
        if (t->size > 0)
                (void) send_out(c);
        http_connection_answered(c);
}

/* A small payload is one write with the end; a large one is not copied. */
void http_last_shared(HttpRequest *request, Shared *payload) {
        bool copied = payload->size <= COPIED_MAX || request->sink;

        if (!copied)
                (void) http_chunk_shared(request, payload);
        http_last(request, payload->bytes, copied ? payload->size : 0);
}

void http_end(HttpRequest *request) {
        http_last(request, NULL, 0);
}

void http_cut(HttpRequest *request, const char *reason) {
        HttpConnection *c = request->connection;

        if (request->sink) {
                request->sink->cut(request, reason);
                return;
        }
        if (!can_answer(request))
                return;

        log_debug(NO_FIELDS, "http: cut %s %s of %s: %s", request->method, request->target,
                  stream_peer_address(c->stream), reason);
        c->state = HTTP_CLOSING;
        stream_close(c->stream);
}
