/* A file with the cluster keys of a host: what a backup does not have, and what opens the certificate
 * authority in it. Text, for its owner only (docs/FORMATS.md). All calls block, and read or write little. */
#pragma once

#include "fleetd/identity/cluster_key.h"

enum {
        KEY_FILE_KEYS_MAX = 16, /* a host keeps one, and two while the key is replaced */
        KEY_FILE_MAX = 4096,    /* bytes */
};

typedef struct KeyFile {
        uint64_t cluster_id;
        ClusterKey keys[KEY_FILE_KEYS_MAX]; /* by number */
        size_t n;
} KeyFile;

#define _cleanup_key_file_ _cleanup_(key_file_wipe)
void key_file_wipe(KeyFile *f);

/* Read the text of a file. -EBADMSG: it is none, or is cut; -ENOTSUP: of a newer version. */
int key_file_parse(const char *text, size_t size, KeyFile *ret);

/* Errors as above and those of open(2), with a message that names the file. */
int key_file_read(const char *file, KeyFile *ret, Error *err);
/* Write a new file, durably, which only its owner may read. -EEXIST: an existing one is not replaced. */
int key_file_write(const char *file, const KeyFile *f, Error *err);

/* Open a sealed file. Errors with a message. */
typedef int KeyFileOpen(const ClusterKeyFile *file, ClusterKey *ret, Error *err);

/* Read the cluster keys below a state directory. -ENOENT: this host has none. */
int key_file_collect(const char *state_directory, KeyFileOpen *open, KeyFile *ret, Error *err);
/* Write the keys below a state directory, durably, as they are: the next start seals them. -EEXIST: another
 * key of the same number is there, and nothing was changed. */
int key_file_store(const KeyFile *f, const char *state_directory, KeyFileOpen *open, Error *err);
