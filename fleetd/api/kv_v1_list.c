/* GET /fleet/v1/kv/list: a node and all below it, in pages. */
#include "fleetd/api/kv_v1.h"

#include "base/base64.h"

/* A page. It owns its memory: a worker may use it after the client has left. */
typedef struct KvPage {
        Sender *sender; /* NULL: sees all */
        KvBytes prefix;
        char *after; /* the page begins behind this key; NULL: with 'prefix' itself, or what is below it */
        size_t after_size;
        bool first, recursive, values, ours, internal, more;
        uint64_t limit, now_ms, index;
        size_t encoded_max; /* bytes of the answer; more is -E2BIG; 0: any */
        uint64_t n, size;
        char *last; /* the last key of the page; owned */
        size_t last_size;
        Text nodes;
        Shared *answer;
        Request *request; /* not for a worker */
        char prefix_bytes[];
} KvPage;

static void page_free(void *userdata) {
        KvPage *page = userdata;

        text_done(&page->nodes);
        shared_unref(page->answer);
        free(page->after);
        free(page->last);
        sender_unref(page->sender);
        free(page);
}

DEFINE_CLEANUP(KvPage *, page_free);

static int kv_page_add(void *userdata, const KvNode *node) {
        KvPage *page = userdata;
        char *last;

        if ((!page->internal && kv_path_is_ours(node->key)) ||
            (page->sender && !sender_sees(page->sender, node->key, node->dir)))
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

/* Begin behind the last key of the previous page. A token is the rest of that key behind the prefix, and "/"
 * for the prefix itself. */
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
                        "nextPageToken: invalid; use the token of the previous answer, with the same prefix");
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

static int page_new(Request *request, KvPage **ret, Error *err) {
        const KvRequest *kv = request->state;
        const KvParameters *p = &kv->p;
        _cleanup_(page_freep) KvPage *page = calloc(1, sizeof(KvPage) + p->prefix.size);

        if (!page)
                return -ENOMEM;
        page->prefix = (KvBytes) { memcpy(page->prefix_bytes, p->prefix.data, p->prefix.size),
                                   p->prefix.size };
        page->recursive = p->recursive;
        page->values = p->values;
        page->limit = p->limit;
        page->encoded_max = API_LARGE_BYTES;
        page->request = request;
        page->ours = kv_path_is_ours(p->prefix);
        page->internal = page->ours && sender_may_read(request->sender, p->prefix);
        page->sender = request_filter(request);
        page->now_ms = kv_cluster_ms(request->api->host->store);
        TRY(page_begin(page, p->page, err));
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
        r = kv_page_add(page, found->node);
        return r < 0 ? r : 1;
}

/* Write the answer, on the loop or in a worker. */
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

        loop_count(page->request->api->loop, 0, page->nodes.size);
        page->encoded_max = 0;
}

/* Answer an error after which the client may try again. */
static void page_refuse(Request *request, int error) {
        KvRefusal refusal = { .status = 503 };
        _cleanup_text_ Text t = {};
        KvState state;

        error_set(&refusal.err, error, "%s",
                  request_unreachable(request, error, &state) ?: request_large_reason(error));
        kv_refusal_write(&t, &refusal);
        request_answer_built(request, 503, "application/json", NULL, &t);
}

static void page_done(void *userdata, int result) {
        KvPage *page = userdata;
        Request *request = page->request;

        request->list = NULL;
        if (request_lists_later(request, result))
                return;
        if (result < 0)
                page_refuse(request, result);
        else
                request_answer_shared(request, 200, "application/json", NULL, page->answer);
}

static const KvListOps page_ops = { .begin = page_begin_read,
                                    .visit = kv_page_add,
                                    .end = page_end,
                                    .grow = page_grow,
                                    .done = page_done,
                                    .free = page_free };

static void list_read(Request *request) {
        _cleanup_(page_freep) KvPage *page = NULL;
        KvRange range;
        Error err = {};
        int r;

        if (!request_may_list(request, list_read))
                return;
        r = page_new(request, &page, &err);
        if (r == -EINVAL) {
                kv_refuse_text(request, 400, "%s", err.message);
                return;
        }
        if (r < 0) {
                page_refuse(request, r);
                return;
        }
        range = (KvRange) { .key = page->prefix,
                            .after = { page->after, page->after_size },
                            .recursive = page->recursive,
                            .without_key = !page->first || page->prefix.size <= 1 ||
                                           (page->ours && !page->internal),
                            .visits_max = API_LARGE_VISITS };
        request_list(request, &range, &page_ops, TAKE_PTR(page));
}

unsigned kv_list_handle(Request *request, Error *err) {
        if (kv_request_new(request))
                kv_request_read(request, list_read);
        return 0;
}
