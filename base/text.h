/* Text: a string that grows and remembers its first failure. Append freely, check once at the end. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

typedef struct Text {
        char *chars; /* always terminated once something was appended; NULL before */
        size_t size; /* bytes without the terminator */
        size_t capacity;
        int error; /* 0, or -ENOMEM: later appends do nothing */
} Text;

void text_done(Text *t);
#define _cleanup_text_ _cleanup_(text_done)

/* Makes room for 'more' bytes at once. True, or it has failed. */
bool text_reserve(Text *t, size_t more);

void text_append_long(Text *t, const void *bytes, size_t size);

/* Most of what is appended is short and finds room: that much of it goes where it is called. */
static inline void text_append_bytes(Text *t, const void *bytes, size_t size) {
        if (t->error < 0 || size > 256 || size >= t->capacity - t->size) {
                text_append_long(t, bytes, size);
                return;
        }
        if (size > 0)
                memcpy(t->chars + t->size, bytes, size);
        t->size += size;
        t->chars[t->size] = 0;
}

static inline void text_append(Text *t, const char *s) {
        text_append_bytes(t, s, strlen(s));
}

static inline void text_append_char(Text *t, char c) {
        text_append_bytes(t, &c, 1);
}

enum { TEXT_U64_SIZE = 21 };

/* The digits of 'v', terminated, somewhere in 'room': returns where. */
const char *text_u64(uint64_t v, char room[static TEXT_U64_SIZE]);
void text_append_u64(Text *t, uint64_t v);
void text_printf(Text *t, const char *format, ...) _printf_(2, 3);
void text_vprintf(Text *t, const char *format, va_list ap) _printf_(2, 0);

/* Appends 'bytes' as the inside of a JSON string: quotes, control bytes, '<', '>', '&', U+2028/9 escaped,
 * invalid UTF-8 shown as U+FFFD. */
void text_append_json(Text *t, const void *bytes, size_t size);

/* Append 's' with each byte that a terminal acts upon as \xNN: control characters (C0, DEL, C1), line and
 * paragraph separators, marks that change the direction of writing, and bytes that are no UTF-8. */
void text_append_printable(Text *t, const char *s);
/* The same of 'size' bytes; with 'lines' newline (with a carriage return before it) and tab stay as they are.
 */
void text_append_printable_bytes(Text *t, const void *bytes, size_t size, bool lines);

/* The same in place, where a message is wanted: '?' for each such character. Returns 's'. */
char *text_keep_to_one_line(char *s);

/* The length of the valid UTF-8 sequence at 's', of which 'left' > 0 bytes are there; 0 if there is none. */
size_t utf8_length(const void *s, size_t left);

/* May these bytes stand in JSON as a text that every reader takes: valid UTF-8 without NUL? */
bool text_is_plain(const void *bytes, size_t size);

/* A size for people, "16 KiB" or "1000 bytes", in 'buffer', which is returned. */
const char *size_text(uint64_t size, char buffer[static 32]);

/* How many letters must be typed differently to make one word of the other (Levenshtein), for "did you mean";
 * SIZE_MAX for words too long for a typing error. */
size_t text_distance(const char *a, const char *b);

/* Empties, keeping the memory and forgetting the failure. */
void text_clear(Text *t);

/* Gives the string to the caller, who frees it ("" if nothing was appended); NULL if an append had failed. */
char *text_take(Text *t, size_t *ret_size);
