/* The values of membership and security below /_fleet, as JSON: hosts and their public keys, tokens, rights
 * of users, the cluster's CA, settings, former lineages. Written from KV_LEVEL_IDENTITY on.
 *
 * As in units/stored_json.h: writers append to a Text, readers copy, ignore unknown members, and fail
 * (-EBADMSG with a message) only if the value has no meaning. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "base/sizes.h"
#include "base/text.h"
#include "units/json_record.h"
#include "units/lists.h"
#include "units/service.h"

enum {
        DIGEST_SIZE = 65,     /* SHA-256 as 64 lower-case hex digits */
        PINS_MAX = 2,         /* of one host or user: the current key, and the next one until it was used */
        SERIAL_SIZE = 33,     /* of a certificate: 128 bits in hex */
        HOST_TOKEN_SIZE = 13, /* ID of a token: 48 bits in hex */
        LINEAGE_SIZE = HEX64_SIZE,
        NETWORK_SIZE = 64,       /* "ADDRESS/BITS" */
        RECORDED_BY_SIZE = 80,   /* the user who requested a change */
        RECORDED_WHY_SIZE = 128, /* a reason for people */
        PRINCIPAL_NAME_MAX = 64, /* bytes of the name of a user */
        PRINCIPAL_RIGHTS_MAX = 16,
        PRINCIPAL_PREFIX_SIZE = 256,
        PREFIXES_SIZE = 256,   /* of all prefixes of a restricted host, as one text */
        PRINCIPALS_MAX = 1000, /* users of a cluster */
        CA_ROOTS_MAX = 4,
        CA_PEM_MAX = 4096,    /* bytes of one root */
        CA_SEALED_MAX = 1024, /* bytes of one sealed private key */
        TOKEN_USES_MAX = 10000,
        CLUSTER_NAME_MAX = 64, /* bytes */
        SPREAD_KEY_MAX = 128,  /* bytes: METADATA_KEY_MAX */
        VOTERS_MAX = 5,
        MAINTENANCE_FOR_SIZE = 16,
};

/* 64 lower-case hex digits. */
bool digest_is_valid(const char *s);
/* 12 lower-case hex digits. */
bool token_id_is_valid(const char *s);
/* 1 to PRINCIPAL_NAME_MAX bytes of a-z 0-9 . _ - that begin with a letter or digit. */
bool principal_name_is_valid(const char *s);

/* SHA-256 of the public keys of one host or user. */
typedef struct Pins {
        char items[PINS_MAX][DIGEST_SIZE];
        size_t n;
} Pins;

bool pins_have(const Pins *pins, const char *pin);

/* /_fleet/cluster/host/ID: {"expires","joined","pins":[],"restricted","serial","start","token","write"} */
typedef struct HostRecord {
        uint64_t expires_ms; /* wall clock: end of its last certificate; 0: none was issued */
        uint64_t joined_ms;  /* wall clock */
        Pins pins;           /* at least one */
        bool restricted;
        char serial[SERIAL_SIZE];    /* of its last certificate; "": none */
        uint64_t start_number;       /* of the last start of its daemon that the cluster has recorded */
        char token[HOST_TOKEN_SIZE]; /* with which it joined; "": without one */
        char write[PREFIXES_SIZE];   /* of a restricted host: "/PREFIX,...", below which it writes users' keys
                                      */
} HostRecord;

STORED(host, HostRecord)

/* /_fleet/cluster/removed/ID: {"by","index","pin","pin2","reason","since"}: the tombstone of a host */
typedef struct RemovedRecord {
        char by[RECORDED_BY_SIZE];
        uint64_t index;         /* of the store, when the removal was planned */
        char pin[DIGEST_SIZE];  /* ""; or the first one of the removed host */
        char pin2[DIGEST_SIZE]; /* "", as of former versions; or its second one, of a change of its key */
        char how[RECORDED_WHY_SIZE]; /* CLUSTER_REMOVED_*, or the presence; the member "reason" */
        uint64_t since_ms;           /* wall clock */
} RemovedRecord;

STORED(removed, RemovedRecord)

/* A public key that is not accepted again, because others may have the private one. */
typedef struct DeniedRecord {
        char machine[MACHINE_ID_SIZE]; /* whose key it was */
        uint64_t since_ms;             /* wall clock, of the removal */
} DeniedRecord;

enum { DENIED_MAX = 10000 }; /* of a cluster; of more, the oldest one is deleted */

STORED(denied, DeniedRecord)

/* /_fleet/cluster/token/ID:
 * {"by","expires","from","hash","metadata":{},"replace","restricted","revoked","root","total","uses",
 * "write"}. The hosts that have joined with it name it in their own keys. */
typedef struct TokenRecord {
        char by[RECORDED_BY_SIZE];
        uint64_t expires_ms;           /* wall clock; the key lives longer, so that its end can be reported */
        char from[NETWORK_SIZE];       /* the network of the joining host; "": any */
        char hash[DIGEST_SIZE];        /* SHA-256 of the secret */
        Pairs metadata;                /* of the host that joins */
        char replace[MACHINE_ID_SIZE]; /* the one machine that it is for, and that may have another key; "":
                                          any machine that is unknown */
        bool restricted, revoked;
        char root[DIGEST_SIZE];    /* whose ID its text contains; it ends with this root */
        uint64_t total;            /* uses when it was created: 1 to TOKEN_USES_MAX */
        uint64_t uses;             /* left */
        char write[PREFIXES_SIZE]; /* as in HostRecord */
} TokenRecord;

STORED(token, TokenRecord)

/* A right of a user, in units and keys; below a prefix if it is one of keys. */
typedef enum GrantedRight {
        GRANT_KEYS_READ,
        GRANT_KEYS_WRITE,
        GRANT_UNITS_SEE,
        GRANT_UNITS_CHANGE,
        GRANT_ADMINISTER,
        _GRANT_MAX,
        _GRANT_INVALID = -EINVAL,
} GrantedRight;

ENUM_NAMES(granted_right, GrantedRight, _GRANT_MAX)

typedef struct PrincipalRight {
        GrantedRight right;
        char prefix[PRINCIPAL_PREFIX_SIZE]; /* a key; "": all, or the right is not one of keys */
} PrincipalRight;

/* /_fleet/cluster/principal/NAME: {"expires","pins":[],"rights":[{"prefix","right"}]} */
typedef struct PrincipalRecord {
        uint64_t expires_ms; /* wall clock: end of its last certificate; 0: unknown */
        Pins pins;           /* none: revoked */
        PrincipalRight rights[PRINCIPAL_RIGHTS_MAX];
        size_t n_rights;
} PrincipalRecord;

STORED(principal, PrincipalRecord)

typedef enum CaRootState {
        CA_ROOT_CURRENT, /* signs */
        CA_ROOT_NEXT,    /* of a rotation: distributed, and does not sign yet */
        CA_ROOT_FORMER,  /* of a rotation: its certificates are still valid */
        _CA_ROOT_MAX,
        _CA_ROOT_INVALID = -EINVAL,
} CaRootState;

ENUM_NAMES(ca_root_state, CaRootState, _CA_ROOT_MAX)

typedef struct CaRoot {
        char id[DIGEST_SIZE]; /* SHA-256 of its public key */
        char *pem;            /* owned */
        CaRootState state;
} CaRoot;

/* /_fleet/cluster/ca/roots: {"roots":[{"id","pem","state"}]}; exactly one is current */
typedef struct CaRoots {
        CaRoot items[CA_ROOTS_MAX];
        size_t n;
} CaRoots;

const CaRoot *ca_roots_current(const CaRoots *roots); /* NULL: there is no root */
STORED(ca_roots, CaRoots)

typedef struct CaKey {
        char root[DIGEST_SIZE]; /* the root that it signs for */
        uint64_t cluster_key;   /* number of the cluster key that sealed it */
        char *sealed;           /* owned; in base64 */
} CaKey;

/* /_fleet/cluster/ca/key: {"keys":[{"clusterKey","root","sealed"}]} */
typedef struct CaKeys {
        CaKey items[CA_ROOTS_MAX];
        size_t n;
} CaKeys;

const CaKey *ca_keys_find(const CaKeys *keys, const char *root); /* NULL: none */
STORED(ca_keys, CaKeys)

typedef enum CaRotationState {
        CA_ROTATION_BEGIN, /* requested; the leader makes the next root */
        CA_ROTATION_REKEY, /* requested; members store another cluster key; if the keys are compromised, a new
                              root follows */
        CA_ROTATION_DISTRIBUTE, /* hosts store the next root */
        CA_ROTATION_ISSUE,      /* the next root signs; hosts renew */
        _CA_ROTATION_MAX,
        _CA_ROTATION_INVALID = -EINVAL,
} CaRotationState;

ENUM_NAMES(ca_rotation_state, CaRotationState, _CA_ROTATION_MAX)

/* /_fleet/cluster/ca/rotation: {"compromised","since","state"}; absent: no rotation, and no change of the
 * cluster key */
typedef struct CaRotation {
        bool compromised;  /* the former root ends an hour after the begin at the latest */
        uint64_t since_ms; /* wall clock: begin of this state */
        CaRotationState state;
} CaRotation;

STORED(ca_rotation, CaRotation)

typedef enum PeerAuth {
        PEER_AUTH_ANY,         /* the key file of the cluster, or certificates */
        PEER_AUTH_CERTIFICATE, /* certificates only */
        _PEER_AUTH_MAX,
        _PEER_AUTH_INVALID = -EINVAL,
} PeerAuth;

ENUM_NAMES(peer_auth, PeerAuth, _PEER_AUTH_MAX)

/* /_fleet/cluster/settings: {"founder","name","peerAuth","restricted","singletonLease","spread","sticky",
 * "voters"} */
typedef struct ClusterSettings {
        char name[CLUSTER_NAME_MAX + 1]; /* "": none */
        PeerAuth peer_auth;
        bool founder;    /* nothing but 'sticky' is set, by the founder: Voters= of each host counts */
        bool restricted; /* tokens are of restricted hosts, unless requested otherwise */
        uint64_t singleton_lease_ms;     /* 0: the default */
        char spread[SPREAD_KEY_MAX + 1]; /* key of machine metadata; "": none */
        bool sticky, not_sticky; /* units with data stay there without Sticky=, or not; neither: the member is
                                    absent, as in clusters of former versions */
        uint64_t voters;         /* 1, 3 or 5; 0: automatic */
} ClusterSettings;

STORED(settings, ClusterSettings)

typedef enum LineageKind {
        LINEAGE_RECOVERED,
        LINEAGE_RESTORED,
        _LINEAGE_KIND_MAX,
        _LINEAGE_KIND_INVALID = -EINVAL,
} LineageKind;

ENUM_NAMES(lineage_kind, LineageKind, _LINEAGE_KIND_MAX)

/* /_fleet/cluster/lineage/N: {"ancestor","by","index","kind","machine"}; N: the lineage that began */
typedef struct LineageRecord {
        char ancestor[LINEAGE_SIZE];
        uint64_t index; /* the last one of the ancestor that it has */
        LineageKind kind;
        char machine[MACHINE_ID_SIZE]; /* on which it began */
        char by[RECORDED_BY_SIZE];
} LineageRecord;

STORED(lineage, LineageRecord)

typedef enum MaintenanceMode {
        MAINTENANCE_CORDONED, /* receives no other units */
        MAINTENANCE_DRAINING, /* its units move away, too */
        MAINTENANCE_DRAINED,
        _MAINTENANCE_MODE_MAX,
        _MAINTENANCE_MODE_INVALID = -EINVAL,
} MaintenanceMode;

ENUM_NAMES(maintenance_mode, MaintenanceMode, _MAINTENANCE_MODE_MAX)

/* /_fleet/machine/ID/maintenance: {"before","by","deadline","for","force","mode","since","why"} */
typedef struct MaintenanceRecord {
        char before[MAINTENANCE_FOR_SIZE]; /* mode of the operator's record that this one replaces, and that
                                              continues later; "": there was none. Not below KV_LEVEL_UPDATES.
                                            */
        char by[RECORDED_BY_SIZE];
        uint64_t deadline_ms; /* cluster time after which the units that are left stop; 0: none */
        bool force;           /* units with Move=no move, too */
        char purpose[MAINTENANCE_FOR_SIZE]; /* "for": "leave", ...; "": an operator's cordon or drain */
        MaintenanceMode mode;
        uint64_t since_ms; /* wall clock */
        char why[RECORDED_WHY_SIZE];
} MaintenanceRecord;

STORED(maintenance, MaintenanceRecord)

/* /_fleet/move/UNIT: {"by","since","to","withData"}: the unit is to run on that machine. Until it does, or
 * the move ends otherwise. Written from KV_LEVEL_UPDATES on. */
typedef struct MoveRecord {
        char by[RECORDED_BY_SIZE];
        uint64_t since_ms; /* wall clock */
        char to[MACHINE_ID_SIZE];
        bool force; /* also away from its data */
} MoveRecord;

STORED(move, MoveRecord)

/* /_fleet/data/UNIT: {"machine","since"}: the machine on which a unit last ran that stays where its data is;
 * of the name of the unit, so that it outlives unit and machine. Written from KV_LEVEL_SCHEDULING on. */
typedef struct DataRecord {
        char machine[MACHINE_ID_SIZE];
        uint64_t since_ms; /* cluster time at which it was recorded */
} DataRecord;

STORED(data, DataRecord)

/* /_fleet/replicas/TEMPLATE: {"by","count","file","since","slots"}: how many numbered instances of the
 * template the engine manages. Written from KV_LEVEL_SCHEDULING on. */
typedef struct ReplicasRecord {
        bool is_scaled;            /* "count" exists: people have set the number */
        char by[RECORDED_BY_SIZE]; /* of a scaled number, as the next three */
        uint64_t count;
        uint64_t file; /* Replicas= of the text then: the number counts only while the text has the same */
        uint64_t since_ms; /* wall clock */
        uint64_t slots;    /* highest number that the engine has managed and not removed */
} ReplicasRecord;

STORED(replicas, ReplicasRecord)

/* /_fleet/endpoint/UNIT/ID: {"address","name","ports":[{"name","port","protocol"}],"services":[],"zone"}: an
 * instance of services that clients may use. Written from KV_LEVEL_SERVICES on. */
typedef struct EndpointRecord {
        char address[ENDPOINT_ADDRESS_SIZE]; /* numeric */
        char *name;                          /* of the machine */
        ServicePort *ports;                  /* owned; 'container' is not stored */
        size_t n_ports;
        char services[SERVICES_MAX][SERVICE_NAME_MAX + 1]; /* at least one; "" for the others */
        size_t n_services;
        char *zone; /* owned; metadata of the machine; NULL: none */
} EndpointRecord;

STORED(endpoint, EndpointRecord)
extern const JsonList endpoint_services;
