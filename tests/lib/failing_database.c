#include "tests/lib/failing_database.h"

#include <lmdb.h>

FailingCalls failing;

void failing_call(unsigned n, int code) {
        failing = (FailingCalls) { .counts = true, .fail_at = n, .code = code };
}

void failing_calls_end(void) {
        failing.counts = false;
}

bool call_fails(void) {
        if (!failing.counts || ++failing.n != failing.fail_at)
                return false;
        failing.failed = true;
        return true;
}

#define FAILING(name, parameters, ...)                                           \
        int __real_##name parameters;                                            \
        int __wrap_##name parameters;                                            \
        int __wrap_##name parameters {                                           \
                return call_fails() ? failing.code : __real_##name(__VA_ARGS__); \
        }

FAILING(mdb_env_create, (MDB_env * *env), env)
FAILING(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode), env, path, flags,
        mode)
FAILING(mdb_env_copyfd2, (MDB_env * env, mdb_filehandle_t fd, unsigned flags), env, fd, flags)
FAILING(mdb_txn_begin, (MDB_env * env, MDB_txn *parent, unsigned flags, MDB_txn **txn), env, parent, flags,
        txn)
FAILING(mdb_txn_renew, (MDB_txn * txn), txn)
FAILING(mdb_dbi_open, (MDB_txn * txn, const char *name, unsigned flags, MDB_dbi *dbi), txn, name, flags, dbi)
FAILING(mdb_stat, (MDB_txn * txn, MDB_dbi dbi, MDB_stat *stat), txn, dbi, stat)
FAILING(mdb_get, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data), txn, dbi, key, data)
FAILING(mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags), txn, dbi, key,
        data, flags)
FAILING(mdb_del, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data), txn, dbi, key, data)
FAILING(mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), txn, dbi, cursor)
FAILING(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op), cursor, key,
        data, op)
FAILING(mdb_cursor_put, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, unsigned flags), cursor, key, data,
        flags)
FAILING(mdb_cursor_del, (MDB_cursor * cursor, unsigned flags), cursor, flags)

/* A commit that fails ends its transaction. */
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn) {
        if (!call_fails())
                return __real_mdb_txn_commit(txn);
        mdb_txn_abort(txn);
        return failing.code;
}
