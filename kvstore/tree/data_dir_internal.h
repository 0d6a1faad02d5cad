/* Shared by the files of the data directory: data_dir_live.c opens, rebuilds and replaces trees;
 * data_dir_checkpoint.c writes and verifies checkpoints; data_dir_trust.c writes and checks the marker
 * 'trusted'; data_dir_files.c has the operations on files. Each calls only the files after it. No file of
 * another folder includes this header. */
#pragma once

#include "kvstore/tree/data_dir.h"

#define DATA "data.mdb"
#define LOCK "lock.mdb"
#define NEXT "next.mdb" /* in incoming/: the copy that becomes the live tree */

enum { MARKER_MAX = 512 }; /* bytes of 'trusted' and 'identity' */

/* -- data_dir_checkpoint.c -- */

/* Verify the checksum of a tree's file. -EUCLEAN: it is corrupt. */
int data_dir_verify(const DataDir *folder, int fd, const char *file, Error *err);
/* Verify the tree in the folder 'name', open it read-only, and read its meta: the proof that it is readable.
 */
int data_dir_examine(const DataDir *folder, const char *name, Checkpoint *ret, Error *err);

/* -- data_dir_trust.c -- */

/* Return whether the live tree is trusted. *ret_opens: the number of openings since the last one that was
 * followed by an orderly close. */
bool data_dir_is_trusted(const DataDir *folder, unsigned *ret_opens, bool *ret_served);
/* Return cluster time at the last orderly close; 0: unknown. The marker counts here also after a reboot,
 * although it no longer proves that the tree is complete: time has passed in any case. */
uint64_t data_dir_read_time(const DataDir *folder);
int data_dir_write_marker(const DataDir *folder, unsigned opens, bool served);
/* Record the content of a marker that was written. */
void data_dir_marker_written(DataDir *folder, unsigned opens, bool served);

/* -- data_dir_files.c -- */

/* Return the path of 'name' in the folder, or NULL without memory. The caller frees it. */
char *data_dir_path(const DataDir *folder, const char *name);
int data_dir_make(const DataDir *folder, const char *name);
int data_dir_sync(const DataDir *folder, const char *name);
int data_dir_sync_file(const DataDir *folder, const char *name);
/* Copy a file; share blocks where the file system can. The copy is not synced. */
int data_dir_copy_file(const DataDir *folder, const char *from, const char *to);
