#include <strings.h>

#include "fleetd/api/keys_v2_internal.h"

/* The spellings of Go's strconv.ParseBool. */
static int parse_go_bool(const HttpParameter *p, bool *ret) {
        if (!http_parameter_is_text(p))
                return -EINVAL;
        *ret = text_has_word("1 t T TRUE true True", p->value);
        return *ret || text_has_word("0 f F FALSE false False", p->value) ? 0 : -EINVAL;
}

/* Parse the parameters of the body, if it has any, and of the query; a forwarded request has them parsed. */
static int read_form(Request *request, KeysQuery *q, Error *err) {
        static const char form[] = "application/x-www-form-urlencoded";
        const HttpRequest *http = request->http;
        const char *type = http->content_type ?: "";
        size_t size = 0;
        int r = 0;

        if (type[0] && (method_is(request, "PUT") || method_is(request, "POST")) &&
            http_media_type(type, &size, err) < 0)
                return 210;
        if (http->sink) {
                q->form = request->parameters;
                request->parameters = (HttpParameters) {};
        }
        if (size == strlen(form) && strncasecmp(type, form, size) == 0)
                r = http_parameters_parse(&q->form, http->body, http->body_size, err);
        r = r ?: http_parameters_parse(&q->form, request->query, strlen(request->query), err);
        if (r < 0 && !err->message[0])
                error_set(err, r, "%s", strerror(-r));
        if (r < 0)
                return r == -ENOMEM ? 300 : 210;
        return 0;
}

/* Read one parameter into its field of the query. Return 0, or etcd's code of the error. */
typedef int (*KeysRead)(KeysQuery *q, const HttpParameter *p, void *field, Error *err);

static int read_index(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        if (http_parameter_is_text(p) && parse_u64(p->value, field) == 0)
                return 0;
        return error_set(err, 203, "invalid value for \"%s\"", p->name);
}

static int read_flag(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        if (parse_go_bool(p, field) == 0)
                return 0;
        return error_set(err, 209, "invalid value for \"%s\"", p->name);
}

/* etcd writes the names of these flags without quotes. */
static int read_refresh(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        if (parse_go_bool(p, field) == 0)
                return 0;
        return error_set(err, 209, "invalid value for %s", p->name);
}

static int read_prev_exist(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        bool given = false;
        int r = read_refresh(q, p, &given, err);

        if (r == 0)
                *(int *) field = given;
        return r;
}

static int read_prev_value(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        if (p->value_size == 0)
                return error_set(err, 201, "\"prevValue\" cannot be empty");
        q->has_prev_value = true;
        *(KvBytes *) field = (KvBytes) { p->value, p->value_size };
        return 0;
}

static int read_ttl(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        if (p->value_size == 0)
                return 0;
        if (!http_parameter_is_text(p) || parse_u64(p->value, field) < 0)
                return error_set(err, 202, "invalid value for \"ttl\"");
        q->has_ttl = true;
        return 0;
}

static int read_value(KeysQuery *q, const HttpParameter *p, void *field, Error *err) {
        *(KvBytes *) field = (KvBytes) { p->value, p->value_size };
        return 0;
}

#define AT(member) offsetof(KeysQuery, member)

/* In the order in which etcd reads them. The first group precedes the check of "wait". */
static const struct KeysParameter {
        const char *name;
        KeysRead read;
        size_t offset;
} first_parameters[] = {
        { "prevIndex", read_index, AT(prev_index) }, { "waitIndex", read_index, AT(wait_index) },
        { "recursive", read_flag, AT(recursive) },   { "sorted", read_flag, AT(sorted) },
        { "wait", read_flag, AT(wait) },             { "dir", read_flag, AT(dir) },
        { "quorum", read_flag, AT(quorum) },         { "stream", read_flag, AT(stream) },
}, parameters[] = {
        { "prevValue", read_prev_value, AT(prev_value) },
        { "noValueOnSuccess", read_flag, AT(quiet) },
        { "ttl", read_ttl, AT(ttl) },
        { "prevExist", read_prev_exist, AT(prev_exist) },
        { "refresh", read_refresh, AT(refresh) },
        { "value", read_value, AT(value) },
};

static int read_parameters(KeysQuery *q, const struct KeysParameter *rows, size_t n, Error *err) {
        for (size_t i = 0; i < n; i++) {
                const HttpParameter *p = http_parameter(&q->form, rows[i].name);
                int r = p ? rows[i].read(q, p, (char *) q + rows[i].offset, err) : 0;

                if (r > 0)
                        return r;
        }
        return 0;
}

int keys_query_read(Request *request, KeysQuery *q, Error *err) {
        int r;

        *q = (KeysQuery) { .prev_exist = -1 };
        r = read_form(request, q, err);
        if (r > 0 || q->form.n == 0)
                return r;
        r = read_parameters(q, first_parameters, ELEMENTS(first_parameters), err);
        if (r > 0)
                return r;
        if (q->wait && !method_is(request, "GET"))
                return error_set(err, 209, "\"wait\" can only be used with GET requests");
        r = read_parameters(q, parameters, ELEMENTS(parameters), err);
        if (r > 0)
                return r;
        if (q->refresh && q->value.size > 0)
                return error_set(err, 211, "A value was provided on a refresh");
        if (q->refresh && !q->has_ttl)
                return error_set(err, 212, "No TTL value set");
        return 0;
}
