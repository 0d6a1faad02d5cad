/* Our folder of unit files in force, /run/fleet/units: what is in it, by hash; it outlives the daemon (rule 34). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/table.h"
#include "units/hash.h"

typedef struct UnitDirEntry {
        char name[256];
        char hash[UNIT_HASH_SIZE];
        bool install; /* has an [Install] section */
        UT_hash_handle hh;
} UnitDirEntry;

typedef struct UnitDir {
        int fd;
        char path[256], quadlets[256];
        UnitDirEntry *entries; /* by name */
} UnitDir;

int unit_dir_open(UnitDir *d, const char *path, const char *quadlets, Error *err);
void unit_dir_close(UnitDir *d);

int unit_dir_write(UnitDir *d, const char *name, const char *text, size_t size);
int unit_dir_remove(UnitDir *d, const char *name);

/* *ret: the entry whose file is really there, NULL otherwise: a file that somebody removed is forgotten, one that somebody
 * changed is read again. 0, or -ENOMEM when it could not be read for want of memory. */
int unit_dir_get(UnitDir *d, const char *name, const UnitDirEntry **ret);

/* Quadlet files: beside the file here a link in the folder that podman's generator reads ('quadlets', made when needed). Who finds a file
 * of that name there that is not ours leaves it alone: -EEXIST. */
int unit_dir_offer(UnitDir *d, const char *name);
void unit_dir_withdraw(UnitDir *d, const char *name);

/* Whether 'fragment' is the file of 'name' in this folder, or systemd's link to it; of a Quadlet file, our link among the
 * generator's sources, even if it is gone: then nobody's service is left until the next reload. */
bool unit_dir_owns(const UnitDir *d, const char *name, const char *fragment);
