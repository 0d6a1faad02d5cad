/* Recent events, kept in the tree: a watcher keeps its place over a restart, a transfer, a change of replica,
 * and what is too long ago (401) is the same everywhere. Two windows: users' keys and /_fleet. */
#pragma once

#include "kvstore/apply/apply.h"
#include "kvstore/hub.h"

/* What an event weighs in a window. */
uint64_t event_weight(const KvEvent *event);

/* Bytes of an event for its index; -EBADMSG, -ENOTSUP for a newer version. What is decoded borrows. */
int event_encode(const KvEvent *event, Writer *w);
int event_decode(uint64_t index, const void *bytes, size_t size, KvEvent *ret);

int events_add(TreeTxn *txn, const KvEvent *event);
/* Fills a hub's windows, which are empty, with the tree's. */
int events_load(TreeTxn *txn, Hub *hub);
