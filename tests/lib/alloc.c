#include "tests/lib/alloc.h"

#include <stdatomic.h>

#include "tests/lib/test.h"

static atomic_uint first, last, passed; /* 0 in 'first': nothing fails */
static atomic_bool failed, paused;

void alloc_fail_span(unsigned n, unsigned count) {
        atomic_store(&first, 0);
        atomic_store(&passed, 0);
        atomic_store(&failed, false);
        atomic_store(&paused, false);
        atomic_store(&last, count > UINT_MAX - n ? UINT_MAX : n + count - 1);
        atomic_store(&first, n);
}

void alloc_fail_at(unsigned n) {
        alloc_fail_span(n, 1);
}

void alloc_pause(bool on) {
        atomic_store(&paused, on);
}

bool alloc_has_failed(void) {
        return atomic_load(&failed);
}

/* -- Where they come from; of one thread -- */

enum { LINES_MAX = 1000, NOTED_MAX = 200 };

static struct {
        bool on;
        const void *lines[LINES_MAX]; /* return addresses */
        size_t n_lines, n;
        unsigned numbers[NOTED_MAX];
} noted;

void alloc_note_new(void) {
        noted.n = 0;
        alloc_fail_span(UINT_MAX, 1); /* counts */
        noted.on = true;
}

size_t alloc_noted(const unsigned **ret) {
        noted.on = false;
        *ret = noted.numbers;
        return noted.n;
}

static void note(const void *from, unsigned number) {
        for (size_t i = 0; i < noted.n_lines; i++)
                if (noted.lines[i] == from)
                        return;
        if (noted.n_lines == LINES_MAX || noted.n == NOTED_MAX)
                return;
        noted.lines[noted.n_lines++] = from;
        noted.numbers[noted.n++] = number;
}

static bool fails(const void *caller) {
        unsigned from = atomic_load(&first), n;

        if (from == 0 || atomic_load(&paused))
                return false;
        n = atomic_fetch_add(&passed, 1) + 1;
        if (noted.on)
                note(caller, n);
        if (n < from || n > atomic_load(&last))
                return false;
        atomic_store(&failed, true);
        errno = ENOMEM;
        return true;
}

bool alloc_fails(void) {
        return fails(__builtin_return_address(0));
}

#define WRAP(type, name, parameters, arguments)                                             \
        type __real_##name parameters;                                                      \
        type __wrap_##name parameters;                                                      \
        type __wrap_##name parameters {                                                     \
                return fails(__builtin_return_address(0)) ? NULL : __real_##name arguments; \
        }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))

int __real_vasprintf(char **ret, const char *format, va_list ap);
int __wrap_vasprintf(char **ret, const char *format, va_list ap);
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

int __wrap_vasprintf(char **ret, const char *format, va_list ap) {
        return fails(__builtin_return_address(0)) ? -1 : __real_vasprintf(ret, format, ap);
}

int __wrap_asprintf(char **ret, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = __wrap_vasprintf(ret, format, ap);
        va_end(ap);
        return n;
}

/* -- For objects that are spared -- */

int alloc_spared_asprintf(char **ret, const char *format, ...);
int alloc_spared_grow(void *items, size_t *capacity, size_t n, size_t size);

int alloc_spared_asprintf(char **ret, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = __real_vasprintf(ret, format, ap);
        va_end(ap);
        return n;
}

int alloc_spared_grow(void *items, size_t *capacity, size_t n, size_t size) {
        size_t wanted = *capacity ?: 8;
        void *more, *old;

        if (n <= *capacity)
                return 0;
        while (wanted < n)
                wanted *= 2;
        memcpy(&old, items, sizeof(old));
        more = __real_realloc(old, wanted * size);
        if (!more)
                abort();
        memcpy(items, &more, sizeof(more));
        *capacity = wanted;
        return 0;
}

/* -- Scenarios -- */

/* Of the sanitizer, where there is one. Its search for leaks takes long: it is asked only where the sum has
 * changed, and where it always does, at some points and behind the last. */
enum { POINTS_PER_LOOK = 32 };

extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated_bytes(void) {
        return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

static bool leaks(size_t before) {
        return allocated_bytes() != before && __lsan_do_recoverable_leak_check &&
               __lsan_do_recoverable_leak_check() != 0;
}

static unsigned fail_each(const char *name, int (*scenario)(void *userdata), void *userdata, unsigned stride,
                          unsigned count) {
        bool every = getenv("CHECK_ALL");
        unsigned points = 0;

        for (unsigned n = 1;; n += stride) {
                size_t before = allocated_bytes();
                bool fired;
                int r;

                alloc_fail_span(n, count);
                r = scenario(userdata);
                fired = alloc_has_failed();
                alloc_fail_at(0);
                if (!fired && r == 0) {
                        if (leaks(~(size_t) 0))
                                fail_msg("%s: something leaks at one of the last %d points", name,
                                         POINTS_PER_LOOK);
                        return points;
                }
                if (r != 0 && (r != -ENOMEM || !fired))
                        fail_msg("%s: allocation %u fails%s: %s", name, n,
                                 count == 1 ? "" : ", and all behind it", strerror(-r));
                if ((every || points % POINTS_PER_LOOK == 0) && leaks(before))
                        fail_msg("%s: allocation %u fails%s: something leaks", name, n,
                                 count == 1 ? "" : ", and all behind it");
                r = scenario(userdata);
                if (r != 0)
                        fail_msg("%s: after the failure of allocation %u: %s", name, n, strerror(-r));
                points++;
        }
}

unsigned alloc_fail_each(const char *name, int (*scenario)(void *userdata), void *userdata, unsigned stride) {
        unsigned points;
        int r = scenario(userdata);

        if (r != 0)
                fail_msg("%s: undisturbed: %s", name, strerror(-r));
        if (getenv("CHECK_ALL"))
                stride = 1;
        points = fail_each(name, scenario, userdata, stride, 1) +
                 fail_each(name, scenario, userdata, stride, UINT_MAX);
        printf("%s: %u points\n", name, points);
        return points;
}
