/* A host without a replica, of the cluster of a Host, in the same process and on its loop. Its replica
 * answers the heartbeats that membership would send. */
#pragma once

#include "tests/lib/host.h"

typedef struct Attached {
        Host *replica; /* borrowed */
        char id[MACHINE_ID_SIZE];
        Disk *disk;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        Settings settings; /* settings_of_test() */
        ComponentHost components;
        char *scratch, *raft_path, *tree_path;
        Timer heartbeat;
} Attached;

/* Its slice is complete when this returns. */
Attached *attached_new(Host *replica);
Attached *attached_free(Attached *a); /* returns NULL */
