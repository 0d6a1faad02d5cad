/* The record of the files that this daemon has seen in its directory: {"device","inode","names":[]}. Pure. */
#pragma once

#include "base/text.h"
#include "fleetd/directory/diff.h"

/* Add the valid unit names to *table. -EBADMSG: unreadable, and nothing has changed. */
int seen_files_read(const char *json, size_t size, uint64_t *ret_device, uint64_t *ret_inode, Named **table);
void seen_files_write(Text *t, uint64_t device, uint64_t inode, const Named *table);

/* Mark the file as 'there'. Return true if it is new, and memory was available. */
bool seen_files_add(Named **table, const char *name);
