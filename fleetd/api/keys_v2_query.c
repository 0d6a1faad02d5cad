#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/parse.h"
#include "fleetd/api/keys_v2_internal.h"

static int fail(KeysError *e, unsigned code, const char *format, ...) _printf_(3, 4);

static int fail(KeysError *e, unsigned code, const char *format, ...) {
        va_list ap;

        e->code = code;
        va_start(ap, format);
        vsnprintf(e->cause, sizeof(e->cause), format, ap);
        va_end(ap);
        return -EINVAL;
}

/* A zero byte ends no number and no word. */
static bool is_plain(const HttpParameter *p) {
        return strlen(p->value) == p->value_size;
}

/* Go's strconv.ParseBool: no other spelling counts. */
static int parse_go_bool(const HttpParameter *p, bool *ret) {
        static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
        static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };

        for (size_t i = 0; i < ELEMENTS(yes) && http_parameter_is_text(p); i++)
                if (is_plain(p) && (streq(p->value, yes[i]) || streq(p->value, no[i]))) {
                        *ret = streq(p->value, yes[i]);
                        return 0;
                }
        return -EINVAL;
}

static int read_bool(const KeysQuery *q, const char *name, const char *format, bool *ret, KeysError *e) {
        const HttpParameter *p = http_parameter(&q->form, name);

        if (!p || parse_go_bool(p, ret) == 0)
                return 0;
        e->code = 209;
        snprintf(e->cause, sizeof(e->cause),
                 format[0] == '"' ? "invalid value for \"%s\"" : "invalid value for %s", name);
        return -EINVAL;
}

static int read_index(const KeysQuery *q, const char *name, uint64_t *ret, KeysError *e) {
        const HttpParameter *p = http_parameter(&q->form, name);

        if (!p || (http_parameter_is_text(p) && parse_u64(p->value, ret) == 0))
                return 0;
        return fail(e, 203, "invalid value for \"%s\"", name);
}

/* An empty type is none. */
static bool is_form(const HttpRequest *http, KeysError *e) {
        static const char form[] = "application/x-www-form-urlencoded";
        const char *type = http->content_type;
        size_t size;
        Error err = {};

        if (!type || !*type)
                return false;
        if (http_media_type(type, &size, &err) < 0) {
                (void) fail(e, 210, "%s", err.message);
                return false;
        }
        return size == strlen(form) && strncasecmp(type, form, size) == 0;
}

int keys_query_read(Request *request, KeysQuery *q, KeysError *e) {
        const HttpRequest *http = request->http;
        bool reads_body = method_is(request, "PUT") || method_is(request, "POST"), wait_wanted = false, given;
        const HttpParameter *p;
        Error err = {};
        int r = 0;

        *q = (KeysQuery) { .prev_exist = -1 };
        if (reads_body && is_form(http, e))
                r = http_parameters_parse(&q->form, http->body, http->body_size, &err);
        if (e->code != 0)
                return -EINVAL;
        r = r ?: http_parameters_parse(&q->form, request->query, strlen(request->query), &err);
        if (r < 0)
                return fail(e, r == -ENOMEM ? 300 : 210, "%s", error_text(&err, r));
        if (q->form.n == 0)
                return 0;

        r = read_index(q, "prevIndex", &q->prev_index, e);
        r = r ?: read_index(q, "waitIndex", &q->wait_index, e);
        r = r ?: read_bool(q, "recursive", "\"", &q->recursive, e);
        r = r ?: read_bool(q, "sorted", "\"", &q->sorted, e);
        r = r ?: read_bool(q, "wait", "\"", &wait_wanted, e);
        r = r ?: read_bool(q, "dir", "\"", &q->dir, e);
        r = r ?: read_bool(q, "quorum", "\"", &q->quorum, e);
        r = r ?: read_bool(q, "stream", "\"", &q->stream, e);
        if (r < 0)
                return r;
        if (wait_wanted && !method_is(request, "GET"))
                return fail(e, 209, "\"wait\" can only be used with GET requests");
        q->wait = wait_wanted;

        p = http_parameter(&q->form, "prevValue");
        if (p && p->value_size == 0)
                return fail(e, 201, "\"prevValue\" cannot be empty");
        if (p) {
                q->has_prev_value = true;
                q->prev_value = (KvBytes) { p->value, p->value_size };
        }
        r = read_bool(q, "noValueOnSuccess", "\"", &q->quiet, e);
        if (r < 0)
                return r;
        p = http_parameter(&q->form, "ttl");
        if (p && p->value_size > 0) {
                if (!http_parameter_is_text(p) || parse_u64(p->value, &q->ttl) < 0)
                        return fail(e, 202, "invalid value for \"ttl\"");
                q->has_ttl = true;
        }
        if (http_parameter(&q->form, "prevExist")) {
                r = read_bool(q, "prevExist", "", &given, e);
                if (r < 0)
                        return r;
                q->prev_exist = given;
        }
        r = read_bool(q, "refresh", "", &q->refresh, e);
        if (r < 0)
                return r;
        p = http_parameter(&q->form, "value");
        if (p)
                q->value = (KvBytes) { p->value, p->value_size };
        if (q->refresh && q->value.size > 0)
                return fail(e, 211, "A value was provided on a refresh");
        if (q->refresh && !q->has_ttl)
                return fail(e, 212, "No TTL value set");
        return 0;
}
