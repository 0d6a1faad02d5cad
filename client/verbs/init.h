/* The begin of a cluster of several hosts. */
#pragma once

#include "client/core/client.h"

enum { INIT_POLL_MS = 200 };

/* Send the request of init or join. */
int init_request(Client *c, const char *path, const char *token, bool exposed, JsonValue **ret, Error *err);

/* Open the peer listener of this host, wait until it is open, and print its address on 'to': stdout, or
 * stderr if another command needs the listener. The result is that of a verb. */
int init_open(Client *c, FILE *to, Error *err);
/* The same if this host is a cluster of one without a listener; otherwise nothing. */
int init_open_alone(Client *c, FILE *to, Error *err);
