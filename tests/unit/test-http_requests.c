/* HTTP requests over streams and a clock of the test's own: how long each part of one may take, how large it
 * may be, what is kept of it. */
#include "tests/unit/http_bench.h"

#define PUT(size) "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: " size "\r\n\r\n"

/* Nothing happens until then, and at that millisecond the stream ends. */
static void assert_ends_in(Bench *b, Wire *w, uint64_t ms, bool cut) {
        pass(b, ms - 1);
        assert_false(w->finished || w->closed);
        pass(b, 1);
        assert_int_equal(w->finished, !cut);
        assert_int_equal(w->closed, cut);
}

static void bring_many(Wire *w, char byte, size_t n) {
        char *bytes = NEW0(char, n + 1);

        memset(bytes, byte, n);
        bring_bytes(w, bytes, n);
        free(bytes);
}

static void each_part_of_a_request_has_its_time(void **state) {
        static const struct {
                const char *first, *second; /* the second 9 s behind the first */
                unsigned ms;                /* from then on */
                const char *says;           /* the end of what is said; NULL: nothing more */
        } rows[] = {
                { NULL, NULL, 10000, NULL },
                { NULL, "G", 10000, "408 Request Timeout: the request was not received in time" },
                { NULL, "GET / HT", 10000, "408 Request Timeout: the request was not received in time" },
                { NULL, "\r\n", 1000, NULL }, /* is no request */
                { "G", "ET", 1000, "408 Request Timeout: the request was not received in time" },
                { "G", "ET / HT", 1000, "408 Request Timeout: the request was not received in time" },
                { "GET / HT", "TP/1.1\r\n", 1000,
                  "408 Request Timeout: the request was not received in time" },
                { "GET / HT", "TP/1.1\r\nHost: h\r\n\r\n", 60000, NULL },
                { GET("/"), NULL, 60000 - 9000, NULL },
                { GET("/"), "G", 10000, "408 Request Timeout: the request was not received in time" },
                { GET("/") "G", NULL, 1000, "408 Request Timeout: the request was not received in time" },
                { "GET / HT", "TP/1.1\r\nHost: h\r\n\r\nG", 10000,
                  "408 Request Timeout: the request was not received in time" },
                { PUT("900"), "a", 1000, "408 Request Timeout: the body was not received in time" },
                { "PUT", " / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 10000,
                  "408 Request Timeout: the body was not received in time" },
                { PUT("2"), "ab", 60000, NULL },
                { PUT("1"), "a" PUT("2"), 10000, "408 Request Timeout: the body was not received in time" },
        };
        Bench *b = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *w = come(b, "");
                size_t size;

                if (rows[i].first) {
                        bring(w, rows[i].first);
                        pass(b, 9000);
                } else if (rows[i].second)
                        pass(b, 9000);
                if (rows[i].second)
                        bring(w, rows[i].second);
                size = w->said.size;
                assert_ends_in(b, w, rows[i].ms, false);
                if (rows[i].says)
                        assert_true(ends_with(said(w), rows[i].says));
                else
                        assert_int_equal(w->said.size, size);
                assert_int_equal(connection_of(w)->state, HTTP_CLOSING);
                w->base.events->on_read(w->base.userdata, GET("/late"),
                                        strlen(GET("/late"))); /* is ignored */
                assert_string_not_equal(b->target, "/late");
                pass(b, 3600000);
                assert_false(w->closed); /* the rest is the stream's */
        }
}

static void what_is_handled_may_take_long(void **state) {
        Bench *b = *state;
        Wire *w = asked(b, GET("/"));

        pass(b, 3600000);
        assert_false(w->finished || w->closed);
        http_answer(b->request, 200, NULL, NULL, "x", 1);
        assert_ends_in(b, w, 60000, false);
}

/* 1 KiB in the time of a body, each time. */
static void a_body_continues_as_long_as_enough_of_it_arrives(void **state) {
        Bench *b = *state;

        b->body_limit = 100000;
        for (unsigned enough = 0; enough < 2; enough++) {
                Wire *w = come(b, "");

                bring(w, PUT("50000"));
                for (unsigned i = 0; i < 3; i++) {
                        pass(b, 9999);
                        bring_many(w, 'b', i < 2 ? HTTP_PROGRESS_BYTES : HTTP_PROGRESS_BYTES - 1 + enough);
                        assert_false(w->finished);
                        pass(b, 1);
                }
                assert_int_equal(w->finished, !enough);
                if (enough)
                        assert_ends_in(b, w, 10000, false);
                assert_true(ends_with(said(w), "the body was not received in time"));
        }
}

static void take(Wire *w, size_t size) {
        w->unsent -= size;
        w->base.held -= size;
}

/* 1 KiB in the time of an answer, each time; also of one after which the connection ends, and of the last
 * words to who leaves. */
static void an_answer_continues_as_long_as_enough_of_it_is_read(void **state) {
        enum { SIZE = 50000 };
        static char body[SIZE];
        Bench *b = *state;

        for (unsigned way = 0; way < 4; way++)
                for (unsigned enough = 0; enough < 2; enough++) {
                        Wire *w = asked(b, way == 1 ?
                                                   "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" :
                                                   GET("/"));
                        HttpConnection *c = connection_of(w);
                        unsigned gone = b->n_gone;

                        if (way == 2)
                                bring_bytes(w, "", 0);
                        pass(b, 12345);
                        w->stuck = true;
                        if (way == 3) {
                                http_begin(b->request, 200, NULL, NULL);
                                assert_int_equal(http_chunk(b->request, body, SIZE), 0);
                        } else
                                http_answer(b->request, 200, NULL, NULL, body, SIZE);
                        assert_true(w->base.held >= SIZE && c->held >= SIZE);
                        assert_int_equal(w->finished, way == 1 || way == 2);
                        for (unsigned i = 0; i < 3; i++) {
                                pass(b, 9999);
                                take(w, i < 2 ? HTTP_PROGRESS_BYTES : HTTP_PROGRESS_BYTES - 1 + enough);
                                assert_false(w->closed);
                                pass(b, 1);
                                if (!w->closed)
                                        assert_int_equal(c->held, c->bytes.capacity + c->pending.capacity +
                                                                          w->base.held);
                        }
                        assert_int_equal(w->closed, !enough);
                        if (enough) {
                                pass(b, 9999);
                                assert_false(w->closed);
                                take(w, w->unsent - 1); /* one byte left is something */
                                pass(b, 1);
                                assert_false(w->closed);
                                pass(b, 10000);
                                assert_true(w->closed);
                        }
                        assert_int_equal(b->n_gone - gone, way == 3);
                        assert_int_equal(c->state, HTTP_CLOSING);
                }
}

/* A stream that begins shortly before another deadline would have passed has all of its own. */
static void the_time_of_a_head_is_over_with_the_head(void **state) {
        Bench *b = *state;
        Wire *w = come(b, "");

        b->parks = true;
        bring(w, "GET / HT");
        pass(b, 9990);
        bring(w, "TP/1.1\r\nHost: h\r\n\r\n");
        assert_int_equal(connection_of(w)->due_ms, 0);
        w->stuck = true;
        http_begin(b->request, 200, NULL, NULL);
        assert_ends_in(b, w, 10000, true);
        assert_int_equal(b->n_gone, 1);
}

static void a_connection_rests_behind_what_was_read_of_its_answer(void **state) {
        Bench *b = *state;
        Wire *w = asked(b, GET("/"));

        w->stuck = true;
        http_answer(b->request, 200, NULL, NULL, "x", 1);
        pass(b, 5000);
        drain(w);
        assert_ends_in(b, w, 60000, false);

        w = asked(b, GET("/")); /* its request waits while the answer before is read */
        w->stuck = true;
        http_answer(b->request, 200, NULL, NULL, "x", 1);
        bring(w, GET("/"));
        pass(b, 9000);
        assert_int_equal(b->n_requests, 3);
        drain(w);
        pass(b, 3600000);
        assert_false(w->closed || w->finished);
}

/* -- Limits -- */

static void append_many(Text *t, char byte, size_t n) {
        for (size_t i = 0; i < n; i++)
                text_append_char(t, byte);
}

static void limits_are_exact(void **state) {
        enum { LINE, HEAD, FIELDS, BODY, CHUNKED, METHOD, BLANKS, _LIMITS };
        static const struct {
                size_t max;
                const char *status; /* one above */
        } rows[_LIMITS] = {
                [LINE] = { 50, "414" },   [HEAD] = { 100, "431" },     [FIELDS] = { 3, "431" },
                [BODY] = { 1000, "413" }, [CHUNKED] = { 1000, "413" }, [METHOD] = { 31, "400" },
                [BLANKS] = { 15, "400" },
        };
        Bench *b = *state;

        for (unsigned l = 0; l < _LIMITS; l++)
                for (size_t n = rows[l].max - 1; n <= rows[l].max + 1; n++) {
                        Wire *w = come(b, "");
                        _cleanup_text_ Text t = {};
                        char begin[sizeof("HTTP/1.1 200")];

                        limit(b, (HttpLimits) { .line_size = l == LINE ? 50 : 0,
                                                .head_size = l == HEAD ? 100 : 0,
                                                .fields = l == FIELDS ? 3 : 0 });
                        if (l == BLANKS)
                                append_many(&t, '\n', n);
                        if (l == METHOD)
                                append_many(&t, 'M', n);
                        else
                                text_append(&t, "PUT");
                        text_append(&t, " /");
                        if (l == LINE)
                                append_many(&t, 'p', n - 1);
                        text_append(&t, " HTTP/1.1\r\nHost: h\r\n");
                        for (size_t i = 1; l == FIELDS && i < n; i++)
                                text_append(&t, "A: b\r\n");
                        if (l == HEAD) {
                                text_append(&t, "A: ");
                                append_many(&t, 'b', n - strlen("/ HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n"));
                                text_append(&t, "\r\n");
                        }
                        if (l == BODY)
                                text_printf(&t, "Content-Length: %zu\r\n", n);
                        if (l == CHUNKED)
                                text_append(&t, "Transfer-Encoding: chunked\r\n");
                        text_append(&t, "\r\n");
                        if (l == CHUNKED) {
                                text_append(&t, "1\r\nb\r\n");
                                text_printf(&t, "%zx\r\n", n - 1);
                                append_many(&t, 'b', n - 1);
                                text_append(&t, "\r\n0\r\n\r\n");
                        }
                        if (l == BODY)
                                append_many(&t, 'b', n);
                        bring(w, t.chars);
                        snprintf(begin, sizeof(begin), "HTTP/1.1 %.3s",
                                 n <= rows[l].max ? "200" : rows[l].status);
                        if (!starts_with(said(w), begin) || w->finished != (n > rows[l].max))
                                fail_msg("limit %u, %zu: %s", l, n, said(w));
                        if (n <= rows[l].max && l == METHOD)
                                assert_int_equal(strlen(b->method), n);
                }
}

static void bytes_of_methods_and_targets_are_those_of_the_standard(void **state) {
        static const char tokens[] =
                "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        Bench *b = *state;

        for (unsigned byte = 1; byte < 256; byte++)
                for (unsigned place = 0; place < 3; place++) {
                        bool good = place == 0 ? strchr(tokens, (int) byte) != NULL :
                                                 byte > ' ' && byte != 0x7f;
                        char request[64];
                        Wire *w;

                        if ((place > 0 && byte >= 0x80) || (place != 1 && byte == ' '))
                                continue; /* that is the parser's to decide; it ends what it stands in */
                        forget_all(b);
                        w = come(b, "");
                        if (place < 2)
                                snprintf(request, sizeof(request),
                                         place == 0 ? "A%cB /x HTTP/1.1\r\nHost: h\r\n\r\n" :
                                                      "GET /%cx HTTP/1.1\r\nHost: h\r\n\r\n",
                                         (char) byte);
                        else {
                                bring(w, "GET /x");
                                snprintf(request, sizeof(request), "%c HTTP/1.1\r\nHost: h\r\n\r\n",
                                         (char) byte);
                        }
                        bring(w, request);
                        if (good != starts_with(said(w), "HTTP/1.1 200 "))
                                fail_msg("byte %u at place %u: %.40s", byte, place, said(w));
                }
}

static void relevant_fields_are_kept_among_any_others(void **state) {
        static const struct {
                const char *request, *host, *origin, *type;
                unsigned n_types;
                const char *target, *body;
        } rows[] = {
                { GET("/"), "h", "none", "none", 0, "/", "" },
                { "GET / HTTP/1.1\r\nhOST:a\r\norigin: http://b \r\nCONTENT-TYPE:\tc/d\t \r\n\r\n", "a",
                  "http://b", "c/d", 1, "/", "" },
                { "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: 1\r\nContent-Type: 2\r\n\r\n", "a", "none", "1",
                  2, "/", "" },
                { "GET / HTTP/1.1\r\nHosts: b\r\nHos: c\r\nHost: a\r\nOrigina: x\r\nContent-Types: y\r\n\r\n",
                  "a", "none", "none", 0, "/", "" },
                { "GET / HTTP/1.1\r\nHost: a\r\nContent-Type-Content-Type-Content-Type-Content-Type: "
                  "y\r\nOrigin:\r\n\r\n",
                  "a", "", "none", 0, "/", "" },
                { "GET http://o:1/x HTTP/1.0\r\n\r\n", "o:1", "none", "none", 0, "/x", "" },
                { "GET /y HTTP/1.0\r\n\r\n", "", "none", "none", 0, "/y", "" },
                { "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "a", "none", "none", 0, "/",
                  "x" },
                { "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\nOrigin: "
                  "late\r\nContent-Type: late\r\n\r\n",
                  "a", "none", "none", 0, "/", "x" },
        };
        Bench *b = *state;
        Wire *kept = come(b, "");

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (unsigned v = 0; v < 2; v++) {
                        bool closes = strstr(rows[i].request, "1.0") != NULL;
                        Wire *w = v == 0 || closes ? come(b, "") :
                                                     kept; /* also behind others on a connection */

                        bring(w, rows[i].request);
                        assert_string_equal(b->host, rows[i].host);
                        assert_string_equal(b->origin, rows[i].origin);
                        assert_string_equal(b->type, rows[i].type);
                        assert_int_equal(b->n_types, rows[i].n_types);
                        assert_string_equal(b->target, rows[i].target);
                        assert_string_equal(b->body, rows[i].body);
                }
        assert_string_equal(b->key, "none");
        bring(kept, "GET / HTTP/1.1\r\nHost: h\r\nx-fleet-key: a\r\nX-Fleet-Key: b\r\nIf-None-Match: "
                    "\"c\"\r\n\r\n");
        assert_string_equal(b->key, "a");
        assert_string_equal(b->tag, "\"c\"");
        bring(kept, "GET http://o/x HTTP/1.1\r\nHost: h\r\n\r\nGET /y HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_string_equal(b->target, "/y");
        assert_string_equal(b->host, "g");
        bring(kept, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n");
        assert_true(kept->finished);
}

static void a_client_with_expect_continue_gets_100_once_and_it_is_counted(void **state) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        static const struct {
                const char *request;
                bool is_continued;
        } rows[] = {
                { "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", true },
                { "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
                  true },
                { "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", false },
                { "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", false },
                { "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", false },
        };
        Bench *b = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *w = come(b, "");

                bring(w, rows[i].request);
                assert_int_equal(w->said.size, rows[i].is_continued ? sizeof(go_on) - 1 : 0);
                assert_int_equal(connection_of(w)->written, w->said.size);
                assert_true(!rows[i].is_continued || streq(said(w), go_on));
        }
        Wire *w = come(b, "");

        b->parks = true;
        bring(w, "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n"); /* has no body */
        assert_int_equal(w->said.size, 0);
}

/* -- What is kept -- */

static void a_connection_starts_again_for_each_request(void **state) {
        Bench *b = *state;
        Wire *w = come(b, "");
        HttpConnection *c = connection_of(w);

        limit(b, (HttpLimits) { .head_size = 40 });
        b->parks = true;
        for (unsigned i = 0; i < 5; i++) {
                bring(w, "\r\n" GET("/x"));
                assert_int_equal(b->n_requests, i + 1);
                assert_null(b->request->userdata);
                b->request->userdata = b;
                http_answer(b->request, 200, NULL, NULL, NULL, 0);
                assert_int_equal(c->head_size, 0);
                assert_int_equal(c->n_fields, 0);
        }
}

static void large_buffers_are_given_back_between_requests_and_small_ones_used_again(void **state) {
        static const size_t sizes[] = { HTTP_KEPT_MAX, HTTP_KEPT_MAX + 1 };

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                HttpConnection c = {};

                text_append(&c.bytes, "x");
                c.bytes.capacity = sizes[i];
                http_connection_begin(&c);
                assert_int_equal(c.bytes.capacity, i == 0 ? HTTP_KEPT_MAX : 0);
                text_done(&c.bytes);
        }
}

static void a_request_that_waits_keeps_its_head_alone(void **state) {
        Bench *b = *state;
        Wire *w = come(b, "");
        HttpConnection *c = connection_of(w);

        b->parks = true;
        b->body_limit = 100000;
        bring(w, "PUT /target HTTP/1.1\r\nHost: host\r\nContent-Length: 9000\r\n\r\n");
        bring_many(w, 'b', 9000);
        assert_int_equal(c->state, HTTP_ACTIVE);
        assert_int_equal(c->bytes.size, strlen("/target") + 1 + strlen("host") + 1);
        assert_int_equal(c->bytes.capacity, c->bytes.size + 1);
        assert_int_equal(b->server->held, c->bytes.capacity);
        assert_string_equal(c->request.target, "/target");
        assert_string_equal(c->request.host, "host");
        assert_int_equal(c->request.body_size, 0);
        assert_string_equal(c->request.body, "");
        http_answer(&c->request, 200, NULL, NULL, NULL, 0);

        bring(w,
              "PUT /target HTTP/1.1\r\nHost: host\r\nContent-Length: 5\r\n\r\nsmall"); /* as small ones are */
        assert_int_equal(c->request.body_size, 5);
        assert_string_equal(c->request.body, "small");
}

static void requests_cost_work_by_their_size(void **state) {
        Bench *b = *state;
        Wire *w = come(b, "");
        size_t size;

        b->parks = true;
        b->loop.turns.now = (TurnWork) {};
        w->base.events->on_read(w->base.userdata, PUT("3") "abc", strlen(PUT("3") "abc"));
        size = connection_of(w)->bytes.size;
        assert_int_equal(size, strlen("/") + 1 + strlen("h") + 1 + 3);
        assert_int_equal(b->loop.turns.now.bytes, HTTP_REQUEST_WORK * size);
        assert_int_equal(b->loop.turns.now.nodes, 0);
}

/* -- What is sent ahead -- */

static void pipelined_requests_are_bounded_and_continue_after_the_answer(void **state) {
        enum { AHEAD = 1000 };
        Bench *b = *state;
        Wire *w = asked(b, GET("/1"));
        HttpConnection *c = connection_of(w);
        size_t size = strlen(GET("/2"));

        limit(b, (HttpLimits) { .ahead_size = AHEAD });
        assert_false(w->paused);
        bring(w, GET("/2"));
        bring_many(w, '\n', AHEAD - size);
        assert_false(w->paused);
        assert_int_equal(c->held, c->bytes.capacity + c->pending.capacity);
        bring_many(w, '\r', 1);
        assert_true(w->paused);
        assert_int_equal(b->n_requests, 1);
        http_answer(b->request, 200, NULL, NULL, NULL, 0);
        assert_int_equal(b->n_requests, 1); /* not from inside of the answer */
        run(b);
        assert_int_equal(b->n_requests, 2);
        assert_string_equal(b->target, "/2");
        assert_false(w->paused); /* what has been read is not ahead */
        http_answer(b->request, 200, NULL, NULL, NULL, 0);
        run(b);
        assert_true(starts_with(strstr(said(w), "400"),
                                "400 Bad Request")); /* so many blank lines are no request */
        assert_int_equal(c->pending.size, 0);
        assert_int_equal(c->pending.capacity, 0);
}

/* The next request is not begun while too much of the answers before it is held. */
static void requests_ahead_wait_while_answers_are_not_read(void **state) {
        enum { BACKLOG = 5000 };
        static char body[BACKLOG];
        Bench *b = *state;

        limit(b, (HttpLimits) { .backlog_size = BACKLOG });
        for (unsigned more = 0; more < 2; more++) {
                Wire *w = asked(b, GET("/1"));
                unsigned n = b->n_requests;

                w->stuck = true;
                http_answer(b->request, 200, NULL, NULL, body, 100);
                w->base.held = BACKLOG + more;
                bring(w, GET("/2"));
                assert_int_equal(b->n_requests, n + 1 - more);
                pass(b, 100);
                assert_int_equal(b->n_requests, n + 1 - more);
                drain(w);
                assert_int_equal(b->n_requests, n + 1);
                assert_string_equal(b->target, "/2");
        }
}

static void a_client_that_says_no_more_gets_the_answers_to_what_it_sent(void **state) {
        static const struct {
                const char *request;
                unsigned answers; /* that come before the end */
        } rows[] = {
                { "", 0 },
                { "GET /x", 0 },
                { PUT("5") "a", 0 },
                { GET("/1"), 1 },
                { GET("/1") GET("/2"), 2 },
                { GET("/1") GET("/2") "GET /3", 2 },
        };
        Bench *b = *state;

        b->parks = true;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Wire *w = come(b, "");
                unsigned n = b->n_requests;

                if (*rows[i].request)
                        bring(w, rows[i].request);
                bring_bytes(w, "", 0);
                for (unsigned k = 0; k < rows[i].answers; k++) {
                        assert_false(w->finished);
                        assert_int_equal(b->n_requests, n + k + 1);
                        http_answer(b->request, 200, NULL, NULL, NULL, 0);
                        run(b);
                }
                assert_true(w->finished && !w->closed);
                assert_int_equal(b->n_requests, n + rows[i].answers);
                assert_int_equal(connection_of(w)->state, HTTP_CLOSING);
        }
        assert_int_equal(b->n_gone, 0);
}

/* One that leaves while the last of an answer is on its way has the time of an answer for it, also when the
 * server goes. */
static void the_last_words_have_their_time(void **state) {
        Bench *b = *state;

        limit(b, (HttpLimits) { .answer_ms = 100 });
        for (unsigned i = 0; i < 2; i++) {
                Wire *w = asked(b, GET("/"));

                w->stuck = true;
                http_answer(b->request, 200, NULL, NULL, "x", 1);
                if (i == 1)
                        connection_of(w)->server = NULL;
                bring_bytes(w, "", 0);
                assert_true(w->finished);
                w->finished = false;
                assert_ends_in(b, w, i == 1 ? 10000 : 100, true);
                connection_of(w)->server = b->server;
        }
}

static void a_handler_is_notified_once_that_its_client_is_gone(void **state) {
        Bench *b = *state;
        Wire *w = asked(b, GET("/"));

        leave(w);
        assert_int_equal(b->n_gone, 1);
        w = asked(b, GET("/"));
        http_begin(b->request, 200, NULL, NULL);
        bring_bytes(w, "", 0);
        assert_int_equal(b->n_gone, 2);
        leave(w);
        assert_int_equal(b->n_gone, 2);
        w = asked(b, GET("/"));
        http_answer(b->request, 200, NULL, NULL, NULL, 0);
        leave(w);
        assert_int_equal(b->n_gone, 2);
}

static void what_a_connection_held_is_reported_as_freed(void **state) {
        Bench *b = *state;
        Wire *w = come(b, "");
        HttpConnection *c = connection_of(w);
        size_t held;

        bring(w, "GET /x");
        held = c->held;
        assert_true(held > 0);
        b->loop.freed = 0;
        leave(w);
        assert_int_equal(b->loop.freed, sizeof(HttpConnection) + held);
        assert_int_equal(b->server->n_connections, 0);
        assert_int_equal(b->server->held, 0);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(each_part_of_a_request_has_its_time),
                T(what_is_handled_may_take_long),
                T(a_body_continues_as_long_as_enough_of_it_arrives),
                T(an_answer_continues_as_long_as_enough_of_it_is_read),
                T(the_time_of_a_head_is_over_with_the_head),
                T(a_connection_rests_behind_what_was_read_of_its_answer),
                T(limits_are_exact),
                T(bytes_of_methods_and_targets_are_those_of_the_standard),
                T(relevant_fields_are_kept_among_any_others),
                T(a_client_with_expect_continue_gets_100_once_and_it_is_counted),
                T(a_connection_starts_again_for_each_request),
                cmocka_unit_test(large_buffers_are_given_back_between_requests_and_small_ones_used_again),
                T(a_request_that_waits_keeps_its_head_alone),
                T(requests_cost_work_by_their_size),
                T(pipelined_requests_are_bounded_and_continue_after_the_answer),
                T(requests_ahead_wait_while_answers_are_not_read),
                T(a_client_that_says_no_more_gets_the_answers_to_what_it_sent),
                T(the_last_words_have_their_time),
                T(a_handler_is_notified_once_that_its_client_is_gone),
                T(what_a_connection_held_is_reported_as_freed),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("http_requests", tests, NULL, NULL);
}
