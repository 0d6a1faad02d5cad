/* The folder of unit files in force, /run/fleet/units, and their hashes. It outlives the daemon: without its
 * file, the next reload by any program would make a running unit "not-found". */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "fleetd/systemd/drop_in.h"
#include "fleetd/systemd/trace.h"
#include "units/hash.h"
#include "units/unit_file.h"
#include "units/named.h"

enum {
        RUNTIME_DIR_SIZE = 256,
        RUNTIME_PATH_SIZE = 600, /* of a file in one of the folders */
};

typedef struct RuntimeDirEntry {
        Named file;
        char hash[UNIT_HASH_SIZE];
        bool install;      /* has an [Install] section */
        unsigned drop_ins; /* that go with it: drop_in_wanted() */
        SystemdTrace trace;
        FileStamp stamp;
} RuntimeDirEntry;

typedef struct RuntimeDir {
        int fd;
        /* Our files; links for podman's generator; systemd's runtime links. */
        char path[RUNTIME_DIR_SIZE], quadlets[RUNTIME_DIR_SIZE], links[RUNTIME_DIR_SIZE];
        Named *entries; /* RuntimeDirEntry, by name */
        uint64_t reads; /* reads of files */
} RuntimeDir;

int runtime_dir_open(RuntimeDir *d, const char *path, const char *quadlets, const char *links, Error *err);
void runtime_dir_close(RuntimeDir *d);

/* Write the path of the link to the file of that name, which systemd or podman's generator reads. Return
 * 'ret'. */
const char *runtime_dir_link(const RuntimeDir *d, const char *name, char ret[static RUNTIME_PATH_SIZE]);

/* Open the folder again, or make it, if it was removed or replaced: return 1, and missing files are missing.
 * 0: unchanged; or a negative errno. */
int runtime_dir_check(RuntimeDir *d);

/* Write the text to a hidden file that systemd does not read, so that runtime_dir_write() of the same text
 * succeeds. -ENOSPC: /run has too little free space for systemd to reload. */
int runtime_dir_stage(RuntimeDir *d, const char *name, const char *text, size_t size);
int runtime_dir_write(RuntimeDir *d, const char *name, const char *text, size_t size);
int runtime_dir_remove(RuntimeDir *d, const char *name);

/* Return the last known entry of a file, or NULL. */
static inline RuntimeDirEntry *runtime_dir_find(const RuntimeDir *d, const char *name) {
        return named_find(d->entries, name);
}

/* Return in *ret the entry of an existing file, or NULL: also for one without a drop-in that it wants. Read a
 * changed file again; drop the entry of a removed one. 0, or -ENOMEM if the file could not be read. */
int runtime_dir_get(RuntimeDir *d, const char *name, const RuntimeDirEntry **ret);

/* Put the file of a template in force, for the instances that a socket starts: systemd reads it for each new
 * one. -EEXIST: the host has a template of that name. */
int runtime_dir_put_template(const RuntimeDir *d, const char *name, const char *text, size_t size);
void runtime_dir_remove_template(const RuntimeDir *d, const char *name);

/* Link a Quadlet file into the folder that podman's generator reads, which is made if necessary. -EEXIST: the
 * folder has a file of that name that is not ours. */
int runtime_dir_offer(RuntimeDir *d, const char *name);
void runtime_dir_withdraw(RuntimeDir *d, const char *name);

/* Return whether 'fragment' is the file of 'name' in this folder, or systemd's link to it. For a Quadlet
 * file: our link among the generator's sources, even if it is gone: until the next reload the service is
 * ours. */
bool runtime_dir_owns(const RuntimeDir *d, const char *name, const char *fragment);
/* Return whether 'fragment' is the file of any unit of ours, or leads to one by links, as the file of an
 * alias does. The file itself may be gone. */
bool runtime_dir_has(const RuntimeDir *d, const char *fragment);
/* Return whether 'fragment' is systemd's runtime link of that name, and gone: then it does not belong to the
 * host. */
bool runtime_dir_lost_link(const RuntimeDir *d, const char *name, const char *fragment);
/* Return whether systemd's runtime link of that name exists and is ours, even if the file is gone. A link to
 * another place belongs to the host (a mask). */
bool runtime_dir_links(const RuntimeDir *d, const char *name);

/* Call 'each' for each name in the [Install] section of the file (install_each_name()). */
int runtime_dir_each_installed(const RuntimeDir *d, const char *name,
                               int (*each)(void *userdata, const UnitOption *option, const char *name),
                               void *userdata);
