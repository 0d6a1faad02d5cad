/* The bytes of kept answers and their records, as dedup.c writes them: every replica writes the same, and
 * later versions read them. */

#include "tests/lib/test.h"
#include "kvstore/apply/dedup.h"
#include "tests/lib/alloc.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { ORIGIN = 5, NOW_MS = 50000, DEADLINE_MS = 60000 };

typedef struct Fixture {
        char *scratch;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
        unsigned runs;
} Fixture;

static int fixture_begin(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        _cleanup_free_ char *path = NULL;

        f->scratch = scratch_new();
        path = scratch_path(f->scratch, "tree");
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        *state = f;
        return 0;
}

static int fixture_end(void **state) {
        Fixture *f = *state;

        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

/* The bytes that 'text' says in hexadecimal digits; blanks mean nothing. */
static size_t bytes_of(const char *text, uint8_t *ret) {
        size_t n = 0;
        unsigned v;

        for (; *text; text++)
                if (*text != ' ') {
                        assert_int_equal(sscanf(text++, "%2x", &v), 1);
                        ret[n++] = v;
                }
        return n;
}

/* -- Answers -- */

typedef struct Case {
        KvCommand cmd;
        KvResult result;
        size_t left, left_after; /* for values and causes */
        const char *bytes;       /* behind status and action */
        const char *unknown;     /* the message in the place of what is not kept whole; NULL: all is kept */
} Case;

#define DONE_CUT    "the command took effect; its previous value is too large for the cached result"
#define REFUSED_CUT "the command was rejected; the reason is too large for the cached result"

static KvCommand writes[] = { { .op = KV_SET, .key = { "/a", 2 }, .value = { "v", 1 } },
                              { .op = KV_SET, .key = { "/b", 2 }, .value = { "w", 1 } } };
static KvCheck checks[] = { { .key = { "/c", 2 } } };
static KvWritten new_one[] = {
        { .action = KV_ACTION_CAD,
          .node = { .key = { "/a", 2 }, .value = { "v", 1 }, .modified = 5, .created = 5 } }
};
static KvWritten cut_prev[] = {
        { .action = KV_ACTION_SET,
          .node = { .key = { "/a", 2 }, .value = { "v", 1 }, .modified = 5, .created = 2 },
          .has_prev = true,
          .prev_cut = true,
          .prev = { .key = { "/a", 2 }, .created = 2, .modified = 4 } }
};
static KvWritten cut_value[] = {
        { .action = KV_ACTION_SET,
          .node = { .key = { "/a", 2 }, .value = { "old", 3 }, .modified = 5, .created = 2 },
          .has_prev = true,
          .prev_cut = true,
          .prev = { .key = { "/a", 2 }, .created = 2, .modified = 4 } }
};

static const Case cases[] = {
        { { .op = KV_SET, .key = { "/a", 2 }, .value = { "v", 1 } },
          { .action = KV_ACTION_SET,
            .index = 300,
            .has_node = true,
            .node = { .key = { "/a", 2 }, .value = { "v", 1 }, .modified = 300, .created = 300 } },
          9,
          9,
          "01 ac02  1400 ac02",
          NULL },
        /* Both expire; the old value fits to the byte. */
        { { .op = KV_SET, .key = { "/a", 2 }, .value = { "v", 1 } },
          { .action = KV_ACTION_SET,
            .index = 5,
            .has_node = true,
            .has_prev = true,
            .node = { .key = { "/a", 2 }, .value = { "v", 1 }, .modified = 5, .created = 2, .expires_ms = 1 },
            .prev = { .key = { "/a", 2 },
                      .value = { "old", 3 },
                      .modified = 4,
                      .created = 2,
                      .expires_ms = 1 } },
          3,
          0,
          "01 05  5201 05 02 01  02 04 01 03 6f6c64",
          NULL },
        { { .op = KV_SET, .key = { "/a", 2 }, .value = { "v", 1 } },
          { .action = KV_ACTION_SET,
            .index = 5,
            .has_node = true,
            .has_prev = true,
            .node = { .key = { "/a", 2 }, .value = { "v", 1 }, .modified = 5, .created = 2 },
            .prev = { .key = { "/a", 2 }, .value = { "old", 3 }, .modified = 4, .created = 2 } },
          2,
          2,
          "21 05  5000 05 02  02 04 00",
          DONE_CUT },
        { { .op = KV_DELETE, .key = { "/d", 2 }, .recursive = true },
          { .action = KV_ACTION_DELETE,
            .index = 7,
            .has_node = true,
            .has_prev = true,
            .node = { .key = { "/d", 2 }, .dir = true, .modified = 7, .created = 3 },
            .prev = { .key = { "/d", 2 }, .dir = true, .modified = 3, .created = 3 } },
          0,
          0,
          "01 07  c100 07 03  03 03 00",
          NULL },
        { { .op = KV_POST, .key = { "/q", 2 }, .value = { "v", 1 } },
          { .action = KV_ACTION_CREATE,
            .index = 6,
            .has_node = true,
            .node = { .key = { "/q/00000000000000000006", 23 },
                      .value = { "v", 1 },
                      .modified = 6,
                      .created = 6 } },
          0,
          0,
          "01 06  1c00 06",
          NULL },
        { { .op = KV_POST, .key = { "/", 1 } },
          { .action = KV_ACTION_CREATE,
            .index = 12,
            .has_node = true,
            .node = { .key = { "/00000000000000000012", 21 }, .modified = 12, .created = 12 } },
          0,
          0,
          "01 0c  0c00 0c",
          NULL },
        /* The value that stood there stands there still; one of the same size is another one. */
        { { .op = KV_UPDATE, .key = { "/a", 2 }, .value = { "else", 4 }, .refresh = true },
          { .action = KV_ACTION_UPDATE,
            .index = 8,
            .has_node = true,
            .has_prev = true,
            .node = { .key = { "/a", 2 }, .value = { "keep", 4 }, .modified = 8, .created = 2 },
            .prev = { .key = { "/a", 2 }, .value = { "keep", 4 }, .modified = 7, .created = 2 } },
          5,
          1,
          "01 08  6000 08 02  02 07 04 6b656570",
          NULL },
        { { .op = KV_UPDATE, .key = { "/a", 2 }, .refresh = true },
          { .action = KV_ACTION_UPDATE,
            .index = 8,
            .has_node = true,
            .has_prev = true,
            .refreshed = true,
            .node = { .key = { "/a", 2 }, .value = { "keep", 4 }, .modified = 8, .created = 2 },
            .prev = { .key = { "/a", 2 }, .value = { "keep", 4 }, .modified = 7, .created = 2 } },
          5,
          5,
          "01 08  4004 08 02  02 07 00",
          DONE_CUT },
        { { .op = KV_TXN, .writes = writes, .n_writes = 1 },
          { .action = KV_ACTION_SET, .index = 5, .written = new_one, .n_written = 1 },
          9,
          9,
          "02 05 01 05  1400 05",
          NULL },
        { { .op = KV_TXN, .writes = writes, .n_writes = 1 },
          { .action = KV_ACTION_SET, .index = 5, .written = cut_prev, .n_written = 1 },
          9,
          9,
          "02 05 01 01  5002 05 02  02 04 00",
          NULL },
        { { .op = KV_TXN, .writes = writes, .n_writes = 1 },
          { .action = KV_ACTION_SET, .index = 5, .written = cut_value, .n_written = 1 },
          9,
          9,
          "22 05 01 01  6002 05 02  02 04 00",
          DONE_CUT },
        { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
          { .status = KV_COMPARE_FAILED,
            .action = KV_ACTION_SET,
            .index = 5,
            .refused_at = 1,
            .has_found = true,
            .found = { .key = { "/c", 2 },
                       .value = { "is", 2 },
                       .created = 2,
                       .modified = 3,
                       .expires_ms = 4 },
            .cause = { "why", 3 } },
          6,
          1,
          "1c 05 01  00 02 03 04 02 6973  03 776879",
          NULL },
        { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
          { .status = KV_COMPARE_FAILED,
            .action = KV_ACTION_SET,
            .index = 5,
            .refused_at = 1,
            .has_found = true,
            .found = { .key = { "/c", 2 }, .dir = true, .created = 2, .modified = 3 },
            .cause = { "why", 3 } },
          2,
          2,
          "3c 05 01  01 02 03 00 00  00",
          REFUSED_CUT },
        { { .op = KV_TXN, .writes = writes, .n_writes = 2 },
          { .status = KV_NOT_FILE,
            .action = KV_ACTION_SET,
            .index = 5,
            .refused_at = 2,
            .cause = { "c", 1 } },
          1,
          0,
          "14 05 02 01 63",
          NULL },
};

static void same_bytes(KvBytes a, KvBytes b) {
        assert_int_equal(a.size, b.size);
        assert_memory_equal(a.data ?: "", b.data ?: "", a.size);
}

static void same_node(const KvNode *a, const KvNode *b) {
        same_bytes(a->key, b->key);
        same_bytes(a->value, b->value);
        assert_int_equal(a->dir, b->dir);
        assert_int_equal(a->created, b->created);
        assert_int_equal(a->modified, b->modified);
        assert_int_equal(a->expires_ms, b->expires_ms);
}

static void same_answer(const KvResult *a, const KvResult *b) {
        assert_int_equal(a->status, b->status);
        assert_int_equal(a->action, b->action);
        assert_int_equal(a->index, b->index);
        assert_int_equal(a->has_node, b->has_node);
        assert_int_equal(a->has_prev, b->has_prev);
        assert_int_equal(a->refreshed, b->refreshed);
        same_node(&a->node, &b->node);
        same_node(&a->prev, &b->prev);
        assert_int_equal(a->n_written, b->n_written);
        for (size_t i = 0; i < a->n_written; i++) {
                assert_int_equal(a->written[i].action, b->written[i].action);
                assert_int_equal(a->written[i].has_prev, b->written[i].has_prev);
                assert_int_equal(a->written[i].prev_cut, b->written[i].prev_cut);
                assert_int_equal(a->written[i].refreshed, b->written[i].refreshed);
                same_node(&a->written[i].node, &b->written[i].node);
                same_node(&a->written[i].prev, &b->written[i].prev);
        }
        assert_int_equal(a->refused_at, b->refused_at);
        assert_int_equal(a->has_found, b->has_found);
        same_node(&a->found, &b->found);
        same_bytes(a->cause, b->cause);
}

static int decode(const void *bytes, size_t size, TreeTxn *txn, const KvCommand *cmd, Arena *arena,
                  KvResult *ret) {
        return result_decode(
                &(CachedResult) { .entry = 11, .term = 3, .now_ms = 9, .bytes = { bytes, size } }, txn, cmd,
                arena, ret);
}

static void answers_are_kept_in_these_bytes_and_come_out_of_them_whole(void **state) {
        for (const Case *c = cases; c < cases + ELEMENTS(cases); c++) {
                KvResult unknown = { .status = KV_UNKNOWN,
                                     .action = c->result.action,
                                     .index = c->result.index,
                                     .cause = kv_string(c->unknown ?: "") },
                         result;
                uint8_t expected[128] = { c->result.status, c->result.action };
                size_t size = 2 + bytes_of(c->bytes, expected + 2), left = c->left;
                _cleanup_arena_ Arena arena = {};
                _cleanup_writer_ Writer w = {};

                assert_int_equal(result_encode(&c->result, &c->cmd, &left, &w), 0);
                same_bytes((KvBytes) { w.bytes, w.size }, (KvBytes) { expected, size });
                assert_int_equal(left, c->left_after);
                for (unsigned internal = 0; internal < 2; internal++) {
                        KvCommand cmd = c->cmd;

                        cmd.internal = internal;
                        assert_int_equal(decode(w.bytes, w.size, NULL, &cmd, &arena, &result), 0);
                        same_answer(&result, c->unknown ? &unknown : &c->result);
                        assert_int_equal(result.internal, internal);
                        assert_true(result.again);
                        assert_int_equal(result.raft_index, 11);
                        assert_int_equal(result.term, 3);
                        assert_int_equal(result.now_ms, 9);
                }
        }
}

static void an_answer_that_is_incomplete_or_too_long_is_malformed(void **state) {
        for (const Case *c = cases; c < cases + ELEMENTS(cases); c++) {
                uint8_t bytes[128] = { c->result.status, c->result.action };
                size_t size = 2 + bytes_of(c->bytes, bytes + 2);
                _cleanup_arena_ Arena arena = {};
                KvResult result;

                for (size_t n = 0; n < size; n++)
                        assert_int_equal(decode(bytes, n, NULL, &c->cmd, &arena, &result), -EBADMSG);
                assert_int_equal(decode(bytes, size + 1, NULL, &c->cmd, &arena, &result), -EBADMSG);
        }
}

static void what_no_answer_to_the_command_says_is_malformed(void **state) {
        static const struct {
                KvCommand cmd;
                const char *bytes;
                int r;
        } answers[] = {
                { { .op = KV_SET }, "00 00 00 01", 0 },
                { { .op = KV_SET }, "10 07 00 01", 0 }, /* the last status, the last action */
                { { .op = KV_SET }, "11 00 00 01", -EBADMSG },
                { { .op = KV_SET }, "00 08 00 01", -EBADMSG },
                { { .op = KV_SET }, "00 00 40 01", -EBADMSG }, /* flags that no answer has */
                { { .op = KV_SET }, "00 00 80 01", -EBADMSG },
                { { .op = KV_SET }, "00 00 01 01 0408 05", -EBADMSG },
                { { .op = KV_SET }, "00 00 01 01 0480 05", -EBADMSG },
                { { .op = KV_SET },
                  "00 00 01 01 0c00 05",
                  -EBADMSG }, /* of a command that makes the name itself */
                { { .op = KV_TXN, .writes = writes, .n_writes = 1 }, "00 00 02 01 01 07 0400 05", 0 },
                { { .op = KV_TXN, .writes = writes, .n_writes = 1 }, "00 00 02 01 01 08 0400 05", -EBADMSG },
                { { .op = KV_TXN, .writes = writes, .n_writes = 1 },
                  "00 00 02 01 02 07 0400 05 07 0400 05",
                  -EBADMSG }, /* of more writes */
                { { .op = KV_TXN, .writes = writes, .n_writes = 2 },
                  "00 00 02 01 01 07 0400 05",
                  -EBADMSG }, /* of fewer */
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 }, "02 00 0c 01 01  00 01 01 00 00", 0 },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
                  "02 00 0c 01 00  00 01 01 00 00",
                  -EBADMSG }, /* found at no check */
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 }, "02 00 0c 01 00", -EBADMSG },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
                  "02 00 0c 01 02  00 01 01 00 00",
                  -EBADMSG },
                { { .op = KV_TXN, .checks = checks, .n_checks = 1 },
                  "02 00 08 01     00 01 01 00 00",
                  -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTS(answers); i++) {
                uint8_t bytes[32];
                size_t size = bytes_of(answers[i].bytes, bytes);
                _cleanup_arena_ Arena arena = {};
                KvResult result;

                assert_int_equal(decode(bytes, size, NULL, &answers[i].cmd, &arena, &result), answers[i].r);
        }
}

/* The largest that apply says: two values, and the key between them. */
static void a_cause_may_be_as_long_as_two_values_and_a_key(void **state) {
        enum { MOST = 2 * KV_VALUE_MAX + KV_KEY_MAX };

        for (size_t size = MOST; size <= MOST + 1; size++) {
                _cleanup_free_ char *text = calloc(1, size);
                KvResult given = { .status = KV_COMPARE_FAILED, .cause = { text, size } }, result;
                KvCommand cmd = { .op = KV_SET };
                _cleanup_arena_ Arena arena = {};
                _cleanup_writer_ Writer w = {};
                size_t left = MOST + 1;

                assert_non_null(text);
                assert_int_equal(result_encode(&given, &cmd, &left, &w), 0);
                assert_int_equal(decode(w.bytes, w.size, NULL, &cmd, &arena, &result),
                                 size > MOST ? -EBADMSG : 0);
        }
}

/* -- The value of a refresh -- */

static void the_value_of_a_refresh_is_the_trees_unless_that_was_written_since(void **state) {
        static const struct {
                const char *key; /* of the answer */
                bool dir;
                uint64_t modified, prev_modified;
                bool known;
        } refreshes[] = {
                { "/file", false, 5, 4, true },
                { "/file", false, 6, 5, true }, /* the refresh is not applied here */
                { "/file", false, 6, 4, false },
                { "/file", false, 4, 6, false },
                { "/file", true, 5, 4, false },
                { "/dir", true, 9, 8, true }, /* a directory has no value that could be another */
                { "/dir", false, 7, 7, false },
                { "/gone", false, 5, 4, false },
        };
        KvNode file = { .key = kv_string("/file"), .value = kv_string("value"), .created = 2, .modified = 5 };
        KvNode dir = { .key = kv_string("/dir"), .dir = true, .created = 7, .modified = 7 };
        Fixture *f = *state;

        assert_int_equal(tree_put(f->txn, &file), 0);
        assert_int_equal(tree_put(f->txn, &dir), 0);
        for (size_t i = 0; i < ELEMENTS(refreshes); i++)
                for (unsigned form = 0; form < 3;
                     form++) { /* alone; in a transaction; there, with the old value left out */
                        KvNode node = { .key = kv_string(refreshes[i].key),
                                        .dir = refreshes[i].dir,
                                        .created = 2,
                                        .modified = refreshes[i].modified };
                        KvNode prev = { .key = node.key,
                                        .dir = node.dir,
                                        .created = 2,
                                        .modified = refreshes[i].prev_modified };
                        KvWritten one = { .node = node,
                                          .prev = prev,
                                          .has_prev = true,
                                          .refreshed = true,
                                          .prev_cut = form == 2 };
                        KvResult given = { .has_node = true,
                                           .has_prev = true,
                                           .refreshed = true,
                                           .node = node,
                                           .prev = prev,
                                           .index = 10 },
                                 result;
                        KvCommand cmd = { .op = KV_SET, .key = node.key, .refresh = true },
                                  txn = { .op = KV_TXN, .writes = &cmd, .n_writes = 1 };
                        const KvNode *now, *before;
                        _cleanup_arena_ Arena arena = {};
                        _cleanup_writer_ Writer w = {};
                        size_t left = 0;

                        if (form > 0)
                                given = (KvResult) { .written = &one, .n_written = 1, .index = 10 };
                        assert_int_equal(result_encode(&given, form > 0 ? &txn : &cmd, &left, &w), 0);
                        assert_int_equal(
                                decode(w.bytes, w.size, f->txn, form > 0 ? &txn : &cmd, &arena, &result), 0);
                        assert_int_equal(result.status, refreshes[i].known ? KV_OK : KV_UNKNOWN);
                        assert_int_equal(result.index, 10);
                        if (!refreshes[i].known)
                                continue;
                        now = form > 0 ? &result.written[0].node : &result.node;
                        before = form > 0 ? &result.written[0].prev : &result.prev;
                        same_bytes(now->value, node.dir ? (KvBytes) {} : file.value);
                        same_bytes(before->value, node.dir || form == 2 ? (KvBytes) {} : file.value);
                        if (form == 0)
                                assert_true(result.refreshed);
                }
}

/* The second of two refreshes has no value: the answer is not given in part. */
static void one_value_that_was_written_since_makes_the_whole_answer_unknown(void **state) {
        Fixture *f = *state;

        for (unsigned lost = 0; lost < 3; lost++) { /* 2: none */
                KvCommand both[] = { COMMAND(KV_SET, "/x0"), COMMAND(KV_SET, "/x1") };
                KvCommand cmd = { .op = KV_TXN, .writes = both, .n_writes = 2 };
                KvWritten written[2] = {};
                KvResult given = { .written = written, .n_written = 2 }, result;
                _cleanup_arena_ Arena arena = {};
                _cleanup_writer_ Writer w = {};
                size_t left = 0;

                for (unsigned i = 0; i < 2; i++) {
                        KvNode node = {
                                .key = both[i].key, .value = kv_string("v"), .created = 1, .modified = 3
                        };

                        assert_int_equal(tree_put(f->txn, &node), 0);
                        written[i] = (KvWritten) {
                                .node = node, .prev = node, .has_prev = true, .refreshed = true
                        };
                        written[i].prev.modified = written[i].node.modified = i == lost ? 2 : 3;
                }
                assert_int_equal(result_encode(&given, &cmd, &left, &w), 0);
                assert_int_equal(decode(w.bytes, w.size, f->txn, &cmd, &arena, &result), 0);
                assert_int_equal(result.status, lost < 2 ? KV_UNKNOWN : KV_OK);
        }
}

/* -- Records -- */

static KvBatchItem item_of(uint64_t number, uint64_t acknowledged) {
        return (KvBatchItem) {
                .origin = ORIGIN, .number = number, .acknowledged = acknowledged, .deadline_ms = DEADLINE_MS
        };
}

static Dedup *entry_begin(Fixture *f, uint64_t entry) {
        Dedup *results = NEW0(Dedup, 1);

        *results = (Dedup) { .txn = f->txn, .entry = entry, .term = 3, .cluster_ms = NOW_MS };
        return results;
}

static void entry_free(Dedup *results) {
        dedup_done(results);
        free(results);
}

static void answer(Dedup *results, uint64_t number, uint64_t acknowledged, uint64_t index) {
        KvBatchItem item = item_of(number, acknowledged);
        KvCommand cmd = { .op = KV_RAISE };
        CachedResult kept;

        assert_int_equal(dedup_judge(results, &item, &kept), DEDUP_FRESH);
        assert_int_equal(dedup_keep(results, &item, &cmd, &(KvResult) { .index = index }), 0);
}

static void entry_end(Dedup *results) {
        assert_int_equal(dedup_store(results), 0);
        entry_free(results);
}

static void records_are_these_bytes(void **state) {
        static const char *const expected = "01 0300000000000000 0600000000000000 60ea000000000000 "
                                            "50c3000000000000 0300000000000000 1700000000000000 01"
                                            " 00 04 00000003  03 04 00000004";
        Fixture *f = *state;
        Dedup *results = entry_begin(f, 0x17);
        uint8_t bytes[128];
        KvBytes record;

        answer(results, 2, 1, 2); /* no origin waits for it at the end of the entry */
        answer(results, 3, 2, 3);
        answer(results, 6, 3, 4);
        entry_end(results);
        assert_int_equal(tree_result(f->txn, ORIGIN, 0, &record), 0);
        same_bytes(record, (KvBytes) { bytes, bytes_of(expected, bytes) });
}

/* A mask of the slots that have a record; in the last one, the number of records. */
static unsigned slots_of(Fixture *f, unsigned *ret_n) {
        unsigned slots = 0;
        KvBytes record;

        for (unsigned slot = 0; slot < 16; slot++)
                if (tree_result(f->txn, ORIGIN, slot, &record) == 0) {
                        Reader r = reader_over(record.data, record.size);

                        (void) read_raw(&r, 1 + 6 * 8);
                        *ret_n = read_varint(&r);
                        slots |= 1u << slot;
                }
        return slots;
}

static void each_entry_has_a_record_until_no_origin_waits_for_its_results(void **state) {
        static const struct {
                uint64_t number, acknowledged;
                unsigned slots, n;
        } steps[] = {
                { 1, 1, 0x1, 1 },  { 2, 1, 0x3, 2 },  { 3, 3, 0x4, 1 }, /* both records are passed */
                { 4, 4, 0x4, 1 },                     /* the only one there is, passed, is written over */
                { 5, 4, 0xc, 2 },  { 6, 5, 0x18, 2 }, /* the one whose highest is below the acknowledged goes
                                                       */
                { 7, 5, 0x38, 3 }, { 8, 8, 0x40, 1 },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(steps); i++) {
                Dedup *results = entry_begin(f, 1 + i);
                unsigned n = 0;

                answer(results, steps[i].number, steps[i].acknowledged, 1);
                entry_end(results);
                assert_int_equal(slots_of(f, &n), steps[i].slots);
                assert_int_equal(n, steps[i].n);
                assert_int_equal(dedup_bound(f->txn, ORIGIN), steps[i].acknowledged);
        }
}

static void what_is_read_to_find_an_answer_is_counted_once(void **state) {
        static const struct {
                uint64_t number, nodes, bytes;
        } steps[] = {
                { 3, 3, COST_KEPT }, /* its record, the one before, which has no such number, and the record
                                        again */
                { 3, 2, 0 },         /* the one before, and the record */
                { 1, 3, 3 * COST_KEPT }, /* two more */
                { 1, 1, 0 },
        };
        Fixture *f = *state;
        Dedup *results;

        for (uint64_t number = 1; number <= 3; number++) {
                results = entry_begin(f, 20 + number);
                answer(results, number, 1, 100 + number);
                entry_end(results);
        }
        results = entry_begin(f, 24);
        for (size_t i = 0; i < ELEMENTS(steps); i++) {
                KvBatchItem item = item_of(steps[i].number, 1);
                Cost cost = { .nodes = 1000, .bytes = 2000, .total = 3000 };
                CachedResult kept;

                assert_int_equal(dedup_judge(results, &item, &kept), DEDUP_KEPT);
                assert_int_equal(kept.entry, 20 + steps[i].number);
                assert_int_equal(kept.term, 3);
                assert_int_equal(kept.now_ms, NOW_MS);
                dedup_take_cost(results, &cost);
                assert_int_equal(cost.nodes, 1000 + steps[i].nodes);
                assert_int_equal(cost.bytes, 2000 + steps[i].bytes);
                assert_int_equal(cost.total, 3000 + steps[i].nodes * COST_VISIT + steps[i].bytes);
        }
        entry_free(results);
}

/* -- Damaged records -- */

/* The record of 'numbers' (each with an answer of four bytes) in 'slot', as its entry wrote it. */
static void put_record(Fixture *f, uint64_t slot, uint8_t version, uint64_t deadline_ms, uint64_t highest,
                       size_t cut) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, version);
        write_u64(&w, 1);
        write_u64(&w, highest);
        write_u64(&w, deadline_ms);
        for (unsigned i = 0; i < 3; i++)
                write_u64(&w, 1);
        write_varint(&w, 1);
        write_varint(&w, highest - 1);
        write_blob(&w, "\0\0\0\1", 4);
        assert_int_equal(tree_put_result(f->txn, ORIGIN, slot, (KvBytes) { w.bytes, w.size - cut }), 0);
}

static void damaged_records_are_reported_wherever_they_are_read(void **state) {
        static const struct {
                uint8_t version;
                size_t cut;
                int head, answers; /* what reading its head says, and what reading the answers says */
        } damages[] = {
                { 1, 0, 0, 0 },
                { 1, 1, 0, -EUCLEAN },
                { 1, 5, 0, -EUCLEAN },
                { 1, 7, -EUCLEAN, -EUCLEAN },
                { 0, 0, -EUCLEAN, -EUCLEAN },
                { 2, 0, -ENOTSUP, -ENOTSUP },
        };
        KvBatchItem fresh = item_of(9, 1), known = item_of(4, 1), passing = item_of(9, 8);
        KvCommand cmd = { .op = KV_RAISE };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(damages); i++) {
                int head = damages[i].head, answers = damages[i].answers;
                CachedResult kept;
                Dedup *results;

                /* The last one. */
                put_record(f, 0, damages[i].version, DEADLINE_MS, 4, damages[i].cut);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_judge(results, &fresh, &kept), head ?: DEDUP_FRESH);
                entry_free(results);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_keep(results, &fresh, &cmd, &(KvResult) {}), head);
                entry_free(results);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_judge(results, &known, &kept), answers ?: DEDUP_KEPT);
                entry_free(results);
                assert_int_equal(dedup_bound(f->txn, ORIGIN), head < 0 ? 0 : 1);

                /* One behind which there are others. */
                put_record(f, 1, 1, DEADLINE_MS, 7, 0);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_judge(results, &known, &kept), answers ?: DEDUP_KEPT);
                entry_free(results);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_judge(results, &passing, &kept), DEDUP_FRESH);
                assert_int_equal(dedup_keep(results, &passing, &cmd, &(KvResult) {}), 0);
                assert_int_equal(dedup_store(results), head);
                entry_free(results);

                /* What is past its deadline is looked for in all. */
                put_record(f, 0, damages[i].version, NOW_MS - 1, 4, damages[i].cut);
                tree_set_results_swept(f->txn, NOW_MS - DEDUP_SWEEP_MS);
                results = entry_begin(f, 5);
                assert_int_equal(dedup_store(results), head);
                entry_free(results);
                for (uint64_t slot = 0; slot < 3; slot++) {
                        uint64_t last;
                        KvBytes record;

                        if (tree_result_before(f->txn, ORIGIN, UINT64_MAX, &last, &record) == 0 && head == 0)
                                assert_true(last > 0); /* it has gone */
                }
                tree_abort(f->txn);
                assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        }
}

/* -- Without memory -- */

static int ask_and_keep(void *userdata) {
        _cleanup_(dedup_done) Dedup results = {};
        KvCommand post = COMMAND(KV_POST, "/q"), txn = { .op = KV_TXN, .writes = &post, .n_writes = 1 };
        KvWritten written = {
                .node = { .key = kv_string("/q/00000000000000000005"), .modified = 5, .created = 5 }
        };
        KvResult given = { .written = &written, .n_written = 1 }, result;
        Fixture *f = userdata;
        KvBatchItem known = item_of(1, 1), fresh = item_of(200 + f->runs++, 1);
        _cleanup_arena_ Arena arena = {};
        CachedResult kept;
        int r;

        r = decode("\0\2\1\5\034\0\5", 7, NULL, &post, &arena, &result);
        if (r < 0)
                return r;
        same_node(&result.node, &written.node);
        results = (Dedup) { .txn = f->txn, .entry = 1000, .term = 3, .cluster_ms = NOW_MS };
        r = dedup_judge(&results, &known, &kept);
        if (r < 0)
                return r;
        assert_int_equal(r, DEDUP_KEPT);
        for (unsigned i = 0; i < 2; i++) { /* another origin, too */
                r = dedup_judge(&results, &fresh, &kept);
                if (r < 0)
                        return r;
                assert_int_equal(r, DEDUP_FRESH);
                r = dedup_keep(&results, &fresh, &txn, &given);
                if (r < 0)
                        return r;
                r = dedup_judge(&results, &fresh, &kept);
                if (r < 0)
                        return r;
                assert_int_equal(r, DEDUP_KEPT);
                r = result_decode(&kept, NULL, &txn, &arena, &result);
                if (r < 0)
                        return r;
                same_node(&result.written[0].node, &written.node);
                fresh.origin++;
        }
        return dedup_store(&results);
}

static void without_memory_no_answer_is_lost_or_invented(void **state) {
        Fixture *f = *state;

        for (uint64_t number = 1; number <= 40; number++) {
                Dedup *results = entry_begin(f, number);

                answer(results, number, 1, number);
                entry_end(results);
        }
        assert_true(alloc_fail_each("kept answers", ask_and_keep, f, 1) > 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define IN_FIXTURE(t) cmocka_unit_test_setup_teardown(t, fixture_begin, fixture_end)
                cmocka_unit_test(answers_are_kept_in_these_bytes_and_come_out_of_them_whole),
                cmocka_unit_test(an_answer_that_is_incomplete_or_too_long_is_malformed),
                cmocka_unit_test(what_no_answer_to_the_command_says_is_malformed),
                cmocka_unit_test(a_cause_may_be_as_long_as_two_values_and_a_key),
                IN_FIXTURE(the_value_of_a_refresh_is_the_trees_unless_that_was_written_since),
                IN_FIXTURE(one_value_that_was_written_since_makes_the_whole_answer_unknown),
                IN_FIXTURE(records_are_these_bytes),
                IN_FIXTURE(each_entry_has_a_record_until_no_origin_waits_for_its_results),
                IN_FIXTURE(what_is_read_to_find_an_answer_is_counted_once),
                IN_FIXTURE(damaged_records_are_reported_wherever_they_are_read),
                IN_FIXTURE(without_memory_no_answer_is_lost_or_invented),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
