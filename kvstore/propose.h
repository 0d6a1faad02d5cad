/* Proposals on their way to the log, and their results on the way back.
 *
 * On the leader, the commands that arrive in one turn of the loop form one entry, up to KV_BATCH_MAX or
 * KV_BATCH_COMMANDS_MAX and COST_ENTRY_MAX, at most PROPOSE_WINDOW entries ahead; heavy commands wait for
 * their share (kvstore/budget.h). Other replicas send them to the leader, by PEER_PROPOSE. The result comes
 * from this host's own apply, by origin and number; or, if a snapshot replaced the entry, from the
 * deduplication table of the tree. An attached host sends them to the replica that it uses, by PEER_RELAY,
 * and the result comes from there, by PEER_RELAYED; after RELAY_SLOW_MS, a second replica gets them, too.
 *
 * When the leader changes, proposals are repeated to the next leader at once: each takes effect once
 * (kvstore/apply/dedup.h). A proposal without a result is answered KV_UNKNOWN PROPOSE_WAIT_MS after the loss
 * of the leader. Commands that are valid in one term only are never repeated. A host that cannot follow
 * requests the outcome from the leader, after PROPOSE_ASK_MS (at once, if its replica has stopped), and
 * returns that outcome; the host serves no older state afterwards (kv_acknowledge()). A proposal that had no
 * effect, because it was too late for the log or deferred, leaves no result: the leader reports so once the
 * deadline has passed, and the proposal is answered KV_UNKNOWN PROPOSE_WAIT_MS later, unless this host's own
 * apply has a result. */
#pragma once

#include "kvstore/kvstore.h"
#include "kvstore/raft/replica.h"

typedef struct Proposals Proposals;

enum {
        PROPOSE_WINDOW = 4, /* entries of this host that are not committed */
        PROPOSE_MAX = 4096, /* commands of this host without a result; as many of other hosts that wait for
                               the log */
        PROPOSE_BYTES_MAX = 16 * 1024 * 1024,
        PROPOSE_SMALL_MAX = 16 * 1024, /* bytes of a command that precedes larger ones */
        PROPOSE_WAIT_MS = 1500,
        PROPOSE_ASK_MS = 1000,   /* from sending to the request for the outcome */
        PROPOSE_LIFE_MS = 10000, /* from sending to the deadline, in cluster time */
        /* Of the users of a host without a replica, which that host sends; the second number at once. The
         * commands of its own components have a limit of the same numbers, by their weight. */
        PROPOSE_USERS_PER_SECOND = 200,
        PROPOSE_USERS_BURST = 400,
        /* The same on a replica, for each such host: more than a correct host with another clock sends. */
        PROPOSE_HOST_PER_SECOND = 250,
        PROPOSE_HOST_BURST = 800,
        /* Of one KvReport: the host sends its next one, with the last values, a second after a rejected one.
         */
        PROPOSE_REPORTS_PER_SECOND = 1,
        PROPOSE_REPORTS_BURST = 60,
        /* So many writes or bytes of a command have the weight of one. */
        PROPOSE_WEIGHT_WRITES = 10,
        PROPOSE_WEIGHT_BYTES = 4096,
        /* Rows of the history, on a replica for each such host: more than this have no effect. */
        PROPOSE_HOST_ROWS_PER_SECOND = 10,
        PROPOSE_HOST_ROWS_BURST = 3000,
};

typedef struct ProposalsOptions {
        KvStore *store;   /* borrowed: its clock, tree, quotas and read bound */
        Loop *loop;       /* borrowed */
        Peers *peers;     /* borrowed, may be NULL */
        Replica *replica; /* borrowed */
        /* Counts how long this host's proposals take, from the call until they are applied here; NULL: not.
         */
        DurationCounts *commits;
        uint64_t origin;      /* drawn for this start; not 0 */
        uint64_t quota;       /* of users' bytes, in force while this host leads; 0: unchanged */
        uint64_t quota_nodes; /* the same of nodes */
        unsigned level_max;   /* the feature level of this program: commands of a higher one are rejected */
        /* As KvOptions.check_proposal, with its userdata. */
        int (*check)(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                     const KvCommand *cmd, Error *err);
        void *userdata;
} ProposalsOptions;

int proposals_new(Proposals **ret, const ProposalsOptions *options);
Proposals *proposals_free(Proposals *p); /* drops all without an answer; NULL allowed; returns NULL */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number);
/* See kv_take_write(). */
bool proposals_take_write(Proposals *p, const char *machine_id);
void proposals_cancel(Proposals *p, uint64_t number);

/* Answer proposals with the results of apply; a callback may propose again, or cancel other proposals. */
void proposals_results(Proposals *p, const Applied *applied);
/* For Applied.wants, with the Proposals as userdata: an attached host waits for this result. */
bool proposals_wants(void *proposals, uint64_t origin, uint64_t number);
/* This host has no replica, and proposes by a session to one, of that number; 0: there is none now. Not
 * 'attached': its own replica serves again. */
void proposals_attach(Proposals *p, bool attached, uint64_t session);
/* An input of Raft is over; 'applied' is the last entry that this host has applied. */
void proposals_on_input(Proposals *p, unsigned changed, uint64_t applied);
/* A snapshot was installed: apply gives no results for its entries, but the tree holds them. */
void proposals_replaced(Proposals *p);
/* This host serves no others any more: those that used its replica repeat their proposals to another one. */
void proposals_drop_relayed(Proposals *p);
/* Answer all: KV_NO_LEADER if the command certainly had no effect, else KV_UNKNOWN. */
void proposals_end(Proposals *p);
unsigned proposals_waiting(const Proposals *p);
