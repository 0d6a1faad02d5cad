/* Each allocation between a listener and its client fails once: a client is rejected or disconnected, none
 * waits for ever, no memory is leaked (the sanitizer checks that), and the next client is served. */
#include "tests/unit/io_pair.h"

#include <fcntl.h>

#include "io/http_connection.h"
#include "io/tls.h"
#include "tests/lib/alloc.h"

typedef struct Scene {
        Pair pair;
        HttpServer *server;
        TlsKey *key;
        Stream *accepted;
        End client, served;
        int handshakes; /* under way */
} Scene;

static void connect_quietly(Scene *s) {
        Pair *pair = &s->pair;
        int error = 0;

        s->client = (End) { .pair = pair, .connect_error = 1 };
        if (!pair->net->ops->connect(pair->net, pair->address, 5000, end_on_connected, &s->client, &error))
                s->client.connect_error = error;
        RUN_UNTIL(pair, s->client.connect_error != 1);
}

static bool is_over(const End *e) {
        return !e->stream || e->finished || e->closed || e->got.error < 0;
}

/* -- HTTP -- */

static size_t body_limit(void *userdata, const HttpRequest *q) {
        return 100000;
}

static void on_request(void *userdata, HttpRequest *q) {
        char text[520];

        if (starts_with(q->target, "/text"))
                http_answer(q, 200, NULL, NULL, text, snprintf(text, sizeof(text), "%0500d 0\r\n\r\n", 0));
        else if (q->body_size > 0)
                http_answer(q, 200, "text/plain", (HttpField[]) { { "X-A", "b" }, {} }, q->body,
                            q->body_size);
        else {
                http_begin(q, 200, NULL, NULL);
                (void) http_chunk(q, "piece", 5);
                http_last(q, "last", 4);
        }
}

static void on_gone(void *userdata, HttpRequest *q) {}

static const HttpHandler handler = {
        .body_limit = body_limit, .on_request = on_request, .on_gone = on_gone, .on_drain = on_gone
};

static void serve(void *userdata, Stream *stream) {
        Scene *s = userdata;

        http_server_accept(s->server, stream, NULL);
}

static bool serve_once(Scene *s, const char *request) {
        bool answered;

        connect_quietly(s);
        if (s->client.stream && stream_write(s->client.stream, request, strlen(request)) == 0)
                RUN_UNTIL(&s->pair, is_over(&s->client) || strstr(end_text(&s->client), "0\r\n\r\n"));
        answered = s->client.got.chars && strstr(end_text(&s->client), "0\r\n\r\n");
        if (s->client.stream)
                stream_close(s->client.stream);
        RUN_UNTIL(&s->pair, !s->client.stream && s->server->n_connections == 0);
        text_done(&s->client.got);
        return answered;
}

static void an_http_server_survives_each_failing_allocation(void **state) {
        Scene *s = *state;
        _cleanup_text_ Text request = {};
        unsigned n = 0;

        text_append(&request,
                    "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\nContent-Length: 5000\r\n\r\n");
        for (int i = 0; i < 5000; i++)
                text_append_char(&request, 'b');
        text_append(&request, "GET /y HTTP/1.1\r\nHost: h\r\n\r\n");

        s->pair.on_accepted = serve;
        s->pair.userdata = s;
        assert_int_equal(http_server_new(&s->server, s->pair.loop, &handler, s,
                                         &(HttpLimits) { .connections_per_client = 1 }),
                         0);
        do {
                alloc_fail_at(++n);
                (void) serve_once(s, request.chars);
        } while (alloc_has_failed());
        assert_true(n > 5);
        alloc_fail_at(0);
        assert_true(serve_once(s, request.chars));
        s->server = http_server_free(s->server);
}

static void a_text_that_cannot_be_made_cuts_the_connection(void **state) {
        static const char request[] = "GET /text HTTP/1.1\r\nHost: h\r\n\r\n";
        Scene *s = *state;
        unsigned n = 0;

        s->pair.on_accepted = serve;
        s->pair.userdata = s;
        assert_int_equal(http_server_new(&s->server, s->pair.loop, &handler, s, NULL), 0);
        do {
                alloc_fail_at(++n);
                (void) serve_once(s, request);
        } while (alloc_has_failed());
        alloc_fail_at(0);
        assert_true(serve_once(s, request));
        s->server = http_server_free(s->server);
        alloc_fail_at(1);
        assert_int_equal(http_server_new(&s->server, s->pair.loop, &handler, s, NULL), -ENOMEM);
        alloc_fail_at(0);
        assert_null(s->server);
}

/* -- Streams -- */

static void keep_accepted(void *userdata, Stream *stream);

static void what_cannot_be_queued_or_listened_on_for_lack_of_memory_says_so(void **state) {
        enum { SIZE = 1000000 };
        Scene *s = *state;
        char *bytes = NEW0(char, SIZE), path[96];
        Listener *l = NULL;
        Network *net = NULL;
        Error err = {};
        unsigned n = 0;

        s->pair.on_accepted = keep_accepted;
        s->pair.userdata = s;
        connect_quietly(s);
        RUN_UNTIL(&s->pair, s->accepted);
        alloc_fail_at(1);
        assert_int_equal(stream_write(s->client.stream, bytes, SIZE), -ENOMEM);
        alloc_fail_at(0);
        assert_int_equal(stream_write(s->client.stream, bytes, 1), -EPIPE);
        RUN_UNTIL(&s->pair, s->client.closed);
        assert_int_equal(s->client.error, -ENOMEM);
        stream_close(s->accepted);
        end_done(&s->client);
        free(bytes);

        snprintf(path, sizeof(path), "%s/second", s->pair.folder);
        do {
                int r;

                alloc_fail_at(++n);
                r = s->pair.net->ops->listen(s->pair.net, path, keep_accepted, s, &l, &err);
                assert_int_equal(r, alloc_has_failed() ? -ENOMEM : 0);
                assert_true(r == 0 || strstr(err.message, "memory"));
        } while (!l);
        alloc_fail_at(0);
        assert_true(n > 2);
        s->pair.net->ops->unlisten(s->pair.net, l);
        alloc_fail_at(1);
        assert_int_equal(net_uv_new(&net, s->pair.loop), -ENOMEM);
        alloc_fail_at(0);
        assert_null(net_uv_free(NULL));
}

/* -- TLS -- */

static void on_secure(void *userdata, Stream *secure, int error, const char *reason) {
        End *e = userdata;

        e->connect_error = error;
        if (secure)
                end_take(e, e->pair, secure);
        loop_uv_stop(e->pair->uv);
}

static void secure(Scene *s, End *e, Stream *stream, TlsSide side) {
        *e = (End) { .pair = &s->pair, .connect_error = 1 };
        stream_pause(stream, true);
        e->connect_error = tls_start(s->pair.loop, stream, &(TlsOptions) { .side = side, .key = s->key },
                                     on_secure, e, NULL) < 0 ?
                                   -ENOMEM :
                                   1;
}

static void keep_accepted(void *userdata, Stream *stream) {
        Scene *s = userdata;

        s->accepted = stream;
}

static bool talk_once(Scene *s) {
        bool talked = false;

        s->accepted = NULL;
        s->served = (End) { .pair = &s->pair };
        connect_quietly(s);
        if (!s->client.stream)
                return false;
        RUN_UNTIL(&s->pair, s->accepted);
        secure(s, &s->served, s->accepted, TLS_SERVER);
        secure(s, &s->client, s->client.stream, TLS_CLIENT);
        RUN_UNTIL(&s->pair, s->client.connect_error != 1 && s->served.connect_error != 1);
        if (s->client.stream && s->served.stream && stream_write(s->client.stream, "hello", 5) == 0) {
                RUN_UNTIL(&s->pair, is_over(&s->client) || is_over(&s->served) || s->served.got.size == 5);
                talked = s->served.got.size == 5;
        }
        if (s->client.stream)
                stream_close(s->client.stream);
        if (s->served.stream)
                stream_close(s->served.stream);
        RUN_UNTIL(&s->pair, !s->client.stream && !s->served.stream);
        text_done(&s->client.got);
        text_done(&s->served.got);
        return talked;
}

static void a_secure_stream_survives_each_failing_allocation(void **state) {
        Scene *s = *state;
        char path[96];
        Error err = {};
        unsigned n = 0;
        int fd;

        snprintf(path, sizeof(path), "%s/key", s->pair.folder);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", 65),
                         65);
        close(fd);
        do {
                alloc_fail_at(++n);
                (void) tls_key_read(path, &s->key, &err);
        } while (alloc_has_failed() && !s->key);
        alloc_fail_at(0);
        assert_non_null(s->key);

        s->pair.on_accepted = keep_accepted;
        s->pair.userdata = s;
        n = 0;
        do {
                alloc_fail_at(++n);
                (void) talk_once(s);
        } while (alloc_has_failed());
        assert_true(n > 5);
        alloc_fail_at(0);
        assert_true(talk_once(s));
        s->key = tls_key_free(s->key);
}

static int setup(void **state) {
        Scene *s = NEW0(Scene, 1);

        pair_open(&s->pair);
        *state = s;
        return 0;
}

static int teardown(void **state) {
        Scene *s = *state;

        pair_close(&s->pair);
        free(s);
        return 0;
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_http_server_survives_each_failing_allocation, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_text_that_cannot_be_made_cuts_the_connection, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        what_cannot_be_queued_or_listened_on_for_lack_of_memory_says_so, setup, teardown),
                cmocka_unit_test_setup_teardown(a_secure_stream_survives_each_failing_allocation, setup,
                                                teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("io_memory", tests, NULL, NULL);
}
