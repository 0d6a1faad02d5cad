/* Arguments that are patterns of unit names, in the syntax of systemctl. */
#pragma once

#include "client/core/client.h"
#include "units/lists.h"

/* Replace patterns ("web@*") among the arguments by the units of the cluster that match, sorted by name.
 * Without 'all', patterns match neither templates nor inactive units. A pattern without a match stays: no
 * unit has such a name.
 *
 * With 'confirm', units that match a pattern require --yes, or a confirmation at the terminal. The result is
 * that of a verb. */
int patterns_expand(Client *c, char **args, size_t n, bool all, bool confirm, Names *ret, Error *err);

/* Check that no argument that names a unit ends in a misspelt type: it would name the service
 * "web.servce.service". Return an exit status. */
int patterns_check_types(const Verb *v, char **args, size_t n);

/* Read arguments that filter: names get their type, patterns stay. Return 0 or -ENOMEM. */
int patterns_read(char **args, size_t n, Names *ret);

/* Return whether 'name' is one of the names or matches one of the patterns. */
bool patterns_match(const Names *patterns, const char *name);
