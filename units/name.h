/* Unit names: validity, reserved names, and parts.
 *
 * A name that passed unit_name_check() is a safe file name: no '/', no leading '.', at most 255 bytes. A
 * template is "prefix@.type", an instance "prefix@instance.type", split at the first '@' and the last '.':
 * "a@b@c.d.service" is the instance "b@c.d" of "a@.service". */
#pragma once

#include "base/error.h"

enum { UNIT_NAME_MAX = 255 }; /* bytes; systemd's limit */

/* The guard of a singleton (units/singleton.h): this, the unit's name, ".service". */
#define SINGLETON_GUARD "fleet-singleton@"

/* Check that this is a unit name; -EINVAL names the first rule that it breaks. The rules and their texts are
 * fleet's, since scripts parse them. Names that begin with '.' and names of 256 bytes are rejected, too:
 * systemd does not support them. */
int unit_name_check(const char *name, Error *err);

/* Return whether a valid name is reserved: units of systemd.special(7), fleet's own units, and types without
 * unit files (scope, slice, device, ...). *ret_reason (may be NULL) is the reason. */
bool unit_name_is_refused(const char *name, const char **ret_reason);

bool unit_name_is_template(const char *name); /* "a@.service" */
bool unit_name_is_instance(const char *name); /* "a@1.service" */
const char *unit_name_type(const char *name); /* after the last '.': "service"; "" without a dot; borrowed */

bool unit_name_has_type(const char *name); /* any type of units, also of a name that is invalid */

/* Return the type that a misspelt ending stands for ("service" for "web.servce"); NULL for all other names.
 * Short endings stand for none: fleet reads "example.com" as "example.com.service". */
const char *unit_name_meant_type(const char *name);

/* Each returns a new string; NULL without memory. */
char *unit_name_prefix(const char *name); /* up to the '@', else up to the type: "a" */
/* "a@.service" of "a@1.service"; a copy of the name for all others */
char *unit_name_template(const char *name);

/* Return the unit name for a command line argument: the last component of a path, with ".service" if it has
 * no type. */
char *unit_name_from_argument(const char *argument);

/* Return 'value' with %n (name), %N (name without type), %p (prefix) and %i (instance) replaced; there is no
 * %%, and other specifiers stay. For [X-Fleet] only: systemd replaces the specifiers of the other sections.
 */
char *unit_name_expand(const char *name, const char *value);
