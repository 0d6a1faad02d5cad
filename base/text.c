#include "base/text.h"

enum { TEXT_CAPACITY_MIN = 64 }; /* bytes; most records and messages fit */

void text_done(Text *t) {
        free(t->chars);
        *t = (Text) {};
}

bool text_reserve(Text *t, size_t more) {
        if (t->error < 0)
                return false;
        if (more < t->capacity - t->size)
                return true;
        if (more > SIZE_MAX / 2 - t->size ||
            GROW(t->chars, t->capacity, MAX(t->size + more + 1, (size_t) TEXT_CAPACITY_MIN)) < 0) {
                t->error = -ENOMEM;
                return false;
        }
        return true;
}

void text_append_long(Text *t, const void *bytes, size_t size) {
        if (!text_reserve(t, size))
                return;

        if (size > 0)
                memcpy(t->chars + t->size, bytes, size);
        t->size += size;
        t->chars[t->size] = 0;
}

const char *text_u64(uint64_t v, char buffer[static TEXT_U64_SIZE]) {
        char *p = buffer + TEXT_U64_SIZE - 1;

        *p = 0;
        do
                *--p = '0' + v % 10;
        while ((v /= 10) > 0);
        return p;
}

void text_append_u64(Text *t, uint64_t v) {
        char buffer[TEXT_U64_SIZE];
        const char *digits = text_u64(v, buffer);

        text_append_bytes(t, digits, buffer + sizeof(buffer) - 1 - digits);
}

void text_vprintf(Text *t, const char *format, va_list ap) {
        va_list again;
        int n;

        va_copy(again, ap);
        n = vsnprintf(NULL, 0, format, ap);
        if (n < 0)
                t->error = -ENOMEM;
        else if (text_reserve(t, n)) {
                vsnprintf(t->chars + t->size, n + 1, format, again);
                t->size += n;
        }
        va_end(again);
}

void text_printf(Text *t, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        text_vprintf(t, format, ap);
        va_end(ap);
}

static size_t utf8_length_of_first_byte(unsigned char c) {
        if (c < 0x80)
                return 1;
        if (c < 0xc2)
                return 0;
        if (c < 0xe0)
                return 2;
        if (c < 0xf0)
                return 3;
        return c < 0xf5 ? 4 : 0;
}

/* Unicode 15, table 3-7. */
size_t utf8_length(const void *bytes, size_t left) {
        const unsigned char *s = bytes;
        size_t n = utf8_length_of_first_byte(s[0]);

        if (n == 0 || n > left)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
            (s[0] == 0xf4 && s[1] > 0x8f))
                return 0;
        return n;
}

bool text_is_plain(const void *bytes, size_t size) {
        const char *s = bytes;

        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_length(s + i, size - i);
                if (n == 0 || s[i] == 0)
                        return false;
        }
        return true;
}

/* Bytes that need no escape in a JSON string. */
static const uint8_t json_plain[256] = {
        [' ' ... '!'] = 1, ['#' ... '%'] = 1, ['\'' ... ';'] = 1,
        ['='] = 1,         ['?' ... '['] = 1, [']' ... 0x7f] = 1,
};

/* Write the escape of a byte below 128, and return its size. Calls no printf(): a value may be a megabyte of
 * such bytes. */
static size_t json_escape(unsigned char c, char ret[static 6]) {
        static const char letters[128] = {
                ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'
        };
        static const char digits[] = "0123456789abcdef";
        char letter = letters[c];

        ret[0] = '\\';
        if (letter) {
                ret[1] = letter;
                return 2;
        }
        memcpy(ret + 1, "u00", 3);
        ret[4] = digits[c >> 4];
        ret[5] = digits[c & 15];
        return 6;
}

void text_append_json(Text *t, const void *bytes, size_t size) {
        const unsigned char *s = bytes;
        size_t plain = 0;

        for (size_t i = 0, n;; i += n) {
                char escaped[6];
                size_t length = 6;

                while (i < size && json_plain[s[i]])
                        i++;
                if (i == size)
                        break;
                n = utf8_length(s + i, size - i);
                if (n == 0) {
                        n = 1;
                        memcpy(escaped, "\\ufffd", 6);
                } else if (n == 3 && s[i] == 0xe2 && s[i + 1] == 0x80 && (s[i + 2] & 0xfe) == 0xa8)
                        memcpy(escaped, s[i + 2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
                else if (n > 1)
                        continue;
                else
                        length = json_escape(s[i], escaped);

                text_append_bytes(t, s + plain, i - plain);
                text_append_bytes(t, escaped, length);
                plain = i + n;
        }
        text_append_bytes(t, s + plain, size - plain);
}

/* Return whether a terminal can print the UTF-8 character of 'n' bytes at 's' (Unicode 15: not Cc, not
 * Bidi_Control, not U+2028/9). */
static bool is_printable(const unsigned char *s, size_t n) {
        switch (n) {
        case 0:
                return false;
        case 1:
                return s[0] >= 0x20 && s[0] != 0x7f;
        case 2: /* C1, U+0080 to U+009F, contains CSI, which a terminal reads as "ESC ["; U+061C */
                return !(s[0] == 0xc2 && s[1] < 0xa0) && !(s[0] == 0xd8 && s[1] == 0x9c);
        case 3: /* U+200E, U+200F, U+2028 to U+202E; U+2066 to U+2069 */
                return !(s[0] == 0xe2 && s[1] == 0x80 &&
                         (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xa8 && s[2] <= 0xae))) &&
                       !(s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
        default:
                return true;
        }
}

void text_append_printable_bytes(Text *t, const void *bytes, size_t size, bool lines) {
        const unsigned char *s = bytes;

        for (size_t i = 0, n; i < size; i += n) {
                size_t length = utf8_length(s + i, size - i);
                bool printable = is_printable(s + i, length);

                n = MAX(length, (size_t) 1);
                if (lines)
                        printable |= s[i] == '\n' || s[i] == '\t' ||
                                     (s[i] == '\r' && i + 1 < size && s[i + 1] == '\n');
                if (printable)
                        text_append_bytes(t, s + i, n);
                for (size_t k = 0; !printable && k < n; k++)
                        text_printf(t, "\\x%02x", s[i + k]);
        }
}

void text_append_printable(Text *t, const char *s) {
        text_append_printable_bytes(t, s, strlen(s), false);
}

void text_printable(Text *t, const char *format, ...) {
        _cleanup_text_ Text whole = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&whole, format, ap);
        va_end(ap);
        text_append_printable(t, whole.chars ?: "");
        t->error = t->error ?: whole.error;
}

char *text_keep_to_one_line(char *s) {
        size_t size = strlen(s), to = 0;

        for (size_t i = 0, n; i < size; i += n) {
                size_t length = utf8_length(s + i, size - i);

                n = MAX(length, (size_t) 1);
                if (is_printable((unsigned char *) s + i, length)) {
                        memmove(s + to, s + i, n);
                        to += n;
                } else
                        s[to++] = '?';
        }
        s[to] = 0;
        return s;
}

size_t text_fit(const char *s, size_t max) {
        size_t end = max;

        while (end > max / 2 && s[end] != ' ')
                end--;
        if (s[end] == ' ')
                return end;
        while (max > 0 && ((unsigned char) s[max] & 0xc0) == 0x80)
                max--;
        return max;
}

void text_format_list(char *ret, size_t size, const char *format, va_list ap) {
        static const char mark[] = "...";
        int length = vsnprintf(ret, size, format, ap);

        if (length >= 0 && (size_t) length >= size)
                memcpy(ret + text_fit(ret, size - sizeof(mark)), mark, sizeof(mark));
}

void text_format(char *ret, size_t size, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        text_format_list(ret, size, format, ap);
        va_end(ap);
}

bool text_has_word(const char *words, const char *word) {
        for (size_t n; *words; words += n + strspn(words + n, " ")) {
                n = strcspn(words, " ");
                if (n == strlen(word) && memcmp(words, word, n) == 0)
                        return true;
        }
        return false;
}

const char *size_text(uint64_t size, char buffer[static 32]) {
        static const char *const units[] = { "bytes", "KiB", "MiB" };
        size_t unit = 0;

        for (; unit + 1 < ELEMENTS(units) && size >= 1024 && size % 1024 == 0; unit++)
                size /= 1024;
        snprintf(buffer, 32, "%llu %s", (unsigned long long) size, units[unit]);
        return buffer;
}

int text_compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

size_t text_distance(const char *a, const char *b) {
        size_t rows[3][65], n = strlen(a), m = strlen(b); /* the last three of the matrix */

        if (n >= ELEMENTS(rows[0]) || m >= ELEMENTS(rows[0]))
                return SIZE_MAX;

        for (size_t j = 0; j <= m; j++)
                rows[0][j] = j;
        for (size_t i = 1; i <= n; i++) {
                const size_t *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
                size_t *row = rows[i % 3];

                row[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        size_t changed = last[j - 1] + (a[i - 1] != b[j - 1]);

                        row[j] = MIN(changed, MIN(last[j], row[j - 1]) + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = MIN(row[j], before[j - 2] + 1);
                }
        }
        return rows[n % 3][m];
}

void text_clear(Text *t) {
        t->size = 0;
        t->error = 0;
        if (t->chars)
                t->chars[0] = 0;
}

char *text_take(Text *t, size_t *ret_size) {
        char *chars;

        text_append_bytes(t, "", 0);
        if (t->error < 0) {
                text_done(t);
                return NULL;
        }
        chars = TAKE_PTR(t->chars);
        if (ret_size)
                *ret_size = t->size;
        *t = (Text) {};
        return chars;
}

void append_span(Text *t, uint64_t ms) {
        static const struct {
                uint64_t ms;
                const char *name;
        } spans[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" }, { 1, "ms" } };

        for (size_t i = 0; i < ELEMENTS(spans); i++)
                if (ms >= spans[i].ms) {
                        text_printf(t, "%llu %s", (unsigned long long) (ms / spans[i].ms), spans[i].name);
                        return;
                }
}

void append_ago(Text *t, uint64_t age_ms) {
        if (age_ms < 1000) {
                text_append(t, " just now");
                return;
        }
        text_append(t, " ");
        append_span(t, age_ms);
        text_append(t, " ago");
}
