/* Operations on a store that no daemon uses: recovery from a lost majority, backup, restore (ARCHITECTURE,
 * "Lineage").
 *
 * Recovery and restore create a cluster of one host with a new lineage. The cluster ID stays, so that clients
 * find the cluster; the lineage is a new random number, which distinguishes hosts of the former lineage. The
 * store's index and Raft's are raised by 2^32: an index never has two meanings, and a client that waits for
 * an old one receives 401.
 *
 * All operations work on copies. The previous state stays unchanged until one rename replaces the tree. The
 * log, which does not fit that tree, is emptied by the next start. A crash before the rename changes nothing.
 * The calls block. */
#pragma once

#include "base/backup_file.h"
#include "base/error.h"
#include "base/sizes.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/command/command.h"

#define KV_OFFLINE_RAISE (UINT64_C(1) << 32)

/* The replica or backup that was found, and the new lineage. */
typedef struct KvOffline {
        uint64_t cluster_id, lineage, index, raft_index, raft_id;
        uint64_t cluster_ms; /* cluster time of its last entry */
        uint64_t level;      /* feature level */
        uint64_t n_nodes;
        size_t n_members;
        uint64_t new_lineage, new_index; /* 0: none */
} KvOffline;

/* Set a key, whose directories are created. It takes the next index. */
typedef int KvOfflinePut(void *puts, const char *key, const char *value);

typedef struct KvOfflineOptions {
        Loop *loop;
        const char *tree_path;
        Disk *log_disk; /* borrowed; locked by its opener, so that no daemon works on it */
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE], hardware_id[HARDWARE_ID_SIZE],
                address[ADDRESS_SIZE]; /* as KvOptions' */
        uint64_t quota;
        bool admitted; /* a cluster has admitted this host: without a replica, it is an attached one */
        /* Return whether a key below /_fleet is void in a new lineage, which omits it. NULL: none. */
        bool (*is_moot)(void *userdata, const KvNode *node);
        /* Add to the description of a backup what a node below /_fleet says: names of hosts. 0 or -ENOMEM.
         * NULL: none. */
        int (*describe)(const KvNode *node, BackupDescription *ret);
        uint64_t wall_ms; /* now; of the description of a backup */
        /* Write the keys with which a new lineage begins, each by 'put': 0, or a negative errno, perhaps with
         * a message. 'begun' has its number, but not its last index yet. The rename follows. NULL: none. */
        int (*begin)(void *userdata, const KvOffline *begun, KvOfflinePut *put, void *puts, Error *err);
        void *userdata;
} KvOfflineOptions;

/* Make this host's replica a cluster of one. All entries of its log count as acknowledged, because no other
 * member can be asked. 'look': only report the replica. -ENOENT: this host has none. -EINPROGRESS: a step
 * after the rename failed, for the reason in 'err', and the next start of the daemon completes it. */
int kv_recover(const KvOfflineOptions *options, bool look, KvOffline *ret, Error *err);

/* Write a synced and verified copy of the tree, with the log applied, for kv_restore(). Only its owner may
 * read the file, whose folder must exist. -EEXIST: the file exists. */
int kv_backup(const KvOfflineOptions *options, const char *file, KvOffline *ret, Error *err);

/* Verify a backup that is called data.mdb in the folder: its checksum, and the tree in it. 'file' is its name
 * for messages. Errors as those of kv_restore(). */
int kv_backup_verify(const char *folder, const char *file, KvOffline *ret, BackupDescription *ret_description,
                     Error *err);

/* Read the cluster of a data directory, also beside a running daemon. -ENOENT, -EBADMSG. */
int kv_read_cluster_id(const char *tree_path, uint64_t *ret);

/* Return 0 if this host is of no cluster, or its state was moved away; else -EEXIST, with a message. What
 * fleetd has made while it waits for admission to a cluster is no state of one. */
int kv_restore_check(const KvOfflineOptions *options, Error *err);

/* Make a cluster of one from a backup, on a host without a replica (-EEXIST). -ENOTSUP: a newer version wrote
 * it. -EINPROGRESS: as kv_recover()'s. */
int kv_restore(const KvOfflineOptions *options, const char *file, KvOffline *ret, Error *err);
