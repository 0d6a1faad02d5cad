/* Stored revisions of units. */
#pragma once

#include "client/core/client.h"

/* Return EXIT_DONE and a stored revision of a unit, or the wanted one if 'number' is NULL, or an exit status
 * after a message. */
int client_revision(Client *c, const char *name, const char *number, ApiUnit *ret);
