/* The replica's side of hosts without a replica: their subscriptions (kvstore/remote_frames.h).
 *
 * A slice is sent as a state. The subscription has a set of changed keys; a page carries each of them as the
 * tree has it at that moment, or its absence. So a slow host delays no other one, and a key that changes
 * often is sent once. Subscriptions of keys are watches, whose events are sent in order. */
#pragma once

#include "base/bytes.h"
#include "kvstore/kvstore.h"
#include "kvstore/remote.h"

typedef struct Serve Serve;

enum {
        SERVE_SUBSCRIPTIONS_MAX = 50000,               /* of all hosts */
        SERVE_OF_SESSION_MAX = REMOTE_WATCHES_MAX + 1, /* its slice */
        SERVE_QUEUE_MAX = 1024 * 1024,          /* bytes that wait for a session; above, its pages wait, and a
                                                   subscription with more events ends */
        SERVE_QUEUES_MAX = 64 * 1024 * 1024,    /* of all sessions; those for which most waits end before */
        SERVE_BEHIND_MS = 1000,                 /* to reach the bound of a host */
        SERVE_PER_TURN = 256,                   /* subscriptions that are flushed in a turn of the loop, */
        SERVE_WORK_AT_ONCE = TURN_WORK_MAX / 4, /* and the work after which none is begun */
        SERVE_RETRY_MS = 10,                    /* until the slices are routed up to an index */
        SERVE_AGAIN_MS = 1000,                  /* until a refused host subscribes again */
        SERVE_VERSIONS_AT_ONCE = 2048,          /* of a host, that are compared with its slice */
        /* What subscriptions of a session visit when they begin: themselves, events of the windows, keys of
         * a slice, and versions. Above this, the host subscribes again later, and continues from where it
         * was. */
        SERVE_VISITS_PER_SEC = 16 * 1024,
        SERVE_VISITS_BURST = 256 * 1024,
};

int serve_new(Serve **ret, Loop *loop, Peers *peers, KvStore *store);
Serve *serve_free(Serve *serve); /* NULL allowed; returns NULL */

/* Return whether the host of a session may read a key. Without slices, nothing is known about hosts: then
 * they read users' keys only. */
bool serve_may_read(const Serve *serve, const char *machine, KvBytes key);
/* Send the slice of a machine up to this index soon: the host waits for it. */
void serve_slice_at_least(Serve *serve, const char *machine, uint64_t index);
/* Reply when the slice of the host was sent up to 'index'; at once, if it has none or the index is 0. */
void kv_reply_after(KvStore *store, PeerSession *session, uint64_t index, PeerFrame type, const Writer *w);
/* End the sessions for which most waits, if more than SERVE_QUEUES_MAX could wait for all of them soon. Their
 * hosts subscribe again, by state. A caller that has a session finds it again. */
void serve_bound(Serve *serve);
/* Return the indexes up to which the slice on a session, 0 if it has no complete one, and all events of its
 * other subscriptions were sent. */
void serve_indexes(const Serve *serve, PeerSession *session, uint64_t *ret_slice, uint64_t *ret_events);
/* End all subscriptions: the store closes, or its tree has another lineage. */
void serve_end(Serve *serve);
