/* What backup does as root on the host. */
#pragma once

#include "client/core/client.h"

/* Write the cluster keys of this host to a new file, by fleetd, as root. Return an exit status,
 * or a negative errno. */
int recover_write_keys(Client *c, const char *file, Error *err);
