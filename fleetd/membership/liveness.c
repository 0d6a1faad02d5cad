#include "fleetd/membership/liveness.h"

#include <stdio.h>

#include "base/table.h"
#include "base/sizes.h"

const char liveness_closed[] = "its fleetd closed its session";
const char liveness_hung[] = "its fleetd does not answer, its kernel does";
const char liveness_stopped[] = "its fleetd was stopped";

enum {
        CLOSED_TICKS = 60,
        HUNG_TICKS = 120,
        STOPPED_TICKS = 1200,
        KERNEL_TICKS = 2, /* a sign of the kernel is up to a second old when it stops coming */
        ASK_AGAIN_TICKS = 4,
};

/* One host. Counters are of ticks that we kept. */
typedef struct Host {
        char id[MACHINE_ID_SIZE];
        unsigned silent;   /* without a beat */
        unsigned quiet;    /* without a sign of its kernel */
        unsigned away;     /* since it was told to be away */
        const char *cause; /* liveness_closed, ...; NULL while it is not away */
        Presence told;     /* last, when its presence key had 'told_index' */
        uint64_t told_index;
        unsigned told_ago; /* 0: nothing told, or long ago */
        bool seen;         /* in this tick: still in the picture */
        UT_hash_handle hh;
} Host;

struct Liveness {
        LivenessLimits limits;
        Host *hosts;
};

int liveness_new(Liveness **ret, const LivenessLimits *limits) {
        Liveness *l = NEW0(Liveness, 1);

        if (!l)
                return -ENOMEM;
        if (limits)
                l->limits = *limits;
        if (l->limits.lost_ticks == 0)
                l->limits.lost_ticks = LIVENESS_LOST_TICKS;
        if (l->limits.closed_ticks == 0)
                l->limits.closed_ticks = CLOSED_TICKS;
        if (l->limits.hung_ticks == 0)
                l->limits.hung_ticks = HUNG_TICKS;
        if (l->limits.stopped_ticks == 0)
                l->limits.stopped_ticks = STOPPED_TICKS;
        *ret = l;
        return 0;
}

static void forget(Liveness *l) {
        Host *h, *next;

        HASH_ITER(hh, l->hosts, h, next) {
                HASH_DEL(l->hosts, h);
                free(h);
        }
}

Liveness *liveness_free(Liveness *l) {
        if (!l)
                return NULL;
        forget(l);
        free(l);
        return NULL;
}

void liveness_reset(Liveness *l) {
        forget(l);
}

static unsigned away_limit(const Liveness *l, const char *cause) {
        if (cause == liveness_stopped)
                return l->limits.stopped_ticks;
        return cause == liveness_hung ? l->limits.hung_ticks : l->limits.closed_ticks;
}

/* Away hosts that we inherit: since when, the key says, in cluster time; but each has a whole period to be
 * heard of. */
static void inherit(const Liveness *l, Host *h, const Cluster *cluster, const ClusterMachine *m) {
        uint64_t ms = cluster->now_ms > m->since_ms ? cluster->now_ms - m->since_ms : 0;
        unsigned limit;

        h->cause = streq(m->presence_reason, liveness_stopped) ? liveness_stopped :
                   streq(m->presence_reason, liveness_hung)    ? liveness_hung :
                                                                 liveness_closed;
        limit = away_limit(l, h->cause);
        h->away = MIN(ms / LIVENESS_TICK_MS, limit > l->limits.lost_ticks ? limit - l->limits.lost_ticks : 0);
}

static Host *get_host(Liveness *l, const Cluster *cluster, const ClusterMachine *m) {
        Host *h;

        HASH_FIND_STR(l->hosts, m->id, h);
        if (h)
                return h;

        h = NEW0(Host, 1);
        if (!h)
                return NULL;
        memcpy(h->id, m->id, sizeof(h->id));
        if (m->presence == PRESENCE_AWAY)
                inherit(l, h, cluster, m);
        HASH_ADD_STR(l->hosts, id, h);
        if (!TABLE_ADDED(h)) {
                free(h);
                return NULL;
        }
        return h;
}

static void count(Host *h, const LivenessSign *sign, bool late) {
        if (sign->beat)
                h->silent = 0;
        else if (!late)
                h->silent++;

        if (sign->beat || sign->kernel)
                h->quiet = 0;
        else if (!late)
                h->quiet++;

        if (h->told_ago > 0 && h->told_ago++ >= ASK_AGAIN_TICKS)
                h->told_ago = 0;
}

/* What the host is now, and why; 'was' is what the picture says. */
static Presence judge(const Liveness *l, Host *h, const LivenessSign *sign, bool late, Presence was,
                      const char **ret_reason) {
        const char *cause = NULL;

        if (sign->bye && streq(sign->bye, "shutdown")) {
                *ret_reason = "it shut down";
                return PRESENCE_LEFT;
        }
        if (sign->beat) {
                h->cause = NULL;
                h->away = 0;
                *ret_reason = "it is heard";
                return PRESENCE_UP;
        }
        if (was == PRESENCE_LOST || was == PRESENCE_LEFT) /* only a beat brings it back */
                return was;

        if (h->silent >= l->limits.lost_ticks && h->quiet + KERNEL_TICKS >= l->limits.lost_ticks) {
                *ret_reason = "it is silent, and so is its kernel";
                return PRESENCE_LOST;
        }

        if (sign->bye && streq(sign->bye, "stop"))
                cause = liveness_stopped;
        else if (h->cause)
                cause = h->cause;
        else if (!sign->session && sign->kernel)
                cause = liveness_closed;
        else if (sign->session && h->silent >= l->limits.lost_ticks)
                cause = liveness_hung;
        if (!cause)
                return was;

        h->cause = cause;
        if (!late && h->away++ >= away_limit(l, cause)) {
                *ret_reason = "it was away for too long";
                return PRESENCE_LOST;
        }
        *ret_reason = cause;
        return PRESENCE_AWAY;
}

static int by_machine(const void *a, const void *b) {
        return strcmp(((const LivenessChange *) a)->machine, ((const LivenessChange *) b)->machine);
}

int liveness_tick(Liveness *l, const Cluster *cluster, bool late,
                  LivenessSign (*sign)(void *userdata, const char *machine_id), void *userdata,
                  LivenessChange **ret, size_t *ret_n) {
        _cleanup_free_ LivenessChange *changes = NEW0(LivenessChange, HASH_COUNT(cluster->machines) + 1);
        Host *h, *next;
        size_t n = 0;

        if (!changes)
                return -ENOMEM;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                LivenessSign s = sign(userdata, m->id);
                const char *reason = "";
                Presence now;

                h = get_host(l, cluster, m);
                if (!h)
                        return -ENOMEM;
                h->seen = true;
                count(h, &s, late);
                if (cluster_machine_lacks(m,
                                          LAYOUT_PRESENCE)) /* whoever wrote it knows more than this daemon */
                        continue;
                now = judge(l, h, &s, late, m->presence, &reason);
                if (now == m->presence && m->presence_index > 0)
                        continue;
                if (m->presence_index == 0 && now != PRESENCE_UP) /* never heard of: nothing to say yet */
                        continue;
                if (h->told_ago > 0 && h->told == now && h->told_index == m->presence_index)
                        continue;

                h->told = now;
                h->told_index = m->presence_index;
                h->told_ago = 1;
                memcpy(changes[n].machine, m->id, sizeof(m->id));
                changes[n].presence = now;
                snprintf(changes[n++].reason, sizeof(changes->reason), "%s", reason);
        }

        HASH_ITER(hh, l->hosts, h, next) {
                if (!h->seen) {
                        HASH_DEL(l->hosts, h);
                        free(h);
                } else
                        h->seen = false;
        }

        qsort(changes, n, sizeof(*changes), by_machine);
        *ret = TAKE_PTR(changes);
        *ret_n = n;
        return 0;
}
