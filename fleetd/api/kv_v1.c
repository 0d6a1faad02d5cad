#include "fleetd/api/kv_v1.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/base64.h"
#include "base/parse.h"
#include "fleetd/api/routes.h"

/* -- Nodes and refusals -- */

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

void kv_refuse(Request *request, const KvRefusal *refusal) {
        _cleanup_text_ Text t = {};

        kv_refusal_write(&t, refusal);
        request_answer_json(request, refusal->status, &t);
}

static void refuse(Request *request, unsigned status, const char *format, ...) _printf_(3, 4);

static void refuse(Request *request, unsigned status, const char *format, ...) {
        KvRefusal refusal = { .status = status };
        va_list ap;

        va_start(ap, format);
        vsnprintf(refusal.err.message, sizeof(refusal.err.message), format, ap);
        va_end(ap);
        kv_refuse(request, &refusal);
}

/* It may be asked again. */
static void refuse_busy(Request *request, const char *reason) {
        KvRefusal refusal = { .status = 503 };
        _cleanup_text_ Text t = {};

        error_set(&refusal.err, -EAGAIN, "%s", reason);
        kv_refusal_write(&t, &refusal);
        request_answer(request, 503, "application/json", NULL, t.chars ?: "", t.size);
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
                                 result->cause.size); /* quotes and all: it is shown, not read */
        if (result->status == KV_UNKNOWN) {
                error_set(&ret->err, -ETIMEDOUT, "%s: read again",
                          cause.chars ?: "the leader was lost; whether it happened is unknown");
        } else if (result->status == KV_NO_LEADER) {
                kv_state(request->api->options.store, &state);
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
        const ApiLimits *limits = &request->api->limits;
        char text[32];

        if (write->key.size > limits->key_size)
                return error_set(err, -E2BIG, "the key is longer than %s", size_text(limits->key_size, text));
        if (write->value.size > limits->value_size)
                return error_set(err, -E2BIG, "the value is longer than %s",
                                 size_text(limits->value_size, text));
        return 0;
}

/* -- What a request hangs on -- */

void kv_request_free(KvRequest *ask) {
        arena_done(&ask->arena);
        free(ask);
}

static void ask_forget(Request *request) {
        KvRequest *ask = request->state;
        KvStore *store = request->api->options.store;

        if (ask->syncing)
                kv_sync_cancel(store, &ask->sync);
        if (ask->number > 0)
                kv_cancel(store, ask->number);
        if (ask->list)
                kv_list_cancel(ask->list);
        api_list_cancel(request->api, &ask->listing);
        kv_request_free(ask);
}

static void ask_on_synced(void *userdata, KvStatus status) {
        KvRequest *ask = userdata;
        KvRefusal refusal = {};

        ask->syncing = false;
        ask->request->forget = NULL;
        if (status == KV_OK) {
                ask->read(ask);
                return;
        }
        kv_refusal_of(&refusal, ask->request, &(KvResult) { .status = KV_NO_LEADER });
        kv_refuse(ask->request, &refusal);
        kv_request_free(ask);
}

void kv_request_read(KvRequest *ask) {
        if (!ask->p.quorum) {
                ask->read(ask);
                return;
        }
        ask->request->forget = ask_forget;
        ask->sync = (KvSync) { .done = ask_on_synced, .userdata = ask };
        ask->syncing = true;
        kv_sync(ask->request->api->options.store, &ask->sync);
}

void kv_request_propose(KvRequest *ask, KvDone done) {
        Request *request = ask->request;
        int r;

        request->forget = ask_forget;
        r = kv_propose(request->api->options.store, &ask->command, done, ask, &ask->number);
        if (r == 0)
                return;
        request->forget = NULL;
        refuse(request, 503, "%s", strerror(-r));
        kv_request_free(ask);
}

/* -- /value/KEY: one value's bytes, as they are -- */

static void value_answer(Request *request, const KvFound *found) {
        char index[TEXT_U64_SIZE], modified[TEXT_U64_SIZE], created[TEXT_U64_SIZE], ttl[TEXT_U64_SIZE];
        uint64_t now_ms = kv_cluster_ms(request->api->options.store);
        const KvNode *node = found->node;
        HttpField fields[7] = {};
        StaleField stale;
        size_t n = 4;

        fields[0] = (HttpField) { "X-Fleet-Index", text_u64(found->index, index) };
        fields[1] = (HttpField) { "X-Fleet-Modified-Index", text_u64(node->modified, modified) };
        fields[2] = (HttpField) { "X-Fleet-Created-Index", text_u64(node->created, created) };
        fields[3] = (HttpField) { "X-Content-Type-Options", "nosniff" };
        fields[n] = request_stale_field(request, &stale);
        if (fields[n].name)
                n++;
        if (node->expires_ms > 0)
                fields[n] = (HttpField) { "X-Fleet-TTL", text_u64(ttl_seconds(node, now_ms), ttl) };
        request_answer(request, 200, "application/octet-stream", fields, node->value.data ?: "",
                       node->value.size);
}

static void value_on_get(void *userdata, int result, const KvFound *found) {
        KvRequest *ask = userdata;
        Request *request = ask->request;

        if (result < 0)
                refuse(request, 503, "%s", strerror(-result));
        else if (!found->node || !request_may_read(request, ask->key))
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
        kv_request_free(ask);
}

static void value_read(KvRequest *ask) {
        ask->get = (KvGet) { .key = ask->key, .done = value_on_get, .userdata = ask };
        kv_get(ask->request->api->options.store, &ask->get);
}

static void value_on_done(void *userdata, const KvResult *result) {
        KvRequest *ask = userdata;
        Request *request = ask->request;
        _cleanup_text_ Text t = {};
        KvRefusal refusal = {};
        bool made = result->action == KV_ACTION_CREATE ||
                    (result->action == KV_ACTION_SET && !result->has_prev);

        ask->number = 0;
        request->forget = NULL;
        if (result->status != KV_OK) {
                kv_refusal_of(&refusal, request, result);
                kv_refuse(request, &refusal);
        } else {
                json_open(&t, NULL, '{');
                json_add_string(&t, "action", kv_action_name(result->action));
                json_add_u64(&t, "index", result->index);
                kv_node_write(&t, "node", &result->node, false, result->now_ms);
                if (result->has_prev)
                        kv_node_write(&t, "prevNode", &result->prev, false, result->now_ms);
                text_append(&t, "}\n");
                request_answer_json(request, made ? 201 : 200, &t);
        }
        kv_request_free(ask);
}

/* The request for one key; NULL: it is answered. */
static KvRequest *value_request_new(Request *request) {
        KvRequest *ask = kv_request_new(request);
        KvRefusal refusal = {};
        int r;

        if (!ask)
                return NULL;
        ask->key = (KvBytes) { request->rest, request->path_size - (size_t) (request->rest - request->path) };
        r = kv_key_check(ask->key, &refusal.err);
        if (r >= 0)
                return ask;
        refusal.status = request_status_of(r);
        kv_refuse(request, &refusal);
        kv_request_free(ask);
        return NULL;
}

void kv_value_get_handle(Request *request) {
        KvRequest *ask = value_request_new(request);

        if (!ask)
                return;
        ask->read = value_read;
        kv_request_read(ask);
}

void kv_value_delete_handle(Request *request) {
        KvRequest *ask = value_request_new(request);

        if (!ask)
                return;
        ask->command = (KvCommand) { .op = KV_DELETE,
                                     .key = ask->key,
                                     .dir = ask->p.dir,
                                     .recursive = ask->p.recursive,
                                     .prev_index = ask->p.prev_index };
        kv_request_propose(ask, value_on_done);
}

void kv_value_put_handle(Request *request) {
        KvRequest *ask = value_request_new(request);
        KvRefusal refusal = { .status = 413 };
        const KvParameters *p;
        const char *type;

        if (!ask)
                return;
        type = request->http->content_type;
        p = &ask->p;
        if (type && starts_with(type, "application/x-www-form-urlencoded")) {
                refuse(request, 415,
                       "the body is the value itself, of type application/octet-stream: curl -T FILE");
                kv_request_free(ask);
                return;
        }
        if (p->has_prev_exist && !p->prev_exist && p->prev_index > 0) {
                refuse(request, 400,
                       "prevIndex: what must not exist has none; leave out prevIndex or prevExist");
                kv_request_free(ask);
                return;
        }
        ask->command = (KvCommand) {
                .op = KV_SET,
                .key = ask->key,
                .prev_index = p->prev_index,
                .value = { request->http->body, request->http->body_size },
        };
        if (p->has_prev_exist)
                ask->command.op = p->prev_exist ? KV_UPDATE : KV_CREATE;
        request_ttl(&ask->command, p->has_ttl, p->ttl);
        if (kv_limits_check(request, &ask->command, &refusal.err) == 0) {
                kv_request_propose(ask, value_on_done);
                return;
        }
        kv_refuse(request, &refusal);
        kv_request_free(ask);
}

/* -- /list: pages of a node and all below it -- */

/* With memory of its own: a worker has it when the client is gone. */
typedef struct KvPage {
        KvBytes prefix;
        char *after; /* a key: the page begins behind it; NULL: with 'prefix' itself, or what is below it */
        size_t after_size;
        bool first, recursive, values, ours, internal, more;
        uint64_t limit, now_ms, index;
        size_t encoded_max; /* bytes of the answer; more is -E2BIG; 0: any */
        uint64_t n, size;
        char *last; /* the key that the page ends with: owned; the root where it was 'prefix' itself */
        size_t last_size;
        Text nodes;
        Shared *answer;
        KvRequest *ask; /* the loop's */
        char prefix_bytes[];
} KvPage;

static KvPage *page_free(KvPage *page) {
        if (!page)
                return NULL;
        text_done(&page->nodes);
        shared_unref(page->answer);
        free(page->after);
        free(page->last);
        free(page);
        return NULL;
}

DEFINE_CLEANUP(KvPage *, page_free);

static int page_add(void *userdata, const KvNode *node) {
        KvPage *page = userdata;
        char *last;

        if (!page->internal && kv_path_is_ours(node->key))
                return 1;
        if (page->n == page->limit || page->size >= KV_PAGE_BYTES) {
                page->more = true;
                return 0;
        }
        if (page->encoded_max > 0 && page->nodes.size > page->encoded_max)
                return -E2BIG;
        last = realloc(page->last, node->key.size);
        if (!last)
                return -ENOMEM;
        page->last = memcpy(last, node->key.data, node->key.size);
        page->last_size = node->key.size;
        page->n++;
        page->size += node->key.size + (page->values ? node->value.size : 0);
        kv_node_write(&page->nodes, NULL, node, page->values, page->now_ms);
        return page->nodes.error < 0 ? page->nodes.error : 1;
}

/* A token is what the last key has behind the prefix, and "/" for the prefix itself. */
static int page_begin(KvPage *page, KvBytes token, Error *err) {
        size_t base = page->prefix.size > 1 ? page->prefix.size : 0, n;
        _cleanup_free_ char *rest = NULL;

        page->first = !token.data;
        if (page->first)
                return 0;
        if (base64_decode(token.data, token.size, &rest, &n) < 0 || n == 0 || rest[0] != '/' ||
            base + n > KV_KEY_MAX)
                return error_set(
                        err, -EINVAL,
                        "nextPageToken: this is none; take it from the answer before, with the same prefix");
        if (n == 1)
                return 0;
        page->after = malloc(base + n);
        if (!page->after)
                return -ENOMEM;
        memcpy(page->after, page->prefix.data, base);
        memcpy(page->after + base, rest, n);
        page->after_size = base + n;
        return 0;
}

static int page_new(KvRequest *ask, KvPage **ret, Error *err) {
        const KvParameters *p = &ask->p;
        _cleanup_(page_freep) KvPage *page = calloc(1, sizeof(KvPage) + p->prefix.size);
        int r;

        if (!page)
                return -ENOMEM;
        page->prefix = (KvBytes) { memcpy(page->prefix_bytes, p->prefix.data, p->prefix.size),
                                   p->prefix.size };
        page->recursive = p->recursive;
        page->values = p->values;
        page->limit = p->limit;
        page->encoded_max = API_LARGE_BYTES;
        page->ask = ask;
        page->ours = kv_path_is_ours(p->prefix);
        page->internal = page->ours && request_may_read(ask->request, p->prefix);
        page->now_ms = kv_cluster_ms(ask->request->api->options.store);
        r = page_begin(page, p->page, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(page);
        return 0;
}

static int page_begin_read(void *userdata, const KvFound *found) {
        KvPage *page = userdata;
        int r;

        text_clear(&page->nodes);
        page->n = page->size = 0;
        page->more = false;
        page->index = found->index;
        json_open(&page->nodes, NULL, '[');
        if (page->ours && !page->internal)
                return 0;
        if (!page->first || page->prefix.size <= 1)
                return 1;
        if (found->error == -ENOENT || found->error == -ENOTUNIQ)
                return 0;
        if (found->error < 0)
                return found->error;
        r = page_add(page, found->node);
        return r < 0 ? r : 1;
}

/* Make the answer, on the loop or in a worker. */
static int page_end(void *userdata) {
        KvPage *page = userdata;
        _cleanup_text_ Text t = {}, token = {};
        size_t base = page->prefix.size > 1 ? page->prefix.size : 0;

        json_close(&page->nodes, ']');
        if (page->more && page->last_size > base)
                text_append_base64(&token, page->last + base, page->last_size - base, true);
        else if (page->more)
                text_append_base64(&token, "/", 1, true);
        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", page->index);
        json_add_string(&t, "nextPageToken", token.chars);
        text_append(&t, t.size > 1 ? ",\"nodes\":" : "\"nodes\":");
        text_append_bytes(&t, page->nodes.chars ?: "", page->nodes.size);
        text_append(&t, "}\n");
        if (t.error < 0 || page->nodes.error < 0 || token.error < 0)
                return -ENOMEM;
        page->answer = shared_new(t.chars, t.size);
        return page->answer ? 0 : -ENOMEM;
}

static void page_grow(void *userdata) {
        KvPage *page = userdata;

        loop_count(page->ask->request->api->loop, 0, page->nodes.size);
        page->encoded_max = 0;
}

static void page_answer(KvRequest *ask, const KvPage *page, int result) {
        Request *request = ask->request;
        StaleField stale;

        if (result == 0)
                request_answer_shared(request, 200, "application/json",
                                      (HttpField[]) { request_stale_field(request, &stale), {} },
                                      page->answer);
        else
                refuse_busy(request, request_large_reason(result));
        kv_request_free(ask);
}

static void page_done(void *userdata, int result) {
        KvPage *page = userdata;

        page->ask->list = NULL;
        page->ask->request->forget = NULL;
        page_answer(page->ask, page, result);
}

static void page_release(void *userdata) {
        page_free(userdata);
}

static const KvListOps page_ops = { .begin = page_begin_read,
                                    .visit = page_add,
                                    .end = page_end,
                                    .grow = page_grow,
                                    .done = page_done,
                                    .free = page_release };

static void list_again(void *userdata) {
        KvRequest *ask = userdata;

        ask->request->forget = NULL;
        ask->read(ask);
}

static void list_read(KvRequest *ask) {
        Request *request = ask->request;
        _cleanup_(page_freep) KvPage *page = NULL;
        KvRefusal refusal = { .status = 400 };
        KvRange range;
        KvList *large;
        int r;

        if (!api_may_list(request->api)) {
                ask->listing.run = list_again;
                ask->listing.userdata = ask;
                request->forget = ask_forget;
                api_list_later(request->api, &ask->listing);
                return;
        }
        r = page_new(ask, &page, &refusal.err);
        if (r == -EINVAL) {
                kv_refuse(request, &refusal);
                kv_request_free(ask);
                return;
        }
        if (r < 0) {
                page_answer(ask, NULL, r);
                return;
        }
        range = (KvRange) { .key = page->prefix,
                            .after = { page->after, page->after_size },
                            .recursive = page->recursive,
                            .without_key = !page->first || page->prefix.size <= 1 ||
                                           (page->ours && !page->internal),
                            .visits_max = API_LARGE_VISITS };
        kv_list(request->api->options.store, &range, &page_ops, TAKE_PTR(page), &large);
        if (!large)
                return;
        ask->list = large;
        request->forget = ask_forget;
}

void kv_list_handle(Request *request) {
        KvRequest *ask = kv_request_new(request);

        if (!ask)
                return;
        ask->read = list_read;
        kv_request_read(ask);
}

/* -- Parameters: fleet-api(7) documents the same names -- */

typedef enum ParameterType { TAKES_KEY, TAKES_BYTES, TAKES_BOOL, TAKES_NUMBER } ParameterType;

#define AT(member)   offsetof(KvParameters, member)
#define SAYS(member) (offsetof(KvParameters, member) + 1)

static const struct KvParameter {
        const char *name;
        ParameterType type;
        size_t offset, given; /* where "it was given" is noted, and 1; 0: nowhere */
        uint64_t least, most; /* of a number */
} parameters[] = {
        { "after", TAKES_NUMBER, AT(after), SAYS(has_after), 0, UINT64_MAX - 1 },
        { "dir", TAKES_BOOL, AT(dir) },
        { "limit", TAKES_NUMBER, AT(limit), 0, 1, KV_PAGE_MAX },
        { "nextPageToken", TAKES_BYTES, AT(page) },
        { "prefix", TAKES_KEY, AT(prefix) },
        { "prevExist", TAKES_BOOL, AT(prev_exist), SAYS(has_prev_exist) },
        { "prevIndex", TAKES_NUMBER, AT(prev_index), 0, 1, UINT64_MAX },
        { "progress", TAKES_NUMBER, AT(progress), 0, 0, KV_PROGRESS_MAX_S },
        { "quorum", TAKES_BOOL, AT(quorum) },
        { "recursive", TAKES_BOOL, AT(recursive) },
        { "ttl", TAKES_NUMBER, AT(ttl), SAYS(has_ttl), 0, UINT64_MAX },
        { "values", TAKES_BOOL, AT(values) },
};

static int parameter_read(const struct KvParameter *parameter, const HttpParameter *sent, KvParameters *p,
                          Error *err) {
        void *field = (char *) p + parameter->offset;
        uint64_t number;
        int r;

        if (parameter->type != TAKES_KEY && !http_parameter_is_text(sent))
                return error_set(err, -EINVAL, "%s: there is a NUL in it", parameter->name);
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

/* Whatever is misspelt or said twice is refused: nobody waits for what he did not ask for. */
static int parameters_read(const Request *request, const char *takes, KvParameters *ret, Error *err) {
        KvParameters p = { .prefix = { "/", 1 },
                           .limit = KV_PAGE_DEFAULT,
                           .values = true,
                           .progress = KV_PROGRESS_DEFAULT_S };

        p.recursive = route_has_word(takes, "limit"); /* a list is of all levels, a deletion of one */
        for (size_t i = 0; i < request->parameters.n; i++) {
                const HttpParameter *sent = &request->parameters.items[i];
                const struct KvParameter *parameter = NULL;
                int r;

                for (size_t k = 0; k < ELEMENTS(parameters); k++)
                        if (streq(parameters[k].name, sent->name) && route_has_word(takes, sent->name))
                                parameter = &parameters[k];
                if (!parameter && !takes[0])
                        return error_set(err, -EINVAL, "%.100s: this takes no parameters", sent->name);
                if (!parameter)
                        return error_set(err, -EINVAL, "%.100s: this takes %s", sent->name, takes);
                if (http_parameter(&request->parameters, sent->name) != sent)
                        return error_set(err, -EINVAL, "%s: given twice", sent->name);
                r = parameter_read(parameter, sent, &p, err);
                if (r < 0)
                        return r;
        }
        *ret = p;
        return 0;
}

void kv_v1_not_found(Request *request) {
        refuse(request, 404, "there are /fleet/v1/kv/changes, /list, /txn and /value/KEY");
}

void kv_v1_not_allowed(Request *request, const char *methods) {
        KvRefusal refusal = { .status = 405 };
        _cleanup_text_ Text t = {};

        error_set(&refusal.err, -EINVAL, "%s is not for this path; it takes %s", request->http->method,
                  methods);
        kv_refusal_write(&t, &refusal);
        request_answer(request, 405, "application/json", (HttpField[]) { { "Allow", methods }, {} },
                       t.chars ?: "", t.size);
}

KvRequest *kv_request_new(Request *request) {
        KvRefusal refusal = { .status = 400 };
        KvRequest *ask;
        int r;

        ask = NEW0(KvRequest, 1);
        if (!ask) {
                refuse(request, 503, "out of memory");
                return NULL;
        }
        ask->request = request;
        request->state = ask;
        r = parameters_read(request, request->route->parameters, &ask->p, &refusal.err);
        if (r >= 0)
                return ask;
        refusal.status = request_status_of(r);
        kv_refuse(request, &refusal);
        kv_request_free(ask);
        return NULL;
}
