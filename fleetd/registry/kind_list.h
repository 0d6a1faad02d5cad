/* The kinds of keys below /_fleet, a line each: its number, LAYOUT_NAME; its name, of which the descriptor is
 * kind_NAME (kinds.h); and the type of its record. The list that has the line says where the cluster view
 * keeps the record: by default as a member NAME, with the index of the key, NAME_index. */
#pragma once

/* One record of a unit: members of ClusterUnit. */
#define KINDS_OF_UNITS(X)                            \
        X(LAYOUT_ROLLOUT, rollout, RolloutRecord)    \
        X(LAYOUT_MOVE, move, MoveRecord)             \
        X(LAYOUT_DATA, data, DataRecord)             \
        X(LAYOUT_REPLICAS, replicas, ReplicasRecord) \
        X(LAYOUT_INPUTS, inputs, InputsRecord)

/* One record of a machine: members of ClusterMachine. */
#define KINDS_OF_MACHINES(X)                                  \
        X(LAYOUT_FACTS, facts, Machine)                       \
        X(LAYOUT_MAINTENANCE, maintenance, MaintenanceRecord) \
        X(LAYOUT_REBOOT, reboot, RebootRecord)                \
        X(LAYOUT_HOST, host, HostRecord)                      \
        X(LAYOUT_REMOVED, removed, RemovedRecord)

/* One record of the cluster: members of Cluster. */
#define KINDS_OF_CLUSTER(X)                            \
        X(LAYOUT_CA_ROOTS, ca_roots, CaRoots)          \
        X(LAYOUT_CA_KEY, ca_keys, CaKeys)              \
        X(LAYOUT_CA_ROTATION, ca_rotation, CaRotation) \
        X(LAYOUT_SETTINGS, settings, ClusterSettings)

/* Records of the cluster by the name in the key: Cluster.tables. */
#define KINDS_BY_NAME(X)                                \
        X(LAYOUT_TOKEN, token, TokenRecord)             \
        X(LAYOUT_DENIED, denied, DeniedRecord)          \
        X(LAYOUT_PRINCIPAL, principal, PrincipalRecord) \
        X(LAYOUT_LINEAGE, lineage, LineageRecord)       \
        X(LAYOUT_SECRET, secret, SecretRecord)

/* Of the view itself, by functions of the kind. The last one matches many names. */
#define KINDS_OF_VIEW(X)                 \
        X(LAYOUT_UNIT, unit)             \
        X(LAYOUT_TARGET, target)         \
        X(LAYOUT_REVISION, revision)     \
        X(LAYOUT_PRESENCE, presence)     \
        X(LAYOUT_METADATA, metadata)     \
        X(LAYOUT_ASSIGNMENT, assignment) \
        X(LAYOUT_PROBLEM, problem)       \
        X(LAYOUT_REPORTED, reported)     \
        X(LAYOUT_STATE, state)           \
        X(LAYOUT_ENDPOINT, endpoint)     \
        X(LAYOUT_MEMBER, member)         \
        X(LAYOUT_CLUSTER, cluster)

#define KINDS(X)             \
        KINDS_OF_UNITS(X)    \
        KINDS_OF_MACHINES(X) \
        KINDS_OF_CLUSTER(X)  \
        KINDS_BY_NAME(X)     \
        KINDS_OF_VIEW(X)

#define KIND_NUMBER(number, ...) number,
#define KIND_COUNT(number, ...)  +1

enum {
        UNIT_SLOTS = 0 KINDS_OF_UNITS(KIND_COUNT),
        MACHINE_SLOTS = 0 KINDS_OF_MACHINES(KIND_COUNT),
        CLUSTER_SLOTS = 0 KINDS_OF_CLUSTER(KIND_COUNT),
        CLUSTER_TABLES = 0 KINDS_BY_NAME(KIND_COUNT),
};

typedef enum LayoutKind {
        _LAYOUT_OTHER = -1,
        KINDS(KIND_NUMBER) /* */
        _LAYOUT_MAX,

        /* The first kinds of these lists; that of units is 0. */
        KIND_FIRST_OF_MACHINES = UNIT_SLOTS,
        KIND_FIRST_OF_CLUSTER = KIND_FIRST_OF_MACHINES + MACHINE_SLOTS,
        KIND_FIRST_BY_NAME = KIND_FIRST_OF_CLUSTER + CLUSTER_SLOTS,
        KIND_FIRST_OF_VIEW = KIND_FIRST_BY_NAME + CLUSTER_TABLES,
} LayoutKind;
