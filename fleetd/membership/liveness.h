/* Which hosts are alive: heartbeats and sessions in, changes of presence out. Runs on the leader.
 *
 * Pure. It counts ticks that the leader has kept, and reads no clock. A silent daemon is not a lost host: a
 * host is lost when its kernel is silent, too, and away when only its daemon is silent or stopped. */
#pragma once

#include "fleetd/registry/registry.h"
#include "units/named.h"

enum {
        LIVENESS_TICK_MS = 500,
        LIVENESS_LOST_TICKS = 6, /* silent to lost */
        /* Away to lost, by the cause. */
        LIVENESS_CLOSED_TICKS = 60,    /* 30 s */
        LIVENESS_HUNG_TICKS = 120,     /* 60 s */
        LIVENESS_STOPPED_TICKS = 1200, /* 10 min */
};

/* All zero: no host is known. */
typedef struct Liveness {
        Named *hosts;
} Liveness;

/* The signs of life of one host since the previous tick. */
typedef struct LivenessSign {
        bool heartbeat;
        bool kernel;    /* its kernel has answered recently: see heartbeats_sign() */
        bool session;   /* its session to this host is open */
        bool stopped;   /* its daemon has announced that it stops */
        bool shut_down; /* ... that the host shuts down */
} LivenessSign;

/* Reasons in the presence key, by which a new leader recognizes why a host is away. */
extern const char liveness_closed[], liveness_hung[], liveness_stopped[];

/* Discard all counts; when this host begins to lead, and at the end. Heartbeats went to the previous leader,
 * so that their absence before means nothing, and each host gets a whole period. */
void liveness_reset(Liveness *l);

/* Process one tick. 'late': the tick was more than 250 ms late, or this host had no majority; silence before
 * such a tick counts against no host. 'sign' is called for each machine of the cluster view.
 *
 * Returns at most one change per machine, sorted by ID; the caller frees *ret. A change is repeated after two
 * seconds if the cluster view does not show it by then. 0 or -ENOMEM. */
int liveness_tick(Liveness *l, const Cluster *cluster, bool late,
                  LivenessSign (*sign)(void *userdata, const char *machine_id), void *userdata,
                  PresenceChange **ret, size_t *ret_n);
