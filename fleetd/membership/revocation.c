#include "fleetd/membership/revocation.h"

#include <stdio.h>

void revocation_known(KvStore *store, const Registry *registry, const char *machine_id, PeerKnown *ret) {
        const ClusterMachine *m = cluster_machine(registry_cluster(registry), machine_id);

        ret->tls.chain_counts = !registry_ready(registry) || !kv_can_serve(store);
        if (!m)
                return;
        ret->raft_id = m->member.raft_id;
        ret->tls.replica = m->member.raft_id != 0;
        if (m->removed)
                ret->tls.state = TLS_REMOVED;
        else if (m->host)
                ret->tls.state = TLS_KNOWN;
        for (size_t i = 0; m->host && i < m->host->pins.n && i < TLS_PINS_MAX; i++)
                if (tls_pin_parse(m->host->pins.items[i], &ret->tls.pins[ret->tls.n_pins]) == 0)
                        ret->tls.n_pins++;
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

static void revocation_on_update(void *userdata) {
        Revocation *r = userdata;

        revocation_end_removed(r);
        peers_recheck(r->peers);
}

void revocation_on_change(Revocation *r, const RegistryChange *change) {
        /* CHANGED_CLUSTER with a machine: its host key, member key, or tombstone. */
        if (change->kind == CHANGED_ALL || (change->kind == CHANGED_CLUSTER && change->machine))
                loop_defer(r->loop, &r->update);
}

void revocation_init(Revocation *r, Loop *loop, Peers *peers, Registry *registry) {
        *r = (Revocation) { .loop = loop,
                            .peers = peers,
                            .registry = registry,
                            .update = DEFERRED(revocation_on_update, r) };
}

void revocation_done(Revocation *r) {
        deferred_cancel(&r->update);
}
