#include "client/output.h"

#include <ctype.h>
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/file.h"
#include "base/text.h"
#include "units/lists.h"

struct Table {
        Names headers;
        Names cells; /* row by row */
};

Table *table_new(const char *headers) {
        _cleanup_table_ Table *t = NEW0(Table, 1);

        for (const char *end; t && *headers; headers = *end ? end + 1 : end) {
                end = headers + strcspn(headers, ",");
                if (names_add(&t->headers, headers, (size_t) (end - headers)) < 0)
                        return NULL;
                for (char *s = t->headers.items[t->headers.n - 1]; *s; s++)
                        *s = (char) toupper((unsigned char) *s);
        }
        return TAKE_PTR(t);
}

Table *table_free(Table *t) {
        if (!t)
                return NULL;
        names_done(&t->headers);
        names_done(&t->cells);
        free(t);
        return NULL;
}

int table_add(Table *t, const char *text) {
        _cleanup_text_ Text safe = {};

        text_append_printable(&safe, text ?: "");
        return safe.error < 0 ? safe.error : names_add(&t->cells, safe.chars ?: "", safe.size);
}

int table_add_row(Table *t, const char *const *cells) {
        for (size_t i = 0; i < t->headers.n; i++)
                if (table_add(t, *cells[i] ? cells[i] : "-") < 0)
                        return -ENOMEM;
        return 0;
}

/* -- Terminals -- */

typedef struct Screen {
        int fd;
        char pending[4]; /* an incomplete character, or a carriage return: the next byte decides its meaning
                          */
        size_t n_pending;
} Screen;

/* Return the length of the UTF-8 sequence that begins with 'c'; 0 for a continuation byte. */
static size_t sequence_length(unsigned char c) {
        if (c >= 0xf0)
                return 4;
        if (c >= 0xe0)
                return 3;
        if (c >= 0xc0)
                return 2;
        return c < 0x80;
}

/* Return the size of the incomplete character, or the carriage return, at the end. */
static size_t incomplete_size(const char *bytes, size_t size) {
        if (size > 0 && bytes[size - 1] == '\r')
                return 1;
        for (size_t n = 1; n <= MIN(size, (size_t) 3); n++) {
                size_t length = sequence_length(bytes[size - n]);

                if (length > 0)
                        return n < length ? n : 0;
        }
        return 0;
}

/* Write without memory: an error message has to be readable even then, with '?' for other characters. Output
 * on stdout fails instead. */
static int write_ascii(int fd, const char *bytes, size_t size) {
        char part[256];
        int r = fd == STDERR_FILENO ? 0 : -ENOMEM;

        for (size_t at = 0, n; at < size && r >= 0; at += n) {
                for (n = 0; n < sizeof(part) && at + n < size; n++) {
                        char c = bytes[at + n];

                        part[n] = c == '\n' || c == '\t' || (c >= ' ' && c < 0x7f) ? c : '?';
                }
                r = write_all(fd, part, n);
        }
        return r;
}

static ssize_t screen_write(void *cookie, const char *bytes, size_t size) {
        Screen *screen = cookie;
        _cleanup_text_ Text all = {}, safe = {};
        size_t left;

        text_append_bytes(&all, screen->pending, screen->n_pending);
        text_append_bytes(&all, bytes, size);
        if (all.error < 0)
                return write_ascii(screen->fd, bytes, size) < 0 ? 0 : (ssize_t) size;
        left = incomplete_size(all.chars, all.size);
        text_append_printable_bytes(&safe, all.chars, all.size - left, true);
        if ((safe.error < 0 ? write_ascii(screen->fd, all.chars, all.size - left) :
                              write_all(screen->fd, safe.chars, safe.size)) < 0)
                return 0;
        memcpy(screen->pending, all.chars + all.size - left, left);
        screen->n_pending = left;
        return (ssize_t) size;
}

static void screen_open(Screen *screen, FILE **stream, int mode) {
        FILE *f = isatty(fileno(*stream)) ?
                          fopencookie(screen, "w", (cookie_io_functions_t) { .write = screen_write }) :
                          NULL;

        if (!f)
                return;
        (void) setvbuf(f, NULL, mode, BUFSIZ);
        *stream = f;
}

void output_init(void) {
        static Screen screens[] = { { .fd = STDOUT_FILENO }, { .fd = STDERR_FILENO } }; /* like the streams */

        screen_open(&screens[0], &stdout, _IOLBF);
        screen_open(&screens[1], &stderr, _IONBF);
}

/* errno of the first output that could not be written: stdout keeps only that one could not. */
static int failure;

int output_flush(void) {
        if (fflush(stdout) != EOF)
                return 0;
        failure = failure ?: errno;
        return -errno;
}

int output_control(const char *s) {
        if (!isatty(STDOUT_FILENO))
                return output_text(s, strlen(s));
        return output_flush() ?: write_all(STDOUT_FILENO, s, strlen(s));
}

int output_name(const void *bytes, size_t size) {
        _cleanup_text_ Text safe = {};

        if (!isatty(STDOUT_FILENO))
                return output_text(bytes, size);
        text_append_printable_bytes(&safe, bytes, size, false);
        return safe.error < 0 ? safe.error : output_text(safe.chars, safe.size);
}

int output_text(const void *bytes, size_t size) {
        if (size == 0 || fwrite(bytes, 1, size, stdout) == size)
                return 0;
        failure = failure ?: errno;
        return -EPIPE;
}

int output_line(const char *s) {
        int r = output_text(s, strlen(s));

        return r < 0 ? r : output_text("\n", 1);
}

bool output_has_failed(void) {
        return ferror(stdout) != 0;
}

int output_finish(int status) {
        int error;

        if (output_flush() >= 0 && !output_has_failed())
                return status;
        error = failure;
        failure = 0; /* fleetctl may run again in this process */
        fprintf(stderr, "fleetctl: Failed to write to standard output%s%s\n", error > 0 ? ": " : "",
                error > 0 ? strerror(error) : "");
        return EXIT_FAILURE;
}

size_t output_columns(void) {
        struct winsize window = {};

        return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) >= 0 ? window.ws_col : 0;
}

size_t output_width(const char *s) {
        size_t n = 0, size = strlen(s);

        for (size_t at = 0; at < size; n++)
                at += MAX(utf8_length(s + at, size - at), (size_t) 1);
        return n;
}

void output_cut(Text *t, const char *s, size_t width, bool in_middle) {
        size_t n = output_width(s), head, at = 0, size = strlen(s);

        if (n <= width) {
                text_append(t, s);
                return;
        }
        if (width == 0)
                return;
        head = in_middle ? width / 4 : width - 1;
        for (size_t i = 0; at < size; i++) {
                size_t step = MAX(utf8_length(s + at, size - at), (size_t) 1);

                if (i == head)
                        text_append(t, "…");
                if (i < head || i >= n - (width - 1 - head))
                        text_append_bytes(t, s + at, step);
                at += step;
        }
}

static void print_cells(const Table *t, char *const *cells, const size_t *widths) {
        size_t n = t->headers.n;

        while (n > 1 && !*cells[n - 1]) /* no trailing tabs */
                n--;
        for (size_t i = 0; i < n; i++) {
                fputs(cells[i], stdout);
                if (i + 1 < n)
                        for (size_t at = output_width(cells[i]); at < widths[i]; at = (at / 8 + 1) * 8)
                                putchar('\t');
        }
        putchar('\n');
}

/* Print like Go's text/tabwriter with tab stops of 8: the width of a column is that of its longest cell plus
 * one, rounded up to tab stops. */
static int print_tabs(const Table *t, bool legend) {
        _cleanup_free_ size_t *widths = NEW0(size_t, t->headers.n + 1);

        if (!widths)
                return -ENOMEM;
        for (size_t i = 0; i < t->headers.n; i++)
                widths[i] = legend ? output_width(t->headers.items[i]) : 0;
        for (size_t i = 0; i < t->cells.n; i++)
                widths[i % t->headers.n] = MAX(widths[i % t->headers.n], output_width(t->cells.items[i]));
        for (size_t i = 0; i < t->headers.n; i++)
                widths[i] = (widths[i] + 1 + 7) / 8 * 8;

        if (legend)
                print_cells(t, t->headers.items, widths);
        for (size_t i = 0; i + t->headers.n <= t->cells.n; i += t->headers.n)
                print_cells(t, &t->cells.items[i], widths);
        return 0;
}

bool output_has_colours(void) {
        const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

        return isatty(STDOUT_FILENO) && !(no && *no) && !(term && streq(term, "dumb"));
}

/* Names are those of libsmartcols. */
static const struct {
        const char *state, *name, *sequence;
} state_colours[] = {
        { "active", "green", "\033[32m" },      { "running", "green", "\033[32m" },
        { "launched", "green", "\033[32m" },    { "up", "green", "\033[32m" },
        { "failed", "red", "\033[31m" },        { "lost", "red", "\033[31m" },
        { "activating", "yellow", "\033[33m" }, { "deactivating", "yellow", "\033[33m" },
        { "reloading", "yellow", "\033[33m" },  { "away", "yellow", "\033[33m" },
};

static const char *state_colour(const char *state, bool sequence) {
        for (size_t i = 0; i < ELEMENTS(state_colours); i++)
                if (streq(state, state_colours[i].state))
                        return sequence ? state_colours[i].sequence : state_colours[i].name;
        return NULL;
}

const char *output_state_colour(const char *state) {
        return state_colour(state, true) ?: "";
}

enum { COLUMN_GAP = 2, CELL_MIN = 4 };

static size_t column_width(const Table *t, size_t column) {
        size_t width = output_width(t->headers.items[column]);

        for (size_t i = column; i < t->cells.n; i += t->headers.n)
                width = MAX(width, output_width(t->cells.items[i]));
        return width;
}

static size_t table_width(const Table *t) {
        size_t sum = 0;

        for (size_t i = 0; i < t->headers.n; i++)
                sum += column_width(t, i) + (i > 0 ? COLUMN_GAP : 0);
        return sum;
}

/* Set the width of each column: reduce the widest ones until the table fits. */
static void fit(const Table *t, size_t columns, size_t *ret_widths) {
        size_t *widths = ret_widths;

        for (size_t i = 0; i < t->headers.n; i++)
                widths[i] = column_width(t, i);
        for (size_t sum = table_width(t); columns > 0 && sum > columns; sum--) {
                size_t widest = 0;

                for (size_t i = 1; i < t->headers.n; i++)
                        if (widths[i] > widths[widest])
                                widest = i;
                if (widths[widest] <= MAX(output_width(t->headers.items[widest]), (size_t) CELL_MIN))
                        return;
                widths[widest]--;
        }
}

/* Add a cell. A cell that is too long is cut here: versions of libsmartcols differ in that. Names, in the
 * first column, keep their ends. */
static int fill_cell(struct libscols_line *line, size_t column, const char *text, size_t width,
                     const char *colour) {
        _cleanup_text_ Text cut = {};

        output_cut(&cut, text, width, column == 0 && !ends_with(text, "..."));
        if (cut.error < 0 || scols_line_set_data(line, column, cut.chars ?: "") < 0)
                return -ENOMEM;
        return colour ? scols_cell_set_color(scols_line_get_cell(line, column), colour) : 0;
}

static int fill(struct libscols_table *table, const Table *t, bool colours) {
        _cleanup_free_ size_t *widths = NEW0(size_t, t->headers.n + 1);
        size_t n = t->headers.n;

        if (!widths)
                return -ENOMEM;
        fit(t, output_columns(), widths);
        for (size_t i = 0; i < n; i++)
                if (!scols_table_new_column(table, t->headers.items[i], 0, 0))
                        return -ENOMEM;
        for (size_t i = 0; i < t->cells.n; i++) {
                struct libscols_line *line = i % n == 0 ? scols_table_new_line(table, NULL) :
                                                          scols_table_get_line(table, i / n);
                const char *text = t->cells.items[i];

                if (!line || fill_cell(line, i % n, text, widths[i % n],
                                       colours ? state_colour(text, false) : NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

DEFINE_CLEANUP(struct libscols_table *, scols_unref_table)

static int print_columns(const Table *t, bool legend) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = scols_new_table();
        _cleanup_free_ char *text = NULL;
        int r;

        if (!table)
                return -ENOMEM;
        scols_table_enable_noheadings(table, !legend);
        scols_table_enable_colors(table, output_has_colours());
        r = scols_table_set_column_separator(table, "  ");
        if (r < 0)
                return r;
        r = fill(table, t, output_has_colours());
        if (r < 0)
                return r;
        r = scols_print_table_to_string(table, &text);
        if (r < 0 || !*text)
                return r;
        r = output_control(text); /* cells are printable, colours are ours */
        putchar('\n');
        return r;
}

bool table_is_too_wide(const Table *t) {
        return output_columns() > 0 && table_width(t) > output_columns();
}

int table_print(const Table *t, bool legend) {
        if (isatty(STDOUT_FILENO))
                return t->cells.n > 0 || legend ? print_columns(t, legend) : 0;
        return print_tabs(t, legend);
}
