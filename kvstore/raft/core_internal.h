/* What core.c, rules.c, change.c and configuration.c share: the engine's struct and what stands around it.
 * Nobody outside this folder includes this file. */
#pragma once

#include <assert.h>
#include <raft.h>

#include "kvstore/raft/core.h"
#include "kvstore/raft/entries.h"

enum { CATCH_UP_MS = 2000 }; /* who is promoted has followed closely for so long */

/* The engine's ownership rules differ between releases; carry_out() and its callers in core.c follow this
 * one's. */
static_assert(RAFT_VERSION_NUMBER / 100 == 22, "the ownership rules of core.c are those of libraft 0.22");

/* A write that was handed out and is not reported yet. What a truncation replaced is cut off its end. */
typedef struct PendingWrite {
        uint64_t generation, first, last; /* last < first: replaced as a whole */
} PendingWrite;

/* What we know of another server while we lead. */
typedef struct PeerProgress {
        uint64_t id;
        uint64_t close_since_ms; /* its log has stayed close behind ours since then; 0: it is not close */
        uint64_t contact_ms;     /* its last result */
} PeerProgress;

struct RaftCore {
        struct raft raft;
        const RaftCoreOps *ops;
        void *userdata;
        RaftRules rules;
        unsigned election_ms;
        bool started, busy;
        int dead; /* the error that ended this core */

        RaftEntries log;
        PendingWrite *pending;
        size_t n_pending, pending_capacity;
        uint64_t generation;

        uint64_t handled; /* the engine's commit index, as far as apply() and RAFT_CONFIGURATION were done */
        uint64_t applied, applied_term; /* the state's; may be ahead of 'handled' at first */

        bool installing;
        struct raft_snapshot_metadata install;

        uint64_t held_from; /* promotion: entries from here on are not written yet; 0: none */
        uint64_t held_for;  /* the promoted server */
        uint64_t held_since_ms;
        uint64_t unsent_from; /* demotion: entries from here on are not sent yet; 0: none */

        uint64_t leader_term; /* in which another server was last heard as the leader */

        PeerProgress *peers;
        size_t n_peers, peers_capacity;

        RaftServers servers; /* the configuration in force */
        bool servers_stale;

        /* What was told by 'changed' last. */
        RaftState told_state;
        uint64_t told_term, told_leader, told_commit;
        unsigned changed;
};

int raft_errno(int rv);

/* -- configuration.c -- */
int raft_servers_copy(const struct raft_configuration *conf, RaftServers *ret);
int raft_configuration_check(const void *bytes, size_t size);
int raft_configuration_read(const void *bytes, size_t size, struct raft_configuration *ret);
int raft_configuration_write(const struct raft_configuration *conf, void **ret, size_t *ret_size);
const struct raft_server *raft_configuration_find(const struct raft_configuration *conf, uint64_t id);
unsigned raft_configuration_voters(const struct raft_configuration *conf);

/* -- rules.c: each is one defect of the engine, or one precondition it does not check -- */

/* What can be true of a message in this term and state, whoever sent it. */
int rule_acceptable(const RaftCore *c, uint64_t from, const RaftMessage *m);
bool rule_drop_stray_vote_result(const RaftCore *c, const RaftMessage *m);
bool rule_one_install(const RaftCore *c, const RaftMessage *m);
/* Moves the beginning of an append behind our snapshot; returns how many of its entries go. */
size_t rule_cut_below_snapshot(const RaftCore *c, const RaftMessage *m, uint64_t *prev_index,
                               uint64_t *prev_term);
/* How many of these entries may be stepped together. */
size_t rule_split_at_change(const RaftCore *c, const RaftEntry *entries, size_t n);
void rule_clean_old_term_result(const RaftCore *c, const RaftMessage *received, uint64_t term_before,
                                struct raft_message *out);
void rule_tell_term_to_prevote(const RaftCore *c, const RaftMessage *received, struct raft_message *out);
/* A sole voter of the configuration that would lead without a new term. */
bool rule_sole_voter_new_term(const RaftCore *c, const struct raft_configuration *conf);
/* A configuration that was applied and that the engine does not take for the one pending; owns 'conf'. */
void rule_remember_committed(RaftCore *c, uint64_t index, struct raft_configuration *conf);
/* 0 or what raft_core_checkpointed() answers. */
int rule_snapshot_stored_only(const RaftCore *c, const RaftStateInfo *checkpoint);
/* How many entries of an outgoing append may leave for server 'to'; -1: the message must not leave at all. */
long rule_order_of_sending(const RaftCore *c, uint64_t to, uint64_t prev_index, size_t n);

/* What raft_step() was given, for those who carry out its update. */
typedef struct Given {
        const RaftMessage *received; /* or NULL */
        const RaftEntry *entries;    /* their data is ours, not the engine's */
        uint64_t first;              /* index of entries[0] */
        void *after; /* START: ours once the engine has taken the event; after an error it has freed it */
        void *after_error; /* SUBMIT: the batch is still ours after an error */
} Given;

/* -- core.c, for the other files -- */

/* Around every input: -errno if the core is dead; and what stands at its end, where 'r' is what came before.
 */
int core_begin(RaftCore *c);
int core_finish(RaftCore *c, uint64_t now_ms, int r);
/* Applies what is committed: runs of entries, each ending at a configuration. */
int core_apply_committed(RaftCore *c, uint64_t now_ms);
/* A new term for a sole voter, durably; else nothing. */
int core_begin_own_term(RaftCore *c, uint64_t *term, uint64_t *vote, const struct raft_configuration *conf);
PeerProgress *core_peer(RaftCore *c, uint64_t id);

/* The inputs themselves; the caller has checked what is to be checked. */
int core_submit_change(RaftCore *c, uint64_t now_ms, const void *bytes, size_t size, uint64_t *ret_index);
int core_transfer(RaftCore *c, uint64_t now_ms, uint64_t id);

/* -- step.c -- */

/* Steps the engine and does what it says, in its order. *ret_rejected (may be NULL): it answered with a
 * rejection. */
int core_step(RaftCore *c, uint64_t now_ms, struct raft_event *event, const Given *given, bool *ret_rejected);
/* Hands entries first .. last to the disk. */
int core_write(RaftCore *c, uint64_t first, uint64_t last);
/* The highest entry that the writes up to 'generation' made durable and that is still in the log; 0: none. */
uint64_t core_written(RaftCore *c, uint64_t generation, uint64_t last_index);
