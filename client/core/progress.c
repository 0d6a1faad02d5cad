#include "client/core/progress.h"

#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/core/output.h"

enum {
        WORD_MAX = 24,
        WORD_WIDTH = 10, /* enough for most states */
        NAME_MIN = 20,   /* columns; names are cut to this width before notes are left out */
        NOTE_MIN = 8,    /* below this a note is left out */
};

typedef struct ProgressLine {
        ProgressMark mark;
        uint64_t begun_ms, ended_ms; /* 0: not yet */
        char word[WORD_MAX];
        Text place, note;
} ProgressLine;

struct Progress {
        const Names *names;  /* borrowed */
        ProgressLine *lines; /* of the first names: the caller may add others */
        size_t n_lines, capacity;
        size_t n_written; /* lines above the cursor */
};

bool progress_is_possible(void) {
        const char *term = getenv("TERM");
        struct winsize window = {};

        return isatty(STDOUT_FILENO) && term && *term && !streq(term, "dumb") &&
               ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) >= 0;
}

/* Without memory, the names that were added have no lines. */
static void add_lines(Progress *p) {
        if (GROW(p->lines, p->capacity, p->names->n) < 0)
                return;
        for (; p->n_lines < p->names->n; p->n_lines++) {
                p->lines[p->n_lines] = (ProgressLine) {};
                snprintf(p->lines[p->n_lines].word, WORD_MAX, "waiting");
        }
}

Progress *progress_new(const Names *names) {
        _cleanup_progress_ Progress *p = progress_is_possible() ? NEW0(Progress, 1) : NULL;

        if (!p)
                return NULL;
        p->names = names;
        add_lines(p);
        return p->n_lines == names->n ? TAKE_PTR(p) : NULL;
}

Progress *progress_free(Progress *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_lines; i++) {
                text_done(&p->lines[i].place);
                text_done(&p->lines[i].note);
        }
        free(p->lines);
        free(p);
        return NULL;
}

static void put(Text *t, const char *s) {
        text_clear(t);
        text_append_printable(t, s);
}

void progress_set(Progress *p, const char *name, ProgressMark mark, const char *place, const char *word,
                  const char *note) {
        if (p)
                add_lines(p);
        for (size_t i = 0; p && i < p->n_lines; i++) {
                ProgressLine *line = &p->lines[i];

                if (!streq(p->names->items[i], name))
                        continue;
                if (line->begun_ms == 0)
                        line->begun_ms = clock_monotonic_ms();
                if (mark < PROGRESS_DONE)
                        line->ended_ms = 0;
                else if (line->mark < PROGRESS_DONE)
                        line->ended_ms = clock_monotonic_ms();
                line->mark = mark;
                snprintf(line->word, sizeof(line->word), "%s", word);
                put(&line->place, place);
                put(&line->note, note);
                return;
        }
}

/* Append a cell, then spaces up to the next column. */
static void append_cell(Text *t, const char *s, size_t width, bool in_middle) {
        output_cut(t, s, width, in_middle);
        text_printf(t, "%*s", (int) (width + 2 - MIN(output_width(s), width)), "");
}

/* Columns of each part of a line. In a narrow window the name is cut first, then the note is left out. */
typedef struct ProgressWidths {
        size_t name, place, word, note;
} ProgressWidths;

static size_t columns_of(const struct winsize *window) {
        return window->ws_col > 1 ? window->ws_col - 1U : 79;
}

static ProgressWidths widths_of(const Progress *p, size_t columns) {
        ProgressWidths w = { .place = 1, .word = WORD_WIDTH };
        size_t others;

        for (size_t i = 0; i < p->n_lines; i++) {
                w.name = MAX(w.name, output_width(p->names->items[i]));
                w.place = MAX(w.place, output_width(text_chars(&p->lines[i].place)));
                w.word = MAX(w.word, output_width(p->lines[i].word));
        }
        w.place = MIN(w.place, columns / 3);
        others = 2 + w.place + 2 + w.word;
        if (w.name + others + 2 + NOTE_MIN <= columns)
                w.note = columns - w.name - others - 2;
        else if (NAME_MIN + others + 2 + NOTE_MIN <= columns) {
                w.note = NOTE_MIN;
                w.name = columns - others - 2 - NOTE_MIN;
        } else
                w.name = MIN(w.name, columns > others + 1 ? columns - others : 1);
        return w;
}

static const char *colour_of(ProgressMark mark) {
        if (!output_has_colours() || mark < PROGRESS_DONE)
                return "";
        return output_state_colour(mark == PROGRESS_DONE ? "active" : "failed");
}

static void append_line(Text *t, const char *name, const ProgressLine *line, const ProgressWidths *w,
                        uint64_t now_ms) {
        const char *place = *text_chars(&line->place) ? text_chars(&line->place) : "–",
                   *colour = colour_of(line->mark);
        uint64_t ms = line->begun_ms ? (line->ended_ms ?: now_ms) - line->begun_ms : 0;
        _cleanup_text_ Text note = {};

        append_cell(t, name, w->name, true);
        append_cell(t, place, w->place, false);
        text_printf(t, "%s%s%s", colour, line->word, *colour ? COLOUR_OFF : "");

        if (*text_chars(&line->note))
                text_append(&note, text_chars(&line->note));
        else if (line->begun_ms)
                text_printf(&note, ms < 60000 ? "%.2f s" : "%.0f s", ms / 1000.0);
        if (note.size > 0 && w->note > 0) {
                text_printf(t, "%*s", (int) (w->word + 2 - output_width(line->word)), "");
                output_cut(t, text_chars(&note), w->note, false);
        }
        text_append(t, "\033[K\n");
}

/* Select the lines that fit: failed ones first, then pending, waiting and finished ones. */
static size_t choose_lines(const Progress *p, size_t room, bool *selected) {
        static const ProgressMark order[] = { PROGRESS_FAILED, PROGRESS_UNDERWAY, PROGRESS_IDLE,
                                              PROGRESS_DONE };
        size_t n = 0;

        for (size_t k = 0; k < ELEMENTS(order); k++)
                for (size_t i = 0; i < p->n_lines && n < room; i++)
                        if (p->lines[i].mark == order[k]) {
                                selected[i] = true;
                                n++;
                        }
        return n;
}

static void append_rest(Text *t, const Progress *p, const bool *selected, size_t columns) {
        static const char *const words[] = { [PROGRESS_IDLE] = "waiting",
                                             [PROGRESS_UNDERWAY] = "in progress",
                                             [PROGRESS_DONE] = "done",
                                             [PROGRESS_FAILED] = "failed" };
        size_t n[ELEMENTS(words)] = {}, all = 0;
        _cleanup_text_ Text rest = {};

        for (size_t i = 0; i < p->n_lines; i++)
                if (!selected[i]) {
                        n[p->lines[i].mark]++;
                        all++;
                }
        text_printf(&rest, "… and %zu more:", all);
        for (size_t i = 0, any = 0; i < ELEMENTS(words); i++)
                if (n[i] > 0)
                        text_printf(&rest, "%s %zu %s", any++ ? "," : "", n[i], words[i]);
        output_cut(t, text_chars(&rest), columns, false);
        text_append(t, "\033[K\n");
}

bool progress_is_cut(const Progress *p) {
        struct winsize window = {};
        ProgressWidths w;

        (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
        w = widths_of(p, columns_of(&window));
        for (size_t i = 0; i < p->n_lines; i++)
                if (output_width(text_chars(&p->lines[i].note)) > w.note)
                        return true;
        return false;
}

void progress_draw(Progress *p) {
        uint64_t now_ms = clock_monotonic_ms();
        struct winsize window = {};
        _cleanup_free_ bool *selected = NULL;
        _cleanup_text_ Text t = {};
        size_t columns, room, n;
        ProgressWidths w;

        if (!p)
                return;
        add_lines(p);
        if (p->n_lines == 0)
                return;
        (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
        columns = columns_of(&window);
        room = window.ws_row == 0 ? p->n_lines : MAX(window.ws_row, (unsigned short) 4) - 2U;
        selected = NEW0(bool, p->n_lines);
        if (!selected)
                return;
        w = widths_of(p, columns);
        n = choose_lines(p, p->n_lines > room ? room - 1 : room, selected);

        /* One write, with line wrapping off: a window that was made narrower must not shift the lines. */
        text_append(&t, "\r\033[?7l");
        if (p->n_written > 0)
                text_printf(&t, "\033[%zuA", p->n_written);
        for (size_t i = 0; i < p->n_lines; i++)
                if (selected[i])
                        append_line(&t, p->names->items[i], &p->lines[i], &w, now_ms);
        if (n < p->n_lines)
                append_rest(&t, p, selected, columns);
        text_append(&t, "\033[J\033[?7h");
        if (t.error < 0)
                return;
        p->n_written = n + (n < p->n_lines);
        (void) output_control(t.chars);
}

void progress_break(const Progress *p) {
        if (!p)
                return;
        /* The kernel discards pending output at Ctrl-C, so the end of the last drawing may be missing. */
        (void) output_control("\r\033[?7h\033[K");
}
