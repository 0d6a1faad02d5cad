/* Requests that hosts without a replica forward: the side of the replica. */
#pragma once

#include "fleetd/api/request.h"

typedef struct Serving Serving;

/* Set *ret to the sender of a forwarded request, with the rights that it has now: a new reference. */
int serving_sender(const Request *request, Sender **ret);

int serving_new(Api *api);
void serving_free(Api *api);
