/* Clients that watch: each has a subtree and the next index that it needs, and continues with these at
 * another host. All events that any client received make up the log of changes. At the end each watcher must
 * have received all events of its subtree, once and in order, or the answer that its index is no longer in
 * the event window. */
#pragma once

#include "kvstore/kvstore.h"
#include "tests/sim/world.h"

typedef struct Watchers Watchers;

Watchers *watchers_new(World *w, unsigned n);
Watchers *watchers_free(Watchers *all); /* after each was left */

/* Add a result that is an event, too, to the log of changes. */
void watchers_said(Watchers *all, const KvResult *result);

/* Some host's tree is corrupt: do not record or compare the previous values of events meanwhile. */
void watchers_doubt(Watchers *all, bool doubt);

/* Draw a watcher; if it has no host, and sometimes otherwise, let it watch at this host. */
void watchers_turn(Watchers *all, KvStore *store, unsigned host);
void watchers_leave(Watchers *all, unsigned host); /* the store is being closed */
/* Judge; no operation is under way, and every host has applied 'index'. */
void watchers_judge(Watchers *all, uint64_t index);

uint64_t watchers_events(const Watchers *all);  /* received */
uint64_t watchers_moves(const Watchers *all);   /* to a host with an index from another one */
uint64_t watchers_cleared(const Watchers *all); /* outside the event window */
