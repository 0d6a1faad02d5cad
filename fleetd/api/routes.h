/* Routes: which handler answers a request, and the right that its sender needs. Within fleetd/api only. */
#pragma once

#include "fleetd/api/request.h"
#include "fleetd/registry/policy.h"

/* Routes of one family share a form of errors, and the checks of a path before a route is searched. */
typedef enum RouteFamily {
        ROUTE_KEYS,    /* /v2/keys: the path is a key of any bytes */
        ROUTE_KV,      /* /fleet/v1/kv: the same */
        ROUTE_ETCD,    /* /v2 except keys, /version, /health */
        ROUTE_METRICS, /* /metrics */
        ROUTE_FLEET,   /* /fleet/v1 except kv; /v1-alpha is another name of it */
        ROUTE_UNKNOWN,
} RouteFamily;

typedef struct Route {
        RouteFamily family;
        const char *methods; /* words; NULL: any, and the handler rejects what it does not support */
        /* "/a": this path. "/a/ *" without the space: one more segment, which is Request.rest. "/a/ **": this
         * path and all below it; Request.rest is what follows "/a". */
        const char *pattern;
        Right right;
        void (*handle)(Request *request); /* answers, or leaves the request parked with 'forget' set */
        const char *parameters;           /* ROUTE_KV: words; all other parameters are rejected */
        RemoteCommandKind command;        /* of remote_command_handle() */
} Route;

/* Return the route of 'family' for a path of 'size' bytes, and in *ret_rest what the pattern leaves open.
 * NULL: there is none; then 'ret_methods' lists the methods of other routes of this path, "" if the path has
 * no route. */
enum { ROUTE_METHODS_SIZE = 64 };
const Route *route_find(RouteFamily family, const char *method, const char *path, size_t size,
                        const char **ret_rest, char ret_methods[static ROUTE_METHODS_SIZE]);

/* Return whether 'word' is one of the space-separated 'words'. */
bool route_has_word(const char *words, const char *word);

/* Check the path and the right of the sender, and call the handler. */
void route_request(Request *request);
