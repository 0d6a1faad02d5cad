/* A kind of keys below /_fleet: its path, its value, who may write it, and its effect on the cluster view.
 *
 * Each kind has one descriptor, in the file of its object (registry/objects/, or the folder of a feature),
 * and one line in kind_list.h. All other code asks the descriptor. Descriptors are pure: tests link them
 * without a store. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "fleetd/registry/rights.h"
#include "kvstore/kvstore.h"
#include "units/json_record.h"

/* The entries of the cluster view that a key is about: those that its kind names, NULL for the others. The
 * first one, or for none the cluster view, owns the key: it holds the key's value, or that the value is
 * unreadable. */
typedef struct KindEntries {
        ClusterUnit *unit;
        ClusterMachine *machine;
} KindEntries;

/* A decoded value. */
typedef struct KindValue {
        LayoutKind kind;
        uint64_t created, modified; /* indexes of the key */
        size_t size;                /* bytes of the value */
        void *record; /* owned; by the kind: a struct of Kind.record, a text (char *), or what 'decode'
                         returns */
} KindValue;

/* Receives each key that an enumeration finds; a non-zero result ends the enumeration. */
typedef int KindFound(void *userdata, LayoutKind kind, const char *unit, const char *machine);

/* The entries of the cluster view that a key is about. */
enum {
        OF_UNIT = 1 << 0,
        OF_MACHINE = 1 << 1,
        NAMES_UNIT = 1 << 2,    /* without its entry */
        OF_CLUSTER = 1 << 3,    /* of neither */
        NAMES_MACHINE = 1 << 4, /* without its entry */
};

/* The machines whose slice has a key (fleetd/registry/slice.h). */
typedef enum KindSlice {
        SLICE_NONE = 1, /* no machine */
        SLICE_ALL,      /* all machines */
        SLICE_MACHINE,  /* the machine in the key */
        SLICE_MEMBER,   /* the same; all machines if that machine has a replica */
        SLICE_PLACE,    /* the same, except restricted machines: what their places are compared by */
        SLICE_UNIT,  /* machines with an assignment of the unit, and the one whose unit directory owns it */
        SLICE_USERS, /* machines that accept users with certificates, unless they are restricted */
        SLICE_SERVICES, /* all machines; a restricted one, if it is the machine in the key */
        SLICE_NAMED,    /* all machines, for CLUSTER_ADOPTING */
} KindSlice;

/* The rights that suffice for a write by another host than the leader; RIGHT_NONE: it has to have another one
 * of them. */
typedef struct KindRights {
        Right own_set, own_remove; /* of a key of that machine */
        Right set;                 /* of any key; suffices also to remove it */
        Right remove;
        bool leader; /* none: the leader alone writes it */
        /* Return whether a host with RIGHT_REPORT or RIGHT_LEAVE may change the record of its own machine in
         * this way; NULL: there was none, or it is removed. */
        bool (*own_change)(Right right, const void *was, const void *is);
        unsigned reports; /* KvReport, as bits: what a host reports by its own key; 0: nothing */
} KindRights;

/* When the key of a machine is deleted after the machine is removed. */
enum {
        REMOVAL_KEEPS = 1 << 0,      /* never */
        REMOVAL_ITSELF = 1 << 1,     /* by the removal itself (machines.c) */
        REMOVAL_OF_MACHINE = 1 << 2, /* with it */
        REMOVAL_OF_HOST = 1 << 3, /* the same if the host cannot return without a token, else with the last */
        REMOVAL_OF_REPORTS = 1 << 4,    /* after it, in several steps */
        REMOVAL_OF_TOMBSTONE = 1 << 5,  /* when the removal is forgotten */
        REMOVAL_OF_UNREADABLE = 1 << 6, /* also a value that cannot be read: nothing depends on it */
};

/* A new lineage: a cluster that was recovered or restored on one host. */
typedef struct NewLineage {
        const char *machine_id; /* the host */
        bool is_restored;       /* from a backup */
} NewLineage;

/* Return whether a key of the former lineage is dropped. */
typedef bool KindEnds(const NewLineage *lineage, const LayoutKey *k, KvBytes value);
KindEnds kind_stays, kind_ends; /* never; always */

typedef struct Kind {
        /* Below /_fleet: "machine/%m/reboot". %u stands for LayoutKey.unit, %m and %n for LayoutKey.machine:
         * a machine ID, or the number of a revision. */
        const char *path;
        const char *event;         /* the name of its changes in events with details */
        RegistryChangeKind change; /* the same in other events, and for observers */
        unsigned of;               /* OF_UNIT, ... */
        unsigned level;            /* KV_LEVEL_*, from which on it is written (transaction_send()) */
        KindSlice slice;
        KindRights rights;
        unsigned on_removal; /* REMOVAL_* */
        KindEnds *in_new_lineage;

        /* The value: one of three. 'decode' sets *ret, which 'free' frees, or leaves it NULL. */
        const JsonRecord *record;
        int (*text)(const LayoutKey *k, const char *text, size_t size, Error *err); /* checks a text */
        int (*decode)(const LayoutKey *k, KvBytes bytes, void **ret, Error *err);
        void (*free)(void *value);
        const JsonField *shown; /* its members in events with details; NULL: none */
        size_t n_shown;

        /* The effect. By default, the owner of the key holds the record. */
        bool (*name_is_valid)(const char *name); /* of KINDS_BY_NAME; a key with another name is unreadable */
        /* After a record has replaced another one, or none; NULL: the record alone counts. 0 or -ENOMEM. */
        int (*applied)(Cluster *c, const KindEntries *e, const void *was, const KindValue *is);
        /* Set in 'record', which is zero, what stands for a value that cannot be read; NULL: nothing does. */
        void (*unreadable)(void *record);
        /* Of KINDS_OF_VIEW instead of the default. clear() NULL: apply() of zeros. */
        int (*apply)(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);
        int (*clear)(Cluster *c, const KindEntries *e, const LayoutKey *k);
        /* Enumerates the owner's keys; NULL: it has one at most, while the uint64_t at offset 'present' of
         * the owner is not 0. */
        int (*each)(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);
        size_t present;
} Kind;

/* Define the descriptor kind_NAME: the first members, up to the fate in a new lineage, in their order; then
 * others by name. */
#define KIND(name, ...)                  const Kind kind_##name = { __VA_ARGS__ }

#define KIND_DECLARED(number, name, ...) extern const Kind kind_##name;
KINDS(KIND_DECLARED)

extern const Kind *const kinds[_LAYOUT_MAX];

/* Check a table of descriptors, which has the places of kinds[]: -EINVAL and a message that names each kind
 * with a missing member, and two kinds with one path. */
int kinds_check(const Kind *const table[static _LAYOUT_MAX], Error *err);

/* Decode a value. 0, -EBADMSG with a message, or -ENOMEM. kind_value_done() frees what apply() has not taken.
 */
int kind_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err);
void kind_value_done(KindValue *v);

/* The effect of a key that has a value, none, or one that cannot be read. 0 or -ENOMEM. */
int kind_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);
int kind_clear(Cluster *c, const KindEntries *e, const LayoutKey *k);
int kind_apply_unreadable(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);

/* Return the record that the owner holds, with its index; NULL: the kind has no slot. */
const KindSlot *kind_slot(const Cluster *c, const KindEntries *e, LayoutKind kind);

/* Enumerate the keys of one owner, those of the cluster for no entry, and then those that are unreadable.
 * Return 0, or the first non-zero result of 'found'. */
int kinds_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);
/* The same for the keys of one kind that can be read, if the owner has keys of that kind. */
int kinds_each_of(LayoutKind kind, const Cluster *c, const KindEntries *e, KindFound *found, void *userdata);

/* Return the change that observers see when the key changes; it borrows 'k' and its names. */
RegistryChange kinds_change(const LayoutKey *k, uint64_t index, bool removed);

/* Free the records in the slots of a unit, of a machine, and of the cluster with its tables. */
void kinds_done_unit(ClusterUnit *u);
void kinds_done_machine(ClusterMachine *m);
void kinds_done(Cluster *c);
