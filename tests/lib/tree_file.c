#include "tests/lib/tree_file.h"

#include "kvstore/tree/tree.h"

enum { NODE_SIZE = 200 * 1024 };

#define MUST(expression)                                                                         \
        do {                                                                                     \
                if (!(expression)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                 \
                }                                                                                \
        } while (false)

static void each_node(Tree *tree, unsigned n, bool there) {
        _cleanup_free_ char *value = calloc(1, NODE_SIZE);
        TreeTxn *txn;
        char key[32];

        MUST(value && tree_begin_write(tree, &txn) == 0);
        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/swollen/%u", i);
                if (there)
                        MUST(tree_put(txn, &(KvNode) { .key = kv_string(key),
                                                       .value = { value, NODE_SIZE },
                                                       .created = 1,
                                                       .modified = 1 }) == 0);
                else
                        MUST(tree_delete(txn, kv_string(key)) == 0);
        }
        if (there)
                MUST(tree_put(txn, &(KvNode) { .key = kv_string("/swollen"),
                                               .dir = true,
                                               .created = 1,
                                               .modified = 1 }) == 0);
        else
                MUST(tree_delete(txn, kv_string("/swollen")) == 0);
        MUST(tree_commit(txn) == 0);
}

void tree_file_swell(const char *path, unsigned n, bool keep) {
        _cleanup_free_ char *live = NULL;
        Tree *tree;

        MUST(asprintf(&live, "%s/live", path) > 0);
        MUST(tree_open(live, &(TreeOptions) {}, &tree, NULL) == 0);
        each_node(tree, n, true);
        if (!keep)
                each_node(tree, n, false);
        tree_close(tree);
}
