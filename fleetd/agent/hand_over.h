/* Leadership of a host that is about to go down: another voter takes it before, so that writes do not wait
 * until the followers notice. */
#pragma once

#include "kvstore/kvstore.h"

enum { HAND_OVER_MS = 5000 }; /* the host goes down after that, whether or not it leads */

/* Request the transfer of leadership to another voter. Return whether this host still leads, and another
 * voter may take over: call again when the state of the store changes, and after a while. */
bool hand_over_leadership(KvStore *store);
