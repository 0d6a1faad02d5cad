/* /fleet/v1/kv: fleet's own way to the keys, beside v2's. Keys and values are any bytes; transactions, pages,
 * a stream of all changes.
 *
 * At both doors: over TCP what is fleet's own is not there, as with v2. What is shared by its files stands
 * here. */
#pragma once

#include "base/text.h"
#include "fleetd/api/request.h"
#include "kvstore/arena.h"
#include "units/json.h"

enum {
        KV_PAGE_DEFAULT = 1000, /* nodes of a page where "limit" is not given */
        KV_PAGE_MAX = 10000,
        KV_PAGE_BYTES = 1024 * 1024, /* of keys and values: a page ends behind the node that reaches it */
        KV_TXN_BODY_MAX = 2 * 1024 * 1024, /* bytes of JSON: the largest command, with every byte escaped */
        KV_PROGRESS_DEFAULT_S = 10,
        KV_PROGRESS_MAX_S = 3600,
};

/* What a request's parameters say; each route takes some of them. */
typedef struct KvParameters {
        KvBytes prefix; /* "/" where it is not given */
        KvBytes page;   /* "nextPageToken", as sent */
        bool quorum, recursive, values, dir;
        bool has_prev_exist, prev_exist, has_ttl, has_after;
        uint64_t limit, after, progress, ttl, prev_index;
} KvParameters;

/* One request for keys while it is worked on. */
typedef struct KvRequest {
        Request *request;
        KvParameters p;
        KvBytes key; /* of /value/KEY: borrowed from the request's path */
        KvSync sync;
        void (*read)(struct KvRequest *
                             ask); /* reads the tree as it is now, answers, and ends with kv_request_free() */
        bool syncing;
        uint64_t number; /* of a proposal; 0: none */
        ApiListing listing;
        KvGet get;
        KvList *list; /* a large one under way; NULL: none */
        Arena arena;  /* of a transaction: what its command borrows */
        KvCommand command;
} KvRequest;

void kv_request_free(KvRequest *ask);
/* Calls ask->read() now, or with "quorum" when all is here that had been acknowledged. */
void kv_request_read(KvRequest *ask);
/* Proposes ask->command; 'done' ends with kv_request_free(). */
void kv_request_propose(KvRequest *ask, KvDone done);

/* {"error":{"at","code","message"},"found":{...},"index":N}. 'at' (a place in what was sent) and 'found' may
 * be NULL; index 0 is left out. */
typedef struct KvRefusal {
        unsigned status;
        char at[32];
        uint64_t index, oldest; /* 0: left out */
        const KvNode *found;
        uint64_t now_ms; /* cluster time, for the time to live of 'found' */
        Error err;
} KvRefusal;

void kv_refuse(Request *request, const KvRefusal *refusal);
void kv_refusal_write(Text *t, const KvRefusal *refusal);
/* What a status of the store is here: HTTP's number, and a sentence. */
void kv_refusal_of(KvRefusal *ret, Request *request, const KvResult *result);

/* A node as an object, of the cluster time 'now_ms'; 'name' NULL: no member. */
void kv_node_write(Text *t, const char *name, const KvNode *node, bool with_value, uint64_t now_ms);

/* A path as it stands in the tree, said exactly so? -EINVAL with a sentence. */
int kv_key_check(KvBytes key, Error *err);

/* What is written is within this host's own limits (LimitKeySize=, LimitValueSize=)? -E2BIG with a sentence.
 */
int kv_limits_check(const Request *request, const KvCommand *write, Error *err);

/* A transaction out of JSON. On success *ret borrows from 'arena' alone; else a negative errno, *ret_at names
 * the place ("writes[3]", "" for none), and 'err' what is wrong with it. Pure. */
int kv_txn_decode(const void *json, size_t size, Arena *arena, KvCommand *ret, char ret_at[static 32],
                  Error *err);

/* The bytes of an event's line, a reference for the caller in *ret: 1; 0 for an event that is not told; or a
 * negative errno. */
typedef int (*KvLine)(KvWatchEvent *event, Shared **ret);

/* Begins a stream of all changes of ask->p.prefix, in lines of this form; owns 'ask'. 'told': a line with the
 * index alone follows as soon as what the window of events had is told; then "after" 0 is as far back as that
 * goes. */
void kv_changes_begin(KvRequest *ask, KvLine line, bool told);

/* Read the parameters that the route of 'request' takes. NULL: one is rejected, and the request is answered.
 */
KvRequest *kv_request_new(Request *request);

/* Handlers, and the answers where there is none. */
void kv_list_handle(Request *request);
void kv_txn_handle(Request *request);
void kv_changes_handle(Request *request);
void kv_value_get_handle(Request *request);
void kv_value_put_handle(Request *request);
void kv_value_delete_handle(Request *request);
void kv_v1_not_allowed(Request *request, const char *methods);
void kv_v1_not_found(Request *request);
