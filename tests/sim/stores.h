/* Five stores in virtual time, below the daemon: door, proposals, replica, checkpoints and transfers on simulated disks, links
 * and clocks; who belongs to them, and what is done to them. Each seed draws which kinds of fault there are, and how often.
 *
 * Faults can always be recovered from: what was durable stays so, and only who is no voter is ever wiped. */
#pragma once

#include "kvstore/kvstore.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/watchers.h"
#include "tests/sim/world.h"

enum { STORES = 5 };

typedef enum FaultKind {
        FAULT_CRASH, FAULT_POWER, FAULT_POWER_OF_ALL, FAULT_STOP, FAULT_LONG_ABSENCE, FAULT_CUT, FAULT_ISOLATE, FAULT_ONE_WAY, FAULT_BRIDGE,
        FAULT_SPLIT, FAULT_DELAY, FAULT_SLOW_DISK, FAULT_DISK_FULL, FAULT_DISK_ERROR, FAULT_SYNC_ERROR, FAULT_TREE_FULL,
        FAULT_TREE_ERROR, FAULT_PAUSE, FAULT_HAND_OVER, FAULT_MEMBERS,
        FAULT_LEADER_CRASH, _FAULT_DRAWN,
        /* These come of others: */
        FAULT_ADD = _FAULT_DRAWN, FAULT_PROMOTE, FAULT_DEMOTE, FAULT_REMOVE, FAULT_TRANSFER, FAULT_RETURN, _FAULT_MAX,
} FaultKind;

const char *fault_name(FaultKind kind);

typedef struct Stores Stores;

typedef struct Host {
        Stores *all;
        unsigned number;
        char name[16], address[32], door[64], machine_id[33], boot_id[33];
        char *folder, *tree, *floor;
        SimHost *card;
        Disk *disk;
        WorldLoop *loop; /* NULL: no daemon */
        Peers *peers;
        KvStore *store;
        uint64_t raft_id; /* given at joining; 0: not yet */
        unsigned boots, trees;
        uint64_t lives;                  /* each daemon's number */
        uint64_t lost_ms, paused_ms;     /* since when it knows no leader, 0: it does; until when it was paused */
        uint64_t leaving;                /* the daemon that asked for our removal; 0: nobody */
        bool power, dying, wanted, wipe;
        bool stopped;                    /* the replica has failed, and has not come back */
        bool disk_breaks, disk_bad;      /* now; since the replica began, or came back last */
} Host;

struct Stores {
        World *world;
        SimNet *net;
        const char *bug;
        Host hosts[STORES];
        Watchers *watchers;
        void (*gone)(void *userdata, Host *h); /* nobody is answered there any more */
        void *userdata;
        uint64_t *hashes;      /* of the tree at an applied index */
        size_t n_hashes, hashes_capacity;
        uint64_t last_raft_id, lives, n_compared;
        unsigned disk_ms, net_ms;
        bool has[_FAULT_DRAWN];          /* this seed's faults */
        unsigned per_10000;              /* of turns, that have one */
        uint64_t counts[_FAULT_MAX];
        bool quiet, ending;
};

void stores_begin(Stores *all); /* world, bug, gone, watchers are set */
void stores_end(Stores *all);
void stores_turn(Stores *all); /* membership, hashes, now and then a fault */
void stores_heal(Stores *all); /* everything works from now on */
void stores_log(Stores *all, const char *sentence); /* what the daemons' journal says */

bool store_is_up(const Host *h);
Host *stores_leader(Stores *all); /* NULL: none, or not one that is ready */
Host *stores_any(Stores *all);
void stores_check_hash(Stores *all, Host *h);
