/* The public interface of the store: read, propose, watch. It is the same on a leader, on a follower, and
 * on an attached host.
 *
 * A proposal goes into the leader's log, directly or by a session to the leader. Its result arrives when this
 * host has applied it, so that a later read on this host contains the write. An attached host sends it to the
 * replica that it uses, which proposes it and returns the result; later reads on that host are not older.
 * Order inside: the tree, then proposers, then watchers. */
#pragma once

#include "base/duration.h"
#include "base/error.h"
#include "base/sizes.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/command/command.h"
#include "kvstore/command/copy.h"
#include "kvstore/command/cost.h"
#include "kvstore/command/replication_stats.h"
#include "kvstore/command/sync.h"
#include "kvstore/watch.h"
#include "peers/peers.h"

typedef struct KvStore KvStore;

typedef enum KvRole {
        KV_ROLE_NONE,
        KV_ROLE_FOLLOWER,
        KV_ROLE_CANDIDATE,
        KV_ROLE_LEADER,
        _KV_ROLE_MAX
} KvRole;
typedef enum KvMemberRole {
        KV_MEMBER_SPARE,
        KV_MEMBER_STANDBY,
        KV_MEMBER_VOTER,
        _KV_MEMBER_ROLE_MAX
} KvMemberRole;

const char *kv_role_name(KvRole role);
const char *kv_member_role_name(KvMemberRole role);

typedef struct KvMember {
        uint64_t raft_id;
        char address[ADDRESS_SIZE];
        KvMemberRole role;
        uint64_t match; /* on the leader: the highest index that it is known to hold durably; 0 elsewhere */
        bool reachable; /* a session is open, and its kernel has answered recently; this host always is */
} KvMember;

enum { KV_MEMBERS_MAX = 16 };

typedef struct KvState {
        KvRole role;
        bool ready;               /* leader: an entry of its term is applied; others: follows a leader */
        uint64_t term, leader_id; /* Raft's; leader 0: none known */
        char leader_machine_id[MACHINE_ID_SIZE];
        uint64_t raft_id, cluster_id, lineage;
        uint64_t index, raft_index; /* the store's, and Raft's last applied */
        uint64_t commit;
        uint64_t last_index, last_term; /* of this host's log, committed or not; 0: it has none */
        uint64_t cluster_ms;            /* cluster time now, as this host extrapolates it */
        KvMember members[KV_MEMBERS_MAX];
        size_t n_members, n_voters, n_voters_reachable;
        bool differs;   /* this tree differs from the majority's, and will be replaced */
        bool undecided; /* the replicas' trees differ, without a majority */
        bool refuses;   /* this host cannot store the tree that the leader sends, and needs it to follow */
        bool stopped;   /* the replica has failed, and recovers later; its tree can be read */
        bool lost;      /* stopped, and acknowledged data is gone: it waits for kv_joined() */
        bool founded;   /* this start of this host has founded the cluster */
        bool attached;  /* this host has no replica; role is KV_ROLE_NONE, and raft_id 0 until it was admitted
                           as a member, whose replica is being filled */
        bool removed;   /* replicas reject this host: it was removed from the cluster */
        bool waits;     /* for admission to a cluster; false with KvOptions.waits */
        char problem[320];         /* the reason why this host serves no writes; "" if it does */
        uint64_t stale_ms;         /* kv_stale_ms() */
        unsigned level, level_max; /* feature level of the tree; of this program */
        uint64_t read_bound; /* of the states served so far, which the tree has not reached; 0: it is served
                              */
        bool rare;           /* attached: the replica in use requests one heartbeat in a second, not two */
        bool unserved; /* no state is known to have been served: a majority has to confirm the tree first */
} KvState;

/* Return the role of the host: "attached", or that of its replica. */
const char *kv_state_role(const KvState *state);

typedef struct KvEvents {
        void (*on_state)(void *userdata); /* role, leader, term or members have changed: see kv_state() */
        void (*on_reset)(
                void *userdata); /* a snapshot replaced the tree, and watches are cleared: read again */
        /* The replica had to stop (disk full, corrupt, conflict), for 'reason'. The daemon continues without
         * it; on_state() reports the end of kv_state().stopped. */
        void (*on_failed)(void *userdata, int error, const char *reason);
        void (*on_gone)(void *userdata); /* of an opening that failed: see kv_open(); may be NULL */
        void *userdata;
} KvEvents;

/* What a command reports about the host that proposes it; a set has bits. Each has a rate on the replica that
 * takes it from a host without one: the host repeats a rejected report with its values of then. */
typedef enum KvReport { KV_REPORT_STATE, KV_REPORT_MAINTENANCE, KV_REPORT_OTHER, _KV_REPORT_MAX } KvReport;

typedef struct KvOptions {
        const char *tree_path;       /* directory of the tree, its checkpoint and received copies */
        const char *read_bound_path; /* directory of the read bound (kvstore/read_bound.h); NULL: no record */
        Disk *log_disk;              /* raft/: borrowed */
        /* Borrowed until the store is closed; NULL: the only host forever. The store registers its frame
         * types, and puts cluster id, lineage, Raft id and start number into
         * the handshake. The caller has to dial all members of kv_state(), and the hosts of its own
         * configuration. */
        Peers *peers;
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* of the mainboard, "": unknown; a log opens on no other one */
        char address[ADDRESS_SIZE];         /* of the peer listener, "": none, and no other member */
        bool join;            /* without a cluster on disk: wait for kv_joined(), do not found one */
        const char *waits;    /* kv_state().problem meanwhile; borrowed; NULL: that of KvState.waits */
        uint64_t quota;       /* users' bytes; 0: 256 MiB */
        uint64_t quota_nodes; /* users' nodes; 0: as many as their bytes allow */
        unsigned level_max;   /* for tests: the feature level that this program is to know at most; 0:
                                 KV_LEVEL_MAX */
        unsigned election_ms, heartbeat_ms;           /* 0: 400, 150 */
        unsigned checkpoint_entries, checkpoint_kept; /* 0: 8192, 2048 */
        uint64_t checkpoint_bytes; /* of entries in memory: what a start has to hold of the log; 0: 32 MiB */
        uint64_t memory_bytes;     /* of log entries in memory, while no replica lacks them; 0: 8 MiB */
        uint64_t log_file_size;    /* 0: 4 MiB */
        uint64_t compare_every;    /* entries; 0: 1000 */
        size_t window;             /* 0: HUB_WINDOW */
        KvEvents events;
        /* Return whether another host may propose a command, on the leader from KV_LEVEL_IDENTITY on: a set
         * of KvReport, or a negative errno and a message (-ENOMEM: later; -EBUSY: KV_BUSY, not KV_FORBIDDEN).
         * 'principal' is the text that it claims; size 0: the host itself. 'relay' is the machine that has
         * sent it for that host; NULL: that host itself. Called with events.userdata; NULL: every command is
         * accepted. */
        int (*check_proposal)(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                              const KvCommand *cmd, Error *err);
} KvOptions;

/* In 'tree_path'. Without this file, the next opening rebuilds the tree from checkpoint and log. */
#define KV_TREE_TRUSTED "trusted"

/* Open log and tree, rebuild the tree from checkpoint and log if it is not trusted, and start Raft. On
 * corruption, a directory of another host, or a second daemon: a negative errno, and a message that names
 * file and remedy. A corrupt log opens if there are other members: kv_state().lost, with the same message.
 *
 * If an opening fails late, *ret is set: that store is closing, and must not be used. Disk and peers have to
 * stay until on_gone() reports, once and from the loop, that nothing is in flight any more. */
int kv_open(KvStore **ret, Loop *loop, const KvOptions *options, Error *err);
/* Transfer leadership if this host leads (at most 1 s), then close. 'closed' is called once, from the loop;
 * then *store is gone. Proposals in flight are answered KV_UNKNOWN first (KV_NO_LEADER if they had no
 * effect), pending reads KV_UNKNOWN. The owners of watches have to close them before this call. */
void kv_close(KvStore *store, void (*closed)(void *userdata), void *userdata);

/* For simulation: free the store at once, as a crash does, without a message, a write, a wait or an answer.
 * Its work in flight off the loop must never return; each pending KvSync still exists, or was cancelled. */
KvStore *kv_crash(KvStore *store); /* NULL allowed; returns NULL */

void kv_state(const KvStore *store, KvState *ret);

/* The part of kv_state() that each answer to a client contains. It needs no state of sessions. */
typedef struct KvPosition {
        uint64_t cluster_id, lineage, raft_index, term;
        unsigned level; /* feature level of the tree */
} KvPosition;

void kv_position(const KvStore *store, KvPosition *ret);

typedef struct KvUsage {
        uint64_t n_keys; /* and directories */
        uint64_t bytes;  /* as the quota counts them: with a weight for each key */
} KvUsage;

/* What this replica has applied since it was opened, by the requested action, without fleet's own keys. */
typedef struct KvCounts {
        uint64_t done[_KV_ACTION_MAX], refused[_KV_ACTION_MAX];
        Cost cost, cost_max; /* of all entries that were applied; of the costliest one
                                (kvstore/command/cost.h) */
        uint64_t deferred;   /* commands that did not fit into their entry's budget */
        ReplicationStats traffic;
        uint64_t entries_bytes; /* of the log's entries that are in memory now */
        /* Durations: of this host's proposals until they were applied here; of writes of the log, with their
         * syncs, since it was opened. */
        DurationCounts commits, log_writes;
        KvUsage users, own;   /* of users' keys and of fleet's own, in the tree now */
        uint64_t quota_bytes; /* limit of the bytes of each of them */
} KvCounts;

void kv_counts(const KvStore *store, KvCounts *ret);
/* Return the bytes of the event windows, in memory now: looks at each event. */
size_t kv_window_bytes(const KvStore *store);

/* -- Read: the serving tree of this host --
 *
 * Answers come by callbacks: an attached host gets them from another host. A component that answers clients
 * checks kv_can_serve() first. */

/* Return false while the tree may be older than a state that this host served before: call kv_sync() first,
 * or reject. */
bool kv_can_serve(const KvStore *store);
/* Return whether this host has a leader, or leads. */
bool kv_has_leader(const KvStore *store);
/* Return the term in which this host leads, of which an entry is applied; 0: it does not. */
uint64_t kv_leads(const KvStore *store);
/* Return the time without a leader, in which reads return old state; 0: less than KV_STALE_MS. */
uint64_t kv_stale_ms(const KvStore *store);
enum { KV_STALE_MS = 3000 };
uint64_t kv_index(const KvStore *store);
uint64_t kv_cluster_ms(const KvStore *store); /* cluster time now, extrapolated; never backward */

/* What was read at one key. Borrowed for the call. */
typedef struct KvFound {
        uint64_t index;     /* of the tree that was read */
        int error;          /* 0; -ENOENT: the key does not exist; or why it cannot be read */
        const KvNode *node; /* NULL unless 'error' is 0; the root always exists */
        /* -ENOENT of kv_get(): the first path on the way to the key that does not exist, or that is no
         * directory. */
        KvBytes missing;
        bool is_file; /* 'missing' exists, and is no directory */
} KvFound;

/* A read of one key. It stays in place until 'done'. */
typedef struct KvGet {
        KvBytes key;
        /* Called once. Negative 'result': there is no tree to read, and 'found' is NULL. */
        void (*done)(void *userdata, int result, const KvFound *found);
        void *userdata;
        struct RemoteRequest *request; /* the store's: of an attached host, while it waits; otherwise NULL */
} KvGet;

/* Read the node at get->key. A local tree answers before this call returns. */
void kv_get(KvStore *store, KvGet *get);
void kv_get_cancel(KvGet *get); /* without 'done'; no effect after it */

/* A part of the tree. The keys are borrowed until KvListOps.free. */
typedef struct KvRange {
        KvBytes key;         /* the nodes below it */
        KvBytes after;       /* nodes after this key only, which need not exist any more; empty: all */
        bool recursive;      /* false: direct children only */
        bool without_key;    /* the node at 'key' itself is not read */
        uint64_t visits_max; /* nodes that may be read on the loop; 0: any */
} KvRange;

/* begin(), visit() and end() are called in this order, on the loop at first. A read is large if it exceeds
 * KvRange.visits_max or one of these returns -E2BIG. Then grow() is called, and all three are called again
 * from the start, in a worker with a lower priority, where they touch 'userdata' only. */
typedef struct KvListOps {
        int (*begin)(void *userdata,
                     const KvFound *found); /* > 0: visit what is below, 0: do not, < 0: fail */
        KvVisit visit;
        int (*end)(void *userdata);   /* nothing was left to visit, or visit() stopped */
        void (*grow)(void *userdata); /* on the loop: the read is large */
        void (*done)(void *userdata,
                     int result);     /* on the loop, once, unless cancelled: 0 or why it failed */
        void (*free)(void *userdata); /* on the loop, always, at the end */
} KvListOps;

typedef struct KvList KvList;

enum {
        KV_LARGE_READS_MAX = 2,
        KV_LARGE_READ_MS = 4000 /* a second of CPU, of which it gets a quarter on a busy host */
};

/* List a part of the tree at one index, on a host with a replica: -EUCLEAN otherwise. The store owns
 * 'userdata' until 'free'. *ret is NULL if 'done' was called before this call returned; a local tree does so
 * unless the read is large.
 *
 * A large read fails with -EBUSY when KV_LARGE_READS_MAX are under way, with -ETIMEDOUT after
 * KV_LARGE_READ_MS, and with -EFBIG when the live file has doubled, because its transaction pins the pages of
 * its state. When the store replaces or closes the tree, it stops its readers, which fail with -ECANCELED,
 * and waits for them, at most for one node. */
void kv_list(KvStore *store, const KvRange *range, const KvListOps *ops, void *userdata, KvList **ret);
/* Return whether fewer than KV_LARGE_READS_MAX are under way. */
bool kv_may_read_large(const KvStore *store);
void kv_list_cancel(KvList *list); /* 'done' is not called */

/* The local view: for components that run on hosts with a replica only, and build a view of their own. They
 * read the tree whether or not kv_can_serve(). */
int kv_local_get(KvStore *store, KvBytes key, KvVisit visit,
                 void *userdata); /* visit()'s result, or -ENOENT */
int kv_local_walk(KvStore *store, const KvRange *range, KvVisit visit,
                  void *userdata); /* 0, or < 0 as visit() */

/* Visit the rows of the history (KvHistoryRow) whose index is above 'after', oldest first; or with 'backward'
 * those below 'after' (0: all), newest first. 'visit' returns as KvVisit. 0, or < 0 as visit(). */
int kv_local_history(KvStore *store, uint64_t after, bool backward,
                     int (*visit)(void *userdata, const KvHistoryRow *row), void *userdata);

/* -- Backup -- */

/* Make a checkpoint that has all that this host has applied, unless the last one does. Requests at one time
 * share it: the tree has no other long reader for it. */
void kv_copy(KvStore *store, KvCopyRequest *backup);
void kv_copy_cancel(KvStore *store, KvCopyRequest *backup); /* without 'done' */

/* Linearizable read: see kvstore/command/sync.h. */
void kv_sync(KvStore *store, KvSync *sync);
void kv_sync_cancel(KvStore *store, KvSync *sync);

/* -- Propose -- */

/* Called exactly once, never from inside kv_propose(). 'result' is borrowed for the call. KV_UNKNOWN comes at
 * most 1.5 s after the loss of the leader; on an attached host, whose replica may wait for a leader, after
 * 10 s. */
typedef void (*KvDone)(void *userdata, const KvResult *result);

/* Encode the command, and propose it. Return 0, -ENOMEM, or -ESHUTDOWN when the store is closing; rejections
 * come by 'done'. */
int kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number);
void kv_cancel(KvStore *store, uint64_t number); /* without 'done'; the command may still take effect */

/* -- Watch -- */

/* Watch a key. 0; -ESTALE: 'since' is before the event window, which begins at *ret_oldest (code 401);
 * -ENOBUFS: too many watches. Events come from the loop, those of the window first. */
int kv_watch(KvStore *store, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata,
             KvWatch **ret, uint64_t *ret_oldest);

/* -- Hosts without a replica -- */

/* This host has no replica, or one that does not work, and uses that of another machine, to which a session
 * is open; NULL: there is none now. A tree that this host has serves until the slice is complete. It lasts
 * until the replica here works (again), after kv_joined() or a recovery: then its tree serves, watches
 * continue by index, and proposals keep their numbers. */
void kv_attach(KvStore *store, const char *machine_id);
/* The replica of this host works again before the slice was complete. */
void kv_attach_no_more(KvStore *store);
/* Write why there is no leader, for people. */
void kv_problem(const KvStore *store, char *ret, size_t size);
/* Write the failure of a replica that recovers by itself while this host is attached; "": there is none. */
void kv_replica_problem(const KvStore *store, char *ret, size_t size);
/* On such a host: return whether the replica of a machine has answered in the last 'within_ms', and has a
 * leader. */
bool kv_replica_answers(const KvStore *store, const char *machine_id, uint64_t within_ms);
/* Count a request of a user of a host without a replica to change something, other than a proposal:
 * 'machine_id' NULL is this host. Return whether it is within the limit of that host. */
bool kv_take_write(KvStore *store, const char *machine_id);
/* Return whether this host has no replica. */
bool kv_is_attached(const KvStore *store);
/* Return the machine of the replica in use; "": there is none. */
const char *kv_replica_in_use(const KvStore *store);
/* Return the time since the replica of a machine has answered on its present session, with or without a
 * leader; UINT64_MAX: never. */
uint64_t kv_replica_silent_ms(const KvStore *store, const char *machine_id);
/* Return the time since that replica has certainly had contact with a leader, by its last answer; UINT64_MAX:
 * never. */
uint64_t kv_replica_leader_ms(const KvStore *store, const char *machine_id);
/* Return the index of the state that clients of this host read: of the tree, or without a replica the highest
 * one that this host has seen. No older state follows. */
uint64_t kv_seen(const KvStore *store);
/* This host has answered a client with a state of that index. */
void kv_saw(KvStore *store, uint64_t index);
/* Return how many subscriptions hosts without a replica have here. */
size_t kv_subscriptions(const KvStore *store);
/* Answer a heartbeat of such a host. 'rare': one in a second is enough on the session that it uses. */
void kv_answer_heartbeat(KvStore *store, PeerSession *session, bool rare);

/* -- Slices: the keys that a host without a replica receives -- */

/* The store does not know which keys belong to a slice (fleetd/registry/slice.h). */
typedef struct KvSlices {
        /* Enumerate the keys of the slice of a machine. 0, or the first non-zero result of 'found'. */
        int (*each)(void *userdata, const char *machine, int (*found)(void *userdata, KvBytes key),
                    void *found_userdata);
        bool (*has)(void *userdata, const char *machine, KvBytes key);
        /* Return whether a machine may read and watch a key; its slice needs no right. */
        bool (*may_read)(void *userdata, const char *machine, KvBytes key);
        /* Return the index up to which kv_slice_touched() has reported all changes; 0: nothing is known yet.
         */
        uint64_t (*index)(void *userdata);
        void *userdata;
} KvSlices;

void kv_set_slices(KvStore *store, const KvSlices *slices); /* copied; NULL: none, which is the first state */
/* A key of the slice of a machine may have changed, entered or left it; NULL: of each slice. */
void kv_slice_touched(KvStore *store, const char *machine, KvBytes key);
void kv_slices_advanced(KvStore *store); /* KvSlices.index() has risen */
void kv_slices_reset(KvStore *store);    /* any key of any slice may have */

/* -- Members: for fleetd/sessions on the leader -- */

/* Propose a change of the configuration. on_state() reports the changed members. One change at a time:
 * -EBUSY; -EREMOTE: this host does not lead. -EAGAIN of a promotion: the standby has not caught up; -EPERM:
 * the member is this host (transfer first), or fewer than three voters would remain. -EEXIST, -ENOENT,
 * -EINVAL. */
int kv_member_add(KvStore *store, uint64_t raft_id, const char *address); /* as standby */
int kv_member_promote(KvStore *store, uint64_t raft_id);                  /* standby to voter */
int kv_member_demote(KvStore *store, uint64_t raft_id); /* voter to standby; one of two, too */
int kv_member_remove(KvStore *store, uint64_t raft_id);
/* Demote or remove a voter although fewer than three remain. */
int kv_member_shrink(KvStore *store, uint64_t raft_id, bool remove);
/* Release the address of a member that is not dialed any more: addresses are unique. */
int kv_member_vacate(KvStore *store, uint64_t raft_id);

/* Transfer leadership to a voter. The result shows in KvState. -EREMOTE: this host does not lead. -EBUSY: a
 * transfer is under way. */
int kv_transfer(KvStore *store, uint64_t raft_id);

/* The cluster has replaced this member, which is no longer in its configuration, or its log is an old image:
 * quarantine the replica, so that the host joins under another Raft ID. -EBUSY: the replica is not open. */
int kv_retire(KvStore *store, const char *reason);

/* Become a replica with an identity of the cluster, which waits to be added; it replaces a lost one. */
int kv_joined(KvStore *store, uint64_t cluster_id, uint64_t lineage, uint64_t raft_id, Error *err);
