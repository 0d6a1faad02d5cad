/* The message of a verdict, for tests; one of the last four. "": NULL. */
#pragma once

#include "units/verdict.h"

/* A verdict that was said, as an initializer. */
#define SAID(text) \
        { .code = VERDICT_SAID, .said = true, .args = (text) }

static inline const char *words_of(const Verdict *v) {
        static Error messages[4];
        static unsigned n;
        Error *message = &messages[n++ % 4];

        verdict_print(v ?: &(Verdict) {}, message);
        return message->message;
}
