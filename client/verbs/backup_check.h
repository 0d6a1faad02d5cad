/* Backups, as restore and recover read them, too. */
#pragma once

#include "base/backup_file.h"
#include "client/core/client.h"

/* Open a backup, verify its checksum, and read its description. Return 1, or 0 if it has none, of an older
 * version. */
int backup_read(const char *file, BackupDescription *ret, Error *err);

/* Let fleetd open the tree in the backup, if fleetd is installed on this host. Return an exit status; errors
 * are printed. */
int backup_open_tree(const char *file);

/* Append "cluster 18a6..., index 5, feature level 4, written 2026-11-23 04:53:10 (2 min ago), of alpha,
 * beta". */
void backup_append_description(Text *t, const BackupDescription *d);
