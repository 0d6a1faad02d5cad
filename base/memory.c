#include "base/memory.h"

int grow(void *items, size_t *capacity, size_t n, size_t size) {
        size_t want;
        void *p;

        if (n <= *capacity)
                return 0;

        want = MAX(n, *capacity < 8 ? 8 : *capacity * 2);
        if (want > SIZE_MAX / size)
                return -ENOMEM;

        p = realloc(*(void **) items, want * size);
        if (!p)
                return -ENOMEM;

        *(void **) items = p;
        *capacity = want;
        return 0;
}
