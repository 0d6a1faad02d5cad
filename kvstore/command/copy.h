/* A verified copy of this host's tree, for a backup: see kv_copy(). */
#pragma once

#include <stdint.h>
#include <sys/queue.h>

/* A file that ends with its checksum (base/file_checksum.h). */
typedef struct KvCopy {
        int fd; /* borrowed for the call */
        uint64_t size;
        uint64_t cluster_id, lineage, index, raft_index, cluster_ms, level;
} KvCopy;

/* A request of a copy. It stays in place until 'done'. */
typedef struct KvCopyRequest {
        /* Called once, also before kv_copy() returns. Negative 'result': there is no copy, because of
         * 'reason'. */
        void (*done)(void *userdata, int result, const KvCopy *copy, const char *reason);
        void *userdata;
        /* The store's: */
        uint64_t applied;
        TAILQ_ENTRY(KvCopyRequest) entry;
} KvCopyRequest;
