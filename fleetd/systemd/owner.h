/* Owner of a unit name on this host: the one rule by which the agent touches a unit. Pure. */
#pragma once

#include <stdbool.h>

typedef enum SystemdOwner {
        SYSTEMD_ABSENT,      /* the name is free */
        SYSTEMD_OURS,        /* systemd reads the unit from our file of that name */
        SYSTEMD_CONFLICTING, /* the host has the unit from another source, or masks it */
} SystemdOwner;

/* Properties of a name in systemd. Strings are never NULL; "" means none. */
typedef struct SystemdSource {
        bool alias;           /* Id is another name: an alias */
        const char *load;     /* LoadState */
        const char *fragment; /* FragmentPath */
        bool our_file;        /* 'fragment' is our file of that name, or a link to it */
} SystemdSource;

SystemdOwner systemd_owner(const SystemdSource *source);
