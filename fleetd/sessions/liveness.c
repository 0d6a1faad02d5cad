#include "fleetd/sessions/liveness.h"

enum {
        KERNEL_TICKS = 2, /* the last sign of the kernel may be a second old */
        REPEAT_TICKS = 4, /* after which a change is repeated */
};

/* One host. Counters are of ticks that the receiver of its signs has kept. What a sign reads is together. */
struct LivenessHost {
        UT_hash_handle hh;
        char machine[MACHINE_ID_SIZE];
        bool is_due;
        bool awaited;          /* it has not reported its units since a recovery or restore */
        unsigned silent_ticks; /* without a heartbeat */
        unsigned kernel_silent_ticks;
        unsigned indirect_ticks; /* with a heartbeat that did not reach the leader */
        unsigned away_ticks;
        VerdictCode cause; /* VERDICT_AWAY_CLOSED, ..._HUNG or ..._STOPPED; 0 while the host is not away */
        Presence now;      /* by its signs, as the next */
        VerdictCode why;
        Presence
                reported; /* the last change returned, on a presence key of modified index 'reported_index' */
        uint64_t reported_index, reported_tick; /* tick 0: none */
        LIST_ENTRY(LivenessHost) of_due;
};

static void liveness_set_due(Liveness *l, LivenessHost *h, bool due) {
        if (due && !h->is_due)
                LIST_INSERT_HEAD(&l->due, h, of_due);
        else if (!due && h->is_due)
                LIST_REMOVE(h, of_due);
        h->is_due = due;
}

static void liveness_drop(Liveness *l, LivenessHost *h) {
        liveness_set_due(l, h, false);
        HASH_DEL(l->hosts, h);
        free(h);
}

void liveness_reset(Liveness *l, uint64_t since_ms) {
        for (LivenessHost *h = l->hosts, *next; h; h = next) {
                next = h->hh.next;
                liveness_drop(l, h);
        }
        *l = (Liveness) { .begin_ticks = (unsigned) MIN(since_ms / LIVENESS_TICK_MS,
                                                        (uint64_t) LIVENESS_LOST_TICKS / 2) };
}

void liveness_tick(Liveness *l) {
        l->ticks++;
}

void liveness_remove(Liveness *l, const char *machine_id) {
        LivenessHost *h = TABLE_FIND(l->hosts, machine_id);

        if (h)
                liveness_drop(l, h);
}

/* A host that is away too long is lost, and keeps the cause. */
static const struct {
        VerdictCode cause, end;
        unsigned ticks;
} liveness_causes[] = {
        { VERDICT_AWAY_CLOSED, VERDICT_LOST_CLOSED, LIVENESS_CLOSED_TICKS }, /* of any other cause, too */
        { VERDICT_AWAY_HUNG, VERDICT_LOST_HUNG, LIVENESS_HUNG_TICKS },
        { VERDICT_AWAY_STOPPED, VERDICT_LOST_STOPPED, LIVENESS_STOPPED_TICKS },
};

static size_t liveness_row_of(VerdictCode cause) {
        size_t i = ELEMENTS(liveness_causes) - 1;

        while (i > 0 && liveness_causes[i].cause != cause)
                i--;
        return i;
}

/* The host was away under the previous leader. Its presence key gives the cluster time since then; the host
 * still gets a whole period for its first heartbeat. */
static void liveness_inherit(LivenessHost *h, const Cluster *cluster, const ClusterMachine *m) {
        uint64_t away_ms = cluster->now_ms > m->since_ms ? cluster->now_ms - m->since_ms : 0;
        size_t row = liveness_row_of(m->verdict.code);

        h->cause = liveness_causes[row].cause;
        h->away_ticks = MIN(away_ms / LIVENESS_TICK_MS,
                            liveness_causes[row].ticks - (unsigned) LIVENESS_LOST_TICKS);
}

static LivenessHost *liveness_host(Liveness *l, const Cluster *cluster, const char *machine_id,
                                   const ClusterMachine *m) {
        LivenessHost *h = TABLE_FIND(l->hosts, machine_id);

        if (h)
                return h;
        h = NEW0(LivenessHost, 1);
        if (!h)
                return NULL;
        snprintf(h->machine, sizeof(h->machine), "%s", machine_id);
        h->silent_ticks = l->begin_ticks;
        HASH_ADD_STR(l->hosts, machine, h);
        if (!TABLE_ADDED_OR_FREED(h))
                return NULL;
        if (m && m->presence == PRESENCE_AWAY)
                liveness_inherit(h, cluster, m);
        return h;
}

/* An unattached host whose daemon has ended its last session, also under the former leader, may run. */
static bool liveness_has_kernel(const LivenessHost *h, const LivenessSign *sign) {
        return sign->kernel || (sign->unattached && h->cause && h->cause != VERDICT_AWAY_HUNG);
}

static void liveness_count(LivenessHost *h, const LivenessSign *sign, bool late) {
        if (sign->restart)
                h->silent_ticks = h->kernel_silent_ticks = 0;
        if (sign->other)
                h->silent_ticks = MIN(h->silent_ticks, (unsigned) LIVENESS_LOST_TICKS / 2);
        if (sign->heartbeat)
                h->silent_ticks = 0;
        else if (!late)
                h->silent_ticks = MAX(h->silent_ticks + 1, sign->ticks);

        if (sign->heartbeat || liveness_has_kernel(h, sign))
                h->kernel_silent_ticks = 0;
        else if (!late)
                h->kernel_silent_ticks = MAX(h->kernel_silent_ticks + 1,
                                             sign->ticks > KERNEL_TICKS ? sign->ticks - KERNEL_TICKS : 0);
}

/* The presence of a host that has sent a heartbeat. A replica without contact with the leader follows no log:
 * its units run, for however long, and it can get no others. */
static Presence liveness_judge_heartbeat(LivenessHost *h, const LivenessSign *sign, Presence was) {
        h->cause = VERDICT_NONE;
        h->away_ticks = 0;
        h->indirect_ticks = sign->indirect ? h->indirect_ticks + 1 : 0;
        if (sign->indirect && (was != PRESENCE_UP || h->indirect_ticks >= LIVENESS_CUT_TICKS)) {
                h->why = VERDICT_AWAY_CUT;
                return PRESENCE_AWAY;
        }
        return PRESENCE_UP; /* its heartbeats need no reason */
}

/* Return the presence of the host, and set why. 'was' is its presence in the cluster view. */
static Presence liveness_judge(LivenessHost *h, const LivenessSign *sign, bool late, Presence was) {
        VerdictCode cause = VERDICT_NONE;
        size_t row;

        h->why = VERDICT_NONE;
        if (sign->shut_down) {
                h->why = VERDICT_LEFT;
                return PRESENCE_LEFT;
        }
        if (sign->heartbeat)
                return liveness_judge_heartbeat(h, sign, was);
        if (presence_is_down(was)) /* until its next heartbeat */
                return was;

        if (!sign->moving && h->silent_ticks >= LIVENESS_LOST_TICKS &&
            h->kernel_silent_ticks + KERNEL_TICKS >= LIVENESS_LOST_TICKS) {
                h->why = h->awaited ? VERDICT_LOST_UNREPORTED : VERDICT_LOST_SILENT;
                return PRESENCE_LOST;
        }

        if (sign->stopped)
                cause = VERDICT_AWAY_STOPPED;
        else if (h->cause)
                cause = h->cause;
        else if (!sign->session && sign->kernel)
                cause = VERDICT_AWAY_CLOSED;
        else if (sign->session && sign->kernel && h->silent_ticks >= LIVENESS_LOST_TICKS)
                /* Without an answer after the heartbeats ended, the host is about to be lost. */
                cause = VERDICT_AWAY_HUNG;
        if (!cause)
                return was;

        h->cause = cause;
        row = liveness_row_of(cause);
        if (!late && h->away_ticks++ >= liveness_causes[row].ticks) {
                h->why = liveness_causes[row].end;
                return PRESENCE_LOST;
        }
        h->why = cause;
        return PRESENCE_AWAY;
}

int liveness_sign(Liveness *l, const Cluster *cluster, const char *machine_id, const LivenessSign *sign,
                  bool late) {
        const ClusterMachine *m = cluster_machine(cluster, machine_id);
        LivenessHost *h;
        bool awaited;

        if (!m && !sign->heartbeat) {
                liveness_remove(l, machine_id);
                return 0;
        }
        h = liveness_host(l, cluster, machine_id, m);
        if (!h)
                return -ENOMEM;
        awaited = m && cluster_awaits_report(cluster, m);
        if (h->awaited && !awaited) /* by its report, a sign of life */
                h->silent_ticks = h->kernel_silent_ticks = 0;
        h->awaited = awaited;
        liveness_count(h, sign, late);
        h->now = liveness_judge(h, sign, late, m ? m->presence : PRESENCE_UP);
        liveness_set_due(l, h, !m || h->now != m->presence || m->presence_index == 0);
        return 0;
}

/* Return whether the change of the machine's presence is due; then note it in 'h'. */
static bool liveness_is_due(const Liveness *l, LivenessHost *h, const ClusterMachine *m) {
        /* A newer version wrote the key: this daemon does not overwrite it. */
        if (cluster_machine_has_unreadable(m, LAYOUT_PRESENCE))
                return false;
        /* A host with a certificate returns by a token, which ends its tombstone. A heartbeat of it may have
         * arrived just before its removal. */
        if (m->removed && m->removed->pin[0])
                return false;
        /* A host without a presence key gets one with its first heartbeat. */
        if (m->presence_index == 0 && h->now != PRESENCE_UP)
                return false;
        if (h->reported_tick > 0 && l->ticks - h->reported_tick < REPEAT_TICKS && h->reported == h->now &&
            h->reported_index == m->presence_index)
                return false;

        h->reported = h->now;
        h->reported_index = m->presence_index;
        h->reported_tick = l->ticks;
        return true;
}

/* Return when the absence of a machine began that becomes lost; 0: with its loss. One that reached another
 * replica was not absent. */
static uint64_t liveness_away_since(const LivenessHost *h, const ClusterMachine *m) {
        bool was_away = m->presence == PRESENCE_AWAY && m->verdict.code != VERDICT_AWAY_CUT;

        return h->now == PRESENCE_LOST && was_away ? m->since_ms : 0;
}

static int liveness_compare_machines(const void *a, const void *b) {
        return strcmp(((const PresenceChange *) a)->machine, ((const PresenceChange *) b)->machine);
}

int liveness_changes(Liveness *l, const Cluster *cluster, PresenceChange **ret, size_t *ret_n) {
        _cleanup_free_ PresenceChange *changes = NULL;
        size_t n = 0, max = 0;
        LivenessHost *h;

        LIST_FOREACH(h, &l->due, of_due)
                max++;
        max = MIN(max, (size_t) LIVENESS_CHANGES_MAX);
        changes = NEW0(PresenceChange, max + 1);
        if (!changes)
                return -ENOMEM;
        for (LivenessHost *next = LIST_FIRST(&l->due); (h = next) && n < max;) {
                const ClusterMachine *m = cluster_machine(cluster, h->machine);

                next = LIST_NEXT(h, of_due);
                if (!m) /* it has not joined completely */
                        continue;
                if (h->now == m->presence && m->presence_index > 0) {
                        liveness_set_due(l, h, false);
                        continue;
                }
                if (!liveness_is_due(l, h, m))
                        continue;
                memcpy(changes[n].machine, m->id, sizeof(m->id));
                changes[n].presence = h->now;
                changes[n].expected_index = m->presence_index;
                changes[n].away_ms = liveness_away_since(h, m);
                changes[n].announced = h->cause == VERDICT_AWAY_STOPPED;
                changes[n++].verdict.code = h->why;
        }

        qsort(changes, n, sizeof(*changes), liveness_compare_machines);
        *ret = TAKE_PTR(changes);
        *ret_n = n;
        return 0;
}
