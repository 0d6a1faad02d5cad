/* Requests: from the bytes of a stream to the handler.
 *
 * llhttp parses. This file reads the method itself and passes "POST" to llhttp, so that unknown methods reach
 * the handler and none has special framing (CONNECT, PRI). While a request is answered, no further one is
 * parsed: pipelined bytes are kept up to a limit, and FIN is detected.
 *
 * A connection reuses one buffer for its requests: a keep-alive request of common size costs no allocation, a
 * parked one some hundred bytes. */
#include "io/http.h"

#include "base/log.h"
#include "io/http_connection.h"

/* -- Deadlines -- */

void http_connection_due_in(HttpConnection *c, uint64_t ms) {
        uint64_t now_ms;

        if (ms == 0) {
                c->due_ms = 0;
                return;
        }
        now_ms = loop_now_ms(c->loop);
        c->due_ms = now_ms + ms;
        /* A later deadline keeps the running timer, which is started again when it fires. */
        if (!timer_armed(&c->timer) || c->timer.due_ms > c->due_ms + c->loop->grain_ms)
                if (timer_start(&c->timer, c->loop, ms) < 0)
                        stream_close(c->stream);
}

/* Return whether the counter 'bytes' has grown enough since the last check. */
static bool makes_progress(HttpConnection *c, uint64_t bytes) {
        bool enough = bytes >= c->progress + HTTP_PROGRESS_BYTES;

        c->progress = bytes;
        return enough;
}

static void connection_gone(HttpConnection *c) {
        if (c->state != HTTP_ACTIVE)
                return;

        c->state = HTTP_CLOSING;
        if (c->server)
                c->server->handler->on_gone(c->server->userdata, &c->request);
}

void http_connection_close(HttpConnection *c) {
        connection_gone(c);
        c->state = HTTP_CLOSING;
        stream_close(c->stream);
}

static void connection_on_timer(void *userdata) {
        HttpConnection *c = userdata;
        size_t queued = stream_queued(c->stream);
        uint64_t now_ms = loop_now_ms(c->loop);

        if (c->due_ms == 0)
                return;
        if (now_ms < c->due_ms) {
                http_connection_due_in(c, c->due_ms - now_ms);
                return;
        }

        c->due_ms = 0;
        if (queued > 0) {
                if (c->server && makes_progress(c, c->written - queued)) {
                        http_connection_due_in(c, c->server->limits.answer_ms);
                        http_connection_count(c);
                } else {
                        log_debug(NO_FIELDS, "http: disconnected %s: it does not read its answer",
                                  stream_peer_address(c->stream));
                        http_connection_close(c);
                }
                return;
        }
        switch (c->state) {
        case HTTP_IN_METHOD:
                if (c->method_size > 0)
                        http_reject(c, 408, "the request was not received in time");
                else {
                        c->state = HTTP_CLOSING;
                        stream_finish(c->stream);
                }
                return;
        case HTTP_IN_HEAD:
                http_reject(c, 408, "the request was not received in time");
                return;
        case HTTP_IN_BODY:
                if (makes_progress(c, c->bytes.size))
                        http_connection_due_in(c, c->server->limits.body_ms);
                else
                        http_reject(c, 408, "the body was not received in time");
                return;
        case HTTP_WAITING:
        case HTTP_ACTIVE:
        case HTTP_CLOSING: /* the stream lingers, and closes without a further action */
                return;
        }
}

/* -- Parsing -- */

static bool is_token(unsigned char b) {
        return (b >= 'A' && b <= 'Z') || (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') ||
               (b && strchr("!#$%&'*+-.^_`|~", b));
}

void http_connection_begin(HttpConnection *c) {
        if (c->bytes.capacity > HTTP_KEPT_MAX)
                text_done(&c->bytes);
        text_clear(&c->bytes);
        memset(c->n_kept, 0, sizeof(c->n_kept));
        c->n_fields = 0;
        c->target_at = c->body_at = 0;
        c->name_size = c->method_size = c->line_spaces = 0;
        c->field = _HTTP_KEPT_NONE;
        c->value_open = c->line_over = c->answering = c->wants_drain = false;
        c->head_size = 0;
        c->request.userdata = NULL;
        c->state = c->clock = HTTP_IN_METHOD;
}

/* Read the method and the space after it. Return the number of bytes that were consumed. */
static size_t parse_method(HttpConnection *c, const char *bytes, size_t size) {
        for (size_t i = 0; i < size; i++) {
                if (c->method_size == 0 && (bytes[i] == '\r' || bytes[i] == '\n') && ++c->head_size < 16)
                        continue; /* some clients send empty lines between requests (RFC 9112, 2.2) */
                if (bytes[i] == ' ' && c->method_size > 0) {
                        c->method[c->method_size] = 0;
                        llhttp_reset(&c->parser);
                        (void) llhttp_execute(&c->parser, "POST ", 5);
                        c->state = HTTP_IN_HEAD;
                        return i + 1;
                }
                if (!is_token(bytes[i]) || c->method_size == HTTP_METHOD_MAX) {
                        http_reject(c, 400, NULL);
                        return size;
                }
                c->method[c->method_size++] = bytes[i];
        }
        return size;
}

/* A parked request keeps its head; the memory of the body is freed. */
static void request_park(HttpConnection *c) {
        char *smaller;

        if (c->bytes.capacity <= HTTP_KEPT_MAX)
                return;
        c->bytes.size = c->body_at;
        smaller = realloc(c->bytes.chars, c->bytes.size + 1);
        if (smaller) {
                c->bytes.chars = smaller;
                c->bytes.capacity = c->bytes.size + 1;
        }
        c->bytes.chars[c->bytes.size] = 0;
        http_request_fill(c);
}

static void request_complete(HttpConnection *c) {
        text_append_char(&c->bytes, 0); /* terminates a body that is text; not counted */
        c->bytes.size--;
        if (c->bytes.error < 0) {
                http_reject(c, 503, "out of memory");
                return;
        }
        c->progress = c->written - stream_queued(c->stream);
        http_connection_due_in(c, stream_queued(c->stream) > 0 ? c->server->limits.answer_ms : 0);
        if (http_server_admit(c))
                http_connection_handle(c);
        else
                c->state = HTTP_WAITING;
}

void http_connection_handle(HttpConnection *c) {
        http_request_fill(c);
        c->state = HTTP_ACTIVE;
        loop_count(c->loop, 0, HTTP_REQUEST_WORK * c->bytes.size);
        c->server->handler->on_request(c->server->userdata, &c->request);
        if (c->state == HTTP_ACTIVE)
                request_park(c);
}

/* Remember the last byte that was no space or tab, for the next piece. */
static void remember_end(HttpConnection *c) {
        for (const char *p = c->input_end; p > c->input; p--)
                if (p[-1] != ' ' && p[-1] != '\t') {
                        c->before = p[-1];
                        return;
                }
}

/* Return whether the request line has one space after the target and no other; the parser would accept more.
 */
static bool line_is_plain(HttpConnection *c, const char *bytes, size_t size) {
        for (size_t i = 0; i < size && !c->line_over; i++)
                if (bytes[i] == '\n')
                        c->line_over = true;
                else if (bytes[i] == ' ' && ++c->line_spaces > 1)
                        return false;
        return true;
}

/* Parse head and body. Return the number of bytes that were consumed. */
static size_t parse_message(HttpConnection *c, const char *bytes, size_t size) {
        llhttp_errno_t e;
        size_t taken, head_max = c->server->limits.head_size;
        char text[32];

        if (c->state == HTTP_IN_HEAD)
                size = MIN(size, head_max - c->head_size);
        if (!line_is_plain(c, bytes, size)) {
                http_reject(c, 400, NULL);
                return size;
        }
        c->input = bytes;
        c->input_end = bytes + size;
        c->reject_status = 0;
        e = llhttp_execute(&c->parser, bytes, size);
        if (e == HPE_OK) {
                remember_end(c);
                c->head_size += size;
                if (c->state == HTTP_IN_HEAD && c->head_size >= head_max) {
                        snprintf(c->server->why, sizeof(c->server->why), "the head is limited to %s",
                                 size_text(head_max, text));
                        http_reject(c, 431, c->server->why);
                }
                return size;
        }
        if (e != HPE_PAUSED) {
                if (c->reject_status)
                        http_reject(c, c->reject_status, c->server->why[0] ? c->server->why : NULL);
                else
                        http_reject(c, e == HPE_INVALID_VERSION ? 505 : 400, NULL);
                return size;
        }
        taken = llhttp_get_error_pos(&c->parser) - bytes;
        assert(taken <= size);
        request_complete(c);
        return taken;
}

/* Return whether the next bytes can be parsed now. */
static bool connection_is_ready(const HttpConnection *c) {
        return c->server && c->state <= HTTP_IN_BODY &&
               stream_held(c->stream) <= c->server->limits.backlog_size;
}

static size_t connection_parse(HttpConnection *c, const char *bytes, size_t size) {
        size_t taken = 0;

        while (taken < size && connection_is_ready(c))
                taken += (c->state == HTTP_IN_METHOD ? parse_method : parse_message)(c, bytes + taken,
                                                                                     size - taken);
        return taken;
}

/* Start the deadline of the head or of the body, from the first byte of each. While an answer is being sent,
 * the deadline of the answer applies first. */
static void connection_set_deadline(HttpConnection *c) {
        HttpState clock = c->state == HTTP_IN_BODY ? HTTP_IN_BODY : HTTP_IN_HEAD;

        if (!connection_is_ready(c) || (c->state == HTTP_IN_METHOD && c->method_size == 0) ||
            c->clock == clock || stream_queued(c->stream) > 0)
                return;
        c->clock = clock;
        c->progress = c->bytes.size;
        http_connection_due_in(c,
                               clock == HTTP_IN_BODY ? c->server->limits.body_ms : c->server->limits.head_ms);
}

static void connection_pause(HttpConnection *c, bool paused) {
        if (c->paused == paused)
                return;
        c->paused = paused;
        stream_pause(c->stream, paused);
}

/* The server may be freed while the last bytes are sent. */
static uint64_t answer_ms(const HttpConnection *c) {
        return c->server ? c->server->limits.answer_ms : http_limits_default.answer_ms;
}

/* Close the stream after its queued bytes. */
static void connection_finish(HttpConnection *c) {
        c->state = HTTP_CLOSING;
        http_connection_due_in(c, stream_queued(c->stream) > 0 ? answer_ms(c) : 0);
        stream_finish(c->stream);
}

static void connection_leave(HttpConnection *c) {
        connection_gone(c);
        connection_finish(c);
}

/* A client that half-closed counts as disconnected, unless it waits for an answer that ends. */
static bool client_has_left(const HttpConnection *c) {
        if (!c->half_closed || c->state == HTTP_WAITING)
                return false;
        return c->state == HTTP_ACTIVE ? c->answering : c->pending.size == 0;
}

/* Parse pipelined bytes. */
static void connection_resume(void *userdata) {
        HttpConnection *c = userdata;

        if (c->state == HTTP_CLOSING)
                return;
        if (client_has_left(c)) {
                connection_leave(c);
                return;
        }
        if (c->pending.size > c->pending_at)
                c->pending_at += connection_parse(c, c->pending.chars + c->pending_at,
                                                  c->pending.size - c->pending_at);
        if (c->pending_at == c->pending.size) {
                text_done(&c->pending);
                c->pending_at = 0;
                connection_set_deadline(c);
        }
        if (c->state != HTTP_CLOSING && client_has_left(c)) {
                connection_leave(c);
                return;
        }
        if (c->state != HTTP_CLOSING && c->server)
                connection_pause(c, c->pending.size - c->pending_at > c->server->limits.ahead_size);
        http_connection_count(c);
}

void http_connection_answered(HttpConnection *c) {
        bool keep = c->request.keep_alive && c->server && !(c->half_closed && c->pending.size == 0);

        c->progress = c->written - stream_queued(c->stream);
        if (!keep) {
                connection_finish(c);
                text_done(&c->bytes);
                http_connection_count(c);
                return;
        }
        http_connection_begin(c);
        http_connection_due_in(c, stream_queued(c->stream) > 0 ? answer_ms(c) : c->server->limits.idle_ms);
        http_connection_count(c);
        if (c->pending.size > 0)
                loop_defer(c->loop, &c->resume);
}

/* -- Events of the stream -- */

static void connection_on_read(void *userdata, const void *bytes, size_t size) {
        HttpConnection *c = userdata;
        size_t taken = 0;

        if (c->state == HTTP_CLOSING)
                return;
        if (size == 0) {
                c->half_closed = true;
                if (client_has_left(c))
                        connection_leave(c);
                return;
        }
        if (c->pending.size == 0) {
                taken = connection_parse(c, bytes, size);
                if (taken == size) {
                        connection_set_deadline(c);
                        http_connection_count(c);
                        return;
                }
                if (c->state == HTTP_CLOSING)
                        return;
        }
        text_append_bytes(&c->pending, (const char *) bytes + taken, size - taken);
        if (c->pending.error < 0) {
                http_connection_close(c);
                return;
        }
        if (c->server && c->pending.size - c->pending_at > c->server->limits.ahead_size)
                connection_pause(c, true);
        http_connection_count(c);
        if (connection_is_ready(c))
                loop_defer(c->loop, &c->resume);
}

static void connection_on_drain(void *userdata) {
        HttpConnection *c = userdata;

        if (c->state == HTTP_WAITING || c->state == HTTP_ACTIVE) {
                http_connection_due_in(c, 0);
                if (c->state == HTTP_ACTIVE && c->wants_drain && c->server) {
                        c->wants_drain = false;
                        c->server->handler->on_drain(c->server->userdata, &c->request);
                }
        } else if (c->state == HTTP_IN_METHOD && c->method_size == 0 && c->server)
                http_connection_due_in(c, c->server->limits.idle_ms);
        else
                connection_set_deadline(c);
        http_connection_count(c);
        if (c->pending.size > 0 && connection_is_ready(c))
                loop_defer(c->loop, &c->resume);
}

static void connection_on_close(void *userdata, int error, const char *reason) {
        HttpConnection *c = userdata;

        connection_gone(c);
        http_connection_unlink(c);
        timer_stop(&c->timer);
        deferred_cancel(&c->resume);
        text_done(&c->bytes);
        text_done(&c->pending);
        loop_freed(c->loop, sizeof(*c) + c->held);
        free(c);
}

static const StreamEvents connection_events = {
        .name = "HTTP connection",
        .on_read = connection_on_read,
        .on_drain = connection_on_drain,
        .on_close = connection_on_close,
};

void http_connection_init(HttpConnection *c) {
        c->timer = TIMER(connection_on_timer, c);
        c->resume = DEFERRED(connection_resume, c);
        llhttp_init(&c->parser, HTTP_REQUEST, &http_parser_settings);
        c->parser.data = c;
        http_connection_begin(c);
        stream_set_events(c->stream, &connection_events, c);
        http_connection_due_in(c, c->server->limits.head_ms);
        stream_pause(c->stream, false);
}
