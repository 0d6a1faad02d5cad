/* Cluster: the picture of fleet's nouns at one index: units, machines, orders, states. Values only; rooms
 * read it, the registry alone writes it. Iteration for anything that can be seen is by the sorted arrays. */
#pragma once

#include <sys/queue.h>

#include "base/table.h"
#include "base/sizes.h"
#include "base/error.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/patterns.h"
#include "io/turn.h"
#include "units/machine.h"
#include "units/stored_json.h"
#include "units/state.h"
#include "units/unit.h"
#include "units/name.h"

typedef struct ClusterUnit ClusterUnit;
#define MACHINE_CONDITION "its replica: "

typedef struct ClusterMachine ClusterMachine;

/* A key that exists and whose value this fleetd cannot read: a host of another version wrote it, or a fault.
 * It is not absent: nothing may be stopped, started, placed or moved because of it. The value that the key
 * had before is not kept. A unit or a machine is unreadable while the cluster view holds such a key of it. */
typedef struct ClusterUnreadable {
        LayoutKey key;
        LIST_ENTRY(ClusterUnreadable) of_object; /* of the same unit or machine */
} ClusterUnreadable;

typedef LIST_HEAD(ClusterUnreadables, ClusterUnreadable) ClusterUnreadables;

/* For `why` and lists. */
#define CLUSTER_UNREADABLE "its key cannot be read by this fleetd: upgrade the host"

/* The order of one machine about one unit: /_fleet/machine/ID/unit/NAME. */
typedef struct ClusterAssignment {
        ClusterMachine *machine;
        ClusterUnit *of;                       /* the unit, or what stands for it while there is none */
        LIST_ENTRY(ClusterAssignment) of_unit; /* by machine id */
        char unit[UNIT_NAME_MAX + 1];
        AssignmentKind kind; /* run, load, stop; _ASSIGNMENT_INVALID: unreadable, and its place is taken */
        uint64_t unit_index; /* modified index of the unit key that it was planned on */
        uint64_t index;      /* modified index of the order's key */
        uint64_t created;
        uint64_t since_ms; /* cluster time of its being given; rewriting it in place keeps it */
        uint64_t term;     /* of the engine that wrote it */
        char *reason;
        UT_hash_handle hh; /* in ClusterMachine.assignments, by unit */
} ClusterAssignment;

/* What one machine says of one unit: /_fleet/state/NAME/ID. */
typedef struct ClusterState {
        ClusterMachine *machine;
        ClusterUnit *of;
        LIST_ENTRY(ClusterState) of_unit; /* by machine id */
        char unit[UNIT_NAME_MAX + 1];
        UnitState state;
        uint64_t index;
        UT_hash_handle hh; /* in ClusterMachine.states, by unit */
} ClusterState;

/* What the unit directory of one machine cannot do by itself: /_fleet/machine/ID/problem/NAME. */
typedef struct ClusterProblem {
        char unit[UNIT_NAME_MAX + 1];
        Problem problem;
        uint64_t index;
        UT_hash_handle hh; /* in ClusterMachine.problems, by unit */
} ClusterProblem;

typedef enum ClusterList {
        CLUSTER_WAITING, /* wanted, ordinary, and without an order on a machine that is up and where its name
                            is free */
        CLUSTER_GLOBAL,  /* Global= */
        CLUSTER_RELATED, /* MachineOf=, Conflicts= or Replaces= */
        CLUSTER_REPLACING, /* Replaces= */
        _CLUSTER_LIST_MAX,
} ClusterList;

/* The options that name other units. */
typedef enum ClusterRule {
        CLUSTER_CONFLICTS,
        CLUSTER_REPLACES,
        CLUSTER_MACHINE_OF, /* names, no patterns */
        _CLUSTER_RULE_MAX,
} ClusterRule;

struct ClusterUnit {
        char name[UNIT_NAME_MAX + 1];
        Unit *unit;            /* NULL while only a target, order or state of that name exists */
        uint64_t index;        /* modified index of the unit key */
        TargetState target;    /* TARGET_INACTIVE when no key says otherwise */
        uint64_t target_index; /* 0: no key */
        LIST_HEAD(, ClusterAssignment) assignments; /* by machine id */
        LIST_HEAD(, ClusterState) states;           /* by machine id */
        ClusterUnreadables unreadable; /* its unit, target, assignment and state keys that cannot be read */
        LIST_ENTRY(ClusterUnit) lists[_CLUSTER_LIST_MAX];
        bool listed[_CLUSTER_LIST_MAX]; /* is in that list of the cluster view */
        UT_hash_handle hh;
};

enum { CLUSTER_URL_SIZE = 256 };

struct ClusterMachine {
        char id[MACHINE_ID_SIZE];
        Machine *facts; /* NULL while unknown */
        uint64_t facts_index;
        Pairs set;         /* metadata set by people; "" hides what the host says itself */
        Pairs metadata;    /* what counts: the host's own, and what was set over it */
        Presence presence; /* PRESENCE_LOST when no key says otherwise; PRESENCE_AWAY while the key is
                              unreadable */
        uint64_t presence_index, since_ms;
        uint64_t losses, lost_ms, hold_off_until_ms; /* see units/stored_json.h */
        char presence_reason[128]; /* begins with MACHINE_CONDITION when its replica suffers from something */
        uint64_t raft_id;          /* 0: holds no replica; from the member key */
        char peer[ADDRESS_SIZE];
        char client[CLUSTER_URL_SIZE]; /* where clients elsewhere reach its key API; "": it does not say */
        uint64_t start_number; /* of its daemon with that Raft id, the last one that the cluster has seen */
        uint64_t level;        /* feature level that the program of that start knows; 0: it did not say */
        char start_nonce[17];  /* of that start, in hex; two starts may have one number when an old image was
                                  put back */
        ClusterAssignment *assignments; /* table by unit */
        ClusterState *states;           /* table by unit */
        ClusterProblem *problems;       /* table by unit */
        ClusterUnreadables unreadable;  /* all other keys about it that cannot be read */
        uint64_t reported;  /* the new lineage in which it has said all that runs on it; 0: none */
        size_t load;        /* orders run and load */
        size_t n_replacing; /* orders of units in the list CLUSTER_REPLACING */
        size_t slot;        /* the scheduler's: its place in a view of this picture */
        UT_hash_handle hh;
};

typedef struct Cluster {
        uint64_t index;        /* the store's, of this picture */
        uint64_t now_ms;       /* cluster time when it was looked at */
        ClusterUnit *units;    /* table by name */
        ClusterUnit **by_name; /* the same, sorted */
        size_t by_name_capacity;
        Patterns rules[_CLUSTER_RULE_MAX]; /* who names whom */
        TurnWork filed;                    /* the work of keeping these, so far */
        ClusterMachine *machines;          /* table by id */
        LIST_HEAD(, ClusterUnit)
        lists[_CLUSTER_LIST_MAX]; /* units that a change elsewhere may affect; unsorted */
        uint64_t lineage;
        bool adopting; /* the lineage is new, and what runs is not yet known: nothing is started, stopped or
                          moved (adoption.c) */
        uint64_t adopting_since_ms; /* cluster time; 0: people have said that it was long enough */
} Cluster;

/* The key below /_fleet/cluster that says so; its value is the cluster time at which the lineage began, in
 * digits. */
#define CLUSTER_ADOPTING "adopting"

enum { LINEAGE_DIGITS = 16 }; /* hex: all its 64 bits count, and JSON's numbers have fewer */

void cluster_done(Cluster *c);
/* The same in parts: gives back about 'n' things of a picture that nobody looks at any more; true when
 * nothing is left. */
bool cluster_drain(Cluster *c, size_t n);

ClusterUnit *cluster_unit(const Cluster *c, const char *name); /* NULL: unknown, or no unit key */
ClusterMachine *cluster_machine(const Cluster *c, const char *id);
ClusterAssignment *cluster_assignment(const Cluster *c, const char *machine_id,
                                      const char *unit); /* NULL: none that can be read */
ClusterState *cluster_state(const Cluster *c, const char *machine_id, const char *unit);

ClusterProblem *cluster_problem(const Cluster *c, const char *machine_id, const char *unit);

ClusterUnit *cluster_any_unit(const Cluster *c,
                              const char *name); /* also what only a target, order or state names */
bool cluster_unit_exists(const ClusterUnit *u);  /* it has a unit key, readable or not; 'u' may be NULL */

/* What can be read of neither: the key's kind, or anything that a plan depends on. */
bool cluster_unit_has_unreadable(const ClusterUnit *u, LayoutKind kind);
bool cluster_machine_has_unreadable(const ClusterMachine *m, LayoutKind kind);
bool cluster_unit_is_unreadable(const ClusterUnit *u);       /* any of its keys */
bool cluster_machine_is_unreadable(const ClusterMachine *m); /* its facts, metadata or presence: it keeps what
                                                                it has, and gets nothing */
bool cluster_is_unreadable(const Cluster *c, const char *key, size_t key_size);

/* Put one key's value into the cluster view; other keys are left out. Returns 0; -ENOMEM; or -EBADMSG with a
 * message in 'err': a value that does not parse makes the key unreadable (the value that it had before goes).
 */
int cluster_put(Cluster *c, const char *key, size_t key_size, const void *value, size_t value_size,
                uint64_t created, uint64_t modified, Error *err);
int cluster_remove(Cluster *c, const char *key,
                   size_t key_size); /* a directory's removal removes all below it */

/* Of 'placement', the names or patterns of that rule. */
const Names *cluster_rule(const Placement *placement, ClusterRule rule);
/* The units whose names begin with 'size' bytes: a part of Cluster.by_name. */
ClusterUnit *const *cluster_units_by_prefix(const Cluster *c, const char *start, size_t size, size_t *ret_n);

/* Sorted by name (units) or id (machines); the caller frees the array. NULL without memory. */
ClusterUnit **cluster_units_sorted(const Cluster *c, size_t *ret_n);
ClusterMachine **cluster_machines_sorted(const Cluster *c, size_t *ret_n);

/* fleet's current state of a unit (fleet.md 4.1) on our keys: launched when its machine has the order run and
 * reports a state that the agent was asked to start; and where: the machine of its run or load order (NULL:
 * none; globals: none). */
TargetState cluster_current_state(const Cluster *c, const ClusterUnit *u, const ClusterMachine **ret_machine);
/* In a new lineage: a known host that has not said yet what runs on it. */
bool cluster_awaits_report(const Cluster *c, const ClusterMachine *m);
size_t cluster_load(const ClusterMachine *m);              /* orders run and load */
const char *cluster_machine_name(const ClusterMachine *m); /* what people call it, or its id */
const char *cluster_name_of(const Cluster *c,
                            const char *machine_id); /* the same by id, which is its own name while unknown */

/* The machine says that it has a unit of that name from elsewhere. */
bool cluster_has_conflicting_unit(const ClusterUnit *u, const ClusterMachine *m);

static inline bool cluster_assignment_is_active(const ClusterAssignment *o) {
        return o->kind != ASSIGNMENT_STOP;
}
