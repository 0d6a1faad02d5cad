/* Linearizable reading by term check: who reads waits until a majority has said, after the read arrived, that
 * it knows no later term than ours; and until all that was committed at its arrival is applied here. One
 * check serves all that wait. A follower asks its leader how far to wait. No disk, no lease. */
#pragma once

#include "kvstore/kvstore.h"
#include "kvstore/raft/replica.h"

typedef struct ReadIndex ReadIndex;

enum {
        READS_WAIT_MS = 1500,  /* then: KV_NO_LEADER, or KV_UNKNOWN when a check was under way */
        READS_RETRY_MS = 300,  /* a check without an answer is asked again */
        READS_REMOTE_MAX = 64, /* followers' questions that wait here */
};

int read_index_new(ReadIndex **ret, Replica *replica);
ReadIndex *read_index_free(ReadIndex *reads); /* asserts that nobody of ours waits; returns NULL */

void read_index_add(ReadIndex *reads, KvSync *sync);
void read_index_cancel(ReadIndex *reads, KvSync *sync);
/* Entries were applied, or Raft's state changed ('changed': RAFT_CHANGED_ bits). */
void read_index_settled(ReadIndex *reads, unsigned changed);
/* Everybody that waits gets 'status'. */
void read_index_end(ReadIndex *reads, KvStatus status);
void read_index_drop(ReadIndex *reads); /* forgets everybody, without an answer */
