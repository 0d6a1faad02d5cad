/* Unit names: which are names at all, which we refuse, and what their parts are.
 *
 * A name that passed unit_name_check() is a safe file name: no '/', no leading '.', at most 255 bytes. A
 * template is "prefix@.type", an instance "prefix@instance.type", split at the first '@' and the last '.':
 * "a@b@c.d.service" is the instance "b@c.d" of "a@.service". */
#pragma once

#include <stdbool.h>

#include "base/error.h"

enum { UNIT_NAME_MAX = 255 }; /* systemd's limit, bytes */

/* Is this a unit name? -EINVAL with the first rule it breaks. The rules and their texts are fleet's (scripts
 * read them); names starting with '.' and names of 256 bytes are refused besides, since systemd does not take
 * them. */
int unit_name_check(const char *name, Error *err);

/* Valid, but not ours to manage: what systemd.special(7) names, fleet's own units, and types that are not
 * made from unit files (scope, slice, device, ...). *ret_reason says why, as the end of a sentence about the
 * unit; it may be NULL. */
bool unit_name_is_refused(const char *name, const char **ret_reason);

bool unit_name_is_template(const char *name); /* "a@.service" */
bool unit_name_is_instance(const char *name); /* "a@1.service" */
const char *unit_name_type(const char *name); /* behind the last '.': "service"; "" without a dot; borrowed */

/* Each returns a new string, or NULL without memory. */
char *unit_name_prefix(const char *name);   /* up to the '@', else up to the type: "a" */
char *unit_name_instance(const char *name); /* "1"; "" for all others */
char *unit_name_template(
        const char *name); /* "a@.service" of "a@1.service"; a copy of the name for all others */
char *unit_name_make_instance(const char *template_name, const char *instance);

/* What a person typed as a unit: the last component of a path, and ".service" where the type is missing. */
char *unit_name_from_argument(const char *argument);

/* 'value' with %n (name), %N (without type), %p (prefix), %i (instance) put in; there is no %%, and other
 * specifiers stay. For [X-Fleet] only: all other sections belong to systemd, which knows its own. */
char *unit_name_expand(const char *name, const char *value);
