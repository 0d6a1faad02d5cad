/* The store of a host without a replica: its slice in memory, and calls over a session to a replica. The
 * owner chooses the replica (fleetd/sessions); the next one continues where the former one ended. */
#pragma once

#include "kvstore/hub.h"
#include "kvstore/node_set.h"
#include "kvstore/remote_frames.h"

typedef struct Remote Remote;

enum {
        REMOTE_FRESH_MS = 3000,  /* without an answer of a replica that has a leader: the slice may be old */
        REMOTE_IDLE_MS = 5000,   /* without an answer on the other session: it has one in 2 s */
        REMOTE_LEADER_MS = 1000, /* without a leader, another replica is better */
        REMOTE_CONTACT_MS = 600, /* four heartbeats of Raft: a replica tells a longer time without contact */
        REMOTE_WAIT_MS = 1500,   /* for an answer */
        REMOTE_WATCHES_MAX = 1000, /* different watched keys */
        REMOTE_UNUSED_MS = 10000,  /* after the last watch of a key */
        REMOTE_AGAIN_MS = 50, /* until a second subscription to a slice; it doubles, up to REMOTE_WAIT_MS */
        REMOTE_PARTS_MAX = 64 * 1024 * 1024, /* bytes of the pages of one state */
};

typedef struct RemoteEvents {
        /* A key of the slice has changed. 'event' is borrowed; its index rises from page to page. */
        void (*on_event)(void *userdata, const KvEvent *event);
        /* The slice is another one: read it again. */
        void (*on_reset)(void *userdata);
        /* What remote_current() returns has changed, or whether the slice is complete. */
        void (*on_state)(void *userdata);
        void *userdata;
} RemoteEvents;

int remote_new(Remote **ret, Loop *loop, Peers *peers, const RemoteEvents *events);
Remote *remote_free(Remote *remote); /* drops the reads that wait; NULL allowed; returns NULL */

/* Use the replica of a machine, to which a session is open; NULL: there is none. Without an effect if it is
 * in use already, on the same session. */
void remote_use(Remote *remote, const char *machine_id);

/* Return the number of the session to the replica in use; 0: there is none. */
uint64_t remote_session_number(const Remote *remote);

/* Return the machine of the replica in use; "": there is none. */
const char *remote_in_use(const Remote *remote);

/* Write why the slice is not fresh, for people. */
void remote_problem(const Remote *remote, char *ret, size_t size);

/* Return the time since the replica of a machine has answered a heartbeat on its present session; UINT64_MAX:
 * never. */
uint64_t remote_silent_ms(const Remote *remote, const char *machine_id);
/* The same since its last contact with a leader of which this host knows. */
uint64_t remote_leader_ms(const Remote *remote, const char *machine_id);

/* Return whether the replica of a machine has answered a heartbeat on its present session in the last
 * 'within_ms', had a leader within REMOTE_LEADER_MS, and does not stop. */
bool remote_answers(const Remote *remote, const char *machine_id, uint64_t within_ms);

/* Return the machine of another replica than the one in use that answers, to which a session is open; NULL:
 * there is none. */
const char *remote_other(const Remote *remote);

/* Return the slice, borrowed until the next callback from the loop. */
const NodeSet *remote_slice(const Remote *remote);
/* Return whether the slice was complete at some time: it is never empty again. */
bool remote_has_slice(const Remote *remote);
/* Return whether the slice is complete on the replica in use, which has answered in the last REMOTE_FRESH_MS,
 * with a leader. */
bool remote_is_fresh(const Remote *remote);
uint64_t remote_index(const Remote *remote); /* of the last event; 0 before the first slice */
/* Return the highest index that this host has seen, also in an answer to a heartbeat: no older state may
 * follow. */
uint64_t remote_seen(Remote *remote);
/* This host has seen a state of that index. */
void remote_saw(Remote *remote, uint64_t index);
/* The last answer of a replica; all zero before the first. */
const RemoteCurrent *remote_current(const Remote *remote);

/* A linearizable read of the slice: as kv_sync(). */
void remote_sync(Remote *remote, KvSync *sync);
void remote_sync_cancel(Remote *remote, KvSync *sync);
/* As kv_get(): 'done' is called later, once, unless the request is cancelled. -ENOMEM. The index is not below
 * remote_seen(). */
typedef struct RemoteRequest RemoteRequest;

int remote_get(Remote *remote, KvGet *get, RemoteRequest **ret);
void remote_cancel(RemoteRequest *request);

/* As kv_watch(), for other keys than those of the slice. A watch whose index is not kept any more is cleared
 * later.
 */
int remote_watch(Remote *remote, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata,
                 KvWatch **ret, uint64_t *ret_oldest);

/* The replica of this host serves again. Its store takes over what waits for an answer, one after the
 * other, until NULL: */
KvSync *remote_take_sync(Remote *remote);
KvGet *remote_take_get(Remote *remote);
/* and the watches, with the events that the tree has after those that have arrived. */
void remote_release_watches(Remote *remote, Hub *to);
/* The other way: this host does not use its replica any more, all of whose events up to 'index' are in the
 * hub. Watches for which there is no room stay there. */
void remote_adopt_watches(Remote *remote, Hub *from, uint64_t index);

/* Answer all reads with KV_UNKNOWN. */
void remote_end(Remote *remote);
