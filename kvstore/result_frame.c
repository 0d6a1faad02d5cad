#include "kvstore/result_frame.h"

enum {
        HAS_NODE = 1 << 0,
        HAS_PREV = 1 << 1,
        HAS_FOUND = 1 << 2,
        IS_REFRESHED = 1 << 3,
        IS_INTERNAL = 1 << 4,
        IS_AGAIN = 1 << 5,
        IS_PREV_CUT = 1 << 6,
        IS_DIR = 1, /* of a node */
};

static void node_write(const KvNode *node, Writer *w) {
        write_u8(w, node->dir ? IS_DIR : 0);
        write_blob(w, node->key.data, node->key.size);
        write_blob(w, node->value.data, node->value.size);
        write_varint(w, node->created);
        write_varint(w, node->modified);
        write_varint(w, node->expires_ms);
}

static void node_read(Reader *r, KvNode *ret) {
        ret->dir = read_u8(r) & IS_DIR;
        ret->key.data = read_blob(r, KV_KEY_MAX, &ret->key.size);
        ret->value.data = read_blob(r, KV_COMMAND_MAX, &ret->value.size);
        ret->created = read_varint(r);
        ret->modified = read_varint(r);
        ret->expires_ms = read_varint(r);
}

static void written_write(const KvWritten *written, Writer *w) {
        write_u8(w, written->action);
        write_u8(w, (written->has_prev ? HAS_PREV : 0) | (written->prev_cut ? IS_PREV_CUT : 0) |
                            (written->refreshed ? IS_REFRESHED : 0));
        node_write(&written->node, w);
        if (written->has_prev)
                node_write(&written->prev, w);
}

static void written_read(Reader *r, KvWritten *ret) {
        uint8_t action = read_u8(r), flags = read_u8(r);

        *ret = (KvWritten) { .action = (KvAction) action,
                             .has_prev = flags & HAS_PREV,
                             .prev_cut = flags & IS_PREV_CUT,
                             .refreshed = flags & IS_REFRESHED };
        r->failed |= action >= _KV_ACTION_MAX;
        node_read(r, &ret->node);
        if (ret->has_prev)
                node_read(r, &ret->prev);
}

void result_frame_write(const KvResult *result, Writer *w) {
        write_u8(w, result->status);
        write_u8(w, result->action);
        write_u8(w, (result->has_node ? HAS_NODE : 0) | (result->has_prev ? HAS_PREV : 0) |
                            (result->has_found ? HAS_FOUND : 0) | (result->refreshed ? IS_REFRESHED : 0) |
                            (result->internal ? IS_INTERNAL : 0) | (result->again ? IS_AGAIN : 0));
        write_u64(w, result->index);
        write_u64(w, result->now_ms);
        write_u64(w, result->raft_index);
        write_u64(w, result->term);
        write_u64(w, result->charged);
        write_varint(w, result->refused_at);
        write_blob(w, result->cause.data, result->cause.size);
        if (result->has_node)
                node_write(&result->node, w);
        if (result->has_prev)
                node_write(&result->prev, w);
        if (result->has_found)
                node_write(&result->found, w);
        write_varint(w, result->n_written);
        for (size_t i = 0; i < result->n_written; i++)
                written_write(&result->written[i], w);
}

int result_frame_read(Reader *r, Arena *arena, KvResult *ret) {
        uint8_t status = read_u8(r), action = read_u8(r), flags = read_u8(r);
        uint64_t n;

        *ret = (KvResult) { .status = (KvStatus) status,
                            .action = (KvAction) action,
                            .has_node = flags & HAS_NODE,
                            .has_prev = flags & HAS_PREV,
                            .has_found = flags & HAS_FOUND,
                            .refreshed = flags & IS_REFRESHED,
                            .internal = flags & IS_INTERNAL,
                            .again = flags & IS_AGAIN,
                            .index = read_u64(r) };
        ret->now_ms = read_u64(r);
        ret->raft_index = read_u64(r);
        ret->term = read_u64(r);
        ret->charged = read_u64(r);
        ret->refused_at = read_varint(r);
        ret->cause.data = read_blob(r, KV_CAUSE_MAX, &ret->cause.size);
        if (ret->has_node)
                node_read(r, &ret->node);
        if (ret->has_prev)
                node_read(r, &ret->prev);
        if (ret->has_found)
                node_read(r, &ret->found);
        n = read_varint(r);
        if (r->failed || status >= _KV_STATUS_MAX || action >= _KV_ACTION_MAX || n > KV_TXN_ITEMS_MAX)
                return -EBADMSG;
        if (n > 0) {
                ret->written = arena_alloc(arena, n * sizeof(KvWritten));
                if (!ret->written)
                        return -ENOMEM;
        }
        for (; ret->n_written < n && !r->failed; ret->n_written++)
                written_read(r, &ret->written[ret->n_written]);
        return r->failed ? -EBADMSG : 0;
}
