#include "tests/lib/alloc.h"

#include <stddef.h>

static unsigned countdown;
static bool failed;

void alloc_fail_at(unsigned n) {
        countdown = n;
        failed = false;
}

bool alloc_has_failed(void) {
        return failed;
}

static bool fails_now(void) {
        if (countdown == 0 || --countdown > 0)
                return false;
        failed = true;
        return true;
}

#define WRAP(type, name, parameters, arguments)                 \
        type __real_##name parameters;                          \
        type __wrap_##name parameters;                          \
        type __wrap_##name parameters {                         \
                return fails_now() ? NULL : __real_##name arguments; \
        }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))
