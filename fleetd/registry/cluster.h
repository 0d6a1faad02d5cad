/* Cluster view: the units, machines, assignments and states that the keys below /_fleet describe, at one
 * index.
 *
 * Only the registry writes it (cluster_keys.c); the engine, the agent, the directory and the API read it.
 * Plans and answers iterate over sorted arrays, so that their order does not depend on hash tables. */
#pragma once

#include <sys/queue.h>

#include "base/error.h"
#include "base/pace.h"
#include "base/sizes.h"
#include "base/table.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/patterns.h"
#include "io/turn.h"
#include "units/machine.h"
#include "units/name.h"
#include "units/state.h"
#include "units/stored_cluster.h"
#include "units/stored_json.h"
#include "units/stored_inputs.h"
#include "units/stored_reboot.h"
#include "units/stored_rollout.h"
#include "units/unit.h"

typedef struct ClusterUnit ClusterUnit;
typedef struct ClusterMachine ClusterMachine;
typedef struct ClusterOwner ClusterOwner;

/* A key that exists and whose value this fleetd cannot read: a host of another version wrote it, or a fault.
 * It is not absent: no unit is stopped, started, placed or moved because of it. The previous value of the key
 * is not kept. A unit or a machine is unreadable while it has such a key. */
typedef struct ClusterUnreadable {
        LayoutKey key;
        LIST_ENTRY(ClusterUnreadable) of_owner;
} ClusterUnreadable;

typedef LIST_HEAD(ClusterUnreadables, ClusterUnreadable) ClusterUnreadables;

/* The record of a key, by its kind (kinds.h). */
typedef struct KindSlot {
        void *record;   /* owned; NULL: no key, or it is unreadable */
        uint64_t index; /* modified index of the key; 0: the same */
} KindSlot;

/* A slot with its name and type: members of the struct around it. */
#define KIND_MEMBERS(number, name, Type) \
        struct {                         \
                struct Type *name;       \
                uint64_t name##_index;   \
        };

/* How a copy of a host gets an identity of its own. Without a new ID in the file, systemd takes the one that
 * the manager of a container gives it. */
#define CLUSTER_NEW_MACHINE_ID                                                                   \
        "systemctl stop fleetd; rm -r /var/lib/fleet /etc/fleet/fleetd.conf.d/50-cluster.conf; " \
        "systemd-id128 new >/etc/machine-id; reboot"

/* The reason in `why` and in lists. */
#define CLUSTER_UNREADABLE "its key cannot be read by this fleetd: upgrade the host"

/* The assignment of a unit to a machine: /_fleet/machine/ID/unit/NAME. */
/* Resources of the units on a machine. */
typedef struct Sums {
        uint64_t memory_mib, cpu_percent;
        size_t n; /* units with a part in them */
} Sums;

/* Set a part of the sums, which is 0 before it is in them. */
void sums_replace(Sums *sums, Resources *part, Resources next);

typedef struct ClusterAssignment {
        ClusterMachine *machine;
        struct ClusterState *state;            /* of the unit there; NULL: the machine reports none */
        ClusterUnit *of;                       /* entry of the unit; it may have no unit key */
        LIST_ENTRY(ClusterAssignment) of_unit; /* by machine id */
        union {
                Assignment record; /* kind _ASSIGNMENT_INVALID: unreadable; the unit stays on that machine */
                struct {
                        ASSIGNMENT_MEMBERS /* base: the hash, without drop-ins of the instance */
                };
        };
        uint64_t index; /* modified index of this key */
        uint64_t created;
        uint64_t known_ms;       /* cluster time at which this view had it in its present form */
        Resources request, size; /* as the sums of its machine count them */
        UT_hash_handle hh;       /* in ClusterMachine.assignments, by unit */
        char unit[UNIT_NAME_MAX + 1];
} ClusterAssignment;

/* The state of a unit that one machine reports: /_fleet/state/NAME/ID. */
typedef struct ClusterState {
        ClusterMachine *machine;
        ClusterUnit *of;
        LIST_ENTRY(ClusterState) of_unit; /* by machine id */
        uint64_t index;
        UnitState state;
        UT_hash_handle hh; /* in ClusterMachine.states, by unit */
        char unit[UNIT_NAME_MAX + 1];
} ClusterState;

/* A problem of the unit directory of one machine: /_fleet/machine/ID/problem/NAME. */
typedef struct ClusterProblem {
        char unit[UNIT_NAME_MAX + 1];
        Problem problem;
        uint64_t index;
        UT_hash_handle hh; /* in ClusterMachine.problems, by unit */
} ClusterProblem;

typedef enum ClusterList {
        CLUSTER_WAITING, /* target loaded or launched, not global, and without an assignment on a machine that
                            is up and has no conflicting unit */
        CLUSTER_GLOBAL,  /* Global= */
        CLUSTER_RELATED, /* MachineOf=, Conflicts=, Replaces= or Port= */
        CLUSTER_REPLACING,   /* Replaces= */
        CLUSTER_STOPS_FIRST, /* Move=stop-first or Singleton=, to be launched, and active on no machine */
        CLUSTER_ROLLING,     /* a rollout that has not ended */
        CLUSTER_REVERTED,    /* a rollout that has ended, and before it one whose text was abandoned */
        CLUSTER_MOVING,      /* moves to a machine by a request */
        CLUSTER_DATA_MOVED,  /* stays where its data is, and last ran on a machine that the key does not name
                              */
        CLUSTER_DATA_LEFT,   /* does not exist, and its data is on a machine */
        CLUSTER_FORMER,      /* an assignment names a former text, and one that is stored may read keys */
        CLUSTER_SURPLUS,     /* stored revisions that its key does not name (cluster_revision_is_surplus()) */
        _CLUSTER_LIST_MAX,
} ClusterList;

/* The options that name other units, ports or services. */
typedef enum ClusterRule {
        CLUSTER_CONFLICTS,
        CLUSTER_REPLACES,
        CLUSTER_MACHINE_OF,   /* names, no patterns; so the next */
        CLUSTER_TRIGGERS,     /* Unit= of a timer, for example */
        CLUSTER_PORTS,        /* no units, but ports of Port= that only one unit of a machine can have */
        CLUSTER_PUBLISHED,    /* the same of PublishPort= */
        CLUSTER_SERVICES,     /* Service=, or its default */
        CLUSTER_SECRETS,      /* Secret= */
        CLUSTER_PATHS,        /* EnvironmentKeys= and ConfigKeys=: filed by protect.c, without names here */
        CLUSTER_FORMER_PATHS, /* those of stored texts: filed by their units, once for each text */
        _CLUSTER_RULE_MAX,
} ClusterRule;

/* A key with a text that a unit had. Of the text, the view has what protects keys of the store. */
typedef struct ClusterRevision {
        uint64_t number;
        size_t size;                         /* bytes of the value */
        InputPolicy *inputs;                 /* owned; NULL: it reads no keys, or cannot be read */
        LIST_ENTRY(ClusterRevision) of_unit; /* unsorted */
} ClusterRevision;

/* Of several machines, as of a global unit, one that reports a failure decides, then one that is active. */
typedef enum UnitCondition {
        UNIT_NOT_COUNTED, /* it has no unit key */
        UNIT_ACTIVE,
        UNIT_FAILED,
        UNIT_WAITING,
        UNIT_OTHER,
        _UNIT_CONDITION_MAX,
} UnitCondition;

struct ClusterUnit {
        Unit *unit;            /* NULL while only a target, an assignment or a state of that name exists */
        uint64_t index;        /* modified index of the unit key */
        TargetState target;    /* TARGET_INACTIVE without a target key */
        uint64_t target_index; /* 0: no key */
        LIST_HEAD(, ClusterAssignment) assignments; /* by machine id */
        LIST_HEAD(, ClusterState) states;           /* by machine id */
        LIST_HEAD(, ClusterRevision) revisions;     /* except for the wanted one */
        union {
                KindSlot slots[UNIT_SLOTS];
                struct {
                        KINDS_OF_UNITS(KIND_MEMBERS)
                };
        };
        ClusterUnreadables unreadable; /* of its unit, target, assignment and state keys */
        bool sticky;                   /* cluster_unit_is_sticky(), kept */
        LIST_ENTRY(ClusterUnit) lists[_CLUSTER_LIST_MAX];
        bool listed[_CLUSTER_LIST_MAX]; /* is in that list of the cluster view */
        size_t n_active, n_failed;      /* of 'states' */
        UnitCondition condition;        /* as the cluster view counts it */
        ClusterOwner *owner;            /* the machine whose unit directory has its file; NULL: none */
        LIST_ENTRY(ClusterUnit) of_owner;
        UT_hash_handle hh;
        char name[UNIT_NAME_MAX + 1];
};

/* What machines state about themselves, and people select them by. */
typedef enum ClusterClaimKind { CLAIM_NAME, CLAIM_ADDRESS, _CLAIM_MAX } ClusterClaimKind;

/* A host name or an address, and how many machines state it: one of a single machine needs no search for
 * others. */
typedef struct ClusterClaim {
        size_t n;
        ClusterMachine
                *first; /* an ordinary host; among restricted ones, the one whose facts are the oldest */
        LIST_HEAD(, ClusterMachine) machines; /* all of them, unsorted */
        UT_hash_handle hh;
        char text[];
} ClusterClaim;

/* What the cluster view counts of its machines, so that a search costs time only if it finds one. */
typedef enum MachineCount {
        MACHINES_BY_PRESENCE, /* and the next ones, in the order of Presence: those that are not removed */
        MACHINES_SINGLE = MACHINES_BY_PRESENCE + _PRESENCE_MAX, /* with one session only */

        MACHINES_PRESENT,    /* with a presence key, and not left */
        MACHINES_LOST,       /* of these */
        MACHINES_HELD_OFF,   /* by flap damping, until a time which may have passed */
        MACHINES_MAINTAINED, /* with a maintenance record */
        MACHINES_TO_REBOOT,  /* with a record of a planned reboot that has not failed */
        MACHINES_REMOVED,    /* see cluster_machine_is_removed() */
        MACHINES_UNREADABLE, /* with a key that is unreadable */
        MACHINES_RESTRICTED,
        _MACHINES_MAX,
} MachineCount;

/* What a sign of life reads is together. */
struct ClusterMachine {
        UT_hash_handle hh;
        char id[MACHINE_ID_SIZE], short_id[9]; /* its first 8 digits, which every command accepts */
        Presence presence; /* PRESENCE_LOST without a key, PRESENCE_AWAY while the key is unreadable */
        uint64_t presence_index, since_ms;
        ClusterClaim *claims[_CLAIM_MAX]; /* count it; NULL: it states none, or there was no memory */
        LIST_ENTRY(ClusterMachine) of_claim[_CLAIM_MAX];
        union {
                KindSlot slots[MACHINE_SLOTS];
                struct {
                        KINDS_OF_MACHINES(KIND_MEMBERS)
                };
        };
        uint64_t facts_created;
        uint64_t claimed_created; /* as the claims know it, and whether it is restricted */
        bool claimed_restricted;
        uint64_t place_index; /* of the last facts that changed what the scheduler reads of them */
        uint64_t takes_index; /* of those since which it takes finished units: its upgrade */
        Pairs set;            /* metadata set by people; "" hides the pair that the host reports */
        Pairs metadata;       /* effective: 'set', and of an ordinary host its own */
        uint64_t away_ms, losses, lost_ms, hold_off_until_ms; /* see PresenceRecord */
        bool announced;                                       /* as that */
        Verdict verdict; /* of its presence: why it is not up, or its problem */

        MemberRecord member; /* without a member key, its Raft id is 0, and the addresses are empty */

        ClusterAssignment *assignments; /* table by unit */
        ClusterState *states;           /* table by unit */
        ClusterProblem *problems;       /* table by unit */
        ClusterUnreadables unreadable;  /* of its other keys */
        uint64_t reported;              /* the new lineage in which it has reported all that it runs; 0: none;
                                           REPORT_MISSED */
        uint64_t reported_index;
        size_t load;        /* assignments to run or load */
        Sums requested;     /* by all assignments, also those to stop until the agent has removed them */
        Sums sized;         /* by those that 'load' counts */
        size_t n_replacing; /* assignments of units in the list CLUSTER_REPLACING */
        uint16_t counted;   /* in Cluster.counts, by a bit each */
        bool is_member;     /* has a member key: it is in Cluster.members */
        LIST_ENTRY(ClusterMachine) of_members;
        Pace registered; /* its new and changed endpoints (endpoints.h) */
        size_t slot;     /* the scheduler's: place in a SchedulerView of this cluster view */
};

/* An instance of services: /_fleet/endpoint/UNIT/ID. */
typedef struct ClusterEndpoint {
        char unit[UNIT_NAME_MAX + 1];
        char machine[MACHINE_ID_SIZE];
        EndpointRecord record;
        uint64_t index;    /* modified index of the key */
        uint64_t unfit_ms; /* since when it does not fit, for the leader; see registry_end_endpoints() */
} ClusterEndpoint;

/* A service with endpoints; or a machine with them, of which an attached host has no ClusterMachine, under
 * its ID. */
typedef struct ClusterService {
        char name[SERVICE_NAME_MAX + 1];
        ClusterEndpoint **endpoints; /* by machine ID, then by unit; owned, not the endpoints */
        size_t n_endpoints, capacity;
        UT_hash_handle hh;
} ClusterService;

/* The units that one unit directory owns. The machine may have no other key. */
struct ClusterOwner {
        char machine[MACHINE_ID_SIZE];
        LIST_HEAD(, ClusterUnit) units; /* unsorted */
        UT_hash_handle hh;
};

enum { CLUSTER_NAME_SIZE = 72 }; /* of the names in these keys: at most DIGEST_SIZE */

/* A record of the cluster, in a table by the name in its key. */
#define CLUSTER_NAMED(Type)                   \
        {                                     \
                UT_hash_handle hh;            \
                uint64_t index;               \
                char name[CLUSTER_NAME_SIZE]; \
                Type record;                  \
        }

typedef struct ClusterToken CLUSTER_NAMED(TokenRecord) ClusterToken;             /* by its ID */
typedef struct ClusterDenied CLUSTER_NAMED(DeniedRecord) ClusterDenied;          /* by the pin */
typedef struct ClusterPrincipal CLUSTER_NAMED(PrincipalRecord) ClusterPrincipal; /* by the name of the user */
typedef struct ClusterLineage CLUSTER_NAMED(LineageRecord) ClusterLineage;       /* by the lineage */
typedef struct ClusterSecret CLUSTER_NAMED(SecretRecord) ClusterSecret;          /* by its name */

/* The same of any kind. */
typedef struct ClusterNamed {
        UT_hash_handle hh;
        uint64_t index;
        char name[CLUSTER_NAME_SIZE];
        _Alignas(uint64_t) char record[];
} ClusterNamed;

enum { UNIT_BLOCK_MAX = 256 };

/* Units in the order of their names (unit_order.h). {}: no units. */
typedef struct UnitBlock {
        size_t n;
        ClusterUnit *units[UNIT_BLOCK_MAX]; /* borrowed */
} UnitBlock;

typedef struct UnitOrder {
        UnitBlock **blocks; /* owned; none is empty; two neighbours have more units than half a block */
        size_t n, capacity;
} UnitOrder;

/* {}: before the first unit. A change of the order makes a position invalid. */
typedef struct UnitPosition {
        size_t block, at;
} UnitPosition;

/* Its lists begin in it, so that it must not be copied. */
typedef struct Cluster {
        uint64_t index;                    /* of the store */
        uint64_t now_ms;                   /* cluster time of the last access */
        ClusterUnit *units;                /* table by name */
        UnitOrder by_name;                 /* the same, sorted */
        Patterns rules[_CLUSTER_RULE_MAX]; /* the names and patterns in units' options */
        TurnWork filed;                    /* work of keeping these, and claims, for the loop's account */
        ClusterMachine *machines;          /* table by id */
        ClusterClaim *claims[_CLAIM_MAX];  /* tables by text */
        size_t counts[_MACHINES_MAX];      /* machines */
        LIST_HEAD(, ClusterMachine)
        members;              /* machines with a member key, also an unreadable one; unsorted */
        ClusterOwner *owners; /* table by machine */
        LIST_HEAD(, ClusterUnit)
        lists[_CLUSTER_LIST_MAX];               /* units that a change elsewhere may affect; unsorted */
        size_t n_listed[_CLUSTER_LIST_MAX];     /* units in them */
        size_t conditions[_UNIT_CONDITION_MAX]; /* units by condition */
        uint64_t lineage;
        unsigned level; /* feature level, as of the last access; 0: not known */
        ClusterService *services, *servers, *addresses; /* tables by name, by machine ID, and by address */
        bool draining;                                  /* it is being freed */
        bool adopting; /* new lineage, and not all hosts have reported: no unit is started, stopped or moved
                        */
        uint64_t adopting_since_ms; /* cluster time; 0: people have ended the wait */

        union {
                ClusterNamed *tables[CLUSTER_TABLES]; /* by name */
                struct {
                        ClusterToken *tokens;
                        ClusterDenied *denied;
                        ClusterPrincipal *principals;
                        ClusterLineage *lineages;
                        ClusterSecret *secrets;
                };
        };
        union {
                KindSlot slots[CLUSTER_SLOTS];
                struct {
                        KINDS_OF_CLUSTER(KIND_MEMBERS)
                };
        };
        ClusterUnreadables unreadable; /* of the keys of no unit and no machine */
} Cluster;

/* The key below /_fleet/cluster that sets Cluster.adopting; its value is the cluster time at which the
 * lineage began, in digits. */
#define CLUSTER_ADOPTING "adopting"

enum {
        REPORT_MISSED = 1
}; /* the adoption of the lineage ended without the report of the host: ClusterMachine.reported */
enum { LINEAGE_DIGITS = 16 }; /* in hex: JSON's numbers have fewer than 64 bits */

typedef enum RegistryChangeKind {
        CHANGED_ALL,
        CHANGED_UNIT,
        CHANGED_TARGET,
        CHANGED_REVISION,
        CHANGED_ROLLOUT,
        CHANGED_MOVE,
        CHANGED_DATA,
        CHANGED_REPLICAS,
        CHANGED_INPUTS,
        CHANGED_SECRET,
        CHANGED_ASSIGNMENT,
        CHANGED_STATE,
        CHANGED_ENDPOINT,
        CHANGED_MACHINE,
        CHANGED_PRESENCE,
        CHANGED_PROBLEM,
        CHANGED_CLUSTER,
} RegistryChangeKind;

/* A change of the cluster view, for observers: names borrow for the call, and are NULL where the kind has
 * none. */
typedef struct RegistryChange {
        RegistryChangeKind kind;
        const char *unit, *machine;
        uint64_t index;
        bool removed;
        const LayoutKey *key;     /* NULL: several keys */
        const char *former_owner; /* machine whose unit directory owned the unit before; NULL: none, or the
                                     same */
        const char (*former_services)[SERVICE_NAME_MAX + 1]; /* of the endpoint before: SERVICES_MAX names, ""
                                                                after the last one; NULL: it did not exist */
        unsigned groups;                                     /* slice_groups() of the machine before */
} RegistryChange;

/* -- Queries: NULL where there is no such object -- */

ClusterUnit *cluster_unit(const Cluster *c, const char *name);     /* with a unit key that can be read */
ClusterUnit *cluster_any_unit(const Cluster *c, const char *name); /* also without a unit key */
/* Return the template of an instance, with a unit key that can be read, or NULL. */
ClusterUnit *cluster_template(const Cluster *c, const char *instance);
bool cluster_unit_exists(const ClusterUnit *u); /* has a unit key, readable or not; 'u' may be NULL */
/* Return whether the unit itself is to be on machines. The target state of a template is that of its numbered
 * instances. */
bool cluster_unit_is_wanted(const ClusterUnit *u);
/* Return how many numbered instances the template is to have; -1: their number is up to people. */
int cluster_replicas(const ClusterUnit *u);
ClusterMachine *cluster_machine(const Cluster *c, const char *id);
/* Return the machine with the member key of this Raft ID, or NULL. */
const ClusterMachine *cluster_machine_of_member(const Cluster *c, uint64_t raft_id);
ClusterAssignment *cluster_assignment_on(const ClusterMachine *m, const char *unit); /* 'm' may be NULL */
ClusterAssignment *cluster_assignment(const Cluster *c, const char *machine_id,
                                      const char *unit); /* one that can be read */
ClusterState *cluster_state_on(const ClusterMachine *m, const char *unit);
ClusterState *cluster_state(const Cluster *c, const char *machine_id, const char *unit);
ClusterProblem *cluster_problem(const Cluster *c, const char *machine_id, const char *unit);
ClusterOwner *cluster_owner(const Cluster *c, const char *machine_id);
const ClusterEndpoint *cluster_endpoint(const Cluster *c, const char *machine_id, const char *unit);
const ClusterService *cluster_server(const Cluster *c, const char *machine_id); /* not NULL: without any */
const ClusterService *cluster_service(const Cluster *c, const char *name);

ClusterToken *cluster_token(const Cluster *c, const char *id);
/* Return whether others may have the private key of a pin: its host was removed with --compromised. */
bool cluster_is_denied(const Cluster *c, const char *pin);
ClusterPrincipal *cluster_principal(const Cluster *c, const char *name);
ClusterLineage *cluster_lineage(const Cluster *c, const char *lineage); /* 16 hex digits */
ClusterSecret *cluster_secret(const Cluster *c, const char *name);
/* Return the sum of the versions and times of secrets, 0 for one that is not set: it changes whenever one of
 * them is set or removed, and not when it is sealed with another cluster key. */
uint64_t cluster_secrets_sum(const Cluster *c, const Names *secrets);
/* Return the index at which the cluster was recovered or restored, by the record of its lineage; 0: neither.
 */
uint64_t cluster_begun_index(const Cluster *c);
const ClusterSettings *cluster_settings(const Cluster *c); /* never NULL: without a key, all members are 0 */

/* Return whether the settings have the number of voters; if not, Voters= of each host counts. */
static inline bool cluster_decides_voters(const Cluster *c) {
        return c->settings_index > 0 && !cluster_settings(c)->founder;
}

/* A key of the cluster itself: ca/roots, a token, ... */
bool cluster_has_unreadable(const Cluster *c, LayoutKind kind);
bool cluster_unit_has_unreadable(const ClusterUnit *u, LayoutKind kind);
bool cluster_unit_is_unreadable(const ClusterUnit *u); /* any of its keys */
bool cluster_machine_has_unreadable(const ClusterMachine *m, LayoutKind kind);
/* Its facts, metadata or presence: the machine keeps its units and receives no others. */
bool cluster_machine_is_unreadable(const ClusterMachine *m);

/* Return the names or patterns of one option. */
const Names *cluster_rule(const Placement *placement, ClusterRule rule);

/* Return the newest assignment in which the unit is up, or has finished, as it was last published; NULL:
 * none. */
const ClusterAssignment *cluster_unit_up(const ClusterUnit *u);
/* Return whether the unit stops before it starts on another machine. */
static inline bool cluster_unit_stops_first(const ClusterUnit *u) {
        return u->unit && (u->sticky || placement_stops_first(&u->unit->placement));
}

/* Sorted by id; the caller frees the array. NULL without memory. */
ClusterMachine **cluster_machines_sorted(const Cluster *c, size_t *ret_n);
/* The same of the problems of a machine, by unit. */
const ClusterProblem **cluster_problems_sorted(const ClusterMachine *m, size_t *ret_n);
/* The same of the machines with a member key only: few of many hosts. */
ClusterMachine **cluster_members_sorted(const Cluster *c, size_t *ret_n);

/* Return the number of units with a key that can be read. */
size_t cluster_n_units(const Cluster *c);

/* Return fleet's current state of a unit: launched if its machine has the assignment to run it and reports a
 * state. *ret_machine is the machine of its assignment to run or load; NULL for none, and for global units.
 * A removed machine counts only for a unit that has finished there.
 *
 * Source: fleet's job states (job/job.go). */
TargetState cluster_current_state(const Cluster *c, const ClusterUnit *u, const ClusterMachine **ret_machine);
/* Return whether the new lineage still waits for this host: for its report, or after it until a host that was
 * lost counts as up. Its units would move while it is about to return. */
bool cluster_awaits_report(const Cluster *c, const ClusterMachine *m);

enum { CLUSTER_LABEL_SIZE = HOST_NAME_SIZE + 12 };

/* A restricted host: what it states about itself grants nothing. Of its metadata, those of its token and of
 * people count; its name and address count if they are not those of another machine. */
bool cluster_machine_is_restricted(const ClusterMachine *m);
/* Return what the machine states: the host name or address of its facts, or without facts the host name of
 * its member key; NULL: nothing. */
const char *cluster_machine_claim(const ClusterMachine *m, ClusterClaimKind kind);
/* The name of a machine: the host name that it states; NULL: it states none. That of a restricted host does
 * not count (NULL) if it looks like an ID, or if another machine has it: an ordinary host, or a restricted
 * one that stated it first. All messages and answers name machines by these functions. */
const char *cluster_machine_hostname(const ClusterMachine *m);
const char *cluster_machine_address(
        const ClusterMachine *m); /* the same; NULL also if an ordinary host has it */
const char *cluster_machine_name(const ClusterMachine *m); /* without a host name, the begin of its id */
const char *cluster_name_of(const Cluster *c,
                            const char *machine_id); /* the same; an unknown id is its own name */
/* Return the name of a machine beside others: in 'buffer' with the begin of its id, if another machine has
 * the same name. A host that was installed again keeps it; of the two, the replaced one is the exception. */
const char *cluster_machine_label(const ClusterMachine *m, char buffer[static CLUSTER_LABEL_SIZE]);
/* Return whether neither presence nor facts of the machine exist: people have removed it, or it starts for
 * the first time. What is left of a removed machine (assignments, finished units, its member key) serves its
 * return only. */
bool cluster_machine_is_removed(const ClusterMachine *m);

/* The reason in the tombstone of a host that has left by "fleetctl leave"; of others, it is their presence.
 */
#define CLUSTER_REMOVED_LEAVE       "leave"
#define CLUSTER_REMOVED_COMPROMISED "compromised"
/* MaintenanceRecord.purpose of a host that is to leave the cluster. */
#define CLUSTER_FOR_LEAVE "leave"
/* The same of a host that shuts down (registry/shutdown.h), or that is to reboot (features/reboot/reboot.h).
 */
#define CLUSTER_FOR_SHUTDOWN "shutdown"
#define CLUSTER_FOR_REBOOT   "reboot"

/* Return whether the machine is to leave the cluster. It gets no units, and its ordinary units move away. */
bool cluster_machine_is_leaving(const ClusterMachine *m);
/* Return whether, in addition, no ordinary unit is left on it: it gives up its vote, and its global units. */
bool cluster_machine_is_drained(const ClusterMachine *m);
/* Return whether the host of the machine has announced its shutdown. Its units move away at once. */
bool cluster_machine_is_stopping(const ClusterMachine *m);
/* Return whether it was shut down, or was lost after its host had announced that it stops. That is no loss
 * for a unit with Move=no. */
bool cluster_machine_has_stopped(const ClusterMachine *m);
/* Return whether it goes down for a planned reboot, or has not finished its return: neither queued nor being
 * drained, and its reboot has not failed. No request cancels it. */
bool cluster_machine_is_rebooting(const ClusterMachine *m);
/* Return whether it is drained, or was by an operator before its host announced a shutdown or reboot. */
bool cluster_machine_was_drained(const ClusterMachine *m);
/* Return whether ordinary units move away from the machine, or wait for another one; also for a leave. */
bool cluster_machine_is_draining(const ClusterMachine *m);
/* Return whether the deadline of its drain has passed at this cluster time: the ordinary units that are left
 * stop. */
bool cluster_machine_is_overdue(const ClusterMachine *m, uint64_t now_ms);
/* Return whether the machine has left: its state is of no use for the cluster any more. */
bool cluster_machine_has_left(const ClusterMachine *m);

/* Return the machine that has replaced one that is lost or has left: it is up, with a replica, at its peer
 * address. Addresses are unique, so that the old one cannot return there. NULL: none. */
const ClusterMachine *cluster_machine_successor(const ClusterMachine *gone);

/* The machine reports a conflicting unit of that name. */
bool cluster_has_conflicting_unit(const ClusterUnit *u, const ClusterMachine *m);

static inline bool cluster_assignment_is_active(const ClusterAssignment *a) {
        return a->kind != ASSIGNMENT_STOP;
}

/* Return whether it names a former text of the unit, or of its template. */
static inline bool cluster_assignment_has_former_text(const ClusterAssignment *a) {
        return a->of->unit && a->revision > 0 && !streq(a->hash, a->of->unit->hash);
}

/* Return whether the unit got this machine after that of 'b'. A target state of "launched" gives all
 * assignments of a unit one time. */
static inline bool cluster_assignment_is_newer(const ClusterAssignment *a, const ClusterAssignment *b) {
        return a->since_ms != b->since_ms ? a->since_ms > b->since_ms : a->created > b->created;
}

/* Return whether a unit on a machine is one of the cluster, and none of the machine's own. 'm' may be NULL.
 */
bool cluster_has_unit_on(const Cluster *cluster, const ClusterMachine *m, const char *unit);
/* Return the machine of a unit's assignment, else one that reports a state of it; NULL: none. */
const ClusterMachine *cluster_unit_machine(const Cluster *cluster, const char *unit);
/* Return the health of a unit for people; NULL: none. "unknown": its machine is not up. */
const char *cluster_state_health(const ClusterState *state);
