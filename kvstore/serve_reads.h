/* Reads of hosts without a replica, on the replica: indexes and nodes (PEER_READ in
 * kvstore/remote_frames.h). */
#pragma once

#include "kvstore/serve.h"

typedef struct ServeReads ServeReads;

enum {
        SERVE_READS_MAX = 4096,          /* of keys, that wait, of all hosts */
        SERVE_READS_OF_SESSION_MAX = 64, /* the same of one: a host takes no places of others */
        SERVE_SYNCS_OF_SESSION_MAX =
                4, /* of an index: they wait behind no other read, as a lease needs them */
};

int serve_reads_new(ServeReads **ret, Loop *loop, Peers *peers, KvStore *store, Serve *serve);
ServeReads *serve_reads_free(ServeReads *reads); /* NULL allowed; returns NULL */
