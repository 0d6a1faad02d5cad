/* First start and joining: the only writers of a fresh raft folder, and the judge of one that is there. */
#pragma once

#include "base/error.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/tree/data_dir.h"
#include "kvstore/raft/log.h"

enum { BOOTSTRAP_RAFT_ID = 1 }; /* the founder's; those who join get others */

/* Whose folders these are. */
typedef struct Identity {
        uint64_t cluster_id, lineage, raft_id;
} Identity;

/* A cluster of one: identity drawn from 'random', the log's first entry is the configuration with ourselves
 * as the voter. */
int bootstrap_found(DataDir *folder, Disk *disk, Random *random, const char *address, uint64_t log_file_size,
                    Error *err);

/* A replica that waits to be added: an empty log under the id that the cluster gave. */
int bootstrap_join(DataDir *folder, Disk *disk, const Identity *identity, uint64_t log_file_size, Error *err);

/* The log of a tree that was restored: empty, in the tree's last term. The next start finds that it does not
 * reach to the tree, and begins it behind that. */
int bootstrap_restored(DataDir *folder, Disk *disk, const Identity *identity, uint64_t term, Error *err);
/* The files of a log that must not be opened any more get names with "old." before them, instead of those
 * that had such ones; one more time does no harm. */
int bootstrap_set_aside(Disk *disk, Error *err);
/* No log was ever made here. */
bool bootstrap_is_fresh(Disk *disk);

/* Whether log and tree belong to this machine, as far as known to its hardware, and to each other; the
 * sentence names the remedy. */
int bootstrap_check(const DataDir *folder, const RaftLogMeta *meta, Identity *ret, Error *err);

/* The folder's log learns the hardware that it is on: if it knows none yet, or with 'change' in any case. */
int bootstrap_own_hardware(const char *hardware_id, RaftLog *log, bool change);

/* The tree learns the cluster it belongs to, before anything is applied. */
int bootstrap_mark_tree(Tree *tree, const Identity *identity, const char *path, Error *err);
