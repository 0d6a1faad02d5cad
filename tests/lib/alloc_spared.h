/* For the compiler's -include, of a test's own objects: what they allocate is neither counted nor failed
 * (tests/lib/alloc.h), so that what surrounds the code under test need not ask. */
#pragma once

#include <stdarg.h>

#include "base/memory.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *format, va_list ap);
int alloc_spared_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int alloc_spared_grow(void *items, size_t *capacity, size_t n, size_t size);

#define malloc  __real_malloc
#define calloc  __real_calloc
#define realloc __real_realloc
#undef strdup
#define strdup __real_strdup
#undef strndup
#define strndup   __real_strndup
#define vasprintf __real_vasprintf
#define asprintf  alloc_spared_asprintf
#define grow      alloc_spared_grow
