/* The watch hub: one per daemon. It finds the watches that an event concerns, and keeps a window of recent
 * events.
 *
 * apply publishes events in order; the loop delivers them, after the transaction of their batch is committed.
 * Watches are found by path: of the key, of its ancestors (recursive ones), and below a deleted directory;
 * never by a scan of all. When many changes meet many watches, the search continues in the next turns of the
 * loop (HUB_VISITS_PER_TURN). A watch with HUB_PENDING_MAX undelivered events is cleared. There are two
 * windows, for users' keys (1000 events by default, as etcd's) and for /_fleet, so that fleet's own traffic
 * costs no user the position in the window. */
#pragma once

#include "io/loop.h"
#include "kvstore/tree/tree.h"
#include "kvstore/watch.h"

typedef struct Hub Hub;

enum {
        HUB_WINDOW = TREE_WINDOW_EVENTS,
        HUB_WATCHES_MAX =
                101000, /* the users' (at most 100000, see LimitWatches=), and those of the daemon */
        HUB_WAKE_PER_TURN = 256,
        HUB_WORK_PER_TURN = TURN_WORK_MAX / 2,   /* of the watchers that are called in one turn */
        HUB_PENDING_MAX = 16384,                 /* events that wait for one watch, or for the search */
        HUB_VISITS_PER_TURN = 16384,             /* places and watches; one event's at least */
        HUB_UNSEARCHED_BYTES = 32 * 1024 * 1024, /* of events whose watchers are still to be found */
};

/* 'window' events of users' keys are kept, and as many below /_fleet (0: HUB_WINDOW); 'index' is the store's.
 */
int hub_new(Hub **ret, Loop *loop, size_t window, uint64_t index);
Hub *hub_free(Hub *hub); /* asserts that no watch is left; returns NULL */

/* 0; -ESTALE: 'since' is before the window, *ret_oldest says where it begins (code 401); -ENOBUFS: too many
 * watches. Events from the window and later ones come from the loop, at most HUB_WAKE_PER_TURN calls and
 * about HUB_WORK_PER_TURN of their work a turn, each watcher's in order, internal ones first. */
int hub_watch(Hub *hub, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata, KvWatch **ret,
              uint64_t *ret_oldest);

/* Copy an event into its window, and deliver it from the loop. Without memory: as hub_cleared(). */
void hub_publish(Hub *hub, const KvEvent *event);
/* All events up to 'index' were published; without this call, the hub follows the store. For
 * kv_watch_progress(). */
void hub_reached(Hub *hub, uint64_t index);
/* A snapshot replaced the tree: end all watches, and empty the windows. */
void hub_cleared(Hub *hub, uint64_t index);
/* Name another first index to the watches that were cleared: the owner has events from there on elsewhere. */
void hub_set_oldest(Hub *hub, uint64_t oldest);

/* Move watches of 'from' to the hubs that 'to' returns; NULL: the watch stays. All events up to 'index' were
 * published in 'from'. A watch continues with the next event in the window of its hub; if that is not there
 * any more, it is cleared. Not from inside a callback of a watch. */
void hub_move(Hub *from, uint64_t index, Hub *(*to)(void *userdata, const KvWatchOptions *options),
              void *userdata);

/* Fill the empty windows from the tree, so that watches continue across a restart or a transfer. These events
 * are not delivered. A failure leaves the windows shorter. */
int hub_load(Hub *hub, TreeTxn *txn);

unsigned hub_watches(const Hub *hub);
size_t hub_window_bytes(const Hub *hub); /* memory of the events in the windows, with their encoded forms */
