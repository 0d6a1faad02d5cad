/* First start and joining: the only writers of a new Raft directory, and the checks of an existing one. */
#pragma once

#include "kvstore/tree/data_dir.h"
#include "kvstore/raft/log.h"

enum { BOOTSTRAP_RAFT_ID = 1 }; /* the founder's ID; hosts that join get others */

/* The owner of data directory and log. */
typedef struct Identity {
        uint64_t cluster_id, lineage, raft_id;
} Identity;

/* Write the configuration of one voter; 'address' "": none. *ret is the caller's. */
int bootstrap_configuration(uint64_t raft_id, const char *address, void **ret, size_t *ret_size);

/* Found a cluster of one: draw its identity from 'random'; the first entry of the log is the configuration
 * with this host as the only voter. */
int bootstrap_found(DataDir *dir, Disk *disk, Random *random, const char *address, uint64_t log_file_size,
                    Error *err);

/* Create an empty log for a replica that waits to be added under the ID that the cluster assigned. */
int bootstrap_join(DataDir *dir, Disk *disk, const Identity *identity, uint64_t log_file_size, Error *err);

/* Create an empty log for a restored tree, in the tree's last term. The next start finds that the log does
 * not reach the tree, and begins it after the tree's entry. */
int bootstrap_restored(DataDir *dir, Disk *disk, const Identity *identity, uint64_t term, Error *err);

/* Rename the files of a log that must not be opened any more to "old.*", and remove earlier ones. Idempotent.
 */
int bootstrap_set_aside(Disk *disk, Error *err);
/* There was never a log here. */
bool bootstrap_is_fresh(Disk *disk);

/* Check that log and tree belong to this machine, to its hardware if known, and to each other; the message
 * names the remedy. */
int bootstrap_check(const DataDir *dir, const RaftLogMeta *meta, Identity *ret, Error *err);

/* Record the hardware ID in the log: if there is none yet, or with 'change' in any case. */
int bootstrap_own_hardware(const char *hardware_id, RaftLog *log, bool change);

/* Record the cluster in the tree, before any entry is applied. */
int bootstrap_mark_tree(Tree *tree, const Identity *identity, const char *path, Error *err);
