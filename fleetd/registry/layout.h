/* Keys below /_fleet: the only place that builds and parses them, by the paths of their kinds (kinds.h).
 * docs/FORMATS.md lists the values. */
#pragma once

#include "kvstore/command/command.h"
#include "base/sizes.h"
#include "fleetd/registry/kind_list.h"
#include "units/name.h"

enum { LAYOUT_KEY_MAX = 512 };

typedef struct LayoutKey {
        LayoutKind kind;
        char unit[UNIT_NAME_MAX + 1];  /* or the name of another key */
        char machine[MACHINE_ID_SIZE]; /* or the number of a revision */
} LayoutKey;

/* Write the key into 'ret' and return it. A name that the kind's path does not contain may be NULL; the
 * others are valid. */
const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine);

/* Parse a key. Return false, with the kind _LAYOUT_OTHER, for a key of no kind that this version has. */
bool layout_parse(KvBytes key, LayoutKey *ret);
