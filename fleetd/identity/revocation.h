/* What the tree says about the machine of a certificate, and the end of open sessions when that changes: a
 * removed machine, another key, a lost replica. They end in the turn of the loop that applies the change. */
#pragma once

#include "fleetd/host/component.h"
#include "fleetd/identity/replica_pins.h"
#include "peers/peers.h"

typedef struct Revocation {
        Loop *loop; /* borrowed, as the next three */
        Peers *peers;
        Registry *registry;
        const char *state_directory;
        Deferred update;
        uint64_t hosts_index; /* records of hosts up to this one, too */
        uint64_t index;       /* tombstones up to this one have been processed */
        ReplicaPins replicas; /* as the file has them */
        bool confirmed;       /* since the start */
        bool failure_logged;
        bool silent;  /* no leader for REVOCATION_SILENT_MS; until the tree is complete again */
        bool syncing; /* 'sync' is under way: it shows that the tree is complete */
        KvSync sync;
} Revocation;

enum { REVOCATION_SILENT_MS = 600000 }; /* without a leader, until the tree may lack keys of replicas */

/* What this host knows, and how recent that is. */
typedef struct RevocationView {
        const Cluster *cluster;
        const ReplicaPins *replicas; /* that it has stored; NULL: none */
        const char *self;            /* its machine ID */
        bool behind;                 /* its tree is empty, or waits to be filled */
        bool has_key;                /* its key file counts */
        bool stale;                  /* it has no leader (kv_stale_ms()) */
        bool silent;                 /* as in Revocation */
} RevocationView;

/* Set *ret, which is zero before, for PeersOptions.known.
 *
 * On a host that is behind, a chain to a root of the cluster counts, too, and the pins that it has stored. If
 * it had no replica when they were stored, and no key file counts, then only these do: the certificate of a
 * removed replica is valid for 30 days.
 *
 * On a host without a leader for ten minutes, a chain counts for a certificate that is newer than the last
 * one of that machine in the tree, because the leader may have another key since. With stored pins, it must
 * also be newer than their last confirmation. It counts on a host that is behind, too, and until the tree has
 * all that was committed when there was a leader again.
 *
 * While a key file counts, a chain counts for a member without a pin: it may have got its first certificate
 * since, and the others may not accept the key file any more. */
void revocation_of(const RevocationView *v, const char *machine_id, PeerKnown *ret);
/* The same for this host. 'r' NULL: nothing is stored. */
void revocation_known(KvStore *store, const Registry *registry, const Revocation *r, bool has_key,
                      const char *machine_id, PeerKnown *ret);

/* 'host' is borrowed until revocation_done(). */
void revocation_init(Revocation *r, const ComponentHost *host);
void revocation_done(Revocation *r);
/* Twice a second: store what could not be stored before, and find out whether the tree is complete. */
void revocation_tick(Revocation *r);
/* RegistryObserver.on_change. */
void revocation_on_change(Revocation *r, const RegistryChange *change);
