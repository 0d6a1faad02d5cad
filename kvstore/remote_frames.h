/* The frames between a host without a replica and a replica, as bytes: subscriptions and reads. Pure; the
 * bytes may come from any host.
 *
 * A host subscribes to its slice, whose keys the replica determines, or to changes of a key or of all keys
 * below one. A slice is a state: pages bring its keys as they are, first all that the host lacks, later those
 * that change. Others are a sequence of events after an index. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/sizes.h"
#include "kvstore/command/command.h"
#include "peers/frames.h"

enum {
        REMOTE_PROTOCOL = 1,
        REMOTE_HASHES_MAX = 65536, /* keys that a host has of its slice */
        REMOTE_MEMBERS_MAX = 16,
        REMOTE_PAGE = 256 * 1024, /* bytes of items, after which a page ends */
};

typedef enum RemoteKind {
        REMOTE_SLICE,
        REMOTE_KEY,
        REMOTE_BELOW,  /* the key, and all below it */
        REMOTE_KEY_V2, /* the same two by v2's rule: KvWatchOptions.absent */
        REMOTE_BELOW_V2,
        _REMOTE_KIND_MAX,
} RemoteKind;

/* PEER_SUBSCRIBE: the replica answers with pages or events of that number. */
typedef struct RemoteSubscribe {
        uint32_t number; /* of the session's host; not in use */
        RemoteKind kind;
        KvBytes key;             /* empty for a slice; borrowed, as the next */
        Reader hashes;           /* remote_hash() of each key that the host has of its slice: u64 each */
        uint64_t since;          /* first index of events; 0: from now on */
        uint64_t lineage, bound; /* of the host: the replica has to have applied the bound */
} RemoteSubscribe;

/* Return the hash of a version of a key, which is the same on all hosts. */
uint64_t remote_hash(KvBytes key, uint64_t modified);

void remote_subscribe_write(const RemoteSubscribe *subscribe, const uint64_t *hashes, size_t n, Writer *w);
/* 0, or -EBADMSG: not a frame of this version. */
int remote_subscribe_read(const void *bytes, size_t size, RemoteSubscribe *ret);
/* Return whether there was another hash. */
bool remote_next_hash(RemoteSubscribe *subscribe, uint64_t *ret);

/* PEER_UNSUBSCRIBE: the number alone. */
void remote_unsubscribe_write(uint32_t number, Writer *w);
int remote_unsubscribe_read(const void *bytes, size_t size, uint32_t *ret);

/* PEER_PAGE of a slice. */
typedef enum RemoteItemKind {
        REMOTE_NODE = 1, /* the slice has this node */
        REMOTE_REMOVED,  /* the slice does not have this key any more */
        REMOTE_DROPPED,  /* the same of the version with this hash */
        REMOTE_EVENT,    /* of PEER_EVENTS */
} RemoteItemKind;

typedef struct RemoteItem {
        RemoteItemKind kind;
        KvNode node; /* borrowed; REMOTE_REMOVED: only its key */
        uint64_t hash;
        KvEvent event; /* borrowed */
} RemoteItem;

/* The head of PEER_PAGE and PEER_EVENTS; items follow up to the end of the frame. */
typedef struct RemotePage {
        uint32_t number;
        uint64_t index; /* with these items, the subscription is complete up to this index; 0: more follow */
        uint64_t lineage;
        Reader items;
} RemotePage;

void remote_page_write(const RemotePage *page, Writer *w);
void remote_item_write(const RemoteItem *item, Writer *w);
int remote_page_read(const void *bytes, size_t size, RemotePage *ret);
/* 1: an item; 0: there is none left; -EBADMSG. */
int remote_next_item(RemotePage *page, RemoteItem *ret);

/* PEER_GONE: the subscription is over. */
typedef enum RemoteGone {
        REMOTE_GONE_WINDOW,   /* the events since that index are not kept any more */
        REMOTE_GONE_LINEAGE,  /* of another lineage */
        REMOTE_GONE_OVERFLOW, /* the host did not take its pages or events in time */
        REMOTE_GONE_RIGHTS,   /* the host may not read these keys, or not any more */
        REMOTE_GONE_BEHIND,   /* the replica has not reached the bound */
        REMOTE_GONE_FULL,     /* of subscriptions */
        _REMOTE_GONE_MAX,
} RemoteGone;

typedef struct RemoteEnd {
        uint32_t number;
        RemoteGone cause;
        uint32_t retry_ms;
        uint64_t oldest, index; /* of REMOTE_GONE_WINDOW: the first index that is kept; of the store */
} RemoteEnd;

void remote_end_write(const RemoteEnd *end, Writer *w);
int remote_end_read(const void *bytes, size_t size, RemoteEnd *ret);

/* PEER_READ: the replica answers with PEER_FOUND of that number. */
typedef enum RemoteReadKind {
        REMOTE_SYNC, /* no key: the index that was current when the request arrived */
        REMOTE_GET,  /* the node at the key */
        _REMOTE_READ_MAX,
} RemoteReadKind;

typedef struct RemoteRead {
        uint32_t number;
        RemoteReadKind kind;
        KvBytes key;    /* borrowed */
        uint64_t bound; /* highest index that the host has seen: the tree must have reached it */
} RemoteRead;

void remote_read_write(const RemoteRead *read, Writer *w);
int remote_read_read(const void *bytes, size_t size, RemoteRead *ret);

/* PEER_FOUND: the node follows as an item, if there is one. */
typedef struct RemoteFound {
        uint32_t number;
        KvStatus status; /* of REMOTE_SYNC */
        int error;       /* negative errno: the read has failed; with -ENOENT: the key does not exist */
        uint64_t index;  /* of the tree that was read; of REMOTE_SYNC: all that was acknowledged before is in
                            it */
        bool has_node, is_file; /* as KvFound, as the next */
        KvBytes missing;        /* borrowed */
        Reader items;
} RemoteFound;

void remote_found_write(const RemoteFound *found, Writer *w);
int remote_found_read(const void *bytes, size_t size, RemoteFound *ret);
/* As remote_next_item(), for REMOTE_NODE. */
int remote_next_node(RemoteFound *found, KvNode *ret);

/* PEER_CURRENT: the answer to a heartbeat. */
typedef struct RemoteCurrent {
        uint64_t cluster_id, lineage;
        uint64_t index;  /* the slice is complete up to this index; 0: there is no complete slice, or pages
                            are on their way */
        uint64_t events; /* all events of the session's subscriptions up to this index were sent before; 0:
                            some are on their way */
        uint64_t raft_index, commit, term, leader_id;
        char leader[MACHINE_ID_SIZE]; /* machine; "": unknown */
        uint64_t stale_ms;            /* since the replica had a leader; 0: it has one */
        uint64_t cluster_ms;          /* cluster time */
        uint32_t level;               /* feature level of the tree */
        bool stops;                   /* the replica stops: use another one */
        bool rare;                    /* many hosts use it: one heartbeat in a second is enough */
        struct RemoteMember {
                uint64_t raft_id;
                bool standby;
        } members[REMOTE_MEMBERS_MAX]; /* replicas that an attached host may use */
        size_t n_members;
} RemoteCurrent;

void remote_current_write(const RemoteCurrent *current, Writer *w);
int remote_current_read(const void *bytes, size_t size, RemoteCurrent *ret);
