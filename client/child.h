/* Programs that fleetctl leaves work to: an editor, diff, ssh. */
#pragma once

#include "base/error.h"

/* Runs 'argv' (found in PATH) on our own streams until it ends. Its exit status, or 128 and the signal that ended it; -ENOENT and
 * others with a sentence when it cannot be run. */
int child_run(const char *const *argv, Error *err);
