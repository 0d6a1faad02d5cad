/* Names in a unit's [Install] section: additional names of the unit (Alias=), and units that are enabled
 * together with it (Also=). Enabling the unit changes the units of these names on its host. */
#pragma once

#include "units/unit_file.h"

enum { INSTALL_NAMES_MAX = 256 }; /* words in Alias= and Also= of one unit */

/* Call 'each' for each name, with specifiers replaced, until it returns a non-zero value, and return that.
 * Otherwise return 0, -ENOMEM, or -E2BIG after INSTALL_NAMES_MAX names. A word that is longer than
 * UNIT_NAME_MAX keeps its specifiers. 'unit' is the name of the unit. */
int install_each_name(const char *unit, const UnitFile *file,
                      int (*each)(void *userdata, const UnitOption *option, const char *name),
                      void *userdata);

/* Reject reserved names (unit_name_is_refused()), names that are too long, and more than INSTALL_NAMES_MAX.
 * Return 0, -EINVAL or -ENOMEM. */
int install_check(const char *unit, const UnitFile *file, Error *err);
