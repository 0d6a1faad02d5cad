/* The copy of a content: the file from which the files in memory are made again in a boot.
 *
 *   u8 version 1   u32 CRC-32C of what follows   u64 number   text digest   text environment
 *   varint n, texts: names of credentials   varint n, files: text name, blob value
 *
 * A text is a blob that ends with its only NUL. Pure. */
#pragma once

#include "base/bytes.h"
#include "fleetd/features/inputs/input_files.h"

enum { INPUT_COPY_MAX = 8 * 1024 * 1024 /* bytes */, INPUT_COPY_HEAD = 5 /* version and CRC */ };

/* Return whether 'name' is a path below a folder, without empty, "." and ".." components. */
bool input_name_is_below(const char *name);

/* Append the copy of a content. Errors: Writer.error. */
void input_copy_write(Writer *w, const InputFileSet *set);
/* Read a copy. *ret, which has no folder and no values of credentials, borrows from 'bytes' and from
 * *ret_items, which the caller frees: its credentials, then its files. 0; -ENOMEM; -EBADMSG: it is damaged,
 * or a name is invalid. */
int input_copy_read(const void *bytes, size_t size, InputFileSet *ret, InputFile **ret_items);
