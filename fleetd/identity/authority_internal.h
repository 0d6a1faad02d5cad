/* The parts of Authority, above all authority.c: authority_tokens.c, authority_hosts.c (joining hosts,
 * certificates), authority_users.c, securing.c, authority_listener.c, authority_rotation.c,
 * authority_rekey.c; below them authority_ca.c, authority_op.c and key_distribution.c (the cluster key). */
#pragma once

#include <sys/queue.h>

#include "base/pace.h"
#include "fleetd/identity/authority.h"
#include "fleetd/identity/key_store.h"
#include "units/named.h"

enum {
        AUTHORITY_MS = 9000, /* for one request, all steps together: less than a client waits for an answer */
        AUTHORITY_SECURE_MS = 9000, /* AUTHORITY_SECURE: each host replaces one session per second */
        AUTHORITY_RETRY_MS = 50,    /* after a key has changed meanwhile */
        AUTHORITY_ISSUED_SEC = 100, /* certificates per second */
        AUTHORITY_OPS_MAX = 256,    /* requests under way, */
        AUTHORITY_OPS_HOSTS = 224,  /* and of them those of other hosts */
        AUTHORITY_RENEWALS_SEC = 1, /* of one host; the next number at once */
        AUTHORITY_RENEWALS_BURST = 5,
        KEYS_ERROR_MAX = 77, /* bytes of an error: a heartbeat holds the message about it */
};

enum { CA_WANTED_PROTOCOL = 1 };

typedef enum AuthorityOpKind {
        AUTHORITY_TOKEN,
        AUTHORITY_SECURE, /* certificates are required from now on */
        AUTHORITY_ENROLL, /* of this host */
        AUTHORITY_JOIN,   /* of a host with a token */
        AUTHORITY_RENEW,  /* of a host of the cluster */
        AUTHORITY_USER,
        AUTHORITY_KEY, /* this member can seal with the cluster key */
} AuthorityOpKind;

/* A request under way: it waits for the CA, for the registry, or for another attempt. */
typedef struct AuthorityOp {
        Authority *authority;
        AuthorityOpKind kind;
        uint64_t deadline_ms;
        Timer retry;
        bool writing; /* the registry, or the store, will answer */
        /* Of requests of other hosts: the view of this host had all that was committed when the request came.
         * A former view may lack the token, or the host. */
        KvSync sync;
        bool syncing, current;

        AuthorityDone *done; /* NULL: a request of another host */
        void *userdata;

        /* AUTHORITY_TOKEN */
        TokenRecord record;
        Token token; /* wiped at the end */

        /* AUTHORITY_SECURE; 'by' of the record is the user */
        bool force;

        /* Others: the host, as it names itself, and its request. */
        EnterRequest request;                              /* of ENROLL and RENEW only the csr */
        char machine[MACHINE_ID_SIZE], name[TLS_URI_SIZE]; /* the name is for people */
        char remote[ADDRESS_SIZE], pin[DIGEST_SIZE], secret_hash[DIGEST_SIZE];
        char used_pin[DIGEST_SIZE]; /* of a renewal: by which the host is authenticated; "": by the key file
                                     */
        Pins pins;                  /* of a renewal: those of the host when the request was received */
        uint64_t session;           /* number of the session to answer on; 0: 'done' */
        HostRecord host;            /* being written */
        uint8_t serial[TLS_SERIAL_BYTES];
        uint64_t issued_ms; /* wall clock: begin of the life of the certificate */
        uint64_t lifetime_ms;

        /* AUTHORITY_USER; 'name' is that of the user. */
        RightList *rights; /* NULL: those that it has */
        bool replace;
        char by[PRINCIPAL_TEXT_SIZE]; /* who requested it */
        char user[RECORDED_BY_SIZE];  /* the same for the history, of AUTHORITY_USER */

        LIST_ENTRY(AuthorityOp) ops;
} AuthorityOp;

typedef struct AuthorityOpType {
        bool needs_ca;                 /* it is created first if the cluster has none */
        void (*step)(AuthorityOp *op); /* NULL: nothing else is to be done */
        void (*refuse)(AuthorityOp *op, int error, const char *message); /* NULL: requests of this host */
} AuthorityOpType;

/* key_distribution.c */
typedef struct KeyDistribution {
        Named *holders; /* KeyHolder: members that have confirmed a key to this leader */
        uint64_t term;  /* in which they have */
        /* Of the change of the cluster key for which this leader has made a key. */
        uint64_t next_term, next_index;
        uint64_t next_number;             /* of the last key that this host has made; 0: none, or it failed */
        uint64_t checked_index, check_ms; /* key of the CA that was checked; time of the next check */
        uint64_t transfer_ms;             /* no transfer of the leadership before */
        uint64_t refused_ms;              /* no message about a key that cannot be stored before */
        bool opening;                     /* the file of the key is being opened */
        bool warned;                      /* 'problem' was logged as a warning */
        Verdict problem;                  /* why this host cannot use the key */
} KeyDistribution;

/* Of a host without a replica: its request for the certificate of its listener. */
typedef struct ListenerRequest {
        TlsPrivateKey *key; /* NULL: there is none */
        uint64_t until_ms;  /* for an answer */
        char *certificate;  /* the answer: PEM */
        char refusal[ERROR_MESSAGE_MAX];
} ListenerRequest;

struct Authority {
        const ComponentHost *host; /* borrowed, as the next six */
        Loop *loop;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        const char *machine_id, *state_directory;
        RegistryObserver observer;
        Deferred update;
        const AuthorityOpType *types; /* by AuthorityOpKind */
        const char *changing;         /* the transaction of keys of the CA that is under way; NULL: none */
        uint64_t wanted_until_ms;     /* another host waits for the CA; 0: none */
        Pace issues;
        uint64_t rejection_noted_ms; /* the last rejection in the history */
        Named *wrong;                /* WrongSecrets, by ID of the token */
        Named *renewing;             /* RenewalPace, by machine ID */
        ListenerRequest listener;
        KeyDistribution keys;
        KeyStore *key_store;
        bool failure_logged;         /* of a change of keys */
        uint64_t keys_deleted_below; /* the first cluster key in use at the last deletion of former ones */
        LIST_HEAD(, AuthorityOp) operations;
};

/* authority_op.c */
/* Return whether one more certificate may be issued now, and count it. */
bool authority_may_issue(Authority *a);
/* Return a new operation in the list, or NULL: too many, or no memory. */
AuthorityOp *authority_op_new(Authority *a, AuthorityOpKind kind);
/* The same for a request of this host. -ENOMEM. */
int authority_op_begin(Authority *a, AuthorityOpKind kind, AuthorityDone *done, void *userdata,
                       AuthorityOp **ret, Error *err);
void authority_op_free(AuthorityOp *op);
/* Report a failure, and end the operation. */
void authority_op_fail(AuthorityOp *op, int error, const char *message);
/* Report the result of a request of this host, and end the operation. */
void authority_op_end(AuthorityOp *op, const AuthorityResult *result);
/* Try again soon: a key on which the decision depends has changed. */
void authority_op_again(AuthorityOp *op);
/* The result of a write. False: the operation tries again, or has ended. */
bool authority_op_written(AuthorityOp *op, KvStatus status, const char *message);

/* authority_ca.c */
/* Return 0 if the cluster has a CA; otherwise create it, or let the leader create it. -EAGAIN: not yet. */
int authority_need_ca(Authority *a, Error *err);
/* Make the root of a new private key: its PEM, and the key sealed. */
int authority_make_root(Authority *a, const KvState *state, const ClusterKey *key, CaRoot *ret_root,
                        CaKey *ret_key, Error *err);
/* The result of a transaction that creates or changes the keys of the CA. */
void authority_on_changed(void *userdata, KvStatus status, const char *message, uint64_t index);
/* Append the addresses of the replicas, this host's first. Return their number. */
size_t authority_endpoints(const Authority *a, char (*ret)[ADDRESS_SIZE], size_t max);
void authority_append_roots(const Authority *a, Text *ret); /* as PEM */
/* Set the answer with a certificate. It borrows from 'certificate' and 'roots', which the caller frees. */
void authority_answer_of(const Authority *a, const Text *certificate, Text *roots, EnterAnswer *ret);

/* Steps decide and write; they are called again after authority_op_again(). */
void authority_token_step(AuthorityOp *op); /* authority_tokens.c */
void authority_user_step(AuthorityOp *op);  /* authority_users.c */
void authority_secure_step(
        AuthorityOp *op);                  /* securing.c: write the setting when no host needs the key file */
void authority_host_step(AuthorityOp *op); /* authority_hosts.c */
void authority_host_refuse(AuthorityOp *op, int error,
                           const char *message); /* send the failure to the host */

/* authority_listener.c */
void authority_listener_init(Authority *a);
void authority_listener_done(Authority *a);

/* authority_rotation.c */
/* On the leader: take the next step of a rotation if it is due. */
void authority_rotation_tick(Authority *a, const KvState *state);

/* authority_rekey.c */
/* Return the IDs of tokens whose root is none of these, borrowed. The caller frees the array; NULL without
 * memory. */
const char **authority_ended_tokens(const Cluster *c, const CaRoots *roots, size_t *ret_n);
/* On the leader: continue a change of the cluster key. */
void authority_rekey_tick(Authority *a, const KvState *state);
/* Request a change from the leader: CA_ROTATION_BEGIN or CA_ROTATION_REKEY. As authority_rotate(). */
int authority_request(Authority *a, CaRotationState first, const char *user, RegistryDone done,
                      void *userdata, Error *err);
/* Log the first of several failures to continue a change of keys; 0 ends them. */
void authority_log_failure(Authority *a, int error, const char *action, const Error *err);
/* On the leader: continue to seal again what components have sealed with former cluster keys. */
void authority_reseal(Authority *a);
/* Delete the cluster keys of this host that nothing in the tree is sealed with any longer. */
void authority_delete_keys(Authority *a);

/* authority_hosts.c */
void authority_hosts_init(Authority *a);
void authority_hosts_done(Authority *a);
/* Sign the certificate of what has been written, and answer: the result of a write. */
void authority_on_recorded(void *userdata, KvStatus status, const char *message, uint64_t index);
int authority_read_csr(AuthorityOp *op, Error *err);

/* key_distribution.c */
int keys_init(Authority *a); /* 0 or -ENOMEM */
void keys_done(Authority *a);
/* Make the cluster key that follows 'present' (0: none), and store it on this host. It replaces no file.
 * -EAGAIN: it is being sealed; its number is keys.next_number. */
int keys_make(Authority *a, uint64_t present, ClusterKey *ret, Error *err);
/* Send key 'number' to all members that have not confirmed it. Return 0 when all have that are no standbys,
 * without 'absent' those of them that are up; -EAGAIN: not yet, 'err' names one; -ENOENT: this host does not
 * have the key. */
int keys_distribute(Authority *a, const KvState *state, uint64_t number, bool absent, Error *err);
/* Forget what members have confirmed to another leader. */
void keys_begin_term(Authority *a, uint64_t term);
/* Check now and then whether this member can open the private key of the CA. */
void keys_check(Authority *a, const KvState *state);
/* Return 0, or 'code' with 'what' and why this host cannot use the cluster key. */
int keys_check_problem(const Authority *a, int code, const char *what, Error *err);
/* On a leader without the cluster key: let a voter lead that has it. */
void keys_transfer(Authority *a, const KvState *state);
/* Return whether another CA is to replace that of the tree: all members report that the cluster key is
 * missing, and it cannot be expected to return. */
bool keys_are_lost(const Authority *a, const KvState *state);
/* The context with which the private key of a root is sealed. */
enum { CA_CONTEXT_SIZE = 128 };
void keys_ca_context(uint64_t cluster_id, const char *root, char ret[static CA_CONTEXT_SIZE]);
/* Seal the private key of a root. The caller frees ret->sealed. */
int keys_seal_ca(Authority *a, const char *root, const TlsPrivateKey *private_key, const ClusterKey *key,
                 CaKey *ret, Error *err);
/* Open the private key of the root that signs. -ENOENT: this host does not have the cluster key. */
int keys_open_ca(Authority *a, const CaRoot *root, TlsPrivateKey **ret, Error *err);
