/* Names of Raft's messages, for traces. */
#pragma once

#include "base/memory.h"
#include "kvstore/raft/message.h"

static inline const char *raft_message_type_name(RaftMessageType type) {
        static const char *const names[] = {
                [RAFT_MESSAGE_APPEND] = "append",     [RAFT_MESSAGE_APPEND_RESULT] = "append-result",
                [RAFT_MESSAGE_VOTE] = "vote",         [RAFT_MESSAGE_VOTE_RESULT] = "vote-result",
                [RAFT_MESSAGE_SNAPSHOT] = "snapshot", [RAFT_MESSAGE_TIMEOUT_NOW] = "timeout-now",
        };

        return type > 0 && type < ELEMENTS(names) ? names[type] : "unknown";
}
