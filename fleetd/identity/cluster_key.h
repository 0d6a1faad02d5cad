/* The files of the cluster keys of this host: secrets/key.N below the state directory, for root only. Each
 * has 64 hex digits, or is sealed to this host (SealWith=). Voters and standbys have them. The tree and
 * backups never contain one; what they contain is sealed with it. All calls block, and write little. */
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "fleetd/host/sealer.h"
#include "io/seal.h"

typedef struct ClusterKey {
        uint64_t number; /* from 1 on */
        uint8_t bytes[SEAL_KEY_BYTES];
} ClusterKey;

#define _cleanup_cluster_key_ _cleanup_(cluster_key_wipe)
void cluster_key_wipe(ClusterKey *key);

enum {
        CLUSTER_KEY_TEXT = 2 * SEAL_KEY_BYTES + 1, /* hex digits and a newline */
        CLUSTER_KEY_FILE_MAX = SEALED_MAX + 64,
        CLUSTER_KEY_SEALED_NAME = 48,
};

bool cluster_key_parse(const char *text, size_t size, uint8_t ret[static SEAL_KEY_BYTES]);
void cluster_key_print(const ClusterKey *key, char ret[static CLUSTER_KEY_TEXT + 1]);
/* The name under which a key is sealed. */
void cluster_key_sealed_name(uint64_t number, char ret[static CLUSTER_KEY_SEALED_NAME]);

typedef struct ClusterKeyFile {
        FileStamp stamp;
        SealWith form;
        ClusterKey key; /* of SEAL_WITH_NO; of others its number only */
        char *text;     /* owned; a sealed key begins at head_size */
        size_t size, head_size;
} ClusterKeyFile;

#define _cleanup_cluster_key_file_ _cleanup_(cluster_key_file_done)
void cluster_key_file_done(ClusterKeyFile *f); /* wipes it */

/* Read the text of a file; only form, head_size and the bytes of the key are written. -EBADMSG: not a key.
 * -ENOTSUP: of a newer version. */
int cluster_key_file_parse(const char *text, size_t size, ClusterKeyFile *ret);
/* -ENOENT: this host does not have it. -EPERM: another user owns the file or may read it. -EBADMSG, -ENOTSUP:
 * as above. All with a message. */
int cluster_key_file_read(const char *state_directory, uint64_t number, ClusterKeyFile *ret, Error *err);
int cluster_key_stamp(const char *state_directory, uint64_t number, FileStamp *ret, Error *err);

/* Return the numbers of the files of keys, rising; none without the folder. The caller frees *ret. Errors
 * with a message. */
int cluster_key_list(const char *state_directory, uint64_t **ret, size_t *ret_n, Error *err);
/* As cluster_key_file_read(); -ENOKEY: the file is sealed. */
int cluster_key_read(const char *state_directory, uint64_t number, ClusterKey *ret, Error *err);
/* Write the key durably, as it is or sealed; a file of that number is replaced. */
int cluster_key_write(const char *state_directory, const ClusterKey *key, Error *err);
int cluster_key_write_sealed(const char *state_directory, uint64_t number, SealWith form, const void *sealed,
                             size_t size, Error *err);
/* Delete, durably, the keys whose number is below 'first'. A file that is no key remains: a person may repair
 * it, or has put it there. */
int cluster_key_delete_below(const char *state_directory, uint64_t first, Error *err);
