#include "kvstore/remote_frames.h"

#include "base/table.h"
#include "kvstore/apply/events.h"
#include "kvstore/tree/format.h"
#include "peers/peers.h"

uint64_t remote_hash(KvBytes key, uint64_t modified) {
        return XXH3_64bits_withSeed(key.data, key.size, modified);
}

/* -- Subscriptions -- */

void remote_subscribe_write(const RemoteSubscribe *subscribe, const uint64_t *hashes, size_t n, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, subscribe->number);
        write_u8(w, subscribe->kind);
        write_blob(w, subscribe->key.data, subscribe->key.size);
        write_u64(w, subscribe->since);
        write_u64(w, subscribe->lineage);
        write_u64(w, subscribe->bound);
        for (size_t i = 0; i < n; i++)
                write_u64(w, hashes[i]);
}

int remote_subscribe_read(const void *bytes, size_t size, RemoteSubscribe *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), kind;

        *ret = (RemoteSubscribe) { .number = read_u32(&r) };
        kind = read_u8(&r);
        ret->key.data = read_blob(&r, KV_KEY_MAX, &ret->key.size);
        ret->since = read_u64(&r);
        ret->lineage = read_u64(&r);
        ret->bound = read_u64(&r);
        if (r.failed || version != REMOTE_PROTOCOL || kind >= _REMOTE_KIND_MAX ||
            (kind == REMOTE_SLICE) != (ret->key.size == 0) || r.left % sizeof(uint64_t) != 0 ||
            r.left > REMOTE_HASHES_MAX * sizeof(uint64_t) || (kind != REMOTE_SLICE && r.left > 0))
                return -EBADMSG;
        ret->kind = (RemoteKind) kind;
        ret->hashes = r;
        return 0;
}

bool remote_next_hash(RemoteSubscribe *subscribe, uint64_t *ret) {
        if (subscribe->hashes.left == 0)
                return false;
        *ret = read_u64(&subscribe->hashes);
        return true;
}

void remote_unsubscribe_write(uint32_t number, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, number);
}

int remote_unsubscribe_read(const void *bytes, size_t size, uint32_t *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);

        *ret = read_u32(&r);
        return reader_end(&r) < 0 || version != REMOTE_PROTOCOL ? -EBADMSG : 0;
}

/* -- Pages and events -- */

void remote_page_write(const RemotePage *page, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, page->number);
        write_u64(w, page->index);
        write_u64(w, page->lineage);
}

int remote_page_read(const void *bytes, size_t size, RemotePage *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);

        *ret = (RemotePage) { .number = read_u32(&r) };
        ret->index = read_u64(&r);
        ret->lineage = read_u64(&r);
        ret->items = r;
        return r.failed || version != REMOTE_PROTOCOL ? -EBADMSG : 0;
}

void remote_item_write(const RemoteItem *item, Writer *w) {
        _cleanup_writer_ Writer body = {};

        write_u8(w, item->kind);
        switch (item->kind) {
        case REMOTE_DROPPED:
                write_u64(w, item->hash);
                return;
        case REMOTE_REMOVED:
                write_blob(w, item->node.key.data, item->node.key.size);
                return;
        case REMOTE_NODE:
                tree_node_encode(&item->node, &body);
                break;
        case REMOTE_EVENT:
                write_varint(w, item->event.index);
                if (event_encode(&item->event, &body) < 0)
                        w->error = -ENOMEM;
                break;
        }
        if (body.error < 0)
                w->error = body.error;
        write_blob(w, body.bytes, body.size);
}

static int item_read_body(Reader *r, RemoteItem *ret) {
        uint64_t index = ret->kind == REMOTE_EVENT ? read_varint(r) : 0;
        const void *body;
        size_t size;
        int e;

        body = read_blob(r, PEER_FRAME_MAX, &size);
        if (r->failed)
                return -EBADMSG;
        e = ret->kind == REMOTE_EVENT ? event_decode(index, body, size, &ret->event) :
                                        tree_node_decode(body, size, &ret->node);
        return e < 0 ? -EBADMSG : 1;
}

int remote_next_item(RemotePage *page, RemoteItem *ret) {
        Reader *r = &page->items;

        if (r->left == 0)
                return 0;
        *ret = (RemoteItem) { .kind = (RemoteItemKind) read_u8(r) };
        switch (ret->kind) {
        case REMOTE_DROPPED:
                ret->hash = read_u64(r);
                return r->failed ? -EBADMSG : 1;
        case REMOTE_REMOVED:
                ret->node.key.data = read_blob(r, KV_KEY_MAX, &ret->node.key.size);
                return r->failed ? -EBADMSG : 1;
        case REMOTE_NODE:
        case REMOTE_EVENT:
                return item_read_body(r, ret);
        default:
                return -EBADMSG;
        }
}

/* -- Ends -- */

void remote_end_write(const RemoteEnd *end, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, end->number);
        write_u8(w, end->cause);
        write_u32(w, end->retry_ms);
        write_u64(w, end->oldest);
        write_u64(w, end->index);
}

int remote_end_read(const void *bytes, size_t size, RemoteEnd *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), cause;

        *ret = (RemoteEnd) { .number = read_u32(&r) };
        cause = read_u8(&r);
        ret->retry_ms = read_u32(&r);
        ret->oldest = read_u64(&r);
        ret->index = read_u64(&r);
        if (reader_end(&r) < 0 || version != REMOTE_PROTOCOL)
                return -EBADMSG;
        ret->cause = cause < _REMOTE_GONE_MAX ? (RemoteGone) cause : REMOTE_GONE_OVERFLOW;
        return 0;
}

/* -- Reads -- */

/* Zero and an empty key are flags and position of a list, which earlier builds read. */
void remote_read_write(const RemoteRead *read, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, read->number);
        write_u8(w, read->kind);
        write_u8(w, 0);
        write_blob(w, read->key.data, read->key.size);
        write_blob(w, NULL, 0);
        write_u64(w, read->bound);
}

int remote_read_read(const void *bytes, size_t size, RemoteRead *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), kind;
        size_t unused;

        *ret = (RemoteRead) { .number = read_u32(&r) };
        kind = read_u8(&r);
        ret->kind = (RemoteReadKind) kind;
        (void) read_u8(&r);
        ret->key.data = read_blob(&r, KV_KEY_MAX, &ret->key.size);
        (void) read_blob(&r, 0, &unused);
        ret->bound = read_u64(&r);
        return reader_end(&r) < 0 || version != REMOTE_PROTOCOL || kind >= _REMOTE_READ_MAX ||
                               (kind == REMOTE_SYNC) != (ret->key.size == 0) ?
                       -EBADMSG :
                       0;
}

enum { FOUND_LAST = 1, FOUND_NODE = 2, FOUND_FILE = 4 }; /* flags */

void remote_found_write(const RemoteFound *found, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u32(w, found->number);
        write_u8(w, found->status);
        write_u32(w, (uint32_t) -found->error);
        write_u64(w, found->index);
        write_u8(w, FOUND_LAST | (found->has_node ? FOUND_NODE : 0) | (found->is_file ? FOUND_FILE : 0));
        write_blob(w, found->missing.data, found->missing.size);
}

int remote_found_read(const void *bytes, size_t size, RemoteFound *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), status, flags;
        uint32_t error;

        *ret = (RemoteFound) { .number = read_u32(&r) };
        status = read_u8(&r);
        error = read_u32(&r);
        ret->status = (KvStatus) status;
        ret->error = -(int) MIN(error, (uint32_t) 4095);
        ret->index = read_u64(&r);
        flags = read_u8(&r);
        ret->has_node = flags & FOUND_NODE;
        ret->is_file = flags & FOUND_FILE;
        ret->missing.data = read_blob(&r, KV_KEY_MAX, &ret->missing.size);
        ret->items = r;
        return r.failed || version != REMOTE_PROTOCOL || status >= _KV_STATUS_MAX ? -EBADMSG : 0;
}

int remote_next_node(RemoteFound *found, KvNode *ret) {
        RemotePage page = { .items = found->items };
        RemoteItem item;
        int r;

        r = remote_next_item(&page, &item);
        found->items = page.items;
        if (r > 0 && item.kind != REMOTE_NODE)
                return -EBADMSG;
        if (r > 0)
                *ret = item.node;
        return r;
}

/* -- Answers to heartbeats -- */

enum { CURRENT_STOPS = 1, CURRENT_RARE = 2 }; /* flags */

void remote_current_write(const RemoteCurrent *current, Writer *w) {
        write_u8(w, REMOTE_PROTOCOL);
        write_u8(w, (current->stops ? CURRENT_STOPS : 0) | (current->rare ? CURRENT_RARE : 0));
        write_u64(w, current->cluster_id);
        write_u64(w, current->lineage);
        write_u64(w, current->index);
        write_u64(w, current->events);
        write_u64(w, current->raft_index);
        write_u64(w, current->commit);
        write_u64(w, current->term);
        write_u64(w, current->leader_id);
        write_string(w, current->leader);
        write_u64(w, current->stale_ms);
        write_u64(w, current->cluster_ms);
        write_u32(w, current->level);
        write_varint(w, current->n_members);
        for (size_t i = 0; i < current->n_members; i++) {
                write_u64(w, current->members[i].raft_id);
                write_u8(w, current->members[i].standby);
        }
}

int remote_current_read(const void *bytes, size_t size, RemoteCurrent *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), flags = read_u8(&r);
        _cleanup_free_ char *leader = NULL;
        uint64_t n;

        *ret = (RemoteCurrent) { .stops = flags & CURRENT_STOPS, .rare = flags & CURRENT_RARE };
        ret->cluster_id = read_u64(&r);
        ret->lineage = read_u64(&r);
        ret->index = read_u64(&r);
        ret->events = read_u64(&r);
        ret->raft_index = read_u64(&r);
        ret->commit = read_u64(&r);
        ret->term = read_u64(&r);
        ret->leader_id = read_u64(&r);
        leader = read_string(&r, MACHINE_ID_SIZE - 1);
        ret->stale_ms = read_u64(&r);
        ret->cluster_ms = read_u64(&r);
        ret->level = read_u32(&r);
        n = read_varint(&r);
        for (; ret->n_members < MIN(n, (uint64_t) REMOTE_MEMBERS_MAX); ret->n_members++) {
                ret->members[ret->n_members].raft_id = read_u64(&r);
                ret->members[ret->n_members].standby = read_u8(&r);
        }
        if (n > REMOTE_MEMBERS_MAX || reader_end(&r) < 0 || version != REMOTE_PROTOCOL)
                return -EBADMSG;
        memcpy(ret->leader, leader, strlen(leader) + 1);
        return 0;
}
