/* Text: a builder of strings and of other bytes, which keeps its first failure. Append freely, check once at
 * the end. */
#pragma once

#include <stdarg.h>

#include "base/memory.h"

typedef struct Text {
        union { /* terminated after the first append; NULL before */
                char *chars;
                uint8_t *bytes;
        };
        size_t size; /* bytes without the terminator */
        size_t capacity;
        int error; /* 0, or -ENOMEM: later appends do nothing */
} Text;

void text_done(Text *t);
#define _cleanup_text_ _cleanup_(text_done)

/* Return the text; "" if it is empty, or has failed. */
static inline const char *text_chars(const Text *t) {
        return t->error >= 0 && t->chars ? t->chars : "";
}

/* Grow the capacity by 'more' bytes. Return false if the text has failed. */
bool text_reserve(Text *t, size_t more);

void text_append_long(Text *t, const void *bytes, size_t size);

/* Inline, because most appended strings are short and fit the capacity. */
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

/* Write the digits of 'v', terminated, into 'buffer'. Return their start within it. */
const char *text_u64(uint64_t v, char buffer[static TEXT_U64_SIZE]);
void text_append_u64(Text *t, uint64_t v);
void text_printf(Text *t, const char *format, ...) _printf_(2, 3);
void text_vprintf(Text *t, const char *format, va_list ap) _printf_(2, 0);

/* Append 'bytes' as the content of a JSON string. Quotes, control characters, '<', '>', '&' and U+2028/9 are
 * escaped; U+FFFD replaces invalid UTF-8. */
void text_append_json(Text *t, const void *bytes, size_t size);

/* Append 's'. Write each byte that a terminal interprets as \xNN: control characters (C0, DEL, C1), line and
 * paragraph separators, marks that change the writing direction, and invalid UTF-8. */
void text_append_printable(Text *t, const char *s);
/* The same for 'size' bytes; with 'lines', keep tabs, newlines, and carriage returns before newlines. */
void text_append_printable_bytes(Text *t, const void *bytes, size_t size, bool lines);

/* The same for the result of a format. */
void text_printable(Text *t, const char *format, ...) _printf_(2, 3);

/* Replace each such character of 's' with '?', in place. Return 's'. */
char *text_keep_to_one_line(char *s);

/* Return how many bytes of 's', which has more than 'max', are kept if at most 'max' are: up to the end of a
 * word of the second half, or else of a character. */
size_t text_fit(const char *s, size_t max);

/* Format into an array of 'size' bytes. A text that is too long ends with "..." after a word, or after a
 * character of a long word. */
void text_format(char *ret, size_t size, const char *format, ...) _printf_(3, 4);
void text_format_list(char *ret, size_t size, const char *format, va_list ap) _printf_(3, 0);

/* Return the size of the valid UTF-8 sequence at 's', which has 'left' > 0 bytes; 0 if it is invalid. */
size_t utf8_length(const void *s, size_t left);

/* Return whether every JSON reader accepts these bytes as a string: valid UTF-8 without NUL. */
bool text_is_plain(const void *bytes, size_t size);

/* Return whether 'word' is one of the space-separated 'words'. */
bool text_has_word(const char *words, const char *word);

/* Return the ending of a word that follows the number 'n': "%zu key%s". */
static inline const char *plural(uint64_t n) {
        return n == 1 ? "" : "s";
}

/* Format a size for users, "16 KiB" or "1000 bytes". Return 'buffer'. */
const char *size_text(uint64_t size, char buffer[static 32]);

/* Append "4 min", in the largest unit of time. */
void append_span(Text *t, uint64_t ms);
/* Append " 4 min ago", or " just now". */
void append_ago(Text *t, uint64_t age_ms);

/* Compare two strings of an array, for qsort(3) and bsearch(3). */
int text_compare(const void *a, const void *b);

/* Return the Levenshtein distance of two words, for "did you mean", in which two neighbours in the other
 * order are one change (Damerau); SIZE_MAX for words of more than 64 bytes. */
size_t text_distance(const char *a, const char *b);

/* Empty the text and clear its failure; keep the memory. */
void text_clear(Text *t);

/* Transfer the string to the caller, which frees it ("" if empty). NULL after a failed append. */
char *text_take(Text *t, size_t *ret_size);
