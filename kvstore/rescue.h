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
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/tree.h"

#define KV_RESCUE_RAISE (UINT64_C(1) << 32)

typedef struct KvRescueOptions {
        Loop *loop;
        const char *tree_path;
        Disk *log_disk; /* borrowed; locked by its opener, so that no daemon works on it */
        char machine_id[33], boot_id[33], hardware_id[33], address[64]; /* as KvOptions' */
        uint64_t quota;
        /* Whether a key below /_fleet means nothing in a new lineage: it is left out. NULL: none. */
        bool (*is_moot)(void *userdata, const KvNode *node);
        const char *mark; /* a key that is made in a new lineage: its value is the cluster time (ms) at which
                             it began, in digits. NULL: none */
        void *userdata;
} KvRescueOptions;

/* What was found, and what was made of it. */
typedef struct KvRescue {
        uint64_t cluster_id, lineage, index, raft_index, raft_id;
        uint64_t n_nodes;
        size_t n_members;
        uint64_t new_lineage, new_index; /* 0: nothing was made */
} KvRescue;

/* This host's replica becomes a cluster of one. What its log holds counts as acknowledged: the others cannot
 * be asked. 'look': only tells what is there. -ENOENT: no replica here. */
int kv_recover(const KvRescueOptions *options, bool look, KvRescue *ret, Error *err);

/* A copy of the tree, the log applied, in one file, readable by kv_restore() and by no one else than its
 * owner; synced. -EEXIST: there is such a file. */
int kv_backup(const KvRescueOptions *options, const char *file, KvRescue *ret, Error *err);

/* Makes a cluster of one from a backup, where there is no replica (-EEXIST). */
int kv_restore(const KvRescueOptions *options, const char *file, KvRescue *ret, Error *err);
