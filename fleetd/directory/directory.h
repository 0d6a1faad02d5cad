/* The watched directory of unit files: a new file submits and launches its unit, a change updates it, a
 * removal by the owner removes it.
 *
 * An event of inotify requests a scan of the whole directory, some files in each turn of the loop. A file is
 * read when its stamp (inode, size, times) has changed. A complete scan is compared with the units that the
 * directory owns in the registry. A change of the registry repeats the comparison without a scan; before a
 * removal, the file's absence is checked again.
 *
 * A file that is rejected gets NAME.error, and changes nothing. Absence is not deletion: a unit is removed
 * only if this daemon's own record has its file in this very directory (device, inode). If a third of the
 * files, and at least three, disappear at once, their units are held. */
#pragma once

#include "fleetd/host/component.h"

typedef struct Directory Directory;

/* 'host' is borrowed, with its settings: UnitDirectory= may be absent, and appear later. */
int directory_new(Directory **ret, const ComponentHost *host, Error *err);
void *directory_free(void *directory);

/* Append the names of the first four unit files that are in the directory now to 'names', refused ones
 * included. Return their number; 0: none, or no directory ('d' may be NULL). A negative errno: it cannot be
 * read. */
int directory_list_units(const Directory *d, Text *names);
