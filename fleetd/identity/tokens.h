/* Tokens, and the decision about a host that joins with one.
 *
 * Pure: the results depend on the arguments only. A caller writes them with the indexes of the keys on which
 * they were decided, so that each host with the cluster key may decide: of two decisions about one use, one
 * is rejected by the store. */
#pragma once

#include "fleetd/registry/cluster.h"

enum {
        TOKENS_MAX = 1000,             /* of the cluster */
        TOKEN_WRONG_SECRETS_MAX = 100, /* then it is revoked */
};

#define TOKEN_TTL_DEFAULT_MS (UINT64_C(3600) * 1000)
#define TOKEN_TTL_MIN_MS     (UINT64_C(60) * 1000)
#define TOKEN_TTL_MAX_MS     (UINT64_C(7) * 86400 * 1000)
/* The key lives on for this time after the end of its token: a late host is told the cause. */
#define TOKEN_KEPT_MS (UINT64_C(86400) * 1000)

/* A network "ADDRESS/BITS" of IPv4 or IPv6. */
typedef struct IpNetwork {
        int family;
        unsigned bits;
        uint8_t bytes[16];
} IpNetwork;

/* Parse a network; an address without bits is a network of one. -EINVAL with a message. */
int ip_network_parse(const char *text, IpNetwork *ret, Error *err);
/* Return whether an address "ADDR:PORT" or "[ADDR6]:PORT" is in the network; IPv4 may be mapped into IPv6. */
bool ip_network_has(const IpNetwork *network, const char *address);

/* The request of a token. Strings are borrowed; NULL counts as "". */
typedef struct TokenRequest {
        uint64_t uses;             /* 0: 1 */
        uint64_t ttl_ms;           /* 0: the default */
        bool restricted, ordinary; /* neither: as the replaced machine, or by the settings */
        unsigned level;            /* the feature level in force */
        const char *write;         /* of a restricted host: prefixes of users' keys; "": none */
        const char *replace;       /* a machine: its ID, 8 digits of it or more, or its name; "": none */
        const char *from;          /* a network; "": any */
        const Pairs *metadata;     /* for the host that joins; NULL: none */
        const char *by;            /* the user */
} TokenRequest;

/* Check a request, and write the record of the token, without the hash of a secret. The caller frees it by
 * token_record_done(). Errors with a message:
 *   -EINVAL   an invalid member
 *   -EPERM    a restricted host is to replace one that holds a replica
 *   -ENOENT   no such machine
 *   -ENOTUNIQ several machines have that name
 *   -ENOSPC   TOKENS_MAX */
int token_plan(const Cluster *c, const TokenRequest *request, uint64_t now_ms, TokenRecord *ret, Error *err);

/* A host that requests to join. Strings are borrowed. */
typedef struct JoiningHost {
        const char *machine_id, *name;
        const char *address;     /* of its connection, "ADDR:PORT"; "": unknown */
        const char *pin;         /* of the key that signed its certificate request */
        const char *token;       /* ID */
        const char *secret_hash; /* SHA-256 of the secret */
        unsigned level;          /* the highest feature level that it supports */
        bool exposed;            /* the token was an argument of a command */
} JoiningHost;

typedef struct JoinDecision {
        HostRecord host; /* without serial and expiry of a certificate */
        const ClusterToken
                *token; /* of which a use is spent, borrowed; NULL: a repetition of a former join */
} JoinDecision;

/* Decide about a host. 'level': the feature level in force; 'replicas': how many hosts the
 * cluster may have below KV_LEVEL_ATTACHED.
 * A host that the cluster has with the same key has joined already: it needs no token. Errors with a message
 * for the host, with the next step:
 *   -EKEYREJECTED   the secret is wrong: count it
 *   -EEXIST         the cluster has this machine ID with another key: report it
 *   -EACCES         rejected for another reason */
int join_decide(const Cluster *c, const JoiningHost *host, unsigned level, size_t replicas, uint64_t now_ms,
                JoinDecision *ret, Error *err);

/* A host of the cluster that requests a certificate. Strings are borrowed. */
typedef struct RenewingHost {
        const char *machine_id;
        const char *pin;      /* of the key that signed its certificate request */
        const char *used_pin; /* of the key by which it is authenticated; "": none */
        const Pins *before;   /* those of the host when its request was received */
} RenewingHost;

/* Decide which keys of a host are valid, the newest one first: 'pins' has the present ones, and receives the
 * result. With a valid key, a host can request another one. Both are valid until the host has used the other
 * one.
 * A host can store its newest key at any time, and an answer can be lost. So only a request with the newest
 * key adds another one or ends the former one. A request with the former key makes that the newest one again:
 * the host may be restored. A request that was received before the newest key was recorded changes nothing.
 * Pure. Errors with a message:
 *   -EKEYREJECTED   the request is for no key of the host
 *   -EBUSY          not with these keys: the host repeats the request */
int renewal_decide(const RenewingHost *host, Pins *pins, Error *err);
