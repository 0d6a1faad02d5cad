/* Shared by the files of the remote store. */
#pragma once

#include "kvstore/remote.h"
#include "peers/call.h"

typedef struct RemoteWatches RemoteWatches;

/* The last answer on a session to a replica. */
typedef struct RemoteAnswer {
        char machine[MACHINE_ID_SIZE];
        uint64_t session, answered_ms, stale_ms;
        bool stops;
} RemoteAnswer;

struct Remote {
        Loop *loop;
        Peers *peers;
        RemoteEvents events;
        char machine[MACHINE_ID_SIZE]; /* of the replica in use; "": none */
        uint64_t session;              /* its number */
        uint32_t number;               /* of the last subscription */
        uint32_t slice_number;
        NodeSet slice;
        Writer parts;             /* items of pages that are not complete yet */
        bool has_slice, complete; /* complete: on this session */
        uint64_t lineage;         /* of the slice */
        uint64_t current, index;  /* the slice is complete up to 'current'; of the last event */
        RemoteCurrent answer;     /* the last one */
        uint64_t answered_ms;     /* when it came; 0: never */
        uint64_t bound;           /* highest index that this host has seen: no older state follows */
        Calls calls;              /* reads */
        Call sync;                /* that serves all of 'asking' */
        uint64_t sync_index;      /* its answer; 0: none yet */
        KvSyncs asking, syncs;    /* wait for that request; for the next one */
        Timer due;                /* of the first read that waits */
        Timer again;              /* subscribe again */
        uint64_t again_ms;        /* the next delay of it */
        LIST_HEAD(, RemoteRequest) requests; /* remote_reads.c */
        LIST_HEAD(, RemoteWatches) watches;  /* remote_watches.c */
        size_t n_watches;
        uint64_t full_on; /* the last session on which the replica rejected a watch for lack of room */
        RemoteAnswer answers[REMOTE_MEMBERS_MAX]; /* the oldest one gives way */
};

/* Return the session to the replica in use, or NULL. */
PeerSession *remote_session(const Remote *r);
/* Send a frame to it. -ENOTCONN, or as peers_send(). */
int remote_send(Remote *r, PeerFrame type, const Writer *w);

/* Look for reads that are due while any waits. */
void remote_keep_time(Remote *r);

/* -- remote_reads.c -- */

/* Send all requests to the replica in use, which has changed. Without one, they wait for the next. */
void requests_send(Remote *r);
/* Fail what is due. Return whether any request is left. */
bool requests_on_due(Remote *r);
/* Fail all. */
void requests_end(Remote *r, int error);
void requests_on_found(Call *call, RemoteFound *found);

/* -- remote_watches.c -- */

void watches_on_events(Remote *r, RemotePage *page);
/* Return whether it was about a subscription of watches. */
bool watches_on_gone(Remote *r, const RemoteEnd *end);
/* All events up to this index have arrived, of the subscriptions that the replica has. */
void watches_on_current(Remote *r, uint64_t index);
/* Continue all on the replica in use, which has changed. */
void watches_subscribe_all(Remote *r);
/* End what is not in use, and subscribe again. Return whether any subscription is left. */
bool watches_on_due(Remote *r);
void watches_drop(Remote *r); /* their watches are closed */
