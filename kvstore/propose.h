/* Proposals on their way to the log, and their answers on the way back.
 *
 * Here, when we lead: what has arrived in one turn of the loop goes into one entry, up to KV_BATCH_MAX or
 * KV_BATCH_COMMANDS_MAX and COST_ENTRY_MAX, at most PROPOSE_WINDOW entries ahead; heavy commands wait for
 * their share (kvstore/budget.h). Elsewhere: to the leader, by PEER_PROPOSE. The answer comes from this
 * host's own apply, by (origin, number); or, when a snapshot took the entry's place, from what the tree keeps
 * of it.
 *
 * When the leader changes, the next one is asked again at once: each proposal takes effect once
 * (kvstore/apply/dedup.h). What is not answered PROPOSE_WAIT_MS after the leader's loss is answered
 * KV_UNKNOWN. Commands that are valid in one term only are never asked again. A host that cannot follow asks
 * the leader, after PROPOSE_ASK_MS (at once, if its replica has stopped), what became of what it took, and
 * gives its answer; what this host shows afterwards must not be older ('ahead'). Of what came to nothing,
 * because it was too late for the log or deferred, no answer is kept: the leader says so once the deadline is
 * past, and what this host's own apply has not answered PROPOSE_WAIT_MS later is answered KV_UNKNOWN. */
#pragma once

#include "kvstore/kvstore.h"
#include "kvstore/raft/replica.h"

typedef struct Proposals Proposals;

enum {
        PROPOSE_WINDOW = 4, /* entries of ours that are not committed */
        PROPOSE_MAX = 4096, /* commands of ours without an answer; as many of others that wait for the log */
        PROPOSE_BYTES_MAX = 16 * 1024 * 1024,
        PROPOSE_SMALL_MAX = 16 * 1024, /* bytes of a command that goes to the log before larger ones */
        PROPOSE_WAIT_MS = 1500,
        PROPOSE_ASK_MS = 1000,   /* from sending until the leader is asked what became of it */
        PROPOSE_LIFE_MS = 10000, /* from sending to the deadline, in cluster time */
};

typedef struct ProposalsOptions {
        Loop *loop;            /* borrowed */
        Peers *peers;          /* borrowed, may be NULL */
        Replica *replica;      /* borrowed */
        uint64_t origin;       /* drawn for this start; not 0 */
        uint64_t quota;        /* of users' bytes, in force while this host leads; 0: as it was */
        uint64_t quota_nodes;  /* the same of nodes */
        const unsigned *level; /* borrowed: the tree's feature level now */
        unsigned level_max;    /* what this program knows: nothing higher goes into the log */
        uint64_t (*cluster_ms)(void *userdata); /* the time that an entry made now carries, on the leader */
        uint64_t (*known_ms)(void *userdata);   /* cluster time as this host reckons it; 0: unknown yet */
        uint64_t (*kept)(void *userdata);       /* bytes of answers that the tree keeps */
        int (*read)(void *userdata, TreeTxn **ret);
        /* Before the leader's answer of 'index' is given, which may not be applied here. A negative errno: it
         * must not be given. */
        int (*ahead)(void *userdata, uint64_t index);
        /* Whether there is room for what 'cmd' adds, on the leader: 0, or a refusal with its sentence. */
        int (*fits)(void *userdata, const KvCommand *cmd, KvStatus *ret_status, Error *err);
        void (*problem)(void *userdata, char *ret, size_t size); /* why there is no leader, for people */
        void *userdata;
} ProposalsOptions;

int proposals_new(Proposals **ret, const ProposalsOptions *options);
Proposals *proposals_free(Proposals *p); /* asserts that no answer of ours is due; returns NULL */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number);
void proposals_cancel(Proposals *p, uint64_t number);

/* Somebody here waits for this result: it is worth a copy. */
bool proposals_waits(const Proposals *p, uint64_t origin, uint64_t number);
void proposals_result(Proposals *p, uint64_t number, const KvResult *result);
/* An input of Raft is over: 'applied' is the last entry applied here. */
void proposals_settled(Proposals *p, unsigned changed, uint64_t applied);
/* A snapshot was installed: results of what it contains will not come, but the tree keeps them. */
void proposals_replaced(Proposals *p);
/* Answers everything: what certainly did not happen with KV_NO_LEADER, the rest with KV_UNKNOWN. */
void proposals_end(Proposals *p);
void proposals_drop(Proposals *p); /* forgets everything, without an answer */
unsigned proposals_waiting(const Proposals *p);
