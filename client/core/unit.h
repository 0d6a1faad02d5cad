/* Requests about units. */
#pragma once

#include "client/core/client.h"

/* Return 1 and the unit, or 0 if it does not exist. */
int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err);

/* The text of a unit as submitted, or its printed form if the daemon has no text. */
void append_unit_text(Text *t, const ApiUnit *unit);

enum { BATCH_UNITS = 200 }; /* of one transaction, which has to fit into one log entry */

/* Return a change of a unit that sets nothing yet. */
ApiUnit client_change_of(const char *name);

/* Create units, replace them, or set their target states. Many units go in one transaction, all or nothing,
 * as far as they fit (200 units, 100 KiB). Of each unit these fields count: name, text, desired state
 * (inactive if there is none and the text is new), 'keep', and the expected hash and state. */
int client_change(Client *c, const ApiUnit *units, size_t n, Error *err);
int client_set_state(Client *c, const char *name, TargetState state, Error *err); /* of one unit */

/* Destroy units, several in one transaction (at most BATCH_UNITS). Of each unit 'name' and 'destroy' are set.
 * A unit that is already absent counts as destroyed. */
int client_destroy(Client *c, const ApiUnit *units, size_t n, Error *err);
