/* The registry: it keeps a cluster view current from one watch of /_fleet, notifies observers of each change,
 * and proposes transactions. Each reports its result through 'done', once, after the call. */
#pragma once

#include "base/sizes.h"
#include "fleetd/registry/cluster.h"
#include "fleetd/registry/history.h"
#include "kvstore/kvstore.h"
#include "units/name.h"

typedef struct Registry Registry;

typedef struct RegistryObserver {
        /* Only marks the observer's work as due: it must not write the registry. */
        void (*on_change)(void *userdata, const RegistryChange *change);
        void *userdata;
        LIST_ENTRY(RegistryObserver) observers; /* the registry's */
} RegistryObserver;

int registry_new(Registry **ret, Loop *loop, KvStore *store, const char *machine_id);
Registry *registry_free(Registry *r);
/* For tests: write messages without codes, as former versions. */
void registry_be_codeless(Registry *r);
bool registry_is_codeless(const Registry *r);
void registry_observe(Registry *r, RegistryObserver *observer);
void registry_unobserve(Registry *r, RegistryObserver *observer); /* also one that is not registered */
void registry_reset(Registry *r);                   /* the store's on_reset: read all keys again */
const Cluster *registry_cluster(const Registry *r); /* current; borrowed until the callback returns */
/* Return the index up to which the cluster view has all changes; 0: it is not complete. */
uint64_t registry_index(const Registry *r);
bool registry_ready(const Registry *r);      /* the cluster view is complete, and the tree has a lineage */
bool registry_is_current(const Registry *r); /* complete, and no event of the tree is still to be applied */
KvStore *registry_store(const Registry *r);
void registry_count(const Registry *r, uint64_t nodes, uint64_t bytes); /* loop_count() */

/* 'status' is KV_OK, KV_COMPARE_FAILED (the keys changed: read them, and plan again), KV_NO_LEADER,
 * KV_UNKNOWN ...; 'message' is for people. */
typedef void (*RegistryDone)(void *userdata, KvStatus status, const char *message, uint64_t index);
/* Stop waiting: no 'done' with this userdata is called any more. The writes may still take effect. */
void registry_cancel(Registry *r, const void *userdata);

/* -- For transaction.c, and the files that build transactions -- */

const char *registry_machine_id(const Registry *r);
uint64_t registry_wall_ms(const Registry *r);
/* Set the text of the principal for whom the next transaction is proposed, also if it fails before that; "":
 * this host itself. */
void registry_propose_for(Registry *r, const char *principal);
/* Propose a KV_TXN; the result follows through 'done'. One without writes gets KV_OK from the loop. */
int registry_propose(Registry *r, const KvCommand *transaction, RegistryDone done, void *userdata);
/* Transactions that are proposed one after the other, each when the one before it has taken effect. */
typedef struct RegistrySequence {
        bool (*next)(void *userdata, KvCommand *ret); /* sets checks and writes; false: there is no other */
        void (*free)(void *userdata);
        void *userdata; /* owned */
} RegistrySequence;
/* Propose the sequence, which has at least one transaction. 'done' reports the result of the last one, or of
 * the one that failed. Takes sequence->userdata also on failure. 0, -ENOMEM or -E2BIG. */
int registry_propose_sequence(Registry *r, const RegistrySequence *sequence, RegistryDone done,
                              void *userdata);
/* Within 'done': the check, or after the checks the write, that rejected the transaction, counted from 1; 0:
 * none. */
uint64_t registry_refused_at(const Registry *r);

typedef struct RegistryCounts {
        uint64_t done, failed; /* transactions since the daemon's start */
} RegistryCounts;

const RegistryCounts *registry_counts(const Registry *r);
