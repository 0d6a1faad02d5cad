/* A fake replica: the test sets its state, its frames are recorded, and the test advances its time. For the
 * parts of kvstore/raft that use it only by its functions. Link with $(FAKE_REPLICA), which leads these calls
 * here. */
#pragma once

#include "base/text.h"
#include "kvstore/raft/replica_internal.h"

typedef struct FakeReplica {
        Replica replica;
        Loop loop;
        uint64_t now_ms;
        bool leads, ready, closed; /* by Raft's word; and an entry of its term is applied; it is not open */
        uint64_t leader, term, commit, applied;
        RaftServers servers;
        unsigned n_flushed; /* how often its state was to be reported */
        struct {
                PeerHandler run;
                void *userdata;
        } handlers[PEER_FRAME_TYPES];
        /* Instead of writing down a frame that is sent ('answer': to the session 'to'); its result is that of
         * the sending. 1, or NULL: it is written down. */
        int (*on_frame)(PeerFrame type, bool answer, uint64_t to, const Writer *w);
        Text said; /* "send TO: KIND A B C", "answer SESSION TO: KIND A B C", and what the test adds, a line
                      each */
} FakeReplica;

extern FakeReplica fake;

/* "VVs": 1 and 2 vote, 3 is a standby. We are 1, which leads, is ready, in term 5; all up to 10 is committed
 * and applied. */
void fake_begin(const char *roles);
void fake_end(void);
void fake_run(void); /* all that is due */
void fake_pass(uint64_t ms);
/* Lets all run that is due, and compares what was said since the last time. */
void fake_assert_said(const char *expected);
/* What such a frame has behind its sender: u8 kind, three u64. 'more': bytes too many. */
void fake_frame(Writer *w, uint64_t from, uint8_t kind, uint64_t a, uint64_t b, uint64_t c, size_t more);
