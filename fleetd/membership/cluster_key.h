/* The cluster keys of this host: secrets/key.N below the state directory, 64 hex digits each, for root only.
 * Voters and standbys have them. The tree and backups never contain one; what they contain is sealed with it.
 * All calls block, and write little. */
#pragma once

#include "base/error.h"
#include "io/seal.h"

typedef struct ClusterKey {
        uint64_t number; /* from 1 on */
        uint8_t bytes[SEAL_KEY_BYTES];
} ClusterKey;

#define _cleanup_cluster_key_ _cleanup_(cluster_key_wipe)
void cluster_key_wipe(ClusterKey *key);

/* Return the numbers of the files of keys, rising; none without the folder. The caller frees *ret. Errors
 * with a message. */
int cluster_key_list(const char *state_directory, uint64_t **ret, size_t *ret_n, Error *err);
/* -ENOENT: this host does not have it. -EPERM: another user owns the file or may read it. -EBADMSG: not a
 * key. All with a message. */
int cluster_key_read(const char *state_directory, uint64_t number, ClusterKey *ret, Error *err);
/* Write the key durably; a file of that number is replaced. */
int cluster_key_write(const char *state_directory, const ClusterKey *key, Error *err);
/* Delete, durably, the keys whose number is below 'first'. A file that is no key remains: a person may repair
 * it, or has put it there. */
int cluster_key_delete_below(const char *state_directory, uint64_t first, Error *err);
