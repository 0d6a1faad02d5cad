#include "kvstore/apply/events.h"

enum {
        EVENT_VERSION = 1,
        FLAG_DIR = 1 << 0,
        FLAG_REFRESH = 1 << 1,
        FLAG_PREV = 1 << 2,
        FLAG_PREV_DIR = 1 << 3,
        FLAGS_KNOWN = (1 << 4) - 1,
};

uint64_t event_weight(const KvEvent *event) {
        return APPLY_NODE_WEIGHT + event->node.key.size + event->node.value.size +
               (event->has_prev ? event->prev.value.size : 0);
}

static void write_node(Writer *w, const KvNode *node) {
        write_u64(w, node->created);
        write_u64(w, node->modified);
        write_u64(w, node->expires_ms);
        write_blob(w, node->value.data, node->value.size);
}

static void read_node(Reader *r, KvBytes key, bool dir, KvNode *ret) {
        *ret = (KvNode) { .key = key, .dir = dir };
        ret->created = read_u64(r);
        ret->modified = read_u64(r);
        ret->expires_ms = read_u64(r);
        ret->value.data = read_blob(r, KV_VALUE_MAX, &ret->value.size);
}

int event_encode(const KvEvent *event, Writer *w) {
        write_u8(w, EVENT_VERSION);
        write_u8(w, event->action);
        write_u8(w, (event->node.dir ? FLAG_DIR : 0) | (event->refresh ? FLAG_REFRESH : 0) |
                            (event->has_prev ? FLAG_PREV : 0) |
                            (event->has_prev && event->prev.dir ? FLAG_PREV_DIR : 0));
        write_u64(w, event->now_ms);
        write_blob(w, event->node.key.data, event->node.key.size);
        write_node(w, &event->node);
        if (event->has_prev)
                write_node(w, &event->prev);
        return w->error;
}

int event_decode(uint64_t index, const void *bytes, size_t size, KvEvent *ret) {
        KvEvent event = { .index = index };
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), flags;
        KvBytes key;

        if (version > EVENT_VERSION)
                return -ENOTSUP;
        event.action = read_u8(&r);
        flags = read_u8(&r);
        event.refresh = flags & FLAG_REFRESH;
        event.has_prev = flags & FLAG_PREV;
        event.now_ms = read_u64(&r);
        key.data = read_blob(&r, KV_KEY_MAX, &key.size);
        read_node(&r, key, flags & FLAG_DIR, &event.node);
        if (event.has_prev)
                read_node(&r, key, flags & FLAG_PREV_DIR, &event.prev);
        if (version == 0 || (flags & ~FLAGS_KNOWN) || ((flags & FLAG_PREV_DIR) && !event.has_prev) ||
            (unsigned) event.action >= _KV_ACTION_MAX || key.size < 2 || reader_end(&r) < 0)
                return -EBADMSG;
        *ret = event;
        return 0;
}

int events_add(TreeTxn *txn, const KvEvent *event) {
        _cleanup_writer_ Writer w = {};
        bool ours = kv_path_is_ours(event->node.key);

        TRY(event_encode(event, &w));
        return tree_add_event(txn, ours ? TREE_WINDOW_OURS : TREE_WINDOW_USERS, event->index,
                              (KvBytes) { w.bytes, w.size }, event_weight(event));
}
