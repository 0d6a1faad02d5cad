/* Shared by the files of the replica's side of hosts without a replica. */
#pragma once

#include "base/pace.h"
#include "base/table.h"
#include "kvstore/remote_frames.h"
#include "kvstore/serve.h"
#include "kvstore/serving.h"
#include "peers/call.h"

typedef struct ServeReads ServeReads;
typedef struct Subscription Subscription;

/* A key that the host may lack. */
typedef struct Changed {
        UT_hash_handle hh;
        size_t size;
        char key[];
} Changed;

/* A version of a key that the host has, and those that were entered into the table in one turn. */
typedef struct Version {
        UT_hash_handle hh;
        uint64_t hash;
} Version;

typedef struct VersionBlock {
        SLIST_ENTRY(VersionBlock) blocks;
        Version versions[];
} VersionBlock;

struct Subscription {
        Served served; /* its session holds the bytes of events that wait */
        Serve *serve;
        char machine[MACHINE_ID_SIZE];
        RemoteKind kind;
        uint64_t bound, until_ms; /* of the host, and by when the store has to have reached it */
        KvSync sync;
        bool syncing, synced;
        uint64_t least;    /* the slices have to be routed up to this index first */
        Changed *changed;  /* table by key */
        Version *versions; /* table by hash; until the first complete page */
        SLIST_HEAD(, VersionBlock) blocks;
        Writer hashes;                   /* of all versions; */
        Reader unread;                   /* those that are not in the table yet */
        bool begun;                      /* a page was sent, perhaps of some events only */
        uint64_t sent;                   /* index of the last complete page; 0: none */
        KvWatch *watch;                  /* of a key */
        Writer events;                   /* that wait */
        struct SubscriptionQueue *queue; /* of Serve, that it is in; or NULL */
        TAILQ_ENTRY(Subscription) queued;
        UT_hash_handle hh; /* of a slice */
};

/* A frame that waits until the slice of its receiver has reached an index. */
typedef struct Reply {
        uint64_t session, index;
        PeerFrame type;
        Writer bytes;
        TAILQ_ENTRY(Reply) replies;
} Reply;

struct Serve {
        Loop *loop;
        Peers *peers;
        KvStore *store;
        KvSlices slices;
        Calls calls;              /* the subscriptions */
        Subscription *by_machine; /* of slices: table by machine */
        TAILQ_HEAD(SubscriptionQueue, Subscription) ready, waiting;
        size_t n, n_ready;
        size_t queued; /* of all sessions, and of replies */
        size_t waited; /* in sessions, when 'sent' was peers_sent() */
        uint64_t sent;
        ServeReads *reads;
        TAILQ_HEAD(, Reply) replies;
        Writer last_key, last_item; /* that was read last in this turn of the loop */
        Deferred flush;
        Timer retry;
};

/* -- serve_subscriptions.c -- */

/* Send what it has in a turn of the loop. */
void subscription_ready(Subscription *s);
/* The same after SERVE_RETRY_MS. */
void subscription_wait(Subscription *s);
void subscription_dequeue(Subscription *s);
void subscription_free(Subscription *s);
/* A host that is not told takes its state for complete: its sessions end then. */
void serve_send_gone(Serve *serve, PeerSession *session, const RemoteEnd *end);
/* End it, and tell the host why. */
void subscription_end(Subscription *s, RemoteGone cause, uint64_t oldest);
/* Send items, with which the subscription is complete up to the index; 0: more follow. -ENOMEM, or as
 * peer_reply(). */
int subscription_send(Subscription *s, PeerSession *session, uint64_t index, const Writer *items);

/* Forget the changed keys, and the versions that the host has. */
void slice_forget(Subscription *s);

/* Send the events that wait, or end the subscription. Return false if it has to wait. */
bool events_flush(Subscription *s, PeerSession *session);
/* Watch a key for the host. A negative errno: the subscription was ended. */
int events_watch(Subscription *s, KvBytes key, uint64_t since);

/* -- serve_slices.c -- */

/* Begin with all keys, and with the versions that the host has. 0 or -ENOMEM. */
int slice_begin(Subscription *s, RemoteSubscribe *subscribe);
/* Enter versions of the host into the table, as many as a turn of the loop permits. 1: all are in it; 0: some
 * are not; -ENOMEM. */
int slice_enter_versions(Subscription *s);
/* Send one page, or end the subscription. Return false if it has to wait. */
bool slice_send(Subscription *s, PeerSession *session);
