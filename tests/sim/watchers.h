/* Clients that watch: each has a subtree and the next index it wants, and goes on at another host with just
 * that. What the log said is put together from all that anybody was told; at the end each must have been told
 * all of his subtree, once, in order, or that his place was lost. */
#pragma once

#include "kvstore/kvstore.h"
#include "tests/sim/world.h"

typedef struct Watchers Watchers;

Watchers *watchers_new(World *w, unsigned n);
Watchers *watchers_free(Watchers *all); /* after each was left */

/* An answer that is an event, too: the log has it. */
void watchers_said(Watchers *all, const KvResult *result);

/* Some host's tree rots: of what was there before an event, which it says, nothing is kept or compared
 * meanwhile. */
void watchers_doubt(Watchers *all, bool doubt);

/* A watcher without a host takes this one, number 'host' (as all that are asked to be moved). */
void watchers_turn(Watchers *all, KvStore *store, unsigned host);
void watchers_leave(Watchers *all, unsigned host); /* the store is about to go */
/* Nothing is under way any more and every host has come as far as 'index': judges. */
void watchers_judge(Watchers *all, uint64_t index);

uint64_t watchers_events(const Watchers *all);  /* that were told */
uint64_t watchers_moves(const Watchers *all);   /* to a host with an index from another one */
uint64_t watchers_cleared(const Watchers *all); /* places lost */
