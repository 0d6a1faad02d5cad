/* What the tree says about the machine of a certificate, and the end of open sessions when that changes: a
 * removed machine, another key, a lost replica. They end in the turn of the loop that applies the change. */
#pragma once

#include "fleetd/registry/registry.h"
#include "peers/peers.h"

typedef struct Revocation {
        Loop *loop; /* borrowed, as the next two */
        Peers *peers;
        Registry *registry;
        Deferred update;
        uint64_t index; /* tombstones up to this one have been processed */
} Revocation;

/* Set *ret, which is zero before, for PeersOptions.known. On a host whose tree is empty, or waits to be
 * filled, a chain to a root of the cluster counts, too. */
void revocation_known(KvStore *store, const Registry *registry, const char *machine_id, PeerKnown *ret);

/* All pointers of 'r' are borrowed until revocation_done(). */
void revocation_init(Revocation *r, Loop *loop, Peers *peers, Registry *registry);
void revocation_done(Revocation *r);
/* RegistryObserver.on_change. */
void revocation_on_change(Revocation *r, const RegistryChange *change);
