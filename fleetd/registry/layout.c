#include "fleetd/registry/layout.h"

#include <assert.h>
#include <stdio.h>

#include "base/parse.h"
#include "units/machine.h"
#include "units/revision.h"

static const char root[] = "/_fleet";

/* Segments that stand for the name of a unit or of another object, for a machine id, and for the number of a
 * revision. */
static const char name[] = "NAME", id[] = "ID", number[] = "NUMBER";

static const char *const paths[_LAYOUT_MAX][5] = {
        [LAYOUT_UNIT] = { "unit", name },
        [LAYOUT_TARGET] = { "target", name },
        [LAYOUT_REVISION] = { "revision", name, number },
        [LAYOUT_ROLLOUT] = { "rollout", name },
        [LAYOUT_MOVE] = { "move", name },
        [LAYOUT_FACTS] = { "machine", id, "facts" },
        [LAYOUT_PRESENCE] = { "machine", id, "presence" },
        [LAYOUT_METADATA] = { "machine", id, "metadata", name },
        [LAYOUT_ASSIGNMENT] = { "machine", id, "unit", name },
        [LAYOUT_PROBLEM] = { "machine", id, "problem", name },
        [LAYOUT_REPORTED] = { "machine", id, "reported" },
        [LAYOUT_MAINTENANCE] = { "machine", id, "maintenance" },
        [LAYOUT_REBOOT] = { "machine", id, "reboot" },
        [LAYOUT_STATE] = { "state", name, id },
        [LAYOUT_MEMBER] = { "cluster", "member", id },
        [LAYOUT_HOST] = { "cluster", "host", id },
        [LAYOUT_REMOVED] = { "cluster", "removed", id },
        [LAYOUT_DENIED] = { "cluster", "denied", name },
        [LAYOUT_TOKEN] = { "cluster", "token", name },
        [LAYOUT_PRINCIPAL] = { "cluster", "principal", name },
        [LAYOUT_LINEAGE] = { "cluster", "lineage", name },
        [LAYOUT_CA_ROOTS] = { "cluster", "ca", "roots" },
        [LAYOUT_CA_KEY] = { "cluster", "ca", "key" },
        [LAYOUT_CA_ROTATION] = { "cluster", "ca", "rotation" },
        [LAYOUT_SETTINGS] = { "cluster", "settings" },
        [LAYOUT_CLUSTER] = { "cluster", name },
};

const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine) {
        size_t n = snprintf(ret, LAYOUT_KEY_MAX, "%s", root);

        assert(kind >= 0 && kind < _LAYOUT_MAX);
        for (const char *const *segment = paths[kind]; *segment; segment++) {
                const char *value = *segment;

                if (value == name)
                        value = unit;
                else if (value == id || value == number)
                        value = machine;
                n += snprintf(ret + n, LAYOUT_KEY_MAX - n, "/%s", value);
                assert(n < LAYOUT_KEY_MAX);
        }
        return ret;
}

static bool layout_copy(const char *segment, size_t size, char *ret, size_t ret_size) {
        if (size == 0 || size >= ret_size || memchr(segment, 0, size))
                return false;
        memcpy(ret, segment, size);
        ret[size] = 0;
        return true;
}

static bool layout_match_segment(const char *pattern, const char *segment, size_t size, LayoutKey *ret) {
        if (pattern == name)
                return layout_copy(segment, size, ret->unit, sizeof(ret->unit));
        if (pattern == id)
                return layout_copy(segment, size, ret->machine, sizeof(ret->machine)) &&
                       machine_id_is_valid(ret->machine);
        if (pattern == number)
                return layout_copy(segment, size, ret->machine, sizeof(ret->machine)) &&
                       revision_parse_number(ret->machine) > 0;
        return size == strlen(pattern) && memcmp(segment, pattern, size) == 0;
}

/* The directories below "cluster": they are no keys of the kind LAYOUT_CLUSTER. */
static const char *const directories[] = { "ca",     "denied",    "host",    "lineage",
                                           "member", "principal", "removed", "token" };

/* Match the rest of a key, which begins with a slash, with a kind's path. */
static bool layout_match(const char *const *path, const char *key, size_t key_size, LayoutKey *ret) {
        const char *end = key + key_size;

        for (; *path; path++) {
                const char *segment = key + 1, *slash;

                if (key == end || *key != '/')
                        return false;
                slash = memchr(segment, '/', end - segment);
                key = slash ?: end;
                if (!layout_match_segment(*path, segment, key - segment, ret))
                        return false;
        }
        return key == end;
}

bool layout_parse(KvBytes key, LayoutKey *ret) {
        const size_t n = sizeof(root) - 1;
        const char *path = (const char *) key.data;

        *ret = (LayoutKey) {};
        if (key.size > n && memcmp(path, root, n) == 0)
                for (LayoutKind kind = 0; kind < _LAYOUT_MAX; kind++) {
                        ret->kind = kind;
                        ret->unit[0] = ret->machine[0] = 0;
                        if (layout_match(paths[kind], path + n, key.size - n, ret) &&
                            !(kind == LAYOUT_CLUSTER && IS_AMONG(ret->unit, directories)))
                                return true;
                }

        *ret = (LayoutKey) { .kind = _LAYOUT_OTHER };
        return false;
}
