#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/parse.h"
#include "fleetd/api/keys_v2_internal.h"

int keys_error_set(KeysError *e, unsigned code, const char *format, ...) {
        va_list ap;

        e->code = code;
        va_start(ap, format);
        vsnprintf(e->cause, sizeof(e->cause), format, ap);
        va_end(ap);
        return -EINVAL;
}

/* Return whether the value has no NUL, which would end a number or word early. */
static bool is_plain(const HttpParameter *p) {
        return strlen(p->value) == p->value_size;
}

/* The spellings of Go's strconv.ParseBool. */
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
        return keys_error_set(e, 203, "invalid value for \"%s\"", name);
}

static bool is_form(const HttpRequest *http, KeysError *e) {
        static const char form[] = "application/x-www-form-urlencoded";
        const char *type = http->content_type;
        size_t size;
        Error err = {};

        if (!type || !*type)
                return false;
        if (http_media_type(type, &size, &err) < 0) {
                (void) keys_error_set(e, 210, "%s", err.message);
                return false;
        }
        return size == strlen(form) && strncasecmp(type, form, size) == 0;
}

/* Parse the parameters of the body, if it has any, and of the query. */
static int read_form(Request *request, KeysQuery *q, KeysError *e) {
        const HttpRequest *http = request->http;
        bool reads_body = method_is(request, "PUT") || method_is(request, "POST");
        Error err = {};
        int r = 0;

        if (reads_body && is_form(http, e))
                r = http_parameters_parse(&q->form, http->body, http->body_size, &err);
        if (e->code != 0)
                return -EINVAL;
        r = r ?: http_parameters_parse(&q->form, request->query, strlen(request->query), &err);
        return r < 0 ? keys_error_set(e, r == -ENOMEM ? 300 : 210, "%s", error_text(&err, r)) : 0;
}

/* The parameters that etcd reads first, in its order. */
static int read_numbers_and_flags(KeysQuery *q, KeysError *e) {
        const struct {
                const char *name;
                bool *flag; /* or: */
                uint64_t *index;
        } rows[] = {
                { "prevIndex", .index = &q->prev_index },
                { "waitIndex", .index = &q->wait_index },
                { "recursive", .flag = &q->recursive },
                { "sorted", .flag = &q->sorted },
                { "wait", .flag = &q->wait },
                { "dir", .flag = &q->dir },
                { "quorum", .flag = &q->quorum },
                { "stream", .flag = &q->stream },
        };
        int r;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                r = rows[i].flag ? read_bool(q, rows[i].name, "\"", rows[i].flag, e) :
                                   read_index(q, rows[i].name, rows[i].index, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_ttl(KeysQuery *q, KeysError *e) {
        const HttpParameter *p = http_parameter(&q->form, "ttl");

        if (!p || p->value_size == 0)
                return 0;
        if (!http_parameter_is_text(p) || parse_u64(p->value, &q->ttl) < 0)
                return keys_error_set(e, 202, "invalid value for \"ttl\"");
        q->has_ttl = true;
        return 0;
}

static int read_prev_exist(KeysQuery *q, KeysError *e) {
        bool given;
        int r;

        if (!http_parameter(&q->form, "prevExist"))
                return 0;
        r = read_bool(q, "prevExist", "", &given, e);
        if (r == 0)
                q->prev_exist = given;
        return r;
}

/* prevValue, noValueOnSuccess, ttl, prevExist, refresh, value: etcd's order. */
static int read_values(KeysQuery *q, KeysError *e) {
        const HttpParameter *p = http_parameter(&q->form, "prevValue");
        int r;

        if (p && p->value_size == 0)
                return keys_error_set(e, 201, "\"prevValue\" cannot be empty");
        if (p) {
                q->has_prev_value = true;
                q->prev_value = (KvBytes) { p->value, p->value_size };
        }
        r = read_bool(q, "noValueOnSuccess", "\"", &q->quiet, e);
        if (r < 0)
                return r;
        r = read_ttl(q, e);
        if (r < 0)
                return r;
        r = read_prev_exist(q, e);
        if (r < 0)
                return r;
        r = read_bool(q, "refresh", "", &q->refresh, e);
        if (r < 0)
                return r;
        p = http_parameter(&q->form, "value");
        if (p)
                q->value = (KvBytes) { p->value, p->value_size };
        if (q->refresh && q->value.size > 0)
                return keys_error_set(e, 211, "A value was provided on a refresh");
        if (q->refresh && !q->has_ttl)
                return keys_error_set(e, 212, "No TTL value set");
        return 0;
}

int keys_query_read(Request *request, KeysQuery *q, KeysError *e) {
        int r;

        *q = (KeysQuery) { .prev_exist = -1 };
        r = read_form(request, q, e);
        if (r < 0 || q->form.n == 0)
                return r;
        r = read_numbers_and_flags(q, e);
        if (r < 0)
                return r;
        if (q->wait && !method_is(request, "GET")) {
                q->wait = false;
                return keys_error_set(e, 209, "\"wait\" can only be used with GET requests");
        }
        return read_values(q, e);
}
