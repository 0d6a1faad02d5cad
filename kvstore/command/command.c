#include "kvstore/command/command.h"

/* The format of a command:
 *
 *     version u8, op u8, flags u16
 *     [ttl_ms u64] [prev_index u64] [term u64]     present according to the flags
 *     expire:        limit u64 [ttl_ms and prev_index: expiry and created index of the only node]
 *     transaction:   n varint, n checks: kind u8, key, [index u64 of KV_CHECK_MODIFIED],
 *                    [value of KV_CHECK_VALUE];
 *                    n varint, n writes: each from 'op' on, without 'internal' and 'term'
 *     other:         key, value, [prev_value], [note: wall_ms u64, body]
 *
 * Keys, values and bodies are a varint size and bytes. A field that is present is not 0 (except a ttl and
 * wall_ms; a body is not empty), and unknown flags are rejected, so that each command has one encoding. */

/* Batches of the first feature level have version 2, as before feature levels existed; each further level has
 * the next version. */
enum {
        COMMAND_VERSION = 1,
        BATCH_VERSION_FIRST = 2,
        BATCH_VERSION_MAX = BATCH_VERSION_FIRST + KV_LEVEL_MAX - KV_LEVEL_FIRST
};

enum {
        FLAG_DIR = 1 << 0,
        FLAG_RECURSIVE = 1 << 1,
        FLAG_REFRESH = 1 << 2,
        FLAG_TTL = 1 << 3,
        FLAG_PREV_INDEX = 1 << 4,
        FLAG_PREV_VALUE = 1 << 5,
        FLAG_INTERNAL = 1 << 6,
        FLAG_TERM = 1 << 7,
        FLAG_NOTE = 1 << 8, /* from KV_LEVEL_HISTORY on */

        FLAGS_OF_A_KEY = FLAG_DIR | FLAG_RECURSIVE | FLAG_REFRESH | FLAG_TTL | FLAG_PREV_INDEX |
                         FLAG_PREV_VALUE | FLAG_NOTE,
        FLAGS_OF_AN_EXPIRY = FLAG_TTL | FLAG_PREV_INDEX,
        FLAGS_OF_ALL = FLAG_INTERNAL | FLAG_TERM,
};

static const char *const status_names[_KV_STATUS_MAX] = {
        [KV_OK] = "ok",
        [KV_NOT_FOUND] = "key not found",
        [KV_COMPARE_FAILED] = "compare failed",
        [KV_NOT_FILE] = "not a file",
        [KV_NOT_DIR] = "not a directory",
        [KV_EXISTS] = "key already exists",
        [KV_ROOT_READ_ONLY] = "root is read only",
        [KV_DIR_NOT_EMPTY] = "directory not empty",
        [KV_FORBIDDEN] = "not permitted",
        [KV_TOO_LARGE] = "too large",
        [KV_INVALID] = "not a valid command",
        [KV_TERM_CHANGED] = "term has changed",
        [KV_NO_LEADER] = "no leader",
        [KV_BUSY] = "busy",
        [KV_UNKNOWN] = "outcome unknown",
        [KV_LATE] = "too late",
        [KV_DEFERRED] = "deferred",
};

const char *kv_status_name(KvStatus s) {
        return (unsigned) s < _KV_STATUS_MAX ? status_names[s] : "unknown status";
}

static const char *const action_names[_KV_ACTION_MAX] = {
        [KV_ACTION_GET] = "get",
        [KV_ACTION_SET] = "set",
        [KV_ACTION_CREATE] = "create",
        [KV_ACTION_UPDATE] = "update",
        [KV_ACTION_CAS] = "compareAndSwap",
        [KV_ACTION_CAD] = "compareAndDelete",
        [KV_ACTION_DELETE] = "delete",
        [KV_ACTION_EXPIRE] = "expire",
};

const char *kv_action_name(KvAction a) {
        return (unsigned) a < _KV_ACTION_MAX ? action_names[a] : "unknown action";
}

void kv_bytes_place(char **at, KvBytes *bytes) {
        if (bytes->size > 0)
                memcpy(*at, bytes->data, bytes->size);
        bytes->data = *at;
        *at += bytes->size;
}

/* -- Paths -- */

bool kv_bytes_equal(KvBytes a, KvBytes b) {
        return a.size == b.size && (a.size == 0 || a.data == b.data || memcmp(a.data, b.data, a.size) == 0);
}

int kv_path_clean(const void *path, size_t size, char **ret, size_t *ret_size) {
        const char *p = path, *end = p + size;
        _cleanup_free_ char *clean = NULL;
        size_t n = 0, depth = 0;

        clean = malloc(size + 2);
        if (!clean)
                return -ENOMEM;

        while (p < end) {
                const char *slash = memchr(p, '/', end - p) ?: end;
                size_t segment = slash - p;

                if (segment == 2 && p[0] == '.' && p[1] == '.') {
                        while (n > 0 && clean[--n] != '/')
                                ;
                        depth -= depth > 0;
                } else if (segment > 0 && !(segment == 1 && p[0] == '.')) {
                        clean[n++] = '/';
                        memcpy(clean + n, p, segment);
                        n += segment;
                        depth++;
                }
                p = slash + 1;
        }
        if (n > KV_KEY_MAX || depth > KV_DEPTH_MAX)
                return -ENAMETOOLONG;

        if (n == 0)
                clean[n++] = '/';
        clean[n] = 0;
        *ret = TAKE_PTR(clean);
        *ret_size = n;
        return 0;
}

bool kv_path_is_below(KvBytes path, KvBytes ancestor) {
        const char *p = path.data;

        if (ancestor.size == 1)
                return path.size > 1;
        return path.size > ancestor.size && p[ancestor.size] == '/' &&
               memcmp(p, ancestor.data, ancestor.size) == 0;
}

bool kv_path_is_ours(KvBytes path) {
        static const KvBytes ours = { "/_fleet", 7 };

        return kv_bytes_equal(path, ours) || kv_path_is_below(path, ours);
}

bool kv_path_hidden_from(KvBytes path, KvBytes base) {
        const char *p = path.data;

        if (!kv_path_is_below(path, base))
                return false;
        for (size_t i = base.size == 1 ? 0 : base.size; i + 1 < path.size; i++)
                if (p[i] == '/' && p[i + 1] == '_')
                        return true;
        return false;
}

static bool command_has_limit(KvOp op) {
        return op == KV_EXPIRE || op == KV_RAISE;
}

static bool command_has_key(KvOp op) {
        return op != KV_TXN && !command_has_limit(op);
}

/* Return whether a transaction may contain this write. */
static bool command_is_write(KvOp op) {
        return op == KV_SET || op == KV_CREATE || op == KV_UPDATE || op == KV_DELETE;
}

/* 'inside': the command is a write of a transaction. */
static unsigned command_flags_allowed(KvOp op, bool inside) {
        unsigned flags = inside ? 0 : FLAGS_OF_ALL;

        if (op == KV_EXPIRE)
                return flags | FLAGS_OF_AN_EXPIRY;
        return command_has_key(op) ? flags | FLAGS_OF_A_KEY : flags;
}

/* -- Encoding -- */

static void write_bytes(Writer *w, KvBytes bytes) {
        write_blob(w, bytes.data, bytes.size);
}

static unsigned command_flags(const KvCommand *cmd, unsigned level, bool inside) {
        unsigned flags = (cmd->dir ? FLAG_DIR : 0) | (cmd->recursive ? FLAG_RECURSIVE : 0) |
                         (cmd->refresh ? FLAG_REFRESH : 0) | (cmd->has_ttl ? FLAG_TTL : 0) |
                         (cmd->prev_index > 0 ? FLAG_PREV_INDEX : 0) |
                         (cmd->has_prev_value ? FLAG_PREV_VALUE : 0) | (cmd->internal ? FLAG_INTERNAL : 0) |
                         (cmd->term > 0 ? FLAG_TERM : 0) | (cmd->note.body.size > 0 ? FLAG_NOTE : 0);

        if (level < KV_LEVEL_HISTORY)
                flags &= ~FLAG_NOTE;

        return flags & command_flags_allowed(cmd->op, inside);
}

static void write_command(Writer *w, const KvCommand *cmd, unsigned level, bool inside) {
        unsigned flags = command_flags(cmd, level, inside);

        write_u8(w, cmd->op);
        write_u16(w, flags);
        if (flags & FLAG_TTL)
                write_u64(w, cmd->ttl_ms);
        if (flags & FLAG_PREV_INDEX)
                write_u64(w, cmd->prev_index);
        if (flags & FLAG_TERM)
                write_u64(w, cmd->term);

        if (command_has_limit(cmd->op)) {
                write_u64(w, cmd->limit);
        } else if (cmd->op == KV_TXN) {
                write_varint(w, cmd->n_checks);
                for (const KvCheck *c = cmd->checks; c < cmd->checks + cmd->n_checks; c++) {
                        write_u8(w, c->kind);
                        write_bytes(w, c->key);
                        if (c->kind == KV_CHECK_MODIFIED)
                                write_u64(w, c->index);
                        else if (c->kind == KV_CHECK_VALUE)
                                write_bytes(w, c->value);
                }
                write_varint(w, cmd->n_writes);
                for (const KvCommand *c = cmd->writes; c < cmd->writes + cmd->n_writes; c++)
                        write_command(w, c, level, true);
        } else {
                write_bytes(w, cmd->key);
                write_bytes(w, cmd->value);
                if (flags & FLAG_PREV_VALUE)
                        write_bytes(w, cmd->prev_value);
                if (flags & FLAG_NOTE) {
                        write_u64(w, cmd->note.wall_ms);
                        write_bytes(w, cmd->note.body);
                }
        }
}

int kv_command_encode(const KvCommand *cmd, unsigned level, Writer *w) {
        write_u8(w, COMMAND_VERSION);
        write_command(w, cmd, level, false);
        return w->error;
}

/* -- Decoding -- */

static KvBytes read_bytes(Reader *r, size_t max) {
        KvBytes bytes = {};

        bytes.data = read_blob(r, max, &bytes.size);
        return bytes;
}

static uint64_t read_if_present(Reader *r, bool present) {
        uint64_t v = present ? read_u64(r) : 0;

        if (present && v == 0)
                r->failed = true;
        return v;
}

static KvNote read_note(Reader *r) {
        KvNote note = { .wall_ms = read_u64(r) };

        note.body = read_bytes(r, KV_NOTE_MAX);
        if (note.body.size == 0)
                r->failed = true;
        return note;
}

static int read_command(Reader *r, KvCommand *ret, const KvCommand *outer);

/* Read the checks and writes into one block. A check has at least two bytes and a write at least five, so the
 * size of the input bounds the allocation. */
static int read_transaction(Reader *r, KvCommand *cmd, void **ret_arena) {
        _cleanup_free_ char *arena = NULL;
        size_t size_checks;
        uint64_t n;
        void *grown;

        n = read_varint(r);
        if (r->failed || n > KV_TXN_ITEMS_MAX || n > r->left / 2)
                return -EBADMSG;
        size_checks = n * sizeof(KvCheck);
        arena = calloc(1, size_checks + 1);
        if (!arena)
                return -ENOMEM;
        cmd->n_checks = n;
        for (KvCheck *c = (KvCheck *) arena; c < (KvCheck *) arena + n; c++) {
                c->kind = read_u8(r);
                if (r->failed || c->kind >= _KV_CHECK_MAX)
                        return -EBADMSG;
                c->key = read_bytes(r, KV_KEY_MAX);
                if (c->kind == KV_CHECK_MODIFIED)
                        c->index = read_u64(r);
                else if (c->kind == KV_CHECK_VALUE)
                        c->value = read_bytes(r, KV_VALUE_MAX);
        }

        n = read_varint(r);
        if (r->failed || n > KV_TXN_ITEMS_MAX - cmd->n_checks || n > r->left / 5)
                return -EBADMSG;
        grown = realloc(arena, size_checks + n * sizeof(KvCommand) + 1);
        if (!grown)
                return -ENOMEM;
        arena = grown;
        cmd->n_writes = n;
        cmd->checks = (KvCheck *) arena;
        cmd->writes = (KvCommand *) (arena + size_checks);
        for (KvCommand *c = cmd->writes; c < cmd->writes + n; c++)
                TRY(read_command(r, c, cmd));
        *ret_arena = TAKE_PTR(arena);
        return 0;
}

/* Read a command without the items of a transaction. */
static int read_command(Reader *r, KvCommand *ret, const KvCommand *outer) {
        KvCommand cmd = { .op = read_u8(r) };
        unsigned flags = read_u16(r);

        if (!r->failed && !outer && (unsigned) cmd.op >= _KV_OP_MAX)
                return -ENOTSUP; /* from a newer version */
        if (r->failed || (outer && ((unsigned) cmd.op >= _KV_OP_MAX || !command_is_write(cmd.op))))
                return -EBADMSG;
        if (flags & ~command_flags_allowed(cmd.op, outer))
                return -EBADMSG;

        cmd.dir = flags & FLAG_DIR;
        cmd.recursive = flags & FLAG_RECURSIVE;
        cmd.refresh = flags & FLAG_REFRESH;
        cmd.has_ttl = flags & FLAG_TTL;
        cmd.has_prev_value = flags & FLAG_PREV_VALUE;
        cmd.internal = outer ? outer->internal : flags & FLAG_INTERNAL;
        if (flags & FLAG_TTL)
                cmd.ttl_ms = read_u64(r);
        cmd.prev_index = read_if_present(r, flags & FLAG_PREV_INDEX);
        cmd.term = read_if_present(r, flags & FLAG_TERM);

        if (command_has_limit(cmd.op)) {
                cmd.limit = read_u64(r);
        } else if (cmd.op != KV_TXN) {
                cmd.key = read_bytes(r, KV_KEY_MAX);
                cmd.value = read_bytes(r, KV_VALUE_MAX);
                if (flags & FLAG_PREV_VALUE)
                        cmd.prev_value = read_bytes(r, KV_VALUE_MAX);
                if (flags & FLAG_NOTE)
                        cmd.note = read_note(r);
        }
        if (r->failed)
                return -EBADMSG;
        *ret = cmd;
        return 0;
}

int kv_command_decode(const void *bytes, size_t size, KvCommand *ret, void **ret_arena) {
        _cleanup_free_ void *arena = NULL;
        Reader r = reader_over(bytes, size);
        KvCommand cmd;
        uint8_t version;

        if (size > KV_COMMAND_MAX)
                return -EBADMSG;
        version = read_u8(&r);
        if (r.failed || version == 0)
                return -EBADMSG;
        if (version > COMMAND_VERSION)
                return -ENOTSUP;

        TRY(read_command(&r, &cmd, NULL));
        if (cmd.op == KV_TXN)
                TRY(read_transaction(&r, &cmd, &arena));
        TRY(reader_end(&r));

        *ret = cmd;
        *ret_arena = TAKE_PTR(arena);
        return 0;
}

/* -- Checking -- */

#define KEY_TOO_LONG "a key is at most %d bytes"

static int check_path(KvBytes path, bool internal, Error *err) {
        const char *p = path.data, *end = p + path.size;
        size_t depth = 0;

        if (path.size > KV_KEY_MAX)
                return error_set(err, -E2BIG, KEY_TOO_LONG, KV_KEY_MAX);
        if (path.size == 0 || *p != '/')
                return error_set(err, -EINVAL, "a key begins with '/'");
        if (path.size == 1)
                return 0;

        while (p < end) {
                const char *slash = memchr(p + 1, '/', end - p - 1) ?: end;

                if (slash == p + 1)
                        return error_set(err, -EINVAL, "a key has no empty segment");
                if (++depth > KV_DEPTH_MAX)
                        return error_set(err, -E2BIG, "a key has at most %d segments", KV_DEPTH_MAX);
                p = slash;
        }
        if (!internal && kv_path_is_ours(path))
                return error_set(err, -EPERM, "/_fleet is written by fleet alone");
        return 0;
}

static int check_value(KvBytes value, Error *err) {
        if (value.size > KV_VALUE_MAX)
                return error_set(err, -E2BIG, "a value is at most %d bytes", KV_VALUE_MAX);
        return 0;
}

static int check_note(const KvNote *note, bool internal, Error *err) {
        if (note->body.size > 0 && !internal)
                return error_set(err, -EPERM, "the history is written by fleet alone");
        if (note->body.size > KV_NOTE_MAX)
                return error_set(err, -E2BIG, "a row of the history is at most %d bytes", KV_NOTE_MAX);
        return 0;
}

static int check_one(const KvCommand *cmd, bool internal, Error *err) {
        TRY(check_note(&cmd->note, internal, err));
        TRY(check_path(cmd->key, internal, err));
        /* Include the name that POST appends. */
        if (cmd->op == KV_POST && cmd->key.size + 21 > KV_KEY_MAX)
                return error_set(err, -E2BIG, KEY_TOO_LONG, KV_KEY_MAX);
        TRY(check_value(cmd->value, err));
        return cmd->has_prev_value ? check_value(cmd->prev_value, err) : 0;
}

size_t kv_transaction_size(const KvCommand *cmd) {
        size_t size = 0;

        for (const KvCheck *c = cmd->checks; c < cmd->checks + cmd->n_checks; c++)
                size += c->key.size + c->value.size + 20;
        for (const KvCommand *c = cmd->writes; c < cmd->writes + cmd->n_writes; c++)
                size += c->key.size + c->value.size + c->prev_value.size + 40 +
                        (c->note.body.size > 0 ? c->note.body.size + 10 : 0);
        return size;
}

static int check_transaction(const KvCommand *cmd, Error *err) {
        if (cmd->n_checks > KV_TXN_ITEMS_MAX || cmd->n_writes > KV_TXN_ITEMS_MAX - cmd->n_checks)
                return error_set(err, -E2BIG, "a transaction has at most %d checks and writes",
                                 KV_TXN_ITEMS_MAX);
        for (const KvCheck *c = cmd->checks; c < cmd->checks + cmd->n_checks; c++) {
                if ((unsigned) c->kind >= _KV_CHECK_MAX)
                        return error_set(err, -EINVAL, "unknown check %d", (int) c->kind);
                TRY(check_path(c->key, cmd->internal, err));
                TRY(check_value(c->value, err));
        }
        for (const KvCommand *c = cmd->writes; c < cmd->writes + cmd->n_writes; c++) {
                if (!command_is_write(c->op))
                        return error_set(err, -EINVAL,
                                         "a transaction sets, creates, updates and deletes, nothing else");
                TRY(check_one(c, cmd->internal, err));
        }
        if (kv_transaction_size(cmd) > KV_COMMAND_MAX)
                return error_set(err, -E2BIG, "a transaction is at most %d bytes", KV_COMMAND_MAX);
        return 0;
}

static int check_command(const KvCommand *cmd, Error *err) {
        if ((unsigned) cmd->op >= _KV_OP_MAX)
                return error_set(err, -EINVAL, "unknown operation %d", (int) cmd->op);
        if (command_has_limit(cmd->op) && !cmd->internal)
                return error_set(err, -EPERM, "expiry and feature level are fleet's to order");
        if (!command_has_key(cmd->op) && cmd->note.body.size > 0)
                return error_set(err, -EINVAL, "a row of the history belongs to the write of a key");
        if (command_has_limit(cmd->op))
                return 0;
        return cmd->op == KV_TXN ? check_transaction(cmd, err) : check_one(cmd, cmd->internal, err);
}

int kv_command_check(const KvCommand *cmd, KvStatus *ret_status, Error *err) {
        int r = check_command(cmd, err);

        switch (r) {
        case -E2BIG:
                *ret_status = KV_TOO_LARGE;
                return r;
        case -EPERM:
                *ret_status = KV_FORBIDDEN;
                return r;
        case -EINVAL:
                *ret_status = KV_INVALID;
                return r;
        default:
                *ret_status = KV_OK;
                return r;
        }
}

/* -- Batches -- */

/* The format of an item:
 *
 *     step varint
 *         0: a new group, with origin u64, acknowledged u64, deadline u64 (of its first item), step varint
 *         otherwise: the difference to the previous number; that of the first item is to acknowledged - 1
 *     deadline varint
 *         the difference to the group's
 *     command blob
 *
 * A group begins only where it must, so that each batch has one encoding. Version 1 had u64 origin, u64
 * number and the command, without deduplication. */

void kv_batch_begin(KvBatch *b, Writer *w, const KvBatchHead *head) {
        *b = (KvBatch) { .version = (uint8_t) (BATCH_VERSION_FIRST +
                                               MAX(head->level, (unsigned) KV_LEVEL_FIRST) -
                                               KV_LEVEL_FIRST) };
        write_u8(w, b->version);
        write_u64(w, head->cluster_ms);
        write_u64(w, head->quota);
        if (head->level > 1)
                write_u64(w, head->quota_nodes);
}

static bool batch_fits_group(const KvBatch *b, const KvBatchItem *item) {
        return b->origin == item->origin && b->acknowledged == item->acknowledged &&
               item->number > b->number && item->deadline_ms >= b->deadline_ms &&
               (b->deadline_ms > 0 || item->deadline_ms == 0);
}

void kv_batch_add(KvBatch *b, Writer *w, const KvBatchItem *item) {
        if (!batch_fits_group(b, item)) {
                b->origin = item->origin;
                b->acknowledged = item->acknowledged;
                b->number = item->acknowledged - 1;
                b->deadline_ms = item->deadline_ms;
                write_u8(w, 0);
                write_u64(w, item->origin);
                write_u64(w, item->acknowledged);
                write_u64(w, item->deadline_ms);
        }
        write_varint(w, item->number - b->number);
        write_varint(w, item->deadline_ms - b->deadline_ms);
        write_blob(w, item->command, item->command_size);
        b->number = item->number;
}

int kv_batch_open(KvBatch *b, const void *bytes, size_t size, KvBatchHead *ret_head) {
        KvBatch batch = { .reader = reader_over(bytes, size) };
        KvBatchHead head = { .level = KV_LEVEL_FIRST };

        batch.version = read_u8(&batch.reader);
        head.cluster_ms = read_u64(&batch.reader);
        head.quota = read_u64(&batch.reader);
        if (!batch.reader.failed && batch.version > BATCH_VERSION_MAX)
                return -ENOTSUP;
        if (batch.version > BATCH_VERSION_FIRST) {
                head.level += batch.version - BATCH_VERSION_FIRST;
                head.quota_nodes = read_u64(&batch.reader);
        }
        if (batch.reader.failed || batch.version == 0)
                return -EBADMSG;
        *b = batch;
        *ret_head = head;
        return 0;
}

static int batch_next_version_1(Reader *r, KvBatchItem *ret) {
        KvBatchItem item = { .origin = read_u64(r) };

        item.number = item.acknowledged = read_u64(r);
        item.command = read_blob(r, KV_COMMAND_MAX, &item.command_size);
        if (r->failed)
                return -EBADMSG;
        *ret = item;
        return 1;
}

int kv_batch_next(KvBatch *b, KvBatchItem *ret) {
        Reader *r = &b->reader;
        KvBatch group = *b; /* of the item */
        bool begins = false;
        KvBatchItem item;
        uint64_t step, later;

        if (!r->failed && r->left == 0)
                return 0;
        if (b->version == 1)
                return batch_next_version_1(r, ret);

        step = read_varint(r);
        if (step == 0) {
                begins = true;
                group.origin = read_u64(r);
                group.acknowledged = read_u64(r);
                group.deadline_ms = read_u64(r);
                group.number = group.acknowledged - 1;
                step = read_varint(r);
        }
        later = read_varint(r);
        item = (KvBatchItem) { .origin = group.origin,
                               .acknowledged = group.acknowledged,
                               .deadline_ms = group.deadline_ms + later };
        item.number = group.number + step;
        item.command = read_blob(r, KV_COMMAND_MAX, &item.command_size);
        if (r->failed || group.origin == 0 || group.acknowledged == 0 || step == 0 || item.number < step ||
            item.deadline_ms < later)
                return -EBADMSG;
        if (begins ? later > 0 || batch_fits_group(b, &item) : !batch_fits_group(b, &item))
                return -EBADMSG;

        group.reader = *r;
        group.number = item.number;
        *b = group;
        *ret = item;
        return 1;
}

/* -- Copies -- */

static size_t node_size(const KvNode *node) {
        return node->key.size + node->value.size;
}

void kv_node_place(char **at, KvNode *node) {
        kv_bytes_place(at, &node->key);
        kv_bytes_place(at, &node->value);
}

KvResult *kv_result_copy(const KvResult *result) {
        size_t size = node_size(&result->node) + node_size(&result->prev) + node_size(&result->found) +
                      result->cause.size + result->n_written * sizeof(KvWritten);
        KvResult *copy;
        char *at;

        for (const KvWritten *w = result->written; w < result->written + result->n_written; w++)
                size += node_size(&w->node) + node_size(&w->prev);
        copy = malloc(sizeof(KvResult) + size);
        if (!copy)
                return NULL;
        *copy = *result;
        at = (char *) (copy + 1);
        if (copy->n_written > 0) {
                copy->written = memcpy(at, result->written, result->n_written * sizeof(KvWritten));
                at += result->n_written * sizeof(KvWritten);
        }
        for (KvWritten *w = copy->written; w < copy->written + copy->n_written; w++) {
                kv_node_place(&at, &w->node);
                kv_node_place(&at, &w->prev);
        }
        kv_node_place(&at, &copy->node);
        kv_node_place(&at, &copy->prev);
        kv_node_place(&at, &copy->found);
        kv_bytes_place(&at, &copy->cause);
        return copy;
}
