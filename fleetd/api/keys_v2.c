#include "fleetd/api/keys_v2_internal.h"

#include <errno.h>
#include <stdio.h>

/* -- Answers -- */

/* The four headers of every answer, and the mark of a stale one, with their values. */
typedef struct KeysHead {
        char cluster[17], index[TEXT_U64_SIZE], raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE];
        StaleField stale;
        HttpField fields[6];
} KeysHead;

static const char *hex_of(uint64_t v, char ret[static 17]) {
        char *p = ret + 16;

        *p = 0;
        do
                *--p = "0123456789abcdef"[v & 15];
        while ((v >>= 4) > 0);
        return p;
}

static const HttpField *head_of(KeysHead *h, const Request *request, uint64_t index, bool error) {
        KvPosition now;

        kv_position(request->api->options.store, &now);
        h->fields[0] = (HttpField) { "X-Etcd-Cluster-Id", hex_of(now.cluster_id, h->cluster) };
        h->fields[1] = (HttpField) { "X-Etcd-Index", text_u64(index, h->index) };
        if (error) {
                h->fields[2] = request_stale_field(request, &h->stale);
                h->fields[3] = (HttpField) {};
                return h->fields;
        }
        h->fields[2] = (HttpField) { "X-Raft-Index", text_u64(now.raft_index, h->raft_index) };
        h->fields[3] = (HttpField) { "X-Raft-Term", text_u64(now.term, h->term) };
        h->fields[4] = request_stale_field(request, &h->stale);
        h->fields[5] = (HttpField) {};
        return h->fields;
}

/* Answer an error; 'status' 0: the status of the code. */
static void answer_error_as(Request *request, unsigned status, unsigned code, const void *cause, size_t size,
                            uint64_t index) {
        _cleanup_text_ Text t = {};
        KeysHead head;
        unsigned usual = keys_v2_write_error(&t, code, cause, size, index);

        request_answer(request, status > 0 ? status : usual, "application/json",
                       head_of(&head, request, index, true), t.chars ?: "", t.size);
}

static void answer_error(Request *request, unsigned code, const void *cause, size_t size, uint64_t index) {
        answer_error_as(request, 0, code, cause, size, index);
}

/* Answer an error that the store did not decide: etcd's index is 0 then. */
static void answer_refusal(Request *request, unsigned code, const char *cause) {
        answer_error(request, code, cause, strlen(cause), 0);
}

void keys_v2_refuse(Request *request, const char *cause) {
        answer_refusal(request, 300, cause);
}

/* Answer an error after which the client may try again; etcd has no code for it. */
static void answer_busy(Request *request, const char *cause) {
        answer_error_as(request, 503, 300, cause, strlen(cause), 0);
}

static void answer_text(Request *request, unsigned status, uint64_t index, Text *t) {
        KeysHead head;

        if (t->error < 0)
                answer_refusal(request, 300, "out of memory");
        else
                request_answer(request, status, "application/json", head_of(&head, request, index, false),
                               t->chars, t->size);
}

static uint64_t wall_of(const Request *request) {
        return loop_wall_ms(request->api->loop);
}

/* -- Parked requests: they wait for a majority, for the log, for a worker, for a change -- */

typedef struct KeysWait {
        Request *request;
        ApiListing listing;
        KvList *list; /* a large one under way; NULL: none */
        union {       /* one after the other */
                KvSync sync;
                KvGet get;
        };
        bool syncing;
        KeysQuery query;
        char *key;
        size_t key_size;
        uint64_t number; /* of a proposal, 0: none */
        KvWatch *watch;
        bool stream;
        Api *api; /* where the watch is counted; NULL: none yet */
} KeysWait;

static void wait_free(KeysWait *w) {
        if (w->api)
                w->api->n_watching--;
        kv_watch_close(w->watch);
        http_parameters_done(&w->query.form);
        free(w->key);
        free(w);
}

static void wait_forget(Request *request) {
        KeysWait *w = request->state;
        KvStore *store = request->api->options.store;

        if (w->syncing)
                kv_sync_cancel(store, &w->sync);
        if (w->list)
                kv_list_cancel(w->list);
        api_list_cancel(request->api, &w->listing);
        if (w->number > 0)
                kv_cancel(store, w->number);
        wait_free(w);
}

static KvBytes wait_key(const KeysWait *w) {
        return (KvBytes) { w->key, w->key_size };
}

static void answer_unavailable(Request *request, KvStatus status) {
        KvState state;
        char cause[300];

        kv_state(request->api->options.store, &state);
        if (status == KV_UNKNOWN)
                snprintf(cause, sizeof(cause),
                         "etcdserver: request timed out: the leader was lost; whether it happened is "
                         "unknown: read the key again");
        else
                snprintf(cause, sizeof(cause), "%s",
                         state.problem[0] ? state.problem : "no leader; reads still work");
        answer_refusal(request, 300, cause);
}

/* Free the text of the parameters: the rest of the request does not need it. */
static void wait_forget_form(KeysWait *w) {
        http_parameters_done(&w->query.form);
        w->query.value = w->query.prev_value = (KvBytes) {};
}

/* -- Listings -- */

/* A directory to be listed. It owns its memory: a worker may use it after the client has left. */
typedef struct KeysList {
        KeysWait *wait; /* the loop's */
        Text t;
        KvBytes key;
        bool recursive, large;
        uint64_t nodes_max, size_max; /* more is -E2BIG */
        uint64_t now_ms, wall_ms;
        uint64_t n_nodes;
        uint64_t index; /* of the tree that was read; 0: none was */
        Shared *answer; /* of a worker */
        size_t depth;
        KvNode stack[KV_DEPTH_MAX + 2]; /* directories that are open; keys borrowed from the transaction */
        bool has_nodes[KV_DEPTH_MAX + 2];
        char key_bytes[];
} KeysList;

static void list_pop(KeysList *l) {
        if (l->has_nodes[l->depth])
                text_append_char(&l->t, ']');
        keys_node_close(&l->t, &l->stack[l->depth]);
        l->depth--;
}

static void list_push(KeysList *l, const KvNode *node) {
        keys_node_open(&l->t, node, true, l->now_ms, l->wall_ms);
        l->depth++;
        l->stack[l->depth] = *node;
        l->has_nodes[l->depth] = false;
}

static int list_begin(void *userdata, const KvFound *found) {
        KeysList *l = userdata;

        l->index = found->index;
        if (found->error < 0 || !found->node->dir)
                return -ENOENT; /* it was a directory before the read became large: start again */
        text_append(&l->t, "{\"action\":\"get\",\"node\":");
        list_push(l, found->node);
        return 1;
}

static int list_visit(void *userdata, const KvNode *node) {
        KeysList *l = userdata;

        if (kv_path_hidden_from(node->key, l->key))
                return 1;
        if (++l->n_nodes > l->nodes_max || l->t.size > l->size_max)
                return -E2BIG;
        if (l->t.error < 0)
                return l->t.error;
        while (l->depth > 1 && !kv_path_is_below(node->key, l->stack[l->depth].key))
                list_pop(l);
        text_append(&l->t, l->has_nodes[l->depth] ? "," : ",\"nodes\":[");
        if (!l->has_nodes[l->depth] && l->depth == 1 && l->key.size <= 1 && !l->stack[1].dir)
                return -EINVAL;
        l->has_nodes[l->depth] = true;
        if (node->dir && l->recursive && l->depth < KV_DEPTH_MAX)
                list_push(l, node);
        else
                keys_node_write(&l->t, node, true, l->now_ms, l->wall_ms);
        return 1;
}

static int list_end(void *userdata) {
        KeysList *l = userdata;

        while (l->depth > 0)
                list_pop(l);
        text_append(&l->t, "}\n");
        if (l->t.error < 0 || !l->large)
                return l->t.error;
        l->answer = shared_new(l->t.chars, l->t.size);
        return l->answer ? 0 : -ENOMEM;
}

static void list_grow(void *userdata) {
        KeysList *l = userdata;
        const Api *api = l->wait->request->api;

        loop_count(api->loop, 0, l->t.size);
        text_clear(&l->t);
        l->large = true;
        l->nodes_max = api->limits.answer_nodes;
        l->size_max = api->limits.answer_size;
        l->n_nodes = l->depth = 0;
}

static void refuse_listing(Request *request, uint64_t index) {
        const ApiLimits *limits = &request->api->limits;
        char cause[160], text[32];

        snprintf(cause, sizeof(cause),
                 "the answer would be more than %llu nodes or %s: list the directories in it one by one",
                 (unsigned long long) limits->answer_nodes, size_text(limits->answer_size, text));
        answer_error(request, 210, cause, strlen(cause), index);
}

static void get_in_turn(KeysWait *w);

static void list_done(void *userdata, int result) {
        KeysList *l = userdata;
        KeysWait *w = l->wait;
        Request *request = w->request;
        KeysHead head;

        w->list = NULL;
        request->forget = NULL;
        if (result == -ENOENT) {
                get_in_turn(w);
                return;
        }
        if (result == -E2BIG)
                refuse_listing(request, l->index);
        else if (result < 0 && l->large)
                answer_busy(request, request_large_reason(result));
        else if (result < 0)
                answer_refusal(request, 300, strerror(-result));
        else if (l->large)
                request_answer_shared(request, 200, "application/json",
                                      head_of(&head, request, l->index, false), l->answer);
        else
                answer_text(request, 200, l->index, &l->t);
        wait_free(w);
}

static void list_free(void *userdata) {
        KeysList *l = userdata;

        text_done(&l->t);
        shared_unref(l->answer);
        free(l);
}

static const KvListOps list_ops = { .begin = list_begin,
                                    .visit = list_visit,
                                    .end = list_end,
                                    .grow = list_grow,
                                    .done = list_done,
                                    .free = list_free };

static void get_list(KeysWait *w) {
        const ApiLimits *limits = &w->request->api->limits;
        KvStore *store = w->request->api->options.store;
        KeysList *l = malloc(sizeof(KeysList) + w->key_size); /* not cleared: the stack is large */
        KvRange range;
        KvList *large;

        if (!l) {
                answer_refusal(w->request, 300, strerror(ENOMEM));
                wait_free(w);
                return;
        }
        l->wait = w;
        l->t = (Text) {};
        l->key = (KvBytes) { memcpy(l->key_bytes, w->key, w->key_size), w->key_size };
        l->recursive = w->query.recursive;
        l->large = false;
        l->nodes_max = MIN(limits->answer_nodes, (uint64_t) API_LARGE_NODES);
        l->size_max = MIN(limits->answer_size, (uint64_t) API_LARGE_BYTES);
        l->now_ms = kv_cluster_ms(store);
        l->wall_ms = wall_of(w->request);
        l->n_nodes = l->index = l->depth = 0;
        l->answer = NULL;
        range = (KvRange) { .key = l->key, .recursive = l->recursive, .visits_max = API_LARGE_VISITS };
        kv_list(store, &range, &list_ops, l, &large);
        if (!large)
                return;
        w->list = large;
        wait_forget_form(w);
        w->request->forget = wait_forget;
}

/* -- GET -- */

static void get_list_later(KeysWait *w);

static void answer_node(Request *request, const KvFound *found) {
        const KvNode *node = found->node;
        _cleanup_text_ Text t = {};

        (void) text_reserve(&t, keys_node_room(node) + 32); /* one allocation */
        text_append(&t, "{\"action\":\"get\",\"node\":");
        keys_node_write(&t, node, true, kv_cluster_ms(request->api->options.store), wall_of(request));
        text_append(&t, "}\n");
        answer_text(request, 200, found->index, &t);
}

static void get_done(void *userdata, int result, const KvFound *found) {
        static const char hidden[] = "/_fleet";
        KeysWait *w = userdata;
        Request *request = w->request;
        Api *api = request->api;

        if (result < 0)
                answer_refusal(request, 300, strerror(-result));
        else if (!request_may_read(request, w->get.key)) { /* as if the key did not exist */
                api->gets_failed++;
                answer_error(request, 100, hidden, sizeof(hidden) - 1, found->index);
        } else if (found->node && found->node->dir && !api_may_list(api)) {
                get_list_later(w);
                return;
        } else if (found->node) {
                api->gets++;
                if (found->node->dir) {
                        get_list(w);
                        return;
                }
                answer_node(request, found);
        } else {
                api->gets_failed++;
                if (found->error == -ENOENT)
                        answer_error(request, found->is_file ? 104 : 100, found->missing.data,
                                     found->missing.size, found->index);
                else
                        answer_refusal(request, 300, strerror(-found->error));
        }
        wait_free(w);
}

static void get_in_turn(KeysWait *w) {
        w->get = (KvGet) { .key = wait_key(w), .done = get_done, .userdata = w };
        kv_get(w->request->api->options.store, &w->get);
}

static void get_again(void *userdata) {
        KeysWait *w = userdata;

        w->request->forget = NULL;
        get_in_turn(w);
}

static void get_list_later(KeysWait *w) {
        wait_forget_form(w);
        w->listing.run = get_again;
        w->listing.userdata = w;
        w->request->forget = wait_forget;
        api_list_later(w->request->api, &w->listing);
}

static void get_on_synced(void *userdata, KvStatus status) {
        KeysWait *w = userdata;
        Request *request = w->request;

        w->syncing = false;
        request->forget = NULL;
        if (status == KV_OK) {
                get_in_turn(w);
                return;
        }
        answer_unavailable(request, status);
        wait_free(w);
}

static void get_quorum(KeysWait *w) {
        wait_forget_form(w);
        w->sync = (KvSync) { .done = get_on_synced, .userdata = w };
        w->syncing = true;
        kv_sync(w->request->api->options.store, &w->sync);
}

/* -- Watches -- */

static Shared *event_encoded(const Request *request, KvWatchEvent *event) {
        _cleanup_text_ Text t = {};

        if (event->encoded)
                return event->encoded;
        keys_v2_write_event(&t, &event->event, event->event.now_ms, wall_of(request));
        loop_count(request->api->loop, 0, t.size);
        if (t.error == 0)
                event->encoded = shared_new(t.chars, t.size);
        return event->encoded;
}

static void watch_on_event(void *userdata, KvWatchEvent *event) {
        KeysWait *w = userdata;
        Request *request = w->request;
        Shared *bytes = event_encoded(request, event);

        if (w->stream) {
                if (!bytes || http_chunk_shared(request->http, bytes) < 0) {
                        request->forget = NULL;
                        request_cut(request, "the reader of a watch fell too far behind");
                        wait_free(w);
                }
                return;
        }
        request->forget = NULL;
        if (bytes)
                request_last(request, bytes);
        else
                request_cut(request, "out of memory");
        wait_free(w);
}

static void watch_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        KeysWait *w = userdata;
        Request *request = w->request;
        _cleanup_text_ Text t = {};

        request->forget = NULL;
        w->watch = NULL;
        (void) keys_v2_write_error(&t, 400, NULL, 0, current);
        if (t.error == 0)
                (void) http_chunk(request->http, t.chars, t.size);
        request_end(request);
        wait_free(w);
}

static const KvWatchOps keys_watch = { .on_event = watch_on_event, .on_cleared = watch_on_cleared };

static void get_watch(KeysWait *w) {
        Request *request = w->request;
        KvStore *store = request->api->options.store;
        KvWatchOptions options = { .key = wait_key(w),
                                   .recursive = w->query.recursive,
                                   .since = w->query.wait_index,
                                   .hidden_rule = true,
                                   .internal = kv_path_is_ours(wait_key(w)) &&
                                               request_may_read(request, wait_key(w)),
                                   .once = !w->query.stream,
                                   .absent = true };
        uint64_t index = kv_index(store), oldest = 0;
        KeysHead head;
        int r;

        if (request->api->n_watching >= request->api->limits.watches) {
                request->forget = NULL;
                answer_refusal(request, 300, "too many watches");
                wait_free(w);
                return;
        }
        wait_forget_form(w);
        w->stream = w->query.stream;
        r = kv_watch(store, &options, &keys_watch, w, &w->watch, &oldest);
        if (r == 0) {
                w->api = request->api;
                w->api->n_watching++;
                http_begin(request->http, 200, "application/json", head_of(&head, request, index, false));
                return;
        }
        request->forget = NULL;
        if (r == -ESTALE) {
                char cause[128];

                snprintf(cause, sizeof(cause), "the requested history has been cleared [%llu/%llu]",
                         (unsigned long long) oldest, (unsigned long long) w->query.wait_index);
                answer_error(request, 401, cause, strlen(cause), index);
        } else
                answer_refusal(request, 300, "too many watches");
        wait_free(w);
}

/* -- PUT, POST, DELETE -- */

/* Return the HTTP status where it is not that of the error code; else 0. */
static unsigned status_of_refusal(KvStatus status) {
        if (status == KV_TOO_LARGE)
                return 413;
        return status == KV_BUSY ? 503 : 0;
}

static void write_refuse(Request *request, const KvResult *result) {
        static const char forbidden[] = "Insufficient credentials";
        KvBytes cause = result->cause;

        if (result->status >= KV_NO_LEADER && result->status != KV_BUSY && result->status != KV_INVALID &&
            cause.size == 0) {
                answer_unavailable(request, result->status);
                return;
        }
        if (result->status == KV_FORBIDDEN)
                cause = (KvBytes) { forbidden, sizeof(forbidden) - 1 };
        answer_error_as(request, status_of_refusal(result->status), keys_code(result->status), cause.data,
                        cause.size, result->status >= KV_NO_LEADER ? 0 : result->index);
}

static void write_on_done(void *userdata, const KvResult *result) {
        KeysWait *w = userdata;
        Request *request = w->request;
        _cleanup_text_ Text t = {};
        KvEvent event = { .action = result->action,
                          .node = result->node,
                          .has_prev = result->has_prev,
                          .prev = result->prev };
        bool created = result->action == KV_ACTION_CREATE ||
                       (result->action == KV_ACTION_SET && !result->has_prev);

        w->number = 0;
        request->forget = NULL;
        if (result->status != KV_OK)
                write_refuse(request, result);
        else {
                if (w->query.quiet && keys_action_shows_value(result->action))
                        text_printf(&t, "{\"action\":\"%s\"}\n", kv_action_name(result->action));
                else
                        keys_v2_write_event(&t, &event, result->now_ms, wall_of(request));
                answer_text(request, created ? 201 : 200, result->index, &t);
        }
        wait_free(w);
}

static KvOp put_op(const KeysQuery *q) {
        bool conditions = q->prev_index > 0 || q->has_prev_value;

        if (q->prev_exist == 0)
                return KV_CREATE;
        return q->prev_exist == 1 && !conditions ? KV_UPDATE : KV_SET;
}

static void write_propose(KeysWait *w) {
        Request *request = w->request;
        const KeysQuery *q = &w->query;
        KvCommand cmd = { .op = KV_DELETE, .key = wait_key(w), .dir = q->dir };
        int r;

        if (method_is(request, "DELETE"))
                cmd.recursive = q->recursive;
        else {
                cmd.op = method_is(request, "POST") ? KV_POST : put_op(q);
                cmd.value = q->value;
                cmd.refresh = cmd.op != KV_POST && q->refresh;
                request_ttl(&cmd, q->has_ttl, q->ttl);
        }
        if (cmd.op != KV_POST && cmd.op != KV_CREATE) {
                cmd.prev_index = q->prev_index;
                cmd.has_prev_value = q->has_prev_value;
                cmd.prev_value = q->prev_value;
        }
        r = kv_propose(request->api->options.store, &cmd, write_on_done, w, &w->number);
        if (r < 0) {
                request->forget = NULL;
                answer_refusal(request, 300, strerror(-r));
                wait_free(w);
        } else
                wait_forget_form(w); /* the command was copied */
}

/* -- Requests -- */

void keys_v2_handle(Request *request) {
        const ApiLimits *limits = &request->api->limits;
        KeysError e = {};
        KeysWait *w;
        char text[32];
        bool get = method_is(request, "GET") || method_is(request, "HEAD");
        int r;

        w = NEW0(KeysWait, 1);
        if (!w) {
                answer_refusal(request, 300, "out of memory");
                return;
        }
        w->request = request;
        request->state = w;
        r = keys_query_read(request, &w->query, &e);
        if (r < 0) {
                answer_refusal(request, e.code, e.cause);
                wait_free(w);
                return;
        }
        r = kv_path_clean(request->rest, request->path_size - (size_t) (request->rest - request->path),
                          &w->key, &w->key_size);
        if (r == -ENOMEM) {
                answer_refusal(request, 300, "out of memory");
                wait_free(w);
                return;
        }
        if (r < 0 || w->key_size > limits->key_size)
                snprintf(e.cause, sizeof(e.cause), "the key is longer than %s or deeper than %d levels",
                         size_text(limits->key_size, text), KV_DEPTH_MAX);
        else if (w->query.value.size > limits->value_size)
                snprintf(e.cause, sizeof(e.cause), "the value is longer than %s",
                         size_text(limits->value_size, text));
        if (e.cause[0]) {
                answer_refusal(request, 210, e.cause);
                wait_free(w);
                return;
        }

        if (get && w->query.wait && !w->query.quorum) {
                request->forget = wait_forget;
                get_watch(w);
        } else if (get && w->query.quorum && method_is(request, "GET")) {
                request->forget = wait_forget;
                get_quorum(w);
        } else if (get) {
                get_in_turn(w);
        } else {
                request->forget = wait_forget;
                write_propose(w);
        }
}
