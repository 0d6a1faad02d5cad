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
