/* Results and events of apply as calls, for tests: each event and each result is passed on after the entry or
 * command was applied. */
#pragma once

#include "kvstore/apply/apply.h"

typedef struct ApplySink {
        void (*on_result)(void *userdata, uint64_t origin, uint64_t number, const KvResult *result);
        void (*on_event)(void *userdata, const KvEvent *event);
        void *userdata;
        unsigned level_max; /* 0: KV_LEVEL_MAX */
        Cost *cost;         /* of the entry; for a command: what the entry has cost before it */
} ApplySink;

static inline Applied sink_open(const ApplySink *sink) {
        return (Applied) { .any_origin = true,
                           .level_max = sink->level_max,
                           .cost = sink->cost ? *sink->cost : (Cost) {} };
}

static inline void sink_close(const ApplySink *sink, Applied *applied) {
        for (size_t i = 0; sink->on_event && i < applied->n_events; i++)
                sink->on_event(sink->userdata, applied->events[i]);
        for (size_t i = 0; sink->on_result && i < applied->n_results; i++)
                sink->on_result(sink->userdata, applied->results[i].origin, applied->results[i].number,
                                applied->results[i].result);
        if (sink->cost)
                *sink->cost = applied->cost;
        applied_clear(applied);
}

static inline int sink_apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes,
                                   size_t size, const ApplySink *sink) {
        Applied applied = sink_open(sink);
        int r = apply_batch(txn, raft_index, term, bytes, size, &applied);

        sink_close(sink, &applied);
        return r;
}

static inline int sink_apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term,
                                     Arena *arena, const ApplySink *sink, KvResult *ret) {
        Applied applied = sink_open(sink);
        int r = apply_command(txn, meta, cmd, term, arena, &applied, ret);

        sink_close(sink, &applied);
        return r;
}
