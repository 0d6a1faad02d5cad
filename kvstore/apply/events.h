/* Event windows in the tree: a watcher can continue after a restart, a transfer, or on another replica, and
 * the oldest available event (401) is the same on all. Two windows: users' keys and /_fleet. */
#pragma once

#include "base/bytes.h"
#include "kvstore/tree/tree.h"

enum { APPLY_NODE_WEIGHT = 128 }; /* bytes that a node weighs in addition to key and value */

/* Return the weight of an event in a window. */
uint64_t event_weight(const KvEvent *event);

/* Encode and decode an event without its index. Decoded events borrow. -EBADMSG; -ENOTSUP: a newer version.
 */
int event_encode(const KvEvent *event, Writer *w);
int event_decode(uint64_t index, const void *bytes, size_t size, KvEvent *ret);

int events_add(TreeTxn *txn, const KvEvent *event);
