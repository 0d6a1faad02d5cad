/* The announced shutdown of this host (systemctl reboot, a power button): its units move to other machines
 * while logind waits for this daemon, at most until 1 s before the end of logind's delay.
 *
 * This module writes the maintenance record of the machine (registry/shutdown.h), and the engine moves the
 * units and writes when none can move any more. Then another host takes the leadership (hand_over.h). Without
 * a leader, or below KV_LEVEL_UPDATES, the shutdown goes on at once. When the host is back, or the shutdown
 * was cancelled, it ends the record. It compares the record with logind's state each time: no memory, so that
 * a restarted daemon continues. */
#include "fleetd/host/component.h"

#include "base/log.h"
#include "base/sizes.h"
#include "fleetd/agent/hand_over.h"
#include "fleetd/host/settings.h"

enum {
        INHIBITOR_RETRY_MS = 200, /* of logind's delay, which is 5 s by default */
        RESERVE_MS = 1000,        /* before its end: logind would name this daemon in a warning */
};

typedef struct Inhibitor {
        ComponentHost *host; /* borrowed, as the next */
        Loop *loop;
        Registry *registry;
        Logind *logind;
        char machine_id[MACHINE_ID_SIZE];
        RegistryObserver observer;
        Deferred pass;
        Timer retry, limit;
        bool sending, released;
        bool withdrawing; /* the endpoints of this host */
} Inhibitor;

static void inhibitor_on_withdrawn(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Inhibitor *in = userdata;

        in->withdrawing = false;
        loop_defer(in->loop, &in->pass);
}

/* Withdraw the endpoints that are left, once: clients use others before the units end. Return whether that is
 * under way, and there is a leader. */
static bool inhibitor_withdraws(Inhibitor *in) {
        const ClusterService *server = cluster_server(registry_cluster(in->registry), in->machine_id);
        size_t n = server->n_endpoints;
        _cleanup_free_ const char **units = NEW0(const char *, n + 1);
        KvState state;

        kv_state(registry_store(in->registry), &state);
        if (in->host->shuts_down || !units)
                return in->withdrawing && state.ready && state.leader_id != 0;
        in->host->shuts_down = true;
        for (size_t i = 0; i < n; i++)
                units[i] = server->endpoints[i]->unit;
        in->withdrawing = n > 0 && registry_withdraw(in->registry, units, n, inhibitor_on_withdrawn, in) >= 0;
        return in->withdrawing && state.ready && state.leader_id != 0;
}

static void inhibitor_release(Inhibitor *in, const char *reason) {
        if (in->released)
                return;
        in->released = true;
        (void) inhibitor_withdraws(in); /* if nothing awaits it */
        timer_stop(&in->limit);
        timer_stop(&in->retry);
        log_notice(NO_FIELDS, "the shutdown of this host goes on: %s", reason);
        in->logind->ops->release(in->logind);
}

static void inhibitor_on_limit(void *userdata) {
        inhibitor_release(userdata, "the time that logind waits is over (InhibitDelayMaxSec=)");
}

static void inhibitor_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Inhibitor *in = userdata;

        in->sending = false;
        if (status == KV_OK)
                loop_defer(in->loop, &in->pass);
        else
                (void) timer_start(&in->retry, in->loop, INHIBITOR_RETRY_MS);
}

static void inhibitor_announce(Inhibitor *in, const ClusterMachine *m, bool stopping) {
        int r = registry_announce_shutdown(in->registry, m, stopping, inhibitor_on_done, in);

        if (r == 0)
                in->sending = true;
        else if (r != -EALREADY)
                (void) timer_start(&in->retry, in->loop, INHIBITOR_RETRY_MS);
}

/* Return why the shutdown need not wait for anything; NULL: units may still move. */
static const char *inhibitor_ready(const Inhibitor *in, const ClusterMachine *m) {
        const Cluster *cluster = registry_cluster(in->registry);
        KvState state;

        kv_state(registry_store(in->registry), &state);
        if (state.level < KV_LEVEL_UPDATES)
                return "the feature level of the cluster has no drain for a shutdown";
        if (!state.ready || state.leader_id == 0 || !registry_ready(in->registry))
                return "there is no leader that could move the units";
        if (cluster->adopting || !m || !LIST_EMPTY(&m->unreadable))
                return "no unit moves now";
        if (m->maintenance && m->maintenance->purpose[0] && !cluster_machine_is_stopping(m))
                return "the units of this host have moved as planned";
        if (m->maintenance && m->maintenance->mode == MAINTENANCE_DRAINED)
                return "no unit of this host can move";
        return NULL;
}

/* Return false without memory; then nothing would end the delay. */
static bool inhibitor_limit(Inhibitor *in, uint64_t left_ms, bool moves) {
        if (timer_armed(&in->limit))
                return true;
        if (moves)
                log_notice(NO_FIELDS, "this host shuts down; its units move away for at most %llu s",
                           (unsigned long long) (left_ms - RESERVE_MS) / 1000);
        return timer_start(&in->limit, in->loop, left_ms - RESERVE_MS) == 0;
}

/* The units move first: this host may be the leader that moves them. */
static void inhibitor_stop(Inhibitor *in, const ClusterMachine *m) {
        uint64_t left_ms = in->logind->ops->delay_left_ms(in->logind);
        const char *ready;

        if (in->released)
                return;
        if (left_ms <= RESERVE_MS) {
                inhibitor_release(in, "logind does not wait");
                return;
        }
        ready = inhibitor_ready(in, m);
        if (ready && !inhibitor_withdraws(in) &&
            hand_over_leadership(registry_store(in->registry)) == HAND_OVER_DONE) {
                inhibitor_release(in, ready);
                return;
        }
        if (!inhibitor_limit(in, left_ms, !ready)) {
                inhibitor_release(in, "out of memory");
                return;
        }
        if (ready)
                (void) timer_start(&in->retry, in->loop, INHIBITOR_RETRY_MS);
        else if (!in->sending)
                inhibitor_announce(in, m, true);
}

static void inhibitor_on_pass(void *userdata) {
        Inhibitor *in = userdata;
        const ClusterMachine *m = cluster_machine(registry_cluster(in->registry), in->machine_id);
        KvState state;

        switch (in->logind->ops->state(in->logind)) {
        case LOGIND_STOPPING:
                inhibitor_stop(in, m);
                return;
        case LOGIND_RUNNING:
                in->released = in->host->shuts_down = false;
                timer_stop(&in->limit);
                kv_state(registry_store(in->registry), &state);
                if (m && cluster_machine_is_stopping(m) && !in->sending && state.ready &&
                    registry_ready(in->registry))
                        inhibitor_announce(in, m, false);
                return;
        case LOGIND_UNKNOWN:
                return;
        }
}

/* The state of the store, or of logind, has changed. */
static void inhibitor_wake(void *userdata) {
        Inhibitor *in = userdata;

        loop_defer(in->loop, &in->pass);
}

static void inhibitor_on_change(void *userdata, const RegistryChange *change) {
        Inhibitor *in = userdata;

        if (change->kind == CHANGED_ALL ||
            (change->kind == CHANGED_MACHINE && (!change->machine || streq(change->machine, in->machine_id))))
                loop_defer(in->loop, &in->pass);
}

static int inhibitor_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Logind *logind = host->io.logind;
        Inhibitor *in = logind ? NEW0(Inhibitor, 1) : NULL;

        if (!in)
                return logind ? -ENOMEM : 0;
        *in = (Inhibitor) {
                .host = host,
                .loop = host->io.loop,
                .registry = host->registry,
                .logind = logind,
                .observer = { .on_change = inhibitor_on_change, .userdata = in },
                .pass = DEFERRED(inhibitor_on_pass, in),
                .retry = TIMER(inhibitor_on_pass, in),
                .limit = TIMER(inhibitor_on_limit, in),
        };
        snprintf(in->machine_id, sizeof(in->machine_id), "%s", s->machine_id);
        logind->ops->set_observer(logind, inhibitor_wake, in);
        registry_observe(host->registry, &in->observer);
        loop_defer(host->io.loop, &in->pass);
        *ret = in;
        return 0;
}

static void *inhibitor_close(void *self) {
        Inhibitor *in = self;

        in->logind->ops->set_observer(in->logind, NULL, NULL);
        in->logind->ops->release(in->logind);
        registry_unobserve(in->registry, &in->observer);
        registry_cancel(in->registry, in);
        deferred_cancel(&in->pass);
        timer_stop(&in->retry);
        timer_stop(&in->limit);
        free(in);
        return NULL;
}

const Component inhibitor_component = { "inhibitor", inhibitor_open, inhibitor_close, inhibitor_wake };
