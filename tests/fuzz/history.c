/* Any bytes as the body of a row of the history: what is read is written as the same bytes. */
#include <assert.h>
#include <errno.h>

#include "fleetd/registry/history.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        uint8_t body[KV_NOTE_MAX];
        HistoryEvent event;
        size_t n;
        int r;

        r = history_decode((KvBytes) { bytes, size }, &event);
        assert(r == 0 || r == -EBADMSG);
        if (r < 0)
                return 0;
        n = history_encode(&(HistoryNote) { (HistoryKind) event.kind, event.unit, event.machine, event.user,
                                            event.reason },
                           body);
        /* A reason of a newer version may be longer, or have several lines. */
        assert(n <= size && memcmp(body, bytes, n) == 0 &&
               (n == size || bytes[n] == '\n' || n + 3 >= KV_NOTE_MAX));
        return 0;
}
