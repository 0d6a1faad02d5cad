#include "fleetd/api/keys_v2_internal.h"

#include "fleetd/api/forward.h"
#include "fleetd/api/keys_v2_answer.h"
#include "fleetd/api/parked.h"

/* -- Answers -- */

static void answer_text(Request *request, unsigned status, uint64_t index, Text *t) {
        KeysHead head;

        if (t->error < 0)
                keys_answer_refusal(request, 300, "out of memory");
        else
                request_answer(request, status, "application/json", keys_head(&head, request, index, false),
                               t->chars, t->size);
}

static uint64_t wall_of(const Request *request) {
        return loop_wall_ms(request->api->loop);
}

/* The state of a request. */
typedef struct KeysRequest {
        KeysQuery query;
        char *key;
        size_t key_size;
        uint64_t index; /* of a watch: where it began */
        bool unsure;    /* of a watch: its replica may lack events of the past; the head is not sent yet */
} KeysRequest;

static void keys_on_end(Request *request) {
        KeysRequest *keys = request->state;

        http_parameters_done(&keys->query.form);
        free(keys->key);
        free(keys);
}

static KvBytes keys_key(const KeysRequest *keys) {
        return (KvBytes) { keys->key, keys->key_size };
}

static void answer_unavailable(Request *request, KvStatus status) {
        KvState state;

        kv_state(request->api->host->store, &state);
        if (status == KV_UNKNOWN)
                keys_answer_refusal(
                        request, 300,
                        "etcdserver: request timed out: the leader was lost; whether it happened is "
                        "unknown: read the key again");
        else
                keys_answer_refusal(request, 300,
                                    state.problem[0] ? state.problem : "no leader; reads still work");
}

/* Free the text of the parameters: a parked request does not need it. */
static void keys_park(Request *request) {
        KeysRequest *keys = request->state;

        http_parameters_done(&keys->query.form);
        keys->query.value = keys->query.prev_value = (KvBytes) {};
}

/* -- Listings -- */

/* A directory to be listed. It owns its memory: a worker may use it after the client has left. */
typedef struct KeysList {
        Request *request; /* the loop's */
        Text t;
        Sender *sender; /* NULL: sees all */
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

        if (kv_path_hidden_from(node->key, l->key) ||
            (l->sender && !sender_sees(l->sender, node->key, node->dir)))
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
        if (l->t.size > l->size_max)
                return -E2BIG;
        if (l->t.error < 0 || !l->large)
                return l->t.error;
        l->answer = shared_new(l->t.chars, l->t.size);
        return l->answer ? 0 : -ENOMEM;
}

static uint64_t answer_size_max(const Request *request) {
        uint64_t max = request->api->settings->limits.answer_size;

        return request->http->sink ? MIN(max, (uint64_t) FORWARD_ANSWER_MAX) : max;
}

static void list_grow(void *userdata) {
        KeysList *l = userdata;
        const Api *api = l->request->api;

        loop_count(api->loop, 0, l->t.size);
        text_clear(&l->t);
        l->large = true;
        l->nodes_max = api->settings->limits.answer_nodes;
        l->size_max = answer_size_max(l->request);
        l->n_nodes = l->depth = 0;
}

static void refuse_listing(Request *request, uint64_t index) {
        char cause[160], text[32];

        snprintf(cause, sizeof(cause),
                 "the answer would be more than %llu nodes or %s: list the directories in it one by one",
                 (unsigned long long) request->api->settings->limits.answer_nodes,
                 size_text(answer_size_max(request), text));
        keys_answer_error(request, 0, 210, keys_cause(cause), index);
}

static void get_read(Request *request);

static void list_done(void *userdata, int result) {
        KeysList *l = userdata;
        Request *request = l->request;
        KeysHead head;
        KvState state;

        request->list = NULL;
        if (request_lists_later(request, result))
                return;
        if (result == -ENOENT)
                get_read(request);
        else if (result == -E2BIG)
                refuse_listing(request, l->index);
        else if (result < 0 && l->large) /* the client may try again; etcd has no code for it */
                keys_answer_error(request, 503, 300,
                                  keys_cause(request_unreachable(request, result, &state) ?:
                                                     request_large_reason(result)),
                                  0);
        else if (result < 0)
                keys_answer_refusal(request, 300, strerror(-result));
        else if (l->large)
                request_answer_shared(request, 200, "application/json",
                                      keys_head(&head, request, l->index, false), l->answer);
        else
                answer_text(request, 200, l->index, &l->t);
}

static void list_free(void *userdata) {
        KeysList *l = userdata;

        text_done(&l->t);
        shared_unref(l->answer);
        sender_unref(l->sender);
        free(l);
}

static const KvListOps list_ops = { .begin = list_begin,
                                    .visit = list_visit,
                                    .end = list_end,
                                    .grow = list_grow,
                                    .done = list_done,
                                    .free = list_free };

/* On a host without a replica, a replica lists the directory. */
static void get_list_forwarded(Request *request) {
        const KeysRequest *keys = request->state;
        Error err = {};
        int r = 0;

        if (request->http->sink) {
                request_cut(request, "this host does not have a replica any more");
                return;
        }
        if (keys->query.recursive)
                r = http_parameters_parse(&request->parameters, "recursive=true", 14, &err);
        if (r < 0) {
                keys_answer_refusal(request, 300, strerror(-r));
                return;
        }
        keys_on_end(request);
        request->on_end = NULL;
        forward_request(request);
}

static void get_list(Request *request) {
        const ApiLimits *limits = &request->api->settings->limits;
        const KeysRequest *keys = request->state;
        KeysList *l = malloc(sizeof(KeysList) + keys->key_size); /* not cleared: the stack is large */
        KvRange range;

        if (!l) {
                keys_answer_refusal(request, 300, strerror(ENOMEM));
                return;
        }
        l->request = request;
        l->sender = request_filter(request);
        l->t = (Text) {};
        l->key = (KvBytes) { memcpy(l->key_bytes, keys->key, keys->key_size), keys->key_size };
        l->recursive = keys->query.recursive;
        l->large = false;
        l->nodes_max = MIN(limits->answer_nodes, (uint64_t) API_LARGE_NODES);
        l->size_max = MIN(answer_size_max(request), (uint64_t) API_LARGE_BYTES);
        l->now_ms = kv_cluster_ms(request->api->host->store);
        l->wall_ms = wall_of(request);
        l->n_nodes = l->index = l->depth = 0;
        l->answer = NULL;
        range = (KvRange) { .key = l->key, .recursive = l->recursive, .visits_max = API_LARGE_VISITS };
        keys_park(request);
        request_list(request, &range, &list_ops, l);
}

/* -- GET -- */

static void answer_node(Request *request, const KvFound *found) {
        const KvNode *node = found->node;
        _cleanup_text_ Text t = {};

        (void) text_reserve(&t, keys_node_room(node) + 32); /* one allocation */
        text_append(&t, "{\"action\":\"get\",\"node\":");
        keys_node_write(&t, node, true, kv_cluster_ms(request->api->host->store), wall_of(request));
        text_append(&t, "}\n");
        answer_text(request, 200, found->index, &t);
}

/* Return whether the sender may not know what was found; *ret_missing is what it misses then. */
static bool get_hides(const Request *request, const KvFound *found, KvBytes *ret_missing) {
        const Sender *sender = request->sender;
        KvBytes key = request->get.key;

        if (found->node && sender_sees(sender, key, found->node->dir))
                return false;
        *ret_missing = sender_missing(sender, key);
        if (found->node)
                return true;
        if (ret_missing->size > found->missing.size)
                *ret_missing = found->missing;
        return !sender_sees(sender, *ret_missing, !found->is_file);
}

static void get_done(void *userdata, int result, const KvFound *found) {
        Request *request = userdata;
        Api *api = request->api;
        const char *reason;
        KvBytes missing;
        KvState state;

        if (result < 0) {
                reason = request_unreachable(request, result, &state);
                if (reason)
                        keys_answer_error(request, 503, 300, keys_cause(reason), 0);
                else
                        keys_answer_refusal(request, 300, strerror(-result));
                return;
        }
        if (!found->node && found->error != -ENOENT) {
                api->gets_failed++;
                keys_answer_refusal(request, 300, strerror(-found->error));
                return;
        }
        if (get_hides(request, found, &missing)) {
                api->gets_failed++;
                keys_answer_error(request, 0, 100, missing, found->index);
                return;
        }
        if (!found->node) {
                api->gets_failed++;
                keys_answer_error(request, 0, found->is_file ? 104 : 100, found->missing, found->index);
                return;
        }
        if (found->node->dir && kv_is_attached(api->host->store)) {
                get_list_forwarded(request);
                return;
        }
        if (found->node->dir && !request_may_list(request, get_read)) {
                keys_park(request);
                return;
        }
        api->gets++;
        if (found->node->dir)
                get_list(request);
        else
                answer_node(request, found);
}

static void get_read(Request *request) {
        request_get(request, keys_key(request->state), get_done);
}

static void get_on_synced(Request *request, KvStatus status) {
        if (status == KV_OK)
                get_read(request);
        else
                answer_unavailable(request, status);
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

static bool watch_sees(void *userdata, const KvEvent *event) {
        const Request *request = userdata;

        return request_sees_event(request, keys_key(request->state), event);
}

static void watch_deliver(Request *request, Shared *bytes) {
        const KeysRequest *keys = request->state;

        if (keys->query.stream) {
                if (!bytes || http_chunk_shared(request->http, bytes) < 0)
                        request_cut(request, "the reader of a watch fell too far behind");
        } else if (bytes)
                request_last(request, bytes);
        else
                request_cut(request, "out of memory");
}

static void watch_begin(Request *request) {
        KeysRequest *keys = request->state;
        KeysHead head;

        keys->unsure = false;
        request_begin(request, "application/json", keys_head(&head, request, keys->index, false));
}

/* The replica has answered after the watch was opened there. What has arrived meanwhile begins the answer. */
static void watch_on_confirmed(Request *request, KvStatus status) {
        const KeysRequest *keys = request->state;

        if (keys->unsure && kv_watch_is_current(request->watch))
                watch_begin(request);
}

static void watch_on_event(void *userdata, KvWatchEvent *event) {
        KvWatchEvent cut = { .event = event->event };
        Request *request = userdata;

        if (((const KeysRequest *) request->state)->unsure)
                watch_begin(request);
        if (!request_hides_prev(request, &event->event)) {
                watch_deliver(request, event_encoded(request, event));
                return;
        }
        cut.event.has_prev = false;
        watch_deliver(request, event_encoded(request, &cut));
        shared_unref(cut.encoded);
}

/* End a watch with an error. */
static void watch_end(Request *request, unsigned code, KvBytes cause, uint64_t index) {
        _cleanup_text_ Text t = {};

        if (((const KeysRequest *) request->state)->unsure)
                watch_begin(request);
        (void) keys_v2_write_error(&t, code, cause.data, cause.size, index);
        if (t.error == 0)
                (void) http_chunk(request->http, t.chars, t.size);
        request_end(request);
}

static void watch_refuse_history(Request *request, uint64_t oldest, uint64_t index) {
        const KeysRequest *keys = request->state;
        char cause[128];

        snprintf(cause, sizeof(cause), "the requested history has been cleared [%llu/%llu]",
                 (unsigned long long) oldest, (unsigned long long) keys->query.wait_index);
        keys_answer_error(request, 0, 401, keys_cause(cause), index);
}

static void watch_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Request *request = userdata;

        request->watch = NULL;
        if (((const KeysRequest *) request->state)->unsure)
                watch_refuse_history(request, oldest, current);
        else
                watch_end(request, 400, (KvBytes) {}, current);
}

static void watch_on_revoked(Request *request) {
        watch_end(request, 110, keys_cause(KEYS_FORBIDDEN), 0);
}

static const KvWatchOps keys_watch = { .on_event = watch_on_event, .on_cleared = watch_on_cleared },
                        keys_filtered = { .sees = watch_sees,
                                          .on_event = watch_on_event,
                                          .on_cleared = watch_on_cleared };

static void get_watch(Request *request) {
        KeysRequest *keys = request->state;
        KvStore *store = request->api->host->store;
        KvBytes key = keys_key(keys);
        KvWatchOptions options = { .key = key,
                                   .recursive = keys->query.recursive,
                                   .since = keys->query.wait_index,
                                   .hidden_rule = true,
                                   .internal = kv_path_is_ours(key) && sender_may_read(request->sender, key),
                                   .once = !keys->query.stream,
                                   .absent = true };
        uint64_t index = kv_seen(store), oldest = 0;
        int r = -ENOBUFS;

        keys_park(request);
        if (request->api->n_watching < request->api->settings->limits.watches)
                r = kv_watch(store, &options, sender_sees_all(request->sender) ? &keys_watch : &keys_filtered,
                             request, &request->watch, &oldest);
        if (r == 0) {
                request->on_revoked = watch_on_revoked;
                request->watching = true;
                request->api->n_watching++;
                parked_begin(request->api);
                keys->index = index;
                keys->unsure = kv_is_attached(store) && options.since > 0 && options.since <= index;
                if (keys->unsure)
                        request_sync(request, watch_on_confirmed);
                else
                        watch_begin(request);
        } else if (r == -ESTALE)
                watch_refuse_history(request, oldest, index);
        else
                keys_answer_refusal(request, 300, "too many watches");
}

/* -- PUT, POST, DELETE -- */

static void write_refuse(Request *request, const KvResult *result) {
        KvBytes cause = result->cause;
        unsigned status = 0; /* that of the code */

        if (result->status >= KV_NO_LEADER && result->status != KV_BUSY && cause.size == 0) {
                answer_unavailable(request, result->status);
                return;
        }
        /* Of users' keys, the leader's message names the unit that reads one. */
        if (result->status == KV_FORBIDDEN && (cause.size == 0 || kv_path_is_ours(keys_key(request->state))))
                cause = keys_cause(KEYS_FORBIDDEN);
        else if (result->status == KV_TOO_LARGE)
                status = 413;
        else if (result->status == KV_BUSY)
                status = 503;
        keys_answer_error(request, status, keys_code(result->status), cause,
                          result->status >= KV_NO_LEADER ? 0 : result->index);
}

static void write_on_done(Request *request, const KvResult *result) {
        const KeysRequest *keys = request->state;
        _cleanup_text_ Text t = {};
        KvEvent event = { .action = result->action,
                          .node = result->node,
                          .has_prev = result->has_prev,
                          .prev = result->prev };

        if (result->status != KV_OK) {
                write_refuse(request, result);
                return;
        }
        if (keys->query.quiet && !action_removes(result->action))
                text_printf(&t, "{\"action\":\"%s\"}\n", kv_action_name(result->action));
        else
                keys_v2_write_event(&t, &event, result->now_ms, wall_of(request));
        answer_text(request, request_write_status(result), result->index, &t);
}

static KvOp put_op(const KeysQuery *q) {
        bool conditions = q->prev_index > 0 || q->has_prev_value;

        if (q->prev_exist == 0)
                return KV_CREATE;
        return q->prev_exist == 1 && !conditions ? KV_UPDATE : KV_SET;
}

static void write_propose(Request *request) {
        const KeysRequest *keys = request->state;
        const KeysQuery *q = &keys->query;
        KvCommand cmd = { .op = KV_DELETE, .key = keys_key(keys), .dir = q->dir };
        Error err = {};
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
        r = request_propose(request, &cmd, write_on_done, &err);
        if (r == -EACCES)
                keys_v2_forbid(request);
        else if (r == -EPERM)
                keys_answer_refusal(request, 110, err.message);
        else if (r < 0)
                keys_answer_refusal(request, 300, strerror(-r));
        else
                keys_park(request); /* the command was copied */
}

/* -- Requests -- */

/* Set key and parameters. Return 0, or etcd's code of the error, whose cause is in 'err'. */
static int keys_read(Request *request, KeysRequest *keys, Error *err) {
        const ApiLimits *limits = &request->api->settings->limits;
        char text[32];
        int r;

        r = keys_query_read(request, &keys->query, err);
        if (r > 0)
                return r;
        r = kv_path_clean(request->rest, request->path_size - (size_t) (request->rest - request->path),
                          &keys->key, &keys->key_size);
        if (r == -ENOMEM)
                return error_set(err, 300, "out of memory");
        if (r < 0 || keys->key_size > limits->key_size)
                return error_set(err, 210, "the key is longer than %s or deeper than %d levels",
                                 size_text(limits->key_size, text), KV_DEPTH_MAX);
        if (keys->query.value.size > limits->value_size)
                return error_set(err, 210, "the value is longer than %s",
                                 size_text(limits->value_size, text));
        return 0;
}

unsigned keys_v2_handle(Request *request, Error *err) {
        KeysRequest *keys = NEW(KeysRequest);
        int r;
        bool get = method_is(request, "GET") || method_is(request, "HEAD");

        if (!keys) {
                keys_answer_refusal(request, 300, "out of memory");
                return 0;
        }
        *keys = (KeysRequest) {};
        request->state = keys;
        request->on_end = keys_on_end;
        r = keys_read(request, keys, err);
        if (r > 0)
                keys_answer_refusal(request, r, err->message);
        else if (get && keys->query.wait && !keys->query.quorum)
                get_watch(request);
        else if (keys->query.quorum && method_is(request, "GET")) {
                keys_park(request);
                request_sync(request, get_on_synced);
        } else if (get)
                get_read(request);
        else
                write_propose(request);
        return 0;
}
