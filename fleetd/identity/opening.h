/* Opening a cluster of one for other hosts (fleetctl init): the certificate of this host, which also creates
 * the CA of the cluster, and the address of its peer listener in the cluster file. The next start of the
 * daemon listens. A crash at any step leaves a host that listens, or one on which the command is repeated. */
#pragma once

#include "fleetd/identity/authority.h"
#include "fleetd/identity/entering.h"

typedef struct Opening Opening;

/* Begin to listen at "ADDR:PORT". 'host' is borrowed; a host with an address has it from elsewhere than the
 * cluster file. 'done' is called once, from the loop, unless opening_free() is called before. Errors of
 * 'done' and of this function: those of authority_enroll(), and of files that cannot be read or written. */
int opening_new(Opening **ret, const ComponentHost *host, const char *listen, EnteringDone *done,
                void *userdata, Error *err);
Opening *opening_free(Opening *o); /* NULL allowed; returns NULL */
