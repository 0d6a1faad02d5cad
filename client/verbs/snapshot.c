#include "client/verbs/snapshot.h"

#include "base/clock.h"

enum {
        PAGE_NODES = 1000,
        ATTEMPTS_MAX = 5,  /* to read all pages while the event window has all changes since the first one */
        FOLLOW_MS = 15000, /* until the streams report the last index: they do so each second */
        TURNS_MAX = 10000, /* of one stream between two pages */
};

/* -- Nodes -- */

void snapshot_nodes_done(SnapshotNodes *nodes) {
        SnapshotNode *n, *next;

        HASH_ITER(hh, nodes->table, n, next) {
                HASH_DEL(nodes->table, n);
                free(n);
        }
}

void snapshot_done(Snapshot *s) {
        snapshot_nodes_done(&s->keys);
        snapshot_nodes_done(&s->fleet);
        *s = (Snapshot) {};
}

SnapshotNode *snapshot_find(const SnapshotNodes *nodes, const char *key, size_t size) {
        SnapshotNode *n;

        HASH_FIND(hh, nodes->table, key, size, n);
        return n;
}

static void nodes_drop(SnapshotNodes *nodes, SnapshotNode *n) {
        HASH_DEL(nodes->table, n);
        free(n);
}

static int nodes_add(SnapshotNodes *nodes, const KvListed *node) {
        SnapshotNode *n = malloc(sizeof(*n) + node->key_size + node->value_size + 2);

        if (!n)
                return -ENOMEM;
        *n = (SnapshotNode) { .modified = node->modified,
                              .key_size = node->key_size,
                              .value_size = node->value_size,
                              .dir = node->dir,
                              .expires = node->ttl > 0 };
        n->value = n->key + node->key_size + 1;
        memcpy(n->key, node->key, node->key_size);
        n->key[node->key_size] = 0;
        if (node->value_size > 0)
                memcpy(n->value, node->value, node->value_size);
        n->value[node->value_size] = 0;
        HASH_ADD_KEYPTR(hh, nodes->table, n->key, n->key_size, n);
        if (!TABLE_ADDED_OR_FREED(n))
                return -ENOMEM;
        return 0;
}

int snapshot_apply_node(SnapshotNodes *nodes, const KvListed *node) {
        SnapshotNode *there = snapshot_find(nodes, node->key, node->key_size);

        if (there && there->modified > node->modified)
                return 0;
        if (there)
                nodes_drop(nodes, there);
        return nodes_add(nodes, node);
}

static bool is_below(const SnapshotNode *n, const char *key, size_t size) {
        return n->key_size > size && n->key[size] == '/' && memcmp(n->key, key, size) == 0;
}

/* Remove a node that was not changed at or after 'index', and what is below a directory. */
static void nodes_remove(SnapshotNodes *nodes, const KvListed *node, uint64_t index) {
        SnapshotNode *n = snapshot_find(nodes, node->key, node->key_size), *next;
        bool dir = node->dir || (n && n->dir);

        if (n && n->modified < index)
                nodes_drop(nodes, n);
        if (!dir)
                return;
        HASH_ITER(hh, nodes->table, n, next)
        if (is_below(n, node->key, node->key_size) && n->modified < index)
                nodes_drop(nodes, n);
}

/* A change creates the directories of its key without an event. */
static int nodes_add_parents(SnapshotNodes *nodes, const KvListed *node, uint64_t index) {
        for (size_t i = 1; i < node->key_size; i++) {
                KvListed dir = { .key = node->key, .key_size = i, .dir = true, .modified = index };

                if (node->key[i] != '/' || snapshot_find(nodes, node->key, i))
                        continue;
                TRY(nodes_add(nodes, &dir));
        }
        return 0;
}

static int nodes_put(SnapshotNodes *nodes, const KvListed *node, bool refresh, uint64_t index) {
        SnapshotNode *there = snapshot_find(nodes, node->key, node->key_size);
        KvListed copy = *node;

        if (there && there->modified >= index)
                return 0;
        if (refresh) { /* without its value */
                if (there) {
                        there->modified = index;
                        there->expires = node->ttl > 0;
                }
                return 0;
        }
        copy.modified = index;
        TRY(nodes_add_parents(nodes, node, index));
        return snapshot_apply_node(nodes, &copy);
}

static bool action_removes(const char *action) {
        return streq(action, "delete") || streq(action, "expire") || streq(action, "compareAndDelete");
}

int snapshot_apply_line(SnapshotNodes *nodes, const char *line, size_t size, uint64_t limit,
                        uint64_t *ret_index) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_kv_listed_ KvListed node = {};
        const char *action = NULL;
        uint64_t index = 0;
        int r;

        TRY(json_value_parse_large(line, size, &root, NULL));
        if (json_value_member(root, "error"))
                return -ESTALE;
        TRY(json_read_u64(root, "index", &index, NULL));
        r = TRY(json_read_string(root, "action", &action, NULL));
        if (action && index <= limit) {
                r = TRY(kv_listed_read(json_value_member(root, "node"), &node, NULL));
                if (action_removes(action))
                        nodes_remove(nodes, &node, index);
                else
                        r = nodes_put(nodes, &node, member_bool(root, "refresh"), index);
        }
        *ret_index = index;
        return r < 0 ? r : 0;
}

/* The order of the tree: a slash is before all other bytes of a name. */
static int by_key(const SnapshotNode *a, const SnapshotNode *b) {
        size_t size = MIN(a->key_size, b->key_size);

        for (size_t i = 0; i < size; i++) {
                int x = a->key[i] == '/' ? 0 : (unsigned char) a->key[i] + 1,
                    y = b->key[i] == '/' ? 0 : (unsigned char) b->key[i] + 1;

                if (x != y)
                        return x - y;
        }
        return (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

/* -- Reading -- */

typedef struct Feed {
        SnapshotNodes *nodes;
        const char *path; /* of the stream */
        Stream *stream;
        uint64_t index; /* changes up to here are applied */
        uint64_t limit; /* changes after this index are ignored */
} Feed;

typedef struct Reading {
        Client *client;
        Feed feeds[2];
        SnapshotNodes *nodes; /* of the pages that are being read */
        size_t n_nodes;
        Error *err;
} Reading;

static int feed_on_line(void *userdata, const char *line, size_t size) {
        Feed *f = userdata;
        uint64_t index = 0;
        int r;

        r = snapshot_apply_line(f->nodes, line, size, f->limit, &index);
        f->index = MAX(f->index, index);
        return r;
}

/* Apply the lines that have arrived; with 'ms' wait for the first one. */
static int feed_take(Feed *f, uint64_t ms, Error *err) {
        int r = 1;

        for (unsigned turn = 0; r > 0 && turn < TURNS_MAX; turn++)
                r = stream_wait(f->stream, turn == 0 ? ms : 0, err);
        if (r == -ENODATA)
                return error_set(err, -EPIPE, "fleetd has ended the stream of changes; try again");
        return r < 0 ? r : 0;
}

/* Wait until the changes up to 'index' are applied. */
static int feed_follow(Feed *f, uint64_t index, Error *err) {
        uint64_t end = clock_monotonic_ms() + FOLLOW_MS;

        while (f->index < index) {
                TRY(feed_take(f, 1000, err));
                if (f->index < index && clock_monotonic_ms() > end)
                        return error_set(err, -ETIMEDOUT,
                                         "no changes up to index %llu have arrived; try again",
                                         (unsigned long long) index);
        }
        return 0;
}

static int feed_open(Client *c, Feed *f, Error *err) {
        f->limit = UINT64_MAX;
        TRY(stream_new(c->connection, "GET", f->path, feed_on_line, f, &f->stream, err));
        return feed_follow(f, 1, err); /* the first line has the index at which the stream begins */
}

static int reading_on_node(void *userdata, const KvListed *node) {
        Reading *rd = userdata;

        if (++rd->n_nodes % PAGE_NODES == 0)
                for (size_t i = 0; i < ELEMENTS(rd->feeds); i++)
                        TRY(rd->feeds[i].stream ? feed_take(&rd->feeds[i], 0, rd->err) : 0);
        if (node->key_size <= 1)
                return 0; /* the root */
        return snapshot_apply_node(rd->nodes, node);
}

static int read_cluster(Client *c, Snapshot *s, Error *err) {
        _cleanup_json_ JsonValue *cluster = NULL;

        TRY(client_get_json(c, "/fleet/v1/cluster", &cluster, err));
        s->index = member_number(cluster, "index");
        snprintf(s->cluster_id, sizeof(s->cluster_id), "%s", member_text(cluster, "clusterId"));
        return s->index == 0 ? error_set(err, -EBADMSG, "fleetd's answer about the cluster has no index") : 0;
}

static int read_pages(Reading *rd, Snapshot *s, Error *err) {
        static const char *const prefixes[] = { "/_fleet/unit", "/_fleet/target", "/_fleet/machine" };
        int r;

        for (size_t i = 0; i < ELEMENTS(rd->feeds); i++)
                r = TRY(feed_open(rd->client, &rd->feeds[i], err));
        rd->nodes = &s->keys;
        r = TRY(kv_pages(rd->client, "/", "limit=1000", reading_on_node, rd, err));
        rd->nodes = &s->fleet;
        for (size_t i = 0; i < ELEMENTS(prefixes); i++)
                r = TRY(kv_pages(rd->client, prefixes[i], "limit=1000", reading_on_node, rd, err));
        r = read_cluster(rd->client, s, err); /* an index that no page exceeds */
        for (size_t i = 0; r == 0 && i < ELEMENTS(rd->feeds); i++) {
                rd->feeds[i].limit = s->index;
                r = feed_follow(&rd->feeds[i], s->index, err);
        }
        return r;
}

static int read_once(Client *c, Snapshot *s, Error *err) {
        Reading rd = { .client = c,
                       .err = err,
                       .feeds = { { .nodes = &s->keys, .path = "/fleet/v1/kv/changes?progress=1" },
                                  { .nodes = &s->fleet,
                                    .path = "/fleet/v1/kv/changes?progress=1&prefix=/_fleet" } } };
        int r;

        r = read_pages(&rd, s, err);
        for (size_t i = 0; i < ELEMENTS(rd.feeds); i++)
                stream_free(rd.feeds[i].stream);
        return r;
}

int snapshot_read(Client *c, Snapshot *ret, Error *err) {
        int r = -ESTALE;

        for (unsigned i = 0; i < ATTEMPTS_MAX && r == -ESTALE; i++) {
                _cleanup_snapshot_ Snapshot s = {};

                r = read_cluster(c, &s, err);
                if (r >= 0)
                        r = read_once(c, &s, err);
                if (r < 0)
                        continue;
                if (!s.fleet.table)
                        return error_set(err, -EREMOTEIO,
                                         "no machine of the cluster is visible at this endpoint, or to this "
                                         "user: use the "
                                         "socket of a host, as root");
                HASH_SRT(hh, s.keys.table, by_key);
                HASH_SRT(hh, s.fleet.table, by_key);
                *ret = TAKE_STRUCT(s);
        }
        if (r == -ESTALE)
                return error_set(err, r,
                                 "keys change faster than they are read: the event window lost changes in %d "
                                 "attempts; try again, or use fleetctl backup",
                                 ATTEMPTS_MAX);
        return r;
}

int snapshot_read_keys(Client *c, SnapshotNodes *ret, Error *err) {
        Reading rd = { .client = c, .err = err, .nodes = ret };

        return kv_pages(c, "/", "limit=1000", reading_on_node, &rd, err);
}
