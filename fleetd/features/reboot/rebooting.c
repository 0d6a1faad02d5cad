/* The planned reboot of this host: when its record says that no unit is left (reboot.h), call logind.
 *
 * The record names the boot in which the drain began. Only the host in that boot acts: a host that has just
 * returned, or that reads an old view, does not reboot again. A leader transfers leadership before
 * (hand_over.h). If logind rejects the reboot, the host writes that. Until the number of soft reboots is
 * known, nothing is done. */
#include "fleetd/features/reboot/reboot_internal.h"

#include "base/log.h"
#include "fleetd/agent/hand_over.h"

enum {
        REBOOT_RETRY_MS = 1000,
        REJECTION_SIZE = RECORDED_WHY_SIZE - 28, /* of the message of logind: the row has more words */
};

typedef struct Rebooting {
        Loop *loop; /* borrowed, as the next */
        Registry *registry;
        Logind *logind;
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        uint64_t soft_reboots;
        bool soft_known;
        RegistryObserver observer;
        Deferred pass;
        Timer retry;
        KvSync sync;
        bool syncing;          /* is the record the current one? */
        uint64_t hand_over_ms; /* since then the leadership is being transferred; 0: it is not */
        bool called;           /* logind was called for this record */
        bool sending;          /* the rejection */
        Verdict why;           /* of a rejection that is to be written; VERDICT_NONE: none */
} Rebooting;

static const ClusterMachine *rebooting_self(const Rebooting *r) {
        return cluster_machine(registry_cluster(r->registry), r->machine_id);
}

/* Return whether the record asks this boot of this host to reboot. */
static bool rebooting_is_due(const Rebooting *r, const ClusterMachine *m) {
        return m && m->reboot && m->reboot->state == REBOOT_REBOOTING && r->soft_known &&
               streq(m->reboot->boot, r->boot_id) && m->reboot->soft == r->soft_reboots;
}

/* -- A rejection -- */

static void rebooting_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Rebooting *r = userdata;

        r->sending = false;
        if (status == KV_OK)
                r->why = (Verdict) {};
        else
                (void) timer_start(&r->retry, r->loop, REBOOT_RETRY_MS);
}

static void rebooting_write(Rebooting *r, const ClusterMachine *m) {
        RebootRecord next = *m->reboot;
        Error reason = {};
        RebootChange change = { .machine = m, .record = &next, .reason = reason.message };

        next.state = REBOOT_REJECTED;
        next.why = r->why;
        verdict_print(&r->why, &reason);
        if (registry_reboot(r->registry, 0, &change, 1, NULL, rebooting_on_written, r) < 0)
                (void) timer_start(&r->retry, r->loop, REBOOT_RETRY_MS);
        else
                r->sending = true;
}

static void rebooting_reject(Rebooting *r, const char *message) {
        char cut[REJECTION_SIZE];
        Error reason = {};

        text_format(cut, sizeof(cut), "%s", message);
        verdict_set(&r->why, VERDICT_REBOOT_REJECTED, "%s", cut);
        verdict_print(&r->why, &reason);
        log_warning(NO_FIELDS, "this host does not reboot: %s", reason.message);
        loop_defer(r->loop, &r->pass);
}

/* -- The reboot -- */

static void rebooting_on_called(void *userdata, int error, const char *message) {
        if (error < 0 && error != -ECANCELED)
                rebooting_reject(userdata, message);
}

static void rebooting_call(Rebooting *r, const ClusterMachine *m) {
        int e;

        r->called = true;
        log_notice(NO_FIELDS, "no unit is left on this host; it reboots as planned by %s",
                   m->reboot->by[0] ? m->reboot->by : "a user");
        e = r->logind->ops->reboot(r->logind, m->reboot->kind, rebooting_on_called, r);
        if (e < 0)
                rebooting_reject(r, e == -ENOTCONN ? "it does not run" : strerror(-e));
}

/* Return whether the reboot waits until another host leads. */
static bool rebooting_awaits_leader(Rebooting *r) {
        uint64_t now_ms = loop_now_ms(r->loop);

        if (r->hand_over_ms > 0 && now_ms >= r->hand_over_ms + HAND_OVER_MS)
                return false;
        if (hand_over_leadership(registry_store(r->registry)) == HAND_OVER_DONE)
                return false;
        if (r->hand_over_ms == 0)
                r->hand_over_ms = now_ms;
        (void) timer_start(&r->retry, r->loop, REBOOT_RETRY_MS);
        return true;
}

/* The view may be that of an earlier time, and the queue may have gone on without this host since. After the
 * check the tree has all; the view may follow later. logind reports a change to the inhibitor alone. */
static void rebooting_on_synced(void *userdata, KvStatus status) {
        Rebooting *r = userdata;
        const ClusterMachine *m = rebooting_self(r);

        r->syncing = false;
        if (status != KV_OK || !registry_is_current(r->registry) || !rebooting_is_due(r, m) ||
            !registry_ready(r->registry) || r->logind->ops->state(r->logind) != LOGIND_RUNNING)
                (void) timer_start(&r->retry, r->loop, REBOOT_RETRY_MS);
        else if (!rebooting_awaits_leader(r))
                rebooting_call(r, m);
}

static void rebooting_sync(Rebooting *r) {
        r->syncing = true;
        r->sync = (KvSync) { .done = rebooting_on_synced, .userdata = r };
        kv_sync(registry_store(r->registry), &r->sync);
}

static void rebooting_cancel_sync(Rebooting *r) {
        if (r->syncing)
                kv_sync_cancel(registry_store(r->registry), &r->sync);
        r->syncing = false;
}

static void rebooting_on_pass(void *userdata) {
        Rebooting *r = userdata;
        const ClusterMachine *m = rebooting_self(r);
        KvState state;

        kv_state(registry_store(r->registry), &state);
        if (!state.ready || state.leader_id == 0 || !registry_ready(r->registry))
                return;
        if (!rebooting_is_due(r, m)) {
                rebooting_cancel_sync(r);
                r->called = false;
                r->hand_over_ms = 0;
                r->why = (Verdict) {};
                return;
        }
        if (r->why.code != VERDICT_NONE && !r->sending)
                rebooting_write(r, m);
        else if (!r->called && !r->syncing)
                rebooting_sync(r);
}

static void rebooting_on_change(void *userdata, const RegistryChange *change) {
        Rebooting *r = userdata;

        if (change->kind == CHANGED_ALL ||
            (change->kind == CHANGED_MACHINE && (!change->machine || streq(change->machine, r->machine_id))))
                loop_defer(r->loop, &r->pass);
}

void rebooting_state_changed(void *self) {
        Rebooting *r = self;

        loop_defer(r->loop, &r->pass);
}

void rebooting_systemd_ready(void *self, uint64_t soft_reboots, bool booting) {
        Rebooting *r = self;

        r->soft_known = true;
        r->soft_reboots = soft_reboots;
        loop_defer(r->loop, &r->pass);
}

int rebooting_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Rebooting *r = host->io.logind ? NEW0(Rebooting, 1) : NULL;

        if (!r)
                return host->io.logind ? -ENOMEM : 0;
        *r = (Rebooting) {
                .loop = host->io.loop,
                .registry = host->registry,
                .logind = host->io.logind,
                .observer = { .on_change = rebooting_on_change, .userdata = r },
                .pass = DEFERRED(rebooting_on_pass, r),
                .retry = TIMER(rebooting_on_pass, r),
        };
        snprintf(r->machine_id, sizeof(r->machine_id), "%s", s->machine_id);
        snprintf(r->boot_id, sizeof(r->boot_id), "%s", host->io.boot_id);
        registry_observe(host->registry, &r->observer);
        *ret = r;
        return 0;
}

void *rebooting_close(void *self) {
        Rebooting *r = self;

        rebooting_cancel_sync(r);
        registry_unobserve(r->registry, &r->observer);
        registry_cancel(r->registry, r);
        r->logind->ops->forget(r->logind);
        deferred_cancel(&r->pass);
        timer_stop(&r->retry);
        free(r);
        return NULL;
}
