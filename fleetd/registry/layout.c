#include "fleetd/registry/layout.h"

#include <assert.h>
#include <stdio.h>

#include "units/machine.h"

static const char root[] = "/_fleet/";

const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine) {
        int n = -1;

        switch (kind) {
        case LAYOUT_UNIT:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/unit/%s", unit);
                break;
        case LAYOUT_TARGET:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/target/%s", unit);
                break;
        case LAYOUT_FACTS:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/facts", machine);
                break;
        case LAYOUT_PRESENCE:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/presence", machine);
                break;
        case LAYOUT_REPORTED:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/reported", machine);
                break;
        case LAYOUT_METADATA:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/metadata/%s", machine, unit);
                break;
        case LAYOUT_ASSIGNMENT:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/unit/%s", machine, unit);
                break;
        case LAYOUT_PROBLEM:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/machine/%s/problem/%s", machine, unit);
                break;
        case LAYOUT_STATE:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/state/%s/%s", unit, machine);
                break;
        case LAYOUT_CLUSTER:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/cluster/%s", unit);
                break;
        case LAYOUT_MEMBER:
                n = snprintf(ret, LAYOUT_KEY_MAX, "/_fleet/cluster/member/%s", machine);
                break;
        case _LAYOUT_MAX:
        case _LAYOUT_OTHER:
                break;
        }

        assert(n > 0 && n < LAYOUT_KEY_MAX);
        return ret;
}

/* The segments of a path; more than ours have are counted, not kept. */
typedef struct Segments {
        const char *at[4];
        size_t size[4];
        size_t n;
} Segments;

static Segments split(const char *path, size_t size) {
        Segments s = {};
        size_t start = 0;

        for (size_t i = 0; i <= size; i++) {
                if (i < size && path[i] != '/')
                        continue;
                if (s.n < ELEMENTS(s.at)) {
                        s.at[s.n] = path + start;
                        s.size[s.n] = i - start;
                }
                s.n++;
                start = i + 1;
        }
        return s;
}

static bool segment_is(const Segments *s, size_t i, const char *word) {
        return s->size[i] == strlen(word) && memcmp(s->at[i], word, s->size[i]) == 0;
}

static bool copy_name(const Segments *s, size_t i, char ret[static 256]) {
        if (s->size[i] == 0 || s->size[i] > 255 || memchr(s->at[i], 0, s->size[i]))
                return false;
        memcpy(ret, s->at[i], s->size[i]);
        ret[s->size[i]] = 0;
        return true;
}

static bool copy_machine(const Segments *s, size_t i, char ret[static MACHINE_ID_SIZE]) {
        if (s->size[i] != MACHINE_ID_SIZE - 1)
                return false;
        memcpy(ret, s->at[i], s->size[i]);
        ret[s->size[i]] = 0;
        return machine_id_is_valid(ret);
}

static LayoutKind parse(const Segments *s, LayoutKey *ret) {
        if (s->n == 2 && segment_is(s, 0, "unit") && copy_name(s, 1, ret->unit))
                return LAYOUT_UNIT;
        if (s->n == 2 && segment_is(s, 0, "target") && copy_name(s, 1, ret->unit))
                return LAYOUT_TARGET;
        if (s->n == 2 && segment_is(s, 0, "cluster") && !segment_is(s, 1, "member") &&
            copy_name(s, 1, ret->unit)) /* that is a directory */
                return LAYOUT_CLUSTER;
        if (s->n == 3 && segment_is(s, 0, "machine") && copy_machine(s, 1, ret->machine)) {
                if (segment_is(s, 2, "facts"))
                        return LAYOUT_FACTS;
                if (segment_is(s, 2, "presence"))
                        return LAYOUT_PRESENCE;
                if (segment_is(s, 2, "reported"))
                        return LAYOUT_REPORTED;
        }
        if (s->n == 4 && segment_is(s, 0, "machine") && copy_machine(s, 1, ret->machine) &&
            copy_name(s, 3, ret->unit)) {
                if (segment_is(s, 2, "unit"))
                        return LAYOUT_ASSIGNMENT;
                if (segment_is(s, 2, "metadata"))
                        return LAYOUT_METADATA;
                if (segment_is(s, 2, "problem"))
                        return LAYOUT_PROBLEM;
        }
        if (s->n == 3 && segment_is(s, 0, "state") && copy_name(s, 1, ret->unit) &&
            copy_machine(s, 2, ret->machine))
                return LAYOUT_STATE;
        if (s->n == 3 && segment_is(s, 0, "cluster") && segment_is(s, 1, "member") &&
            copy_machine(s, 2, ret->machine))
                return LAYOUT_MEMBER;
        return _LAYOUT_OTHER;
}

bool layout_parse(KvBytes key, LayoutKey *ret) {
        const size_t n = sizeof(root) - 1;
        LayoutKey k = { .kind = _LAYOUT_OTHER };

        if (key.size > n && memcmp(key.data, root, n) == 0) {
                Segments s = split((const char *) key.data + n, key.size - n);

                k.kind = parse(&s, &k);
        }
        if (k.kind == _LAYOUT_OTHER)
                k = (LayoutKey) { .kind = _LAYOUT_OTHER };

        *ret = k;
        return k.kind != _LAYOUT_OTHER;
}
