/* Who holds a replica, and who of those votes. Pure: what the leader sees of its members in, at most one
 * change out; the edge asks again after each change and now and then. Rules 21 and 22 of ARCHITECTURE
 * section 13.
 *
 * One host: a voter. Two: a voter and a standby (two voters would stop at the loss of either). From three on:
 * three voters, once two standbys hold what the leader holds; all others hold no replica. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "base/sizes.h"
#include "kvstore/kvstore.h"

enum {
        VOTERS_WANTED = 3,
        VOTERS_STANDBYS_MAX = 2,
        VOTERS_BEHIND_MAX = 64, /* entries that a standby may lack and still count as caught up */
};

typedef enum VotersAction {
        VOTERS_NOTHING,
        VOTERS_ADD,     /* as standby */
        VOTERS_PROMOTE, /* standby to voter */
        VOTERS_DEMOTE,
        VOTERS_REMOVE,
        VOTERS_VACATE, /* it keeps its seat, and gives up its address */
        _VOTERS_ACTION_MAX,
} VotersAction;

const char *voters_action_name(VotersAction action);

typedef struct VotersChange {
        VotersAction action;
        uint64_t raft_id;
        char address[ADDRESS_SIZE]; /* VOTERS_ADD: where it is dialed */
        char reason[160];
} VotersChange;

/* 'members': the configuration as the leader 'leader_id' sees it, with the log's 'last' committed index. The
 * hosts that asked for a replica are those machines of 'cluster' with a Raft id (their member key); the
 * leader's own machine needs that key, too. A host that shuts down keeps its key and its seat; one that
 * leaves loses the key.
 *
 * In this order: a seat without a key goes (of voters only while more than three vote); a host with a key and
 * no seat gets one, while there are fewer than two standbys (a host that lost its state comes back at the
 * address of its old seat, which has to give that up first; the seat of a machine that is gone while another
 * one is up at its address counts as one without a key); standbys that are caught up become voters, when that
 * makes three of one, or when a voter without a key is to be replaced (add, then remove). The leader keeps
 * its seat, and no change is made after which those that can be reached would be no majority. */
void voters_plan(const KvMember *members, size_t n_members, uint64_t leader_id, uint64_t last,
                 const Cluster *cluster, VotersChange *ret);

/* How many hosts beside that machine, which is to be at 'address', hold a replica or are to. Machines of one
 * address are one host, made anew: what was there before is gone. */
size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address);
