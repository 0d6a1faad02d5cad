#include "fleetd/api/kv_v1.h"

#include <strings.h>

/* -- Nodes and errors -- */

/* At least 1: a key that is due exists until the leader proposes its expiry. */
static uint64_t ttl_seconds(const KvNode *node, uint64_t now_ms) {
        return node->expires_ms > now_ms ? (node->expires_ms - now_ms + 999) / 1000 : 1;
}

void kv_node_write(Text *t, const char *name, const KvNode *node, bool with_value, uint64_t now_ms) {
        json_open(t, name, '{');
        json_add_u64(t, "createdIndex", node->created);
        json_add_bool(t, "dir", node->dir);
        json_add_bytes(t, "key", node->key.data, node->key.size);
        json_add_u64(t, "modifiedIndex", node->modified);
        if (node->expires_ms > 0)
                json_add_u64(t, "ttl", ttl_seconds(node, now_ms));
        if (with_value && !node->dir)
                json_add_bytes(t, "value", node->value.data ?: "", node->value.size);
        json_close(t, '}');
}

void kv_refusal_write(Text *t, const KvRefusal *refusal) {
        json_open(t, NULL, '{');
        json_open(t, "error", '{');
        json_add_string(t, "at", refusal->at);
        json_add_u64(t, "code", refusal->status);
        json_add_string_always(t, "message", refusal->err.message);
        json_close(t, '}');
        if (refusal->found)
                kv_node_write(t, "found", refusal->found, true, refusal->now_ms);
        json_add_u64(t, "index", refusal->index);
        json_add_u64(t, "oldest", refusal->oldest);
        text_append(t, "}\n");
}

unsigned kv_refuse(Request *request, const KvRefusal *refusal) {
        _cleanup_text_ Text t = {};

        kv_refusal_write(&t, refusal);
        return request_answer_json(request, refusal->status, &t);
}

unsigned kv_refuse_text(Request *request, unsigned status, const char *format, ...) {
        KvRefusal refusal = { .status = status };
        va_list ap;

        va_start(ap, format);
        vsnprintf(refusal.err.message, sizeof(refusal.err.message), format, ap);
        va_end(ap);
        return kv_refuse(request, &refusal);
}

void kv_refusal_of(KvRefusal *ret, Request *request, const KvResult *result) {
        static const unsigned statuses[_KV_STATUS_MAX] = {
                [KV_NOT_FOUND] = 404,     [KV_COMPARE_FAILED] = 412, [KV_NOT_FILE] = 409,
                [KV_NOT_DIR] = 409,       [KV_EXISTS] = 412,         [KV_ROOT_READ_ONLY] = 403,
                [KV_DIR_NOT_EMPTY] = 409, [KV_FORBIDDEN] = 403,      [KV_TOO_LARGE] = 413,
                [KV_INVALID] = 400,       [KV_TERM_CHANGED] = 503,   [KV_NO_LEADER] = 503,
                [KV_BUSY] = 503,          [KV_UNKNOWN] = 504,
        };
        _cleanup_text_ Text cause = {};
        KvState state;

        ret->status = statuses[result->status];
        ret->index = result->status < KV_NO_LEADER ? result->index : 0;
        if (result->cause.size > 0)
                text_append_json(&cause, result->cause.data,
                                 result->cause.size); /* with its escapes: the message is not parsed */
        if (result->status == KV_UNKNOWN) {
                error_set(&ret->err, -ETIMEDOUT, "%s: read again",
                          cause.chars ?: "the leader was lost; whether it happened is unknown");
        } else if (result->status == KV_NO_LEADER) {
                kv_state(request->api->host->store, &state);
                error_set(&ret->err, -EAGAIN, "%s; nothing has changed",
                          cause.chars              ?:
                                  state.problem[0] ? state.problem :
                                                     "no leader");
        } else if (result->status == KV_TOO_LARGE || result->status == KV_INVALID ||
                   result->status == KV_FORBIDDEN)
                error_set(&ret->err, -EINVAL, "%s", cause.chars ?: kv_status_name(result->status));
        else
                error_set(&ret->err, -EINVAL, "%s%s%s", kv_status_name(result->status),
                          cause.chars ? ": " : "", cause.chars ?: "");
}

int kv_key_check(KvBytes key, Error *err) {
        _cleanup_free_ char *clean = NULL;
        size_t size;
        int r;

        if (key.size == 0 || ((const char *) key.data)[0] != '/')
                return error_set(err, -EINVAL, "a key begins with '/'");
        r = kv_path_clean(key.data, key.size, &clean, &size);
        if (r == -ENAMETOOLONG)
                return error_set(err, r, "a key has at most %d bytes and %d parts", KV_KEY_MAX, KV_DEPTH_MAX);
        if (r < 0)
                return error_set(err, r, "%s", strerror(-r));
        if (!kv_bytes_equal(key, (KvBytes) { clean, size }))
                return error_set(err, -EINVAL,
                                 "a key has no empty part, none of '.' and '..', and no '/' at its end");
        return 0;
}

int kv_limits_check(const Request *request, const KvCommand *write, Error *err) {
        const ApiLimits *limits = &request->api->settings->limits;
        char text[32];

        if (write->key.size > limits->key_size)
                return error_set(err, -E2BIG, "the key is longer than %s", size_text(limits->key_size, text));
        if (write->value.size > limits->value_size)
                return error_set(err, -E2BIG, "the value is longer than %s",
                                 size_text(limits->value_size, text));
        return 0;
}

/* -- Requests under way -- */

static void kv_request_on_synced(Request *request, KvStatus status) {
        const KvRequest *kv = request->state;
        KvRefusal refusal = {};

        if (status == KV_OK) {
                kv->read(request);
                return;
        }
        kv_refusal_of(&refusal, request, &(KvResult) { .status = KV_NO_LEADER });
        kv_refuse(request, &refusal);
}

void kv_request_read(Request *request, void (*read)(Request *request)) {
        KvRequest *kv = request->state;

        kv->read = read;
        if (kv->p.quorum)
                request_sync(request, kv_request_on_synced);
        else
                read(request);
}

void kv_request_propose(Request *request, void (*done)(Request *request, const KvResult *result)) {
        const KvRequest *kv = request->state;
        char text[PRINCIPAL_TEXT_SIZE];
        Error err = {};
        int r;

        r = request_propose(request, &kv->command, done, &err);
        if (r == -EACCES)
                kv_refuse_text(request, 403, "%s has no right to write this key",
                               request_sender(request, text));
        else if (r < 0)
                kv_refuse_text(request, r == -EPERM ? 403 : 503, "%s", error_text(&err, r));
}

/* -- /value/KEY: the bytes of one value -- */

static void value_answer(Request *request, const KvFound *found) {
        char index[TEXT_U64_SIZE], modified[TEXT_U64_SIZE], created[TEXT_U64_SIZE], ttl[TEXT_U64_SIZE];
        uint64_t now_ms = kv_cluster_ms(request->api->host->store);
        const KvNode *node = found->node;
        HttpField fields[6] = {};

        fields[0] = (HttpField) { "X-Fleet-Index", text_u64(found->index, index) };
        fields[1] = (HttpField) { "X-Fleet-Modified-Index", text_u64(node->modified, modified) };
        fields[2] = (HttpField) { "X-Fleet-Created-Index", text_u64(node->created, created) };
        fields[3] = (HttpField) { "X-Content-Type-Options", "nosniff" };
        if (node->expires_ms > 0)
                fields[4] = (HttpField) { "X-Fleet-TTL", text_u64(ttl_seconds(node, now_ms), ttl) };
        request_answer(request, 200, "application/octet-stream", fields, node->value.data ?: "",
                       node->value.size);
}

static void value_on_get(void *userdata, int result, const KvFound *found) {
        Request *request = userdata;
        KvState state;

        if (result < 0)
                kv_refuse_text(request, 503, "%s",
                               request_unreachable(request, result, &state) ?: strerror(-result));
        else if (!found->node || !sender_sees(request->sender, request->get.key, found->node->dir))
                kv_refuse(request, &(KvRefusal) { .status = 404,
                                                  .index = found->index,
                                                  .err.message = "key not found" });
        else if (found->node->dir)
                kv_refuse(request,
                          &(KvRefusal) {
                                  .status = 409,
                                  .index = found->index,
                                  .err.message = "it is a directory: GET /fleet/v1/kv/list?prefix=KEY" });
        else
                value_answer(request, found);
}

static void value_read(Request *request) {
        const KvRequest *kv = request->state;

        request_get(request, kv->key, value_on_get);
}

static void value_on_done(Request *request, const KvResult *result) {
        _cleanup_text_ Text t = {};
        KvRefusal refusal = {};

        if (result->status != KV_OK) {
                kv_refusal_of(&refusal, request, result);
                kv_refuse(request, &refusal);
                return;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "action", kv_action_name(result->action));
        json_add_u64(&t, "index", result->index);
        kv_node_write(&t, "node", &result->node, false, result->now_ms);
        if (result->has_prev)
                kv_node_write(&t, "prevNode", &result->prev, false, result->now_ms);
        text_append(&t, "}\n");
        request_answer_json(request, request_write_status(result), &t);
}

/* Return the request for one key; NULL: it is answered. */
static KvRequest *value_request_new(Request *request) {
        KvRequest *kv = kv_request_new(request);
        Error err = {};
        int r;

        if (!kv)
                return NULL;
        kv->key = (KvBytes) { request->rest, request->path_size - (size_t) (request->rest - request->path) };
        r = kv_key_check(kv->key, &err);
        if (r >= 0)
                return kv;
        kv_refuse_text(request, request_status_of(r), "%s", err.message);
        return NULL;
}

unsigned kv_value_get_handle(Request *request, Error *err) {
        if (value_request_new(request))
                kv_request_read(request, value_read);
        return 0;
}

unsigned kv_value_delete_handle(Request *request, Error *err) {
        KvRequest *kv = value_request_new(request);

        if (!kv)
                return 0;
        kv->command = (KvCommand) { .op = KV_DELETE,
                                    .key = kv->key,
                                    .dir = kv->p.dir,
                                    .recursive = kv->p.recursive,
                                    .prev_index = kv->p.prev_index };
        kv_request_propose(request, value_on_done);
        return 0;
}

unsigned kv_value_put_handle(Request *request, Error *err) {
        KvRequest *kv = value_request_new(request);
        const HttpRequest *http;
        const KvParameters *p;

        if (!kv)
                return 0;
        http = request->http;
        p = &kv->p;
        kv->command = (KvCommand) {
                .op = KV_SET,
                .key = kv->key,
                .prev_index = p->prev_index,
                .value = { http->body, http->body_size },
        };
        if (p->has_prev_exist)
                kv->command.op = p->prev_exist ? KV_UPDATE : KV_CREATE;
        request_ttl(&kv->command, p->has_ttl, p->ttl);
        if (http->content_type && starts_with(http->content_type, "application/x-www-form-urlencoded"))
                return kv_refuse_text(
                        request, 415,
                        "the body is the value itself, of type application/octet-stream: curl -T FILE");
        if (kv->command.op == KV_CREATE && p->prev_index > 0)
                return kv_refuse_text(
                        request, 400,
                        "prevIndex: what must not exist has none; leave out prevIndex or prevExist");
        if (kv_limits_check(request, &kv->command, err) < 0)
                return kv_refuse_text(request, 413, "%s", err->message);
        kv_request_propose(request, value_on_done);
        return 0;
}

/* -- Parameters: fleet-api(7) documents the same names -- */

typedef enum ParameterType { TAKES_KEY, TAKES_BYTES, TAKES_BOOL, TAKES_NUMBER } ParameterType;

#define AT(member)   offsetof(KvParameters, member)
#define FLAG(member) (offsetof(KvParameters, member) + 1)

static const struct KvParameterRow {
        const char *name;
        ParameterType type;
        size_t offset, given; /* the flag that it was sent, plus 1; 0: none */
        uint64_t least, most; /* of a number */
} kv_parameters[] = {
        { "after", TAKES_NUMBER, AT(after), FLAG(has_after), 0, UINT64_MAX - 1 },
        { "dir", TAKES_BOOL, AT(dir) },
        { "limit", TAKES_NUMBER, AT(limit), 0, 1, KV_PAGE_MAX },
        { "nextPageToken", TAKES_BYTES, AT(page) },
        { "prefix", TAKES_KEY, AT(prefix) },
        { "prevExist", TAKES_BOOL, AT(prev_exist), FLAG(has_prev_exist) },
        { "prevIndex", TAKES_NUMBER, AT(prev_index), 0, 1, UINT64_MAX },
        { "progress", TAKES_NUMBER, AT(progress), 0, 0, KV_PROGRESS_MAX_S },
        { "quorum", TAKES_BOOL, AT(quorum) },
        { "recursive", TAKES_BOOL, AT(recursive) },
        { "ttl", TAKES_NUMBER, AT(ttl), FLAG(has_ttl), 0, UINT64_MAX },
        { "values", TAKES_BOOL, AT(values) },
};

static int parameter_read(const struct KvParameterRow *parameter, const HttpParameter *sent, KvParameters *p,
                          Error *err) {
        void *field = (char *) p + parameter->offset;
        uint64_t number;
        int r;

        if (parameter->type != TAKES_KEY && !http_parameter_is_text(sent))
                return error_set(err, -EINVAL, "%s: contains a NUL byte", parameter->name);
        switch (parameter->type) {
        case TAKES_KEY:
        case TAKES_BYTES:
                *(KvBytes *) field = (KvBytes) { sent->value, sent->value_size };
                r = parameter->type == TAKES_KEY ? kv_key_check(*(KvBytes *) field, err) : 0;
                if (r < 0)
                        return error_prefix(err, r, "%s", parameter->name);
                break;
        case TAKES_BOOL:
                if (parse_bool(sent->value, field) < 0)
                        return error_set(err, -EINVAL, "%s: expected true or false", parameter->name);
                break;
        case TAKES_NUMBER:
                if (parse_u64(sent->value, &number) < 0 || number < parameter->least ||
                    number > parameter->most)
                        return error_set(err, -EINVAL, "%s: expected a number from %llu to %llu",
                                         parameter->name, (unsigned long long) parameter->least,
                                         (unsigned long long) parameter->most);
                *(uint64_t *) field = number;
                break;
        }
        if (parameter->given > 0)
                *((bool *) p + parameter->given - 1) = true;
        return 0;
}

/* Unknown and repeated parameters are rejected, so that a typing error has no silent effect. */
static int parameters_read(const Request *request, const char *takes, KvParameters *ret, Error *err) {
        KvParameters p = { .prefix = { "/", 1 },
                           .limit = KV_PAGE_DEFAULT,
                           .values = true,
                           .progress = KV_PROGRESS_DEFAULT_S };

        p.recursive = text_has_word(takes, "limit"); /* the default: a list has all levels, a deletion one */
        for (size_t i = 0; i < request->parameters.n; i++) {
                const HttpParameter *sent = &request->parameters.items[i];
                const struct KvParameterRow *parameter = NULL;

                for (size_t k = 0; k < ELEMENTS(kv_parameters); k++)
                        if (streq(kv_parameters[k].name, sent->name) && text_has_word(takes, sent->name))
                                parameter = &kv_parameters[k];
                if (!parameter && !takes[0])
                        return error_set(err, -EINVAL, "%.100s: this takes no parameters", sent->name);
                if (!parameter)
                        return error_set(err, -EINVAL, "%.100s: this takes %s", sent->name, takes);
                if (http_parameter(&request->parameters, sent->name) != sent)
                        return error_set(err, -EINVAL, "%s: given twice", sent->name);
                TRY(parameter_read(parameter, sent, &p, err));
        }
        *ret = p;
        return 0;
}

void kv_v1_not_found(Request *request) {
        kv_refuse_text(request, 404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY");
}

void kv_v1_not_allowed(Request *request, const char *methods) {
        KvRefusal refusal = { .status = 405 };
        _cleanup_text_ Text t = {};

        error_set(&refusal.err, -EINVAL, "%s is not for this path; it takes %s", request->http->method,
                  methods);
        kv_refusal_write(&t, &refusal);
        request_answer_built(request, 405, "application/json", (HttpField[]) { { "Allow", methods }, {} },
                             &t);
}

bool kv_parameters_read(Request *request, KvParameters *ret) {
        Error err = {};
        int r;

        r = parameters_read(request, request->route->parameters, ret, &err);
        if (r < 0)
                kv_refuse_text(request, request_status_of(r), "%s", err.message);
        return r >= 0;
}

static void kv_request_on_end(Request *request) {
        KvRequest *kv = request->state;

        arena_done(&kv->arena);
        free(kv);
}

KvRequest *kv_request_new(Request *request) {
        KvRequest *kv = NEW0(KvRequest, 1);

        if (!kv) {
                kv_refuse_text(request, 503, "out of memory");
                return NULL;
        }
        request->state = kv;
        request->on_end = kv_request_on_end;
        return kv_parameters_read(request, &kv->p) ? kv : NULL;
}
