/* Our seat in the cluster: core, log, tree folder and sessions tied together.
 *
 * Everything that comes in (a frame, a timer, a finished write) is one input to the core; what the core asks
 * for is done inside; what has to be told is told once the input is over ('settled'), so that whoever is told
 * may ask for more. The replica knows bytes only: what an entry means, 'apply' says.
 *
 * The parts are open to the files of this folder and to the door; everybody else has kvstore.h. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/raft/bootstrap.h"
#include "kvstore/raft/core.h"
#include "kvstore/tree/data_dir.h"
#include "kvstore/raft/log.h"
#include "peers/peers.h"
#include "kvstore/replication_stats.h"
#include "kvstore/tree/tree.h"

typedef struct Replica Replica;
typedef struct Transfers Transfers;
typedef struct ConsistencyCheck ConsistencyCheck;

typedef struct ReplicaEvents {
        /* An entry of commands, inside the transaction of its step; *ret_cost: as kvstore/cost.h counts. A
         * negative errno ends the replica. */
        int (*apply)(void *userdata, TreeTxn *txn, uint64_t index, const RaftEntry *entry,
                     uint64_t *ret_cost);
        /* Bytes of memory that hold what apply() made and committed() has not seen yet. */
        uint64_t (*held)(void *userdata);
        /* What apply() got since the last time is in the tree now; inside an input: publish, call nobody. */
        void (*committed)(void *userdata);
        /* An input is over: answer, propose. 'changed': RAFT_CHANGED_ bits. */
        void (*settled)(void *userdata, unsigned changed);
        /* Another host's tree took the place of ours; inside an input. */
        void (*replaced)(void *userdata);
        /* The replica has stopped; reading goes on, and it comes back by itself, which 'settled' tells. From
         * the loop. */
        void (*failed)(void *userdata, int error, const char *reason);
        void *userdata;
} ReplicaEvents;

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
        uint64_t memory_bytes; /* of entries in memory, while nobody lacks them */
        uint64_t log_file_size;
        /* Planted bugs: an opened tree is taken for older than it is; after a failed write the log is what
         * memory has of it; the log is cut where a checkpoint is due, and none is made. */
        bool apply_twice, trust_memory, cut_unchecked;
        bool rebuild_blindly; /* another one: a tree that differs from another is wrong, whatever the majority
                                 says */
        uint64_t compare_every; /* entries between reports of the tree's hash; 0: COMPARE_EVERY */
        ReplicaEvents events;
} ReplicaOptions;

/* What a worker reads before a replica in service goes on, and what it found (replica_reopen.c). */
typedef struct Reopening {
        Work work;
        bool running;
        void (*done)(Replica *p);
        bool rebuild;  /* the tree, of the checkpoint */
        bool may_copy; /* no checkpoint is being made */
        bool has_checkpoint;
        uint64_t checkpoint_applied; /* of the replica's checkpoint: one that is being made may take its place
                                        meanwhile */
        TreeMeta meta;               /* of the tree that the log is to fit */
        Tree *tree;                  /* that was rebuilt; NULL: none was */
        RaftLog *log;
        Identity identity;
        Checkpoint copied; /* of a tree that the log does not fit */
        bool rotten;       /* the checkpoint */
        bool damaged;      /* checkpoint or log: nothing is left that this replica could go on from */
        bool distrusts;    /* the tree: its copy is not what was written */
        int error;
        Error text;
} Reopening;

struct Replica {
        Loop *loop;
        ReplicaOptions options;
        bool knows_others; /* by its settings */
        DataDir folder;
        Tree *tree;
        Tree *shown; /* the one before, while the new one is not as far; NULL: 'tree' is shown */
        uint64_t shown_applied;
        bool shown_wrong;     /* what it said is not what the new one will say */
        RaftLog *log;         /* NULL: waiting to join, or failed */
        RaftLog *closing_log; /* its write is still in flight */
        RaftCore *core;
        Identity identity; /* 0: none yet */
        uint64_t start_number;

        unsigned depth;   /* inside an input of the core */
        unsigned changed; /* bits to be told */
        Timer tick;
        uint64_t ticked_ms, write_since_ms,
                write_waited_ms; /* the oldest write in flight, and how long we have watched it */
        Deferred settle;         /* for inputs that a caller of ours made */
        Deferred apply;          /* the next slice of what is committed */
        uint64_t held_max;       /* bytes that memory held of one slice at most: for tests */
        uint64_t applied_turn,
                applied_cost; /* the turn of the loop that applied last, and the cost of its entries */
        bool founded;         /* by this start: the cluster is new */
        bool started;
        bool in_service; /* the first start is over: nothing takes the loop for long any more */

        Timer silence; /* who has no vote has no election time-out in the engine, and would believe in its
                          leader for ever */
        uint64_t contact_ms; /* a leader, last */
        bool leader_silent;

        struct {
                uint64_t id, term, ms; /* id 0: nobody */
        } overheard; /* who leads, by what he says to us while we have failed: the door sends him writes */

        uint64_t transfer_to, transfer_due_ms; /* leadership is to go there (0: to anybody), waiting at most
                                                  so long; 0: it is not */

        Deferred notice; /* to tell followers what is committed */
        struct {
                uint64_t id, told; /* the commit index that it was sent last, as far as its log went */
        } followers[RAFT_SERVERS_MAX];
        size_t n_followers;
        uint64_t followers_term; /* of our leading, in which they were told */
        ReplicationStats traffic;

        int error; /* negative errno: failed, or failing */
        char reason[256];
        bool told_failed, stopping;
        Deferred stop;
        Timer stop_timer;
        Timer comeback; /* the next attempt to go on */
        Reopening reopening;
        unsigned n_attempts;
        uint64_t back_ms;       /* when it came back last */
        uint64_t durable_index; /* of the log, when it failed: what was acknowledged has to be there again */
        bool damaged; /* by the attempt to open it that failed last: it lacks what was acknowledged, or cannot
                         be read */
        bool lost;    /* so it does not vote any more, and waits for replica_join() under another id */

        Work copy_work;          /* the checkpoint's copy, off the loop */
        bool copying, copy_told; /* the core took the last one */
        bool probing;            /* the copy is made to be looked at, and goes */
        Checkpoint copied;
        Work drop_work; /* the old one's end, off the loop, too */
        int drop_fd;
        bool dropping;
        int copy_error;
        Error copy_text;
        uint64_t entries_since, bytes_since; /* applied since the last checkpoint began */
        uint64_t previous_checkpoint; /* applied index of the last but one: the log is kept from there */
        uint64_t copy_retry_ms;       /* not before */

        uint64_t forget_bytes; /* with so many bytes of entries in memory it is seen again which can go */
        Timer forget_again;

        Transfers *transfers;
        ConsistencyCheck *compare;
        bool exchange; /* begins again with the tree that was received: ours differs from the others' */
        Checkpoint *incoming; /* borrowed: what the snapshot message that is being stepped speaks of */
        void *held;           /* a snapshot message that waits for our copy to end */
        size_t held_size;
        uint64_t held_from;
        char held_address[ADDRESS_SIZE];

        bool closing, restarting;
        unsigned pending; /* log being closed */
        void (*closed)(void *userdata);
        void *closed_userdata;
        Deferred closed_deferred;
};

/* Opens the folders; the tree can be read afterwards, nothing has been applied. 'join' and no log: waits for
 * replica_join(). So does a replica whose log is damaged, if there are others: it fails ('error', 'reason'),
 * its tree can be read, and it is 'lost'. */
int replica_open(Replica **ret, Loop *loop, const ReplicaOptions *options, bool join, Error *err);
/* Starts Raft from what was opened (nothing to do while waiting to join). */
int replica_start(Replica *p, Error *err);
/* Who is lost sets log and tree aside first, and shows the old tree until the new one is as far. -EBUSY: not
 * yet. */
int replica_join(Replica *p, const Identity *identity, Error *err);
/* 'closed' comes once, from the loop, when nothing is in flight any more; the replica is gone then. */
void replica_close(Replica *p, void (*closed)(void *userdata), void *userdata);

/* For simulation: gone at once; NULL allowed, returns NULL. */
Replica *replica_crash(Replica *p);

/* -- Inputs of the door: codes as raft_core_*; -EREMOTE also when there is no core -- */
int replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index, uint64_t *ret_term);
int replica_change(Replica *p, const RaftChange *change, Error *err);
int replica_transfer(Replica *p, uint64_t raft_id);

bool replica_is_open(const Replica *p);    /* there is a core, and it goes on */
bool replica_is_leader(const Replica *p);  /* by Raft's word, ready or not */
uint64_t replica_leader(const Replica *p); /* Raft id, 0: unknown */
uint64_t replica_term(const Replica *p);
/* Whom the door asks, in which term; also while our replica has failed, and hears a leader. 0: nobody. */
uint64_t replica_known_leader(const Replica *p);
uint64_t replica_known_term(const Replica *p);
/* The tree that can be read: never older than one that was shown before. */
Tree *replica_serving(const Replica *p);
/* Stops the replica: hands over if it leads, closes log and core, tells 'failed', and tries to come back. The
 * first reason counts. */
void replica_fail(Replica *p, int error, const char *format, ...) _printf_(3, 4);

/* Sends a frame to a member; negative errno as peers_send_raft(), -ENOTCONN without peers. */
int replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w);
/* Answers on a session that a question came by, if it is still there; answers travel no other way. */
void replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w);
void replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);
/* The head of every frame of ours: whose cluster, from whom, to whom. False if the frame is not for us. */
void replica_write_head(const Replica *p, Writer *w, uint64_t to);
bool replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from);

/* Work of a part of ours is over: a close may have waited for it. */
void replica_work_ended(Replica *p);
/* Makes a checkpoint soon, if none is under way. */
void replica_checkpoint(Replica *p);
/* Looks whether our tree holds what was written to it, if no copy is under way; if not, it is made again of
 * checkpoint and log. */
void replica_probe(Replica *p);
