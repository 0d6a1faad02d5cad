/* How often a test repeats what it draws: in ./check, in ./check --full, and with --all. */
#pragma once

#include <stdlib.h>

static inline unsigned test_size(unsigned quick, unsigned full, unsigned all) {
        return getenv("CHECK_ALL") ? all : getenv("CHECK_QUICK") ? quick : full;
}
