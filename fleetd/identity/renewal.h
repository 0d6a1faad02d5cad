/* The certificate of this host: the first one in a cluster whose hosts share a key file, a new one at two
 * thirds of its life, when the host gets or loses its replica, and when the cluster has other roots. */
#pragma once

#include "fleetd/identity/authority.h"
#include "io/tls_roles.h"

enum { RENEWAL_PROTOCOL = 1 };

/* Return the wall clock at which a certificate is due: at 2/3 of its life, up to 10 % earlier or later, by a
 * hash of the machine ID, so that the hosts of a cluster do not renew at once. Pure. */
uint64_t renewal_due_ms(const TlsCertificate *certificate, const char *machine_id);

/* Check the answer to a request for a certificate: it is for the key 'pin', this machine and this cluster,
 * and signed by one of the roots of the answer, all of which are in the tree ('roots'; NULL: it has none).
 * Pure. Errors with a message: -EBADMSG; -ENOTCONN: a root is not in the tree, which may be behind. */
int renewal_check(const EnterAnswer *answer, const CaRoots *roots, const TlsPin *pin, const char *machine_id,
                  uint64_t cluster_id, Error *err);

typedef struct Renewal Renewal;

/* 'host' is borrowed, with its settings. */
int renewal_new(Renewal **ret, ComponentHost *host, Authority *authority);
Renewal *renewal_free(Renewal *r); /* NULL allowed; returns NULL */
/* Twice a second: request a certificate if one is due. */
void renewal_tick(Renewal *r);
/* Make another key for this host, and request a certificate for it. Both keys are valid until the host has
 * used the new one; then the former one ends. Repeating this while it is under way has no effect. -ENOENT:
 * this host has no identity. */
int renewal_rekey(Renewal *r, Error *err);
