/* The tree in a backup. */
#pragma once

#include "base/backup_file.h"

/* Verify a backup that is called data.mdb in 'folder': its checksum first, because LMDB makes a database of
 * an empty file, and checks another file only in part; then its description and all of its tree. 'file' is
 * its name for messages. 0; -EINVAL: no backup; -EUCLEAN: corrupt; -ENOTSUP: of a newer version. */
int backup_tree_check(const char *folder, const char *file, BackupDescription *ret, Error *err);

/* Refuse a file that exists (-EEXIST), and a folder that does not: a wrong name must not go unnoticed. The
 * workshop of a backup, FILE.new, is never a file that exists already, which may belong to a user. */
int backup_check_new_file(const char *file, Error *err);
