/* One member of the cluster: connects core, log, data directory and sessions.
 *
 * A frame, a timer or a finished write is one input to the core. The replica executes the core's operations
 * inside the input, and notifies its owner when the input is over, so that the owner may propose again. */
#pragma once

#include "kvstore/command/copy.h"
#include "base/duration.h"
#include "peers/frames.h"
#include "kvstore/raft/bootstrap.h"
#include "kvstore/raft/core.h"
#include "kvstore/apply/applied.h"
#include "peers/peers.h"
#include "kvstore/command/replication_stats.h"

typedef struct Replica Replica;

typedef struct Transfers Transfers;
typedef struct ConsistencyCheck ConsistencyCheck;

/* What has changed since the last notification. */
typedef struct ReplicaNews {
        unsigned changed; /* RAFT_CHANGED_ bits */
        bool replaced;    /* another tree serves: read everything again */
        bool rebuilt;     /* entries were applied to a tree that did not serve yet */
        bool failed; /* the replica has stopped because of replica_error(); reads continue, and it recovers */
        Applied applied; /* results and events of committed transactions */
} ReplicaNews;

typedef struct ReplicaOptions {
        const char *tree_path;
        Disk *log_disk; /* borrowed */
        Peers *peers;   /* borrowed; NULL: alone for ever */
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE], hardware_id[HARDWARE_ID_SIZE];
        char address[ADDRESS_SIZE];
        uint64_t quota;
        unsigned election_ms, heartbeat_ms;
        unsigned checkpoint_entries, checkpoint_kept;
        uint64_t checkpoint_bytes;
        uint64_t memory_bytes; /* of entries in memory, while no member lacks them */
        uint64_t log_file_size;
        uint64_t compare_every; /* entries between reports of the tree's hash; 0: COMPARE_EVERY */
        /* An input is over. Entries are applied only in inputs that end with this: serve the tree, answer,
         * notify, and propose again. From the loop; 'news' is borrowed for the call. */
        void (*notify)(void *userdata, const ReplicaNews *news);
        void *userdata; /* borrowed */
} ReplicaOptions;

/* A replica is in one state. Its error is set in REPLICA_FAILING, _TRANSFERRING, _STOPPING, _FAILED, _PROBING
 * and _QUARANTINED. */
typedef enum ReplicaState {
        REPLICA_WAITING, /* no core: before the start, or until a leader adds this host as a member */
        REPLICA_OPEN,    /* core and log are open; all inputs are accepted */
        REPLICA_FAILING, /* the core takes inputs, but no proposals; it stops with the next turn of the loop
                          */
        REPLICA_TRANSFERRING, /* the same, until another voter leads or the time for that is over */
        REPLICA_STOPPING,     /* the core takes no input and closes with the next turn of the loop */
        REPLICA_FAILED,      /* no core, and the log closes; the failure is reported, recovery is scheduled */
        REPLICA_PROBING,     /* no core: a worker reads checkpoint and log; then the replica recovers or fails
                                again */
        REPLICA_QUARANTINED, /* the log lacks acknowledged data and is never opened; a new Raft ID ends this
                              */
        REPLICA_RESTARTING,  /* without an error: the core closes, a worker reads the log, the core starts
                                again */
        REPLICA_CLOSING,     /* no core; waits for work in flight */
        _REPLICA_STATE_MAX,
} ReplicaState;

/* Return whether the table of transitions has this one. */
bool replica_state_may_become(ReplicaState from, ReplicaState to);

/* Open data directory and log, so that the tree can be read; apply nothing. With 'join' and without a log,
 * the replica waits for replica_join(). A corrupt log fails the opening, except in a cluster of several
 * hosts: there the replica is quarantined. */
int replica_open(Replica **ret, Loop *loop, const ReplicaOptions *options, bool join, Error *err);
/* Start Raft from what replica_open() opened. A replica that waits to join stays as it is. */
int replica_start(Replica *p, Error *err);
/* Become a member under 'identity'. A quarantined replica moves its log and tree aside first, and its old
 * tree serves until the new one has reached its index. -EBUSY: work of the old replica is still in flight. */
int replica_join(Replica *p, const Identity *identity, Error *err);
/* Call 'closed' once, from the loop, when nothing is in flight any more and the replica is freed. */
void replica_close(Replica *p, void (*closed)(void *userdata), void *userdata);

/* Free the replica at once, as a crash would: for simulation. NULL is allowed; returns NULL. */
Replica *replica_crash(Replica *p);

/* -- Inputs of the owner: results as of raft_core_*; -EREMOTE also if the replica is not open -- */
int replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index, uint64_t *ret_term);
int replica_change(Replica *p, const RaftChange *change, Error *err);
/* Transfer leadership to 'raft_id', or (0) to the voter that is up to date first. */
int replica_transfer(Replica *p, uint64_t raft_id);
/* Stop the replica because of 'error': transfer leadership if it leads, close core and log, report the
 * failure, and schedule the recovery. The first error counts. */
void replica_fail(Replica *p, int error, const char *format, ...) _printf_(3, 4);
/* Close the replica and quarantine it, because the configuration does not contain its Raft ID any more. It is
 * quarantined when its work in flight has ended; until then, -EBUSY. -EBUSY also if it leads. */
int replica_retire(Replica *p, const char *reason);
/* Make a checkpoint soon, if none is being made. */
void replica_checkpoint(Replica *p);
/* As kv_copy(), and kv_copy_cancel(). */
void replica_backup(Replica *p, KvCopyRequest *backup);
void replica_backup_cancel(Replica *p, KvCopyRequest *backup);
/* Verify the tree by a copy, if no copy is being made; rebuild a tree that does not hold what was written. */
void replica_probe(Replica *p);

/* -- Status -- */
ReplicaState replica_state(const Replica *p);
bool replica_is_open(const Replica *p);
bool replica_is_leader(const Replica *p);  /* according to Raft; it may not have committed in its term yet */
uint64_t replica_leader(const Replica *p); /* Raft ID; 0: unknown */
/* The time of the last message of another leader, monotonic; 0: none. */
uint64_t replica_leader_ms(const Replica *p);
uint64_t replica_term(const Replica *p); /* 0: not open */
/* The leader that takes proposals, and its term. A failed replica learns it from the messages that it still
 * receives. 0: none. */
uint64_t replica_known_leader(const Replica *p);
uint64_t replica_known_term(const Replica *p);
/* The error of a replica that has failed, and its message in *ret_reason; else 0. */
int replica_error(const Replica *p, const char **ret_reason);
bool replica_has_founded(const Replica *p); /* this start founded the cluster */
const ReplicaOptions *replica_options(const Replica *p);
const Identity *replica_identity(const Replica *p);
const ReplicationStats *replica_stats(const Replica *p);
/* Return how long the writes of the log took, with their syncs; NULL while no log is open. */
const DurationCounts *replica_log_writes(const Replica *p);

/* Take the news that no notification has carried yet, for applied_clear(): after replica_start(). */
ReplicaNews replica_take_news(Replica *p);

/* -- Parts: borrowed -- */
/* Where results and events are collected: the owner sets what to keep. */
Applied *replica_applied(Replica *p);
RaftCore *replica_core(const Replica *p); /* NULL: not open, or closed by a failure */
DataDir *replica_data_dir(Replica *p);
ConsistencyCheck *replica_consistency(const Replica *p);
Transfers *replica_transfers(const Replica *p);
/* The serving tree: never older than a tree that has served before. */
Tree *replica_serving(const Replica *p);
/* The tree that entries are applied to. It serves, unless it is being rebuilt. */
Tree *replica_live_tree(const Replica *p);
bool replica_is_rebuilding(const Replica *p); /* the live tree has not reached the serving tree's index */

/* -- Frames -- */

/* Send a frame to a member. Errors as of peers_send_raft(); -ENOTCONN without peers. */
int replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w);
/* Reply on the session that carried the request, if that is still open. */
void replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w);
void replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);
/* The head of each frame: cluster, sender, receiver. Reading fails for a frame that is not addressed to this
 * replica. */
void replica_write_head(const Replica *p, Writer *w, uint64_t to);
bool replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from);
