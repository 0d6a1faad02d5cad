/* What status states of a voter that does not answer. */
#pragma once

#include "client/verbs/overview.h"

/* Return the standby that votes in place of a voter that is lost or removed; NULL: there is none. Borrowed.
 */
const JsonValue *cluster_standby(const JsonValue *cluster);

bool machine_is_presence(const ApiMachine *m, const char *presence); /* false for NULL */

/* Append the state of an unreachable voter, of which 'n' are voters and 'n_reachable' answer, and what to do.
 * Return the command, as a Condition has it; "": none. */
const char *append_voter(Text *t, const View *v, const JsonValue *member, size_t n, size_t n_reachable);
