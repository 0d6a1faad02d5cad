/* The result of a verb that changes units, with --output=json. */
#pragma once

#include "client/core/client.h"

/* With --output=json, a verb that changes units prints a single object when it ends: "result" by its exit
 * status (done, failed, absent, continues), and the units that its arguments name, with their states, as they
 * are then. If these cannot be read, the object has the result only. A usage error has no object. Messages go
 * to stderr. For all other verbs nothing is done. */

/* Discard what the verb prints. 0 or a negative errno. */
int report_begin(const Client *c);

/* Print the object. 'status' is the result of the verb, which is returned unless printing fails. */
int report_end(Client *c, char **args, size_t n, int status);
