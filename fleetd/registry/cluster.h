/* Cluster: the picture of fleet's nouns at one index: units, machines, orders, states. Values only; rooms read it, the
 * registry alone writes it. Iteration for anything that can be seen is by the sorted arrays. */
#pragma once

#include "base/table.h"
#include "units/machine.h"
#include "units/state.h"
#include "units/unit.h"

typedef struct ClusterUnit ClusterUnit;
typedef struct ClusterMachine ClusterMachine;

/* The order of one machine about one unit: /_fleet/machine/ID/unit/NAME. */
typedef struct ClusterOrder {
        ClusterMachine *machine;
        char unit[256];
        Order order;             /* run, load, stop */
        uint64_t unit_index;     /* modified index of the unit key that it was planned on */
        uint64_t index;          /* modified index of the order's key */
        uint64_t created;
        uint64_t since_ms;       /* cluster time */
        uint64_t term;           /* of the engine that wrote it */
        char *reason;
        UT_hash_handle hh;       /* in ClusterMachine.orders, by unit */
} ClusterOrder;

/* What one machine says of one unit: /_fleet/state/NAME/ID. */
typedef struct ClusterState {
        ClusterMachine *machine;
        char unit[256];
        UnitState state;
        uint64_t index;
        UT_hash_handle hh;       /* in ClusterMachine.states, by unit */
} ClusterState;

struct ClusterUnit {
        char name[256];
        Unit *unit;              /* NULL while only a target, order or state of that name exists */
        uint64_t index;          /* modified index of the unit key */
        TargetState target;      /* TARGET_INACTIVE when no key says otherwise */
        uint64_t target_index;   /* 0: no key */
        UT_hash_handle hh;
};

struct ClusterMachine {
        char id[33];
        Machine *facts;          /* NULL while unknown */
        uint64_t facts_index;
        Presence presence;       /* PRESENCE_LOST when no key says otherwise */
        uint64_t presence_index, since_ms;
        uint64_t raft_id;        /* 0: holds no replica; from the member key */
        char peer[64];
        ClusterOrder *orders;    /* table by unit */
        ClusterState *states;    /* table by unit */
        UT_hash_handle hh;
};

typedef struct Cluster {
        uint64_t index;          /* the store's, of this picture */
        uint64_t now_ms;         /* cluster time when it was looked at */
        ClusterUnit *units;      /* table by name */
        ClusterMachine *machines; /* table by id */
        uint64_t lineage;
} Cluster;

void cluster_done(Cluster *c);

ClusterUnit *cluster_unit(const Cluster *c, const char *name);          /* NULL: unknown, or no unit key */
ClusterMachine *cluster_machine(const Cluster *c, const char *id);
ClusterOrder *cluster_order(const Cluster *c, const char *machine_id, const char *unit);
ClusterState *cluster_state(const Cluster *c, const char *machine_id, const char *unit);

/* Puts one key's value (or its absence: value.data NULL) into the picture. A value that does not parse is kept out, with
 * a sentence in 'err' and -EBADMSG; -ENOMEM. 'changed' (may be NULL) tells what it was about. */
int cluster_put(Cluster *c, const char *key, size_t key_size, const void *value, size_t value_size, uint64_t created,
                uint64_t modified, Error *err);
int cluster_remove(Cluster *c, const char *key, size_t key_size); /* a directory's removal removes all below it */

/* Sorted by name (units) or id (machines); the caller frees the array. NULL without memory. */
ClusterUnit **cluster_units_sorted(const Cluster *c, size_t *ret_n);
ClusterMachine **cluster_machines_sorted(const Cluster *c, size_t *ret_n);

/* fleet's current state of a unit (fleet.md 4.1) on our keys: launched when its machine has the order run and reports a state
 * that the agent was asked to start; and where: the machine of its run or load order (NULL: none; globals: none). */
TargetState cluster_current_state(const Cluster *c, const ClusterUnit *u, const ClusterMachine **ret_machine);
size_t cluster_load(const ClusterMachine *m); /* orders run and load */
