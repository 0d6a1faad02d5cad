#include "fleetd/identity/revocation.h"

#include "base/log.h"

static void revocation_add_pins(TlsKnown *known, const Pins *pins) {
        for (size_t i = 0; pins && i < pins->n && known->n_pins < TLS_PINS_MAX; i++)
                if (tls_pin_parse(pins->items[i], &known->pins[known->n_pins]) == 0)
                        known->n_pins++;
}

/* By the wall clocks of leaders, when the last certificate of a machine was issued; NULL: of any machine. */
static uint64_t revocation_issued_ms(const Cluster *c, const ClusterMachine *m) {
        uint64_t last = 0;

        for (const ClusterMachine *i = c->machines; i; i = i->hh.next)
                if ((!m || i == m) && i->host && i->host->expires_ms > TLS_LEAF_LIFETIME_MS)
                        last = MAX(last, i->host->expires_ms - TLS_LEAF_LIFETIME_MS);
        return last;
}

/* The pins of members that count while the tree is behind; NULL: the chain counts. A host that starts does
 * not know yet whether it will be attached; one that was has a list without itself. */
static const ReplicaPins *revocation_list(const RevocationView *v) {
        const ReplicaPins *list = v->replicas;

        return list && list->n > 0 && !v->has_key && !replica_pins_find(list, v->self) ? list : NULL;
}

/* Whether, and from which time of issue on, the chain of a certificate counts. */
static void revocation_chain(const RevocationView *v, const ClusterMachine *m, TlsKnown *ret) {
        const ReplicaPins *list = revocation_list(v);
        bool first = v->has_key && cluster_settings(v->cluster)->peer_auth != PEER_AUTH_CERTIFICATE && m &&
                     m->member.raft_id != 0 && !m->host && !m->removed;

        ret->chain_waits = v->behind && list && !v->silent;
        ret->chain_counts = (v->behind && !list) || v->silent || first;
        if (v->silent && (!v->behind || (m && m->host && m->member.raft_id != 0)))
                ret->issued_after_ms = revocation_issued_ms(v->cluster, m && m->host ? m : NULL);
        if (list && v->silent)
                ret->issued_after_ms = MAX(ret->issued_after_ms, MAX(list->confirmed_ms, (uint64_t) 1));
}

void revocation_of(const RevocationView *v, const char *machine_id, PeerKnown *ret) {
        const ClusterMachine *m = cluster_machine(v->cluster, machine_id);
        const Pins *stored = v->behind && v->replicas ? replica_pins_find(v->replicas, machine_id) : NULL;

        revocation_chain(v, m, &ret->tls);
        ret->stale = v->behind || v->stale;
        if (m) {
                ret->raft_id = m->member.raft_id;
                ret->tls.replica = m->member.raft_id != 0;
        }
        if (m && m->removed)
                ret->tls.state = TLS_REMOVED;
        else if ((m && m->host) || (stored && revocation_list(v)))
                ret->tls.state = TLS_KNOWN;
        if (m && m->host)
                revocation_add_pins(&ret->tls, &m->host->pins);
        if (!stored)
                return;
        ret->tls.replica = true;
        revocation_add_pins(&ret->tls, stored);
        if (revocation_list(v)) /* that of the tree may be a former one */
                ret->raft_id = 0;
}

void revocation_known(KvStore *store, const Registry *registry, const Revocation *r, bool has_key,
                      const char *machine_id, PeerKnown *ret) {
        RevocationView v = { .cluster = registry_cluster(registry),
                             .replicas = r ? &r->replicas : NULL,
                             .self = registry_machine_id(registry),
                             .has_key = has_key,
                             .stale = kv_stale_ms(store) > 0,
                             .silent = r ? r->silent : kv_stale_ms(store) >= REVOCATION_SILENT_MS };

        /* The slice of a cluster that was just founded may have no replica yet. Without any, the host would
         * reject all of them, and no other slice could arrive. */
        v.behind = !registry_ready(registry) || !kv_can_serve(store) ||
                   (kv_is_attached(store) && LIST_EMPTY(&v.cluster->members));
        revocation_of(&v, machine_id, ret);
}

/* Store the pins of the members when they have changed, and once after the start for the time. An attached
 * host does not know the time before the first answer to a heartbeat: then the file has that of its own
 * clock, and is written again. */
static void revocation_store_pins(Revocation *r) {
        ReplicaPins pins;
        Error err = {};
        bool timed;
        int e;

        if (r->silent || !registry_is_current(r->registry) || !kv_can_serve(registry_store(r->registry)))
                return;
        replica_pins_of(registry_cluster(r->registry), &pins);
        pins.confirmed_ms = kv_cluster_ms(registry_store(r->registry));
        timed = pins.confirmed_ms > 0;
        if (pins.n == 0 || ((r->confirmed || !timed) && replica_pins_equal(&pins, &r->replicas)))
                return;
        e = replica_pins_write(r->state_directory, &pins, &err);
        r->confirmed = e >= 0 ? timed : r->confirmed;
        if (e >= 0)
                r->replicas = pins;
        else if (e != -ENOENT && !r->failure_logged) /* without an identity, there is no file */
                log_warning(((LogFields) { .error = e }), "%s", error_text(&err, e));
        r->failure_logged = e < 0;
}

/* A session with the key file has no certificate to check: it ends when the tombstone is written. The host
 * may return with the key file as long as that counts. */
static void revocation_end_removed(Revocation *r) {
        const Cluster *c = registry_cluster(r->registry);
        uint64_t last = r->index;
        char reason[256];

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (m->removed_index <= r->index || !m->removed)
                        continue;
                last = MAX(last, m->removed_index);
                snprintf(reason, sizeof(reason), "%s was removed from the cluster%s%s",
                         cluster_machine_name(m), m->removed->by[0] ? " by " : "", m->removed->by);
                peers_end(r->peers, m->id, reason);
        }
        r->index = last;
}

/* A host whose record changed has joined with its new key, or renewed its certificate: a former rejection of
 * another key has no meaning any more. */
static void revocation_end_reports(Revocation *r) {
        uint64_t last = r->hosts_index;

        for (const ClusterMachine *m = registry_cluster(r->registry)->machines; m; m = m->hh.next) {
                if (m->host_index <= r->hosts_index)
                        continue;
                last = MAX(last, m->host_index);
                peers_forget_key(r->peers, m->id);
        }
        r->hosts_index = last;
}

static void revocation_on_update(void *userdata) {
        Revocation *r = userdata;

        revocation_end_reports(r);
        revocation_end_removed(r);
        peers_recheck(r->peers);
        revocation_store_pins(r);
}

void revocation_on_change(Revocation *r, const RegistryChange *change) {
        /* CHANGED_CLUSTER with a machine: its host key, member key, or tombstone. */
        if (change->kind == CHANGED_ALL || (change->kind == CHANGED_CLUSTER && change->machine))
                loop_defer(r->loop, &r->update);
}

void revocation_init(Revocation *r, const ComponentHost *host) {
        Error err = {};
        int e;

        *r = (Revocation) { .loop = host->io.loop,
                            .peers = host->peers,
                            .registry = host->registry,
                            .state_directory = host->settings->state_directory,
                            .update = DEFERRED(revocation_on_update, r) };
        e = replica_pins_read(r->state_directory, &r->replicas, &err);
        if (e < 0 && e != -ENOENT)
                log_warning(((LogFields) { .error = e }), "%s", error_text(&err, e));
}

static void revocation_on_synced(void *userdata, KvStatus status) {
        Revocation *r = userdata;

        r->syncing = false;
        if (status != KV_OK || !registry_is_current(r->registry)) /* the next tick tries again */
                return;
        r->silent = false;
        loop_defer(r->loop, &r->update);
}

/* The sessions on which the tree arrives are those that the silence has admitted. */
static void revocation_check_silence(Revocation *r) {
        KvStore *store = registry_store(r->registry);
        uint64_t stale_ms = kv_stale_ms(store);

        r->silent |= stale_ms >= REVOCATION_SILENT_MS;
        if (!r->silent || stale_ms > 0 || r->syncing)
                return;
        r->syncing = true;
        r->sync = (KvSync) { .done = revocation_on_synced, .userdata = r };
        kv_sync(store, &r->sync);
}

void revocation_tick(Revocation *r) {
        revocation_store_pins(r);
        revocation_check_silence(r);
}

void revocation_done(Revocation *r) {
        deferred_cancel(&r->update);
        if (r->syncing)
                kv_sync_cancel(registry_store(r->registry), &r->sync);
}
