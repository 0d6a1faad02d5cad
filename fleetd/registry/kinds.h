/* The kinds of keys below /_fleet, one row each: decoding, and effect on the cluster view.
 *
 * cluster_keys.c puts and removes values by this table, and registry.c reports changes by it. A new kind of
 * key is one row here, and one path in layout.c. */
#pragma once

#include "fleetd/registry/cluster.h"

/* The entries of the cluster view that a key is about: those that its row names, NULL for the others. The
 * first one, or for none the cluster view, owns the key: it holds the key's value, or that the value is
 * unreadable. */
typedef struct KindEntries {
        ClusterUnit *unit;
        ClusterMachine *machine;
} KindEntries;

/* A decoded value: the member of its kind. */
typedef struct KindValue {
        uint64_t created, modified; /* indexes of the key */
        size_t size;                /* bytes of the value; of a revision */
        Unit *unit;
        TargetState target;
        Machine *facts;
        char metadata[METADATA_VALUE_MAX + 1];
        PresenceRecord presence;
        uint64_t reported;
        Assignment assignment;
        Problem problem;
        UnitState state;
        MemberRecord member;
        uint64_t adopting_since_ms;
        void *record; /* owned; of the kinds in cluster_kinds.c: what the kind's decode() has read */
        void (*record_free)(void *record);
} KindValue;

/* Free what apply() has not taken. */
void kind_value_done(KindValue *v);

/* Receives each key that an enumeration finds; a non-zero result ends the enumeration. */
typedef int KindFound(void *userdata, LayoutKind kind, const char *unit, const char *machine);

/* The entries of the cluster view that a key is about. */
enum { OF_UNIT = 1 << 0, OF_MACHINE = 1 << 1, NAMES_UNIT = 1 << 2 /* without its entry */ };

/* The machines whose slice has a key (fleetd/registry/slice.h). */
typedef enum KindSlice {
        SLICE_NONE,    /* no machine */
        SLICE_ALL,     /* all machines */
        SLICE_MACHINE, /* the machine in the key */
        SLICE_MEMBER,  /* the same; all machines if that machine has a replica */
        SLICE_PLACE,   /* the same, except restricted machines: what their places are compared by */
        SLICE_UNIT,    /* machines with an assignment of the unit, and the one whose unit directory owns it */
        SLICE_USERS,   /* machines that accept users with certificates, unless they are restricted */
        SLICE_NAMED,   /* all machines, for the names that slice.c lists */
} KindSlice;

typedef struct Kind {
        RegistryChangeKind change; /* for observers */
        KindSlice slice;
        unsigned of;    /* OF_UNIT, OF_MACHINE, NAMES_UNIT */
        size_t present; /* offset in the owner of a uint64_t that is not 0 while the key exists */

        int (*decode)(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err);
        int (*apply)(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);
        int (*clear)(Cluster *c, const KindEntries *e, const LayoutKey *k); /* NULL: apply zeros */
        /* Enumerates the owner's keys; NULL: it has one at most, see 'present'. */
        int (*each)(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);
        /* Sets what stands for a value that cannot be decoded; 0 or -ENOMEM. NULL: nothing does. */
        int (*unreadable)(KindValue *ret);
} Kind;

extern const Kind kinds[_LAYOUT_MAX];

/* -- cluster_kinds.c: membership and security -- */

#define KIND_FUNCTIONS(prefix)                                                                         \
        int kind_##prefix##_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err);     \
        int kind_##prefix##_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v); \
        int kind_##prefix##_clear(Cluster *c, const KindEntries *e, const LayoutKey *k);

#define KIND_TABLE_FUNCTIONS(prefix) \
        KIND_FUNCTIONS(prefix)       \
        int kind_##prefix##_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);

KIND_FUNCTIONS(host)
/* Apply a host key; without 'restricted', the metadata that the machine states count. */
int kind_host_merge(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);
/* Return the metadata that the machine states, if they count; NULL: none. */
const Pairs *kind_metadata_own(const ClusterMachine *m);
/* Merge these with the pairs that people set. */
int kind_metadata_merge(ClusterMachine *m);
KIND_FUNCTIONS(removed)
KIND_FUNCTIONS(maintenance)
int kind_maintenance_unreadable(KindValue *ret);
KIND_FUNCTIONS(reboot)
KIND_FUNCTIONS(move)
KIND_FUNCTIONS(ca_roots)
KIND_FUNCTIONS(ca_keys)
KIND_FUNCTIONS(ca_rotation)
KIND_FUNCTIONS(settings)
KIND_TABLE_FUNCTIONS(token)
KIND_TABLE_FUNCTIONS(denied)
KIND_TABLE_FUNCTIONS(principal)
KIND_TABLE_FUNCTIONS(lineage)

/* -- cluster_revisions.c: texts that units had -- */

KIND_TABLE_FUNCTIONS(revision)
void cluster_revisions_free(ClusterUnit *u);

KIND_FUNCTIONS(rollout)

/* Free the values that these kinds have put into a unit, into a machine, or into the cluster view. */
void cluster_kinds_done_unit(ClusterUnit *u);
void cluster_kinds_done_machine(ClusterMachine *m);
void cluster_kinds_done(Cluster *c);

/* Enumerate the keys of one owner, those of the cluster for no entry, and then those that are unreadable.
 * Return 0, or the first non-zero result of 'found'. */
int kinds_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);
/* The same for the keys of one kind that can be read, if the owner has keys of that kind. */
int kinds_each_of(LayoutKind kind, const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);

/* Return the change that observers see when the key changes; it borrows 'k' and its names. */
RegistryChange kinds_change(const LayoutKey *k, uint64_t index, bool removed);

/* Bring the lists of the cluster view up to date after any change of the unit. */
void cluster_update_lists(Cluster *c, ClusterUnit *u);

/* Take the unit from the list of its owner, if it has one. */
void cluster_owner_remove(Cluster *c, ClusterUnit *u);

/* Unlink from unit and machine, and free. */
void cluster_assignment_free(ClusterAssignment *a);
void cluster_state_free(ClusterState *s);
void cluster_problem_free(ClusterMachine *m, ClusterProblem *p);
void cluster_facts_free(Machine *facts); /* NULL is allowed */

/* Insert an assignment or a state into a list of its unit, which is sorted by machine id. */
#define CLUSTER_LIST_INSERT(head, element)                                          \
        do {                                                                        \
                typeof(element) _after = NULL, _at = LIST_FIRST(head);              \
                for (; _at && strcmp(_at->machine->id, (element)->machine->id) < 0; \
                     _at = LIST_NEXT(_at, of_unit))                                 \
                        _after = _at;                                               \
                if (_after)                                                         \
                        LIST_INSERT_AFTER(_after, (element), of_unit);              \
                else                                                                \
                        LIST_INSERT_HEAD((head), (element), of_unit);               \
        } while (0)
