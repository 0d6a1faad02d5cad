/* Requests to fleet-web without a connection: what a browser would get. */
#pragma once

#include "tests/lib/test.h"
#include "client/web/server.h"
#include "tests/lib/manual_loop.h"

#define WEB_TEST_KEY "AAECAwQFBgcICQoLDA0ODw"

typedef struct WebAsk {
        HttpRequest request;
        unsigned status; /* 0: no answer yet */
        char type[64], policy[256], cache[32], tag[64], allow[32];
        Text body;
} WebAsk;

static void web_ask_answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                           const void *body, size_t size) {
        WebAsk *a = container_of(request, WebAsk, request);
        const struct {
                const char *name;
                char *value;
                size_t size;
        } kept[] = {
                { "Content-Security-Policy", a->policy, sizeof(a->policy) },
                { "Cache-Control", a->cache, sizeof(a->cache) },
                { "ETag", a->tag, sizeof(a->tag) },
                { "Allow", a->allow, sizeof(a->allow) },
        };

        assert_int_equal(a->status, 0);
        a->status = status;
        snprintf(a->type, sizeof(a->type), "%s", type ?: "");
        for (; fields && fields->name; fields++)
                for (size_t i = 0; i < ELEMENTS(kept); i++)
                        if (streq(fields->name, kept[i].name))
                                snprintf(kept[i].value, kept[i].size, "%s", fields->value);
        text_append_bytes(&a->body, body, size);
}

static const HttpSink web_ask_sink = { .answer = web_ask_answer };

/* 'key' and 'tag' may be NULL. The answer is there at once, or later. */
static void web_ask_begin(WebAsk *a, WebServer *server, const char *method, const char *target,
                          const char *key, const char *tag) {
        text_done(&a->body);
        *a = (WebAsk) { .request = { .method = method,
                                     .target = target,
                                     .host = "h",
                                     .key = key,
                                     .tag = tag,
                                     .sink = &web_ask_sink } };
        web_handler.on_request(server, &a->request);
}

static void web_ask_get(WebAsk *a, WebServer *server, const char *target) {
        web_ask_begin(a, server, "GET", target, WEB_TEST_KEY, NULL);
}

_unused_ static void pass(ManualLoop *loop, uint64_t ms) {
        loop->now_ms += ms;
        while (loop_next_due_ms(&loop->base) <= loop->now_ms)
                (void) loop_run_due(&loop->base, 1000);
}
