/* Arbitrary bytes as a node, the meta record, an event or a row of the history. Decoded records are written
 * as the same bytes, or as others that decode to the same. The first byte selects the record. */

#include "kvstore/apply/events.h"
#include "kvstore/apply/history.h"
#include "kvstore/tree/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void node(const uint8_t *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        KvNode n, again;

        if (tree_node_decode(bytes, size, &n) < 0)
                return;
        tree_node_encode(&n, &w);
        assert(w.error == 0);
        assert(tree_node_decode(w.bytes, w.size, &again) == 0);
        assert(kv_bytes_equal(n.key, again.key) && kv_bytes_equal(n.value, again.value));
        assert(n.dir == again.dir && n.created == again.created && n.modified == again.modified &&
               n.expires_ms == again.expires_ms);
        assert(tree_node_hash(&n) == tree_node_hash(&again));
}

static void meta(const uint8_t *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        TreeMeta m, again;
        bool summed;

        if (tree_meta_decode(bytes, size, &m, &summed) < 0)
                return;
        tree_meta_encode(&m, &w);
        assert(w.error == 0 && tree_meta_decode(w.bytes, w.size, &again, &summed) == 0);
        assert(m.applied == again.applied && m.index == again.index && m.n_nodes == again.n_nodes &&
               m.lineage == again.lineage);
}

static void event(const uint8_t *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        KvEvent e, again;

        if (event_decode(9, bytes, size, &e) < 0)
                return;
        assert(event_encode(&e, &w) == 0 && event_decode(9, w.bytes, w.size, &again) == 0);
        assert(e.action == again.action && kv_bytes_equal(e.node.key, again.node.key) &&
               kv_bytes_equal(e.node.value, again.node.value));
        assert(e.has_prev == again.has_prev && event_weight(&e) == event_weight(&again));
}

static void row(const uint8_t *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};
        KvHistoryRow h;

        if (history_row_decode(9, (KvBytes) { bytes, size }, &h) < 0)
                return;
        assert(h.index == 9 && h.last_ms >= h.first_ms && h.count > 0 && h.body.size > 0);
        history_row_encode(&h, &w);
        assert(w.error == 0 && w.size == size && memcmp(w.bytes, bytes, size) == 0);
}

static void key(const uint8_t *bytes, size_t size) {
        uint8_t made[TREE_KEY_LONG];
        KvBytes path = { bytes, size };
        TreeRange range;
        size_t n;

        if (size == 0 || size > KV_KEY_MAX || bytes[0] != '/' || (size > 1 && bytes[size - 1] == '/') ||
            memmem(bytes, size, "//", 2))
                return;
        n = tree_key(path, made);
        assert(n <= TREE_KEY_LONG);
        range = tree_range_below((KvBytes) { "/", 1 });
        assert(size == 1 ? n == 0 : tree_range_holds(&range, made, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static void (*const kinds[])(const uint8_t *bytes, size_t size) = { node, meta, event, key, row };

        if (size > 0)
                kinds[bytes[0] % ELEMENTS(kinds)](bytes + 1, size - 1);
        return 0;
}
