/* Whose unit a name means on this host. The one rule by which the agent touches a unit or leaves it alone.
 * Pure. */
#pragma once

#include <stdbool.h>

typedef enum SystemdOwner {
        SYSTEMD_ABSENT,      /* nobody's: the name is free */
        SYSTEMD_OURS,        /* systemd reads it from our file of that name */
        SYSTEMD_CONFLICTING, /* the host has it from another source, or refuses it (a mask) */
} SystemdOwner;

/* What systemd says of a name. Strings are never NULL; "" is none. */
typedef struct SystemdSource {
        bool alias;           /* Id is another name: this one is an alias of it */
        const char *load;     /* LoadState */
        const char *fragment; /* FragmentPath */
        bool our_file;        /* 'fragment' is our file of that name, or a link to it */
} SystemdSource;

SystemdOwner systemd_owner(const SystemdSource *source);
