/* Arbitrary bytes as a sequence of commands (a size, then the command), applied twice to an empty tree. Both
 * runs have the same result, a rejected command changes nothing, and the tree is consistent afterwards. */

#include "kvstore/apply/apply.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { COMMANDS_MAX = 64 };

/* One tree for all inputs: each is applied in a transaction that is aborted. The folder is removed at once;
 * the file stays open. */
static Tree *tree_of_process(void) {
        static Tree *tree;

        if (!tree) {
                _cleanup_free_ char *path = NULL;
                char *scratch = scratch_new();
                int r;

                path = scratch_path(scratch, "tree");
                r = tree_open(path, &(TreeOptions) {}, &tree, NULL);
                assert(r == 0);
                scratch_free(scratch);
        }
        return tree;
}

static uint64_t hash_of(TreeTxn *txn) {
        uint64_t hash;
        int r = tree_hash(txn, &hash);

        assert(r == 0);
        return hash;
}

static void on_event(void *userdata, const KvEvent *event) {
        uint64_t *last = userdata;

        assert(event->index > *last);
        assert(event->node.modified == event->index);
        *last = event->index;
}

static uint64_t apply_all(const uint8_t *bytes, size_t size) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Reader r = reader_over(bytes, size);
        TreeMeta meta = { .quota = 64 * 1024 };
        uint64_t last_event = 0;
        int k;

        k = tree_begin_write(tree_of_process(), &txn);
        assert(k == 0);
        for (unsigned i = 0; i < COMMANDS_MAX && r.left > 0 && !r.failed; i++) {
                _cleanup_free_ void *decoded = NULL;
                _cleanup_arena_ Arena arena = {};
                ApplySink sink = { .on_event = on_event, .userdata = &last_event };
                uint64_t index = meta.index, hash;
                size_t command_size;
                const void *command = read_blob(&r, KV_COMMAND_MAX, &command_size);
                KvCommand cmd;
                KvResult result;

                if (!command || kv_command_decode(command, command_size, &cmd, &decoded) < 0)
                        continue;
                meta.cluster_ms += 10;
                hash = hash_of(txn);
                k = sink_apply_command(txn, &meta, &cmd, 1, &arena, &sink, &result);
                if (k == -EOPNOTSUPP && cmd.op == KV_RAISE)
                        break; /* a feature level that this program lacks ends the sequence */
                assert(k == 0);
                assert(result.index == meta.index && meta.index == MAX(index, last_event));
                if (result.status != KV_OK)
                        assert(meta.index == index && hash_of(txn) == hash);
        }
        k = tree_check(txn, NULL);
        assert(k == 0);
        k = tree_set_meta(txn, &meta);
        assert(k == 0);
        return hash_of(txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        uint64_t first = apply_all(bytes, size), second = apply_all(bytes, size);

        assert(first == second);
        return 0;
}
