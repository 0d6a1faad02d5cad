/* The folder of the tree on disk, and what in it may be believed.
 *
 *   live/data.mdb         the tree in use; LMDB without sync: whole only as long as the machine runs
 *   checkpoint/data.mdb   the last whole copy, synced before it got this name
 *   checkpoint.new/, incoming/   copies under way: our own, and a leader's
 *   trusted               synced before the first unsynced write to live: boot id, machine id, device, inode
 * and disk; whether somebody was shown this very tree; and cluster time at the last stop in order identity
 * cluster id and lineage, written before the first log lost                  why the log beside this must not
 * be opened: it lacks what was acknowledged old/                  live and checkpoint of the replica that was
 * lost last, for an operator
 *
 * After a restart the live tree counts if 'trusted' proves that the same machine has not been down since and
 * that this is the same file. Else the checkpoint is copied over it (or it starts empty), and the log behind
 * that is applied again. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "kvstore/tree/tree.h"

/* A whole tree in a file, with what it says of itself. */
typedef struct Checkpoint {
        int fd; /* open for reading, -1: there is none; its bytes stay even when a newer one takes the name */
        uint64_t size; /* bytes of the file */
        TreeMeta meta;
        void *configuration; /* owned */
        size_t configuration_size;
} Checkpoint;

void checkpoint_done(Checkpoint *c);

typedef struct DataDir {
        int fd;
        char *path;
        char machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* set by whoever opened it; "": not known, or of no interest */
        uint64_t quota;  /* the host's or the cluster's, whichever is larger: a tree that is opened has room
                            for it */
        bool distrusted; /* by data_dir_distrust() */
        bool rotten;     /* there is a checkpoint, and it is not what was written: it is never opened */
        unsigned opens;  /* as 'trusted' counts them */
        bool shown;      /* as 'trusted' says */
        _Atomic uint64_t
                cluster_ms; /* cluster time at the last stop in order, as 'trusted' says; 0: not known */
        Checkpoint checkpoint;
        _Atomic bool cancelled; /* by data_dir_cancel() */
} DataDir;

/* Makes what is missing, finishes or forgets what a crash left, decides about trust, opens the live tree.
 * Fails with a sentence that names the file and the remedy; data_dir_done() is due in any case. -EUCLEAN and
 * 'rotten': the checkpoint is needed, and damaged; where the live tree is trusted 'rotten' says only that a
 * new one is due. */
int data_dir_open(DataDir *folder, const char *path, const char *machine_id, const char *boot_id,
                  uint64_t quota, Tree **ret, Error *err);
void data_dir_done(DataDir *folder);
/* An empty tree beside what is damaged, which stays as it is: for who has to wait for another one. */
int data_dir_open_nothing(const DataDir *folder, Tree **ret, Error *err);
/* The live tree again, of the checkpoint; the old one may stay open: its file lives as long. Reads all of
 * the checkpoint and writes it: blocks, for off the loop: uses nothing of 'folder' but its constants.
 * -EUCLEAN; *ret_rotten: because of the checkpoint. */
int data_dir_rebuild(const DataDir *folder, Tree **ret, bool *ret_rotten, Error *err);
/* The rebuilt tree is in use. */
void data_dir_rebuilt(DataDir *folder);
int data_dir_room(const DataDir *folder, uint64_t *ret_free,
                  uint64_t *ret_total); /* bytes of its file system */
/* Entries carry the cluster's quota, which may be larger than the host's setting: the next tree that is
 * opened has room for it. */
void data_dir_raise_quota(DataDir *folder, uint64_t quota);
/* Cluster time, for the markers that are written from now on. */
void data_dir_keep_time(DataDir *folder, uint64_t cluster_ms);
/* The live tree is closed, in order: the next opening counts from the beginning. After three without this it
 * is rebuilt. */
void data_dir_closed(DataDir *folder);
/* The live tree has failed us: the next opening rebuilds it. */
void data_dir_distrust(DataDir *folder);

/* The live tree is now as far as this host ever was, and is served: as long as it stays trusted,
 * data_dir_was_served() is true of it. */
int data_dir_serve(DataDir *folder);
bool data_dir_was_served(const DataDir *folder);
/* The host has acknowledged a state that the live tree has not reached: data_dir_was_served() is no longer
 * true of it, durably. */
int data_dir_unserve(DataDir *folder);

/* The identity that was written last; -ENOENT. */
int data_dir_read_identity(const DataDir *folder, uint64_t *ret_cluster_id, uint64_t *ret_lineage);
int data_dir_write_identity(const DataDir *folder, uint64_t cluster_id, uint64_t lineage);

/* Copies 'tree', verifies the copy by reading it, and gives it the checkpoint's name; blocks, for off the
 * loop: uses nothing of 'folder' but its constants. data_dir_adopt() makes the result the known one. -EFBIG:
 * the tree grew too much meanwhile. */
int data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err);
/* The same, without a checkpoint: whether 'tree' holds what was written to it. -EUCLEAN: it does not. */
int data_dir_probe(const DataDir *folder, Tree *tree, Error *err);
void data_dir_adopt(DataDir *folder, Checkpoint *checkpoint); /* takes it */
/* Somebody found that the checkpoint is not what was written: there is none, until there is a new one. */
void data_dir_forget_checkpoint(DataDir *folder);

/* What runs off the loop ends soon, with -ECANCELED: the replica closes. */
void data_dir_cancel(DataDir *folder);

/* A leader's tree arrives: empties incoming/ and opens its file for writing. A descriptor, or a negative
 * errno. */
int data_dir_incoming_open(const DataDir *folder);
/* All bytes are there: syncs, verifies, and prepares a second copy that will become the live tree; blocks,
 * for off the loop. -EUCLEAN: they are not what the sender once wrote. */
int data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err);
/* The incoming tree becomes the checkpoint and, with 'replace', the live tree: *tree is closed and opened
 * anew (NULL if that failed). 'incoming' is taken. */
int data_dir_install(DataDir *folder, Checkpoint *incoming, bool replace, Tree **tree, Error *err);
void data_dir_incoming_discard(const DataDir *folder);

/* -- A replica that lost what it had acknowledged -- */

/* From now on, durably, the log that belongs to this tree is not opened any more. 'reason': why. */
int data_dir_quarantine(const DataDir *folder, const char *reason);
/* Whether that was said: 1 and the reason, 0: it was not. */
int data_dir_is_quarantined(const DataDir *folder, char *ret, size_t size);
/* Live tree and checkpoint go into old/, instead of those that were there; *ret is a new, empty one. The
 * old one stays open, and may be read. */
int data_dir_set_aside(DataDir *folder, Tree **ret, Error *err);
/* Another replica took the place of the lost one: its log counts. */
int data_dir_found(const DataDir *folder);
