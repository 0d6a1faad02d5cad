/* Shared by the files of the store: store.c passes the replica's news to tree, proposers and watchers;
 * store_sessions.c is for hosts without a replica; expiry.c proposes expiry; status.c answers queries; read.c
 * reads; store_facts.c has what the others and their parts need. Each calls only the files after it. */
#pragma once

#include "kvstore/hub.h"
#include "kvstore/propose.h"
#include "kvstore/read_bound.h"
#include "kvstore/remote.h"
#include "kvstore/serve.h"
#include "kvstore/serving.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/read_index.h"
#include "kvstore/raft/replica.h"

enum { KV_STALL_MS = 1000 }; /* cluster time that a stall counts at most */

struct KvStore {
        Loop *loop;
        KvEvents events;
        Peers *peers;
        Replica *replica;
        Proposals *proposals;
        ReadIndex *reads;
        Hub *hub;
        Serve *serve; /* NULL: without sessions, as the next */
        Remote *remote;
        bool attached;  /* this host has no replica, and uses that of another one */
        bool attaching; /* it has one, which does not work: until the slice is complete */

        uint64_t index;    /* of the store, after the last applied entry */
        uint64_t promised; /* this index was acknowledged because of the leader's answer */
        unsigned level, level_max;
        const char *waits;              /* KvOptions.waits */
        DurationCounts commits;         /* see KvCounts */
        TreeMeta meta;                  /* as of then */
        bool rebuilt;                   /* entries were applied to a tree that did not serve yet */
        bool reset;                     /* another tree serves: observers are to be notified */
        uint64_t clock_ms, clock_at_ms; /* cluster time, and the loop's time at that moment */
        bool clock_runs;
        Timer tick;

        ReadBound read_bound;
        KvSync read_bound_sync; /* a ReadIndex check of this tree */
        bool read_bound_asked;

        bool leads; /* and is ready */
        uint64_t lead_ms, lead_index, grace_ms;
        uint64_t leaderless_ms; /* since when there is no leader; 0: there is one */
        bool expiring,
                expiry_input_read; /* the expiry is proposed; a key is due, and the loop first reads input */
        Timer expiry;

        LIST_HEAD(, KvList) lists; /* large reads under way */
        unsigned n_lists;

        Deferred notify;
        bool closing, handing_over;
        Timer hand_over;
        Deferred finish; /* the next step of the end: what it has waited for is over */
        void (*closed)(void *userdata);
        void *closed_userdata;
};

/* -- read.c -- */

void kv_lists_stop(KvStore *s); /* large reads end soon */
void kv_lists_drop(KvStore *s); /* large reads are gone, and their work never comes back */

/* -- store_sessions.c -- */

int kv_open_sessions(KvStore *s);
void kv_close_sessions(KvStore *s);
/* After an input of the replica: use it again if it has reached what this host has seen elsewhere. Return
 * whether this call did so; kv_take_over() follows when its tree serves, with its events in the hub. */
bool kv_detach(KvStore *s);
void kv_take_over(KvStore *s);

/* -- store_facts.c -- */

int kv_read_meta(KvStore *s, TreeMeta *ret); /* of the tree that serves */
void kv_clock_set_running(KvStore *s, bool runs);
void kv_clock_on_tick(void *store);

/* -- expiry.c -- */

/* Propose the expiry of keys that are due, or wait until one is. */
void kv_expiry_check(KvStore *s);
void kv_expiry_on_timer(void *store);
