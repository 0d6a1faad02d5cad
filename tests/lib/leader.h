/* The leader that a host reports, for a test that is linked with --wrap=kv_sync, --wrap=kv_sync_cancel,
 * --wrap=kv_state, --wrap=kv_transfer and --wrap=registry_index. */
#pragma once

#include "kvstore/kvstore.h"

typedef struct Leader {
        bool hold; /* of syncs */
        bool gone;
        unsigned level; /* the feature level of the cluster; 0: the real one */
        bool attached;  /* the host has no replica */
        bool follows;   /* another host leads */
        bool view_lags; /* the registry has events of the tree still to apply */
        size_t voters;  /* number of voters, all reachable; 0: the real one */
        unsigned transfers;
        KvSync *held; /* not answered yet */
        unsigned cancelled;
} Leader;

extern Leader leader;
