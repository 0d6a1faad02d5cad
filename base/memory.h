/* Ownership of memory and descriptors: cleanup attributes, transfer, checked sizes. Also the standard headers
 * that nearly every file needs. */
#pragma once

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f)    __attribute__((cleanup(f)))
#define _cleanup_free_  _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
#define _printf_(a, b)  __attribute__((format(printf, a, b)))
#define _unused_        __attribute__((unused))

#define ELEMENTS(x)     (sizeof(x) / sizeof((x)[0]))
#ifndef MIN /* as in sys/param.h, which libuv includes: an argument is evaluated twice */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define container_of(ptr, type, member) ((type *) ((char *) (ptr) -offsetof(type, member)))

/* Evaluate to the result of a call; if that is negative, return it. */
#define TRY(call)                        \
        ({                               \
                __auto_type _r = (call); \
                if (_r < 0)              \
                        return _r;       \
                _r;                      \
        })

/* Transfer ownership out of a variable with a cleanup attribute; the variable is NULL afterwards. */
#define TAKE_PTR(p)                     \
        ({                              \
                typeof(p) _taken = (p); \
                (p) = NULL;             \
                _taken;                 \
        })

#define TAKE_FD(fd)             \
        ({                      \
                int _fd = (fd); \
                (fd) = -1;      \
                _fd;            \
        })

/* The same for a struct that is a value; the variable is zeroed afterwards. */
#define TAKE_STRUCT(s)                      \
        ({                                  \
                typeof(s) _taken = (s);     \
                memset(&(s), 0, sizeof(s)); \
                _taken;                     \
        })

/* Define the cleanup function of a destructor: DEFINE_CLEANUP(Unit *, unit_free) defines unit_freep(). */
#define DEFINE_CLEANUP(type, func)                     \
        _unused_ static inline void func##p(type *p) { \
                if (*p)                                \
                        func(*p);                      \
        }

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

/* Return an uninitialized element, or NULL. Where each request needs one: calloc() does not use the cache of
 * the thread, and takes three times as long (glibc before 2.41). */
#define NEW(type) ((type *) malloc(sizeof(type)))

/* Return a zeroed array of n elements, or NULL. */
#define NEW0(type, n) ((type *) calloc((n), sizeof(type)))

/* Grow *items to at least 'n' elements of 'size' bytes, by doubling. Return 0 or -ENOMEM. New elements are
 * not initialized. */
int grow(void *items, size_t *capacity, size_t n, size_t size);
#define GROW(items, capacity, n) grow(&(items), &(capacity), (n), sizeof(*(items)))

static inline int streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* Compare strings that may be NULL, which equals "". */
static inline bool same_string(const char *a, const char *b) {
        return streq(a ?: "", b ?: "");
}

/* Set *ret to a copy of 's', or to NULL if 's' is. Return 0 or -ENOMEM. */
static inline int copy_string(const char *s, char **ret) {
        *ret = s ? strdup(s) : NULL;
        return s && !*ret ? -ENOMEM : 0;
}

static inline int starts_with(const char *s, const char *prefix) {
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline int ends_with(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
