/* Keys below /_fleet: the only place that builds and parses them. docs/FORMATS.md lists the values. */
#pragma once

#include <stdbool.h>

#include "kvstore/command/command.h"
#include "base/sizes.h"
#include "units/name.h"

enum { LAYOUT_KEY_MAX = 512 };

typedef enum LayoutKind {
        LAYOUT_UNIT,
        LAYOUT_TARGET,
        LAYOUT_REVISION, /* a text that the unit had; LayoutKey.machine is its number */
        LAYOUT_ROLLOUT,  /* of a set: an ordinary unit, a global one, or a template with its followers */
        LAYOUT_MOVE,     /* the unit moves to a machine, by a request */
        LAYOUT_FACTS,
        LAYOUT_PRESENCE,
        LAYOUT_METADATA, /* plain text, set by people; "" hides the pair that the host reports */
        LAYOUT_ASSIGNMENT,
        LAYOUT_PROBLEM,     /* of a unit directory */
        LAYOUT_REPORTED,    /* the new lineage in which the host has reported all that it runs, in hex */
        LAYOUT_MAINTENANCE, /* the machine is cordoned, or drained */
        LAYOUT_REBOOT,      /* it is to reboot */
        LAYOUT_STATE,
        LAYOUT_MEMBER,      /* a host with a replica */
        LAYOUT_HOST,        /* a host of the cluster, with its public keys */
        LAYOUT_REMOVED,     /* the tombstone of a host */
        LAYOUT_DENIED,      /* a public key that is not accepted again; the name is its pin */
        LAYOUT_TOKEN,       /* permission to join; the name is its ID */
        LAYOUT_PRINCIPAL,   /* rights of a user */
        LAYOUT_LINEAGE,     /* begin of a lineage; the name is the lineage in hex */
        LAYOUT_CA_ROOTS,    /* of the cluster's CA: the certificates of its roots, */
        LAYOUT_CA_KEY,      /* its private keys, sealed with the cluster key, */
        LAYOUT_CA_ROTATION, /* and the state of a rotation */
        LAYOUT_SETTINGS,    /* of the cluster */
        LAYOUT_CLUSTER, /* any other: engine, next-raft-id, level, ...; the last kind: it matches many names
                         */
        _LAYOUT_MAX,
        _LAYOUT_OTHER = -1,
} LayoutKind;

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
