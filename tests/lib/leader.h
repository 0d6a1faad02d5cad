/* The leader that a host reports, for a test that is linked with --wrap=kv_sync, --wrap=kv_sync_cancel and
 * --wrap=kv_state. */
#pragma once

#include "kvstore/kvstore.h"

typedef struct Leader {
        bool hold; /* of syncs */
        bool gone;
        unsigned level; /* the feature level of the cluster; 0: the real one */
        bool attached;  /* the host has no replica */
        KvSync *held;   /* not answered yet */
        unsigned cancelled;
} Leader;

extern Leader leader;
