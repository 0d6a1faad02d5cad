/* What this daemon has seen in its folder, as it is kept on disk: {"device","inode","names":[]}. Pure. */
#pragma once

#include "base/text.h"
#include "fleetd/directory/diff.h"

/* Adds the names that are units' to *table. -EBADMSG: it cannot be read, and nothing is changed. */
int seen_files_read(const char *json, size_t size, uint64_t *ret_device, uint64_t *ret_inode,
                    SeenFile **table);
void seen_files_write(Text *t, uint64_t device, uint64_t inode, const SeenFile *table);

bool seen_files_add(SeenFile **table,
                    const char *name); /* marks it as 'there'; true if it is new (and there was memory) */
void seen_files_clear(SeenFile **table);
