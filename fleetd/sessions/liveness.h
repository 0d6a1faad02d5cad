/* The presence of hosts: signs of each host in, changes of presence out. Runs on the leader.
 *
 * Pure. It counts ticks that the receiver of the signs has kept, and reads no clock. A silent daemon is not a
 * lost host: a host is lost when its kernel is silent, too, and away when only its daemon is silent or
 * stopped. */
#pragma once

#include "fleetd/registry/registry.h"

enum {
        LIVENESS_TICK_MS = 500,
        LIVENESS_LOST_TICKS = 6, /* silent to lost */
        /* Away to lost, by the cause. */
        LIVENESS_CLOSED_TICKS = 60,    /* 30 s */
        LIVENESS_HUNG_TICKS = 120,     /* 60 s */
        LIVENESS_STOPPED_TICKS = 1200, /* 10 min */
        LIVENESS_CUT_TICKS = 20,       /* a replica without contact with the leader, to away: 10 s */
        LIVENESS_CHANGES_MAX = 640,    /* of one transaction, with their checks, of about 390 bytes each */
};

typedef struct LivenessHost LivenessHost;

/* All zero: no host is known. */
typedef struct Liveness {
        LivenessHost *hosts;
        LIST_HEAD(, LivenessHost) due; /* their presence is not the one in the cluster view */
        unsigned begin_ticks;          /* silence of each host before the first sign */
        uint64_t ticks;
} Liveness;

/* The signs of life of one host since the previous tick of their receiver. */
typedef struct LivenessSign {
        bool heartbeat;
        bool indirect; /* ... of a replica that has no contact with the leader: another one has received it */
        bool kernel;   /* its kernel has answered recently: see heartbeats_sign() */
        bool session;  /* its session to the receiver is open */
        bool stopped;  /* its daemon has announced that it stops */
        bool shut_down;  /* ... that the host shuts down */
        bool unattached; /* an attached host without a session to any replica; 'kernel': it closed the last
                            one */
        bool moving;     /* it may still be on its way to another replica: it cannot be lost */
        bool restart;    /* a whole period begins */
        bool other;      /* the receiver is another one than before: at least half a period is left */
        unsigned ticks;  /* its silence is at least that long */
} LivenessSign;

/* Discard all counts; when this host begins to lead, and at the end. 'since_ms': the former leader had
 * contact so long ago, and all hosts with it. At least half a period is left for each host. */
void liveness_reset(Liveness *l, uint64_t since_ms);

/* A tick of the leader. A change is repeated after two seconds if the cluster view does not show it by then.
 */
void liveness_tick(Liveness *l);

/* Take a sign of a host. 'late': silence in this tick counts against no host: the receiver was more than 250
 * ms late, or cut off. 0 or -ENOMEM. */
int liveness_sign(Liveness *l, const Cluster *cluster, const char *machine_id, const LivenessSign *sign,
                  bool late);

/* The machine is not in the cluster view any more. */
void liveness_remove(Liveness *l, const char *machine_id);

/* Return the changes of presence that are due, at most one for each machine and LIVENESS_CHANGES_MAX, sorted
 * by ID; the caller frees *ret, and writes them at once. 0 or -ENOMEM. */
int liveness_changes(Liveness *l, const Cluster *cluster, PresenceChange **ret, size_t *ret_n);
