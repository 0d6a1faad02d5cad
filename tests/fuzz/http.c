/* A client that sends arbitrary bytes: over a stream in memory and a loop in virtual time.
 *
 * The first byte selects how the rest is split into pieces. Some requests are answered at once, some later,
 * some in chunks. Every split must give the same requests, each answered once and in order. At the end no
 * timer, connection or memory is left (the sanitizer checks that). The targets also pass http_target_split()
 * and the parser of query parameters. */

#include "base/text.h"
#include "io/http_connection.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { PARKED_MAX = 4, BODY_MAX = 300 };

typedef struct Fuzz {
        Loop loop;
        uint64_t now_ms;
        Stream stream;
        bool paused, closing, closed;
        Deferred close;
        HttpServer *server;
        HttpRequest *parked;
        Deferred answer;
        Text answers;    /* sent to the client */
        Text understood; /* received by the handler */
        unsigned n_requests;
} Fuzz;

/* -- The loop -- */

static uint64_t fuzz_now_ms(const Loop *loop) {
        return container_of((Loop *) loop, Fuzz, loop)->now_ms;
}

static uint64_t fuzz_wall_ms(const Loop *loop) {
        return 0;
}

static void fuzz_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps loop_ops = { .now_ms = fuzz_now_ms, .wall_ms = fuzz_wall_ms, .wake_at = fuzz_wake_at };

static void run_due(Fuzz *f) {
        while (loop_run_due(&f->loop, 100))
                ;
}

/* -- The stream -- */

static int fuzz_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        Fuzz *f = container_of(s, Fuzz, stream);

        if (f->closing)
                return -EPIPE;
        text_append_bytes(&f->answers, bytes, size);
        return 0;
}

static void fuzz_pause(Stream *s, bool paused) {
        container_of(s, Fuzz, stream)->paused = paused;
}

static void fuzz_close(Stream *s) {
        Fuzz *f = container_of(s, Fuzz, stream);

        f->closing = true;
        loop_defer(&f->loop, &f->close);
}

static void fuzz_closed(void *userdata) {
        Fuzz *f = userdata;

        assert(!f->closed);
        f->closed = true;
        f->stream.events->on_close(f->stream.userdata, 0, "closed");
}

static const StreamOps stream_ops = {
        .write = fuzz_write, .pause = fuzz_pause, .close = fuzz_close, .finish = fuzz_close
};

/* -- The handler -- */

static size_t on_body_limit(void *userdata, const HttpRequest *q) {
        assert(q->target && q->host && q->method[0]);
        return BODY_MAX;
}

static void check_target(Fuzz *f, const char *target) {
        HttpParameters p = {};
        const char *query = NULL;
        char *path = NULL;
        size_t size = 0;

        if (http_target_split(target, &path, &size, &query) < 0)
                return;
        assert(size <= strlen(target) && path[size] == 0);
        if (http_parameters_parse(&p, query, strlen(query), NULL) == 0)
                for (size_t i = 0; i < p.n; i++)
                        assert(p.items[i].value[p.items[i].value_size] == 0);
        http_parameters_done(&p);
        free(path);
}

static void answer(Fuzz *f, HttpRequest *q) {
        f->parked = NULL;
        if (strstr(q->target, "chunk")) {
                http_begin(q, 200, "text/plain", NULL);
                assert(http_chunk(q, "piece", 5) == 0);
                http_last(q, "last", 4);
        } else
                http_answer(q, 200, "text/plain", NULL, "ok", 2);
}

static void answer_later(void *userdata) {
        Fuzz *f = userdata;

        answer(f, f->parked);
}

static void on_request(void *userdata, HttpRequest *q) {
        Fuzz *f = userdata;

        assert(!f->parked);
        assert(q->body_size <= BODY_MAX && ((const char *) q->body)[q->body_size] == 0);
        assert(q->method[0] && q->target[0] && q->stream == &f->stream);
        check_target(f, q->target);
        text_printf(&f->understood, "%s %s %s %s %s %u %d ", q->method, q->target, q->host, q->origin ?: "-",
                    q->content_type ?: "-", q->n_content_types, q->keep_alive);
        text_append_bytes(&f->understood, q->body, q->body_size);
        text_append_char(&f->understood, '\n');
        f->n_requests++;
        if (strstr(q->target, "later")) {
                f->parked = q;
                loop_defer(&f->loop, &f->answer);
        } else
                answer(f, q);
}

static void on_gone(void *userdata, HttpRequest *q) {
        Fuzz *f = userdata;

        assert(f->parked == q);
        f->parked = NULL;
        deferred_cancel(&f->answer);
}

static void on_drain(void *userdata, HttpRequest *q) {
        assert(!"nothing is ever queued here");
}

static const HttpHandler handler = {
        .body_limit = on_body_limit, .on_request = on_request, .on_gone = on_gone, .on_drain = on_drain
};

/* -- One client -- */

/* 'cut' 0: in one piece; else pieces of 1 to 'cut' bytes, chosen by it. */
static void live(Fuzz *f, const uint8_t *bytes, size_t size, unsigned cut) {
        Random random;

        random_seed(&random, cut);
        *f = (Fuzz) { .now_ms = 1, .paused = true };
        loop_init(&f->loop, &loop_ops, 1);
        f->stream.ops = &stream_ops;
        f->close = (Deferred) { .run = fuzz_closed, .userdata = f };
        f->answer = (Deferred) { .run = answer_later, .userdata = f };
        if (http_server_new(&f->server, &f->loop, &handler, f, NULL) < 0)
                abort();
        http_server_accept(f->server, &f->stream, NULL);

        for (size_t at = 0; at < size && !f->closing;) {
                size_t n = cut ? 1 + random_below(&random, cut) : size;
                uint8_t *piece;

                n = MIN(n, size - at);
                piece = malloc(n); /* its own memory, freed after the call like a socket's buffer */
                if (!piece)
                        abort();
                memcpy(piece, bytes + at, n);
                assert(!f->paused);
                f->stream.events->on_read(f->stream.userdata, piece, n);
                free(piece);
                at += n;
                run_due(f);
        }
        /* An incomplete request times out, or the client ends the stream. */
        if (!f->closing && size % 2 == 0)
                f->stream.events->on_read(f->stream.userdata, "", 0);
        for (int i = 0; i < 10 && !f->closed; i++) {
                run_due(f);
                f->now_ms += 70000;
        }
        run_due(f);
        assert(f->closed);
        assert(f->server->n_connections == 0);
        f->server = http_server_free(f->server);
        loop_done(&f->loop);
}

static unsigned count(const char *text, const char *part) {
        unsigned n = 0;

        for (; text && (text = strstr(text, part)); text++)
                n++;
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        Fuzz whole, cut;

        if (size == 0 || size > 30000) /* below the size at which the reader pauses */
                return 0;

        live(&whole, bytes + 1, size - 1, 0);
        live(&cut, bytes + 1, size - 1, 1 + bytes[0]);
        assert(whole.n_requests == cut.n_requests);
        assert(whole.understood.size == cut.understood.size);
        assert(whole.understood.size == 0 ||
               memcmp(whole.understood.chars, cut.understood.chars, whole.understood.size) == 0);
        /* Each request has one answer; an invalid one has at most one rejection. */
        assert(count(whole.answers.chars, "HTTP/1.1 200 ") == whole.n_requests);
        assert(count(whole.answers.chars, "HTTP/1.1 4") + count(whole.answers.chars, "HTTP/1.1 5") <= 1);

        text_done(&whole.answers);
        text_done(&whole.understood);
        text_done(&cut.answers);
        text_done(&cut.understood);
        return 0;
}
