/* status without arguments: the whole cluster on one screen. */
#pragma once

#include "client/client.h"

/* Print the cluster, its problems first. Return EXIT_FAILED if there are any. */
int overview(Client *c);
