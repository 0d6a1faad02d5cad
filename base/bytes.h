/* Records in bytes: bounded little-endian writing and reading, for log entries, frames and files.
 *
 * A Writer grows and remembers its first failure. A Reader never reads past its end: after the first short
 * read it is failed, everything read from it is 0 or empty, and one check at the end suffices. Strings and
 * blobs are a varint length and bytes; what a reader returns borrows from the bytes it reads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

typedef struct Writer {
        uint8_t *bytes;
        size_t size, capacity;
        int error; /* 0 or -ENOMEM */
} Writer;

void writer_done(Writer *w);
#define _cleanup_writer_ _cleanup_(writer_done)

void write_u8(Writer *w, uint8_t v);
void write_u16(Writer *w, uint16_t v);
void write_u32(Writer *w, uint32_t v);
void write_u64(Writer *w, uint64_t v);
void write_varint(Writer *w, uint64_t v);
void write_raw(Writer *w, const void *bytes, size_t size);
void write_blob(Writer *w, const void *bytes, size_t size); /* varint size, then bytes */
void write_string(Writer *w, const char *s);                /* NULL is written as "" */

/* Gives the bytes to the caller, who frees them; NULL after a failed write. */
uint8_t *writer_take(Writer *w, size_t *ret_size);

typedef struct Reader {
        const uint8_t *bytes; /* borrowed; the next unread byte */
        size_t left;
        bool failed;
} Reader;

static inline Reader reader_over(const void *bytes, size_t size) {
        return (Reader) { .bytes = bytes, .left = size };
}

uint8_t read_u8(Reader *r);
uint16_t read_u16(Reader *r);
uint32_t read_u32(Reader *r);
uint64_t read_u64(Reader *r);
uint64_t read_varint(Reader *r);              /* at most ten bytes, shortest form only */
const void *read_raw(Reader *r, size_t size); /* NULL when short */
const void *read_blob(Reader *r, size_t max, size_t *ret_size);
/* A copy of a string of at most 'max' bytes without NUL inside; NULL (and failed) otherwise. The caller frees
 * it. */
char *read_string(Reader *r, size_t max);

/* 0 if nothing failed and nothing is left, else -EBADMSG. */
int reader_end(const Reader *r);

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size); /* Castagnoli; start with 0 */
uint32_t crc32c_portable(uint32_t crc, const void *bytes,
                         size_t size); /* the same without the processor's help */
