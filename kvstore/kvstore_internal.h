/* Shared by the files of the store: kvstore.c passes the replica's news to tree, proposers and watchers;
 * cluster_time.c keeps cluster time and proposes expiry; status.c answers queries; large.c reads in workers.
 */
#pragma once

#include <sys/queue.h>

#include "kvstore/read_bound.h"
#include "base/sizes.h"
#include "kvstore/kvstore.h"
#include "kvstore/hub.h"
#include "kvstore/propose.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/read_index.h"
#include "kvstore/raft/replica.h"

enum { KV_STALL_MS = 1000 }; /* cluster time that a stall counts at most */

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

        uint64_t index;    /* of the store, after the last applied entry */
        uint64_t promised; /* this index was acknowledged because of the leader's answer */
        unsigned level, level_max;
        TreeMeta meta;                  /* as of then */
        bool rebuilt;                   /* entries were applied to a tree that did not serve yet */
        bool reset;                     /* another tree serves: observers are to be notified */
        uint64_t clock_ms, clock_at_ms; /* cluster time, and the loop's time at that moment */
        bool clock_runs;
        Timer tick;

        ReadBound floor;
        KvSync read_bound_sync; /* a ReadIndex check of this tree */
        bool read_bound_asked;

        bool leads; /* and is ready */
        uint64_t lead_ms, lead_index, grace_ms;
        uint64_t leaderless_ms; /* since when there is no leader; 0: there is one */
        bool expiring,
                expiry_heard; /* the expiry is proposed; a key is due, and the loop first reads input */
        Timer expiry;

        LIST_HEAD(, KvList) lists; /* large reads under way */
        unsigned n_lists;

        Deferred tell;
        bool closing, handing_over;
        Timer hand_over;
        Deferred finish;
        void (*closed)(void *userdata);
        void *closed_userdata;
};

/* -- read.c -- */

/* Begin a read transaction on the serving tree, for one callback of the loop at most. */
int kv_read(KvStore *s, TreeTxn **ret);
void kv_lists_stop(KvStore *s); /* large reads end soon */
void kv_lists_drop(KvStore *s); /* large reads are gone, and their work never comes back */
Hub *kv_hub(KvStore *s);        /* for tests */

/* -- kvstore.c -- */

void kv_list_ended(KvStore *s); /* a large read: kv_close() may wait for it */

/* Whether there is room for what 'cmd' adds, by the figures of the tree: 0, or a rejection with its message.
 * Apply checks it again; this keeps commands out of the log that it would reject for this reason first. */
int kv_check_room(KvStore *s, const KvCommand *cmd, KvStatus *ret_status, Error *err);
/* Record 'index', whose state this tree may not have reached, before an answer of the leader acknowledges it:
 * no older state is served afterwards, also after a restart. A negative errno: the answer must not be given.
 * Once the mark of the tree is withdrawn, further answers write nothing until the tree has reached them all.
 */
int kv_acknowledge(KvStore *s, uint64_t index);

/* -- status.c -- */

unsigned kv_level(const KvStore *s);                       /* feature level of the tree */
uint64_t kv_kept_bytes(const KvStore *s);                  /* of results in the tree */
void kv_problem(const KvStore *s, char *ret, size_t size); /* why there is no leader, for people */

/* -- cluster_time.c -- */

/* Cluster time now; the first leader of a cluster begins with its own clock. 0: not known yet. */
uint64_t kv_clock_ms(KvStore *s);
void kv_clock_set_running(KvStore *s, bool runs);
void kv_clock_on_tick(void *store);
/* Propose the expiry of keys that are due, or wait until one is. */
void kv_expiry_check(KvStore *s);
void kv_expiry_on_timer(void *store);
