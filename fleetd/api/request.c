#include "fleetd/api/request.h"

#include <stdarg.h>
#include <stdio.h>

#include "units/entities.h"

bool method_is(const Request *request, const char *method) {
        return streq(request->http->method, method);
}

void request_free(Request *request) {
        TAILQ_REMOVE(&request->api->requests, request, requests);
        http_parameters_done(&request->parameters);
        free(request->path);
        free(request);
}

void request_answer(Request *request, unsigned status, const char *type, const HttpField *fields, const void *body, size_t size) {
        HttpRequest *http = request->http;

        http->userdata = NULL;
        http_answer(http, status, type, fields, body, size);
        request_free(request);
}

void request_answer_text(Request *request, unsigned status, const char *type, const HttpField *fields, const char *text) {
        request_answer(request, status, type, fields, text, strlen(text));
}

void request_not_allowed(Request *request, const HttpField *field) {
        request_answer_text(request, 405, "text/plain; charset=utf-8", (HttpField[]) { *field, { "X-Content-Type-Options", "nosniff" }, {} },
                            "Method Not Allowed\n");
}

void request_not_found(Request *request) {
        request_answer_text(request, 404, "text/plain; charset=utf-8", (HttpField[]) { { "X-Content-Type-Options", "nosniff" }, {} },
                            "404 page not found\n");
}

HttpField request_stale_field(const Request *request, StaleField *ret) {
        uint64_t ms = kv_stale_ms(request->api->options.store);

        if (ms == 0)
                return (HttpField) {};
        snprintf(ret->seconds, sizeof(ret->seconds), "%llu", (unsigned long long) ms / 1000);
        return (HttpField) { "X-Fleet-Stale", ret->seconds };
}

void request_answer_json(Request *request, unsigned status, Text *body) {
        StaleField stale;

        if (body->error < 0)
                request_error(request, 500, "out of memory");
        else
                request_answer(request, status, "application/json", (HttpField[]) { request_stale_field(request, &stale), {} }, body->chars,
                               body->size);
        text_done(body);
}

void request_error(Request *request, unsigned status, const char *format, ...) {
        char sentence[ERROR_MESSAGE_MAX];
        _cleanup_text_ Text t = {};
        va_list ap;

        va_start(ap, format);
        vsnprintf(sentence, sizeof(sentence), format, ap);
        va_end(ap);
        api_error_write(&t, status, sentence);
        request_answer(request, status, "application/json", NULL, t.chars ?: "", t.size);
}

void request_end(Request *request) {
        request->http->userdata = NULL;
        http_end(request->http);
        request_free(request);
}

void request_cut(Request *request, const char *reason) {
        request->http->userdata = NULL;
        http_cut(request->http, reason);
        request_free(request);
}

void request_ttl(KvCommand *cmd, bool given, uint64_t seconds) {
        const uint64_t max_s = 1000ull * 365 * 86400;

        cmd->has_ttl = given && seconds <= max_s;
        cmd->ttl_ms = cmd->has_ttl ? seconds * 1000 : 0;
}

const char *request_parameter(const Request *request, const char *name) {
        const HttpParameter *p = http_parameter(&request->parameters, name);

        return p ? p->value : NULL;
}
