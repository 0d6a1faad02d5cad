/* Which hosts hold a replica, and which of those vote: the members as the leader sees them in, at most one
 * change out.
 *
 * Pure. The caller repeats the plan after each change and from time to time. One host is a voter. Two hosts
 * are a voter and a standby: two voters would stop at the loss of either. From three hosts on, three vote, as
 * soon as two standbys have caught up; two more hosts may be standbys, and all others hold no replica. */
#pragma once

#include "base/sizes.h"
#include "fleetd/registry/cluster.h"
#include "kvstore/kvstore.h"

enum {
        VOTERS_WANTED = 3,
        VOTERS_STANDBYS_MAX = 2,
        VOTERS_REASON_SIZE = 160,
        VOTERS_BEHIND_MAX = 64, /* entries that a standby may lack and still count as caught up */
};

typedef enum VotersAction {
        VOTERS_NOTHING,
        VOTERS_ADD,     /* as standby */
        VOTERS_PROMOTE, /* standby to voter */
        VOTERS_DEMOTE,
        VOTERS_REMOVE,
        VOTERS_VACATE, /* it remains a member, and gives up its address */
        _VOTERS_ACTION_MAX,
} VotersAction;

const char *voters_action_name(VotersAction action);

typedef struct VotersChange {
        VotersAction action;
        uint64_t raft_id;
        char address[ADDRESS_SIZE]; /* VOTERS_ADD: of its peer listener */
        char reason[VOTERS_REASON_SIZE];
} VotersChange;

/* Return the change that is due. 'members': the configuration as the leader 'leader_id' sees it; 'last': the
 * last committed index. The hosts that may hold a replica are the machines of 'cluster' with a member key (a
 * Raft ID), the leader's own machine included. A host that shuts down keeps its key and remains a member; one
 * that leaves loses the key.
 *
 * The first that applies:
 *   - A member without a key is removed; a voter only while more than three vote. The member of a removed
 * machine counts as one without a key, and so does that of a machine that is lost or has left, while another
 * machine is up at its address. A removed machine that returns becomes a standby under its Raft ID again.
 *   - A host with a key that is no member becomes a standby, while there are fewer than two. If it returns
 * without its state, its former member gives up the address first.
 *   - Standbys that have caught up become voters, if that makes three of one, or to replace a voter without a
 * key: the replacement is added before the other is removed.
 *   - One of two voters becomes a standby.
 * The leader remains a member, and no change leaves the reachable voters without a majority. */
void voters_plan(const KvMember *members, size_t n_members, uint64_t leader_id, uint64_t last,
                 const Cluster *cluster, VotersChange *ret);

/* Return how many hosts other than that machine, at that address, hold a replica or may hold one. Machines of
 * one address are one host that was installed again. */
size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address);
