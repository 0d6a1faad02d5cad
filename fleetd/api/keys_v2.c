#include "fleetd/api/keys_v2_internal.h"

#include <errno.h>
#include <stdio.h>

/* -- Answers -- */

/* The four headers of every keys answer, and the mark of an old one, in memory of their own. */
typedef struct KeysHead {
        char cluster[17], index[TEXT_U64_SIZE], raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE];
        StaleField stale;
        HttpField fields[6];
} KeysHead;

static const char *hex_of(uint64_t v, char room[static 17]) {
        char *p = room + 16;

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

/* 'status' 0: the one of the code. */
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

/* What did not come out of the store: etcd's index is 0 then. */
static void answer_refusal(Request *request, unsigned code, const char *cause) {
        answer_error(request, code, cause, strlen(cause), 0);
}

void keys_v2_refuse(Request *request, const char *cause) {
        answer_refusal(request, 300, cause);
}

/* It may be asked again: 503. etcd has no code of its own for that. */
static void answer_busy(Request *request, const char *cause) {
        _cleanup_text_ Text t = {};
        KeysHead head;

        (void) keys_v2_write_error(&t, 300, cause, strlen(cause), 0);
        request_answer(request, 503, "application/json", head_of(&head, request, 0, true), t.chars ?: "",
                       t.size);
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

/* -- GET -- */

typedef struct Listing {
        Text *t;
        uint64_t nodes_max, size_max;
        uint64_t n_nodes;
        KvBytes base;
        bool recursive;
        uint64_t now_ms, wall_ms;
        KvNode stack[KV_DEPTH_MAX + 2]; /* directories that are open; keys borrowed from the transaction */
        bool has_nodes[KV_DEPTH_MAX + 2];
        size_t depth;
} Listing;

static void listing_pop(Listing *l) {
        if (l->has_nodes[l->depth])
                text_append_char(l->t, ']');
        keys_node_close(l->t, &l->stack[l->depth]);
        l->depth--;
}

static void listing_push(Listing *l, const KvNode *node) {
        keys_node_open(l->t, node, true, l->now_ms, l->wall_ms);
        l->depth++;
        l->stack[l->depth] = *node;
        l->has_nodes[l->depth] = false;
}

static int listing_visit(void *userdata, const KvNode *node) {
        Listing *l = userdata;

        if (kv_path_hidden_from(node->key, l->base))
                return 1;
        if (++l->n_nodes > l->nodes_max || l->t->size > l->size_max)
                return -E2BIG;
        if (l->t->error < 0)
                return l->t->error;
        while (l->depth > 1 && !kv_path_is_below(node->key, l->stack[l->depth].key))
                listing_pop(l);
        text_append(l->t, l->has_nodes[l->depth] ? "," : ",\"nodes\":[");
        if (!l->has_nodes[l->depth] && l->depth == 1 && l->base.size <= 1 && !l->stack[1].dir)
                return -EINVAL;
        l->has_nodes[l->depth] = true;
        if (node->dir && l->recursive && l->depth < KV_DEPTH_MAX)
                listing_push(l, node);
        else
                keys_node_write(l->t, node, true, l->now_ms, l->wall_ms);
        return 1;
}

/* What is asked of a directory, with memory of its own: a worker has it when the client is gone. */
typedef struct KeysList {
        KvBytes key;
        bool recursive;
        uint64_t nodes_max, size_max; /* more is -E2BIG */
        uint64_t now_ms, wall_ms;
        uint64_t n_nodes;      /* that it took */
        uint64_t index;        /* of the tree that was read; 0: none was */
        Shared *answer;        /* of a worker */
        struct KeysWait *wait; /* the loop's */
        char key_bytes[];
} KeysList;

/* A directory with what is in it; a listing is large, so that files go without one. */
static int list_write(KeysList *list, Text *t, TreeTxn *txn, const KvNode *dir) {
        _cleanup_free_ Listing *l = NEW0(Listing, 1);
        int r;

        if (!l)
                return -ENOMEM;
        *l = (Listing) { .t = t,
                         .nodes_max = list->nodes_max,
                         .size_max = list->size_max,
                         .base = dir->key,
                         .recursive = list->recursive,
                         .now_ms = list->now_ms,
                         .wall_ms = list->wall_ms };
        text_append(t, "{\"action\":\"get\",\"node\":");
        listing_push(l, dir);
        r = tree_walk(txn, dir->key, list->recursive, listing_visit, l);
        while (l->depth > 0)
                listing_pop(l);
        text_append(t, "}\n");
        list->n_nodes = 1 + l->n_nodes;
        return r < 0 ? r : t->error;
}

static void refuse_listing(Request *request, uint64_t index) {
        const ApiLimits *limits = &request->api->limits;
        char cause[160], text[32];

        snprintf(cause, sizeof(cause),
                 "the answer would be more than %llu nodes or %s: list the directories in it one by one",
                 (unsigned long long) limits->answer_nodes, size_text(limits->answer_size, text));
        answer_error(request, 210, cause, strlen(cause), index);
}

typedef enum GetResult {
        GET_DONE,  /* answered: the request is gone */
        GET_LATER, /* it is a listing, and this turn has had its share of them; all others come first */
        GET_LARGE, /* it is for a worker */
} GetResult;

static GetResult get_now(Request *request, KvBytes key, const KeysQuery *q) {
        const ApiLimits *limits = &request->api->limits;
        KvStore *store = request->api->options.store;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_text_ Text t = {};
        KvNode node;
        TreeMeta meta;
        int r;

        r = kv_read(store, &txn);
        if (r == 0)
                r = tree_meta(txn, &meta);
        if (r < 0) {
                answer_refusal(request, 300, strerror(-r));
                return GET_DONE;
        }
        if (!request_may_read(request, key)) { /* as where there is nothing of fleet's, whatever there is */
                request->api->gets_failed++;
                answer_error(request, 100, "/_fleet", strlen("/_fleet"), meta.index);
                return GET_DONE;
        }
        r = tree_get(txn, key, &node);
        if (r == 0 && node.dir && !api_may_list(request->api))
                return GET_LATER;
        if (r == 0)
                request->api->gets++;
        else
                request->api->gets_failed++;
        if (r == -ENOENT) {
                KvBytes missing = key;
                KvNode above;

                /* etcd names the first node on the way that is missing, or the file that stands in it. */
                for (size_t i = 1; i < key.size; i++) {
                        KvBytes part = { key.data, i };

                        if (((const char *) key.data)[i] != '/')
                                continue;
                        if (tree_get(txn, part, &above) == -ENOENT) {
                                missing = part;
                                break;
                        }
                        if (!above.dir) {
                                answer_error(request, 104, part.data, part.size, meta.index);
                                return GET_DONE;
                        }
                }
                answer_error(request, 100, missing.data, missing.size, meta.index);
                return GET_DONE;
        }
        if (r == 0 && node.dir) {
                KeysList list = { .recursive = q->recursive,
                                  .nodes_max = MIN(limits->answer_nodes, (uint64_t) API_LARGE_NODES),
                                  .size_max = MIN(limits->answer_size, (uint64_t) API_LARGE_BYTES),
                                  .now_ms = kv_cluster_ms(store),
                                  .wall_ms = wall_of(request) };

                tree_limit_walks(txn, API_LARGE_VISITS);
                r = list_write(&list, &t, txn, &node);
                if (r == -E2BIG) {
                        loop_count(request->api->loop, 0, t.size);
                        return GET_LARGE;
                }
        } else if (r == 0) {
                (void) text_reserve(&t, keys_node_room(&node) + 32); /* one allocation */
                text_append(&t, "{\"action\":\"get\",\"node\":");
                keys_node_write(&t, &node, true, kv_cluster_ms(store), wall_of(request));
                text_append(&t, "}\n");
        }
        if (r < 0)
                answer_refusal(request, 300, strerror(-r));
        else
                answer_text(request, 200, meta.index, &t);
        return GET_DONE;
}

/* -- Requests that wait: for a majority, for the log, for a change -- */

typedef struct KeysWait {
        Request *request;
        ApiListing listing;
        KvLargeRead *large; /* under way; NULL: none */
        KvSync sync;
        bool syncing;
        KeysQuery query;
        char *key;
        size_t key_size;
        uint64_t number; /* of a proposal, 0: none */
        Watch *watch;
        bool stream;
        Api *api; /* where the watch is counted; NULL: none yet */
} KeysWait;

static void wait_free(KeysWait *w) {
        if (w->api)
                w->api->n_watching--;
        watch_close(w->watch);
        http_parameters_done(&w->query.form);
        free(w->key);
        free(w);
}

static void wait_forget(Request *request) {
        KeysWait *w = request->state;
        KvStore *store = request->api->options.store;

        if (w->syncing)
                kv_sync_cancel(store, &w->sync);
        if (w->large)
                kv_read_large_cancel(w->large);
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

/* What the parameters say has been read; their text need not wait, too. */
static void wait_forget_form(KeysWait *w) {
        http_parameters_done(&w->query.form);
        w->query.value = w->query.prev_value = (KvBytes) {};
}

/* -- Large listings -- */

static void get_in_turn(KeysWait *w);

static int large_read(void *userdata, TreeTxn *txn) {
        KeysList *list = userdata;
        _cleanup_text_ Text t = {};
        TreeMeta meta;
        KvNode dir;
        int r;

        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        list->index = meta.index;
        r = tree_get(txn, list->key, &dir);
        if (r < 0 || !dir.dir)
                return -ENOENT; /* it was there: it is no listing any more */
        r = list_write(list, &t, txn, &dir);
        if (r < 0)
                return r;
        list->answer = shared_new(t.chars, t.size);
        return list->answer ? 0 : -ENOMEM;
}

static void large_done(void *userdata, int result) {
        KeysList *list = userdata;
        KeysWait *w = list->wait;
        Request *request = w->request;
        KeysHead head;

        w->large = NULL;
        request->forget = NULL;
        if (result == -ENOENT) {
                get_in_turn(w);
                return;
        }
        if (result == 0)
                request_answer_shared(request, 200, "application/json",
                                      head_of(&head, request, list->index, false), list->answer);
        else if (result == -E2BIG)
                refuse_listing(request, list->index);
        else
                answer_busy(request, request_large_reason(result));
        wait_free(w);
}

static void large_free(void *userdata) {
        KeysList *list = userdata;

        shared_unref(list->answer);
        free(list);
}

static const KvLargeReadOps large_ops = { .read = large_read, .done = large_done, .free = large_free };

static void get_large(KeysWait *w) {
        Request *request = w->request;
        const ApiLimits *limits = &request->api->limits;
        KvStore *store = request->api->options.store;
        KeysList *list = calloc(1, sizeof(KeysList) + w->key_size);
        int r = -ENOMEM;

        if (list) {
                *list = (KeysList) { .key = { list->key_bytes, w->key_size },
                                     .recursive = w->query.recursive,
                                     .nodes_max = limits->answer_nodes,
                                     .size_max = limits->answer_size,
                                     .now_ms = kv_cluster_ms(store),
                                     .wall_ms = wall_of(request),
                                     .wait = w };
                memcpy(list->key_bytes, w->key, w->key_size);
                r = kv_read_large(store, &large_ops, list, &w->large);
        }
        if (r == 0) {
                request->forget = wait_forget;
                return;
        }
        free(list);
        answer_busy(request, request_large_reason(r));
        wait_free(w);
}

static void get_again(void *userdata) {
        KeysWait *w = userdata;

        w->request->forget = NULL;
        get_in_turn(w);
}

static void get_in_turn(KeysWait *w) {
        Request *request = w->request;
        GetResult result = get_now(request, wait_key(w), &w->query);

        if (result == GET_DONE) {
                wait_free(w);
                return;
        }
        wait_forget_form(w);
        if (result == GET_LARGE) {
                get_large(w);
                return;
        }
        w->listing.run = get_again;
        w->listing.userdata = w;
        request->forget = wait_forget;
        api_list_later(request->api, &w->listing);
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

static Shared *event_encoded(const Request *request, HubEvent *event) {
        _cleanup_text_ Text t = {};

        if (event->encoded)
                return event->encoded;
        keys_v2_write_event(&t, &event->event, event->event.now_ms, wall_of(request));
        loop_count(request->api->loop, 0, t.size);
        if (t.error == 0)
                event->encoded = shared_new(t.chars, t.size);
        return event->encoded;
}

static void watch_on_event(void *userdata, HubEvent *event) {
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

static const WatchEvents keys_watch = { .on_event = watch_on_event, .on_cleared = watch_on_cleared };

static void get_watch(KeysWait *w) {
        Request *request = w->request;
        KvStore *store = request->api->options.store;
        WatchOptions options = { .key = wait_key(w),
                                 .recursive = w->query.recursive,
                                 .since = w->query.wait_index,
                                 .hidden_rule = true,
                                 .internal = kv_path_is_ours(wait_key(w)) &&
                                             request_may_read(request, wait_key(w)),
                                 .once = !w->query.stream };
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        uint64_t index = kv_index(store), oldest = 0;
        KeysHead head;
        KvNode node;
        int r;

        if (request->api->n_watching >= request->api->limits.watches) {
                request->forget = NULL;
                answer_refusal(request, 300, "too many watches");
                wait_free(w);
                return;
        }
        wait_forget_form(w);
        options.absent = kv_read(store, &txn) == 0 && tree_get(txn, wait_key(w), &node) == -ENOENT;
        w->stream = w->query.stream;
        r = hub_watch(kv_hub(store), &options, &keys_watch, w, &w->watch, &oldest);
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

static void write_on_done(void *userdata, const KvResult *result) {
        KeysWait *w = userdata;
        Request *request = w->request;
        _cleanup_text_ Text t = {};
        KvEvent event = { .action = result->action,
                          .node = result->node,
                          .has_prev = result->has_prev,
                          .prev = result->prev };
        bool quiet = w->query.quiet && keys_action_shows_value(result->action);

        w->number = 0;
        request->forget = NULL;
        if (result->status >= KV_NO_LEADER && result->status != KV_BUSY && result->status != KV_INVALID &&
            result->cause.size == 0)
                answer_unavailable(request, result->status);
        else if (result->status != KV_OK) {
                static const char refused[] = "Insufficient credentials";
                bool forbidden = result->status == KV_FORBIDDEN;

                answer_error_as(request,
                                result->status == KV_TOO_LARGE ? 413 :
                                result->status == KV_BUSY      ? 503 :
                                                                 0,
                                keys_code(result->status), forbidden ? refused : result->cause.data,
                                forbidden ? sizeof(refused) - 1 : result->cause.size,
                                result->status >= KV_NO_LEADER ? 0 : result->index);
        } else {
                if (quiet)
                        text_printf(&t, "{\"action\":\"%s\"}\n", kv_action_name(result->action));
                else
                        keys_v2_write_event(&t, &event, result->now_ms, wall_of(request));
                answer_text(request,
                            result->action == KV_ACTION_CREATE ||
                                            (result->action == KV_ACTION_SET && !result->has_prev) ?
                                    201 :
                                    200,
                            result->index, &t);
        }
        wait_free(w);
}

static void write_propose(KeysWait *w) {
        Request *request = w->request;
        const KeysQuery *q = &w->query;
        bool conditions = q->prev_index > 0 || q->has_prev_value;
        KvCommand cmd = { .key = wait_key(w),
                          .value = q->value,
                          .dir = q->dir,
                          .prev_index = q->prev_index,
                          .has_prev_value = q->has_prev_value,
                          .prev_value = q->prev_value };
        int r;

        if (method_is(request, "DELETE")) {
                cmd.op = KV_DELETE;
                cmd.recursive = q->recursive;
                cmd.value = (KvBytes) {};
        } else if (method_is(request, "POST")) {
                cmd.op = KV_POST;
                cmd.prev_index = 0;
                cmd.has_prev_value = false;
                request_ttl(&cmd, q->has_ttl, q->ttl);
        } else {
                cmd.op = q->prev_exist == 0                ? KV_CREATE :
                         q->prev_exist == 1 && !conditions ? KV_UPDATE :
                                                             KV_SET;
                if (cmd.op == KV_CREATE) {
                        cmd.prev_index = 0;
                        cmd.has_prev_value = false;
                }
                cmd.refresh = q->refresh;
                request_ttl(&cmd, q->has_ttl, q->ttl);
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
