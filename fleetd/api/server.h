/* What the server offers to requests that arrive in another way than on a connection. Within fleetd/api only.
 */
#pragma once

#include "fleetd/api/request.h"

/* Return a request of the API, which has no path, no parameters and no sender yet, or NULL without memory. */
Request *api_request_new(Api *api, HttpRequest *http);
/* Set what each listener of a kind has. */
void api_listener_init(ApiListenerState *listener, Api *api, ApiListener kind);
/* Return the limit of the body of a request, in bytes. */
size_t api_body_limit(const Api *api, const char *method, const char *path);
