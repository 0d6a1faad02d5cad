#include "fleetd/features/reboot/reboot_why.h"

#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"

enum { QUEUE_WAITS_MS = 60000 }; /* a queue that waits for longer is a problem */

void reboot_queue_done(RebootQueue *q) {
        free(q->machines);
        scheduler_view_free(q->view);
        *q = (RebootQueue) {};
}

/* Hosts that have begun are first. */
static bool reboot_is_listed_before(const RebootQueue *q, const ClusterMachine *a, const ClusterMachine *b) {
        bool a_waits = a->reboot->state == REBOOT_QUEUED, b_waits = b->reboot->state == REBOOT_QUEUED;

        return a_waits != b_waits ? b_waits : reboot_is_before(&q->state, a, b);
}

int reboot_queue_read(const Cluster *c, const KvState *state, bool braked, RebootQueue *ret) {
        const ClusterMachine **all = NEW0(const ClusterMachine *, HASH_COUNT(c->machines) + 1);
        size_t k;

        *ret = (RebootQueue) { .cluster = c, .state = *state, .braked = braked, .machines = all };
        if (!all)
                return -ENOMEM;
        for (size_t i = 0; i < state->n_members && state->role != KV_ROLE_LEADER; i++)
                ret->state.members[i].match = state->raft_index;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (!m->reboot)
                        continue;
                for (k = ret->n++; k > 0 && reboot_is_listed_before(ret, m, all[k - 1]); k--)
                        all[k] = all[k - 1];
                all[k] = m;
        }
        ret->n = MIN(ret->n, (size_t) REBOOTS_MAX);
        return 0;
}

/* A host that goes down, or returns, waits for itself, until the time for its return has passed. */
static void reboot_explain_return(const ClusterMachine *m, Error *ret_why) {
        const RebootRecord *r = m->reboot;

        if (r->state == REBOOT_BACK && m->presence != PRESENCE_UP && r->steady_ms == 0)
                error_set(ret_why, -EAGAIN, "it is %s", presence_to_string(m->presence));
        else if (r->state == REBOOT_BACK)
                error_set(ret_why, -EAGAIN,
                          r->steady_ms > 0 ? "its units are available, and have to remain so for %d s" :
                                             "it has to stay up for %d s, with its units available",
                          REBOOT_STEADY_MS / 1000);
        else if (r->state == REBOOT_REBOOTING || r->state == REBOOT_DOWN)
                error_set(ret_why, -EAGAIN, "%s",
                          m->presence == PRESENCE_UP && reboot_has_booted(m) ?
                                  "it is up, and boot-complete.target is not reached yet" :
                          r->state == REBOOT_DOWN ? "it is not up again yet" :
                                                    "it goes down");
}

int reboot_explain(RebootQueue *q, const ClusterMachine *m, const ClusterAssignment **ret_unit,
                   Error *ret_why) {
        Error why = {};
        size_t n;

        *ret_unit = NULL;
        verdict_print(&m->reboot->why, ret_why);
        if (!reboot_may_go_on(q->cluster, &q->state, q->braked, m, ret_why))
                return 0;
        if (m->reboot->state == REBOOT_QUEUED) {
                const ClusterMachine *first = reboot_first(q->cluster, &q->state);

                if (first != m)
                        error_set(ret_why, -EAGAIN, "%s is before it", cluster_machine_name(first));
        }
        if (m->reboot->state != REBOOT_DRAINING || reboot_is_drained(m)) {
                reboot_explain_return(m, ret_why);
                return 0;
        }
        if (!q->view && scheduler_view_new(q->cluster, q->cluster->now_ms, &q->view) < 0)
                return -ENOMEM;
        *ret_unit = engine_first_waiting(q->view, m, &n, &why);
        if (*ret_unit)
                error_set(ret_why, why.code, "%s: %s", (*ret_unit)->unit, why.message);
        return 0;
}

int reboot_is_stuck(RebootQueue *q, size_t i, const ClusterAssignment **ret_unit, Error *ret_why) {
        const ClusterMachine *m = q->machines[i];
        const RebootRecord *r = m->reboot;
        uint64_t now_ms = q->cluster->now_ms;
        int n;

        verdict_print(&r->why, ret_why);
        if (r->state == REBOOT_FAILED)
                return 1;
        if (now_ms < r->since_ms + QUEUE_WAITS_MS || (r->state == REBOOT_QUEUED && i > 0) ||
            (r->state != REBOOT_QUEUED && r->state != REBOOT_DRAINING) ||
            (r->state == REBOOT_DRAINING && m->maintenance && m->maintenance->deadline_ms > now_ms))
                return 0;
        n = reboot_explain(q, m, ret_unit, ret_why);
        return n < 0 ? n : ret_why->message[0] != 0;
}
