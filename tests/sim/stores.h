/* Several stores in virtual time, without daemons: sessions, proposals, replicas, checkpoints and snapshots
 * on simulated disks, links and clocks; their membership (store_members.c) and faults (store_faults.c). Each
 * seed draws the number of hosts, the kinds of faults, and their frequency.
 *
 * The cluster can recover from all faults: at most one voter loses durable data, and the next one only after
 * it has been replaced. Other hosts are wiped only while they do not vote. */
#pragma once

#include "kvstore/kvstore.h"
#include "base/sizes.h"
#include "tests/lib/memory_disk.h"
#include "tests/sim/net.h"
#include "tests/sim/watchers.h"
#include "tests/sim/world.h"

enum { STORES_MAX = 7 };

typedef enum FaultKind {
        FAULT_CRASH,
        FAULT_POWER,
        FAULT_POWER_OF_ALL,
        FAULT_STOP,
        FAULT_UPGRADE,
        FAULT_LONG_ABSENCE,
        FAULT_CUT,
        FAULT_ISOLATE,
        FAULT_ONE_WAY,
        FAULT_BRIDGE,
        FAULT_SPLIT,
        FAULT_RING,
        FAULT_DELAY,
        FAULT_SLOW_LINK,
        FAULT_SLOW_DISK,
        FAULT_HUNG_DISK,
        FAULT_DISK_FULL,
        FAULT_DISK_ERROR,
        FAULT_SYNC_ERROR,
        FAULT_TREE_FULL,
        FAULT_TREE_ERROR,
        FAULT_READ_ERROR,
        FAULT_ROT,
        FAULT_SWAPPED_SECTORS,
        FAULT_LOST_SECTOR,
        FAULT_PAUSE,
        FAULT_LONG_PAUSE,
        FAULT_CLOCK_JUMP,
        FAULT_CLOCK_DRIFT,
        FAULT_HAND_OVER,
        FAULT_MEMBERS,
        FAULT_LEADER_CRASH,
        FAULT_CHECKPOINT_ROT,
        FAULT_TREE_ROT,
        _FAULT_DRAWN,
        /* Consequences of other faults: */
        FAULT_LOST_PAGES = _FAULT_DRAWN,
        FAULT_ADD,
        FAULT_PROMOTE,
        FAULT_DEMOTE,
        FAULT_REMOVE,
        FAULT_REPLACE,
        FAULT_TRANSFER,
        FAULT_RETURN,
        FAULT_DIFFERS,
        FAULT_OLD_PROGRAM,
        FAULT_GIVEN_UP,
        FAULT_CHECKPOINT_REFUSED,
        FAULT_ROT_FOUND,
        FAULT_ROT_SHOWN,
        _FAULT_MAX,
} FaultKind;

const char *fault_name(FaultKind kind);
FaultKind fault_named(const char *name); /* _FAULT_MAX: there is none */

typedef struct Stores Stores;

typedef struct Host {
        Stores *all;
        unsigned number;
        char name[16], address[32], endpoint[64], machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char *folder, *tree, *agent_path;
        SimHost *card;
        MemoryDisk *disk;
        WorldLoop *loop; /* NULL: no daemon */
        Peers *peers;
        KvStore *store;
        uint64_t raft_id; /* assigned at the join; 0: not yet */
        unsigned boots, trees;
        uint64_t lives;                  /* each daemon's number */
        uint64_t hashed_at, hashed_life; /* applied index and daemon of the last comparison of its tree */
        uint64_t lost_ms,
                paused_ms; /* since when it has no leader, 0: it has one; the end of its last pause */
        uint64_t leaving;  /* the daemon that requested its removal; 0: none */
        uint64_t term;     /* the highest it has reported */
        int drift_ppm;
        int64_t wall_offset_ms;
        bool power, dying, wanted, wipe, replica_is_odd;
        bool stopped;               /* the replica has failed and has not recovered */
        bool disk_breaks, disk_bad; /* now; since the replica started, or recovered last */
        bool damaged;               /* its log is corrupt: opening it may fail */
        uint64_t corrupt_checkpoint,
                corrupt_tree;   /* the file that is not what was written, as its inode; 0: none */
        uint64_t corrupt_entry; /* the applied index of the tree then */
        const void *corrupt;    /* the open tree whose file that is, in which daemon */
        uint64_t corrupt_life;
        bool doubts; /* it reports that trees diverged without a majority */
        bool old;    /* its program supports the first feature level only */
} Host;

struct Stores {
        World *world;
        SimNet *net;
        bool unsynced; /* disks acknowledge a sync and do none */
        unsigned n;    /* hosts; 0 at the beginning: drawn */
        Host hosts[STORES_MAX];
        Watchers *watchers;
        void (*gone)(void *userdata, Host *h); /* its pending requests get no answer */
        void *userdata;
        void (*on_message)(void *userdata,
                           const char *message); /* a log message of a daemon; NULL: no observer */
        void *message_userdata;
        uint64_t *hashes;    /* of the tree at an applied index */
        uint64_t *histories; /* hash of the rows then, as kv_local_history() returns them */
        size_t n_hashes, hashes_capacity, histories_capacity;
        uint64_t n_noted; /* proposed writes with a row */
        uint64_t n_acknowledged,
                acknowledged_index; /* those that must have added it; index of the last one */
        uint64_t *leaders;          /* by term: the daemon that led it, by its number */
        size_t n_leaders, leaders_capacity;
        uint64_t last_raft_id, lives, n_compared, n_elections;
        uint64_t roles,
                roles_since_ms;  /* hash of all roles that running hosts report; since when it is unchanged */
        uint64_t lost_voter;     /* the voter whose log is lost or corrupt; 0: none */
        uint64_t slow_until_ms;  /* disks are slow: answers may be late */
        uint64_t doubt_until_ms; /* trees may diverge without a majority: one is corrupt */
        unsigned upgrading;      /* the next host; n: no upgrade is under way */
        unsigned disk_ms, net_ms;
        bool has[_FAULT_DRAWN], off[_FAULT_MAX]; /* this seed's faults; those that the caller forbids */
        unsigned per_10000;                      /* of turns, that have one */
        uint64_t counts[_FAULT_MAX];
        bool calm, quiet, ending; /* few but long faults; none; hosts do not start any more */
};

void stores_begin(Stores *all); /* world, unsynced, gone, watchers are set, perhaps n and off */
void stores_end(Stores *all);
void stores_turn(Stores *all); /* change the membership, compare hashes, sometimes cause a fault */
void stores_heal(Stores *all); /* end all faults */
void stores_log(Stores *all, const char *message); /* a log message of a daemon */

bool store_is_up(const Host *h);
Host *stores_leader(Stores *all); /* NULL: none, or not one that is ready */
Host *stores_any(Stores *all);
void stores_check_hash(Stores *all, Host *h);
/* Propose an internal write with a row of the history. */
void store_note(Host *h);
/* Check that the rows count each acknowledged write once, and no write twice. */
void store_check_history(Host *h);
/* Change one host's tree silently, if there is no other such fault. False: there is one. */
bool stores_flip(Stores *all);
bool store_flip(Host *h); /* unconditionally; false: the host is down */
bool store_is_flipped(const Host *h);

/* -- Corruption: store_corruption.c -- */

/* Corrupt bytes of the last checkpoint, or of a value in the live tree; one host at a time. False: there is
 * none, or another such fault. */
bool store_rot_checkpoint(Host *h);
bool store_rot_tree(Host *h);
void store_flip_checkpoint(Host *h, unsigned n); /* corrupt 'n' of its bytes unconditionally */
/* Observe whether the corruption was detected. */
void store_see_rot(Host *h);
/* Whether 'h' may serve corrupt values. It does so until a consistency check or a checkpoint detects them; a
 * leader also returns them as previous values in the results of writes ('written'). */
bool store_may_show_rot(const Host *h, bool written);

/* -- For the files of this folder -- */

void store_start(Host *h);
void store_stop(Host *h);
bool store_crash(Host *h);
bool store_power_cut(Host *h, uint64_t for_ms);
void store_power_on(Host *h);
void stores_members_turn(Stores *all);
void stores_observe_roles(Stores *all);
bool stores_may_lose(
        Stores *all,
        const Host *h); /* whether 'h' may lose durable data: a majority of the others has all of it */
void stores_faults_turn(Stores *all);
void stores_faults_end(Stores *all); /* restore links, disks and clocks */
