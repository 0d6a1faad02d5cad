#include "fleetd/membership/liveness.h"

#include <stdio.h>

const char liveness_closed[] = "its fleetd closed its session";
const char liveness_hung[] = "its fleetd does not answer, its kernel does";
const char liveness_stopped[] = "its fleetd was stopped";

enum {
        KERNEL_TICKS = 2, /* the last sign of the kernel may be a second old */
        REPEAT_TICKS = 4, /* after which a change is repeated */
};

/* One host. Counters are of ticks that the leader has kept. */
typedef struct Host {
        Named machine;         /* by id */
        unsigned silent_ticks; /* without a heartbeat */
        unsigned kernel_silent_ticks;
        unsigned away_ticks;
        const char *cause; /* liveness_closed, ...; NULL while the host is not away */
        Presence
                reported; /* the last change returned, on a presence key of modified index 'reported_index' */
        uint64_t reported_index;
        unsigned reported_ticks; /* since that change; 0: none, or long ago */
        bool in_view;            /* in this tick */
} Host;

void liveness_reset(Liveness *l) {
        named_clear(&l->hosts);
}

static unsigned liveness_away_limit(const char *cause) {
        if (cause == liveness_stopped)
                return LIVENESS_STOPPED_TICKS;
        return cause == liveness_hung ? LIVENESS_HUNG_TICKS : LIVENESS_CLOSED_TICKS;
}

static const char *liveness_cause(const char *reason) {
        if (streq(reason, liveness_stopped))
                return liveness_stopped;
        return streq(reason, liveness_hung) ? liveness_hung : liveness_closed;
}

/* The host was away under the previous leader. Its presence key gives the cluster time since then; the host
 * still gets a whole period for its first heartbeat. */
static void liveness_inherit(Host *h, const Cluster *cluster, const ClusterMachine *m) {
        uint64_t away_ms = cluster->now_ms > m->since_ms ? cluster->now_ms - m->since_ms : 0;

        h->cause = liveness_cause(m->presence_reason);
        h->away_ticks = MIN(away_ms / LIVENESS_TICK_MS,
                            liveness_away_limit(h->cause) - (unsigned) LIVENESS_LOST_TICKS);
}

static Host *liveness_host(Liveness *l, const Cluster *cluster, const ClusterMachine *m) {
        Host *h = named_find(l->hosts, m->id);

        if (h)
                return h;

        h = named_get(&l->hosts, m->id, sizeof(Host));
        if (h && m->presence == PRESENCE_AWAY)
                liveness_inherit(h, cluster, m);
        return h;
}

static void liveness_count(Host *h, const LivenessSign *sign, bool late) {
        if (sign->heartbeat)
                h->silent_ticks = 0;
        else if (!late)
                h->silent_ticks++;

        if (sign->heartbeat || sign->kernel)
                h->kernel_silent_ticks = 0;
        else if (!late)
                h->kernel_silent_ticks++;

        if (h->reported_ticks > 0 && h->reported_ticks++ >= REPEAT_TICKS)
                h->reported_ticks = 0;
}

/* Return the presence of the host, with its reason. 'was' is its presence in the cluster view. */
static Presence liveness_judge(Host *h, const LivenessSign *sign, bool late, Presence was,
                               const char **ret_reason) {
        const char *cause = NULL;

        if (sign->shut_down) {
                *ret_reason = "it shut down";
                return PRESENCE_LEFT;
        }
        if (sign->heartbeat) {
                h->cause = NULL;
                h->away_ticks = 0;
                *ret_reason = ""; /* its heartbeats need no reason */
                return PRESENCE_UP;
        }
        if (was == PRESENCE_LOST || was == PRESENCE_LEFT) /* until its next heartbeat */
                return was;

        if (h->silent_ticks >= LIVENESS_LOST_TICKS &&
            h->kernel_silent_ticks + KERNEL_TICKS >= LIVENESS_LOST_TICKS) {
                *ret_reason = "no message from its fleetd or its kernel";
                return PRESENCE_LOST;
        }

        if (sign->stopped)
                cause = liveness_stopped;
        else if (h->cause)
                cause = h->cause;
        else if (!sign->session && sign->kernel)
                cause = liveness_closed;
        else if (sign->session && h->silent_ticks >= LIVENESS_LOST_TICKS)
                cause = liveness_hung;
        if (!cause)
                return was;

        h->cause = cause;
        if (!late && h->away_ticks++ >= liveness_away_limit(cause)) {
                *ret_reason = "it was away for too long";
                return PRESENCE_LOST;
        }
        *ret_reason = cause;
        return PRESENCE_AWAY;
}

/* Return whether the change of the machine's presence is due; then note it in 'h'. */
static bool liveness_is_due(Host *h, const ClusterMachine *m, Presence now) {
        if (now == m->presence && m->presence_index > 0)
                return false;
        /* A host without a presence key gets one with its first heartbeat. */
        if (m->presence_index == 0 && now != PRESENCE_UP)
                return false;
        if (h->reported_ticks > 0 && h->reported == now && h->reported_index == m->presence_index)
                return false;

        h->reported = now;
        h->reported_index = m->presence_index;
        h->reported_ticks = 1;
        return true;
}

static void liveness_remove_unseen(Liveness *l) {
        for (Named *n = l->hosts, *next; n; n = next) {
                Host *h = (Host *) n;

                next = n->hh.next;
                if (h->in_view)
                        h->in_view = false;
                else
                        named_remove(&l->hosts, n->name);
        }
}

static int liveness_compare_machines(const void *a, const void *b) {
        return strcmp(((const PresenceChange *) a)->machine, ((const PresenceChange *) b)->machine);
}

int liveness_tick(Liveness *l, const Cluster *cluster, bool late,
                  LivenessSign (*sign)(void *userdata, const char *machine_id), void *userdata,
                  PresenceChange **ret, size_t *ret_n) {
        _cleanup_free_ PresenceChange *changes = NEW0(PresenceChange, HASH_COUNT(cluster->machines) + 1);
        size_t n = 0;

        if (!changes)
                return -ENOMEM;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                LivenessSign s = sign(userdata, m->id);
                Host *h = liveness_host(l, cluster, m);
                const char *reason = "";
                Presence now;

                if (!h)
                        return -ENOMEM;
                h->in_view = true;
                liveness_count(h, &s, late);
                /* A newer version wrote the key: this daemon does not overwrite it. */
                if (cluster_machine_has_unreadable(m, LAYOUT_PRESENCE))
                        continue;
                /* A host with a certificate returns by a token, which ends its tombstone. A heartbeat of it
                 * may have arrived just before its removal. */
                if (m->removed && m->removed->pin[0])
                        continue;
                now = liveness_judge(h, &s, late, m->presence, &reason);
                if (!liveness_is_due(h, m, now))
                        continue;

                memcpy(changes[n].machine, m->id, sizeof(m->id));
                changes[n].presence = now;
                changes[n].expected_index = m->presence_index;
                snprintf(changes[n++].reason, sizeof(changes->reason), "%s", reason);
        }
        liveness_remove_unseen(l);

        qsort(changes, n, sizeof(*changes), liveness_compare_machines);
        *ret = TAKE_PTR(changes);
        *ret_n = n;
        return 0;
}
