/* Entering a cluster by a token: what a host does before it is restarted as a member of that cluster.
 *
 * The steps: a key of this host is stored; an endpoint of the token proves the root whose digest the token
 * contains; then it gets the secret and a certificate request; its answer, the certificate of this host, is
 * stored (identity.h). The next start of the daemon enters the cluster. Until the answer is stored, this host
 * stays what it was: a failure or a crash at any step has no other effect than the stored key, with which a
 * repetition is the same join. */
#pragma once

#include "fleetd/registry/cluster.h"
#include "io/tls_roles.h"
#include "kvstore/kvstore.h"
#include "peers/peers.h"
#include "units/token.h"

typedef struct Entering Entering;

enum { ENTERING_MS = 9000 }; /* for all steps together: less than a client waits for an answer */

typedef struct EnteringOptions {
        Loop *loop; /* borrowed, as all pointers; needed until entering_close() has ended */
        Network *network;
        const char *state_directory;
        const char *cluster_file;  /* copied, as the next ones: path, which the next start writes; "": it is
                                      not written */
        const PeerHandshake *self; /* machine ID, boot ID, nonce and name of this host */
        const Token *token;        /* wiped at the end */
        const char *listen; /* "ADDR:PORT" for the cluster file; ":PORT": at the address of this host on
                               the way to the cluster */
        unsigned level;     /* the highest feature level of this program */
        bool exposed;       /* see EnterRequest */
        bool plain;         /* tests only: sessions without TLS, to a leader that proves nothing */
        /* Write the address of this host on the way to 'endpoint', without a port. 0 or a negative errno. */
        int (*address_towards)(const char *endpoint, char ret[static ADDRESS_SIZE]);
} EnteringOptions;

typedef struct EnteringResult {
        uint64_t cluster_id;
        char through[PEER_NAME_SIZE], listen[ADDRESS_SIZE];
} EnteringResult;

/* 'error' 0: stored; restart the daemon. Otherwise 'message' has the reason and the next command, and
 * 'result' is NULL:
 *   -EHOSTUNREACH   no endpoint answers as a fleetd of the cluster; the message lists all of them
 *   -EACCES         the cluster rejects the token, or this host
 *   another one     a file of this host cannot be read or written */
typedef void EnteringDone(void *userdata, int error, const char *message, const EnteringResult *result);

/* Begin. Fail with a message, before the token is used, if the cluster file cannot be written: the next start
 * could not enter. 'done' is called once, from the loop; call entering_close() afterwards, or before to
 * cancel. */
int entering_new(Entering **ret, const EnteringOptions *options, EnteringDone *done, void *userdata,
                 Error *err);
/* Close the sessions, free 'e', and then call 'closed' from the loop. 'done' is not called any more. */
void entering_close(Entering *e, void (*closed)(void *userdata), void *userdata);

/* Write the listener that --listen= gives, "ADDR:PORT" or "ADDR", with the default port; ":2380" for "".
 * -EINVAL with a message. Pure. */
int entering_read_listen(const char *text, char ret[static ADDRESS_SIZE], Error *err);

/* Count users' keys in the tree of this host, up to 100000. */
int entering_count_keys(KvStore *store, uint64_t *ret, Error *err);

/* Return -EEXIST with a message if this host has content of its own, which would be lost: 'n_keys' users'
 * keys, or units that its own directory does not own. With 'discard', only other hosts of its cluster count:
 * they would lose a member, unless they have 'removed' this host. Pure. */
int entering_check_content(const Cluster *cluster, const char *machine_id, bool removed, uint64_t n_keys,
                           bool discard, Error *err);
