/* The checksum at the end of a checkpoint or backup.
 *
 * LMDB has no checksums, and follows any pointer in a page that a disk has corrupted. Therefore a copy ends
 * with a page that LMDB never reads, with the checksum of all pages before it. It is verified before LMDB
 * opens the file. A copy of an older version has no checksum. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FILE_CHECKSUM_SIZE = 4096 };

/* Write the page for 'size' bytes with the checksum 'crc'. 0 or -ENOMEM. */
int file_checksum_page(uint64_t size, uint32_t crc, uint8_t ret[static FILE_CHECKSUM_SIZE]);
/* Append the checksum 'crc', by crc32c(), of the 'size' bytes of the file. Does not sync. */
int file_checksum_append(int fd, uint64_t size, uint32_t crc);
/* Read the checksum at the end, and the size of what it is of, without checking it. -ENODATA: there is none.
 */
int file_checksum_read(int fd, uint64_t *ret_size, uint32_t *ret_crc);
/* Read the whole file. Return 1 if the checksum matches, 0 if there is none. Errors:
 *   -EUCLEAN     the checksum differs
 *   -ECANCELED   '*cancelled' (NULL: never) became true */
int file_checksum_check(int fd, const _Atomic bool *cancelled);
