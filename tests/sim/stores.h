/* Some stores in virtual time, below the daemon: door, proposals, replica, checkpoints and transfers on
 * simulated disks, links and clocks; who belongs to them (store_members.c), and what is done to them
 * (store_faults.c). Each seed draws how many there are, which kinds of fault there are, and how often.
 *
 * Faults can always be recovered from: at most one voter at a time loses what was durable, and none other
 * does until another one has its seat; else only who is no voter is ever wiped. */
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
        /* These come of others: */
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
        char name[16], address[32], door[64], machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char *folder, *tree, *floor;
        SimHost *card;
        MemoryDisk *disk;
        WorldLoop *loop; /* NULL: no daemon */
        Peers *peers;
        KvStore *store;
        uint64_t raft_id; /* given at joining; 0: not yet */
        unsigned boots, trees;
        uint64_t lives;              /* each daemon's number */
        uint64_t lost_ms, paused_ms; /* since when it knows no leader, 0: it does; until when it was paused */
        uint64_t leaving;            /* the daemon that asked for our removal; 0: nobody */
        uint64_t term;               /* the latest it knew */
        int drift_ppm;
        int64_t wall_offset_ms;
        bool power, dying, wanted, wipe, replica_is_odd;
        bool stopped;               /* the replica has failed, and has not come back */
        bool disk_breaks, disk_bad; /* now; since the replica began, or came back last */
        bool damaged;               /* its log is not what it wrote: may be refused */
        uint64_t rotten_checkpoint,
                rotten_tree;   /* the file that is not what was written, as its inode; 0: none */
        uint64_t rotten_entry; /* what the tree had applied then */
        const void *rotten;    /* the open tree whose file that is, in which daemon */
        uint64_t rotten_life;
        bool doubts; /* it says that trees differ without a majority */
        bool old;    /* its program knows the first feature level only */
} Host;

struct Stores {
        World *world;
        SimNet *net;
        bool unsynced; /* disks acknowledge a sync and do none */
        unsigned n;    /* hosts; 0 at the beginning: drawn */
        Host hosts[STORES_MAX];
        Watchers *watchers;
        void (*gone)(void *userdata, Host *h); /* nobody is answered there any more */
        void *userdata;
        void (*on_message)(void *userdata,
                           const char *sentence); /* what the daemons' journal says; NULL: nobody reads it */
        void *message_userdata;
        uint64_t *hashes; /* of the tree at an applied index */
        size_t n_hashes, hashes_capacity;
        uint64_t *leaders; /* by term: who led it, as life's number */
        size_t n_leaders, leaders_capacity;
        uint64_t last_raft_id, lives, n_compared, n_elections;
        uint64_t seats,
                seats_since_ms;  /* who sits where, by all who are up, as a sum; since when it is the same */
        uint64_t lost_voter;     /* the seat whose log is gone or doubtful; 0: none */
        uint64_t slow_until_ms;  /* disks take long: so may answers */
        uint64_t doubt_until_ms; /* trees may differ without a majority: one rotted */
        unsigned upgrading;      /* the host that is next, behind the last: nobody */
        unsigned disk_ms, net_ms;
        bool has[_FAULT_DRAWN], off[_FAULT_MAX]; /* this seed's faults; those that the caller forbids */
        unsigned per_10000;                      /* of turns, that have one */
        uint64_t counts[_FAULT_MAX];
        bool calm, quiet, ending; /* few faults, that last; none; no more hosts */
};

void stores_begin(Stores *all); /* world, unsynced, gone, watchers are set, perhaps n and off */
void stores_end(Stores *all);
void stores_turn(Stores *all);                      /* membership, hashes, now and then a fault */
void stores_heal(Stores *all);                      /* everything works from now on */
void stores_log(Stores *all, const char *sentence); /* what the daemons' journal says */

bool store_is_up(const Host *h);
Host *stores_leader(Stores *all); /* NULL: none, or not one that is ready */
Host *stores_any(Stores *all);
void stores_check_hash(Stores *all, Host *h);
/* One host's tree becomes another one, which nobody is told; only when nothing else is wrong. False:
 * something is. */
bool stores_flip(Stores *all);
bool store_flip(Host *h); /* whatever else is wrong; false: it is down */
bool store_is_flipped(const Host *h);

/* -- Rot: store_rot.c -- */

/* Some bytes of the last checkpoint, or of a value in the live tree, are others now; one host at a time.
 * False: there is none, or something else is wrong. */
bool store_rot_checkpoint(Host *h);
bool store_rot_tree(Host *h);
void store_flip_checkpoint(Host *h, unsigned n); /* so many of its bytes, whatever else is wrong */
/* What became of it. */
void store_see_rot(Host *h);
/* Until the comparison of trees, or a copy of its own, finds it, a rotten tree is shown, and its values are
 * not what was written: by the host itself, and where one leads, in what others are told of their writes. */
bool store_may_show_rot(const Host *h, bool written);

/* -- For the files of this folder -- */

void store_start(Host *h);
void store_stop(Host *h);
bool store_crash(Host *h);
bool store_power_cut(Host *h, uint64_t for_ms);
void store_power_on(Host *h);
void stores_members_turn(Stores *all);
void stores_see_seats(Stores *all);
bool stores_may_lose(Stores *all, const Host *h); /* what is durable at 'h': the others have all of it */
void stores_faults_turn(Stores *all);
void stores_faults_end(Stores *all); /* links, disks and clocks are well */
