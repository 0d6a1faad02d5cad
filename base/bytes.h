/* Bounded little-endian writing and reading of records, for log entries, frames and files.
 *
 * A Writer is a Text whose content is binary. A Reader never reads past its end: after the first short read
 * it has failed, and each further read returns 0 or an empty value, so one check at the end suffices. Strings
 * and blobs are a varint size and bytes. Pointers that a Reader returns borrow from its bytes. */
#pragma once

#include <endian.h>

#include "base/text.h"

typedef Text Writer;

#define _cleanup_writer_ _cleanup_text_
#define writer_done      text_done

/* Inline, so that 'size' is a constant: one move instruction for each caller. */
static inline void write_le(Writer *w, uint64_t v, size_t size) {
        uint64_t le = htole64(v);

        text_append_bytes(w, &le, size);
}

#define write_u8(w, v)  write_le(w, (uint8_t) (v), 1)
#define write_u16(w, v) write_le(w, (uint16_t) (v), 2)
#define write_u32(w, v) write_le(w, (uint32_t) (v), 4)
#define write_u64(w, v) write_le(w, v, 8)
void write_varint(Writer *w, uint64_t v);
#define write_raw text_append_bytes
void write_blob(Writer *w, const void *bytes, size_t size); /* varint size, then bytes */
void write_string(Writer *w, const char *s);                /* NULL is written as "" */

/* Transfer the bytes to the caller, which frees them. NULL after a failed write. */
#define writer_take(w, ret_size) ((uint8_t *) text_take(w, ret_size))

typedef struct Reader {
        const uint8_t *bytes; /* borrowed; the next unread byte */
        size_t left;
        bool failed;
} Reader;

static inline Reader reader_over(const void *bytes, size_t size) {
        return (Reader) { .bytes = bytes, .left = size };
}

const void *read_raw(Reader *r, size_t size); /* NULL: not enough bytes */

static inline uint64_t read_le(Reader *r, size_t size) {
        const void *p = read_raw(r, size);
        uint64_t v = 0;

        if (p)
                memcpy(&v, p, size);
        return le64toh(v);
}

#define read_u8(r)  ((uint8_t) read_le(r, 1))
#define read_u16(r) ((uint16_t) read_le(r, 2))
#define read_u32(r) ((uint32_t) read_le(r, 4))
#define read_u64(r) read_le(r, 8)
uint64_t read_varint(Reader *r); /* at most ten bytes, shortest form only */
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
