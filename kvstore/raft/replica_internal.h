/* The replica's members, and the functions that its files share. Each struct is named after its file, which
 * alone changes it, except at opening and closing. Files call only those whose functions are listed before
 * theirs. */
#pragma once

#include "kvstore/raft/replica.h"

/* -- serving_tree.c -- */

typedef struct ServingTree {
        Tree *live;                /* entries are applied to it; NULL: it could not be opened */
        Tree *previous;            /* serves reads until 'live' has reached its index; NULL: 'live' serves */
        uint64_t previous_applied; /* Raft index of 'previous' */
        bool replaced;             /* readers have not been notified yet that another tree serves */
        bool previous_wrong; /* readers have to read again: 'live' will differ from what 'previous' served */
} ServingTree;

/* -- leadership.c -- */

/* A host without a vote has no election timeout: a lost leader would stay its leader forever. */
typedef struct LeaderContact {
        Timer silence;
        uint64_t last_ms; /* last message of a leader */
        bool silent;      /* none came for two election timeouts */
        struct {
                uint64_t id, term, ms; /* id 0: none */
        } observed;                    /* the leader, according to messages to the failed replica */
} LeaderContact;

typedef struct LeadershipTransfer {
        uint64_t to;     /* 0: any voter that is up to date */
        uint64_t due_ms; /* wait until then at most; 0: no transfer */
} LeadershipTransfer;

typedef struct CommitNotices {
        Deferred send;
        struct {
                uint64_t id;
                uint64_t sent; /* commit index that was sent to this follower, at most its log's end */
        } followers[RAFT_SERVERS_MAX];
        size_t n_followers;
        uint64_t term; /* the term of these figures */
} CommitNotices;

/* -- checkpoints.c -- */

typedef struct Checkpoints {
        Work work; /* the copy of the tree, off the loop */
        bool copying;
        bool probing;  /* the copy verifies the tree only */
        bool reported; /* the core has taken the last checkpoint */
        Checkpoint copied;
        int error; /* of the copy */
        Error text;
        Work drop_work; /* closes the previous checkpoint's file, off the loop */
        int drop_fd;
        bool dropping;
        uint64_t entries_since, bytes_since; /* applied since the last checkpoint began */
        uint64_t previous;      /* applied index of the last checkpoint but one: the log is kept from there */
        uint64_t retry_ms;      /* no checkpoint before */
        uint64_t compact_bytes; /* of entries in memory, from which on compaction is tried again */
        Timer compact_again;
        TAILQ_HEAD(, KvCopyRequest) backups; /* that wait for the copy under way, or for the next one */
} Checkpoints;

/* -- replica_inputs.c -- */

enum { WRITE_TICK_MS = 1000 }; /* while a write is in flight, a tick is due at least that often */

/* How long the oldest write to the log has been in flight. */
typedef struct WriteWatch {
        uint64_t ticked_ms, since_ms, waited_ms;
} WriteWatch;

/* A snapshot message that waits for the end of a copy. */
typedef struct DeferredSnapshot {
        void *bytes;
        size_t size;
        uint64_t from;
        char address[ADDRESS_SIZE];
} DeferredSnapshot;

/* -- replica_ops.c -- */

typedef struct Applying {
        Applied applied;
        bool rebuilt;        /* entries were applied to a tree that does not serve */
        bool paused;         /* this input does not end with a notification: it applies nothing */
        Deferred next;       /* the next slice of committed entries */
        uint64_t held_max;   /* bytes of memory that one slice held at most */
        uint64_t turn, cost; /* the turn of the loop that applied last, and the cost of its entries */
} Applying;

/* -- replica_reopen.c -- */

/* What a worker reads before the replica starts again, and what it found. */
typedef struct Reopening {
        Work work;
        bool running;
        void (*done)(Replica *p);
        bool rebuild;  /* rebuild the tree from the checkpoint first */
        bool may_copy; /* no checkpoint is being made */
        bool has_checkpoint;
        uint64_t checkpoint_applied; /* of the checkpoint when the worker started: a copy in flight may
                                        replace it */
        TreeMeta meta;               /* of the tree that the log has to fit */
        Tree *tree;                  /* the rebuilt tree; NULL: none */
        RaftLog *log;
        Identity identity;
        Checkpoint copied;       /* of a tree that the log does not fit */
        bool corrupt_checkpoint; /* the checkpoint fails its verification */
        bool corrupt;            /* checkpoint or log: this replica cannot recover */
        bool distrusts;          /* the live tree: its copy fails verification */
        int error;
        Error text;
} Reopening;

/* -- replica_recovery.c -- */

typedef struct Recovery {
        Deferred stop;
        Timer transfer_timer; /* the leadership transfer of a failing replica may take so long */
        Timer retry;          /* the next attempt to recover */
        unsigned n_attempts;
        uint64_t recovered_ms;   /* the last recovery */
        uint64_t durable_index;  /* of the log when the core closed: acknowledged, and required after a
                                    recovery */
        bool damaged;            /* the last attempt found that acknowledged data is missing or unreadable */
        bool retired;            /* the cluster has replaced it: it does not start again */
        bool with_received_tree; /* the restart replaces the tree by the one that a leader sent */
} Recovery;

/* -- replica_open.c -- */

typedef struct Closing {
        unsigned pending; /* logs that are being closed */
        RaftLog *log;     /* the log whose write is still in flight */
        void (*closed)(void *userdata);
        void *userdata;
        Deferred deferred;
} Closing;

struct Replica {
        Loop *loop;
        ReplicaOptions options;
        ReplicaState state;
        int error; /* negative errno; 0: the replica has not failed */
        char reason[256];
        bool has_others; /* by its settings, the cluster has other hosts */
        bool founded;    /* this start founded the cluster */
        bool started;    /* the core was started once */
        bool in_service; /* the first start is over: nothing blocks the loop any more */

        DataDir data_dir;
        RaftLog *log; /* NULL: waits to join, or closed by a failure */
        RaftCore *core;
        Identity identity; /* raft_id 0: none */
        uint64_t start_number;
        unsigned depth;   /* 1: inside an input of the core */
        unsigned changed; /* RAFT_CHANGED_ bits since the last notification */
        Timer tick;
        Deferred flush; /* for inputs that the owner began */
        ReplicationStats stats;
        Transfers *transfers;
        ConsistencyCheck *consistency;
        Checkpoint *incoming; /* borrowed: the checkpoint of the snapshot message that the core steps */

        ServingTree trees;
        LeaderContact contact;
        LeadershipTransfer transfer;
        CommitNotices notices;
        Checkpoints checkpoints;
        WriteWatch write_watch;
        DeferredSnapshot deferred;
        Applying applying;
        Reopening reopening;
        Recovery recovery;
        Closing closing;
};

/* -- replica_state.c -- */

void replica_move(Replica *p, ReplicaState to);
/* The core accepts ticks, frames and finished writes. */
bool replica_takes_inputs(const Replica *p);
/* -- replica_step.c -- */

/* Notify the owner of 'changed' with the next turn of the loop. */
void replica_notify_later(Replica *p, unsigned changed);
/* Start the timer for the core's next tick. */
void replica_arm(Replica *p);
/* Surround each input to the core. 'r': the core's answer if an error of it ends the replica, else 0. */
void replica_enter(Replica *p);
/* The same, if no notification follows at once: no entry is applied. */
void replica_enter_paused(Replica *p);
void replica_leave(Replica *p, int r);
/* Work off the loop is over: closing may have waited for it. */
void replica_work_ended(Replica *p);
/* Restart with the tree that was received from a leader. */
void replica_replace_tree(Replica *p);
/* Watch for silence of the leader if this host has no vote; in any case, from 'last_ms' on. */
void replica_contact_watch(Replica *p);
void replica_contact_wait(Replica *p, uint64_t last_ms);
uint64_t replica_silence_ms(const Replica *p); /* after which the leader counts as lost */

/* -- replica_status.c: what other components read, and frames -- */

bool replica_has_vote(const Replica *p);
/* The state that a checkpoint holds, as the core needs it; borrows from 'c'. */
RaftStateInfo replica_checkpoint_info(const Checkpoint *c);

/* -- serving_tree.c -- */

Tree *replica_close_live_tree(Replica *p); /* returns NULL */
/* Replace the live tree by 'tree', which may be older; then the old tree serves until 'tree' has reached it.
 * 'wrong': the old tree did not hold what it should. The caller tells the consistency check, as the next. */
int replica_exchange_tree(Replica *p, Tree *tree, bool wrong);
/* Replace the live tree by 'tree', which a leader sent and which is at entry 'index'. */
void replica_install_tree(Replica *p, Tree *tree, uint64_t index);
/* The live tree has reached entry 'applied', inside an input. */
void replica_caught_up(Replica *p, uint64_t applied);
int replica_tree_meta(const Replica *p, Tree *tree, TreeMeta *ret, Error *err);

/* -- leadership.c -- */

void replica_leadership_init(Replica *p);
/* The core closes: only observed leaders count. */
void replica_contact_lost(Replica *p);
void replica_on_leader_message(Replica *p);
/* The replica has failed; the leader 'id' still sends messages to it. */
void replica_observe_leader(Replica *p, uint64_t id, uint64_t term);
bool replica_is_transferring(const Replica *p);
/* Continue a transfer, or end the one of a former leader. */
void replica_transfer_step(Replica *p);
/* replica_transfer() of a replica that fails: to any voter; proposals are rejected from now on. */
int replica_give_up_leadership(Replica *p);
/* Record which commit index 'message' carries to 'to'. */
void replica_note_sent(Replica *p, uint64_t to, const RaftMessage *message);
/* Send the commit index to followers that no other message brings it. */
void replica_send_notices(Replica *p);

/* -- checkpoints.c -- */

void replica_checkpoints_init(Replica *p);
/* Entry 'e' was applied. */
void replica_count_entry(Replica *p, const RaftEntry *e);
/* A checkpoint is due at once. */
void replica_checkpoint_due(Replica *p);
/* The checkpoint of entry 'index' was received, or (0) there is none. */
void replica_checkpoint_replaced(Replica *p, uint64_t index);
/* Report the last checkpoint to the core, cut the log, and begin a checkpoint that is due. */
void replica_checkpoints_step(Replica *p);
/* Read index, term and configuration of the live tree into memory that the caller owns. */
int replica_read_info(Replica *p, Checkpoint *ret, Error *err);
/* Return how many entries up to 'index' stay in memory after a checkpoint. */
unsigned replica_trailing(Replica *p, uint64_t index);
/* Remove entries from memory that no member needs. Outside an input. */
void replica_compact(Replica *p);

/* -- replica_ops.c -- */

extern const RaftCoreOps replica_core_ops;
/* Notify the owner of what has changed. */
void replica_notify(Replica *p, unsigned changed, bool failed);

/* -- replica_inputs.c -- */

void replica_inputs_init(Replica *p);
/* Handle the frames of members, or stop doing so. */
void replica_handle_frames(Replica *p, bool handle);
/* A write that was in flight belongs to a core that is gone. */
void replica_forget_writes(Replica *p);
void replica_on_appended(void *userdata, uint64_t generation, uint64_t last_index);
void replica_on_log_failed(void *userdata, int error, const char *message);
/* An input is over: make checkpoints that are due, and notify the owner. */
void replica_flush_notifications(Replica *p);

/* -- replica_reopen.c -- */

void replica_reopening_done(Replica *p);
/* Open the log as it is on disk, and check that it belongs to this replica. -ENOENT: there is none. Blocks:
 * for a start, and for a log that is new. */
int replica_open_log(Replica *p, Error *err);
/* Read the log again, off the loop; with 'rebuild', rebuild the tree before. Then call 'done' once, unless
 * the replica closes; what 'done' does not take is dropped. Neither core nor log may be open. On an error,
 * 'done' is not called. */
int replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err);
/* Replace the live tree by the rebuilt one, if a rebuild was requested. */
int replica_take_rebuilt(Replica *p, Error *err);
/* Take the log that was read, or return the error that ended the reading. Sets recovery.damaged. */
int replica_take_reopened(Replica *p, Error *err);

/* -- replica_start.c -- */

/* Put cluster, lineage, Raft ID and start number into the handshakes of this host. */
void replica_introduce(Replica *p);

/* -- replica_recovery.c -- */

void replica_recovery_init(Replica *p);
void replica_close_log(Replica *p);
/* No work of this replica is in flight off the loop. */
bool replica_is_at_rest(const Replica *p);
/* Give up this replica's Raft ID, durably, because its log is corrupt: if the cluster may have other hosts.
 * Else return a negative errno, and 'err' is unchanged. */
int replica_quarantine(Replica *p, Error *err);
/* Move log and tree of a quarantined replica aside, for a new one with 'identity'. */
int replica_set_aside(Replica *p, const Identity *identity, Error *err);
/* The new replica did not start: quarantined as before. */
void replica_quarantine_again(Replica *p);
