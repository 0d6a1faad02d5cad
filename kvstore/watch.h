/* Watches: what kv_watch() takes and delivers. */
#pragma once

#include "io/stream.h"
#include "kvstore/command/command.h"

typedef struct KvWatch KvWatch;

/* An event as all its watchers share it, with caches for their encoded forms. A cache is filled by the first
 * watcher that needs it, and released with the event. */
typedef struct KvWatchEvent {
        unsigned refs;
        STAILQ_ENTRY(KvWatchEvent) unsearched; /* the hub's */
        KvEvent event;
        Shared *line;    /* in the form of fleet's own streams */
        Shared *encoded; /* in the form of v2 */
} KvWatchEvent;

typedef struct KvWatchOptions {
        KvBytes key; /* copied */
        bool recursive;
        uint64_t since;   /* first index wanted; 0: from now on */
        bool internal;    /* includes /_fleet; without it, no change there is reported, not even below "/" */
        bool hidden_rule; /* v2's rule of hidden keys */
        bool refreshes;   /* also report renewals of a time to live, which v2 does not */
        bool slice;       /* of an attached host: changes of its slice, not of the cluster's keys */
        bool once;        /* ends after the first event: the watch is gone when on_event() returns */
        /* v2's rule: a watch of a key that does not exist is not notified of the deletion of a directory
         * above it. kv_watch() reads whether the key exists; hub_watch() is passed that it does not. */
        bool absent;
} KvWatchOptions;

typedef struct KvWatchOps {
        /* Return whether the watcher may see an event; asked when the event arrives, and again before its
         * delivery. NULL: all. It may be called before kv_watch() returns. */
        bool (*sees)(void *userdata, const KvEvent *event);
        /* An event at or after 'since'. The watch may be closed inside. */
        void (*on_event)(void *userdata, KvWatchEvent *event);
        /* The position is lost: a snapshot replaced the tree, or the watcher is too slow. 'oldest' is the
         * first index that a new watch may start at. The watch is closed. */
        void (*on_cleared)(void *userdata, uint64_t oldest, uint64_t current);
} KvWatchOps;

KvWatch *kv_watch_close(KvWatch *watch); /* NULL allowed; returns NULL */

/* Return whether everything that was published until now is delivered. Inside on_event() the event itself
 * counts as delivered. */
bool kv_watch_is_current(const KvWatch *watch);

/* Return whether everything that is known to concern the watch is delivered. *index, the store's index as the
 * caller knows it, is lowered to where that knowledge ends: the search for the watchers of later changes may
 * be under way. */
bool kv_watch_progress(const KvWatch *watch, uint64_t *index);
