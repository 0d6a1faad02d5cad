#include "client/core/output.h"

#include <ctype.h>
#include <fcntl.h>
#include <langinfo.h>
#include <libsmartcols/libsmartcols.h>
#include <sys/ioctl.h>
#include <wchar.h>

#include "base/file.h"
#include "client/core/suggest.h"
enum {
        CELL_MIN = 8,    /* columns of a cell that is cut */
        MIDDLE_MIN = 14, /* a name with fewer columns would keep little but ".service" at its end */
};

Table table_begin(const char *headers) {
        Table t = {};

        for (const char *end; *headers; headers = *end ? end + 1 : end) {
                if (*headers == '>') {
                        t.right |= 1U << t.headers.n;
                        headers++;
                }
                end = headers + strcspn(headers, ",");
                if (names_add(&t.headers, headers, (size_t) (end - headers)) < 0) {
                        t.error = -ENOMEM;
                        break;
                }
                for (char *s = t.headers.items[t.headers.n - 1]; *s && *s != '/'; s++)
                        *s = (char) toupper((unsigned char) *s);
        }
        return t;
}

void table_done(Table *t) {
        names_done(&t->headers);
        names_done(&t->cells);
}

void table_add_text(Table *t, const char *text) {
        _cleanup_text_ Text safe = {};

        text_append_printable(&safe, text);
        t->error = t->error ?: safe.error;
        if (t->error >= 0 && names_add(&t->cells, safe.chars ?: "", safe.size) < 0)
                t->error = -ENOMEM;
}

void table_add(Table *t, const Text *cell) {
        t->error = t->error ?: cell->error;
        table_add_text(t, cell->size > 0 ? cell->chars : "-");
}

void table_cell(Table *t, const char *format, ...) {
        _cleanup_text_ Text cell = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&cell, format, ap);
        va_end(ap);
        table_add(t, &cell);
}

void table_row(Table *t, const char *first, ...) {
        va_list ap;

        va_start(ap, first);
        for (size_t i = 0; i < t->headers.n; i++) {
                const char *cell = i == 0 ? first : va_arg(ap, const char *);

                table_add_text(t, *cell ? cell : "-");
        }
        va_end(ap);
}

/* -- Terminals -- */

/* The characters of the texts of fleetctl and systemctl that are not ASCII, for a locale without UTF-8. */
static const struct {
        const char *utf8, *ascii;
} own_characters[] = { { "…", "..." }, { "→", "->" }, { "–", "-" }, { "●", "*" }, { "○", "*" }, { "×", "*" },
                       { "↻", "*" },   { "├", "|" },  { "│", "|" }, { "└", "`" }, { "─", "-" } };

static bool has_utf8(void) {
        return streq(nl_langinfo(CODESET), "UTF-8");
}

static int write_for_locale(int fd, const char *bytes, size_t size) {
        _cleanup_text_ Text t = {};

        if (has_utf8())
                return write_all(fd, bytes, size);
        for (size_t at = 0, step; at < size; at += step) {
                size_t i = 0;

                step = MAX(utf8_length(bytes + at, size - at), (size_t) 1);
                while (i < ELEMENTS(own_characters) &&
                       (step == 1 || strncmp(own_characters[i].utf8, bytes + at, step) != 0))
                        i++;
                if (i < ELEMENTS(own_characters))
                        text_append(&t, own_characters[i].ascii);
                else
                        text_append_bytes(&t, bytes + at, step);
        }
        return t.error < 0 ? t.error : write_all(fd, t.chars ?: "", t.size);
}

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
                              write_for_locale(screen->fd, safe.chars, safe.size)) < 0)
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
static bool incomplete; /* some text was not even composed */

int output_flush(void) {
        if (fflush(stdout) != EOF)
                return 0;
        failure = failure ?: errno;
        return -errno;
}

int output_discard(bool discards) {
        static int kept = -1; /* stdout, while output is discarded */
        _cleanup_close_ int null = -EBADF;
        int r;

        r = output_flush();
        if (r < 0 || discards == (kept >= 0))
                return r;
        if (!discards) {
                r = dup2(kept, STDOUT_FILENO) < 0 ? -errno : 0;
                (void) close(kept);
                kept = -1;
                return r;
        }
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        kept = null < 0 ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        return kept < 0 || dup2(null, STDOUT_FILENO) < 0 ? -errno : 0;
}

int output_control(const char *s) {
        if (!isatty(STDOUT_FILENO))
                return output_text(s, strlen(s));
        return output_flush() ?: write_for_locale(STDOUT_FILENO, s, strlen(s));
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
        TRY(output_text(s, strlen(s)));
        return output_text("\n", 1);
}

/* Text that could not be composed without memory fails like text that could not be written. */
static bool output_check(const Text *t) {
        if (t->error >= 0)
                return true;
        failure = failure ?: -t->error;
        incomplete = true;
        return false;
}

int output_built(const Text *t) {
        return output_check(t) ? output_line(t->chars ?: "") : t->error;
}

bool output_has_failed(void) {
        return ferror(stdout) != 0 || incomplete;
}

int output_finish(int status) {
        int error;

        if (output_flush() >= 0 && !output_has_failed())
                return status;
        error = failure;
        failure = 0; /* fleetctl may run again in this process */
        incomplete = false;
        fprintf(stderr, "fleetctl: Failed to write to standard output%s%s\n", error > 0 ? ": " : "",
                error > 0 ? strerror(error) : "");
        return EXIT_FAILURE;
}

static struct winsize output_window(void) {
        struct winsize window = {};

        if (isatty(STDOUT_FILENO))
                (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
        return window;
}

size_t output_columns(void) {
        return output_window().ws_col;
}

size_t output_rows(void) {
        return output_window().ws_row;
}

/* Return the columns of the first character on a terminal, and its size in bytes. */
static size_t character_width(const char *s, size_t size, size_t *ret_step) {
        wchar_t c;
        int width = mbtowc(&c, s, size) > 0 ? wcwidth(c) : 1;

        *ret_step = MAX(utf8_length(s, size), (size_t) 1);
        return width < 0 ? 1 : (size_t) width;
}

size_t output_width(const char *s) {
        size_t n = 0, size = strlen(s), step;

        for (size_t at = 0; at < size; at += step)
                n += character_width(s + at, size - at, &step);
        return n;
}

void output_cut(Text *t, const char *s, size_t width, bool in_middle) {
        const char *ellipsis = has_utf8() ? "…" : "...";
        size_t n = output_width(s), dots = has_utf8() ? 1 : 3, head, tail, size = strlen(s), step;
        bool cut = false;

        if (n <= width) {
                text_append(t, s);
                return;
        }
        if (width < dots)
                return;
        head = in_middle && width >= MIDDLE_MIN ? width / 4 : width - dots;
        tail = n - (width - dots - head); /* the end begins at this column */
        for (size_t at = 0, column = 0; at < size; at += step) {
                size_t columns = character_width(s + at, size - at, &step);

                if (!cut && column + columns > head) {
                        text_append(t, ellipsis);
                        cut = true;
                }
                if (!cut || column >= tail)
                        text_append_bytes(t, s + at, step);
                column += columns;
        }
}

size_t output_line_size(const char *s, size_t width) {
        size_t size = strlen(s), begin = strspn(s, " \t"), words = 0, column = 0, step;

        for (size_t at = 0; at < size; at += step) {
                size_t next = column + character_width(s + at, size - at, &step);

                if (s[at] == '\t')
                        next = (column / 8 + 1) * 8;
                if (s[at] == ' ' && at > begin)
                        words = at;
                if (next > width && s[at] != ' ')
                        return words > 0 ? words : MAX(at, step);
                column = next;
        }
        return size;
}

void output_wrap(const char *s, size_t columns, size_t first, size_t indent) {
        for (size_t used = first; columns > 0 && *s; used = indent) {
                size_t size = output_line_size(s, columns - used), shown = size;

                while (shown > 0 && s[shown - 1] == ' ')
                        shown--;
                printf("%*s%.*s", (int) used, "", (int) shown, s);
                s += size + strspn(s + size, " ");
                if (*s)
                        putchar('\n');
        }
        puts(s);
}

void output_words(const Text *t, size_t indent) {
        size_t columns = output_columns();
        _cleanup_text_ Text safe = {};

        if (output_check(t))
                text_append_printable_bytes(&safe, t->chars ?: "", t->size, true);
        if (!output_check(t) || !output_check(&safe))
                return;
        output_wrap(safe.chars ?: "", columns, 0, indent > columns * 2 / 5 ? columns / 4 : indent);
}

void output_words_and(const Text *t, const char *gap, const Text *last, size_t indent) {
        size_t columns = output_columns();
        _cleanup_text_ Text line = {};

        if (!output_check(last))
                return;
        text_append_bytes(&line, t->chars, t->size);
        text_printf(&line, "%s%s", gap, last->chars ?: "");
        line.error = MIN(line.error, t->error);
        if (!output_check(&line) || columns == 0 || output_width(line.chars) <= columns) {
                output_words(&line, indent);
                return;
        }
        output_words(t, indent);
        printf("%*s%s\n", (int) (indent > columns * 2 / 5 ? columns / 4 : indent), "", last->chars ?: "");
}

/* Return the number of characters: a pipe has the columns of fleet, which counted them. */
static size_t character_count(const char *s) {
        size_t n = 0, size = strlen(s);

        for (size_t at = 0; at < size; n++)
                at += MAX(utf8_length(s + at, size - at), (size_t) 1);
        return n;
}

static void print_cells(const Table *t, char *const *cells, const size_t *widths) {
        size_t n = t->headers.n;

        while (n > 1 && !*cells[n - 1]) /* no trailing tabs */
                n--;
        for (size_t i = 0; i < n; i++) {
                fputs(cells[i], stdout);
                if (i + 1 < n)
                        for (size_t at = character_count(cells[i]); at < widths[i]; at = (at / 8 + 1) * 8)
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
                widths[i] = legend ? character_count(t->headers.items[i]) : 0;
        for (size_t i = 0; i < t->cells.n; i++)
                widths[i % t->headers.n] = MAX(widths[i % t->headers.n], character_count(t->cells.items[i]));
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

const char *output_state_colour(const char *state) {
        /* States of units, machines, assignments and files, with the colours of systemctl. */
        static const char *const colours[][2] = {
                { "\033[32m", "active running launched up" },
                { "\033[31m", "failed lost no refused not-loaded" },
                { "\033[33m", "activating deactivating reloading refreshing away auto-restart start "
                              "start-pre start-post stop-sigterm wait held taken" },
        };

        return words_find(colours, ELEMENTS(colours), state) ?: "";
}

static size_t column_width(const Table *t, size_t column) {
        size_t width = output_width(t->headers.items[column]);

        for (size_t i = column; i < t->cells.n; i += t->headers.n)
                width = MAX(width, output_width(t->cells.items[i]));
        return width;
}

/* Set the widths of all columns to those of their longest cells. On a terminal with fewer 'columns', the
 * widest one, the first of equals, is narrowed repeatedly, down to its header and CELL_MIN. Return the width
 * of the table. */
static size_t fit_columns(const Table *t, size_t columns, size_t *widths) {
        size_t n = t->headers.n, sum = 2 * (n - 1);

        for (size_t i = 0; i < n; i++) {
                widths[i] = column_width(t, i);
                sum += widths[i];
        }
        while (columns > 0 && sum > columns) {
                size_t widest = n;

                for (size_t i = 0; i < n; i++)
                        if (widths[i] > MAX(output_width(t->headers.items[i]), (size_t) CELL_MIN) &&
                            (widest == n || widths[i] > widths[widest]))
                                widest = i;
                if (widest == n)
                        break;
                widths[widest]--;
                sum--;
        }
        return sum;
}

/* A name that is too long is cut in its middle, a text at its end: versions of libsmartcols cut differently.
 */
static int fill(struct libscols_table *table, const Table *t, const size_t *widths, bool legend) {
        bool colours = output_has_colours();
        size_t n = t->headers.n;

        for (size_t i = 0; i < n; i++)
                if (!scols_table_new_column(table, legend ? t->headers.items[i] : "", 0,
                                            t->right & 1U << i ? SCOLS_FL_RIGHT : 0))
                        return -ENOMEM;
        for (size_t i = 0; i < t->cells.n; i++) {
                struct libscols_line *line = i % n == 0 ? scols_table_new_line(table, NULL) :
                                                          scols_table_get_line(table, i / n);
                const char *cell = t->cells.items[i], *colour = output_state_colour(cell);
                _cleanup_text_ Text shown = {};

                output_cut(&shown, cell, widths[i % n], !strchr(cell, ' '));
                if (shown.error < 0 || !line || scols_line_set_data(line, i % n, shown.chars ?: "") < 0)
                        return -ENOMEM;
                if (colours && *colour && scols_cell_set_color(scols_line_get_cell(line, i % n), colour) < 0)
                        return -ENOMEM;
        }
        return 0;
}

DEFINE_CLEANUP(struct libscols_table *, scols_unref_table)

int table_append(const Table *t, bool legend, Text *ret) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = scols_new_table();
        _cleanup_free_ size_t *widths = NEW0(size_t, t->headers.n + 1);
        _cleanup_free_ char *text = NULL;

        TRY(t->error);
        if (!table || !widths)
                return -ENOMEM;
        /* The cells are cut before: libsmartcols would do so without an ellipsis. */
        (void) scols_table_set_termforce(table, SCOLS_TERMFORCE_ALWAYS);
        (void) scols_table_set_termwidth(table, fit_columns(t, output_columns(), widths) + 1);
        /* The widths are ours: versions of libsmartcols cut differently. */
        TRY(scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER));
        scols_table_enable_noheadings(table, !legend);
        scols_table_enable_colors(table, output_has_colours());
        TRY(scols_table_set_column_separator(table, "  "));
        TRY(fill(table, t, widths, legend));
        TRY(scols_print_table_to_string(table, &text));
        text_append(ret, text);
        return ret->error;
}

static int print_columns(const Table *t, bool legend) {
        _cleanup_text_ Text text = {};
        int r;

        r = TRY(table_append(t, legend, &text));
        if (text.size == 0)
                return r;
        r = output_control(text.chars); /* cells are printable, colours are ours */
        putchar('\n');
        return r;
}

bool table_is_too_wide(const Table *t) {
        size_t columns = output_columns(), sum = 2 * (t->headers.n - 1);

        for (size_t i = 0; i < t->headers.n; i++)
                sum += column_width(t, i);
        return columns > 0 && sum > columns && t->error >= 0;
}

static bool column_is_empty(const Table *t, size_t column) {
        for (size_t i = column; i < t->cells.n; i += t->headers.n)
                if (!streq(t->cells.items[i], "-"))
                        return false;
        return true;
}

static void remove_column_of(Names *cells, size_t n_columns, size_t column) {
        size_t kept = 0;

        for (size_t i = 0; i < cells->n; i++)
                if (i % n_columns == column)
                        free(cells->items[i]);
                else
                        cells->items[kept++] = cells->items[i];
        cells->n = kept;
}

static void remove_column(Table *t, size_t column) {
        size_t n = t->headers.n;
        unsigned before = t->right & ((1U << column) - 1);

        t->right = before | (t->right >> 1 & ~((1U << column) - 1));
        remove_column_of(&t->cells, n, column);
        remove_column_of(&t->headers, n, column);
}

void table_fit(Table *t, const char *headers) {
        for (int empty = 1; empty >= 0; empty--)
                for (const char *s = headers; *s; s += strcspn(s, ",") + (s[strcspn(s, ",")] == ',')) {
                        size_t column = 0;

                        while (column < t->headers.n &&
                               !(strlen(t->headers.items[column]) == strcspn(s, ",") &&
                                 starts_with(s, t->headers.items[column])))
                                column++;
                        if (column < t->headers.n && table_is_too_wide(t) &&
                            (!empty || column_is_empty(t, column)))
                                remove_column(t, column);
                }
}

int table_print(const Table *t, bool legend) {
        TRY(t->error);
        if (isatty(STDOUT_FILENO))
                return t->cells.n > 0 || legend ? print_columns(t, legend) : 0;
        return print_tabs(t, legend);
}
