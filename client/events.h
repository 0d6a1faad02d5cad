/* Recent events for the overview of the cluster. */
#pragma once

#include "client/client.h"

/* Append the latest changes in the presence of machines within an hour, oldest first: "12:04:11 beta is lost
 * 12:09:40 beta is up". Nothing is appended without any, or if the daemon does not answer. */
void events_append_recent(Client *c, const Listing *machines, Text *ret);
