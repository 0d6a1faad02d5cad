#include <time.h>

#include "fleetd/api/keys_v2_answer.h"
#include "fleetd/api/keys_v2_internal.h"

/* -- Errors, by etcd's table -- */

static const struct {
        unsigned code, status;
        const char *message;
} errors[] = {
        { 100, 404, "Key not found" },
        { 101, 412, "Compare failed" },
        { 102, 403, "Not a file" },
        { 104, 400, "Not a directory" },
        { 105, 412, "Key already exists" },
        { 107, 400, "Root is read only" },
        { 108, 403, "Directory not empty" },
        { 110, 401, "The request requires user authentication" },
        { 201, 400, "PrevValue is Required in POST form" },
        { 202, 400, "The given TTL in POST form is not a number" },
        { 203, 400, "The given index in POST form is not a number" },
        { 209, 400, "Invalid field" },
        { 210, 400, "Invalid POST form" },
        { 211, 400, "Value provided on refresh" },
        { 212, 400, "A TTL must be provided on refresh" },
        { 300, 500, "Raft Internal Error" },
        { 400, 400, "watcher is cleared due to etcd recovery" },
        { 401, 400, "The event in requested index is outdated and cleared" },
};

static const unsigned status_codes[_KV_STATUS_MAX] = {
        [KV_NOT_FOUND] = 100, [KV_COMPARE_FAILED] = 101, [KV_NOT_FILE] = 102,      [KV_NOT_DIR] = 104,
        [KV_EXISTS] = 105,    [KV_ROOT_READ_ONLY] = 107, [KV_DIR_NOT_EMPTY] = 108, [KV_FORBIDDEN] = 110,
        [KV_TOO_LARGE] = 210, [KV_TERM_CHANGED] = 300,   [KV_INVALID] = 210,       [KV_NO_LEADER] = 300,
        [KV_BUSY] = 300,      [KV_UNKNOWN] = 300,
};

unsigned keys_code(KvStatus status) {
        return status_codes[status];
}

unsigned keys_v2_write_error(Text *t, unsigned code, const void *cause, size_t cause_size, uint64_t index) {
        size_t i = 0;

        while (i + 1 < ELEMENTS(errors) && errors[i].code != code)
                i++;
        text_printf(t, "{\"errorCode\":%u,\"message\":\"%s\"", code, errors[i].message);
        if (cause_size > 0) {
                text_append(t, ",\"cause\":\"");
                text_append_json(t, cause, cause_size);
                text_append_char(t, '"');
        }
        text_printf(t, ",\"index\":%llu}\n", (unsigned long long) index);
        return errors[i].status;
}

/* -- Nodes -- */

static void write_time(Text *t, uint64_t ms) {
        time_t seconds = ms / 1000;
        struct tm tm;
        char date[32];
        unsigned fraction = ms % 1000;
        int n_digits = 3;

        gmtime_r(&seconds, &tm);
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
        text_append(t, date);
        for (; fraction > 0 && fraction % 10 == 0; n_digits--)
                fraction /= 10;
        if (fraction > 0)
                text_printf(t, ".%0*u", n_digits, fraction);
        text_append_char(t, 'Z');
}

enum { NODE_ROOM = 160 }; /* bytes that an object takes in addition to key and value */

size_t keys_node_room(const KvNode *node) {
        return node->key.size + node->value.size + NODE_ROOM;
}

void keys_node_open(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms) {
        bool root = node->key.size <= 1;
        const char *comma = "";

        (void) text_reserve(t, keys_node_room(node));
        text_append_char(t, '{');
        if (!root) {
                text_append(t, "\"key\":\"");
                text_append_json(t, node->key.data, node->key.size);
                text_append_char(t, '"');
                comma = ",";
        }
        if (node->dir) {
                text_append(t, comma);
                text_append(t, "\"dir\":true");
        } else if (with_value) {
                text_append(t, comma);
                text_append(t, "\"value\":\"");
                text_append_json(t, node->value.data, node->value.size);
                text_append_char(t, '"');
        }
        if (node->expires_ms > 0) {
                text_append(t, ",\"expiration\":\"");
                write_time(t, wall_ms + node->expires_ms - now_ms);
                text_append_char(t, '"');
                if (node->expires_ms > now_ms)
                        text_printf(t, ",\"ttl\":%llu",
                                    (unsigned long long) (node->expires_ms - now_ms + 999) / 1000);
        }
}

void keys_node_close(Text *t, const KvNode *node) {
        if (node->key.size > 1) {
                text_append(t, ",\"modifiedIndex\":");
                text_append_u64(t, node->modified);
                text_append(t, ",\"createdIndex\":");
                text_append_u64(t, node->created);
        }
        text_append_char(t, '}');
}

void keys_node_write(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms) {
        keys_node_open(t, node, with_value, now_ms, wall_ms);
        keys_node_close(t, node);
}

void keys_v2_write_event(Text *t, const KvEvent *event, uint64_t now_ms, uint64_t wall_ms) {
        (void) text_reserve(t, keys_node_room(&event->node) +
                                       (event->has_prev ? keys_node_room(&event->prev) : 0) + NODE_ROOM);
        text_append(t, "{\"action\":\"");
        text_append(t, kv_action_name(event->action));
        text_append(t, "\",\"node\":");
        keys_node_write(t, &event->node, !action_removes(event->action), now_ms, wall_ms);
        if (event->has_prev) {
                text_append(t, ",\"prevNode\":");
                keys_node_write(t, &event->prev, true, now_ms, wall_ms);
        }
        text_append(t, "}\n");
}
