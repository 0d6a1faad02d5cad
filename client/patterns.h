/* Patterns of unit names, as systemctl takes them. */
#pragma once

#include "client/client.h"

bool is_pattern(const char *s);

/* The arguments with patterns ("web@*") replaced by the units of the cluster that they fit, sorted by name;
 * templates only with 'all', units that are on no machine too. A pattern that fits none stays as it is: no
 * unit has such a name. With 'ask' a pattern stands for units only when --yes says so, or a person at a
 * terminal who is shown them. An exit status. */
int patterns_expand(Client *c, char **args, size_t n, bool all, bool ask, Names *ret);
