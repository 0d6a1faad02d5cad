/* The callbacks of llhttp, which reject what it accepts and this server does not. */
#include <strings.h>

#include "io/http_connection.h"

_printf_(3, 4) static int reject(HttpConnection *c, unsigned status, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(c->server->why, sizeof(c->server->why), format, ap);
        va_end(ap);
        c->reject_status = status;
        return HPE_USER;
}

static int on_url(llhttp_t *parser, const char *at, size_t size) {
        HttpConnection *c = parser->data;
        char text[32];

        for (size_t i = 0; i < size; i++)
                if ((unsigned char) at[i] <= ' ' || at[i] == 0x7f)
                        return reject(c, 400, "%s", "");
        text_append_bytes(&c->bytes, at, size);
        if (c->bytes.size > c->server->limits.line_size)
                return reject(c, 414, "the request line is limited to %s",
                              size_text(c->server->limits.line_size, text));
        return 0;
}

static int on_url_complete(llhttp_t *parser) {
        HttpConnection *c = parser->data;

        text_append_char(&c->bytes, 0);
        return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size) {
        HttpConnection *c = parser->data;

        if (memchr(at, ' ', size) || memchr(at, '\t', size))
                return reject(c, 400, "a space before the colon of a field");
        for (size_t i = 0; i < size && c->name_size < sizeof(c->name); i++)
                c->name[c->name_size++] = at[i];
        return 0;
}

static HttpKept kept_field(const char *name, size_t size) {
        static const struct {
                const char *name;
                size_t size;
        } fields[_HTTP_KEPT_MAX] = {
                [HTTP_KEPT_HOST] = { "host", 4 },
                [HTTP_KEPT_ORIGIN] = { "origin", 6 },
                [HTTP_KEPT_ACCEPT] = { "accept", 6 },
                [HTTP_KEPT_CONTENT_TYPE] = { "content-type", 12 },
                [HTTP_KEPT_TRANSFER_ENCODING] = { "transfer-encoding", 17 },
                [HTTP_KEPT_EXPECT] = { "expect", 6 },
                [HTTP_KEPT_KEY] = { "x-fleet-key", 11 },
                [HTTP_KEPT_TAG] = { "if-none-match", 13 },
        };

        for (int f = 0; f < _HTTP_KEPT_MAX; f++)
                if (size == fields[f].size && strncasecmp(name, fields[f].name, size) == 0)
                        return f;
        return _HTTP_KEPT_NONE;
}

static int on_header_field_complete(llhttp_t *parser) {
        HttpConnection *c = parser->data;

        if (c->name_size == 0)
                return reject(c, 400, "a field without a name");
        if (++c->n_fields > c->server->limits.fields)
                return reject(c, 431, "a request may have %llu fields",
                              (unsigned long long) c->server->limits.fields);
        /* Fields after the body have no effect. */
        c->field = c->state == HTTP_IN_HEAD ? kept_field(c->name, c->name_size) : _HTTP_KEPT_NONE;
        c->name_size = 0;
        if (c->field != _HTTP_KEPT_NONE && c->n_kept[c->field]++ == 0)
                c->kept_at[c->field] = (uint32_t) c->bytes.size;
        else
                c->field = _HTTP_KEPT_NONE;
        return 0;
}

/* Return whether the value that begins here is on another line than its name. */
static bool value_is_folded(const HttpConnection *c, const char *at) {
        while (at > c->input && (at[-1] == ' ' || at[-1] == '\t'))
                at--;
        return (at > c->input ? at[-1] : c->before) != ':';
}

/* Return whether the value continues at the end of the previous piece. */
static bool value_continues(const HttpConnection *c, const char *at) {
        return !c->span_end && at == c->input && c->before != '\n' && c->before != '\r';
}

/* The parser joins folded lines without a notice: then a value does not continue where it stopped, or begins
 * a line. */
static int on_header_value(llhttp_t *parser, const char *at, size_t size) {
        HttpConnection *c = parser->data;

        if (size == 0)
                return 0;
        if (c->value_open ? !value_continues(c, at) : value_is_folded(c, at))
                return reject(c, 400, "a folded field");
        c->value_open = true;
        c->span_end = at + size == c->input_end ? NULL :
                                                  at + size; /* NULL: it may continue in the next piece */
        if (c->field != _HTTP_KEPT_NONE)
                text_append_bytes(&c->bytes, at, size);
        return 0;
}

static int on_header_value_complete(llhttp_t *parser) {
        HttpConnection *c = parser->data;
        Text *t = &c->bytes;

        if (c->field != _HTTP_KEPT_NONE) {
                while (t->size > c->kept_at[c->field] &&
                       (t->chars[t->size - 1] == ' ' || t->chars[t->size - 1] == '\t'))
                        t->size--;
                text_append_char(t, 0);
        }
        c->field = _HTTP_KEPT_NONE;
        c->value_open = false;
        return 0;
}

/* Reduce "http://host:1/path?query" to "/path?query". Its host, which is required, replaces the Host field
 * (RFC 9112, 3.2.2). */
static int reduce_absolute_form(HttpConnection *c) {
        char *target = c->bytes.chars + c->target_at, *authority, *path;
        size_t size;

        authority = target[0] == '/' ? NULL : strstr(target, "://");
        if (!authority)
                return 0;
        authority += 3;
        size = strcspn(authority, "/?");
        if (size == 0)
                return reject(c, 400, "a target without a host");
        path = authority + size;

        /* Move the host over "//", which makes space for its terminator, and for "/" if the path is empty. */
        memmove(authority - 2, authority, size);
        path[-2] = 0;
        c->kept_at[HTTP_KEPT_HOST] = (uint32_t) (authority - 2 - c->bytes.chars);
        c->n_kept[HTTP_KEPT_HOST] = 1;
        if (*path != '/')
                *--path = '/';
        c->target_at = (uint32_t) (path - c->bytes.chars);
        return 0;
}

static const char *kept(const HttpConnection *c, HttpKept f) {
        return c->n_kept[f] > 0 ? c->bytes.chars + c->kept_at[f] : NULL;
}

void http_request_fill(HttpConnection *c) {
        HttpRequest *q = &c->request;

        q->method = c->method;
        q->target = c->bytes.chars + c->target_at;
        q->host = kept(c, HTTP_KEPT_HOST) ?: "";
        q->origin = kept(c, HTTP_KEPT_ORIGIN);
        q->accept = kept(c, HTTP_KEPT_ACCEPT);
        q->key = kept(c, HTTP_KEPT_KEY);
        q->tag = kept(c, HTTP_KEPT_TAG);
        q->content_type = kept(c, HTTP_KEPT_CONTENT_TYPE);
        q->n_content_types = c->n_kept[HTTP_KEPT_CONTENT_TYPE];
        q->body = c->bytes.chars + c->body_at;
        q->body_size = c->bytes.size - c->body_at;
}

static int check_head(HttpConnection *c) {
        const llhttp_t *p = &c->parser;
        const char *coding;

        c->http10 = p->http_major == 1 && p->http_minor == 0;
        if (p->http_major != 1 || p->http_minor > 1)
                return reject(c, 505, "expected HTTP/1.0 or HTTP/1.1");
        if (c->n_kept[HTTP_KEPT_HOST] > 1)
                return reject(c, 400, "%s", ""); /* without a message, as in etcd */
        if (c->n_kept[HTTP_KEPT_HOST] == 0 && !c->http10)
                return reject(c, 400, "missing required Host header");

        coding = kept(c, HTTP_KEPT_TRANSFER_ENCODING);
        if (!coding)
                return 0;
        if (c->n_kept[HTTP_KEPT_TRANSFER_ENCODING] > 1 || strcasecmp(coding, "chunked") != 0 || c->http10)
                return reject(c, 400, "unknown transfer coding");
        return p->flags & F_CONTENT_LENGTH ? reject(c, 400, "both Content-Length and Transfer-Encoding") : 0;
}

static int reject_body(HttpConnection *c) {
        char text[32];

        return reject(c, 413, "the body is limited to %s", size_text(c->body_limit, text));
}

static int on_headers_complete(llhttp_t *parser) {
        HttpConnection *c = parser->data;
        bool has_body = parser->flags & F_CHUNKED || parser->content_length > 0;
        int r;

        parser->upgrade = 0; /* no other protocol is supported: ignore the request to upgrade */
        if (c->bytes.error < 0)
                return reject(c, 503, "out of memory");
        r = check_head(c);
        if (r != 0)
                return r;
        r = reduce_absolute_form(c);
        if (r != 0)
                return r;

        c->state = HTTP_IN_BODY;
        c->is_head = streq(c->method, "HEAD");
        c->body_at = (uint32_t) c->bytes.size;
        c->request.keep_alive = llhttp_should_keep_alive(parser);
        if (!has_body)
                return 0;

        http_request_fill(c);
        c->body_limit = c->server->handler->body_limit(c->server->userdata, &c->request);
        if (!(parser->flags & F_CHUNKED) && parser->content_length > c->body_limit)
                return reject_body(c);
        if (parser->content_length <= HTTP_WHOLE_MAX) /* without growth, no part of a secret is left behind */
                (void) text_reserve(&c->bytes, parser->content_length + 1);
        if (!c->http10 && kept(c, HTTP_KEPT_EXPECT) &&
            strcasecmp(kept(c, HTTP_KEPT_EXPECT), "100-continue") == 0) {
                static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";

                c->written += sizeof(interim) - 1;
                (void) stream_write(c->stream, interim, sizeof(interim) - 1);
        }
        return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size) {
        HttpConnection *c = parser->data;

        if (size > c->body_limit - (c->bytes.size - c->body_at))
                return reject_body(c);
        text_append_bytes(&c->bytes, at, size);
        return c->bytes.error < 0 ? reject(c, 503, "out of memory") : 0;
}

static int on_message_complete(llhttp_t *parser) {
        return HPE_PAUSED; /* the handler is called after the parser returns */
}

const llhttp_settings_t http_parser_settings = {
        .on_url = on_url,
        .on_url_complete = on_url_complete,
        .on_header_field = on_header_field,
        .on_header_field_complete = on_header_field_complete,
        .on_header_value = on_header_value,
        .on_header_value_complete = on_header_value_complete,
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
};
