/* Which hosts hold a replica, and which of those vote: the members as the leader sees them in, at most one
 * change out.
 *
 * Pure. The caller repeats the plan after each change and from time to time; the next leader continues from
 * the keys and the configuration alone. One host is a voter. Two hosts are a voter and a standby: two voters
 * would stop at the loss of either. From three hosts on, three or five vote, as the settings say; two more
 * hosts may be standbys. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "fleetd/identity/voters_limit.h"
#include "kvstore/kvstore.h"

enum {
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
        VOTERS_RETIRE, /* delete the member key of its machine; the removal follows from that */
        VOTERS_ASSIGN, /* a Raft ID to a host without a replica */
        _VOTERS_ACTION_MAX,
} VotersAction;

const char *voters_action_name(VotersAction action);

typedef struct VotersChange {
        VotersAction action;
        uint64_t raft_id;
        char machine_id[MACHINE_ID_SIZE]; /* VOTERS_RETIRE, VOTERS_ASSIGN */
        char address[ADDRESS_SIZE];       /* VOTERS_ADD: of its peer listener */
        bool force;                       /* fewer than three voters may remain */
        bool spreads;                     /* a better spread is the only purpose: see VotersSpans.spread_ms */
        char reason[VOTERS_REASON_SIZE];
} VotersChange;

/* Spans of cluster time in ms. */
typedef struct VotersSpans {
        uint64_t up_ms;     /* a candidate has been up, if it replaces, or is the fourth or fifth voter */
        uint64_t silent_ms; /* a voter to be replaced has been silent */
        uint64_t led_ms;    /* the leader has led, before it replaces a voter */
        uint64_t spread_ms; /* between two changes for a better spread */
        uint64_t many_ms;   /* VOTERS_MANY hosts have been up: five voters */
        uint64_t few_ms;    /* fewer than VOTERS_FEW hosts were up: three voters again */
} VotersSpans;

extern const VotersSpans voters_spans; /* 5 min, 10 min, 5 min, 10 min, 10 min, 1 h */

enum { VOTERS_MANY = 50, VOTERS_FEW = 25 }; /* hosts */

typedef struct VotersInput {
        const KvMember *members; /* the configuration as the leader sees it */
        size_t n_members;
        uint64_t leader_id, last; /* 'last': the last committed index */
        const Cluster *cluster;
        unsigned voters;    /* 1, 3, 5; 0: automatic */
        const char *spread; /* key of metadata; "" or NULL for none */
        bool attaches;      /* hosts may be without a replica: the leader chooses those that have one */
        uint64_t level;     /* the feature level that a replica has to support */
        /* Whether a replica reports a session of the host; NULL: of each one that is up. After a restore,
         * hosts of the backup are up until they are lost. */
        bool (*is_attached)(void *userdata, const char *machine_id);
        void *userdata;
        uint64_t led_ms;    /* since this host leads */
        uint64_t spread_ms; /* since the last change for a better spread; at most 'led_ms' */
        bool paused; /* mass-failure brake or adoption: no replacement, no change for a better spread */
        const VotersSpans *spans;
} VotersInput;

/* Return the change that is due. The hosts that may hold a replica are the machines of the cluster view with
 * a member key (a Raft ID), the leader's own machine included. A host that shuts down keeps its key and
 * remains a member; a host that was replaced or removed loses the key.
 *
 * The first that applies:
 *   - A standby without a key is removed. A voter without a key is removed while more vote than wanted. The
 * member of a removed machine counts as one without a key, and so does that of a machine that is lost or has
 * left, while another machine is up at its address. A removed machine that returns becomes a standby under
 * its Raft ID again.
 *   - A host with a key that is no member becomes a standby, while there are fewer than two. If it returns
 * without its state, its former member gives up the address first.
 *   - Standbys that have caught up become voters: as many as are wanted; in place of a voter without a key;
 * in place of one that is lost, away or shut down for 'silent_ms', if the leader has led for 'led_ms', all
 * other voters are reachable, all hosts run one version, and nothing is paused; or for a better spread. The
 * replacement is added before the other is removed. Among several: a new value of the spread key, longest up,
 * smallest ID. Not: a machine with metadata voter=no, or with a problem of its replica.
 *   - A machine that leaves the cluster, and is drained, does not count as a host: another one takes its vote
 * first, then it becomes a standby. The leader's own vote ends after a transfer (leaving.h).
 *   - If more vote than wanted: the silent one loses its key; otherwise one becomes a standby, an unreachable
 * one first, then one whose value of the spread key has most voters.
 *   - With 'attaches', there are as many replicas as wanted voters and two standbys, if there are hosts
 * enough. If one is missing, a host without one gets a Raft ID: it is up, has proved its identity if the
 * cluster has certificates, is in no maintenance, and supports 'level'. Among several: a new value of the
 * spread key, not voter=no, longest up, smallest ID. A standby loses its key if there are more than two, and,
 * while such a host waits, if it has been silent for 'silent_ms', or shares its value of the spread key
 * which that host would add; so does a key that has no member, if its host has been silent for so long.
 * The leader remains a member, and no change leaves the reachable voters without a majority. */
void voters_plan(const VotersInput *input, VotersChange *ret);

/* Return the value of the spread key whose hosts, lost together, leave the voters without a majority, and
 * NULL if there is none or no key is set; "" stands for hosts without the key. Borrows from the cluster view.
 */
const char *voters_critical_value(const KvMember *members, size_t n_members, const Cluster *cluster,
                                  const char *spread);
