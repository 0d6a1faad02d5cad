/* The cluster keys of this host in memory, and their files below secrets/ (cluster_key.h).
 *
 * With SealWith=, files are sealed: a file is opened once, and its key is kept, in memory that is not
 * swapped, for as long as the file is unchanged. A new key is sealed, and opened again for comparison, before
 * it replaces a file. A file of another form is written again in the present one. A sealed file that cannot
 * be opened is kept: another start, or a repaired TPM, may open it. */
#pragma once

#include "fleetd/identity/cluster_key.h"
#include "fleetd/host/component.h"

typedef struct KeyStore KeyStore;

/* Begin to open all files. 'host' is borrowed, with its settings. 'changed': a call that returned -EAGAIN
 * returns something else now. */
int key_store_new(KeyStore **ret, const ComponentHost *host, void (*changed)(void *userdata), void *userdata);
/* Wipe all keys. NULL allowed; returns NULL. */
KeyStore *key_store_free(KeyStore *s);

/* As cluster_key_read(); also, with a message:
 *   -EAGAIN   the file is being opened, or written
 *   -ENOKEY   the file is sealed, and cannot be opened; or the key cannot be sealed, and is not on disk */
int key_store_read(KeyStore *s, uint64_t number, ClusterKey *ret, Error *err);
/* Write the key durably; a file of that number is replaced. -EAGAIN: begun; repeat it, or read the key. Other
 * errors with a message: the key is not on disk. */
int key_store_write(KeyStore *s, const ClusterKey *key, Error *err);
/* Return the number of a key that cannot be sealed, and whether it is on disk as it is; 0: none. */
uint64_t key_store_unsealed(const KeyStore *s, bool *ret_on_disk);
/* As cluster_key_delete_below(); wipe these keys. */
int key_store_delete_below(KeyStore *s, uint64_t first, Error *err);
