/* The kinds of keys below /_fleet, one row each: layout, decoding, and effect on the cluster view.
 *
 * layout.c builds and parses keys by this table, cluster.c puts and removes values by it, and registry.c
 * reports changes by it. A new kind of key is one row, and one value of LayoutKind. */
#pragma once

#include "fleetd/registry/cluster.h"

/* The entries of the cluster view that a key is about: those that its row names, NULL for the others. The
 * first one owns the key: it holds the key's value, or that the value is unreadable. */
typedef struct KindEntries {
        ClusterUnit *unit;
        ClusterMachine *machine;
} KindEntries;

/* A decoded value. */
typedef struct KindValue {
        uint64_t created, modified; /* indexes of the key */
        union {
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
        };
} KindValue;

/* Receives the names in each key that an enumeration finds; a non-zero result ends the enumeration. */
typedef struct KindVisit {
        int (*found)(void *userdata, LayoutKind kind, const char *unit, const char *machine);
        void *userdata;
        LayoutKind kind;
} KindVisit;

/* The entries of the cluster view that a key is about. */
enum { OF_UNIT = 1 << 0, OF_MACHINE = 1 << 1 };

typedef struct Kind {
        const char *path;          /* below /_fleet/ */
        RegistryChangeKind change; /* for observers */
        unsigned of;               /* OF_UNIT, OF_MACHINE */

        void (*done)(KindValue *v); /* frees what apply() has not taken; NULL: nothing */
        int (*decode)(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err);
        int (*apply)(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v);
        int (*clear)(Cluster *c, const KindEntries *e, const LayoutKey *k);
        int (*each)(const Cluster *c, const KindEntries *e, const KindVisit *visit); /* of the owner's keys */
        void (*unreadable)(KindValue *ret); /* stands for a value that cannot be decoded; NULL: none */
} Kind;

extern const Kind kinds[_LAYOUT_MAX];

/* Enumerate the keys of one owner, those of the cluster for no entry, and then those that are unreadable.
 * Return 0, or the first non-zero result of 'found'. */
int kinds_each(const Cluster *c, const KindEntries *e,
               int (*found)(void *userdata, LayoutKind kind, const char *unit, const char *machine),
               void *userdata);

/* Return the change that observers see when the key changes; names borrow from 'k'. */
RegistryChange kinds_change(const LayoutKey *k, uint64_t index, bool removed);
