/* Shared by the files of the core: the engine's struct and the core's own state. No file of another folder
 * includes this header. */
#pragma once

#include <raft.h>

#include "kvstore/raft/core.h"
#include "kvstore/raft/entries.h"

/* The engine's rules of ownership differ between releases. */
static_assert(RAFT_VERSION_NUMBER / 100 == 22,
              "the ownership rules of core_inputs.c are those of libraft 0.22");

/* A write that the disk has not reported yet. A truncation removes the entries that it replaces from its end.
 */
typedef struct PendingWrite {
        uint64_t generation, first, last; /* last < first: replaced as a whole */
} PendingWrite;

/* The progress of another server, on the leader. */
typedef struct PeerProgress {
        uint64_t id;
        uint64_t close_since_ms; /* its log has been close to the leader's since then; 0: it is not */
        uint64_t contact_ms;     /* its last result */
} PeerProgress;

struct RaftCore {
        struct raft raft;
        const RaftCoreOps *ops;
        void *userdata;
        RaftRulesOff off;
        bool started, busy;
        int dead; /* the error that ended this core */

        RaftEntries log;
        PendingWrite *pending;
        size_t n_pending, pending_capacity;
        uint64_t generation;

        uint64_t handled; /* up to here, committed entries are applied and RAFT_CONFIGURATION is stepped */
        uint64_t applied, applied_term; /* of the state; may be ahead of 'handled' at first */

        bool installing;
        struct raft_snapshot_metadata install;

        uint64_t held_from; /* promotion: entries from here on are not written yet; 0: none */
        uint64_t held_for;  /* the promoted server */
        uint64_t held_since_ms;
        uint64_t unsent_from; /* demotion: entries from here on are not sent yet; 0: none */

        uint64_t leader_term; /* of the last message of another server that leads */

        PeerProgress *peers;
        size_t n_peers, peers_capacity;

        RaftServers servers; /* the configuration in force */
        bool servers_stale;

        struct {
                RaftState state;
                uint64_t term, leader, commit;
        } notified; /* the owner's view since the last changed() */
        unsigned changed;
};

int raft_errno(int rv);

/* -- configuration.c -- */
/* Copy the servers, with room for one more. */
int raft_servers_copy(const struct raft_configuration *conf, RaftServers *ret);
int raft_configuration_check(const void *bytes, size_t size);
int raft_configuration_read(const void *bytes, size_t size, struct raft_configuration *ret);
int raft_configuration_write(const struct raft_configuration *conf, void **ret, size_t *ret_size);
int core_read_info(const RaftStateInfo *info, struct raft_snapshot_metadata *ret);
const struct raft_server *raft_configuration_find(const struct raft_configuration *conf, uint64_t id);
unsigned raft_configuration_voters(const struct raft_configuration *conf);

/* Rules that tests call: how many of 'entries' may be stepped together; 0, or the error of
 * raft_core_checkpointed(). */
size_t rule_split_at_change(const RaftCore *c, const RaftEntry *entries, size_t n);
int rule_snapshot_stored_only(const RaftCore *c, const RaftStateInfo *checkpoint);

/* The input of a raft_step(), for the execution of its update. */
typedef struct Given {
        const RaftMessage *received; /* or NULL */
        const RaftEntry *entries;    /* the core owns their data */
        uint64_t first;              /* index of entries[0] */
        void *after;                 /* START: freed after success; after an error, the engine has freed it */
        void *after_error; /* SUBMIT: the batch, freed after an error; after success, the engine owns it */
} Given;

/* -- core_inputs.c -- */

/* Begin an input, or return the error that ended the core. Finish it with result 'r': an error of it, or of
 * the steps that follow each input, ends the core. */
int core_begin(RaftCore *c);
int core_finish(RaftCore *c, uint64_t now_ms, int r);
/* Apply committed entries in runs, each of which ends at a configuration. */
int core_apply_committed(RaftCore *c, uint64_t now_ms);
/* Begin a new term, durably, if this host is the sole voter. */
int core_begin_own_term(RaftCore *c, uint64_t *term, uint64_t *vote, const struct raft_configuration *conf);
PeerProgress *core_peer(RaftCore *c, uint64_t id);
/* Submit a configuration that the caller has checked. */
int core_submit_change(RaftCore *c, uint64_t now_ms, const void *bytes, size_t size, uint64_t *ret_index);

/* -- core_step.c -- */

/* Step the engine and execute its update in order. *ret_rejected (may be NULL): it answered with a rejection.
 */
int core_step(RaftCore *c, uint64_t now_ms, struct raft_event *event, const Given *given, bool *ret_rejected);
/* Start writing entries first .. last. */
int core_write(RaftCore *c, uint64_t first, uint64_t last);
/* Return the highest entry that the writes up to 'generation' made durable and that is still in the log; 0:
 * none. */
uint64_t core_written(RaftCore *c, uint64_t generation, uint64_t last_index);
