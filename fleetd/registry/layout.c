#include "fleetd/registry/layout.h"

#include <assert.h>
#include <stdio.h>

#include "fleetd/registry/kinds.h"
#include "units/machine.h"

static const char root[] = "/_fleet/";

typedef enum Segment { SEGMENT_LITERAL, SEGMENT_NAME, SEGMENT_MACHINE } Segment;

static bool layout_is(const char *segment, size_t size, const char *word) {
        return size == strlen(word) && memcmp(segment, word, size) == 0;
}

static Segment layout_segment(const char *segment, size_t size) {
        if (layout_is(segment, size, "UNIT") || layout_is(segment, size, "NAME"))
                return SEGMENT_NAME;
        return layout_is(segment, size, "ID") ? SEGMENT_MACHINE : SEGMENT_LITERAL;
}

const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine) {
        const char *const values[] = { [SEGMENT_NAME] = unit, [SEGMENT_MACHINE] = machine };
        size_t n = snprintf(ret, LAYOUT_KEY_MAX, "%s", root);

        assert(kind >= 0 && kind < _LAYOUT_MAX);
        for (const char *segment = kinds[kind].path; *segment;) {
                size_t size = strcspn(segment, "/");
                Segment type = layout_segment(segment, size);
                const char *value = type == SEGMENT_LITERAL ? segment : values[type];
                size_t value_size = type == SEGMENT_LITERAL ? size : strlen(value);
                bool last = segment[size] == 0;

                n += snprintf(ret + n, LAYOUT_KEY_MAX - n, "%.*s%s", (int) value_size, value,
                              last ? "" : "/");
                assert(n < LAYOUT_KEY_MAX);
                segment += size + !last;
        }
        return ret;
}

static bool layout_copy_name(const char *segment, size_t size, char ret[static UNIT_NAME_MAX + 1]) {
        if (size == 0 || size > UNIT_NAME_MAX || memchr(segment, 0, size))
                return false;
        memcpy(ret, segment, size);
        ret[size] = 0;
        return true;
}

static bool layout_copy_machine(const char *segment, size_t size, char ret[static MACHINE_ID_SIZE]) {
        if (size != MACHINE_ID_SIZE - 1)
                return false;
        memcpy(ret, segment, size);
        ret[size] = 0;
        return machine_id_is_valid(ret);
}

static bool layout_match_segment(const char *pattern, size_t pattern_size, const char *segment, size_t size,
                                 LayoutKey *ret) {
        switch (layout_segment(pattern, pattern_size)) {
        case SEGMENT_NAME:
                return layout_copy_name(segment, size, ret->unit);
        case SEGMENT_MACHINE:
                return layout_copy_machine(segment, size, ret->machine);
        case SEGMENT_LITERAL:
                break;
        }
        return size == pattern_size && memcmp(segment, pattern, size) == 0;
}

/* Match a key below the root with a kind's path, segment by segment. */
static bool layout_match(const char *pattern, const char *path, size_t path_size, LayoutKey *ret) {
        const char *end = path + path_size;

        for (;;) {
                size_t pattern_size = strcspn(pattern, "/");
                const char *slash = memchr(path, '/', end - path);
                size_t size = (slash ?: end) - path;

                if (!layout_match_segment(pattern, pattern_size, path, size, ret))
                        return false;
                if (!slash || pattern[pattern_size] == 0)
                        return !slash && pattern[pattern_size] == 0;
                pattern += pattern_size + 1;
                path = slash + 1;
        }
}

bool layout_parse(KvBytes key, LayoutKey *ret) {
        const size_t n = sizeof(root) - 1;
        const char *path = (const char *) key.data;

        if (key.size > n && memcmp(path, root, n) == 0)
                for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++) {
                        *ret = (LayoutKey) { .kind = kind };
                        if (layout_match(kinds[kind].path, path + n, key.size - n, ret) &&
                            !(kind == LAYOUT_CLUSTER && streq(ret->unit, "member"))) /* a directory */
                                return true;
                }

        *ret = (LayoutKey) { .kind = _LAYOUT_OTHER };
        return false;
}
