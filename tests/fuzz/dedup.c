/* Arbitrary bytes as the deduplication table of the tree: a sequence of records (a size, then the record) of
 * one origin. They are read, or rejected by an errno that stops the replica. Results that are stored after
 * them are found unchanged. */

#include "kvstore/apply/dedup.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { ORIGIN = 5, RECORDS_MAX = 8, NUMBERS = 40, NOW_MS = 1000 };

/* One tree for all inputs: each is read in a transaction that is aborted. */
static Tree *tree_of_process(void) {
        static Tree *tree;

        if (!tree) {
                _cleanup_free_ char *path = NULL;
                char *scratch = scratch_new();

                path = scratch_path(scratch, "tree");
                assert(tree_open(path, &(TreeOptions) {}, &tree, NULL) == 0);
                scratch_free(scratch);
        }
        return tree;
}

static void is_refusal(int r) {
        assert(r == -EUCLEAN || r == -ENOTSUP || r == -EBADMSG);
}

/* Return 0, or the errno of the rejection. */
static int look_at_number(Dedup *results, uint64_t number) {
        const KvCommand cmd = { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("1") };
        KvBatchItem item = { .origin = ORIGIN, .number = number, .acknowledged = 1, .deadline_ms = NOW_MS };
        _cleanup_arena_ Arena arena = {};
        CachedResult kept;
        KvResult result;
        int r = dedup_judge(results, &item, &kept);

        if (r < 0)
                return r;
        assert(r == DEDUP_FRESH || r == DEDUP_KEPT || r == DEDUP_LATE || r == DEDUP_PASSED);
        if (r == DEDUP_KEPT && result_decode(&kept, NULL, &cmd, &arena, &result) == 0) {
                assert((unsigned) result.status < _KV_STATUS_MAX && result.again);
                free(kv_result_copy(&result));
        }
        return 0;
}

/* A new result is stored beside any records. */
static int keep_one(TreeTxn *txn, uint64_t number) {
        const KvCommand cmd = { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("1") };
        const KvResult said = {
                .status = KV_OK,
                .action = KV_ACTION_SET,
                .index = 7,
                .has_node = true,
                .node = { .key = kv_string("/a"), .value = kv_string("1"), .created = 7, .modified = 7 }
        };
        KvBatchItem item = {
                .origin = ORIGIN, .number = number, .acknowledged = 1, .deadline_ms = NOW_MS + 1
        };
        _cleanup_(dedup_done) Dedup results = { .txn = txn, .entry = 9, .term = 2, .cluster_ms = NOW_MS };
        _cleanup_(dedup_done) Dedup again = { .txn = txn, .entry = 10, .term = 2, .cluster_ms = NOW_MS };
        _cleanup_arena_ Arena arena = {};
        CachedResult kept;
        KvResult result;
        int r;

        r = dedup_judge(&results, &item, &kept);
        if (r != DEDUP_FRESH)
                return r;
        r = dedup_keep(&results, &item, &cmd, &said);
        if (r == 0)
                r = dedup_store(&results);
        if (r < 0)
                return r;
        r = dedup_judge(&again, &item, &kept);
        if (r < 0)
                return r;
        assert(r == DEDUP_KEPT && kept.entry == 9 && kept.term == 2 && kept.now_ms == NOW_MS);
        assert(result_decode(&kept, txn, &cmd, &arena, &result) == 0);
        assert(result.status == KV_OK && result.index == 7 && result.node.modified == 7 &&
               kv_bytes_equal(result.node.value, kv_string("1")));
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_done) Dedup results = {};
        Reader r = reader_over(bytes, size);
        int k = 0;

        assert(tree_begin_write(tree_of_process(), &txn) == 0);
        for (unsigned slot = 1; slot <= RECORDS_MAX && r.left > 0; slot++) {
                size_t record_size;
                const void *record = read_blob(&r, SIZE_MAX, &record_size);

                if (record && record_size > 0)
                        assert(tree_put_result(txn, ORIGIN, slot, (KvBytes) { record, record_size }) == 0);
        }
        results = (Dedup) { .txn = txn, .entry = 8, .term = 2, .cluster_ms = NOW_MS };
        for (uint64_t number = 1; k == 0 && number <= NUMBERS; number++)
                k = look_at_number(&results, number);
        if (k < 0)
                is_refusal(k);
        k = keep_one(txn, UINT64_MAX / 2);
        if (k < 0)
                is_refusal(k);
        (void) dedup_bound(txn, ORIGIN);
        assert(tree_check(txn, NULL) == 0);
        return 0;
}
