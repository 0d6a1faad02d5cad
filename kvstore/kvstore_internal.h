/* What the files of the door share: kvstore.c is the way from the replica to who proposed and who watches;
 * cluster_time.c keeps cluster time and the leader's care for what expires; status.c answers what can be
 * asked. Each calls only those after it. */
#pragma once

#include <sys/queue.h>

#include "kvstore/read_bound.h"
#include "base/sizes.h"
#include "kvstore/kvstore.h"
#include "kvstore/apply/outcomes.h"
#include "kvstore/propose.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/read_index.h"
#include "kvstore/raft/replica.h"

enum { KV_STALL_MS = 1000 }; /* what a stall counts at most, in cluster time */

static inline bool kv_has_bug(const char *planted, const char *bug) {
#ifdef PLANTED_BUGS
        return planted && streq(planted, bug);
#else
        return false;
#endif
}

struct KvStore {
        Loop *loop;
        KvEvents events;
        Peers *peers;
        char machine_id[MACHINE_ID_SIZE];
        char address[ADDRESS_SIZE];
        Replica *replica;
        Proposals *proposals;
        ReadIndex *reads;
        Hub *hub;
        const char *bug; /* KvOptions' */

        Outcomes results, published; /* of the transaction that is open */
        Outcomes committed;          /* results that can be told */
        uint64_t index, entry_ms;    /* of the last entry applied */
        uint64_t kept;               /* bytes of answers in the tree */
        uint64_t promised;           /* somebody was told of this index by the leader's word */
        unsigned level, level_max;
        TreeMeta meta;    /* as of then */
        TreeMeta applied; /* of the transaction that is open: nobody learns of it before its commit */
        bool has_applied;
        bool remade; /* our tree is made again, and was not as far as the one that is shown */
        bool reset;  /* a snapshot took the tree's place: to be told */
        uint64_t done[_KV_ACTION_MAX], refused[_KV_ACTION_MAX]; /* of users' commands that were applied */
        Cost cost, cost_max;                                    /* KvCounts' */
        uint64_t deferred;

        uint64_t clock_ms, clock_at_ms; /* cluster time, and when it was so late */
        bool clock_runs;
        Timer tick;

        ReadBound floor;
        KvSync read_bound_sync; /* asks a majority whether this tree is as far as it was */
        bool read_bound_asked;

        bool leads; /* and is ready */
        uint64_t lead_ms, lead_index, grace_ms;
        uint64_t leaderless_ms; /* since when there is no leader; 0: there is one */
        bool expiring,
                expiry_heard; /* the expiry is proposed; something is due, and the loop reads what has come */
        Timer expiry;

        LIST_HEAD(, KvLargeRead) large;
        unsigned n_large;

        Deferred tell;
        bool closing, handing_over;
        Timer hand_over;
        Deferred finish;
        void (*closed)(void *userdata);
        void *closed_userdata;
};

/* -- large.c -- */

void kv_large_stop(KvStore *s); /* all end soon */
void kv_large_drop(KvStore *s); /* all are gone, and their work never comes back */

/* -- kvstore.c -- */

void kv_large_ended(KvStore *s); /* one of them: a close may have waited for it */

/* -- cluster_time.c -- */

/* Cluster time now; the first leader of a cluster begins with its own. 0: not known yet. */
uint64_t kv_clock_ms(void *store);
void kv_clock_set_running(KvStore *s, bool runs);
void kv_clock_on_tick(void *store);
/* Proposes the end of what is due, or waits until something is. */
void kv_expiry_check(KvStore *s);
void kv_expiry_on_timer(void *store);
