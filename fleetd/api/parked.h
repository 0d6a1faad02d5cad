/* Watches of clients of a host without a replica. While no replica can be reached, they are parked, and
 * continue by index on the next one; after PARKED_MS their connections are cut, so that the clients may try
 * another host. */
#pragma once

#include "fleetd/api/request.h"

void parked_init(Api *api);
void parked_end(Api *api);
/* A watch of a client has begun, or this host has no replica from now on. */
void parked_begin(Api *api);
