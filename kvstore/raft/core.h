/* The consensus core: libraft and the rules that make it safe. Events in, operations out.
 *
 * The engine is libraft; raft_step() decides, and only the core calls it. The core keeps the entries in
 * memory, because the engine keeps none. It passes events to the engine, executes the engine's updates in the
 * required order through RaftCoreOps, and adds the rules that version 0.22.1 of the engine lacks. The
 * simulation switches off each rule (RaftRulesOff), and proves that it is needed.
 *
 * Pure: no clock, no file, no socket. Each input carries the time (monotonic ms). One thread. Operations are
 * called from inside an input function. They must not call an input function (asserted), but defer.
 *
 * Errors of inputs:
 *   -EREMOTE      not the leader (or transferring leadership): no effect, send it to the leader
 *   -EBUSY        another configuration change is not yet committed
 *   -ESHUTDOWN    the log contradicts what is committed: stop this replica permanently
 *   -ERESTART     leadership was lost while a promotion was held back from this host's disk: close this core,
 *                 open the log again, and start a new core from what is durable
 *   others        of an operation, or -ENOMEM: the replica cannot continue; close it
 *
 * After an error of start, receive, tick, appended, installed, apply or checkpointed, only raft_core_free()
 * is allowed; further inputs return the same error. Errors of submit, change and transfer with -EREMOTE,
 * -EBUSY, -EINVAL, -EPERM, -EAGAIN, -EEXIST, -ENOENT, -EFBIG, -ENOSPC changed nothing. */
#pragma once

#include "base/error.h"
#include "kvstore/raft/message.h"

typedef struct RaftCore RaftCore;

typedef enum RaftState { RAFT_STATE_FOLLOWER, RAFT_STATE_CANDIDATE, RAFT_STATE_LEADER } RaftState;

typedef enum RaftServerRole {
        RAFT_ROLE_STANDBY, /* receives the log, has no vote */
        RAFT_ROLE_VOTER,
        RAFT_ROLE_SPARE, /* listed only */
        RAFT_ROLE_NONE,  /* not in the configuration */
} RaftServerRole;

/* -- Configurations: opaque bytes for all other components -- */

typedef struct RaftServer {
        uint64_t id;   /* > 0, never reused after its removal */
        char *address; /* of its listener for peers */
        RaftServerRole role;
} RaftServer;

typedef struct RaftServers {
        RaftServer *items;
        size_t n;
} RaftServers;

void raft_servers_done(RaftServers *servers);
/* -EBADMSG for bytes that are no configuration, or one beyond the limits of message.h. */
int raft_configuration_decode_servers(const void *bytes, size_t size, RaftServers *ret);
/* The caller frees *ret. -EINVAL, -EEXIST (id or address twice). */
int raft_configuration_encode_servers(const RaftServers *servers, void **ret, size_t *ret_size);

/* Metadata of a state: of the tree, a checkpoint, or a received snapshot. */
typedef struct RaftStateInfo {
        uint64_t index, term;         /* last applied entry */
        uint64_t configuration_index; /* index of the last applied configuration ... */
        const void *configuration;    /* ... and its bytes, as given to apply(); borrowed */
        size_t configuration_size;
} RaftStateInfo;

/* -- Operations of the owner -- */

enum {                                 /* bits of 'changed' */
       RAFT_CHANGED_STATE = 1,         /* follower, candidate, leader, or the term */
       RAFT_CHANGED_LEADER = 2,        /* the known leader */
       RAFT_CHANGED_CONFIGURATION = 4, /* the configuration in force (perhaps not committed yet) */
       RAFT_CHANGED_COMMIT = 8,
};

typedef struct RaftCoreOps {
        /* Make term and vote durable, both in one write, before returning. */
        int (*write_meta)(void *userdata, uint64_t term, uint64_t vote);

        /* Start making entries first_index ... durable, after truncating the log at first_index. Arguments
         * are borrowed for the call. Then call raft_core_appended(generation, last index). Writes complete in
         * order; reporting only the last of several is allowed. */
        int (*append)(void *userdata, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                      size_t n);

        /* Send or drop the message: both are safe, so a failure to send is no error. Borrowed for the call.
         * Messages to one server stay in order; results (…_RESULT) use the connection of their request, or
         * are dropped. */
        void (*send)(void *userdata, uint64_t to, const char *address, const RaftMessage *message);

        /* Send a checkpoint whose index is at least 'index', and then a RAFT_MESSAGE_SNAPSHOT of 'term' with
         * its metadata. No effect while a transfer to that server is running. Other messages to it may be
         * dropped meanwhile. */
        void (*send_snapshot)(void *userdata, uint64_t to, const char *address, uint64_t term,
                              uint64_t index);

        /* Replace the state by the received one, which was fetched before the message was stepped: rename it
         * over the environment, then drop the log (the next append begins at info->index + 1), then call
         * raft_core_installed(). With 'keep_state', the own state is newer: replace only the checkpoint (else
         * a crash of the machine could leave a checkpoint older than the log's beginning). 'info' is
         * borrowed. */
        int (*install)(void *userdata, const RaftStateInfo *info, bool keep_state);

        /* Apply entries first_index ... in order. Return how many: fewer than n, or 0, if more would take too
         * long or too much memory at once; raft_core_apply() continues. Entries of all types are passed: only
         * RAFT_ENTRY_COMMAND changes keys, but each raises the tree's applied index and term, and
         * RAFT_ENTRY_CHANGE (always the last of its call) sets the configuration and its index. An error ends
         * the replica. */
        int (*apply)(void *userdata, uint64_t first_index, const RaftEntry *entries, size_t n);

        /* The status has changed (RAFT_CHANGED_ bits). The last call of an input. */
        void (*changed)(void *userdata, unsigned what);
} RaftCoreOps;

/* The rules around raft_step(). A true member switches a rule off, for tests; none is off in production. The
 * names in brackets are the simulation's. */
typedef struct RaftRulesOff {
        bool clean_old_term_result; /* [row1] the reply to an old term carries no index */
        bool sole_voter_new_term;   /* [row2] a sole voter starts with a new term, voted for by itself */
        bool split_at_change;       /* [row3] each configuration entry begins a step of its own */
        bool remember_committed;    /* [row4] an applied configuration is the committed one, even with another
                                       pending */
        bool cut_below_snapshot;    /* [row5] entries at or below the snapshot are skipped */
        bool send_term_to_prevote;  /* [row6] a rejected pre-vote of a lower term carries this host's term */
        bool drop_stray_vote_result; /* [vote-result] only a candidate takes vote results */
        bool one_install;       /* [one-install] a second snapshot is dropped while one is being installed */
        bool promotion_order;   /* [promotion] first to the promoted server, then to this host's disk and the
                                   others */
        bool demotion_order;    /* [demotion] disk before network */
        bool catch_up_first;    /* [catch-up] only a server close to the leader becomes voter */
        bool keep_leader;       /* [self-removal] the leader neither removes nor demotes itself */
        bool three_voters;      /* [shrink] fewer than three voters only by force */
        bool informed_majority; /* [majority] a demotion or removal leaves a majority of voters that hold the
                                   configuration which makes them voters */
        bool snapshot_stored_only; /* [snapshot] a checkpoint counts only up to what is durable, with its
                                      configuration committed */
        bool own_term_first;       /* [own-term] a leader changes nothing before an entry of its own term is
                                      committed */
        bool start_checks_term;    /* [start-term] a log that contradicts the state is dropped at start */
} RaftRulesOff;

typedef struct RaftCoreOptions {
        uint64_t id;
        const char *address;                /* of this host; copied */
        unsigned election_ms, heartbeat_ms; /* 0: 400, 150 */
        unsigned seed;                      /* from the loop's Random */
        RaftRulesOff off;                   /* rules that do not apply, for tests */
} RaftCoreOptions;

int raft_core_new(const RaftCoreOptions *options, const RaftCoreOps *ops, void *userdata, RaftCore **ret);
RaftCore *raft_core_free(RaftCore *core); /* NULL allowed; returns NULL; calls no operation */

/* -- Inputs -- */

typedef struct RaftCoreStart {
        uint64_t term, vote;        /* from the log's meta */
        const RaftStateInfo *state; /* of the tree, or of its checkpoint if the tree is not trusted; NULL or
                                       index 0: an empty one */
        uint64_t first_index;       /* of entries[0] */
        RaftEntry *entries;         /* the whole log; copied, unless 'take' is set */
        bool take;                  /* the core takes the entries' data and clears their pointers */
        size_t n_entries;
} RaftCoreStart;

/* Check whether the log fits the state: it must reach from at most index + 1 to at least index, with the
 * state's term there. Pure. Return
 *   1          it fits
 *   0          drop it: first make the state a durable checkpoint, because the log may hold entries that are
 *              otherwise only in the unsynced tree; then reset the log to state->index (raft_log_reset();
 *              queued is enough), and start with no entries and first_index = index + 1
 *   -EUCLEAN   entries are missing between state and log: data was lost. This replica must not vote again
 *              under its ID. */
int raft_core_log_fits(const RaftCoreStart *start);

/* The first input, once, with a log that fits (else -EUCLEAN). It may call operations. */
int raft_core_start(RaftCore *core, uint64_t now_ms, const RaftCoreStart *start);

/* A message from an authenticated member of this cluster, whether or not it is in this host's configuration.
 * The caller drops results that arrive over an older connection than the current one. 'message' is borrowed.
 * For RAFT_MESSAGE_SNAPSHOT, the state must have been received and synced before; if 'install' was not called
 * when this returns, the state was not needed. */
int raft_core_receive(RaftCore *core, uint64_t now_ms, uint64_t from, const char *address,
                      const RaftMessage *message);

/* Call at raft_core_timeout_ms(), which may change with every input, and is UINT64_MAX once an error has
 * ended the core. An early call is harmless. */
int raft_core_tick(RaftCore *core, uint64_t now_ms);
uint64_t raft_core_timeout_ms(const RaftCore *core);

/* Committed entries wait to be applied: call raft_core_apply() from the loop. Every input applies some of
 * them, too. */
bool raft_core_is_behind(const RaftCore *core);
int raft_core_apply(RaftCore *core, uint64_t now_ms);

int raft_core_error(const RaftCore *core); /* the error that ended the core; 0: none */
/* Append one entry with a copy of 'data' on the leader. *ret_index is its index; it is committed if apply()
 * gets it with *ret_term. -EREMOTE, -EFBIG; -EAGAIN: RAFT_CORE_UNCOMMITTED_MAX entries wait to be committed
 * and applied; any other error: it was not submitted. Return 0 also if an error ended the core after the
 * entry was appended. */
int raft_core_submit(RaftCore *core, uint64_t now_ms, const void *data, size_t size, uint64_t *ret_index,
                     uint64_t *ret_term);
enum { RAFT_CORE_UNCOMMITTED_MAX = 64 };

/* Entries up to 'last_index' of append(generation) are durable. The generation identifies reports of entries
 * that were replaced since. */
int raft_core_appended(RaftCore *core, uint64_t now_ms, uint64_t generation, uint64_t last_index);

/* The received state is installed and durable. */
int raft_core_installed(RaftCore *core, uint64_t now_ms);

/* This host's state at this index, at most the applied one, is available on disk: as a checkpoint, or as one
 * and the log after it. The core removes entries more than 'trailing' before it from memory; a follower that
 * needs them receives a state of this index or a later one.
 * -EAGAIN: not acceptable yet (the log is not durable so far, its configuration is not known as committed, or
 * a snapshot is being received); the checkpoint stays valid, report it again later, and do not cut the log
 * until it was accepted.
 * -ESTALE: it precedes the last committed configuration; make a newer one. */
int raft_core_checkpointed(RaftCore *core, uint64_t now_ms, const RaftStateInfo *checkpoint,
                           unsigned trailing);

/* -- Membership: on the leader, one change at a time; a change is in force as soon as it is in the log, and
 * committed when apply() gets the RAFT_ENTRY_CHANGE. -- */

typedef enum RaftChangeKind {
        RAFT_CHANGE_ADD,     /* a new server, as standby */
        RAFT_CHANGE_PROMOTE, /* standby to voter; -EAGAIN until it has stayed within 100 entries for 2 s */
        RAFT_CHANGE_DEMOTE,  /* voter to standby; -EAGAIN while too few of the remaining voters hold the
                                configuration in force */
        RAFT_CHANGE_REMOVE,  /* a voter: as DEMOTE */
        RAFT_CHANGE_MOVE,    /* the same server at another address */
} RaftChangeKind;

typedef struct RaftChange {
        RaftChangeKind kind;
        uint64_t id;
        const char *address; /* ADD, MOVE */
        bool force;          /* also where fewer than three voters are left */
} RaftChange;

/* -EREMOTE, -EBUSY, -EAGAIN; -EINVAL (no such step from its role), -ENOENT, -EEXIST (id or address in use),
 * -EPERM (the leader itself: transfer first; or it would leave fewer than three voters, without force). The
 * message gives the reason. */
int raft_core_change(RaftCore *core, uint64_t now_ms, const RaftChange *change, uint64_t *ret_index,
                     Error *err);

/* Transfer leadership to 'id' (0: the best voter). Submissions get -EREMOTE until it is transferred, or an
 * election timeout has passed. -EREMOTE, -ENOENT (no candidate), -EINVAL (no voter), -EBUSY (a transfer is in
 * flight). */
int raft_core_transfer(RaftCore *core, uint64_t now_ms, uint64_t id);

/* -- Status, at any time -- */

uint64_t raft_core_id(const RaftCore *core);
RaftState raft_core_state(const RaftCore *core);
uint64_t raft_core_term(const RaftCore *core);
/* True if this host leads and has applied an entry of its own term: then reads and the engine may run. (A new
 * leader submits a barrier for that by itself.) */
bool raft_core_leads(const RaftCore *core);
/* Of a leader: return when a majority of the voters was heard last. */
uint64_t raft_core_quorum_ms(const RaftCore *core, uint64_t now_ms);
/* 0 while unknown: a leader counts only in the term of its last message. */
uint64_t raft_core_leader(const RaftCore *core);
uint64_t raft_core_commit_index(const RaftCore *core);
uint64_t raft_core_applied_index(const RaftCore *core);
uint64_t raft_core_first_index(const RaftCore *core);   /* of the entries in memory */
uint64_t raft_core_last_index(const RaftCore *core);    /* of this host's log, in memory */
uint64_t raft_core_last_term(const RaftCore *core);     /* of its last entry */
uint64_t raft_core_entries_bytes(const RaftCore *core); /* of the entries in memory */
uint64_t raft_core_stored_index(const RaftCore *core);  /* durable here */
bool raft_core_installing(const RaftCore *core);
/* An entry in memory, or NULL; borrowed until the next input. */
const RaftEntry *raft_core_entry(const RaftCore *core, uint64_t index);
/* The configuration in force; borrowed until the next input. */
const RaftServers *raft_core_servers(const RaftCore *core);
RaftServerRole raft_core_role(const RaftCore *core); /* of this host in it */
bool raft_core_change_pending(const RaftCore *core);
/* The index up to which the log of 'id' is known to equal the leader's. -EREMOTE: this host does not lead;
 * -ENOENT. */
int raft_core_match_index(const RaftCore *core, uint64_t id, uint64_t *ret);
/* True if the log of 'id' is close enough for RAFT_CHANGE_PROMOTE. */
bool raft_core_caught_up(const RaftCore *core, uint64_t now_ms, uint64_t id);
