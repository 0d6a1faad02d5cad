/* The cluster file, a drop-in of fleetd.conf that fleetd writes (ClusterFile=): ListenPeer=, which
 * "fleetctl init" and "fleetctl join" choose, and Join=, the addresses of the other hosts. A start without
 * the state directory finds the cluster by it. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"

/* Append the content; an empty 'listen_peer' or 'join' is left out. */
void cluster_file_print(Text *t, const char *listen_peer, const char *join);

/* Read ListenPeer= of the file at 'path', "" if the file or the setting is absent, or is unreadable. */
void cluster_file_read_listen(const char *path, char ret[static ADDRESS_SIZE]);

/* Check that the file can be written, and create its folder; "": nothing is checked. On failure, a message
 * with the next step. */
int cluster_file_check(const char *path, Error *err);

/* Replace the file, and create its folder. Nothing is written if it has this content. 0 or a negative errno.
 */
int cluster_file_write(const char *path, const char *text);
