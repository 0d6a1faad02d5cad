/* Leadership of a host that is about to go down: another voter takes it before, so that writes do not wait
 * until the followers notice. */
#pragma once

#include "kvstore/kvstore.h"

enum { HAND_OVER_MS = 5000 }; /* the host goes down after that, whether or not it leads */

typedef enum HandOver {
        HAND_OVER_DONE,    /* this host does not lead, or no other voter can take over */
        HAND_OVER_PENDING, /* this host leads: call again when the state of the store changes, and after a
                              while */
} HandOver;

/* Request the transfer of leadership to another voter. */
HandOver hand_over_leadership(KvStore *store);
