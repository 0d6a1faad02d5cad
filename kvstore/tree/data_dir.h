/* The data directory: the folder of the tree on disk, and which of its files can be trusted.
 *
 *   live/data.mdb                the live tree; LMDB without sync, so it is complete only while the host runs
 *   checkpoint/data.mdb          the last complete copy, synced before it was renamed to this name
 *   checkpoint.new/, incoming/   copies in progress: this host's, and a leader's
 *   trusted                      boot ID, machine ID, device, inode and disk, synced before the first
 *                                unsynced write to live; whether this tree was served; cluster time at the
 *                                last orderly close
 *   identity                     cluster ID and lineage, written before the first log
 *   lost                         why the log beside this folder must not be opened: it lacks acknowledged
 *                                entries
 *   old/                         live and checkpoint of the replica that was quarantined last, for an
 * operator
 *
 * After a restart, the live tree counts if 'trusted' proves that the host did not reboot since and that the
 * file is the same. Otherwise the checkpoint replaces it (without one, the tree is empty), and the log after
 * it is applied again. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "kvstore/tree/tree.h"

/* A complete tree in a file, with its meta. */
/* The remedy in messages about a log and a tree that do not belong together: both are moved away, and the
 * host keeps its identity. A copied disk has that of another host. */
#define RESET_AND_REJOIN "run fleetd --reset and let this host join again"
#define REMOVE_AND_REJOIN \
        "remove this host's state (rm -r /var/lib/fleet), start fleetd, and let it join again by a token"

typedef struct Checkpoint {
        int fd; /* open for reading; -1: none. Valid even after a newer checkpoint replaces the name. */
        uint64_t size; /* bytes of the file */
        TreeMeta meta;
        void *configuration; /* owned */
        size_t configuration_size;
} Checkpoint;

void checkpoint_done(Checkpoint *c);
/* Read meta and configuration of a tree. */
int checkpoint_read(Checkpoint *c, Tree *tree);

typedef struct DataDir {
        int fd;
        char *path;
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* set by the caller of data_dir_open(); "": unknown or unused */
        uint64_t quota; /* bytes, the larger of the host's and the cluster's: the map of each opened tree fits
                           it */
        bool distrusted;             /* by data_dir_distrust() */
        bool corrupt;                /* there is a corrupt checkpoint, which is never opened */
        unsigned opens;              /* as in 'trusted' */
        bool served;                 /* as in 'trusted' */
        _Atomic uint64_t cluster_ms; /* cluster time at the last orderly close, as in 'trusted'; 0: unknown */
        Checkpoint checkpoint;
        _Atomic bool cancelled; /* by data_dir_cancel() */
} DataDir;

/* Create missing folders, remove what a crash left, decide about trust, and open the live tree. Call
 * data_dir_done() in any case. Errors name the file and the remedy; -EUCLEAN: the checkpoint is needed, and
 * 'corrupt' is true. On success, 'corrupt' means only that a new checkpoint is due. */
int data_dir_open(DataDir *folder, const char *path, const char *machine_id, const char *boot_id,
                  uint64_t quota, Tree **ret, Error *err);
void data_dir_done(DataDir *folder);
/* Open an empty tree beside corrupt files, which stay unchanged, for a replica that waits for the leader's
 * tree. */
int data_dir_open_empty(const DataDir *folder, Tree **ret, Error *err);
/* Rebuild the live tree from the checkpoint; the previous one may stay open. Reads and writes the whole
 * checkpoint: call it off the loop. It uses only the constants of 'folder'. -EUCLEAN; *ret_corrupt: because
 * of the checkpoint. */
int data_dir_rebuild(const DataDir *folder, Tree **ret, bool *ret_corrupt, Error *err);
/* The rebuilt tree is in use. */
void data_dir_rebuilt(DataDir *folder);
/* Return the bytes of the file system: available, and in total. */
int data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total);
/* Entries carry the cluster's quota, which may exceed the host's setting: the next tree that is opened fits
 * it. */
void data_dir_raise_quota(DataDir *folder, uint64_t quota);
/* Set the cluster time for markers that are written from now on. */
void data_dir_keep_time(DataDir *folder, uint64_t cluster_ms);
/* Record an orderly close of the live tree. After three starts without one, the tree is rebuilt. */
void data_dir_closed(DataDir *folder);
/* The live tree failed: the next opening rebuilds it. */
void data_dir_distrust(DataDir *folder);

/* Record that the live tree has reached all that this host acknowledged, and is served. data_dir_was_served()
 * is true while the tree stays trusted. */
int data_dir_serve(DataDir *folder);
bool data_dir_was_served(const DataDir *folder);
/* Record durably that the host has acknowledged a state that the live tree has not reached. */
int data_dir_unserve(DataDir *folder);

/* Return the identity that was written last; -ENOENT. */
int data_dir_read_identity(const DataDir *folder, uint64_t *ret_cluster_id, uint64_t *ret_lineage);
int data_dir_write_identity(const DataDir *folder, uint64_t cluster_id, uint64_t lineage);

/* Copy 'tree', verify the copy by reading it, and rename it to the checkpoint. Call it off the loop; it uses
 * only the constants of 'folder'. Then pass the result to data_dir_adopt(). -EFBIG: the tree grew too much
 * meanwhile. */
int data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err);
/* Verify 'tree' in the same way, without a checkpoint. -EUCLEAN: it is corrupt. */
int data_dir_probe(const DataDir *folder, Tree *tree, Error *err);
/* Make 'checkpoint' the current one, and take it. */
void data_dir_adopt(DataDir *folder, Checkpoint *checkpoint);
/* The checkpoint was found to be corrupt: there is none until the next one. */
void data_dir_forget_checkpoint(DataDir *folder);

/* Let operations off the loop end soon with -ECANCELED: the replica closes. */
void data_dir_cancel(DataDir *folder);

/* Empty incoming/ and open its file for the leader's tree. Return a descriptor or a negative errno. */
int data_dir_incoming_open(const DataDir *folder);
/* All bytes are received: sync and verify them, and prepare a second copy that will become the live tree.
 * Call it off the loop. -EUCLEAN: the file is corrupt. */
int data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err);
/* Make the incoming tree the checkpoint and, with 'replace', the live tree: *tree is closed and replaced
 * (NULL on failure). Takes 'incoming'. */
int data_dir_install(DataDir *folder, Checkpoint *incoming, bool replace, Tree **tree, Error *err);
void data_dir_incoming_discard(const DataDir *folder);

/* -- Quarantine: a replica whose log lost acknowledged data -- */

/* Record durably that the log of this tree must not be opened any more. */
int data_dir_quarantine(const DataDir *folder, const char *reason);
/* Return 1 and the reason if the replica is quarantined, otherwise 0. */
int data_dir_is_quarantined(const DataDir *folder, char *ret, size_t size);
/* Move live tree and checkpoint to old/, whose previous content is removed; *ret is a new, empty tree. The
 * previous tree stays open, and readable. */
int data_dir_set_aside(DataDir *folder, Tree **ret, Error *err);
/* Record that this directory was restored, and has no log yet: the next start creates it, in that term. The
 * record must not outlive the creation of the log: without it, a tree without a log is one that has lost it.
 */
int data_dir_write_restored(const DataDir *folder, uint64_t term);
/* Return 1 and the term, 0 if there is no record, or a negative errno. */
int data_dir_read_restored(const DataDir *folder, uint64_t *ret_term);
int data_dir_remove_restored(const DataDir *folder); /* durably; 0 without a record */
/* A new replica has replaced the quarantined one: its log counts. */
int data_dir_end_quarantine(const DataDir *folder);
