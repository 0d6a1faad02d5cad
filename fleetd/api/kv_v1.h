/* /fleet/v1/kv: fleet's own key API, in addition to v2. Keys and values of any bytes, transactions, pages, a
 * stream of all changes. Keys below /_fleet are visible as in v2. Shared by the files of this API. */
#pragma once

#include "base/text.h"
#include "fleetd/api/handlers.h"
#include "kvstore/command/arena.h"
#include "units/json.h"

enum {
        KV_PAGE_DEFAULT = 1000, /* nodes of a page where "limit" is not given */
        KV_PAGE_MAX = 10000,
        KV_PAGE_BYTES = 1024 * 1024,       /* of keys and values: a page ends with the node that reaches it */
        KV_TXN_BODY_MAX = 2 * 1024 * 1024, /* bytes of JSON: the largest command with each byte escaped */
        KV_PROGRESS_DEFAULT_S = 10,
        KV_PROGRESS_MAX_S = 3600,
};

/* The parameters of a request; each route takes some of them. */
typedef struct KvParameters {
        KvBytes prefix; /* "/" by default */
        KvBytes page;   /* "nextPageToken", as sent */
        bool quorum, recursive, values, dir;
        bool has_prev_exist, prev_exist, has_ttl, has_after;
        uint64_t limit, after, progress, ttl, prev_index;
} KvParameters;

/* The state of a request. */
typedef struct KvRequest {
        KvParameters p;
        KvBytes key; /* of /value/KEY: borrowed from the request's path */
        void (*read)(Request *request);
        Arena arena; /* memory of the command of a transaction */
        KvCommand command;
} KvRequest;

/* {"error":{"at","code","message"},"found":{...},"index":N}. 'at' is a place in the request, "" for none;
 * 'found' may be NULL; index 0 is left out. */
typedef struct KvRefusal {
        unsigned status;
        char at[32];
        uint64_t index, oldest; /* 0: left out */
        const KvNode *found;
        uint64_t now_ms; /* cluster time, for the time to live of 'found' */
        Error err;
} KvRefusal;

unsigned kv_refuse(Request *request, const KvRefusal *refusal);
void kv_refusal_write(Text *t, const KvRefusal *refusal);
/* Set HTTP status and message for a status of the store. */
void kv_refusal_of(KvRefusal *ret, Request *request, const KvResult *result);

/* Write a node as an object, at the cluster time 'now_ms'; 'name' NULL: without a name. */
void kv_node_write(Text *t, const char *name, const KvNode *node, bool with_value, uint64_t now_ms);

/* Check that 'key' is written exactly as the tree has it: 0 or -EINVAL with a message. */
int kv_key_check(KvBytes key, Error *err);

/* Check the limits of this host (LimitKeySize=, LimitValueSize=): 0 or -E2BIG with a message. */
int kv_limits_check(const Request *request, const KvCommand *write, Error *err);

/* Read the parameters that the route of 'request' takes. False: one is rejected, and the request is answered.
 */
bool kv_parameters_read(Request *request, KvParameters *ret);
/* Set the state of a request, with its parameters. NULL: the request is answered. */
KvRequest *kv_request_new(Request *request);
/* Call 'read' now, or with "quorum" when this host has applied everything acknowledged before. */
void kv_request_read(Request *request, void (*read)(Request *request));
/* Propose the command of the request. */
void kv_request_propose(Request *request, void (*done)(Request *request, const KvResult *result));

/* Answer an error; with status 503, the client may try again. */
unsigned kv_refuse_text(Request *request, unsigned status, const char *format, ...) _printf_(3, 4);

/* The answers where there is no handler. */
void kv_v1_not_allowed(Request *request, const char *methods);
void kv_v1_not_found(Request *request);
