#include "fleetd/registry/layout.h"

#include "fleetd/registry/kinds.h"
#include "units/machine.h"
#include "units/revision.h"

static const char layout_root[] = "/_fleet/";

const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine) {
        size_t n = sizeof(layout_root) - 1;

        assert(kind >= 0 && kind < _LAYOUT_MAX);
        memcpy(ret, layout_root, n);
        for (const char *p = kinds[kind]->path; *p; p++) {
                const char *value = *p != '%' ? p : *++p == 'u' ? unit : machine;
                size_t size = value == p ? 1 : strlen(value);

                assert(n + size < LAYOUT_KEY_MAX);
                memcpy(ret + n, value, size);
                n += size;
        }
        ret[n] = 0;
        return ret;
}

static bool layout_copy(const char *segment, size_t size, char *ret, size_t ret_size) {
        if (size == 0 || size >= ret_size || memchr(segment, 0, size))
                return false;
        memcpy(ret, segment, size);
        ret[size] = 0;
        return true;
}

/* Match the segment that a letter after '%' stands for. */
static bool layout_match_segment(char letter, const char *segment, size_t size, LayoutKey *ret) {
        if (letter == 'u')
                return layout_copy(segment, size, ret->unit, sizeof(ret->unit));
        return layout_copy(segment, size, ret->machine, sizeof(ret->machine)) &&
               (letter == 'm' ? machine_id_is_valid(ret->machine) : revision_parse_number(ret->machine) > 0);
}

/* Match the rest of a key with a kind's path. */
static bool layout_match(const char *path, const char *key, const char *end, LayoutKey *ret) {
        for (; *path; path++) {
                const char *slash = *path == '%' && key < end ? memchr(key, '/', end - key) : NULL;

                if (key == end)
                        return false;
                if (*path != '%') {
                        if (*key++ != *path)
                                return false;
                        continue;
                }
                if (!layout_match_segment(*++path, key, (slash ?: end) - key, ret))
                        return false;
                key = slash ?: end;
        }
        return key == end;
}

/* Return whether keys of other kinds are below "cluster/NAME": it is none of LAYOUT_CLUSTER. */
static bool layout_is_directory(const char *name) {
        size_t n = strlen(name);

        for (LayoutKind kind = 0; kind < LAYOUT_CLUSTER; kind++) {
                const char *path = kinds[kind]->path;

                if (starts_with(path, "cluster/") && strncmp(path + 8, name, n) == 0 && path[8 + n] == '/')
                        return true;
        }
        return false;
}

bool layout_parse(KvBytes key, LayoutKey *ret) {
        const size_t n = sizeof(layout_root) - 1;
        const char *path = (const char *) key.data;

        *ret = (LayoutKey) {};
        if (key.size > n && memcmp(path, layout_root, n) == 0)
                for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++) {
                        ret->kind = kind;
                        ret->unit[0] = ret->machine[0] = 0;
                        if (layout_match(kinds[kind]->path, path + n, path + key.size, ret) &&
                            !(kind == LAYOUT_CLUSTER && layout_is_directory(ret->unit)))
                                return true;
                }

        *ret = (LayoutKey) { .kind = _LAYOUT_OTHER };
        return false;
}
