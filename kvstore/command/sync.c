#include "kvstore/command/sync.h"

bool syncs_remove(KvSyncs *queue, KvSync *sync) {
        KvSync *s;

        TAILQ_FOREACH(s, queue, entry)
                if (s == sync) {
                        TAILQ_REMOVE(queue, sync, entry);
                        return true;
                }
        return false;
}

void syncs_answer(KvSyncs *queue, uint64_t due_ms, KvStatus status) {
        KvSync *sync;

        while ((sync = TAILQ_FIRST(queue)) && sync->due_ms <= due_ms) {
                TAILQ_REMOVE(queue, sync, entry);
                sync->done(sync->userdata, status);
        }
}
