/* Who is alive. On the leader: beats and sessions in, transitions out (rules 18 to 21 of ARCHITECTURE section
 * 13). Pure core: it counts ticks that the listener itself kept, reads no clock. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "base/sizes.h"

enum { LIVENESS_TICK_MS = 500, LIVENESS_LOST_TICKS = 6 };

typedef struct Liveness Liveness;

/* What the edge saw of one host since the tick before. */
typedef struct LivenessSign {
        bool beat;       /* a beat arrived */
        bool kernel;     /* its kernel was heard lately: see membership_sign() */
        bool session;    /* its session to us is open */
        const char *bye; /* "stop", "shutdown" or NULL */
} LivenessSign;

typedef struct LivenessChange {
        char machine[MACHINE_ID_SIZE];
        Presence presence;
        char reason[128];
} LivenessChange;

typedef struct LivenessLimits {
        unsigned lost_ticks;    /* 6 */
        unsigned closed_ticks;  /* away to lost: 60 (30 s) */
        unsigned hung_ticks;    /* 120 (60 s) */
        unsigned stopped_ticks; /* 1200 (10 min) */
} LivenessLimits;

/* The sentences that go into the presence key; by them a new leader knows why a host is away. */
extern const char liveness_closed[], liveness_hung[], liveness_stopped[];

int liveness_new(Liveness **ret,
                 const LivenessLimits *limits); /* members that are 0 get the defaults above */
Liveness *liveness_free(Liveness *l);

/* This host begins to lead: forget all counts. A new leader counts a whole period itself, because heartbeats
 * went to the last one: the absence of a heartbeat before says nothing about a host. */
void liveness_reset(Liveness *l);

/* One tick. 'late': this tick came more than 250 ms late, or we were without majority: silence in that span
 * does not count against anybody. 'sign' is asked for each machine of the picture. At most one change a
 * machine, sorted by id; the caller frees *ret. What was told is not told again for two seconds, while it is
 * on its way into the picture. 0 or -ENOMEM. */
int liveness_tick(Liveness *l, const Cluster *cluster, bool late,
                  LivenessSign (*sign)(void *userdata, const char *machine_id), void *userdata,
                  LivenessChange **ret, size_t *ret_n);
