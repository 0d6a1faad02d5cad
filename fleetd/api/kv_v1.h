/* /fleet/v1/kv: fleet's own key API, in addition to v2. Keys and values of any bytes, transactions, pages, a
 * stream of all changes. Keys below /_fleet are visible as in v2. Shared by the files of this API. */
#pragma once

#include "base/text.h"
#include "fleetd/api/request.h"
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

void kv_refuse(Request *request, const KvRefusal *refusal);
void kv_refusal_write(Text *t, const KvRefusal *refusal);
/* Set HTTP status and message for a status of the store. */
void kv_refusal_of(KvRefusal *ret, Request *request, const KvResult *result);

/* Write a node as an object, at the cluster time 'now_ms'; 'name' NULL: without a name. */
void kv_node_write(Text *t, const char *name, const KvNode *node, bool with_value, uint64_t now_ms);

/* Check that 'key' is written exactly as the tree has it: 0 or -EINVAL with a message. */
int kv_key_check(KvBytes key, Error *err);

/* Check the limits of this host (LimitKeySize=, LimitValueSize=): 0 or -E2BIG with a message. */
int kv_limits_check(const Request *request, const KvCommand *write, Error *err);

/* Decode a transaction from JSON. On success *ret borrows from 'arena' only. On failure *ret_at names the
 * place
 * ("writes[3]", "" for none), and 'err' the reason. Pure. */
int kv_txn_decode(const void *json, size_t size, Arena *arena, KvCommand *ret, char ret_at[static 32],
                  Error *err);

/* Encode an event as a line: 1 and a reference in *ret, 0 for an event without a line, or a negative errno.
 */
typedef int (*KvLine)(KvWatchEvent *event, Shared **ret);

/* Begin a stream of all changes below p->prefix, in lines of this form. 'registry': the changes are fleet's
 * own, and the right to the route suffices; "after" 0 is the beginning of the event window, and a line with
 * the index alone follows once the window is delivered. */
void kv_changes_begin(Request *request, const KvParameters *p, KvLine line, bool registry);

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
void kv_refuse_text(Request *request, unsigned status, const char *format, ...) _printf_(3, 4);

/* Handlers, and the answers where there is none. */
void kv_list_handle(Request *request);
void kv_txn_handle(Request *request);
void kv_changes_handle(Request *request);
void kv_value_get_handle(Request *request);
void kv_value_put_handle(Request *request);
void kv_value_delete_handle(Request *request);
void kv_v1_not_allowed(Request *request, const char *methods);
void kv_v1_not_found(Request *request);
