#include "tests/search/work.h"

#include <lmdb.h>

#include "fleetd/scheduler/view.h"
#include "kvstore/hub_window.h"
#include "kvstore/remote_frames.h"
#include "peers/frame.h"

uint64_t work_done;
bool (*work_counts)(void);

void work_count(uint64_t n) {
        if (work_counts && work_counts())
                work_done += n;
}

#define WRAP(type, name, parameters, arguments, cost) \
        type __real_##name parameters;                \
        type __wrap_##name parameters;                \
        type __wrap_##name parameters {               \
                work_count(cost);                     \
                return __real_##name arguments;       \
        }

WRAP(void *, malloc, (size_t size), (size), size)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), n *size)
WRAP(void *, realloc, (void *p, size_t size), (p, size), size / 2) /* growing buffers double */
WRAP(int, mdb_get, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data), (txn, dbi, key, data),
     WORK_CALL)
WRAP(int, mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags),
     (txn, dbi, key, data, flags), WORK_CALL + data->mv_size)
WRAP(int, mdb_del, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data), (txn, dbi, key, data),
     WORK_CALL)
WRAP(int, mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op),
     (cursor, key, data, op), WORK_CALL)
WRAP(int, mdb_cursor_del, (MDB_cursor * cursor, unsigned flags), (cursor, flags), WORK_CALL)
WRAP(size_t, text_distance, (const char *a, const char *b), (a, b), strlen(a) * strlen(b))
WRAP(ssize_t, frame_take, (const uint8_t *bytes, size_t size, size_t max, Frame *ret),
     (bytes, size, max, ret), WORK_FRAME)
WRAP(KvWatchEvent *, hub_window_at, (const HubWindow *window, size_t i), (window, i), WORK_EVENT)
WRAP(void, remote_item_write, (const RemoteItem *item, Writer *w), (item, w),
     item->kind == REMOTE_EVENT ? WORK_COPY : 0)
WRAP(const ClusterMachine *, scheduler_view_by_load, (const SchedulerView *view, size_t position),
     (view, position), WORK_CANDIDATE)
WRAP(const ClusterMachine *, scheduler_view_by_name, (const SchedulerView *view, size_t position),
     (view, position), WORK_CANDIDATE)

bool __real_glob_match_counted(const char *pattern, const char *name, size_t *steps);
bool __wrap_glob_match_counted(const char *pattern, const char *name, size_t *steps);
bool __wrap_glob_match_counted(const char *pattern, const char *name, size_t *steps) {
        size_t before = *steps;
        bool result = __real_glob_match_counted(pattern, name, steps);

        work_count(*steps - before);
        return result;
}
