#include "fleetd/registry/patterns.h"

#include "base/parse.h"

struct PatternPrefix {
        LIST_HEAD(, Pattern) patterns;
        UT_hash_handle hh;
        size_t size;
        char bytes[];
};

size_t pattern_start(const char *text) {
        return strcspn(text, "*?[\\");
}

/* Return the size of the prefix under which a pattern is filed. */
static size_t pattern_filed(const char *text) {
        return MIN(pattern_start(text), (size_t) PATTERNS_NAME_MAX);
}

Pattern *patterns_find(const Patterns *p, const char *text) {
        return patterns_find_bytes(p, text, strlen(text));
}

Pattern *patterns_find_bytes(const Patterns *p, const char *bytes, size_t size) {
        Pattern *found;

        HASH_FIND(hh, p->all, bytes, size, found);
        return found;
}

static PatternPrefix *patterns_find_prefix(const Patterns *p, const char *bytes, size_t size) {
        PatternPrefix *found;

        HASH_FIND(hh, p->prefixes, bytes, size, found);
        return found;
}

static PatternPrefix *patterns_get_prefix(Patterns *p, const char *bytes, size_t size) {
        PatternPrefix *prefix = patterns_find_prefix(p, bytes, size);

        if (prefix)
                return prefix;
        prefix = (PatternPrefix *) NEW0(char, sizeof(*prefix) + size + 1);
        if (!prefix)
                return NULL;
        prefix->size = size;
        memcpy(prefix->bytes, bytes, size);
        HASH_ADD_KEYPTR(hh, p->prefixes, prefix->bytes, size, prefix);
        if (!TABLE_ADDED_OR_FREED(prefix))
                return NULL;
        p->n_by_size[size]++;
        return prefix;
}

/* Drop a prefix after its last pattern. */
static void patterns_drop_prefix(Patterns *p, PatternPrefix *prefix) {
        if (!LIST_EMPTY(&prefix->patterns))
                return;
        p->n_by_size[prefix->size]--;
        HASH_DEL(p->prefixes, prefix);
        free(prefix);
}

static Pattern *patterns_get(Patterns *p, const char *text) {
        Pattern *pattern = patterns_find(p, text);
        PatternPrefix *prefix;

        if (pattern)
                return pattern;
        prefix = patterns_get_prefix(p, text, pattern_filed(text));
        if (!prefix)
                return NULL;
        pattern = (Pattern *) NEW0(char, sizeof(*pattern) + strlen(text) + 1);
        if (pattern) {
                memcpy(pattern->text, text, strlen(text) + 1);
                HASH_ADD_KEYPTR(hh, p->all, pattern->text, strlen(text), pattern);
        }
        if (!pattern || !TABLE_ADDED(pattern)) {
                free(pattern);
                patterns_drop_prefix(p, prefix);
                return NULL;
        }
        LIST_INSERT_HEAD(&prefix->patterns, pattern, of_prefix);
        return pattern;
}

static void patterns_drop(Patterns *p, Pattern *pattern) {
        PatternPrefix *prefix = patterns_find_prefix(p, pattern->text, pattern_filed(pattern->text));

        LIST_REMOVE(pattern, of_prefix);
        HASH_DEL(p->all, pattern);
        free(pattern->units);
        free(pattern);
        patterns_drop_prefix(p, prefix);
}

int patterns_add(Patterns *p, const char *text, struct ClusterUnit *unit) {
        Pattern *pattern = patterns_get(p, text);

        if (!pattern)
                return -ENOMEM;
        if (GROW(pattern->units, pattern->capacity, pattern->n + 1) < 0) {
                if (pattern->n == 0)
                        patterns_drop(p, pattern);
                return -ENOMEM;
        }
        pattern->units[pattern->n++] = unit;
        return 0;
}

size_t patterns_remove(Patterns *p, const char *text, const struct ClusterUnit *unit) {
        Pattern *pattern = patterns_find(p, text);
        size_t i, n_compared;

        if (!pattern)
                return 0;
        for (i = pattern->n; i > 0 && pattern->units[i - 1] != unit; i--)
                ;
        n_compared = pattern->n - i;
        if (i == 0)
                return n_compared;
        memmove(&pattern->units[i - 1], &pattern->units[i], (pattern->n - i) * sizeof(*pattern->units));
        if (--pattern->n == 0)
                patterns_drop(p, pattern);
        return n_compared;
}

size_t patterns_drain(Patterns *p, size_t n) {
        size_t drained = 0;

        for (; drained < n && p->all; drained++)
                patterns_drop(p, p->all);
        return drained;
}

size_t patterns_match(const Patterns *p, const char *name,
                      bool (*each)(void *userdata, const Pattern *pattern), void *userdata) {
        size_t size = strlen(name), compared = 0, steps = 0;

        for (size_t i = 0; p->prefixes && i <= size && i <= PATTERNS_NAME_MAX; i++) {
                PatternPrefix *prefix = p->n_by_size[i] > 0 ? patterns_find_prefix(p, name, i) : NULL;

                for (const Pattern *x = prefix ? LIST_FIRST(&prefix->patterns) : NULL; x;
                     x = LIST_NEXT(x, of_prefix)) {
                        compared++;
                        if (glob_match_counted(x->text, name, &steps) && !each(userdata, x))
                                return compared + steps / PATTERNS_STEPS;
                }
        }
        return compared + steps / PATTERNS_STEPS;
}
