/* Arbitrary bytes as a message of Raft: a decoded message is within its limits, and encodes to the same
 * bytes. */

#include "kvstore/raft/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_writer_ Writer again = {};
        RaftMessage m;

        if (raft_message_decode(bytes, size, &m) < 0)
                return 0;

        if (m.type == RAFT_MESSAGE_APPEND) {
                assert(m.append.n_entries <= RAFT_MESSAGE_ENTRIES_MAX);
                for (size_t i = 0; i < m.append.n_entries; i++)
                        assert(m.append.entries[i].size <= RAFT_ENTRY_SIZE_MAX);
        }
        raft_message_encode(&again, &m);
        assert(again.error == 0 && again.size == size && memcmp(again.bytes, bytes, size) == 0);
        raft_message_done(&m);
        return 0;
}
