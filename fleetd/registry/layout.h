/* Every key of the tree below /_fleet, made and taken apart here and nowhere else. ARCHITECTURE lists the
 * layout. */
#pragma once

#include <stdbool.h>

#include "kvstore/command.h"
#include "base/sizes.h"
#include "units/name.h"

enum { LAYOUT_KEY_MAX = 512 };

typedef enum LayoutKind {
        LAYOUT_UNIT,     /* /_fleet/unit/NAME */
        LAYOUT_TARGET,   /* /_fleet/target/NAME */
        LAYOUT_FACTS,    /* /_fleet/machine/ID/facts */
        LAYOUT_PRESENCE, /* /_fleet/machine/ID/presence */
        LAYOUT_METADATA, /* /_fleet/machine/ID/metadata/KEY: plain text, set by people; empty hides the host's
                            own */
        LAYOUT_ASSIGNMENT, /* /_fleet/machine/ID/unit/NAME */
        LAYOUT_PROBLEM,    /* /_fleet/machine/ID/problem/NAME: what its unit directory cannot do */
        LAYOUT_REPORTED, /* /_fleet/machine/ID/reported: the new lineage in which it has said all that runs on
                            it, in hex */
        LAYOUT_STATE,    /* /_fleet/state/NAME/ID */
        LAYOUT_CLUSTER,  /* /_fleet/cluster/NAME: engine, next-raft-id, voters, ... */
        LAYOUT_MEMBER,   /* /_fleet/cluster/member/ID: {"raftId","peer","client"} of hosts with a replica */
        _LAYOUT_MAX,
        _LAYOUT_OTHER = -1,
} LayoutKind;

typedef struct LayoutKey {
        LayoutKind kind;
        char unit[UNIT_NAME_MAX + 1]; /* or the cluster or metadata key's name */
        char machine[MACHINE_ID_SIZE];
} LayoutKey;

/* Writes the key into 'ret'; what the kind does not need may be NULL. Names were checked before. Returns
 * 'ret'. */
const char *layout_key(char ret[static LAYOUT_KEY_MAX], LayoutKind kind, const char *unit,
                       const char *machine);

/* Takes a key apart; false (kind _LAYOUT_OTHER) for what is not ours or not known to this version. */
bool layout_parse(KvBytes key, LayoutKey *ret);
