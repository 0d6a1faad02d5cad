/* Select one planted bug at run time: MUTANT=NAME. Only a scratch copy whose sources have the patches of this
 * folder includes this header (tests/mutants/scratch.sh). With -DMUTANT_ALONE, the one patch that is applied
 * is always in effect. */
#pragma once

#ifdef MUTANT_ALONE
#define mutant(name) 1
#else
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool mutant(const char *name) {
        static const char *chosen;
        static bool known;

        if (!known) {
                chosen = getenv("MUTANT");
                known = true;
        }
        return chosen && strcmp(chosen, name) == 0;
}
#endif
