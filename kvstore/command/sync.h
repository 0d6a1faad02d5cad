/* A linearizable read that waits: 'done' is called when this replica has applied all that was acknowledged
 * before kv_sync(); then read. One ReadIndex check with a majority serves all waiting reads. */
#pragma once

#include <sys/queue.h>

#include "kvstore/command/command.h"

typedef struct KvSync {
        /* KV_OK, KV_NO_LEADER, or KV_UNKNOWN after 1.5 s. */
        void (*done)(void *userdata, KvStatus status);
        void *userdata;
        TAILQ_ENTRY(KvSync) entry; /* the store's */
        uint64_t due_ms;
} KvSync;

/* Reads that wait, in the order of their deadlines. */
typedef TAILQ_HEAD(KvSyncs, KvSync) KvSyncs;

bool syncs_remove(KvSyncs *queue, KvSync *sync); /* false: it is not in this one */
/* Answer those that are due at 'due_ms'; UINT64_MAX: all. An answer may cancel other reads. */
void syncs_answer(KvSyncs *queue, uint64_t due_ms, KvStatus status);
