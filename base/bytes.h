/* Bounded little-endian writing and reading of records, for log entries, frames and files.
 *
 * A Writer grows and keeps its first failure. A Reader never reads past its end: after the first short read
 * it has failed, and each further read returns 0 or an empty value, so one check at the end suffices. Strings
 * and blobs are a varint size and bytes. Pointers that a Reader returns borrow from its bytes. */
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

/* Transfer the bytes to the caller, which frees them. NULL after a failed write. */
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
const void *read_raw(Reader *r, size_t size); /* NULL: not enough bytes */
const void *read_blob(Reader *r, size_t max, size_t *ret_size);
/* Return a copy of a string of at most 'max' bytes that contains no NUL, or NULL and fail. The caller frees
 * it. */
char *read_string(Reader *r, size_t max);

/* Return 0 if no read failed and no byte is left, otherwise -EBADMSG. */
int reader_end(const Reader *r);

/* Continue the Castagnoli CRC 'crc'; 0 at the start. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same without the CRC instruction of the processor. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);
