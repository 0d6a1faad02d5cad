/* Routes: which handler answers a request, and the right that its sender needs. Within fleetd/api only. */
#pragma once

#include "fleetd/api/request.h"

/* Return the route of 'family', of the core or of 'components' (NULL: none), for a path of 'size' bytes, and
 * in *ret_rest what the pattern leaves open. NULL: there is none; then 'ret_methods' lists the methods of
 * other routes of this path, "" if the path has no route. */
enum { ROUTE_METHODS_SIZE = 64 };
const Route *route_find(const Component *const *components, RouteFamily family, const char *method,
                        const char *path, size_t size, const char **ret_rest,
                        char ret_methods[static ROUTE_METHODS_SIZE]);

/* Check the path and the right of the sender, and call the handler. */
void route_request(Request *request);
/* Answer 403: the sender lacks a right that the route needs. */
void route_forbid(Request *request, Right right);

/* -- Requests, also those that another host forwards -- */

/* Return a request of the API, which has no path, no parameters and no sender yet, or NULL without memory. */
Request *api_request_new(Api *api, HttpRequest *http);
/* Set what each listener of a kind has. */
void api_listener_init(ApiListenerState *listener, Api *api, ApiListener kind);
/* Return the limit of the body of a request, in bytes. */
size_t api_body_limit(const Api *api, const char *method, const char *path);
