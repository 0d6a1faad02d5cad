/* The description in a backup: what it is of, and when.
 *
 * A backup is a copy of the tree, then its description, then the checksum of both (base/file_checksum.h).
 * LMDB reads neither of them, so that a version without descriptions restores the file, too. A backup of such
 * a version has no description. docs/FORMATS.md has the bytes. */
#pragma once

#include "base/error.h"
#include "base/memory.h"

enum {
        BACKUP_VERSION = 1,
        BACKUP_HOSTS_MAX = 1000, /* names in one description; further ones are left out */
        BACKUP_HOST_MAX = 255,   /* bytes of one name */
        BACKUP_DESCRIPTION_MAX = 512 * 1024,
};

/* In the environment of fleetd --restore and --recover: set by a program that starts the service afterwards,
 * and prints the next steps itself. */
#define ENV_FLEETCTL "FLEETCTL"

/* The exit status of fleetd if a recovery or restore fails after its rename: the new lineage is in force. */
enum { EXIT_IN_FORCE = 3 }; /* EXIT_FAILURE, and 2: nothing was changed */

typedef struct BackupDescription {
        uint64_t cluster_id, lineage;
        uint64_t index, raft_index; /* of the store, and Raft's last applied */
        uint64_t cluster_ms,
                wall_ms;  /* cluster time of the last entry; wall clock of the host that wrote it */
        uint64_t level;   /* feature level; 0: the first */
        bool unconfirmed; /* no leader confirmed that the copy has all acknowledged writes */
        char **hosts;     /* names; owned */
        size_t n_hosts;
} BackupDescription;

void backup_description_done(BackupDescription *d);
#define _cleanup_backup_description_ _cleanup_(backup_description_done)

/* Append the name of a host; a long one is cut, and none is added beyond BACKUP_HOSTS_MAX. 0 or -ENOMEM. */
int backup_description_add_host(BackupDescription *d, const char *name);

/* Encode a description in whole pages. The caller frees *ret. 0 or -ENOMEM. */
int backup_description_write(const BackupDescription *d, void **ret, size_t *ret_size);

/* Read the description before the checksum of a file, which was checked. Return 1, or 0 if there is none, of
 * an older version. -ENOTSUP: of a newer version; -EBADMSG: invalid. */
int backup_description_read(int fd, BackupDescription *ret);

/* Decode the description at the end of 'bytes'; results as above, and in *ret_size its size. */
int backup_description_decode(const void *bytes, size_t size, BackupDescription *ret, size_t *ret_size);

/* Check a backup before anything opens it: its checksum and its description, if it has one. Return as
 * backup_description_read(); the errors have messages that name 'file' and the next step. */
int backup_file_check(int fd, const char *file, BackupDescription *ret, Error *err);

/* Append the description and the checksum to a copy that ends with the checksum of the tree. Does not sync.
 */
int backup_file_describe(int fd, const BackupDescription *d);
