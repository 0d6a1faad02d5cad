/* What all tables use: errors, cursors, the size of changes. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>
#include <sys/stat.h>

enum { PAGE_SIZE = 4096 };

int tree_error(int rc) {
        switch (rc) {
        case MDB_SUCCESS:
                return 0;
        case MDB_NOTFOUND:
                return -ENOENT;
        case MDB_KEYEXIST:
                return -EEXIST;
        case MDB_MAP_FULL:
                return -ENOSPC;
        case MDB_TXN_FULL:
                return -E2BIG;
        case MDB_READERS_FULL:
                return -EBUSY;
        case MDB_PAGE_NOTFOUND:
        case MDB_CORRUPTED:
        case MDB_PANIC:
        case MDB_VERSION_MISMATCH:
        case MDB_INVALID:
        case MDB_INCOMPATIBLE:
                return -EUCLEAN;
        default:
                return rc > 0 ? -rc : -EIO;
        }
}

void tree_cursor_closep(MDB_cursor **cursor) {
        if (*cursor)
                mdb_cursor_close(*cursor);
}

uint64_t tree_file_size(const Tree *tree) {
        struct stat st;
        int fd;

        if (mdb_env_get_fd(tree->env, &fd) != 0 || fstat(fd, &st) < 0)
                return 0;
        return st.st_size;
}

/* A leaf page and, for a large record, its overflow pages; branch pages are few. */
void tree_touch(TreeTxn *txn, uint64_t size) {
        txn->touched += PAGE_SIZE + size;
}
