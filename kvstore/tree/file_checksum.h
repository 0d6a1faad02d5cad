/* The sum at the end of a tree's file that is not written any more.
 *
 * LMDB has no sums: pages that a disk changed are followed wherever they point. So a copy ends with a page
 * that LMDB never reads, and that says what the pages before it hold; it is looked at before LMDB sees any of
 * them. A copy of an older version has none. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FILE_SUM_SIZE = 4096 };

/* Behind 'size' bytes, whose crc32c() is 'crc'. Not synced. */
int file_checksum_append(int fd, uint64_t size, uint32_t crc);
/* Reads all of it. 1: the sum is right; 0: there is none; -EUCLEAN: it is another; -ECANCELED:
 * '*cancelled' (NULL: never) became true. */
int file_checksum_check(int fd, const _Atomic bool *cancelled);
