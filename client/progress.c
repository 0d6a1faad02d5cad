#include "client/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/output.h"

enum {
        WORD_MAX = 24,
        WORD_WIDTH = 10, /* what most words need */
        NAME_MIN = 20,   /* columns that a name keeps before a note does */
        NOTE_MIN = 8,    /* below this a note is left out */
};

typedef struct Line {
        ProgressMark mark;
        uint64_t begun_ms, ended_ms; /* 0: not yet */
        char word[WORD_MAX];
        Text place, note;
} Line;

struct Progress {
        Names names;
        Line *lines;
        size_t n_written; /* lines above the cursor that are ours */
};

bool progress_is_possible(void) {
        const char *term = getenv("TERM");
        struct winsize window = {};

        return isatty(STDOUT_FILENO) && term && *term && !streq(term, "dumb") &&
               ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) >= 0;
}

Progress *progress_new(const Names *names) {
        _cleanup_live_ Progress *l = NULL;

        if (!progress_is_possible() || names->n == 0)
                return NULL;
        l = NEW0(Progress, 1);
        if (!l)
                return NULL;
        for (size_t i = 0; i < names->n; i++)
                if (names_add(&l->names, names->items[i], strlen(names->items[i])) < 0)
                        return NULL;
        l->lines = NEW0(Line, names->n);
        for (size_t i = 0; l->lines && i < names->n; i++)
                snprintf(l->lines[i].word, WORD_MAX, "waiting");
        return l->lines ? TAKE_PTR(l) : NULL;
}

Progress *progress_free(Progress *l) {
        if (!l)
                return NULL;
        for (size_t i = 0; l->lines && i < l->names.n; i++) {
                text_done(&l->lines[i].place);
                text_done(&l->lines[i].note);
        }
        free(l->lines);
        names_done(&l->names);
        free(l);
        return NULL;
}

static void put(Text *t, const char *s) {
        text_clear(t);
        text_append_printable(t, s);
}

void progress_set(Progress *l, const char *name, ProgressMark mark, const char *place, const char *word,
                  const char *note) {
        for (size_t i = 0; l && i < l->names.n; i++) {
                Line *line = &l->lines[i];

                if (!streq(l->names.items[i], name))
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

static const char *chars(const Text *t) {
        return t->error >= 0 && t->chars ? t->chars : "";
}

/* Appends at most 'width' columns of 's'; a cut is shown by an ellipsis, in a name in the middle: units are
 * told apart by their ends. */
static void append_cut(Text *t, const char *s, size_t width, bool in_middle) {
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

static void append_padding(Text *t, const char *s, size_t width) {
        for (size_t n = output_width(s); n < width; n++)
                text_append_char(t, ' ');
}

/* How wide each part of a line is: of the window first the name gives way, then the note goes. */
typedef struct Widths {
        size_t name, place, word, note;
} Widths;

static Widths widths_of(const Progress *l, size_t columns) {
        Widths w = { .place = 1, .word = WORD_WIDTH };
        size_t others;

        for (size_t i = 0; i < l->names.n; i++) {
                w.name = MAX(w.name, output_width(l->names.items[i]));
                w.place = MAX(w.place, output_width(chars(&l->lines[i].place)));
                w.word = MAX(w.word, output_width(l->lines[i].word));
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
        return !output_has_colours() || mark < PROGRESS_DONE ?
                       "" :
                       output_state_colour(mark == PROGRESS_DONE ? "active" : "failed");
}

static void append_line(Text *t, const char *name, const Line *line, const Widths *w, uint64_t now_ms) {
        const char *place = *chars(&line->place) ? chars(&line->place) : "–", *colour = colour_of(line->mark);
        uint64_t ms = line->begun_ms ? (line->ended_ms ? line->ended_ms : now_ms) - line->begun_ms : 0;
        _cleanup_text_ Text note = {}, cut = {};

        append_cut(&cut, name, w->name, true);
        text_append(t, chars(&cut));
        append_padding(t, chars(&cut), w->name + 2);
        text_clear(&cut);
        append_cut(&cut, place, w->place, false);
        text_append(t, chars(&cut));
        append_padding(t, chars(&cut), w->place + 2);
        text_printf(t, "%s%s%s", colour, line->word, *colour ? COLOUR_OFF : "");

        if (*chars(&line->note))
                text_append(&note, chars(&line->note));
        else if (line->begun_ms)
                text_printf(&note, ms < 60000 ? "%.2f s" : "%.0f s", ms / 1000.0);
        if (note.size > 0 && w->note > 0) {
                append_padding(t, line->word, w->word + 2);
                append_cut(t, chars(&note), w->note, false);
        }
        text_append(t, "\033[K\n");
}

/* Which lines have room: failed ones first, then those under way, those to come, and what is done. */
static size_t choose(const Progress *l, size_t room, bool *shown) {
        static const ProgressMark order[] = { PROGRESS_FAILED, PROGRESS_UNDERWAY, PROGRESS_IDLE,
                                              PROGRESS_DONE };
        size_t n = 0;

        for (size_t k = 0; k < ELEMENTS(order); k++)
                for (size_t i = 0; i < l->names.n && n < room; i++)
                        if (l->lines[i].mark == order[k]) {
                                shown[i] = true;
                                n++;
                        }
        return n;
}

static void append_rest(Text *t, const Progress *l, const bool *shown, size_t columns) {
        static const char *const words[] = { [PROGRESS_IDLE] = "to come",
                                             [PROGRESS_UNDERWAY] = "under way",
                                             [PROGRESS_DONE] = "done",
                                             [PROGRESS_FAILED] = "failed" };
        size_t n[ELEMENTS(words)] = {}, all = 0;
        _cleanup_text_ Text rest = {};

        for (size_t i = 0; i < l->names.n; i++)
                if (!shown[i]) {
                        n[l->lines[i].mark]++;
                        all++;
                }
        text_printf(&rest, "… and %zu more:", all);
        for (size_t i = 0, any = 0; i < ELEMENTS(words); i++)
                if (n[i] > 0)
                        text_printf(&rest, "%s %zu %s", any++ ? "," : "", n[i], words[i]);
        append_cut(t, chars(&rest), columns, false);
        text_append(t, "\033[K\n");
}

void progress_draw(Progress *l) {
        uint64_t now_ms = clock_monotonic_ms();
        struct winsize window = {};
        _cleanup_free_ bool *shown = NULL;
        _cleanup_text_ Text t = {};
        size_t columns, room, n;
        Widths w;

        if (!l)
                return;
        (void) ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
        columns = window.ws_col > 1 ? window.ws_col - 1U : 79;
        room = window.ws_row == 0 ? l->names.n : MAX(window.ws_row, (unsigned short) 4) - 2U;
        shown = NEW0(bool, l->names.n);
        if (!shown)
                return;
        w = widths_of(l, columns);
        n = choose(l, l->names.n > room ? room - 1 : room, shown);

        /* One write, and without wrapping within it: a window that has just become narrower moves nothing. */
        text_append(&t, "\r\033[?7l");
        if (l->n_written > 0)
                text_printf(&t, "\033[%zuA", l->n_written);
        for (size_t i = 0; i < l->names.n; i++)
                if (shown[i])
                        append_line(&t, l->names.items[i], &l->lines[i], &w, now_ms);
        if (n < l->names.n)
                append_rest(&t, l, shown, columns);
        text_append(&t, "\033[J\033[?7h");
        if (t.error < 0)
                return;
        l->n_written = n + (n < l->names.n);
        (void) output_control(t.chars);
}

void progress_break(const Progress *l) {
        if (!l)
                return;
        (void) output_control("\r\033[?7h\033[K"); /* the end of the last drawing may be among what the kernel
                                                      throws away at a Ctrl-C */
}
