/* What overview.c shows of events.c. */
#pragma once

#include "client/client.h"

/* The last comings and goings of machines within an hour, "12:04:11 beta is lost    12:09:40 beta is up",
 * oldest first; nothing where there were none, or the daemon does not tell. */
void events_recent(Client *c, const Listing *machines, Text *ret);
