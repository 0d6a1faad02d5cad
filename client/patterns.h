/* Patterns of unit names, in the syntax of systemctl. */
#pragma once

#include "client/client.h"

/* Replace patterns ("web@*") among the arguments by the units of the cluster that match, sorted by name.
 * Without 'all', patterns match neither templates nor inactive units. A pattern without a match stays: no
 * unit has such a name.
 *
 * With 'confirm', patterns are replaced only with --yes, or after a confirmation at the terminal. Return an
 * exit status. */
int patterns_expand(Client *c, char **args, size_t n, bool all, bool confirm, Names *ret, Error *err);

/* Read arguments that filter: names get their type, patterns stay. Return 0 or -ENOMEM. */
int patterns_read(char **args, size_t n, Names *ret);

/* Return whether 'name' is one of the names or matches one of the patterns. */
bool patterns_match(const Names *patterns, const char *name);
bool patterns_have_glob(const Names *patterns); /* whether any of them is a pattern */
