/* What people who mistyped may have meant. For people only: nothing is said where standard error is no
 * terminal, since scripts read it. */
#pragma once

#include "client/client.h"

/* "fleetctl: did you mean web@1.service?", of the units of the cluster; nothing where none is spelt alike. */
void suggest_unit(Client *c, const char *name);

/* Is 'b' spelt like 'a', or its beginning? 'ret' is how alike: 0 is the most. */
bool is_spelt_alike(const char *a, const char *b, size_t *ret);
