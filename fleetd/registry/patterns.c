#include "fleetd/registry/patterns.h"

#include <errno.h>

#include "base/parse.h"

struct PatternStart {
        LIST_HEAD(, Pattern) patterns;
        UT_hash_handle hh;
        size_t size;
        char bytes[];
};

size_t pattern_start(const char *text) {
        return strcspn(text, "*?[\\");
}

Pattern *patterns_find(const Patterns *p, const char *text) {
        Pattern *found;

        HASH_FIND_STR(p->all, text, found);
        return found;
}

static PatternStart *find_start(const Patterns *p, const char *bytes, size_t size) {
        PatternStart *found;

        HASH_FIND(hh, p->starts, bytes, size, found);
        return found;
}

static PatternStart *get_start(Patterns *p, const char *bytes, size_t size) {
        PatternStart *start = find_start(p, bytes, size);

        if (start)
                return start;
        start = (PatternStart *) NEW0(char, sizeof(*start) + size + 1);
        if (!start)
                return NULL;
        start->size = size;
        memcpy(start->bytes, bytes, size);
        HASH_ADD_KEYPTR(hh, p->starts, start->bytes, size, start);
        if (!TABLE_ADDED(start)) {
                free(start);
                return NULL;
        }
        p->n_by_size[size]++;
        return start;
}

/* When no pattern begins like that any more. */
static void drop_start(Patterns *p, PatternStart *start) {
        if (!LIST_EMPTY(&start->patterns))
                return;
        p->n_by_size[start->size]--;
        HASH_DEL(p->starts, start);
        free(start);
}

static Pattern *get(Patterns *p, const char *text) {
        Pattern *pattern = patterns_find(p, text);
        PatternStart *start;

        if (pattern)
                return pattern;
        start = get_start(p, text, pattern_start(text));
        if (!start)
                return NULL;
        pattern = (Pattern *) NEW0(char, sizeof(*pattern) + strlen(text) + 1);
        if (pattern) {
                memcpy(pattern->text, text, strlen(text) + 1);
                HASH_ADD_KEYPTR(hh, p->all, pattern->text, strlen(text), pattern);
        }
        if (!pattern || !TABLE_ADDED(pattern)) {
                free(pattern);
                drop_start(p, start);
                return NULL;
        }
        LIST_INSERT_HEAD(&start->patterns, pattern, alike);
        return pattern;
}

static void drop(Patterns *p, Pattern *pattern) {
        PatternStart *start = find_start(p, pattern->text, pattern_start(pattern->text));

        LIST_REMOVE(pattern, alike);
        HASH_DEL(p->all, pattern);
        free(pattern->units);
        free(pattern);
        drop_start(p, start);
}

int patterns_add(Patterns *p, const char *text, struct ClusterUnit *unit) {
        Pattern *pattern;

        if (pattern_start(text) > PATTERNS_NAME_MAX)
                return 0;
        pattern = get(p, text);
        if (!pattern)
                return -ENOMEM;
        if (GROW(pattern->units, pattern->capacity, pattern->n + 1) < 0) {
                if (pattern->n == 0)
                        drop(p, pattern);
                return -ENOMEM;
        }
        pattern->units[pattern->n++] = unit;
        return 0;
}

size_t patterns_remove(Patterns *p, const char *text, const struct ClusterUnit *unit) {
        Pattern *pattern = patterns_find(p, text);
        size_t i, passed;

        if (!pattern)
                return 0;
        for (i = pattern->n; i > 0 && pattern->units[i - 1] != unit; i--)
                ;
        passed = pattern->n - i;
        if (i == 0)
                return passed;
        memmove(&pattern->units[i - 1], &pattern->units[i], (pattern->n - i) * sizeof(*pattern->units));
        if (--pattern->n == 0)
                drop(p, pattern);
        return passed;
}

size_t patterns_drain(Patterns *p, size_t n) {
        size_t drained = 0;

        for (; drained < n && p->all; drained++)
                drop(p, p->all);
        return drained;
}

size_t patterns_match(const Patterns *p, const char *name,
                      bool (*each)(void *userdata, const Pattern *pattern), void *userdata) {
        size_t size = strlen(name), compared = 0, steps = 0;

        for (size_t i = 0; i <= size && i <= PATTERNS_NAME_MAX; i++) {
                PatternStart *start = p->n_by_size[i] > 0 ? find_start(p, name, i) : NULL;

                for (const Pattern *x = start ? LIST_FIRST(&start->patterns) : NULL; x;
                     x = LIST_NEXT(x, alike)) {
                        compared++;
                        if (glob_match_counted(x->text, name, &steps) && !each(userdata, x))
                                return compared + steps / PATTERNS_STEPS;
                }
        }
        return compared + steps / PATTERNS_STEPS;
}
