/* HTTP over streams and a clock of the test's own: deadlines to the millisecond, limits to the byte, what
 * each call writes and holds. */
#include "tests/unit/http_bench.h"

/* -- The server -- */

static void limits_have_defaults_each_of_its_own(void **state) {
        Bench *b = *state;
        const HttpLimits expected = { .connections = 10000,
                                      .line_size = 16384,
                                      .head_size = 32768,
                                      .fields = 64,
                                      .ahead_size = 65536,
                                      .backlog_size = 262144,
                                      .buffer_size = 67108864,
                                      .head_ms = 10000,
                                      .body_ms = 10000,
                                      .answer_ms = 10000,
                                      .idle_ms = 60000 },
                         ones = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

        assert_memory_equal(&http_limits_default, &expected, sizeof(expected));
        assert_memory_equal(&b->server->limits, &expected, sizeof(expected));
        http_server_set_limits(b->server, &ones);
        assert_memory_equal(&b->server->limits, &ones, sizeof(ones));
        http_server_set_limits(b->server, &(HttpLimits) {});
        assert_memory_equal(&b->server->limits, &expected, sizeof(expected));
        http_server_set_limits(b->server, &ones);
        http_server_set_limits(b->server, NULL);
        assert_memory_equal(&b->server->limits, &expected, sizeof(expected));
}

static void connections_are_counted_by_address_and_by_user(void **state) {
        Bench *b = *state;
        Wire *one, *two;

        limit(b, (HttpLimits) { .connections_per_client = 2 });
        one = come(b, "10.0.0.1:1000");
        two = come(b, "10.0.0.1:1001");
        assert_true(come(b, "10.0.0.1:1002")->finished);
        assert_non_null(strstr(said(b->wires[2]), "too many connections of this client; the limit is 2"));
        assert_false(come(b, "10.0.0.2:1000")->finished || come(b, "[::1]:1000")->finished);
        leave(one);
        assert_false(come(b, "10.0.0.1:1003")->finished); /* there is room for one, */
        assert_true(come(b, "10.0.0.1:1004")->finished);  /* and for one only */
        leave(two);
        assert_false(come(b, "10.0.0.1:1005")->finished);

        for (unsigned i = 0; i < 3; i++)
                assert_false(come(b, "")->finished); /* who is not known is not counted */
        for (b->uid = 5; b->uid <= 6; b->uid++)
                for (unsigned i = 0; i < 3; i++)
                        assert_int_equal(come(b, "")->finished, i == 2);
        assert_int_equal(b->server->n_rejected, 4);
}

static void connections_in_all_are_limited_and_the_refused_ones_that_are_waited_for_too(void **state) {
        Bench *b = *state;
        Wire *first, *last;

        limit(b, (HttpLimits) { .connections = 2 });
        first = come(b, "");
        assert_false(come(b, "")->finished);
        assert_int_equal(b->server->n_connections, 2);
        for (unsigned i = 0; i < HTTP_REJECTED_MAX; i++) {
                last = come(b, "");
                assert_true(last->finished && !last->closed);
                assert_string_equal(said(last), "HTTP/1.1 503 Service Unavailable\r\nContent-Type: "
                                                "text/plain; charset=utf-8\r\nContent-Length: 45\r\n"
                                                "Retry-After: 1\r\nConnection: close\r\n\r\n503 Service "
                                                "Unavailable: too many connections");
        }
        assert_int_equal(b->server->n_rejected, HTTP_REJECTED_MAX);
        last = come(b, "");
        assert_true(last->closed); /* answered, and closed at once */
        leave(last);
        assert_int_equal(b->server->n_rejected, HTTP_REJECTED_MAX);
        for (unsigned step = 3; step > 0; step--) /* from everywhere in their list */
                for (unsigned i = 2 + step; i < 2 + HTTP_REJECTED_MAX; i += step)
                        if (!b->wires[i]->gone) {
                                b->wires[i]->base.events->on_read(b->wires[i]->base.userdata, "x", 1);
                                leave(b->wires[i]);
                        }
        assert_int_equal(b->server->n_rejected, 1);
        leave(b->wires[2]);
        assert_int_equal(b->server->n_rejected, 0);
        assert_null(LIST_FIRST(&b->server->rejected));
        assert_false(come(b, "")->closed || come(b, "")->closed);
        assert_int_equal(b->server->n_rejected, 2);
        leave(first);
        assert_int_equal(b->server->n_connections, 1);
        assert_false(come(b, "")->finished);

        b->server = http_server_free(b->server); /* the others are there, and go later */
        assert_true(b->wires[1]->closed && b->wires[b->n_wires - 1]->closed);
        assert_null(connection_of(b->wires[1])->server);
}

static void small_requests_precede_large_ones_and_both_need_space(void **state) {
        static const struct {
                bool small_waits, large_waits, is_large, has_room, admitted;
        } rows[] = {
                { false, false, false, true, true },   { false, false, true, true, true },
                { false, false, false, false, false }, { false, false, true, false, false },
                { true, false, false, true, false },   { true, false, true, true, false },
                { false, true, false, true, true },    { false, true, true, true, false },
                { false, true, false, false, false },
        };
        Bench *b = *state;

        b->loop.turns.n = 7;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                HttpConnection c = { .server = b->server }, waits[2] = {};
                bool class = rows[i].is_large, others = class ? rows[i].large_waits : rows[i].small_waits;

                c.bytes.size = HTTP_SMALL_MAX + rows[i].is_large;
                b->loop.turns.now.bytes = rows[i].has_room ? TURN_WORK_MAX - 1 : TURN_WORK_MAX;
                if (rows[i].small_waits)
                        TAILQ_INSERT_TAIL(&b->server->classes[0].waiting, &waits[0], waiting);
                if (rows[i].large_waits)
                        TAILQ_INSERT_TAIL(&b->server->classes[1].waiting, &waits[1], waiting);
                b->server->classes[class].served_turn = 3;
                assert_int_equal(http_server_admit(&c), rows[i].admitted);
                assert_int_equal(c.class, rows[i].is_large);
                assert_int_equal(c.in_queue, !rows[i].admitted);
                assert_ptr_equal(b->server->serve.loop, rows[i].admitted ? NULL : &b->loop);
                assert_int_equal(b->server->classes[class].served_turn, rows[i].admitted || others ? 3 : 7);
                deferred_cancel(&b->server->serve);
                TAILQ_INIT(&b->server->classes[0].waiting);
                TAILQ_INIT(&b->server->classes[1].waiting);
        }
        b->loop.turns.now.bytes = 0;
}

static void waiting_requests_are_served_counted_or_dropped(void **state) {
        Bench *b = *state;
        Wire *w[4];

        b->parks = true;
        b->body_limit = 100000;
        for (size_t i = 0; i < ELEMENTS(w); i++)
                w[i] = come(b, "");
        for (size_t i = 0; i < ELEMENTS(w); i++) {
                char head[100], body[6000];

                memset(body, 'b', sizeof(body));
                snprintf(head, sizeof(head), "PUT /%zu HTTP/1.1\r\nHost: h\r\nContent-Length: 6000\r\n\r\n",
                         i);
                w[i]->base.events->on_read(w[i]->base.userdata, head, strlen(head));
                b->loop.turns.now.bytes = TURN_WORK_MAX;
                w[i]->base.events->on_read(w[i]->base.userdata, body, sizeof(body));
                assert_int_equal(connection_of(w[i])->state, HTTP_WAITING);
        }
        assert_true(b->server->held > 4 * 6000);
        leave(w[1]);
        assert_int_equal(b->n_requests, 0);
        assert_ptr_equal(TAILQ_NEXT(connection_of(w[0]), waiting), connection_of(w[2]));
        (void) loop_run_due(&b->loop, 1000);
        assert_int_equal(b->n_requests, 0); /* this turn has served one */
        b->loop.turns.n++;
        (void) loop_run_due(&b->loop, 1000);
        assert_int_equal(b->n_requests, 1); /* there is no room, but for one a turn */
        assert_string_equal(b->target, "/0");
        assert_false(connection_of(w[0])->in_queue);
        assert_true(connection_of(w[0])->held < 1000); /* its body is gone, and not counted */
        run(b);
        assert_int_equal(b->n_requests, 3);
        assert_true(TAILQ_EMPTY(&b->server->classes[0].waiting));
        assert_false(loop_has_deferred(&b->loop));

        /* A server that goes leaves nothing in the loop. */
        b->loop.turns.now.bytes = TURN_WORK_MAX;
        http_answer(connection_of(w[0])->request.connection ? &connection_of(w[0])->request : NULL, 200, NULL,
                    NULL, NULL, 0);
        w[0]->base.events->on_read(w[0]->base.userdata, GET("/"), strlen(GET("/")));
        limit(b, (HttpLimits) { .buffer_size = 1 });
        http_connection_count(connection_of(w[0]));
        connection_of(w[2])->held++; /* so that it is counted again */
        http_connection_count(connection_of(w[2]));
        assert_ptr_equal(b->server->serve.loop, &b->loop);
        assert_ptr_equal(b->server->relieve.loop, &b->loop);
        b->server = http_server_free(b->server);
        assert_false(loop_has_deferred(&b->loop));
        assert_true(w[0]->closed && w[2]->closed && w[3]->closed);
        assert_int_equal(b->n_gone, 0);
}

/* Beyond the bound, and only then, the oldest of those that hold much. */
static void the_oldest_large_connection_is_ended_according_to_its_state(void **state) {
        static const struct {
                const char *bytes; /* read before */
                HttpState is;
                bool refused;
        } rows[] = {
                { "", HTTP_IN_METHOD, false },
                { "GET /x", HTTP_IN_HEAD, true },
                { "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", HTTP_IN_BODY, true },
                { GET("/x"), HTTP_WAITING, true },
                { GET("/x"), HTTP_ACTIVE, false },
        };
        enum { HELD = 5000, BOUND = 20000 };
        Bench *b = *state;

        b->parks = true;
        limit(b, (HttpLimits) { .buffer_size = BOUND });
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *first = come(b, ""), *second = come(b, ""), *third = come(b, "");
                unsigned gone = b->n_gone;

                b->loop.turns.now.bytes = rows[i].is == HTTP_WAITING ? TURN_WORK_MAX : 0;
                if (*rows[i].bytes)
                        first->base.events->on_read(first->base.userdata, rows[i].bytes,
                                                    strlen(rows[i].bytes));
                assert_int_equal(connection_of(first)->state, rows[i].is);
                third->base.held = HTTP_KEPT_MAX;
                http_connection_count(connection_of(third));
                first->base.held = HELD;
                http_connection_count(connection_of(first));
                second->base.held = BOUND - b->server->held;
                http_connection_count(connection_of(second));
                assert_int_equal(b->server->held, BOUND);
                assert_null(b->server->relieve.loop); /* so much may be */
                first->base.held++;
                http_connection_count(connection_of(first));
                assert_non_null(b->server->relieve.loop);
                second->base.held = BOUND - HTTP_KEPT_MAX; /* then so much is left, without the first one */
                http_connection_count(connection_of(second));
                deferred_cancel(&b->server->serve);
                run(b);
                assert_false(second->closed || second->finished || third->closed || third->finished);
                assert_int_equal(b->server->held, BOUND);
                assert_int_equal(connection_of(first)->held, 0);
                assert_int_equal(b->n_gone - gone, rows[i].is == HTTP_ACTIVE);
                if (rows[i].refused) {
                        assert_true(starts_with(said(first), "HTTP/1.1 503 Service Unavailable\r\n"));
                        assert_non_null(strstr(said(first), "\r\nRetry-After: 1\r\n"));
                        assert_non_null(strstr(said(first), "all requests together are limited to 20000 "
                                                            "bytes, and this one is the oldest"));
                        assert_true(first->finished && !first->closed);
                } else
                        assert_true(first->closed && first->said.size == 0);
                leave(first);
                leave(third); /* holds just as much as may be kept: it was in no list */
                leave(second);
                assert_int_equal(b->server->held, 0);
                assert_true(TAILQ_EMPTY(&b->server->holders));
        }
}

/* -- Answers -- */

static void each_status_has_its_name(void **state) {
        static const struct {
                unsigned status;
                const char *name;
        } rows[] = {
                { 200, "OK" },
                { 201, "Created" },
                { 204, "No Content" },
                { 301, "Moved Permanently" },
                { 304, "Unknown" },
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
                { 299, "Unknown" },
                { 508, "Unknown" },
        };
        Bench *b = *state;
        Wire *w = come(b, "");

        b->parks = true;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char expected[200];
                bool bodiless = rows[i].status == 204 || rows[i].status == 304;

                bring(w, GET("/"));
                text_clear(&w->said);
                http_answer(b->request, rows[i].status, NULL, NULL, "x", 1);
                snprintf(expected, sizeof(expected), "HTTP/1.1 %u %s\r\nDate: " DATE "\r\n%s", rows[i].status,
                         rows[i].name, bodiless ? "\r\n" : "Content-Length: 1\r\n\r\nx");
                assert_string_equal(said(w), expected);
        }
}

static void the_date_is_that_of_the_second(void **state) {
        static const struct {
                uint64_t wall_ms;
                const char *date;
        } rows[] = {
                { 0, DATE },
                { 999, DATE },
                { 1000, "Thu, 01 Jan 1970 00:00:01 GMT" },
                { 784111777999, "Sun, 06 Nov 1994 08:49:37 GMT" },
                { 1709251199000, "Thu, 29 Feb 2024 23:59:59 GMT" },
                { 1709251200000, "Fri, 01 Mar 2024 00:00:00 GMT" },
        };
        Bench *b = *state;
        Wire *w = come(b, "");

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char expected[64];

                b->wall_ms = rows[i].wall_ms;
                text_clear(&w->said);
                bring(w, GET("/"));
                snprintf(expected, sizeof(expected), "\r\nDate: %s\r\n", rows[i].date);
                if (!strstr(said(w), expected))
                        fail_msg("%s", said(w));
        }
        snprintf(b->server->date, sizeof(b->server->date), "x"); /* it is made once a second */
        text_clear(&w->said);
        bring(w, GET("/"));
        assert_non_null(strstr(said(w), "\r\nDate: x\r\n"));
}

static void values_of_fields_are_sent_without_control_characters(void **state) {
        static const struct {
                const char *value, *sent;
        } rows[] = {
                { "", "" },
                { "a", "a" },
                { "a b", "a b" },
                { "a\tb", "a\tb" },
                { "\ra", " a" },
                { "a\r\nX: y", "a  X: y" },
                { "a\n\tb c", "a  b c" },
                { "\x01", " " },
                { " ", " " },
                { "\xc3\xa9", "\xc3\xa9" },
                { "\n!", " !" },
        };
        Bench *b = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *w = asked(b, GET("/"));
                char expected[200];

                http_answer(b->request, 200, "a/b",
                            (HttpField[]) { { "A", rows[i].value }, { "B", "c" }, {} }, "", 0);
                snprintf(expected, sizeof(expected),
                         "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nA: %s\r\nB: c\r\nDate: " DATE
                         "\r\nContent-Length: 0\r\n\r\n",
                         rows[i].sent);
                assert_string_equal(said(w), expected);
        }
}

enum { COPIED = 65536 }; /* up to here a copy is cheaper than one more write */

typedef enum Way { ANSWER, ANSWER_SHARED, CHUNK, CHUNK_SHARED, LAST, LAST_SHARED, _WAYS } Way;

static int answer_in(Way way, HttpRequest *q, Shared *bytes) {
        if (way >= CHUNK && !q->connection->answering)
                http_begin(q, 200, NULL, NULL);
        switch (way) {
        case ANSWER:
                http_answer(q, 200, NULL, NULL, bytes->bytes, bytes->size);
                return 0;
        case ANSWER_SHARED:
                http_answer_shared(q, 200, NULL, NULL, bytes);
                return 0;
        case CHUNK:
                return http_chunk(q, bytes->bytes, bytes->size);
        case CHUNK_SHARED:
                return http_chunk_shared(q, bytes);
        case LAST:
                http_last(q, bytes->bytes, bytes->size);
                return 0;
        default:
                http_last_shared(q, bytes);
                return 0;
        }
}

static Shared *shared_of(size_t size) {
        char *bytes = NEW0(char, size + 1);
        Shared *shared;

        memset(bytes, 'x', size);
        shared = shared_new(bytes, size);
        free(bytes);
        return shared;
}

/* What is small is one write; what is large is not copied, and each piece of it is a write. */
static void large_bytes_are_not_copied_and_all_are_counted(void **state) {
        static const size_t sizes[] = { 0, 1, COPIED, COPIED + 1, 300000 };
        Bench *b = *state;

        limit(b, (HttpLimits) { .backlog_size = 1000000 });
        for (Way way = 0; way < _WAYS; way++)
                for (size_t i = 0; i < ELEMENTS(sizes); i++)
                        for (unsigned v = 0; v < 3; v++) { /* HTTP/1.1, HTTP/1.0, HEAD */
                                static const char *const requests[] = {
                                        GET("/"), "GET / HTTP/1.0\r\n\r\n",
                                        "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
                                };
                                bool large = sizes[i] > COPIED, begun = way >= CHUNK,
                                     shared = way == ANSWER_SHARED || way == CHUNK_SHARED ||
                                              way == LAST_SHARED;
                                bool ends = way == LAST || way == LAST_SHARED, chunked = begun && v != 1;
                                size_t sent = v == 2 ? 0 : sizes[i];
                                Wire *w = asked(b, requests[v]);
                                HttpConnection *c = connection_of(w);
                                Shared *bytes = shared_of(sizes[i]);
                                unsigned writes = begun ? 1 : 0; /* its head */
                                _cleanup_text_ Text expected = {};
                                const char *body;

                                if (!begun)
                                        writes = sent > COPIED ? 2 : 1;
                                else if (sent > 0 && large && shared)
                                        writes += (chunked ? 3 : 1) + (ends && chunked);
                                else if (sent > 0 || (ends && chunked && v != 2))
                                        writes++;
                                assert_int_equal(answer_in(way, &c->request, bytes), 0);
                                assert_int_equal(b->loop.turns.now.nodes, 0);
                                assert_int_equal(b->loop.turns.now.bytes,
                                                 !begun ? HTTP_ANSWER_WORK * sizes[i] :
                                                 way >= LAST && !(large && shared) ? sizes[i] :
                                                                                     sent);
                                assert_int_equal(w->writes, writes);
                                assert_int_equal(w->shared, shared && large && v != 2);
                                assert_int_equal(c->written, w->said.size);
                                body = strstr(said(w), "\r\n\r\n") + 4;
                                if (chunked && sent > 0)
                                        text_printf(&expected, "%zx\r\n", sent);
                                for (size_t k = 0; k < sent; k++)
                                        text_append_char(&expected, 'x');
                                if (chunked && sent > 0)
                                        text_append(&expected, "\r\n");
                                if (chunked && ends && v != 2)
                                        text_append(&expected, "0\r\n\r\n");
                                assert_string_equal(body, expected.chars ?: "");
                                assert_int_equal(w->finished, v == 1 && way != CHUNK && way != CHUNK_SHARED);
                                shared_unref(bytes);
                                assert_true(b->server->out.capacity <= 4 * COPIED);
                        }
}

/* Half an answer is none. */
static void an_answer_that_cannot_be_written_closes_the_stream(void **state) {
        static const int errors[] = { -ENOMEM, -EPIPE };
        Shared *bytes = shared_of(COPIED + 1);
        Bench *b = *state;

        for (size_t e = 0; e < ELEMENTS(errors); e++)
                for (Way way = 0; way < _WAYS; way++)
                        for (unsigned n = 1; n < 5; n++) {
                                Wire *w = asked(b, GET("/"));
                                HttpConnection *c = connection_of(w);
                                bool fails, reported;
                                int r;

                                w->fail_at = n;
                                w->error = errors[e];
                                r = answer_in(way, &c->request, bytes);
                                fails = w->writes >= n;
                                reported = way == CHUNK || way == CHUNK_SHARED;
                                assert_int_equal(c->written, w->said.size);
                                if (!fails) {
                                        assert_int_equal(r, 0);
                                        assert_false(w->closed);
                                        continue;
                                }
                                if (reported && n > 1) {
                                        assert_int_equal(r, errors[e]);
                                        assert_int_equal(w->writes, n); /* nothing follows */
                                }
                        }
        shared_unref(bytes);
}

static void what_comes_too_late_is_not_sent(void **state) {
        Bench *b = *state;
        Shared *bytes = shared_of(10);

        for (unsigned i = 0; i < 2; i++)
                for (Way way = 0; way <= _WAYS; way++) {
                        Wire *w = asked(b, GET("/"));
                        HttpConnection *c = connection_of(w);
                        unsigned writes;

                        if (way != ANSWER && way != ANSWER_SHARED)
                                http_begin(&c->request, 200, NULL, NULL);
                        if (i == 0)
                                http_cut(&c->request, "a test");
                        else if (way >= CHUNK)
                                http_end(&c->request);
                        else
                                http_answer(&c->request, 200, NULL, NULL, NULL, 0);
                        assert_int_equal(w->closed, i == 0);
                        writes = w->writes;
                        if (way == _WAYS) {
                                http_begin(&c->request, 200, NULL, NULL);
                                http_cut(&c->request, "a test");
                                assert_int_equal(w->closed, i == 0);
                        } else {
                                c->answering = way >= CHUNK; /* as it was */
                                assert_int_equal(answer_in(way, &c->request, bytes),
                                                 way == CHUNK || way == CHUNK_SHARED ? -EPIPE : 0);
                        }
                        assert_int_equal(w->writes, writes);
                        c->answering = false;
                }
        shared_unref(bytes);
        assert_int_equal(b->n_gone, 0);
}

/* From the first byte that is queued on; more of them do not put it off. */
static void a_stream_is_watched_while_it_is_not_read(void **state) {
        Shared *large = shared_of(COPIED + 1);
        Bench *b = *state;

        for (Way way = CHUNK; way <= CHUNK_SHARED; way++) {
                Wire *w = asked(b, GET("/"));
                HttpConnection *c = connection_of(w);
                uint64_t due_ms;

                limit(b, (HttpLimits) { .answer_ms = 100, .backlog_size = 100000 });
                http_begin(&c->request, 200, NULL, NULL);
                assert_int_equal(c->due_ms, 0);
                assert_int_equal(answer_in(way, &c->request, large), 0);
                assert_int_equal(c->due_ms, 0);
                w->stuck = true;
                pass(b, 7);
                assert_int_equal(answer_in(way, &c->request, large), 0);
                due_ms = c->due_ms;
                assert_int_equal(due_ms, b->now_ms + 100);
                assert_int_equal(c->progress, c->written - w->unsent);
                assert_true(c->held >= w->unsent);
                pass(b, 50);
                assert_int_equal(http_chunk(&c->request, "x", 1), 0);
                assert_int_equal(c->due_ms, due_ms);
                w->base.held = 100000 - 1;
                assert_int_equal(http_chunk(&c->request, "x", 1), 0);
                w->base.held = 100000;
                assert_false(c->wants_drain);
                assert_int_equal(http_chunk(&c->request, "x", 1), -ENOBUFS);
                assert_true(c->wants_drain);
                drain(w);
                assert_int_equal(b->n_drained, way - CHUNK + 1);
                assert_int_equal(c->due_ms, 0);
                assert_false(c->wants_drain);
                drain(w);
                assert_int_equal(b->n_drained, way - CHUNK + 1);
        }
        for (unsigned i = 0; i < 2; i++) { /* the head alone */
                Wire *w = asked(b, GET("/"));

                w->stuck = i == 1;
                http_begin(b->request, 200, NULL, NULL);
                assert_int_equal(connection_of(w)->due_ms, i == 1 ? b->now_ms + 100 : 0);
        }
        shared_unref(large);
}

static void a_stream_to_a_client_that_says_no_more_ends(void **state) {
        Bench *b = *state;
        Wire *w = asked(b, GET("/"));

        bring_bytes(w, "", 0);
        assert_int_equal(b->n_gone, 0);
        assert_false(w->finished);
        http_begin(b->request, 200, NULL, NULL);
        run(b);
        assert_int_equal(b->n_gone, 1);
        assert_true(w->finished);

        w = asked(b, GET("/")); /* and the other way round */
        http_begin(b->request, 200, NULL, NULL);
        run(b);
        assert_false(w->finished);
        bring_bytes(w, "", 0);
        assert_int_equal(b->n_gone, 2);
        assert_true(w->finished);
}

static const char *write_refusal(void *userdata, void *listener, unsigned status, const char *why,
                                 Text *body) {
        text_printf(body, "own %u %s", status, why);
        return "own/type";
}

static void rejections_have_a_body_and_text_of_the_listener_or_of_go(void **state) {
        static const struct {
                const char *request, *type, *body;
        } rows[] = {
                { "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n", "own/type",
                  "own 413 the body is limited to 1000 bytes" },
                { "GET / HTTP/1.1\r\n\r\n", "text/plain; charset=utf-8",
                  "400 Bad Request: missing required Host header" },
                { "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "text/plain; charset=utf-8", NULL },
                { "?", "text/plain; charset=utf-8", "400 Bad Request" },
        };
        HttpHandler own = handler;
        Bench *b = *state;

        own.write_error = write_refusal;
        b->server->handler = &own;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *w = come(b, "");
                char type[80];

                bring(w, rows[i].request);
                assert_true(w->finished);
                snprintf(type, sizeof(type), "\r\nContent-Type: %s\r\n", rows[i].type);
                assert_non_null(strstr(said(w), type));
                assert_non_null(strstr(said(w), "\r\nConnection: close\r\n"));
                assert_null(strstr(said(w), "Retry-After"));
                if (rows[i].body)
                        assert_string_equal(strstr(said(w), "\r\n\r\n") + 4, rows[i].body);
                else
                        assert_true(starts_with(strstr(said(w), "\r\n\r\n") + 4,
                                                "505 HTTP Version Not Supported"));
        }
        assert_int_equal(b->n_requests, 0);
        b->server->handler = &handler;
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(limits_have_defaults_each_of_its_own),
                T(connections_are_counted_by_address_and_by_user),
                T(connections_in_all_are_limited_and_the_refused_ones_that_are_waited_for_too),
                T(small_requests_precede_large_ones_and_both_need_space),
                T(waiting_requests_are_served_counted_or_dropped),
                T(the_oldest_large_connection_is_ended_according_to_its_state),
                T(each_status_has_its_name),
                T(the_date_is_that_of_the_second),
                T(values_of_fields_are_sent_without_control_characters),
                T(large_bytes_are_not_copied_and_all_are_counted),
                T(an_answer_that_cannot_be_written_closes_the_stream),
                T(what_comes_too_late_is_not_sent),
                T(a_stream_is_watched_while_it_is_not_read),
                T(a_stream_to_a_client_that_says_no_more_ends),
                T(rejections_have_a_body_and_text_of_the_listener_or_of_go),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
