#include "client/web/server.h"

#include "base/parse.h"
#include "base/table.h"

/* The constant files, which the assembler includes. */
#define WEB_FILE(name, file)                                                             \
        __asm__(".section .rodata\n"                                                     \
                "web_" #name ": .incbin \"" WEB_PAGE "/" file "\"\nweb_" #name "_end:\n" \
                ".byte 0\n.previous\n");                                                 \
        extern const char web_##name[], web_##name##_end[]
WEB_FILE(index, "index.html");
WEB_FILE(css, "page.css");
WEB_FILE(js, "page.js");

static const struct WebFile {
        const char *path, *type, *begin, *end;
} web_files[] = {
        { "/", "text/html; charset=utf-8", web_index, web_index_end },
        { "/page.css", "text/css; charset=utf-8", web_css, web_css_end },
        { "/page.js", "text/javascript; charset=utf-8", web_js, web_js_end },
};

/* A question that waits for its answer. */
typedef struct WebQuestion {
        LIST_ENTRY(WebQuestion) questions;
        WebServer *server;
        HttpRequest *request;
        WebDocument document; /* _WEB_DOCUMENT_MAX: why */
        uint64_t after;
        uint64_t number; /* of on_why() */
        Timer timer;     /* of a document */
} WebQuestion;

struct WebServer {
        Loop *loop;
        HttpServer *http;
        const WebEvents *events;
        void *userdata;
        char key[WEB_KEY_SIZE];
        char *program;
        Timer idle;
        LIST_HEAD(, WebQuestion) questions;
        uint64_t n_why;
        struct {
                uint64_t n; /* of the last one; begins at the wall clock: no former process had it */
                Text rest;  /* as published */
                bool shown; /* it is up to date */
        } documents[_WEB_DOCUMENT_MAX];
};

/* -- Answers -- */

/* Answer with the headers that confine the page to its own files and to this server. 'more' is
 * one more field, or empty. */
static void web_send(HttpRequest *request, unsigned status, const char *type, HttpField more,
                     const char *text, size_t size) {
        const HttpField fields[] = {
                { "Content-Security-Policy",
                  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src "
                  "'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
                { "X-Content-Type-Options", "nosniff" },
                { "Referrer-Policy", "no-referrer" },
                { "Cross-Origin-Opener-Policy", "same-origin" },
                { "Cross-Origin-Resource-Policy", "same-origin" },
                { "Cache-Control", more.name && streq(more.name, "ETag") ? "no-cache" : "no-store" },
                more,
                {},
        };

        http_answer(request, status, type, fields, text, size);
}

static void web_send_error(HttpRequest *request, unsigned status, const char *message) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "%s\n", message);
        web_send(request, status, "text/plain; charset=utf-8", (HttpField) {}, text_chars(&t),
                 t.error < 0 ? 0 : t.size);
}

/* Answer a request that could not be read. */
static void web_send_invalid(HttpRequest *request, int r, const char *message) {
        if (r == -ENOMEM)
                web_send_error(request, 503, "out of memory");
        else
                web_send_error(request, 400, message);
}

static void web_send_json(HttpRequest *request, const void *json, size_t size) {
        web_send(request, 200, "application/json", (HttpField) {}, json, size);
}

/* Send a document with the members of this moment: a page counts ages from "now". */
static void web_send_document(WebServer *s, HttpRequest *request, WebDocument document) {
        const Text *rest = &s->documents[document].rest;
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"n\":%llu,", (unsigned long long) s->documents[document].n);
        if (document == WEB_VIEW)
                text_printf(&t, "\"now\":%llu,", (unsigned long long) loop_wall_ms(s->loop));
        text_printf(&t, "\"program\":\"%s\",", s->program);
        text_append_bytes(&t, rest->chars, rest->size);
        if (t.error < 0)
                web_send_error(request, 503, "out of memory");
        else
                web_send_json(request, t.chars, t.size);
}

static void web_send_file(HttpRequest *request, const struct WebFile *file) {
        size_t size = (size_t) (file->end - file->begin);
        char digits[HEX64_SIZE], tag[HEX64_SIZE + 2];

        snprintf(tag, sizeof(tag), "\"%s\"", hex64_print(XXH3_64bits(file->begin, size), digits));
        if (request->tag && streq(request->tag, tag))
                web_send(request, 304, NULL, (HttpField) { "ETag", tag }, NULL, 0);
        else
                web_send(request, 200, file->type, (HttpField) { "ETag", tag }, file->begin, size);
}

/* -- Questions -- */

static void web_question_free(WebQuestion *q) {
        timer_stop(&q->timer);
        LIST_REMOVE(q, questions);
        free(q);
}

static void web_question_on_timer(void *userdata) {
        WebQuestion *q = userdata;
        HttpRequest *request = q->request;

        web_question_free(q);
        web_send(request, 204, NULL, (HttpField) {}, NULL, 0);
}

/* Keep a request until its answer is known. NULL: no memory, which is its answer. */
static WebQuestion *web_question_new(WebServer *s, HttpRequest *request, WebDocument document) {
        WebQuestion *q = NEW0(WebQuestion, 1);

        if (!q) {
                web_send_error(request, 503, "out of memory");
                return NULL;
        }
        *q = (WebQuestion) { .server = s,
                             .request = request,
                             .document = document,
                             .timer = TIMER(web_question_on_timer, q) };
        LIST_INSERT_HEAD(&s->questions, q, questions);
        request->userdata = q;
        return q;
}

static void web_ask(WebServer *s, HttpRequest *request, WebDocument document, const HttpParameters *p) {
        const HttpParameter *parameter = http_parameter(p, "after");
        uint64_t after = 0;
        WebQuestion *q;

        if (parameter && (!http_parameter_is_text(parameter) || parse_u64(parameter->value, &after) < 0)) {
                web_send_error(request, 400, "after: expected the n of a document");
                return;
        }
        if (s->documents[document].shown && after != s->documents[document].n)
                web_send_document(s, request, document);
        else if ((q = web_question_new(s, request, document)) &&
                 timer_start(&q->timer, s->loop, WEB_WAIT_MS) < 0) {
                web_question_free(q);
                web_send_error(request, 503, "out of memory");
        }
        s->events->on_asked(s->userdata, document);
}

static void web_ask_why(WebServer *s, HttpRequest *request, const HttpParameters *p) {
        const HttpParameter *unit = http_parameter(p, "unit"), *machine = http_parameter(p, "machine"),
                            *name = unit ?: machine;
        WebQuestion *q;

        if (!name || (unit && machine) || !http_parameter_is_text(name) || !*name->value) {
                web_send_error(request, 400, "why: expected unit=NAME or machine=ID");
                return;
        }
        q = web_question_new(s, request, _WEB_DOCUMENT_MAX);
        if (!q)
                return;
        q->number = ++s->n_why;
        s->events->on_why(s->userdata, q->number, name == machine, name->value);
}

/* Return whether this is the key, in a time that does not depend on how much of it is right. */
static bool web_is_key(const WebServer *s, const char *sent) {
        size_t size = strlen(sent);
        volatile unsigned difference = size != WEB_KEY_SIZE - 1;

        for (size_t i = 0; i < WEB_KEY_SIZE - 1; i++)
                difference |= (unsigned char) s->key[i] ^ (unsigned char) sent[i < size ? i : size];
        return difference == 0;
}

/* Answer a request for one of these paths. Others are answered before the key is compared, so that they look
 * alike with and without it. */
static void web_route(WebServer *s, HttpRequest *request, const char *path, const char *query) {
        static const char *const documents[] = { [WEB_VIEW] = "/view", [WEB_USAGE] = "/usage", "/why" };
        _cleanup_(http_parameters_done) HttpParameters parameters = {};
        const struct WebFile *file = NULL;
        int document = parse_name(path, documents, ELEMENTS(documents)), r;

        for (size_t i = 0; i < ELEMENTS(web_files); i++)
                if (streq(path, web_files[i].path))
                        file = &web_files[i];
        if (!file && document < 0)
                web_send_error(request, 404, "not found");
        else if (!streq(request->method, "GET") && !streq(request->method, "HEAD"))
                web_send(request, 405, NULL, (HttpField) { "Allow", "GET, HEAD" }, NULL, 0);
        else if (file)
                web_send_file(request, file);
        else if (!request->key || !web_is_key(s, request->key))
                web_send_error(request, 403, "the key is missing, or of another run");
        else if ((r = http_parameters_parse(&parameters, query, strlen(query), NULL)) < 0)
                web_send_invalid(request, r, "invalid parameters");
        else if (document < _WEB_DOCUMENT_MAX)
                web_ask(s, request, (WebDocument) document, &parameters);
        else
                web_ask_why(s, request, &parameters);
}

static void web_rest(WebServer *s) {
        (void) timer_start(&s->idle, s->loop, WEB_IDLE_MS); /* it is armed, and needs no memory */
}

static size_t web_body_limit(void *userdata, const HttpRequest *request) {
        return 0;
}

static void web_on_request(void *userdata, HttpRequest *request) {
        _cleanup_free_ char *path = NULL;
        const char *query;
        WebServer *s = userdata;
        size_t size;
        int r;

        web_rest(s);
        r = http_target_split(request->target, &path, &size, &query);
        if (r < 0 || strlen(path) != size)
                web_send_invalid(request, r, "invalid target");
        else
                web_route(s, request, path, query);
}

static void web_on_gone(void *userdata, HttpRequest *request) {
        web_question_free(request->userdata);
}

static void web_on_drain(void *userdata, HttpRequest *request) {}

static const char *web_write_error(void *userdata, void *listener, unsigned status, const char *message,
                                   Text *body) {
        text_printf(body, "%s\n", message);
        return NULL;
}

const HttpHandler web_handler = {
        .body_limit = web_body_limit,
        .on_request = web_on_request,
        .on_gone = web_on_gone,
        .on_drain = web_on_drain,
        .write_error = web_write_error,
};

/* -- Documents -- */

int web_server_publish(WebServer *s, WebDocument document, const Text *rest) {
        Text *former = &s->documents[document].rest;
        _cleanup_text_ Text copy = {};
        WebQuestion *q, *next;

        if (s->documents[document].shown && former->size == rest->size &&
            memcmp(former->chars, rest->chars, rest->size) == 0)
                return rest->error;
        text_append_bytes(&copy, rest->chars, rest->size);
        TRY(MIN(rest->error, copy.error));
        text_done(former);
        *former = TAKE_STRUCT(copy);
        s->documents[document].n++;
        s->documents[document].shown = true;

        for (q = LIST_FIRST(&s->questions); q; q = next) {
                HttpRequest *request = q->request;

                next = LIST_NEXT(q, questions);
                if (q->document != document)
                        continue;
                web_question_free(q);
                web_send_document(s, request, document);
        }
        return 0;
}

void web_server_forget(WebServer *s, WebDocument document) {
        s->documents[document].shown = false;
}

void web_server_answer(WebServer *s, uint64_t question, unsigned status, const char *text) {
        WebQuestion *q;

        LIST_FOREACH(q, &s->questions, questions) {
                HttpRequest *request = q->request;

                if (q->number != question)
                        continue;
                web_question_free(q);
                if (status == 200)
                        web_send_json(request, text, strlen(text));
                else
                        web_send_error(request, status, text);
                return;
        }
}

/* -- The server -- */

static void web_on_idle(void *userdata) {
        WebServer *s = userdata;

        s->events->on_idle(s->userdata);
}

int web_server_new(WebServer **ret, Loop *loop, const char *key, const char *program, const WebEvents *events,
                   void *userdata) {
        /* One operator has few pages; a document may have a megabyte. */
        static const HttpLimits limits = { .connections = 64, .buffer_size = 32 * 1024 * 1024 };
        _cleanup_(web_server_freep) WebServer *s = NEW0(WebServer, 1);

        if (!s)
                return -ENOMEM;
        *s = (WebServer) { .loop = loop,
                           .events = events,
                           .userdata = userdata,
                           .program = strdup(program),
                           .idle = TIMER(web_on_idle, s) };
        snprintf(s->key, sizeof(s->key), "%s", key);
        for (size_t i = 0; i < ELEMENTS(s->documents); i++)
                s->documents[i].n = loop_wall_ms(loop);
        if (!s->program)
                return -ENOMEM;
        TRY(http_server_new(&s->http, loop, &web_handler, s, &limits));
        TRY(timer_start(&s->idle, loop, WEB_IDLE_MS));
        *ret = TAKE_PTR(s);
        return 0;
}

WebServer *web_server_free(WebServer *s) {
        if (!s)
                return NULL;
        http_server_free(s->http);
        while (!LIST_EMPTY(&s->questions))
                web_question_free(LIST_FIRST(&s->questions));
        timer_stop(&s->idle);
        for (WebDocument d = 0; d < _WEB_DOCUMENT_MAX; d++)
                text_done(&s->documents[d].rest);
        free(s->program);
        free(s);
        return NULL;
}

void web_server_accept(WebServer *s, Stream *stream) {
        http_server_accept(s->http, stream, NULL);
}
