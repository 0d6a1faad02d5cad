/* HTTP over streams and a clock of the test's own: nothing waits, and each call that the server makes of a
 * stream is seen. */
#pragma once

#include "tests/lib/test.h"
#include "base/memory.h"
#include "io/http_connection.h"

enum { WIRES_MAX = 300, START_MS = 1000 };

#define DATE      "Thu, 01 Jan 1970 00:00:00 GMT"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

typedef struct Bench Bench;

/* A stream: the bytes that it received, and its next input. */
typedef struct Wire {
        Stream base;
        Bench *bench;
        Text said;
        bool paused, finished, closed, gone;
        bool stuck; /* the kernel takes nothing */
        size_t unsent;
        unsigned writes, shared; /* attempts; of those, of shared bytes */
        unsigned fail_at;        /* the n-th write fails ... */
        int error;               /* ... in this way */
} Wire;

struct Bench {
        Loop loop;
        uint64_t now_ms, wall_ms;
        HttpServer *server;
        HttpRequest *request; /* the last one */
        unsigned n_requests, n_gone, n_drained;
        size_t body_limit;
        char method[40], target[64], host[64], type[64], origin[64], key[64], tag[64], body[2048];
        unsigned n_types;
        bool parks; /* requests are answered by the test */
        uid_t uid;  /* of who connects to a unix socket; 0: it is not known */
        Wire *wires[WIRES_MAX];
        unsigned n_wires;
};

static uint64_t bench_now_ms(const Loop *loop) {
        return container_of((Loop *) loop, Bench, loop)->now_ms;
}

static uint64_t bench_wall_ms(const Loop *loop) {
        return container_of((Loop *) loop, Bench, loop)->wall_ms;
}

static void bench_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps loop_ops = { .now_ms = bench_now_ms,
                                  .wall_ms = bench_wall_ms,
                                  .wake_at = bench_wake_at };

static void run(Bench *b) {
        for (unsigned i = 0; i < 100 && loop_next_due_ms(&b->loop) <= b->now_ms; i++) {
                (void) loop_run_due(&b->loop, 1000);
                (void) turns_end_work(&b->loop.turns);
        }
}

_unused_ static void pass(Bench *b, uint64_t ms) {
        b->now_ms += ms;
        run(b);
}

/* -- Streams -- */

static int wire_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        Wire *w = container_of(s, Wire, base);

        w->writes++;
        w->shared += shared != NULL;
        if (w->closed || w->finished)
                return -EPIPE;
        if (w->writes == w->fail_at)
                return w->error;
        text_append_bytes(&w->said, bytes, size);
        if (w->stuck) {
                w->base.held += size;
                w->unsent += size;
        }
        return 0;
}

static void wire_pause(Stream *s, bool paused) {
        container_of(s, Wire, base)->paused = paused;
}

static void wire_close(Stream *s) {
        container_of(s, Wire, base)->closed = true;
}

static void wire_finish(Stream *s) {
        container_of(s, Wire, base)->finished = true;
}

static size_t wire_queued(const Stream *s) {
        return container_of((Stream *) s, Wire, base)->unsent;
}

static int wire_peer_uid(const Stream *s, uid_t *ret) {
        const Bench *b = container_of((Stream *) s, Wire, base)->bench;

        if (b->uid == 0)
                return -ENOTSUP;
        *ret = b->uid;
        return 0;
}

static const StreamOps wire_ops = {
        .write = wire_write,
        .pause = wire_pause,
        .close = wire_close,
        .finish = wire_finish,
        .queued = wire_queued,
        .peer_uid = wire_peer_uid,
};

/* One that connects from there; "": over a unix socket. */
_unused_ static Wire *come(Bench *b, const char *address) {
        Wire *w = NEW0(Wire, 1);

        *w = (Wire) { .base = { .ops = &wire_ops }, .bench = b, .paused = true };
        snprintf(w->base.peer_address, sizeof(w->base.peer_address), "%s", address);
        assert_true(b->n_wires < WIRES_MAX);
        b->wires[b->n_wires++] = w;
        http_server_accept(b->server, &w->base, b);
        return w;
}

static void leave(Wire *w) {
        assert_false(w->gone);
        w->gone = true;
        w->base.events->on_close(w->base.userdata, 0, "closed");
}

static void bring_bytes(Wire *w, const void *bytes, size_t size) {
        assert_false(w->gone || w->closed || w->finished);
        w->base.events->on_read(w->base.userdata, bytes, size);
        run(w->bench);
}

_unused_ static void bring(Wire *w, const char *text) {
        bring_bytes(w, text, strlen(text));
}

_unused_ static void drain(Wire *w) {
        w->stuck = false;
        w->unsent = w->base.held = 0;
        w->base.events->on_drain(w->base.userdata);
        run(w->bench);
}

_unused_ static const char *said(const Wire *w) {
        return w->said.chars ?: "";
}

_unused_ static HttpConnection *connection_of(const Wire *w) {
        return w->base.userdata;
}

/* -- The handler -- */

static size_t body_limit(void *userdata, const HttpRequest *q) {
        return ((Bench *) userdata)->body_limit;
}

static void on_request(void *userdata, HttpRequest *q) {
        Bench *b = userdata;

        b->n_requests++;
        b->request = q;
        snprintf(b->method, sizeof(b->method), "%s", q->method);
        snprintf(b->target, sizeof(b->target), "%s", q->target);
        snprintf(b->host, sizeof(b->host), "%s", q->host);
        snprintf(b->type, sizeof(b->type), "%s", q->content_type ?: "none");
        snprintf(b->origin, sizeof(b->origin), "%s", q->origin ?: "none");
        snprintf(b->key, sizeof(b->key), "%s", q->key ?: "none");
        snprintf(b->tag, sizeof(b->tag), "%s", q->tag ?: "none");
        snprintf(b->body, sizeof(b->body), "%.*s", (int) q->body_size, (const char *) q->body);
        b->n_types = q->n_content_types;
        assert_ptr_equal(q->listener, b);
        if (!b->parks)
                http_answer(q, 200, NULL, NULL, "ok", 2);
}

static void on_gone(void *userdata, HttpRequest *q) {
        Bench *b = userdata;

        assert_ptr_equal(b->request, q);
        b->n_gone++;
}

static void on_drain(void *userdata, HttpRequest *q) {
        ((Bench *) userdata)->n_drained++;
}

static const HttpHandler handler = {
        .body_limit = body_limit, .on_request = on_request, .on_gone = on_gone, .on_drain = on_drain
};

_unused_ static void limit(Bench *b, HttpLimits limits) {
        http_server_set_limits(b->server, &limits);
}

static int setup(void **state) {
        Bench *b = NEW0(Bench, 1);

        b->now_ms = START_MS;
        b->body_limit = 1000;
        loop_init(&b->loop, &loop_ops, 1);
        assert_int_equal(http_server_new(&b->server, &b->loop, &handler, b, NULL), 0);
        *state = b;
        return 0;
}

static void forget_all(Bench *b) {
        for (unsigned i = 0; i < b->n_wires; i++) {
                if (!b->wires[i]->gone)
                        leave(b->wires[i]);
                text_done(&b->wires[i]->said);
                free(b->wires[i]);
        }
        b->n_wires = 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        b->server = http_server_free(b->server);
        forget_all(b);
        loop_done(&b->loop);
        free(b);
        return 0;
}

/* A connection whose request waits for its answer; what is counted from now on is the answer's. */
_unused_ static Wire *asked(Bench *b, const char *request) {
        Wire *w = come(b, "");
        unsigned n = b->n_requests;

        b->parks = true;
        bring(w, request);
        assert_int_equal(b->n_requests, n + 1);
        b->loop.turns.now = (TurnWork) {};
        return w;
}
