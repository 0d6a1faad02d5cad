/* Linearizable reads by a ReadIndex check: a read waits until a majority confirms, after the read arrived,
 * that it has no later term than this leader's; and until this host has applied all entries that were
 * committed when the read arrived. One check serves all waiting reads. A follower requests the
 * index. No disk access, no lease. */
#pragma once

#include "kvstore/raft/replica.h"
#include "kvstore/command/sync.h"

typedef struct ReadIndex ReadIndex;

enum {
        READS_WAIT_MS = 1500,  /* then: KV_NO_LEADER, or KV_UNKNOWN when a check was under way */
        READS_RETRY_MS = 300,  /* a check without an answer is repeated */
        READS_REMOTE_MAX = 64, /* requests of followers that wait here */
};

int read_index_new(ReadIndex **ret, Replica *replica);
ReadIndex *read_index_free(ReadIndex *reads); /* drops all waiting reads without an answer; returns NULL */

void read_index_add(ReadIndex *reads, KvSync *sync);
void read_index_cancel(ReadIndex *reads, KvSync *sync);
/* Entries were applied, or Raft's state changed ('changed': RAFT_CHANGED_ bits). */
void read_index_on_flush(ReadIndex *reads, unsigned changed);
/* Answer all waiting reads with 'status'. */
void read_index_end(ReadIndex *reads, KvStatus status);
