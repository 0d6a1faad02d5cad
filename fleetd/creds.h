/* The real sealer (fleetd/host/sealer.h): systemd-creds(1), as a child process. libsystemd has no call
 * for it. */
#pragma once

#include "fleetd/identity/cluster_key.h"
#include "io/loop_uv.h"

int creds_new(Sealer **ret, UvLoop *loop); /* 0 or -ENOMEM */
Sealer *creds_free(Sealer *s);             /* NULL allowed; returns NULL */

/* Open a file of a cluster key, without a running loop; 'file' has its number. For maintenance. Errors with a
 * message. */
int creds_open_file(const ClusterKeyFile *file, ClusterKey *ret, Error *err);
