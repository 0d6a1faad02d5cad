/* The end of the key file, in a cluster that gets certificates: each host that is up receives one by itself,
 * and replaces its sessions. When no host needs the key file any more, the setting "peerAuth" of the cluster
 * changes to "certificate": by an administrator, or by the leader after SECURING_WAIT_MS. From then on no
 * host accepts the key file, and none returns to it: a host that has nothing else joins again with a token.
 */
#pragma once

#include "fleetd/identity/authority.h"
#include "fleetd/registry/registry.h"

#define SECURING_WAIT_MS (UINT64_C(7) * 86400000) /* wall clock: since the last host got a certificate */
#define SECURING_SURE_MS (UINT64_C(30) * 1000)
#define SECURING_LED_MS  (UINT64_C(10) * 60000) /* a leader creates the CA after that time */

/* Return whether a host of the cluster has no certificate. */
bool securing_needs_certificate(const ClusterMachine *m);

/* Check whether certificates can be required. 'now_ms': wall clock. 'force': hosts without a certificate that
 * are not up do not matter. A host without a session counts as one if it went away within SECURING_SURE_MS
 * after its key was recorded: it may have crashed before it stored the certificate. Errors with a message,
 * which names the hosts:
 *   -EAGAIN   a host that is up has no certificate, or an open session of this host uses the key file
 *   -EBUSY    hosts that are not up have no certificate
 *   -ENOKEY   the cluster has no settings yet */
int securing_check(const Cluster *c, const Peers *peers, bool force, uint64_t now_ms, Error *err);

/* Return whether all hosts have had a certificate for SECURING_WAIT_MS. 'now_ms': wall clock. */
bool securing_is_due(const Cluster *c, uint64_t now_ms);

/* Return why this host can talk to no other one for want of a certificate, with the next step; NULL: it can.
 */
const char *securing_problem(const Cluster *c, const Peers *peers, Text *text);

typedef struct Securing {
        Loop *loop; /* borrowed, as the next three */
        Peers *peers;
        Registry *registry;
        Authority *authority;
        Deferred update;
        bool ended;    /* the key file, on this host */
        bool recorded; /* in the identity */
        bool failed;   /* to record it; logged */
        bool writing;
} Securing;

void securing_init(Securing *s, const ComponentHost *host, Authority *authority);
void securing_done(Securing *s);
void securing_on_change(Securing *s, const RegistryChange *change);
/* Twice a second. 'led_ms': since when this host leads; 0: it does not. */
void securing_tick(Securing *s, uint64_t led_ms);

/* Let the cluster require certificates, for good. Hosts that are up get the CA, their
 * certificate and their sessions first. 'force': also if other hosts have no certificate; they join again
 * with a token. 'user': for the history. 'done' as for authority_create_token(), at the latest after 9 s.
 * Errors with a message: those of authority_create_token(), and
 *   -EBUSY    hosts have no certificate; the message names them */
int authority_secure(Authority *a, bool force, const char *user, AuthorityDone *done, void *userdata,
                     Error *err);
