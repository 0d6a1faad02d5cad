#include "units/unit_file.h"

void unit_file_done(UnitFile *file) {
        for (size_t i = 0; i < file->n_options; i++)
                free(file->options[i].name);
        for (size_t i = 0; i < file->n_sections; i++)
                free(file->sections[i]);
        free(file->options);
        free(file->sections);
        *file = (UnitFile) {};
}

/* Text without a terminating byte. */
typedef struct Span {
        const char *start, *end;
} Span;

static Span span_of(const char *s) {
        return (Span) { s, s + strlen(s) };
}

/* Begin a section for the following options. */
static int unit_file_begin_section(UnitFile *file, Span section) {
        char *name;

        TRY(GROW(file->sections, file->sections_capacity, file->n_sections + 1));
        name = strndup(section.start, section.end - section.start);
        if (!name)
                return -ENOMEM;
        file->sections[file->n_sections++] = name;
        return 0;
}

static int add(UnitFile *file, Span name, Span value, bool newline, unsigned line) {
        size_t n = name.end - name.start, v = value.end - value.start;
        char *block;

        TRY(GROW(file->options, file->capacity, file->n_options + 1));
        block = malloc(n + v + newline + 2);
        if (!block)
                return -ENOMEM;

        UnitOption o = { .section = file->sections[file->n_sections - 1],
                         .name = block,
                         .value = block + n + 1,
                         .line = line,
                         .section_line = line > 0 ? file->section_line : 0 };

        memcpy(o.name, name.start, n);
        o.name[n] = 0;
        memcpy(o.value, value.start, v);
        if (newline)
                o.value[v++] = '\n';
        o.value[v] = 0;
        file->options[file->n_options++] = o;
        return 0;
}

int unit_file_add(UnitFile *file, const char *section, const char *name, const char *value, unsigned line) {
        if ((file->n_sections == 0 || !streq(file->sections[file->n_sections - 1], section)) &&
            unit_file_begin_section(file, span_of(section)) < 0)
                return -ENOMEM;
        return add(file, span_of(name), span_of(value), false, line);
}

/* Return the size of the white space character at 's', 0 for another one: Unicode's White_Space in UTF-8,
 * which Go's strings.TrimSpace(), and so fleet, trimmed. */
static size_t space_length(const char *s, const char *end) {
        static const char *const wide[] = {
                "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
                "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
                "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
                "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
        };

        if (s >= end)
                return 0;
        if (*s == ' ' || (*s >= '\t' && *s <= '\r'))
                return 1;
        if (!(*s & 0x80))
                return 0;
        for (size_t i = 0; i < ELEMENTS(wide); i++) {
                size_t n = strlen(wide[i]);

                if ((size_t) (end - s) >= n && memcmp(s, wide[i], n) == 0)
                        return n;
        }
        return 0;
}

static Span trimmed(Span s) {
        for (size_t n; (n = space_length(s.start, s.end)) > 0;)
                s.start += n;
        while (s.end > s.start) {
                size_t n = 1;

                while (n <= 3 && n <= (size_t) (s.end - s.start) && space_length(s.end - n, s.end) != n)
                        n++;
                if (n > 3 || n > (size_t) (s.end - s.start))
                        break;
                s.end -= n;
        }
        return s;
}

/* Check the rules for any text, before the grammar. */
static int check_bytes(const char *text, size_t size, size_t line_max, Error *err) {
        size_t column = 0;
        unsigned line = 1;

        if (size > UNIT_SIZE_MAX)
                return error_set(err, -EFBIG, "the file is too large: %zu bytes, at most %d are taken", size,
                                 UNIT_SIZE_MAX);

        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_length(text + i, size - i);
                if (n == 0)
                        return error_set(err, -EBADMSG, "line %u: not UTF-8 text: byte 0x%02x", line,
                                         (unsigned char) text[i]);
                if (text[i] == 0)
                        return error_set(err, -EBADMSG, "line %u: a zero byte", line);

                column = text[i] == '\n' || text[i] == '\r' ? 0 : column + n;
                if (column > line_max)
                        return error_set(err, -EBADMSG, "line %u: line too long (max %zu bytes)", line,
                                         line_max + 1);
                line += text[i] == '\n';
        }
        return 0;
}

typedef struct Scanner {
        const char *at, *end;
        unsigned line; /* of 'at', from 1 */
} Scanner;

static char scanner_next(Scanner *s) {
        s->line += *s->at == '\n';
        return *s->at++;
}

/* Return the rest of the line without its end, and advance to the next line. */
static Span scanner_line(Scanner *s) {
        const char *newline = memchr(s->at, '\n', s->end - s->at);
        Span line = { s->at, newline ? newline : s->end };

        s->at = newline ? newline + 1 : s->end;
        s->line += newline != NULL;
        return line;
}

/* A comment continues in the next line if it ends in a backslash, or in a backslash and a space. */
static void skip_comment(Scanner *s) {
        for (;;) {
                Span line = scanner_line(s);

                if (line.end > line.start && line.end[-1] == ' ')
                        line.end--;
                if (line.end == line.start || line.end[-1] != '\\')
                        return;
        }
}

static int scan_section(Scanner *s, Span *ret, Error *err) {
        const char *bracket = memchr(s->at, ']', s->end - s->at);
        unsigned line = s->line;
        Span name = { s->at, bracket };
        Span rest;

        if (!bracket)
                return error_set(err, -EBADMSG, "line %u: unable to find end of section (missing ])", line);
        while (s->at <= bracket)
                scanner_next(s);

        line = s->line;
        rest = trimmed(scanner_line(s));
        if (rest.start < rest.end)
                return error_set(err, -EBADMSG, "line %u: found garbage after section name [%.*s]: %.*s",
                                 line, (int) MIN(name.end - name.start, 64), name.start,
                                 (int) MIN(rest.end - rest.start, 64), rest.start);
        *ret = name;
        return 0;
}

/* Return a value with its continuation lines, unchanged. A blank line ends the value. A value that was
 * continued into the blank line keeps its newline, so that printing and parsing again keeps its backslash. */
static Span scan_value(Scanner *s, bool *ret_newline) {
        Span value = { s->at, s->at };

        *ret_newline = false;
        while (s->at < s->end) {
                Span line = scanner_line(s), text = trimmed(line);

                if (text.start == text.end)
                        break;
                *ret_newline = false;
                value.end = line.end;
                if (line.end[-1] != '\\')
                        break;
                *ret_newline = line.end < s->end;
        }
        return trimmed(value);
}

static int scan_option(Scanner *s, UnitFile *file, Error *err) {
        unsigned line = s->line;
        Span name = { s->at, s->at }, value;
        bool newline;

        for (;;) {
                if (s->at == s->end)
                        return error_set(err, -EBADMSG,
                                         "line %u: unexpected end of file encountered while parsing option "
                                         "name (missing =)",
                                         line);
                name.end = s->at;
                char c = scanner_next(s);
                if (c == '\n' || c == '\r')
                        return error_set(err, -EBADMSG,
                                         "line %u: unexpected newline encountered while parsing option name "
                                         "(missing =)",
                                         line);
                if (c == '=')
                        break;
        }
        value = scan_value(s, &newline);
        return add(file, trimmed(name), value, newline, line);
}

static int parse_literal(Scanner s, UnitFile *file, Error *err) {
        Span section = {};

        while (s.at < s.end) {
                size_t blank = section.start ? space_length(s.at, s.end) : 0;

                if (blank > 0)
                        for (; blank > 0; blank--)
                                scanner_next(&s);
                else if (*s.at == '[') {
                        file->section_line = s.line;
                        s.at++;
                        TRY(scan_section(&s, &section, err));
                        TRY(unit_file_begin_section(file, section));
                } else if (*s.at == '#' || *s.at == ';')
                        skip_comment(&s);
                else if (section.start) {
                        TRY(scan_option(&s, file, err));
                } else
                        scanner_next(&s); /* before the first section, any text is allowed */
        }
        return 0;
}

static bool ends_in_backslash(Span line) {
        size_t n = 0;

        while (line.end > line.start && line.end[-1] == '\\') {
                line.end--;
                n++;
        }
        return n % 2 == 1;
}

/* Read one logical line: continuation lines are joined by a space, comment lines in between are left out.
 * Return false at the end of the text. */
static bool join_line(Scanner *s, Text *joined, unsigned *ret_line) {
        bool continued = false;

        text_clear(joined);
        while (s->at < s->end) {
                unsigned number = s->line;
                Span line = scanner_line(s);

                if (line.end > line.start && line.end[-1] == '\r')
                        line.end--;
                while (space_length(line.start, line.end) > 0)
                        line.start += space_length(line.start, line.end);
                if (line.start < line.end && (*line.start == '#' || *line.start == ';'))
                        continue;
                if (!continued && line.start == line.end)
                        continue;
                if (!continued)
                        *ret_line = number;
                continued = ends_in_backslash(line);
                text_append_bytes(joined, line.start, line.end - line.start - continued);
                if (!continued)
                        return true;
                text_append_char(joined, ' ');
        }
        return joined->size > 0;
}

static int parse_systemd(Scanner s, UnitFile *file, Error *err) {
        _cleanup_text_ Text joined = {};
        unsigned line = 0;

        while (join_line(&s, &joined, &line)) {
                TRY(joined.error);

                Span whole = trimmed((Span) { joined.chars, joined.chars + joined.size });
                const char *equals = memchr(whole.start, '=', whole.end - whole.start);

                if (whole.start == whole.end)
                        continue;
                if (*whole.start == '[') {
                        if (whole.end[-1] != ']')
                                return error_set(err, -EBADMSG,
                                                 "line %u: unable to find end of section (missing ])", line);
                        TRY(unit_file_begin_section(file, (Span) { whole.start + 1, whole.end - 1 }));
                        continue;
                }
                if (file->n_sections == 0)
                        return error_set(err, -EBADMSG, "line %u: an option before the first [section]",
                                         line);
                if (!equals || equals == whole.start)
                        return error_set(err, -EBADMSG, "line %u: expected Name=value, not '%.*s'", line,
                                         (int) MIN(whole.end - whole.start, 64), whole.start);

                TRY(add(file, trimmed((Span) { whole.start, equals }),
                        trimmed((Span) { equals + 1, whole.end }), false, line));
        }
        return joined.error;
}

int unit_file_parse(const char *text, size_t size, UnitFileGrammar grammar, UnitFile *ret, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        Scanner scanner = { .at = text, .end = text + size, .line = 1 };

        TRY(check_bytes(text, size, grammar == UNIT_FILE_LITERAL ? UNIT_LINE_MAX : UNIT_SIZE_MAX, err));

        TRY(grammar == UNIT_FILE_LITERAL ? parse_literal(scanner, &file, err) :
                                           parse_systemd(scanner, &file, err));

        *ret = TAKE_STRUCT(file);
        return 0;
}

/* The sort key of an option: the place of its section's first option, then its own place. */
typedef struct Placed {
        const UnitOption *option;
        size_t position, group;
} Placed;

/* As strcmp(); most options of a section share the pointer. */
static int compare_sections(const UnitOption *a, const UnitOption *b) {
        return a->section == b->section ? 0 : strcmp(a->section, b->section);
}

static int by_section(const void *a, const void *b) {
        const Placed *x = a, *y = b;
        int c = compare_sections(x->option, y->option);

        return c ? c : (x->position > y->position) - (x->position < y->position);
}

static int by_group(const void *a, const void *b) {
        const Placed *x = a, *y = b;

        return x->group != y->group ? (x->group > y->group) - (x->group < y->group) :
                                      (x->position > y->position) - (x->position < y->position);
}

void unit_file_print(const UnitFile *file, Text *t, bool (*skip)(const char *section)) {
        _cleanup_free_ Placed *placed = NULL;
        const UnitOption *before = NULL;

        if (file->n_options == 0)
                return;
        placed = NEW0(Placed, file->n_options);
        if (!placed) {
                t->error = -ENOMEM;
                return;
        }

        for (size_t i = 0; i < file->n_options; i++)
                placed[i] = (Placed) { .option = &file->options[i], .position = i };
        qsort(placed, file->n_options, sizeof(Placed), by_section);
        for (size_t i = 0; i < file->n_options; i++)
                placed[i].group = i > 0 && compare_sections(placed[i].option, placed[i - 1].option) == 0 ?
                                          placed[i - 1].group :
                                          placed[i].position;
        qsort(placed, file->n_options, sizeof(Placed), by_group);

        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = placed[i].option;

                if (skip && skip(o->section))
                        continue;
                if (!before || compare_sections(before, o) != 0) {
                        text_append(t, before ? "\n[" : "[");
                        text_append(t, o->section);
                        text_append(t, "]\n");
                        before = o;
                }
                text_append(t, o->name);
                text_append_char(t, '=');
                text_append(t, o->value);
                text_append_char(t, '\n');
        }
}

const char *unit_file_get(const UnitFile *file, const char *section, const char *name) {
        for (size_t i = file->n_options; i > 0; i--) {
                const UnitOption *o = &file->options[i - 1];

                if (streq(o->name, name) && streq(o->section, section))
                        return o->value;
        }
        return NULL;
}

bool unit_file_has_section(const UnitFile *file, const char *section) {
        for (size_t i = 0; i < file->n_options; i++)
                if (streq(file->options[i].section, section))
                        return true;
        return false;
}

bool unit_file_section_is_ours(const char *section) {
        return streq(section, "X-Fleet") || streq(section, "X-Fleetd");
}
