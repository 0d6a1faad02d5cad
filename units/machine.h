/* Machine: one host of the cluster as others see it, by its facts. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/sizes.h"
#include "base/error.h"
#include "base/text.h"
#include "units/lists.h"

enum {
        MACHINE_ID_SHORT = 8,     /* digits shown in lists, and accepted by MachineID= */
        METADATA_KEYS_MAX = 128,  /* pairs of one machine */
        METADATA_KEY_MAX = 128,   /* bytes */
        METADATA_VALUE_MAX = 256, /* bytes */
};

typedef struct Machine {
        char id[MACHINE_ID_SIZE];
        char *name;       /* what people call it: its host name */
        char *address;    /* primary IP for clients and lists; may be NULL */
        char *client;     /* URL where clients reach its key API (AdvertiseClient=); may be NULL */
        char *peer;       /* "ADDR:PORT" where its peers reach it; NULL while it listens to none */
        Pairs metadata;   /* one value a key */
        char *version;    /* of its fleetd */
        char *boot_id;    /* 32 hex digits */
        uint64_t raft_id; /* 0: holds no replica */
        bool quadlet;     /* its systemd has podman's generator: Quadlet files can run there */
        uint64_t level;   /* feature level that its program knows; 0: it did not say */
} Machine;

void machine_done(Machine *machine);
#define _cleanup_machine_ _cleanup_(machine_done)

int machine_copy(const Machine *from, Machine *ret);
bool machine_equal(const Machine *a, const Machine *b);

/* 32 lower-case hex digits. */
bool machine_id_is_valid(const char *id);

/* Reads "key=value,key=value" (Metadata= of fleetd.conf). Blanks around items are ignored, a later value
 * of a key wins. -EINVAL names the item. */
int machine_metadata_parse(const char *text, Pairs *ret, Error *err);

/* One key and one value, as configuration and API give them: keys are [A-Za-z0-9_.-]+, values without control
 * bytes. */
int machine_metadata_check(const char *key, const char *value, Error *err);

/* Adds "key=value,key=value", sorted, as list-machines shows them. */
void machine_metadata_print(const Pairs *metadata, Text *t);
