/* Who waits for which path: one hub per daemon, with a window of recent events.
 *
 * Events come from apply, in order; watchers hear of them from the loop, and so after the batch's transaction
 * is committed. Watchers are found by path: exact, by each recursive ancestor, and below a deleted directory;
 * never by scanning all. When many changes meet many watches, the search goes on in the next turns of the
 * loop (HUB_VISITS_PER_TURN). A reader that falls HUB_PENDING_MAX events behind loses its place and is told
 * so. Two windows: users' keys (1000 events by default, as etcd's) and /_fleet, so that our own traffic costs
 * no user his place. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/loop.h"
#include "kvstore/tree/tree.h"
#include "kvstore/watch.h"

typedef struct Hub Hub;
typedef struct KvWatch Watch;

enum {
        HUB_WINDOW = TREE_WINDOW_EVENTS,
        HUB_WATCHES_MAX = 101000, /* the users' (at most 100000, see LimitWatches=), and room for our own */
        HUB_WAKE_PER_TURN = 256,
        HUB_WORK_PER_TURN = TURN_WORK_MAX /
                            2,   /* of the watchers that are called; the others are called in the next turn */
        HUB_PENDING_MAX = 16384, /* events that one watch is behind, or the search for watchers */
        HUB_VISITS_PER_TURN =
                16384, /* places and watches that the search for watchers visits; one event's at least */
        HUB_WAITING_BYTES = 32 * 1024 * 1024, /* of events whose watchers are still to be found */
};

KvWatchEvent *hub_event_ref(KvWatchEvent *event);
KvWatchEvent *hub_event_unref(KvWatchEvent *event); /* NULL allowed; returns NULL */

/* 'window' events of users' keys are kept, and as many below /_fleet (0: HUB_WINDOW); 'index' is the store's.
 */
int hub_new(Hub **ret, Loop *loop, size_t window, uint64_t index);
Hub *hub_free(Hub *hub); /* asserts that no watch is left; returns NULL */

/* 0; -ESTALE: 'since' is before the window, *ret_oldest says where it begins (code 401); -ENOBUFS: too many
 * watches. Events from the window and later ones come from the loop, at most HUB_WAKE_PER_TURN calls and
 * about HUB_WORK_PER_TURN of their work a turn, each watcher's in order, internal ones first. */
int hub_watch(Hub *hub, const KvWatchOptions *options, const KvWatchOps *events, void *userdata,
              KvWatch **ret, uint64_t *ret_oldest);
void hub_publish(Hub *hub,
                 const KvEvent *event); /* copies (without memory: as hub_cleared()); delivery follows */
void hub_cleared(Hub *hub,
                 uint64_t index); /* a snapshot replaced the tree: all watches end, windows are empty */

/* For a hub that takes over what was before it (kvstore/events.c): the windows begin at these indexes, and
 * these events lie in them, told to nobody. 0 or -ENOMEM, which leaves the windows shorter. */
void hub_reach_back(Hub *hub, uint64_t oldest_users, uint64_t oldest_ours);
int hub_remember(Hub *hub, const KvEvent *event);

unsigned hub_watches(const Hub *hub);
size_t hub_window_bytes(const Hub *hub); /* memory of the events in the windows, with their encoded forms */
size_t hub_place_bytes(const Hub *hub); /* memory of what finds watches by their paths, without the watches */
