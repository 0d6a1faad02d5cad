/* The message of a verdict, for comparisons. */
#pragma once

#include "units/verdict.h"

/* Return it in static memory, until the next call. */
static inline const char *message_of(const Verdict *v) {
        static char buffer[2 * VERDICT_ARGS_SIZE];
        _cleanup_text_ Text t = {};

        verdict_append(&t, v);
        snprintf(buffer, sizeof(buffer), "%s", text_chars(&t));
        return buffer;
}
