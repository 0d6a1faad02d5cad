/* Machine: the facts that a host publishes. */
#pragma once

#include "base/sizes.h"
#include "base/error.h"
#include "units/lists.h"
#include "units/resources.h"

enum {
        MACHINE_ID_SHORT = 8,     /* digits in lists, and accepted by MachineID= */
        METADATA_KEYS_MAX = 128,  /* pairs of one machine */
        METADATA_KEY_MAX = 128,   /* bytes */
        METADATA_VALUE_MAX = 256, /* bytes */
};

typedef struct Machine {
        char id[MACHINE_ID_SIZE];
        char *name;            /* host name */
        char *address;         /* primary IP address; may be NULL */
        char *client;          /* URL of its key API (AdvertiseClient=); may be NULL */
        char *peer;            /* "ADDR:PORT" for peers; NULL without a listener */
        Pairs metadata;        /* one value per key */
        char *version;         /* of its fleetd */
        char *boot_id;         /* 32 hex digits */
        uint64_t raft_id;      /* 0: holds no replica */
        char *checks;          /* how its health checks exceed the limits of a host; NULL: they do not */
        uint64_t soft_reboots; /* since that boot; 0: none, or not known yet */
        bool booting;          /* boot-complete.target is in use and not reached; for a planned reboot only */
        bool needs_reboot;     /* its system asks for a reboot, after an update */
        bool soft_reboot;      /* its systemd can reboot the userspace alone: since 254 */
        bool users;            /* accepts users with certificates (ListenTLS=) */
        bool quadlet;          /* has podman's generator for systemd, and so runs Quadlet files */
        uint64_t level;        /* feature level that its program supports; 0: not reported */
        bool takes_finished;   /* its agent knows Assignment.finished */
        Resources capacity; /* what units may use of it, without Reserve=; 0: not reported, or not readable */
} Machine;

void machine_done(Machine *machine);
#define _cleanup_machine_ _cleanup_(machine_done)

/* 32 lower-case hex digits. */
bool machine_id_is_valid(const char *id);

/* Parse "key=value,key=value" (Metadata= in fleetd.conf). Spaces around items are ignored; of several values
 * of a key, the last one counts. -EINVAL names the item. */
int machine_metadata_parse(const char *text, Pairs *ret, Error *err);

/* Check a key and a value of configuration or API: a key is [A-Za-z0-9_.-]+, a value has no control
 * characters. */
int machine_metadata_check(const char *key, const char *value, Error *err);
