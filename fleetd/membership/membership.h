/* Membership at the edge: who is a host, who votes, who is alive. Ties the pure rooms (liveness, voters) to
 * sessions, store and registry; lets hosts in; keeps everybody's list of whom to dial, on disk too.
 *
 * Every host beats twice a second to the leader. The leader counts ticks, writes transitions of presence, and
 * makes at most one change of the voters at a time. A host that is to join asks the hosts of Join= until one
 * of them lets it in. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Membership Membership;

typedef struct MembershipOptions {
        const char *machine_id;
        const char *peer_address; /* our peer door, "" for none */
        const char *client;       /* AdvertiseClient=, "" or NULL for none */
        const char *name;
        const Names *join;        /* Join=; copied */
        const char *cluster_file; /* where other hosts are remembered ("Join=" for the next start); "" for
                                     nowhere */
        uint64_t voters;          /* 1: no more than one; 0 or 3: as the cluster grows */
        uint64_t level_wait_ms;   /* for tests: how long all hosts must know a feature level; 0: a day */
} MembershipOptions;

int membership_new(Membership **ret, Loop *loop, Peers *peers, KvStore *store, Registry *registry,
                   const MembershipOptions *options);
Membership *membership_free(Membership *m);
void membership_set_client(Membership *m, const char *client); /* as above, anew */
void membership_state_changed(Membership *m);                  /* the store's on_state */
void membership_peer_changed(Membership *m, const char *machine_id);

/* For Peers.admit: an old image of a host (its start number is not above what the cluster has seen of it). */
int membership_admit(const Membership *m, const PeerHandshake *hello, Error *err);
