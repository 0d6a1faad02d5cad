/* The registry: fleet's nouns as keys; the meeting place of all rooms.
 *
 * It keeps a Cluster current from one watch of /_fleet and tells rooms that it changed; and it is the only
 * one that writes there, by transactions whose checks are the indexes that were planned on. Writes answer by
 * 'done', once, later. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "base/sizes.h"
#include "kvstore/kvstore.h"
#include "units/name.h"

typedef struct Registry Registry;

/* What changed, for listeners: names borrowed for the call, NULL when it does not apply. */
typedef struct RegistryChange {
        enum {
                CHANGED_ALL,
                CHANGED_UNIT,
                CHANGED_TARGET,
                CHANGED_ASSIGNMENT,
                CHANGED_STATE,
                CHANGED_MACHINE,
                CHANGED_PRESENCE,
                CHANGED_PROBLEM,
                CHANGED_CLUSTER
        } kind;
        const char *unit, *machine;
        uint64_t index;
        bool removed;
} RegistryChange;

typedef struct RegistryListener {
        void (*on_change)(void *userdata,
                          const RegistryChange *change); /* marks dirty; must not write the registry */
        void *userdata;
        struct RegistryListener *next; /* the registry's */
} RegistryListener;

int registry_new(Registry **ret, Loop *loop, KvStore *store, const char *machine_id);
Registry *registry_free(Registry *r);
void registry_listen(Registry *r, RegistryListener *listener);
void registry_unlisten(Registry *r, RegistryListener *listener);
void registry_reset(Registry *r);                   /* the store's on_reset: read all anew */
const Cluster *registry_cluster(const Registry *r); /* current; valid until the loop goes on */
bool registry_ready(const Registry *r);             /* the picture is whole, and the tree has a lineage */
bool registry_is_current(const Registry *r);        /* whole, and no change of the tree is still to be told */
KvStore *registry_store(const Registry *r);

/* 'status' KV_OK, KV_COMPARE_FAILED (somebody was faster: look again), KV_NO_LEADER, KV_UNKNOWN...; sentence
 * for people. */
typedef void (*RegistryDone)(void *userdata, KvStatus status, const char *sentence, uint64_t index);
/* No 'done' with this userdata comes any more; what was asked may still happen. For whoever ends before his
 * answer. */
void registry_forget(Registry *r, const void *userdata);

typedef struct RegistryCounts {
        uint64_t done, failed; /* transactions, since the daemon's start */
} RegistryCounts;

const RegistryCounts *registry_counts(const Registry *r);

/* -- units.c: what people and the directory ask -- */

typedef struct UnitChange {
        const Unit *unit; /* new or replacing text; NULL: only the target changes */
        const char *name; /* when unit is NULL */
        bool has_target;
        TargetState target;
        bool remove;              /* destroy: unit and target keys go; the engine turns orders into stop */
        bool only_if_absent;      /* refuse when the unit exists (KV_EXISTS) */
        uint64_t expected_index;  /* of the unit key; 0: whatever it is */
        bool has_expected_target; /* refuse when the target is another one than 'expected_target' */
        TargetState expected_target;
} UnitChange;

/* All or nothing. One check and one owner rule for API and directory. */
int registry_change_units(Registry *r, const UnitChange *changes, size_t n, RegistryDone done,
                          void *userdata);

typedef struct ProblemChange {
        const char *machine, *name;
        const Problem *problem;  /* borrowed; NULL: the key goes */
        uint64_t expected_index; /* of the problem's key; 0: whatever it is */
} ProblemChange;

/* The same with what a unit directory says about them, or people say to it. */
int registry_change_directory(Registry *r, const UnitChange *changes, size_t n, const ProblemChange *problems,
                              size_t n_problems, RegistryDone done, void *userdata);

/* Metadata that people give a machine, known or not; "" takes away what it says of itself under that key. */
typedef struct MetadataChange {
        const char *machine, *key, *value; /* borrowed for the call */
} MetadataChange;

/* In order, all or nothing. */
int registry_set_metadata(Registry *r, const MetadataChange *changes, size_t n, RegistryDone done,
                          void *userdata);

/* -- schedule.c: the engine's -- */

typedef struct AssignmentChange {
        char machine[MACHINE_ID_SIZE], unit[UNIT_NAME_MAX + 1];
        AssignmentKind kind;     /* what the key becomes */
        bool remove;             /* or: the key goes */
        uint64_t expected_index; /* of the order's key; 0: absent */
        uint64_t unit_index; /* of the unit key it was planned on; 0: the unit must be absent (orders to stop
                                only) */
        uint64_t presence_index; /* of the machine's presence key; 0: not checked (orders to stop) */
        uint64_t since_ms;       /* cluster time; of an order that is rewritten in place: the one it had */
        char reason[256];
} AssignmentChange;

/* One transaction valid in 'term' only. Never asked again. */
int registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n, RegistryDone done,
                    void *userdata);
/* Within 'done': the change that did not hold any more, so that the transaction was rejected; NULL: it was
 * not one of them. */
const AssignmentChange *registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                    size_t n);

/* -- states.c: the agent's -- */

typedef struct StateChange {
        char unit[UNIT_NAME_MAX + 1];
        UnitState state;
        bool remove; /* the state key goes */
        bool obeyed; /* the order to stop was obeyed: its key goes too, if its index is 'order_index' */
        uint64_t order_index;
} StateChange;

int registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done, void *userdata);
int registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata);

/* -- machines.c: membership's, on the leader -- */

typedef struct PresenceChange {
        char machine[MACHINE_ID_SIZE];
        Presence presence;
        uint64_t expected_index;
        char reason[128];
} PresenceChange;

int registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n, RegistryDone done,
                      void *userdata);

/* Gives a machine a Raft id and a member key: 'done' with KV_OK, and the id in *ret_id, which must live until
 * then. An old member key of that machine is replaced (its Raft id is never used again). */
int registry_admit(Registry *r, const char *machine_id, const char *peer_address, uint64_t *ret_id,
                   RegistryDone done, void *userdata);
/* Puts on record with which start number and nonce the daemon of that member runs, so that an old image of it
 * is told (rule 16). Of 'member' count id, Raft id, address and start. */
int registry_member_started(Registry *r, const ClusterMachine *member, RegistryDone done, void *userdata);
/* -- adoption.c: the beginning of a new lineage, while Cluster.adopting is set -- */

/* This host has told all that runs on it. KV_COMPARE_FAILED: nobody asks any more. */
int registry_report(Registry *r, RegistryDone done, void *userdata);
/* People say that hosts which have not reported will not. KV_COMPARE_FAILED: there is nothing to end. */
int registry_adopt_now(Registry *r, RegistryDone done, void *userdata);
/* The engine's: its orders say what is to be. */
int registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata);

/* -- level.c: the feature level (kvstore/command.h) -- */

/* The highest that each host knows which the cluster knows of, away and lost ones too; 'own' is this
 * program's. Of who has not said what it knows, the first is assumed. *ret_behind (may be NULL): one that
 * knows no more than that, borrowed; NULL if that is because 'own' is no higher. Pure. */
unsigned cluster_level(const Cluster *c, unsigned own, const ClusterMachine **ret_behind);
/* What was noted, and since when it is so (cluster time). -ENOENT: nothing. */
int registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms);
int registry_note_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms, RegistryDone done,
                        void *userdata);

int registry_forget_member(Registry *r, const char *machine_id, RegistryDone done, void *userdata);
