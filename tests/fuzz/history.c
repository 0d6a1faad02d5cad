/* Any bytes as the body of a row of the history: what is read is written as the same bytes. */

#include "fleetd/registry/history.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        uint8_t body[KV_NOTE_MAX];
        HistoryEvent event;
        size_t n;
        bool cut;
        int r;

        r = history_decode((KvBytes) { bytes, size }, &event);
        assert(r == 0 || r == -EBADMSG);
        if (r < 0 || bytes[1] & 0x80) /* with a code: an unknown one is not written again */
                return 0;
        n = history_encode(&(HistoryNote) { .kind = (HistoryKind) event.kind,
                                            .unit = event.unit,
                                            .machine = event.machine,
                                            .user = event.user,
                                            .reason = event.reason },
                           false, body);
        /* A reason of a newer version may have several lines, or be longer; a cut ends with "...". */
        cut = n < size && bytes[n] != '\n';
        assert(n <= size && memcmp(body, bytes, cut ? n - strlen("...") : n) == 0);
        assert(!cut || (size > KV_NOTE_MAX && memcmp(body + n - strlen("..."), "...", strlen("...")) == 0));
        return 0;
}
