#include "kvstore/apply/dedup.h"

/* A record:
 *
 *     version u8, acknowledged u64, highest u64, deadline u64
 *     cluster time of the entry u64, its term u64, its index u64
 *     number of records of this origin, at most: varint
 *     answers: number above 'acknowledged' varint, blob answer
 *
 * 'acknowledged', 'highest' and 'deadline' are the greatest that the origin has sent. An answer:
 *
 *     status u8, action u8, flags u8, index varint
 *     [change]
 *     [varint n, n times: action u8, change]
 *     [refused_at varint]
 *     [node found]
 *     [cause blob]
 *
 * A change:
 *
 *     flags u16, modified varint
 *     [created varint]
 *     [expires varint]
 *     [previous node: created varint, modified varint, [expires varint], blob]
 *
 * The value that a command wrote is not cached: a proposer that repeats the command has it. */
enum {
        RECORD_VERSION = 1,

        HAS_CHANGE = 1 << 0,
        HAS_WRITTEN = 1 << 1,
        HAS_REFUSED_AT = 1 << 2,
        HAS_FOUND = 1 << 3,
        HAS_CAUSE = 1 << 4,
        IS_CUT = 1 << 5,
        RESULT_FLAGS = (1 << 6) - 1,

        NODE_DIR = 1 << 0,
        NODE_EXPIRES = 1 << 1,
        NODE_NEW = 1 << 2,         /* created equals modified */
        NODE_POSTED = 1 << 3,      /* the key is the command's plus a child's name */
        NODE_VALUE_ASKED = 1 << 4, /* the value is the command's */
        NODE_VALUE_PREV = 1 << 5,  /* the previous value is unchanged */
        NODE_PREV = 1 << 6,
        PREV_DIR = 1 << 7,
        PREV_EXPIRES = 1 << 8,
        PREV_CUT = 1 << 9,        /* apply has cut it */
        NODE_REFRESHED = 1 << 10, /* from KV_LEVEL_COST on: the value is unchanged, and not cached */
        NODE_FLAGS = (1 << 11) - 1,
};

#define TOO_LARGE_PREVIOUS "the command took effect; its previous value is too large for the cached result"
#define TOO_LARGE_REASON   "the command was rejected; the reason is too large for the cached result"

/* -- Results -- */

static void write_kept_value(Writer *w, KvBytes value, size_t *left, bool *cut) {
        if (value.size > *left) {
                *cut = true;
                value.size = 0;
        }
        *left -= value.size;
        write_blob(w, value.data, value.size);
}

static void write_change(Writer *w, const KvWritten *c, const KvCommand *cmd, size_t *left, bool *cut) {
        unsigned flags = (c->node.dir ? NODE_DIR : 0) | (c->node.expires_ms > 0 ? NODE_EXPIRES : 0) |
                         (c->node.created == c->node.modified ? NODE_NEW : 0) |
                         (cmd->op == KV_POST ? NODE_POSTED : 0) | (c->has_prev ? NODE_PREV : 0) |
                         (c->refreshed ? NODE_REFRESHED : 0);

        if (c->has_prev)
                flags |= (c->prev.dir ? PREV_DIR : 0) | (c->prev.expires_ms > 0 ? PREV_EXPIRES : 0) |
                         (c->prev_cut ? PREV_CUT : 0);
        if (c->node.value.size > 0 && !c->refreshed)
                flags |= kv_bytes_equal(c->node.value, cmd->value) ? NODE_VALUE_ASKED : NODE_VALUE_PREV;
        write_u16(w, flags);
        write_varint(w, c->node.modified);
        if (!(flags & NODE_NEW))
                write_varint(w, c->node.created);
        if (flags & NODE_EXPIRES)
                write_varint(w, c->node.expires_ms);
        if (!c->has_prev)
                return;
        write_varint(w, c->prev.created);
        write_varint(w, c->prev.modified);
        if (flags & PREV_EXPIRES)
                write_varint(w, c->prev.expires_ms);
        write_kept_value(w, c->refreshed ? (KvBytes) {} : c->prev.value, left, cut);
        *cut |= c->prev_cut && flags & NODE_VALUE_PREV;
}

static void write_found(Writer *w, const KvNode *node, size_t *left, bool *cut) {
        write_u8(w, node->dir);
        write_varint(w, node->created);
        write_varint(w, node->modified);
        write_varint(w, node->expires_ms);
        write_kept_value(w, node->value, left, cut);
}

/* Everything except the head, whose flags depend on the rest. */
static void write_answer(Writer *w, const KvResult *result, const KvCommand *cmd, unsigned flags,
                         size_t *left, bool *cut) {
        KvWritten change = kv_result_change(result);

        if (flags & HAS_CHANGE)
                write_change(w, &change, cmd, left, cut);
        if (flags & HAS_WRITTEN) {
                write_varint(w, result->n_written);
                for (size_t i = 0; i < result->n_written; i++) {
                        write_u8(w, result->written[i].action);
                        write_change(w, &result->written[i], &cmd->writes[i], left, cut);
                }
        }
        if (flags & HAS_REFUSED_AT)
                write_varint(w, result->refused_at);
        if (flags & HAS_FOUND)
                write_found(w, &result->found, left, cut);
        if (flags & HAS_CAUSE)
                write_kept_value(w, result->cause, left, cut);
}

int result_encode(const KvResult *result, const KvCommand *cmd, size_t *values_left, Writer *w) {
        unsigned flags = (result->has_node ? HAS_CHANGE : 0) | (result->n_written > 0 ? HAS_WRITTEN : 0) |
                         (result->refused_at > 0 ? HAS_REFUSED_AT : 0) | (result->has_found ? HAS_FOUND : 0) |
                         (result->cause.size > 0 ? HAS_CAUSE : 0);
        bool cut = false;
        size_t at;

        write_u8(w, result->status);
        write_u8(w, result->action);
        at = w->size;
        write_u8(w, flags);
        write_varint(w, result->index);
        write_answer(w, result, cmd, flags, values_left, &cut);
        if (cut && w->error == 0)
                w->bytes[at] |= IS_CUT;
        return w->error;
}

static int read_posted_key(const KvCommand *cmd, uint64_t index, Arena *arena, KvBytes *ret) {
        size_t base = cmd->key.size == 1 ? 0 : cmd->key.size;
        char *key = arena_alloc(arena, base + 22);

        if (!key)
                return -ENOMEM;
        memcpy(key, cmd->key.data, base);
        snprintf(key + base, 22, "/%020llu", (unsigned long long) index);
        *ret = (KvBytes) { key, base + 21 };
        return 0;
}

static int read_change(Reader *r, const KvCommand *cmd, Arena *arena, KvWritten *ret) {
        unsigned flags = read_u16(r);
        int k = 0;

        if (flags & NODE_POSTED && cmd->op != KV_POST)
                return -EBADMSG; /* the result of another command */
        *ret = (KvWritten) { .has_prev = flags & NODE_PREV,
                             .prev_cut = flags & PREV_CUT,
                             .refreshed = flags & NODE_REFRESHED };
        ret->node = (KvNode) { .key = cmd->key, .dir = flags & NODE_DIR, .modified = read_varint(r) };
        ret->node.created = flags & NODE_NEW ? ret->node.modified : read_varint(r);
        if (flags & NODE_EXPIRES)
                ret->node.expires_ms = read_varint(r);
        if (flags & NODE_POSTED)
                k = read_posted_key(cmd, ret->node.modified, arena, &ret->node.key);
        if (flags & NODE_PREV) {
                ret->prev = (KvNode) { .key = ret->node.key,
                                       .dir = flags & PREV_DIR,
                                       .created = read_varint(r) };
                ret->prev.modified = read_varint(r);
                if (flags & PREV_EXPIRES)
                        ret->prev.expires_ms = read_varint(r);
                ret->prev.value.data = read_blob(r, KV_VALUE_MAX, &ret->prev.value.size);
        }
        if (flags & NODE_VALUE_ASKED)
                ret->node.value = cmd->value;
        else if (flags & NODE_VALUE_PREV)
                ret->node.value = ret->prev.value;
        return k < 0 ? k : flags & ~NODE_FLAGS || r->failed ? -EBADMSG : 0;
}

static int read_written(Reader *r, const KvCommand *cmd, Arena *arena, KvResult *ret) {
        uint64_t n = read_varint(r);

        if (r->failed || n != cmd->n_writes)
                return -EBADMSG; /* the answer to another command */
        ret->written = arena_alloc(arena, n * sizeof(KvWritten));
        if (!ret->written)
                return -ENOMEM;
        for (ret->n_written = 0; ret->n_written < n; ret->n_written++) {
                unsigned action = read_u8(r);
                int k = read_change(r, &cmd->writes[ret->n_written], arena, &ret->written[ret->n_written]);

                if (k < 0 || action >= _KV_ACTION_MAX)
                        return k < 0 ? k : -EBADMSG;
                ret->written[ret->n_written].action = action;
        }
        return 0;
}

static int read_found(Reader *r, const KvCommand *cmd, KvResult *ret) {
        if (ret->refused_at == 0 || ret->refused_at > cmd->n_checks)
                return -EBADMSG;
        ret->has_found = true;
        ret->found = (KvNode) { .key = cmd->checks[ret->refused_at - 1].key, .dir = read_u8(r) };
        ret->found.created = read_varint(r);
        ret->found.modified = read_varint(r);
        ret->found.expires_ms = read_varint(r);
        ret->found.value.data = read_blob(r, KV_VALUE_MAX, &ret->found.value.size);
        return 0;
}

static int read_answer(Reader *r, const KvCommand *cmd, unsigned flags, Arena *arena, KvResult *ret) {
        KvWritten change;
        int k = 0;

        if (flags & HAS_CHANGE) {
                k = TRY(read_change(r, cmd, arena, &change));
                ret->has_node = true;
                ret->node = change.node;
                ret->has_prev = change.has_prev;
                ret->prev = change.prev;
                ret->refreshed = change.refreshed;
        }
        if (k == 0 && flags & HAS_WRITTEN)
                k = read_written(r, cmd, arena, ret);
        if (k == 0 && flags & HAS_REFUSED_AT)
                ret->refused_at = read_varint(r);
        if (k == 0 && flags & HAS_FOUND)
                k = read_found(r, cmd, ret);
        if (k == 0 && flags & HAS_CAUSE)
                ret->cause.data = read_blob(r, KV_CAUSE_MAX, &ret->cause.size);
        return k;
}

/* Read the value of a refresh from the tree: 0, or -ENOENT if the key was written since. */
static int fill_refreshed(TreeTxn *txn, KvNode *node, KvNode *prev, bool cut) {
        KvNode now;

        if (!txn || tree_get(txn, node->key, &now) < 0 || now.dir != node->dir ||
            (!now.dir && now.modified != node->modified && now.modified != prev->modified))
                return -ENOENT;
        node->value = now.value;
        if (!cut)
                prev->value = now.value;
        return 0;
}

static int fill_answer(TreeTxn *txn, KvResult *result) {
        int k = 0;

        if (result->refreshed)
                k = fill_refreshed(txn, &result->node, &result->prev, false);
        for (KvWritten *w = result->written; k == 0 && w < result->written + result->n_written; w++)
                if (w->refreshed)
                        k = fill_refreshed(txn, &w->node, &w->prev, w->prev_cut);
        return k;
}

int result_decode(const CachedResult *kept, TreeTxn *txn, const KvCommand *cmd, Arena *arena, KvResult *ret) {
        Reader r = reader_over(kept->bytes.data, kept->bytes.size);
        KvResult result = { .status = read_u8(&r), .internal = cmd->internal, .again = true }, head;
        unsigned flags;

        result.action = read_u8(&r);
        flags = read_u8(&r);
        result.index = read_varint(&r);
        result.now_ms = kept->now_ms;
        result.raft_index = kept->entry;
        result.term = kept->term;
        head = result;
        TRY(read_answer(&r, cmd, flags, arena, &result));
        if ((unsigned) result.status >= _KV_STATUS_MAX || (unsigned) result.action >= _KV_ACTION_MAX ||
            flags & ~RESULT_FLAGS || reader_end(&r) < 0)
                return -EBADMSG;
        if (flags & IS_CUT || fill_answer(txn, &result) < 0) {
                head.cause = kv_string(head.status == KV_OK ? TOO_LARGE_PREVIOUS : TOO_LARGE_REASON);
                head.status = KV_UNKNOWN;
                result = head;
        }
        *ret = result;
        return 0;
}

/* -- Records -- */

typedef struct Head {
        uint64_t acknowledged, highest, deadline_ms, now_ms, term, entry;
        uint64_t n; /* upper bound of the origin's records: includes dropped ones */
} Head;

static void write_head(Writer *w, const Head *head) {
        write_u8(w, RECORD_VERSION);
        write_u64(w, head->acknowledged);
        write_u64(w, head->highest);
        write_u64(w, head->deadline_ms);
        write_u64(w, head->now_ms);
        write_u64(w, head->term);
        write_u64(w, head->entry);
        write_varint(w, head->n);
}

static int read_head(Reader *r, Head *ret) {
        uint8_t version = read_u8(r);
        Head head = { .acknowledged = read_u64(r) };

        head.highest = read_u64(r);
        head.deadline_ms = read_u64(r);
        head.now_ms = read_u64(r);
        head.term = read_u64(r);
        head.entry = read_u64(r);
        head.n = read_varint(r);
        if (r->failed || version == 0)
                return -EUCLEAN;
        *ret = head;
        return version > RECORD_VERSION ? -ENOTSUP : 0;
}

/* Read results one by one: 1, or 0 at the end. */
static int next_answer(Reader *r, const Head *head, uint64_t *ret_number, KvBytes *ret) {
        if (!r->failed && r->left == 0)
                return 0;
        *ret_number = head->acknowledged + read_varint(r);
        ret->data = read_blob(r, SIZE_MAX, &ret->size);
        return r->failed ? -EUCLEAN : 1;
}

/* The places of an origin's results, for proposals whose number may be a repeated one. */
typedef struct Place {
        uint64_t number, slot;
} Place;

struct DedupOrigin {
        uint64_t origin;
        Head head;     /* of the next record; 'acknowledged' and 'highest' advance with each item */
        uint64_t base; /* numbers in 'answers' are relative to this */
        uint64_t slot, last_highest; /* of the last record */
        bool known;
        uint64_t indexed; /* the records from this slot on are in 'places' */
        Place *places;
        size_t n_places, capacity;
        Writer answers; /* of this entry */
        size_t values_left;
};

void dedup_done(Dedup *r) {
        for (DedupOrigin *o = r->origins; o < r->origins + r->n; o++) {
                free(o->places);
                writer_done(&o->answers);
        }
        free(r->origins);
        writer_done(&r->scratch);
}

/* Read the last record of an origin; -ENOENT: there is none. */
static int load_head(TreeTxn *txn, uint64_t origin, uint64_t *ret_slot, Head *ret) {
        KvBytes record;
        Reader r;

        TRY(tree_result_before(txn, origin, UINT64_MAX, ret_slot, &record));
        r = reader_over(record.data, record.size);
        return read_head(&r, ret);
}

static int origin_of(Dedup *r, uint64_t origin, DedupOrigin **ret) {
        DedupOrigin *o = r->origins + r->n;
        int k;

        while (o > r->origins)
                if ((--o)->origin == origin) {
                        *ret = o;
                        return 0;
                }
        TRY(GROW(r->origins, r->capacity, r->n + 1));
        o = &r->origins[r->n];
        *o = (DedupOrigin) { .origin = origin, .indexed = UINT64_MAX, .values_left = DEDUP_VALUES_MAX };
        k = load_head(r->txn, origin, &o->slot, &o->head);
        if (k < 0 && k != -ENOENT)
                return k;
        o->known = k == 0;
        o->last_highest = o->head.highest;
        r->n++;
        *ret = o;
        return 0;
}

static int compare_places(const void *a, const void *b) {
        const Place *x = a, *y = b;

        return x->number < y->number ? -1 : x->number > y->number;
}

static int index_record(DedupOrigin *o, uint64_t slot, const Head *head, Reader *r) {
        uint64_t number;
        KvBytes bytes;
        int k;

        while ((k = next_answer(r, head, &number, &bytes)) > 0) {
                TRY(GROW(o->places, o->capacity, o->n_places + 1));
                o->places[o->n_places++] = (Place) { number, slot };
        }
        return k;
}

/* Find the records that may hold a number, the last one first: an older record has a lower highest number. */
static int index_down_to(Dedup *r, DedupOrigin *o, uint64_t number) {
        size_t n = o->n_places;
        uint64_t slot;
        KvBytes record;
        int k;

        while ((k = tree_result_before(r->txn, o->origin, o->indexed, &slot, &record)) == 0) {
                Reader reader = reader_over(record.data, record.size);
                Head head;

                cost_visit(&r->looked, 0);
                k = read_head(&reader, &head);
                if (k < 0 || head.highest < number)
                        break;
                k = index_record(o, slot, &head, &reader);
                if (k < 0)
                        break;
                o->indexed = slot;
        }
        if (k < 0 && k != -ENOENT)
                return k;
        if (o->n_places > n) {
                cost_bytes(&r->looked, (uint64_t) o->n_places * COST_KEPT);
                qsort(o->places, o->n_places, sizeof(Place), compare_places);
        }
        return 0;
}

static int find_in_record(Reader *r, const Head *head, uint64_t number, KvBytes *ret) {
        uint64_t n;
        int k;

        while ((k = next_answer(r, head, &n, ret)) > 0)
                if (n == number)
                        return 0;
        return k < 0 ? k : -ENOENT;
}

static int find_kept(Dedup *results, uint64_t origin, uint64_t slot, uint64_t number, CachedResult *ret) {
        KvBytes record;
        Reader r;
        Head head;
        int k;

        TRY(tree_result(results->txn, origin, slot, &record));
        cost_visit(&results->looked, 0);
        r = reader_over(record.data, record.size);
        k = read_head(&r, &head);
        if (k == 0)
                k = find_in_record(&r, &head, number, &ret->bytes);
        ret->entry = head.entry;
        ret->term = head.term;
        ret->now_ms = head.now_ms;
        return k;
}

/* Find the result of a number that is not above all others, in earlier entries or in this one. */
static int find_again(Dedup *r, DedupOrigin *o, uint64_t number, CachedResult *ret) {
        Reader answers = reader_over(o->answers.bytes, o->answers.size);
        Place *place;
        int k;

        k = find_in_record(&answers, &(Head) { .acknowledged = o->base }, number, &ret->bytes);
        if (k != -ENOENT) {
                *ret = (CachedResult) {
                        .entry = r->entry, .term = r->term, .now_ms = r->cluster_ms, .bytes = ret->bytes
                };
                return k;
        }
        TRY(index_down_to(r, o, number));
        place = o->n_places > 0 ? bsearch(&(Place) { .number = number }, o->places, o->n_places,
                                          sizeof(Place), compare_places) :
                                  NULL;
        return place ? find_kept(r, o->origin, place->slot, number, ret) : -ENOENT;
}

int dedup_judge(Dedup *r, const KvBatchItem *item, CachedResult *ret) {
        DedupOrigin *o;
        int k;

        if (item->deadline_ms == 0)
                return DEDUP_FRESH;
        k = TRY(origin_of(r, item->origin, &o));
        o->head.acknowledged = MAX(o->head.acknowledged, item->acknowledged);
        if (item->number < o->head.acknowledged)
                return DEDUP_PASSED;
        if (item->number <= o->head.highest) {
                k = find_again(r, o, item->number, ret);
                if (k != -ENOENT)
                        return k < 0 ? k : DEDUP_KEPT;
        }
        return item->deadline_ms < r->cluster_ms ? DEDUP_LATE : DEDUP_FRESH;
}

void dedup_take_cost(Dedup *r, Cost *cost) {
        cost_add(cost, &r->looked);
        r->looked = (Cost) {};
}

int dedup_keep(Dedup *r, const KvBatchItem *item, const KvCommand *cmd, const KvResult *result) {
        Writer *w = &r->scratch;
        DedupOrigin *o;
        int k;

        if (item->deadline_ms == 0)
                return 0;
        w->size = 0, w->error = 0;
        k = origin_of(r, item->origin, &o);
        if (k == 0)
                k = result_encode(result, cmd, &o->values_left, w);
        if (k < 0)
                return k;
        if (o->answers.size == 0)
                o->base = o->head.acknowledged;
        o->head.highest = MAX(o->head.highest, item->number);
        o->head.deadline_ms = MAX(o->head.deadline_ms, item->deadline_ms);
        write_varint(&o->answers, item->number - o->base);
        write_blob(&o->answers, w->bytes, w->size);
        return o->answers.error;
}

/* -- Storing -- */

static int drop_passed(void *userdata, uint64_t slot, KvBytes record) {
        Reader r = reader_over(record.data, record.size);
        Head *next = userdata, head;
        int k = read_head(&r, &head);

        if (k < 0 || head.highest >= next->acknowledged)
                return k < 0 ? k : 0;
        next->n--;
        return TREE_DROP;
}

static int drop_late(void *userdata, uint64_t slot, KvBytes record) {
        Reader r = reader_over(record.data, record.size);
        const uint64_t *cluster_ms = userdata;
        Head head;
        int k = read_head(&r, &head);

        return k < 0 ? k : head.deadline_ms < *cluster_ms ? TREE_DROP : 1;
}

/* The record may hold a bound that advanced with later items of the entry; numbers are relative to the first
 * bound. */
static int store_origin(Dedup *r, DedupOrigin *o) {
        Writer *w = &r->scratch;
        Reader answers = reader_over(o->answers.bytes, o->answers.size);
        bool all_passed = o->known && o->last_highest < o->head.acknowledged;
        Head head = o->head;
        uint64_t number;
        KvBytes bytes;
        int k = 0;

        /* The only record of an origin is overwritten if no proposer waits for its results: usual with one
         * writer. */
        if (!all_passed || head.n != 1) {
                k = TRY(o->known ? tree_results(r->txn, o->origin, drop_passed, &head) : 0);
                head.n = all_passed ? 1 : head.n + 1;
                o->slot += o->known;
        }
        head.now_ms = r->cluster_ms;
        head.term = r->term;
        head.entry = r->entry;
        w->size = 0, w->error = 0;
        write_head(w, &head);
        while ((k = next_answer(&answers, &(Head) { .acknowledged = o->base }, &number, &bytes)) > 0) {
                if (number < head.acknowledged)
                        continue;
                write_varint(w, number - head.acknowledged);
                write_blob(w, bytes.data, bytes.size);
        }
        if (k == 0)
                k = w->error;
        return k < 0 ? k : tree_put_result(r->txn, o->origin, o->slot, (KvBytes) { w->bytes, w->size });
}

int dedup_store(Dedup *r) {
        TreeMeta meta;
        int k = 0;

        for (DedupOrigin *o = r->origins; k == 0 && o < r->origins + r->n; o++)
                if (o->answers.size > 0)
                        k = store_origin(r, o);
        if (k == 0)
                k = tree_meta(r->txn, &meta);
        if (k < 0 || r->cluster_ms < meta.results.swept_ms + DEDUP_SWEEP_MS)
                return k;
        tree_set_results_swept(r->txn, r->cluster_ms);
        return meta.results.n > 0 ? tree_results(r->txn, 0, drop_late, &r->cluster_ms) : 0;
}

/* -- Queries -- */

uint64_t dedup_bound(TreeTxn *txn, uint64_t origin) {
        uint64_t slot;
        Head head;

        return load_head(txn, origin, &slot, &head) == 0 ? head.acknowledged : 0;
}
