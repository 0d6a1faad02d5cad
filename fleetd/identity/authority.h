/* The authority of the cluster: its CA, the cluster key, tokens, and certificates of hosts.
 *
 * The first token creates the CA: the leader makes the cluster key, each member stores it and confirms, then
 * one transaction writes the root and its private key, which is sealed with the cluster key. From then on
 * each member decides and signs: a transaction names the indexes of all keys on which it was decided, so that
 * the tree, not the place, decides which of two requests gets the last use of a token. The private key is
 * opened for each signature, and wiped. */
#pragma once

#include "fleetd/identity/cluster_key.h"
#include "fleetd/identity/enter_message.h"
#include "fleetd/host/component.h"
#include "fleetd/identity/tokens.h"
#include "io/tls_credentials.h"
#include "fleetd/registry/policy.h"
#include "fleetd/registry/registry.h"

typedef struct Authority Authority;

/* 'host' is borrowed, with its settings. */
int authority_new(Authority **ret, const ComponentHost *host);
Authority *authority_free(Authority *a); /* NULL allowed; returns NULL */
/* Twice a second: distribute the cluster key while this host leads, and end what has waited too long. */
void authority_tick(Authority *a);

/* Set why this member cannot use the cluster key, or cannot seal it; VERDICT_NONE: it can, or needs none.
 * A key that is missing comes from the leader. A leader without it transfers the leadership to a voter that
 * has it. If no member has it, the leader replaces the CA, with a key of its own. */
void authority_problem(const Authority *a, Verdict *ret);
/* On the leader, once per tick: what the heartbeat of a member says about that member. */
void authority_member_problem(Authority *a, const char *machine_id, const Verdict *problem);

/* Return whether the member may get a replica: the cluster has no cluster key, or that host has confirmed to
 * this leader that it stores the key. */
bool authority_may_add(const Authority *a, const char *machine_id);

typedef struct AuthorityResult {
        const char *id, *text; /* of a token; the text contains the secret */
        uint64_t expires_ms;   /* wall clock */
        uint64_t uses;
        const EnterAnswer *answer; /* with a certificate */
} AuthorityResult;

/* 'error' is 0, or a negative errno with a message for people; then 'result' is NULL. 'result' is borrowed
 * for the call; NULL if there is nothing but success. */
typedef void AuthorityDone(void *userdata, int error, const char *message, const AuthorityResult *result);

/* Create a token, and the CA if the cluster has none. 'done' is called once, from the loop, at the latest
 * after 10 s, unless authority_cancel() is called, or this fails. Errors with a message:
 *   -EINVAL, -ENOENT, -ENOTUNIQ, -ENOSPC   as token_plan()
 *   -EOPNOTSUPP      the feature level does not include tokens
 *   -EADDRNOTAVAIL   no host of the cluster has a peer listener
 *   -EAGAIN          no leader, or a member has not confirmed the cluster key
 *   -ENOMEM, -EIO */
int authority_create_token(Authority *a, const TokenRequest *request, AuthorityDone *done, void *userdata,
                           Error *err);

/* Return whether this host is about to listen for other hosts: a restored one waits for its certificate, or
 * has not published its address yet. A token has the addresses of hosts that listen. */
bool authority_is_opening(const Authority *a);

/* Revoke a token; 'user' for the history. 'done': the result of the write. -ENOENT: there is no token of that
 * ID. -EALREADY: it was revoked before. */
int authority_revoke_token(Authority *a, const char *id, const char *user, RegistryDone done, void *userdata,
                           Error *err);

/* Begin a rotation of the CA: a new root, which hosts store, which then signs, and which at last is the only
 * one. 'user' for the history. 'done': the result of the write; the leader does the rest. -ENOKEY: there is
 * no CA. -EALREADY: a rotation, or a change of the cluster key, is under way. 'compromised': as
 * authority_compromised(). */
int authority_rotate(Authority *a, bool compromised, const char *user, RegistryDone done, void *userdata,
                     Error *err);

/* Begin a change of the cluster key: each member stores the next one, then the private keys of the CA are
 * sealed with it, and the former one is deleted. Arguments and errors as for authority_rotate(). */
int authority_rekey(Authority *a, const char *user, RegistryDone done, void *userdata, Error *err);

/* Another party may have the keys of the cluster: end all tokens at once, change the cluster key, then rotate
 * the CA, whose former root ends within an hour, also if hosts have no new certificate yet. A change that is
 * under way begins again. 'remove': in the same transaction, remove the host that had these keys, also if the
 * cluster has no CA; NULL: none. Errors as for authority_rotate(), and of registry_remove_machine(). */
int authority_compromised(Authority *a, const ClusterMachine *remove, const char *user, RegistryDone done,
                          void *userdata, Error *err);
/* Create the CA, with a cluster key, if the cluster has none; 'done' is called when this member can seal with
 * the cluster key. 'done' and errors as for authority_create_token(). */
int authority_prepare_key(Authority *a, AuthorityDone *done, void *userdata, Error *err);
/* Read the present cluster key (number 0), or another one, as key_store_read(). -ENOENT also while the
 * cluster has none. */
int authority_read_key(Authority *a, uint64_t number, ClusterKey *ret, Error *err);
/* Create the CA if the cluster has none, while this host leads: this returns at once. */
void authority_want_ca(Authority *a);

/* Issue a certificate for this host itself, and record its key; create the CA if the cluster has none. 'csr':
 * PEM. 'done' as for authority_create_token(). -EKEYREJECTED: the cluster has this host with another key. */
int authority_enroll(Authority *a, const char *csr, AuthorityDone *done, void *userdata, Error *err);

/* A user: a principal with a certificate, for ListenTLS=. Borrowed for the call. */
typedef struct UserRequest {
        const char *name;
        const char *csr;         /* PEM */
        const RightList *rights; /* NULL: those that the user has */
        uint64_t ttl_ms;         /* of the certificate; 0: USER_TTL_DEFAULT_MS */
        bool replace;            /* end the key that the user has */
        const char *by;          /* text of the principal who requests it */
        const char *user;        /* the same for the history */
} UserRequest;

#define USER_TTL_DEFAULT_MS TLS_LEAF_LIFETIME_MS
#define USER_TTL_MIN_MS     UINT64_C(60000)

/* Return the record of the user that the request leads to; 'pin' NULL: only its rights change. Pure. Errors
 * with a message:
 *   -EINVAL    an invalid name or life, or a user without rights
 *   -ENOENT    'pin' is NULL, and the user does not exist
 *   -EEXIST    the user has another key, which only 'replace' ends
 *   -ENOSPC    the cluster has PRINCIPALS_MAX users
 *   -E2BIG     too many rights */
int user_plan(const Cluster *c, const UserRequest *request, const char *pin, uint64_t now_ms,
              PrincipalRecord *ret, Error *err);

/* Issue a certificate for a user, and record its key and its rights; create the CA if the cluster has none.
 * 'done' as for authority_create_token(). Errors as above; -EBADMSG: an invalid request. */
int authority_certify_user(Authority *a, const UserRequest *request, AuthorityDone *done, void *userdata,
                           Error *err);

/* Make a key and a certificate for the TLS listener of this host, with the root that signed it, for 30 days.
 * Both exist in memory only: each start makes others, and clients verify them by the roots of the cluster.
 * Errors with a message:
 *   -ENOKEY       the cluster has no CA
 *   -EAGAIN       the state of the cluster is not known yet
 *   -ENOENT       this host does not have the cluster key
 *   -EINPROGRESS  this host has no replica, and one was asked: call this again within some seconds */
int authority_certify_listener(Authority *a, const char *const *names, size_t n_names, TlsCredentials **ret,
                               Error *err);

/* No 'done' with this userdata is called any more. Written keys remain. */
void authority_cancel(Authority *a, const void *userdata);
