/* What is done to a store while no daemon has it: recovery from a lost majority, backup, restore
 * (ARCHITECTURE, "Lineage").
 *
 * The result of recovery and restore is a cluster of one, of a new lineage: the cluster's id stays, so that
 * clients find what they know, and a number beside it is drawn anew, by which hosts of the former lineage are
 * told apart. The store's index and Raft's are raised by 2^32: no index ever means two things, and who waits
 * for an old one is told that it is gone (401).
 *
 * All of it works on copies: what was there stays as it was until one rename puts the new tree in its place,
 * and the log, which does not fit that tree, is emptied by the next start. A crash in between changes
 * nothing. The calls block. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/command/command.h"

#define KV_OFFLINE_RAISE (UINT64_C(1) << 32)

typedef struct KvOfflineOptions {
        Loop *loop;
        const char *tree_path;
        Disk *log_disk; /* borrowed; locked by its opener, so that no daemon works on it */
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE], hardware_id[HARDWARE_ID_SIZE],
                address[ADDRESS_SIZE]; /* as KvOptions' */
        uint64_t quota;
        /* Whether a key below /_fleet means nothing in a new lineage: it is left out. NULL: none. */
        bool (*is_moot)(void *userdata, const KvNode *node);
        const char *mark; /* a key that is made in a new lineage: its value is the cluster time (ms) at which
                             it began, in digits. NULL: none */
        void *userdata;
} KvOfflineOptions;

/* What was found, and what was made of it. */
typedef struct KvOffline {
        uint64_t cluster_id, lineage, index, raft_index, raft_id;
        uint64_t n_nodes;
        size_t n_members;
        uint64_t new_lineage, new_index; /* 0: nothing was made */
} KvOffline;

/* This host's replica becomes a cluster of one. What its log holds counts as acknowledged: the others cannot
 * be asked. 'look': only tells what is there. -ENOENT: no replica here. */
int kv_recover(const KvOfflineOptions *options, bool look, KvOffline *ret, Error *err);

/* A copy of the tree, the log applied, in one file, readable by kv_restore() and by no one else than its
 * owner; synced. -EEXIST: there is such a file. */
int kv_backup(const KvOfflineOptions *options, const char *file, KvOffline *ret, Error *err);

/* Makes a cluster of one from a backup, where there is no replica (-EEXIST). */
int kv_restore(const KvOfflineOptions *options, const char *file, KvOffline *ret, Error *err);
