/* Our folder of unit files in force, /run/fleet/units: what is in it, by hash; it outlives the daemon (rule
 * 34). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"
#include "fleetd/systemd/trace.h"
#include "units/hash.h"
#include "units/unit_file.h"
#include "units/name.h"

/* A file that has the same is the one that was read. All 0: not known. */
typedef struct RuntimeDirStamp {
        uint64_t device, inode, size;
        int64_t changed_ns, modified_ns;
} RuntimeDirStamp;

typedef struct RuntimeDirEntry {
        char name[UNIT_NAME_MAX + 1];
        char hash[UNIT_HASH_SIZE];
        bool install; /* has an [Install] section */
        SystemdTrace trace;
        RuntimeDirStamp stamp;
        UT_hash_handle hh;
} RuntimeDirEntry;

typedef struct RuntimeDir {
        int fd;
        char path[256], quadlets[256],
                links[256]; /* ours; where links for podman's generator are, and systemd's runtime links */
        RuntimeDirEntry *entries; /* by name */
        uint64_t reads;           /* how often a file was read */
} RuntimeDir;

int runtime_dir_open(RuntimeDir *d, const char *path, const char *quadlets, const char *links, Error *err);
void runtime_dir_close(RuntimeDir *d);

/* The folder may be removed, or another one put in its place, while it is open. Then it is opened anew, and
 * made if it has to be: 1, and each file that is not there is missing. 0: it is as it was; or a negative
 * errno. */
int runtime_dir_check(RuntimeDir *d);

/* Makes sure that runtime_dir_write() of the same text succeeds, and that systemd can read it: the text is
 * written to a hidden file beside the unit's, which systemd does not read, and -ENOSPC is returned where
 * systemd would refuse to read its files again for want of room. */
int runtime_dir_stage(RuntimeDir *d, const char *name, const char *text, size_t size);
int runtime_dir_write(RuntimeDir *d, const char *name, const char *text, size_t size);
int runtime_dir_remove(RuntimeDir *d, const char *name);

/* *ret: the entry whose file is really there, NULL otherwise: a file that somebody removed is forgotten, one
 * that somebody changed is read again; one that is as it was is not. 0, or -ENOMEM when it could not be read
 * for want of memory. */
int runtime_dir_get(RuntimeDir *d, const char *name, const RuntimeDirEntry **ret);

/* Quadlet files: beside the file here a link in the folder that podman's generator reads ('quadlets', made
 * when needed). Who finds a file of that name there that is not ours leaves it alone: -EEXIST. */
int runtime_dir_offer(RuntimeDir *d, const char *name);
void runtime_dir_withdraw(RuntimeDir *d, const char *name);

/* Whether 'fragment' is the file of 'name' in this folder, or systemd's link to it; of a Quadlet file, our
 * link among the generator's sources, even if it is gone: then nobody's service is left until the next
 * reload. */
bool runtime_dir_owns(const RuntimeDir *d, const char *name, const char *fragment);
/* Whether 'fragment' is the file of any unit of ours, or leads to one by links, as that of an alias does; the
 * file itself may be gone. */
bool runtime_dir_has(const RuntimeDir *d, const char *fragment);
/* Whether 'fragment' is systemd's runtime link of that name, and gone: then it is no file of the host. */
bool runtime_dir_lost_link(const RuntimeDir *d, const char *name, const char *fragment);
/* Whether there is a runtime link of systemd of that name, and it is ours, whether or not the file is there:
 * one that leads elsewhere is the host's (a mask). */
bool runtime_dir_links(const RuntimeDir *d, const char *name);

/* Call 'each' for each name in the [Install] section of the file (install_each_name()). */
int runtime_dir_each_installed(const RuntimeDir *d, const char *name,
                               int (*each)(void *userdata, const UnitOption *option, const char *name),
                               void *userdata);
