/* The file of a store's keys, changed while the store is closed. */
#pragma once

#include <stdbool.h>

/* Puts 'n' nodes of 200 KiB into the live tree in the folder 'path', and deletes them unless 'keep': the file
 * keeps their pages. Aborts on errors. */
void tree_file_swell(const char *path, unsigned n, bool keep);
