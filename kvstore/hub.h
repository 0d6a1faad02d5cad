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
#include "io/stream.h"
#include "kvstore/apply/apply.h"

typedef struct Hub Hub;
typedef struct Watch Watch;

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

/* An event as kept by the hub: owned copy, counted; 'encoded' caches the bytes that all watchers are sent. */
typedef struct HubEvent {
        unsigned refs;
        KvEvent event;
        Shared *line;    /* the same in the form of fleet's own streams */
        Shared *encoded; /* made by the first watcher that needs it (api), shared by all; given back with the
                            event */
} HubEvent;

HubEvent *hub_event_ref(HubEvent *event);
HubEvent *hub_event_unref(HubEvent *event); /* NULL allowed; returns NULL */

typedef struct WatchOptions {
        KvBytes key; /* copied */
        bool recursive;
        uint64_t since;   /* first index wanted; 0: from now on */
        bool internal;    /* sees /_fleet; others never do, not even the deletion of "/" children there */
        bool hidden_rule; /* apply v2's rule of hidden keys (registry watches do not) */
        bool refreshes;   /* is told when a time to live was renewed, too (v2's watchers are not) */
        bool once;        /* ends itself after the first event: the watch is gone when on_event() returns */
        /* Nothing is at 'key' now: v2 does not tell such a watch of a deleted directory above it. Left false,
         * it is told. */
        bool absent;
} WatchOptions;

typedef struct WatchEvents {
        /* An event at or after 'since'. The watch may be closed inside. */
        void (*on_event)(void *userdata, HubEvent *event);
        /* The place is lost: a snapshot replaced the tree, or the reader fell too far behind. 'oldest' is the
         * first index that a new watch may ask for. The watch is closed. */
        void (*on_cleared)(void *userdata, uint64_t oldest, uint64_t current);
} WatchEvents;

/* 'window' events of users' keys are kept, and as many below /_fleet (0: HUB_WINDOW); 'index' is the store's.
 */
int hub_new(Hub **ret, Loop *loop, size_t window, uint64_t index);
Hub *hub_free(Hub *hub); /* asserts that no watch is left; returns NULL */

/* 0; -ESTALE: 'since' is before the window, *ret_oldest says where it begins (code 401); -ENOBUFS: too many
 * watches. Events from the window and later ones come from the loop, at most HUB_WAKE_PER_TURN calls and
 * about HUB_WORK_PER_TURN of their work a turn, each watcher's in order, internal ones first. */
int hub_watch(Hub *hub, const WatchOptions *options, const WatchEvents *events, void *userdata, Watch **ret,
              uint64_t *ret_oldest);
Watch *watch_close(Watch *watch); /* NULL allowed; returns NULL */
/* Nothing that was published until now is still to be told to it. Inside on_event() the event itself counts
 * as told. */
bool watch_is_current(const Watch *watch);
/* It was told of all that is known to concern it. *index, the store's as the caller knows it, is lowered to
 * where that knowledge ends: the hub may still search for the watchers of later changes. */
bool watch_is_told(const Watch *watch, uint64_t *index);

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
