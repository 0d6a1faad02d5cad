/* Event windows in memory: the most recent events of one owner, for watchers that start in the past. */
#pragma once

#include "base/blocks.h"
#include "kvstore/watch.h"

/* A ring of events, bounded in number and bytes as the tree's own windows are. */
typedef struct HubWindow {
        KvWatchEvent **events;
        size_t size, first, n;
        uint64_t bytes;
        Blocks memory;   /* of all its events */
        uint64_t oldest; /* the first index from which on no event is missing */
} HubWindow;

KvWatchEvent *hub_event_ref(KvWatchEvent *event);
KvWatchEvent *hub_event_unref(KvWatchEvent *event); /* NULL allowed; returns NULL */
size_t hub_event_size(const KvEvent *event);        /* bytes of memory, without encoded forms */

/* A window of 'size' events that begins behind 'index'. 0 or -ENOMEM. */
int hub_window_init(HubWindow *window, size_t size, uint64_t index);
void hub_window_done(HubWindow *window); /* of one that was zeroed, too */

/* Add a copy of 'event', and return a reference to it; NULL without memory. */
KvWatchEvent *hub_window_add(HubWindow *window, const KvEvent *event);
void hub_window_clear(HubWindow *window, uint64_t index); /* it begins behind 'index' again */

KvWatchEvent *hub_window_at(const HubWindow *window, size_t i);
size_t hub_window_find(const HubWindow *window, uint64_t index); /* the first event at or after 'index' */
size_t hub_window_memory(const HubWindow *window);               /* bytes, with encoded forms */
