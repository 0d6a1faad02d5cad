/* Linearizable reading by term check: who reads waits until a majority has said, after the read arrived, that
 * it knows no later term than ours; and until all that was committed at its arrival is applied here. One
 * check serves all that wait. A follower asks its leader how far to wait. No disk, no lease. */
#pragma once

#include "kvstore/kvstore.h"
#include "kvstore/raft/replica.h"

typedef struct Reads Reads;

enum {
        READS_WAIT_MS = 1500,  /* then: KV_NO_LEADER, or KV_UNKNOWN when a check was under way */
        READS_RETRY_MS = 300,  /* a check without an answer is asked again */
        READS_REMOTE_MAX = 64, /* followers' questions that wait here */
};

int reads_new(Reads **ret, Replica *replica);
Reads *reads_free(Reads *reads); /* asserts that nobody of ours waits; returns NULL */

void reads_add(Reads *reads, KvSync *sync);
void reads_set_unchecked(Reads *reads,
                         bool unchecked); /* a planted bug: nobody is asked, what is applied is served */
void reads_cancel(Reads *reads, KvSync *sync);
/* Entries were applied, or Raft's state changed ('changed': RAFT_CHANGED_ bits). */
void reads_settled(Reads *reads, unsigned changed);
/* Everybody that waits gets 'status'. */
void reads_end(Reads *reads, KvStatus status);
void reads_drop(Reads *reads); /* forgets everybody, without an answer */
