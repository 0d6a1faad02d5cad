/* The names in a unit's [Install] section: those that it gets besides its own (Alias=), and the units that
 * are enabled with it (Also=). Enabling such a unit changes what these names mean on its host. */
#pragma once

#include "base/error.h"
#include "units/unit_file.h"

enum { INSTALL_NAMES_MAX = 256 }; /* words in Alias= and Also= of one unit */

/* Call 'each' for each name, with its specifiers replaced, until it returns another value than 0, and return
 * that; else 0, -ENOMEM, or -E2BIG after INSTALL_NAMES_MAX of them. What is too long for a name
 * (UNIT_NAME_MAX) keeps its specifiers. 'unit' is the name of the unit. */
int install_each_name(const char *unit, const UnitFile *file,
                      int (*each)(void *userdata, const UnitOption *option, const char *name),
                      void *userdata);

/* Refuse a name that may not belong to a unit of the cluster (unit_name_is_refused()), one that is too long,
 * and more than INSTALL_NAMES_MAX. 0, -EINVAL or -ENOMEM. */
int install_check(const char *unit, const UnitFile *file, Error *err);
