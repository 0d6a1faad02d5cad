/* Proposals on their way to the log, and their answers on the way back.
 *
 * Here, when we lead: what has arrived in one turn of the loop goes into one entry, up to KV_BATCH_MAX or
 * KV_BATCH_COMMANDS_MAX, at most PROPOSE_WINDOW entries ahead. Elsewhere: to the leader, by PEER_PROPOSE, with the term it is
 * meant for; a leader takes only those of its own term. So once an entry of a later term is applied here, what was sent in an
 * earlier one and has not come is certain never to come: it is sent again. What cannot be decided within PROPOSE_WAIT_MS of the
 * leader's loss is answered KV_UNKNOWN. The answer itself comes from this host's own apply, by (origin, number). */
#pragma once

#include "kvstore/kvstore.h"
#include "kvstore/raft/replica.h"

typedef struct Proposals Proposals;

enum {
        PROPOSE_WINDOW = 4,               /* entries of ours that are not committed */
        PROPOSE_MAX = 4096,               /* commands of ours without an answer; as many of others that wait for the log */
        PROPOSE_BYTES_MAX = 16 * 1024 * 1024,
        PROPOSE_WAIT_MS = 1500,
};

typedef struct ProposalsOptions {
        Loop *loop;       /* borrowed */
        Peers *peers;     /* borrowed, may be NULL */
        Replica *replica; /* borrowed */
        uint64_t origin;
        uint64_t quota; /* of users' bytes, in force while this host leads; 0: as it was */
        uint64_t (*cluster_ms)(void *userdata); /* the time that an entry made now carries */
        void (*problem)(void *userdata, char *ret, size_t size); /* why there is no leader, for people */
        void *userdata;
        /* Planted bugs: answers when the entry is submitted; asks the next leader without knowing what became of it. */
        bool answer_early, ask_blindly;
} ProposalsOptions;

int proposals_new(Proposals **ret, const ProposalsOptions *options);
Proposals *proposals_free(Proposals *p); /* asserts that no answer of ours is due; returns NULL */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number);
void proposals_forget(Proposals *p, uint64_t number);

/* Somebody here waits for this result: it is worth a copy. */
bool proposals_waits(const Proposals *p, uint64_t origin, uint64_t number);
void proposals_result(Proposals *p, uint64_t number, const KvResult *result);
/* An input of Raft is over: 'applied' and 'term' are those of the last entry applied here. */
void proposals_settled(Proposals *p, unsigned changed, uint64_t applied, uint64_t term);
/* A snapshot was installed: results of what it contains will not come. */
void proposals_lost(Proposals *p);
/* Answers everything: what certainly did not happen with KV_NO_LEADER, the rest with KV_UNKNOWN. */
void proposals_end(Proposals *p);
void proposals_drop(Proposals *p); /* forgets everything, without an answer */
unsigned proposals_waiting(const Proposals *p);
