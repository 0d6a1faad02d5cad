#include "fleetd/registry/layout.h"

#include <assert.h>
#include <stdio.h>

#include "base/parse.h"
#include "units/machine.h"
#include "units/revision.h"

static const char layout_root[] = "/_fleet";

/* Segments that stand for the name of a unit or of another object, for a machine id, and for the number of a
 * revision. */
static const char any_name[] = "NAME", any_id[] = "ID", any_number[] = "NUMBER";

static const char *const paths[_LAYOUT_MAX][5] = {
        [LAYOUT_UNIT] = { "unit", any_name },
        [LAYOUT_TARGET] = { "target", any_name },
        [LAYOUT_REVISION] = { "revision", any_name, any_number },
        [LAYOUT_ROLLOUT] = { "rollout", any_name },
        [LAYOUT_MOVE] = { "move", any_name },
        [LAYOUT_FACTS] = { "machine", any_id, "facts" },
        [LAYOUT_PRESENCE] = { "machine", any_id, "presence" },
        [LAYOUT_METADATA] = { "machine", any_id, "metadata", any_name },
        [LAYOUT_ASSIGNMENT] = { "machine", any_id, "unit", any_name },
        [LAYOUT_PROBLEM] = { "machine", any_id, "problem", any_name },
        [LAYOUT_REPORTED] = { "machine", any_id, "reported" },
        [LAYOUT_MAINTENANCE] = { "machine", any_id, "maintenance" },
        [LAYOUT_REBOOT] = { "machine", any_id, "reboot" },
        [LAYOUT_STATE] = { "state", any_name, any_id },
        [LAYOUT_MEMBER] = { "cluster", "member", any_id },
        [LAYOUT_HOST] = { "cluster", "host", any_id },
        [LAYOUT_REMOVED] = { "cluster", "removed", any_id },
        [LAYOUT_DENIED] = { "cluster", "denied", any_name },
        [LAYOUT_TOKEN] = { "cluster", "token", any_name },
        [LAYOUT_PRINCIPAL] = { "cluster", "principal", any_name },
        [LAYOUT_LINEAGE] = { "cluster", "lineage", any_name },
        [LAYOUT_CA_ROOTS] = { "cluster", "ca", "roots" },
        [LAYOUT_CA_KEY] = { "cluster", "ca", "key" },
        [LAYOUT_CA_ROTATION] = { "cluster", "ca", "rotation" },
        [LAYOUT_SETTINGS] = { "cluster", "settings" },
        [LAYOUT_CLUSTER] = { "cluster", any_name },
};

const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine) {
        size_t n = snprintf(ret, LAYOUT_KEY_MAX, "%s", layout_root);

        assert(kind >= 0 && kind < _LAYOUT_MAX);
        for (const char *const *segment = paths[kind]; *segment; segment++) {
                const char *value = *segment;

                if (value == any_name)
                        value = unit;
                else if (value == any_id || value == any_number)
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
        if (pattern == any_name)
                return layout_copy(segment, size, ret->unit, sizeof(ret->unit));
        if (pattern == any_id)
                return layout_copy(segment, size, ret->machine, sizeof(ret->machine)) &&
                       machine_id_is_valid(ret->machine);
        if (pattern == any_number)
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
        const size_t n = sizeof(layout_root) - 1;
        const char *path = (const char *) key.data;

        *ret = (LayoutKey) {};
        if (key.size > n && memcmp(path, layout_root, n) == 0)
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
