#include "tests/sim/watchers.h"

enum { NO_HOST = UINT32_MAX };

typedef struct Received {
        uint64_t digest;        /* 0: no watcher has received it yet */
        uint64_t digest_before; /* of the previous node; 0: not received yet */
        char *key;
} Received;

typedef struct Watcher {
        Watchers *all;
        char key[32];
        unsigned host;
        KvWatch *watch;
        bool came; /* it was open before */
        uint64_t next;
        uint64_t *received; /* indexes */
        size_t n, capacity;
        struct {
                uint64_t from, next;
        } * spans; /* that are checked: between them events were lost */
        size_t n_spans, spans_capacity;
} Watcher;

struct Watchers {
        World *world;
        Received *log; /* by index */
        size_t n, capacity;
        Watcher *watchers;
        unsigned n_watchers;
        uint64_t n_events, n_moves, n_cleared;
        bool doubt;
};

static uint64_t mix(uint64_t hash, const void *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ ((const uint8_t *) bytes)[i]) * 0x100000001b3;
        return hash;
}

static uint64_t mix_node(uint64_t hash, const KvNode *node) {
        uint64_t words[] = { node->key.size, node->value.size, node->dir,
                             node->created,  node->modified,   node->expires_ms };

        hash = mix(hash, words, sizeof(words));
        hash = mix(hash, node->key.data, node->key.size);
        return mix(hash, node->value.data, node->value.size);
}

/* All watchers that receive an index receive the same event. */
static void check_event(Watchers *all, uint64_t index, KvAction action, const KvNode *node,
                        const KvNode *prev, uint64_t now_ms) {
        uint64_t words[] = { index, action, now_ms }, digest = mix(0xcbf29ce484222325, words, sizeof(words));
        Received *s;

        digest = mix_node(digest, node) | 1;
        while (all->n <= index) {
                if (GROW(all->log, all->capacity, all->n + 1) < 0)
                        abort();
                all->log[all->n++] = (Received) {};
        }
        s = &all->log[index];
        if (s->digest == 0) {
                s->digest = digest;
                s->key = strndup(node->key.data, node->key.size);
        }
        if (s->digest != digest)
                world_failed(all->world, "all-watchers-receive-the-same", "index %" PRIu64 ", %s %.*s", index,
                             kv_action_name(action), (int) node->key.size, (const char *) node->key.data);
        if (!prev || all->doubt)
                return;
        digest = mix_node(digest, prev) | 1;
        s->digest_before = s->digest_before ?: digest;
        if (s->digest_before != digest)
                world_failed(all->world, "all-watchers-receive-the-same",
                             "index %" PRIu64 ", what was there before %s %.*s", index,
                             kv_action_name(action), (int) node->key.size, (const char *) node->key.data);
}

void watchers_doubt(Watchers *all, bool doubt) {
        all->doubt = doubt;
}

void watchers_said(Watchers *all, const KvResult *result) {
        if (result->status == KV_OK && result->has_node)
                check_event(all, result->index, result->action, &result->node,
                            result->has_prev ? &result->prev : NULL, result->now_ms);
}

/* Check that the watcher received all events of these indexes. */
static void judge(Watcher *w, uint64_t from, uint64_t next) {
        size_t k = 0;

        for (uint64_t index = from; index < next && index < w->all->n; index++) {
                const Received *s = &w->all->log[index];
                bool wants;

                if (s->digest == 0)
                        continue;
                wants = kv_path_is_below(kv_string(s->key), kv_string(w->key)) || streq(s->key, w->key);
                while (k < w->n && w->received[k] < index)
                        k++;
                if (wants != (k < w->n && w->received[k] == index))
                        world_failed(w->all->world, "watches-are-complete",
                                     "%s from %" PRIu64 ": index %" PRIu64 " of %s %s", w->key, from, index,
                                     s->key, wants ? "is missing" : "was not asked for");
        }
}

/* The place of the watch is lost: check the events until there as a span of their own. */
static void begin_again(Watcher *w, uint64_t next) {
        w->spans[w->n_spans - 1].next = w->next;
        if (GROW(w->spans, w->spans_capacity, w->n_spans + 1) < 0)
                abort();
        w->spans[w->n_spans++].from = w->next = next;
}

static void on_event(void *userdata, KvWatchEvent *event) {
        const KvEvent *e = &event->event;
        Watcher *w = userdata;

        if (e->index < w->next)
                world_failed(w->all->world, "watches-are-in-order", "%s wants %" PRIu64 ", received %" PRIu64,
                             w->key, w->next, e->index);
        check_event(w->all, e->index, e->action, &e->node, e->has_prev ? &e->prev : NULL, e->now_ms);
        if (GROW(w->received, w->capacity, w->n + 1) < 0)
                abort();
        w->received[w->n++] = e->index;
        w->next = e->index + 1;
        w->all->n_events++;
        world_mix(w->all->world, e->index);
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Watcher *w = userdata;

        w->watch = NULL;
        w->host = NO_HOST;
        w->all->n_cleared++;
        begin_again(w, MAX(current + 1, w->next));
}

static void open_watch(Watcher *w, KvStore *store, unsigned host) {
        static const KvWatchOps events = { .on_event = on_event, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string(w->key), .recursive = true, .since = w->next };
        uint64_t oldest;
        int r = kv_watch(store, &options, &events, w, &w->watch, &oldest);

        if (r == -ESTALE) {
                if (w->next >= oldest)
                        world_failed(w->all->world, "places-are-kept", "%s: %" PRIu64 " of %" PRIu64, w->key,
                                     w->next, oldest);
                w->all->n_cleared++;
                begin_again(w, MAX(kv_index(store) + 1, w->next));
                return;
        }
        if (r < 0)
                world_failed(w->all->world, "watches-are-taken", "%s: %d", w->key, r);
        w->all->n_moves += w->came;
        w->came = true;
        w->host = host;
}

Watchers *watchers_new(World *world, unsigned n) {
        static const char *const keys[] = { "/", "/k", "/d", "/k/0", "/k/1", "/d/0", "/k/2", "/d/1" };
        Watchers *all = NEW0(Watchers, 1);

        if (!all)
                abort();
        *all = (Watchers) { .world = world, .n_watchers = n, .watchers = NEW0(Watcher, n) };
        for (unsigned i = 0; i < n; i++) {
                Watcher *w = &all->watchers[i];

                *w = (Watcher) { .all = all, .host = NO_HOST, .next = 1 };
                if (GROW(w->spans, w->spans_capacity, 1) < 0)
                        abort();
                w->spans[w->n_spans++].from = 1;
                snprintf(w->key, sizeof(w->key), "%s", keys[i % ELEMENTS(keys)]);
        }
        return all;
}

Watchers *watchers_free(Watchers *all) {
        for (unsigned i = 0; i < all->n_watchers; i++) {
                assert(!all->watchers[i].watch);
                free(all->watchers[i].received);
                free(all->watchers[i].spans);
        }
        for (size_t i = 0; i < all->n; i++)
                free(all->log[i].key);
        free(all->log);
        free(all->watchers);
        free(all);
        return NULL;
}

void watchers_turn(Watchers *all, KvStore *store, unsigned host) {
        Watcher *w = &all->watchers[world_draw(all->world, all->n_watchers)];

        if (w->host != NO_HOST && !world_chance(all->world, 20))
                return;
        w->watch = kv_watch_close(w->watch);
        w->host = NO_HOST;
        open_watch(w, store, host);
}

void watchers_leave(Watchers *all, unsigned host) {
        for (unsigned i = 0; i < all->n_watchers; i++) {
                Watcher *w = &all->watchers[i];

                if (w->host != host)
                        continue;
                w->watch = kv_watch_close(w->watch);
                w->host = NO_HOST;
        }
}

void watchers_judge(Watchers *all, uint64_t index) {
        uint64_t n_missing = 0;

        for (unsigned i = 0; i < all->n_watchers; i++) {
                Watcher *w = &all->watchers[i];

                w->spans[w->n_spans - 1].next = w->host != NO_HOST ? MAX(w->next, index + 1) : w->next;
                for (size_t k = 0; k < w->n_spans; k++)
                        judge(w, w->spans[k].from, w->spans[k].next);
        }
        for (uint64_t k = 1; k < all->n; k++)
                n_missing += all->log[k].digest == 0;
        world_trace(all->world, "watchers", "%zu events, %" PRIu64 " without a watcher", all->n, n_missing);
}

uint64_t watchers_events(const Watchers *all) {
        return all->n_events;
}

uint64_t watchers_moves(const Watchers *all) {
        return all->n_moves;
}

uint64_t watchers_cleared(const Watchers *all) {
        return all->n_cleared;
}
