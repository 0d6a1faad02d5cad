#include "tests/lib/fleetctl_cases.h"

#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <wchar.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/parse.h"
#include "client/fleetctl.h"
#include "tests/lib/scratch.h"

enum { FILE_MAX = 4 * 1024 * 1024, ENVIRONMENT_MAX = 8, TRANSCRIPT_ROWS = 24 };

/* -- Reading -- */

/* Replace "\n" and other escapes in place. */
static size_t unescape(char *s) {
        static const char letters[] = "n\nt\te\033r\r\\\\";
        char *to = s;
        unsigned byte;

        for (const char *from = s; *from; from++) {
                const char *at = from[0] == '\\' && from[1] ? strchr(letters, from[1]) : NULL;

                if (at && (at - letters) % 2 == 0) {
                        *to++ = at[1];
                        from++;
                } else if (from[0] == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
                        *to++ = (char) byte;
                        from += 3;
                } else
                        *to++ = *from;
        }
        *to = 0;
        return (size_t) (to - s);
}

/* Split a line at spaces; quotes keep a word together. */
static void split(Case *c, char *line) {
        c->argv[c->argc++] = strdup("fleetctl");
        while (*(line += strspn(line, " "))) {
                char end = *line == '\'' ? *line++ : ' ';
                size_t size = end == ' ' ? strcspn(line, " ") : strcspn(line, "'");

                assert(c->argc < CASE_WORDS_MAX);
                c->argv[c->argc] = strndup(line, size);
                (void) unescape(c->argv[c->argc++]);
                line += size + (line[size] == '\'');
        }
}

static void append(char **text, const char *line, size_t size) {
        size_t before = *text ? strlen(*text) : 0;

        *text = realloc(*text, before + size + 2);
        assert(*text);
        memcpy(*text + before, line, size);
        (*text)[before + size] = '\n';
        (*text)[before + size + 1] = 0;
}

static void add_line(CaseFile *file, const char *line, size_t size) {
        CaseTitle *title = file->n > 0 ? &file->titles[file->n - 1] : NULL;
        Case *c = title && title->n > 0 ? &title->cases[title->n - 1] : NULL;

        if (*line == '#') {
                assert(GROW(file->titles, file->capacity, file->n + 1) == 0);
                file->titles[file->n++] = (CaseTitle) { .name = strndup(line + 2, size - 2),
                                                        .shared = strdup("") };
                return;
        }
        assert(title);
        if (*line == '$') {
                _cleanup_free_ char *words = strndup(line + 1, size - 1);

                assert(GROW(title->cases, title->capacity, title->n + 1) == 0);
                title->cases[title->n] = (Case) { .title = title->name,
                                                  .shared = title->shared,
                                                  .given = strdup(""),
                                                  .wanted = strdup("") };
                c = &title->cases[title->n++];
                c->memory = strstr(title->shared, "% memory\n");
                c->transcripts = strstr(title->shared, "% transcripts\n");
                append(&c->given, line, size);
                split(c, words);
        } else if (*line == '%' || *line == '>')
                append(c ? &c->given : &title->shared, line, size);
        else if (size > 0)
                append(&c->wanted, line, size);
}

CaseFile *cases_read(const char *name) {
        const char *srcdir = getenv("srcdir");
        CaseFile *file = calloc(1, sizeof(*file));
        size_t size;

        assert(file && asprintf(&file->path, "%s/tests/client/cases/%s", srcdir ?: ".", name) > 0);
        if (read_file_at(AT_FDCWD, file->path, FILE_MAX, &file->text, &size) < 0) {
                fprintf(stderr, "%s cannot be read\n", file->path);
                abort();
        }
        for (const char *line = file->text, *end; *line; line = end + (*end == '\n')) {
                end = line + strcspn(line, "\n");
                add_line(file, line, (size_t) (end - line));
        }
        return file;
}

CaseFile *cases_free(CaseFile *file) {
        for (size_t i = 0; i < file->n; i++) {
                CaseTitle *title = &file->titles[i];

                for (size_t k = 0; k < title->n; k++) {
                        for (size_t w = 0; w < title->cases[k].argc; w++)
                                free(title->cases[k].argv[w]);
                        free(title->cases[k].given);
                        free(title->cases[k].wanted);
                }
                free(title->name);
                free(title->shared);
                free(title->cases);
        }
        free(file->titles);
        free(file->path);
        free(file->text);
        free(file);
        return NULL;
}

/* -- Settings of a run -- */

typedef struct Setup {
        FakeAnswer answers[CASE_ANSWERS_MAX];
        size_t n_answers;
        char *held[2 * CASE_ANSWERS_MAX + 32], *environment[ENVIRONMENT_MAX],
                *before[ENVIRONMENT_MAX]; /* names, and their values outside of the run */
        size_t n_held, n_environment, input_size;
        const char *input;
        unsigned columns, rows;
        bool terminal, full;
} Setup;

static char *hold(Setup *s, char *text) {
        assert(text && s->n_held < ELEMENTS(s->held));
        return s->held[s->n_held++] = text;
}

/* Return the next word of *at and advance *at. */
static char *word(char **at) {
        char *begin = *at, *end = begin + strcspn(begin, " ");

        *at = *end ? end + 1 : end;
        *end = 0;
        return begin;
}

static void add_answer(Setup *s, char *line) {
        static const struct {
                const char *word;
                CURLcode code;
        } codes[] = {
                { "refused", CURLE_COULDNT_CONNECT },
                { "timeout", CURLE_OPERATION_TIMEDOUT },
                { "gone", CURLE_GOT_NOTHING },
                { "partial", CURLE_PARTIAL_FILE },
                { "large", CURLE_FILESIZE_EXCEEDED },
                { "memory", CURLE_OUT_OF_MEMORY },
                { "interrupted", CURLE_ABORTED_BY_CALLBACK },
                { "other", CURLE_SSL_CONNECT_ERROR },
        };
        FakeAnswer *a = &s->answers[s->n_answers++];
        char *status, *slash, *tilde;

        assert(s->n_answers < CASE_ANSWERS_MAX);
        if (*line == '@')
                a->at_ms = strtoull(word(&line) + 1, NULL, 10);
        a->method = word(&line);
        a->path = word(&line);
        status = word(&line);
        status[strcspn(status, "\n")] = 0;
        tilde = strchr(status, '~');
        if (tilde)
                *tilde++ = 0;
        a->stale = tilde;
        slash = strchr(status, '/');
        a->index = slash ? slash + 1 : NULL;
        a->status = strtol(status, NULL, 10);
        for (size_t i = 0; i < ELEMENTS(codes); i++)
                if (streq(codes[i].word, status)) {
                        a->code = codes[i].code;
                        a->status = streq(status, "partial") ? 200 : 0;
                }
        a->body = line;
}

static void put_file(char *line) {
        char *name = word(&line);
        size_t size = unescape(line);
        int fd;

        for (char *slash = name; (slash = strchr(slash + 1, '/'));) {
                *slash = 0;
                (void) mkdir(name, 0700);
                *slash = '/';
        }
        if (*name && name[strlen(name) - 1] == '/')
                return;
        fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
        assert(fd >= 0 && write(fd, line, size) == (ssize_t) size);
        close(fd);
}

static void add_setting(Setup *s, char *line) {
        char *what = word(&line);

        if (streq(what, "file"))
                put_file(line);
        else if (streq(what, "env")) {
                char *equals = strchr(line, '=');

                assert(equals && s->n_environment < ENVIRONMENT_MAX);
                *equals = 0;
                (void) unescape(equals + 1);
                s->environment[s->n_environment] = line;
                s->before[s->n_environment++] = getenv(line) ? hold(s, strdup(getenv(line))) : NULL;
                (void) setenv(line, equals + 1, 1);
        } else if (streq(what, "stdin")) {
                s->input_size = unescape(line);
                s->input = line;
        } else if (streq(what, "terminal")) {
                assert(sscanf(line, "%ux%u", &s->columns, &s->rows) == 2);
                s->terminal = true;
        } else if (streq(what, "full"))
                s->full = true;
        else if (!streq(what, "memory") && !streq(what, "transcripts"))
                fail_msg("%s: there is no such setting", what);
}

/* Apply the settings among these lines, or the answers. */
static void set_up(Setup *s, const char *lines, char which) {
        for (const char *line = lines, *end; *line; line = end + 1) {
                const char *next;
                char *copy;

                end = strchr(line, '\n');
                if (*line != which || line[1] == '>')
                        continue;
                copy = hold(
                        s, strndup(line + 2, (size_t) (end - line) - MIN((size_t) (end - line), (size_t) 2)));
                if (*line == '%')
                        add_setting(s, copy);
                if (*line != '>')
                        continue;
                for (next = end + 1; next[0] == '>' && next[1] == '>'; next = end + 1) {
                        size_t before = strlen(copy);

                        end = strchr(next, '\n');
                        s->held[s->n_held - 1] = copy = realloc(copy, before + (size_t) (end - next) + 1);
                        copy[before] = '\n';
                        memcpy(copy + before + 1, next + 3, (size_t) (end - next) - 3);
                        copy[before + (size_t) (end - next) - 2] = 0;
                }
                if (!strstr(copy, " /fleet/v1/kv/value/")) { /* all bodies except values end with a newline */
                        s->held[s->n_held - 1] = copy = realloc(copy, strlen(copy) + 2);
                        strcat(copy, "\n");
                }
                add_answer(s, copy);
        }
}

/* -- Streams -- */

/* Ends the output on a terminal: fleetctl never prints this byte. The reader does not wait for the end of
 * file, because Linux may report it before the last bytes (n_tty_read()). */
enum { TERMINAL_END = 0xff };

typedef struct Streams {
        int saved[3], own[3], master;
        FILE *out, *err;
        pthread_t reader;
        FILE *printed; /* on the terminal */
} Streams;

static void *read_terminal(void *userdata) {
        Streams *s = userdata;
        unsigned char buffer[4096];
        bool ended = false;
        ssize_t n;

        while (!ended && (n = read(s->master, buffer, sizeof(buffer))) > 0) {
                ended = buffer[n - 1] == TERMINAL_END;
                n -= ended;
                assert(fwrite(buffer, 1, (size_t) n, s->printed) == (size_t) n);
        }
        return NULL;
}

static void open_terminal(Streams *s, const Setup *setup) {
        struct winsize size = { .ws_row = (unsigned short) setup->rows,
                                .ws_col = (unsigned short) setup->columns };
        sigset_t all, before;
        struct termios t;
        int fd;

        assert(openpty(&s->master, &fd, NULL, NULL, &size) == 0);
        assert(tcgetattr(fd, &t) == 0);
        t.c_oflag &= ~(tcflag_t) OPOST;
        t.c_lflag &= ~(tcflag_t) ECHO;
        assert(tcsetattr(fd, TCSANOW, &t) == 0);
        assert(write(s->master, setup->input ?: "", setup->input_size) == (ssize_t) setup->input_size);
        for (int i = 0; i < 3; i++)
                s->own[i] = i == 0 ? fd : dup(fd);
        sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before); /* fleetctl receives SIGCHLD */
        assert(pthread_create(&s->reader, NULL, read_terminal, s) == 0);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void streams_begin(Streams *s, const Setup *setup, FILE *printed) {
        *s = (Streams) { .master = -1, .out = stdout, .err = stderr, .printed = printed };
        (void) fflush(NULL);
        if (setup->terminal)
                open_terminal(s, setup);
        else {
                for (int i = 0; i < 3; i++)
                        s->own[i] = i == 1 && setup->full ? open("/dev/full", O_WRONLY | O_CLOEXEC) :
                                                            memfd_create("stream", MFD_CLOEXEC);
                assert(write(s->own[0], setup->input ?: "", setup->input_size) ==
                               (ssize_t) setup->input_size &&
                       lseek(s->own[0], 0, SEEK_SET) == 0);
        }
        for (int i = 0; i < 3; i++) {
                s->saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
                assert(dup2(s->own[i], i) == i);
        }
}

static void take(int fd, Text *t) {
        char buffer[4096];
        ssize_t n;

        for (off_t at = 0; (n = pread(fd, buffer, sizeof(buffer), at)) > 0; at += n)
                text_append_bytes(t, buffer, (size_t) n);
}

static void streams_end(Streams *s, CaseResult *result) {
        FILE *own_out = stdout, *own_err = stderr;

        (void) fflush(stdout);
        clearerr(s->out);
        stdout = s->out;
        stderr = s->err;
        for (int i = 0; i < 3; i++) {
                assert(dup2(s->saved[i], i) == i);
                close(s->saved[i]);
        }
        if (own_out != s->out) /* of a terminal */
                (void) fclose(own_out);
        if (own_err != s->err)
                (void) fclose(own_err);
        if (s->master < 0) {
                take(s->own[1], &result->out);
                take(s->own[2], &result->err);
        } else {
                assert(write(s->own[1], (const unsigned char[]) { TERMINAL_END }, 1) == 1);
                (void) pthread_join(s->reader, NULL); /* before the end of file, which may lose bytes */
                close(s->master);
        }
        for (int i = 0; i < 3; i++)
                close(s->own[i]);
}

/* -- Running -- */

void case_result_done(CaseResult *result) {
        text_done(&result->out);
        text_done(&result->err);
        text_done(&result->sent);
}

CaseResult case_run(const Case *c, void (*between)(void *userdata, bool runs), void *userdata) {
        static const char *const unset[] = { "EDITOR",      "SYSTEMD_EDITOR",
                                             "VISUAL",      "NO_COLOR",
                                             "COLUMNS",     "FLEETCTL_ASKPASS",
                                             "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE" };
        _cleanup_free_ char *scratch = scratch_new(), *before = getcwd(NULL, 0);
        char *words[CASE_WORDS_MAX + 1], *argv[CASE_WORDS_MAX + 1] = {};
        char *sent = NULL, *printed = NULL;
        size_t sent_size = 0, printed_size = 0;
        FILE *old_stdin = stdin, *sent_to = open_memstream(&sent, &sent_size),
             *printed_to = open_memstream(&printed, &printed_size); /* not from failing allocations */
        CaseResult result = {};
        Setup setup = {};
        Streams streams;

        for (size_t i = 0; i < ELEMENTS(unset); i++)
                (void) unsetenv(unset[i]);
        (void) setenv("TERM", "xterm", 1);
        (void) setenv("TZ", "UTC", 1);
        (void) setenv("LC_ALL", "C.UTF-8", 1);
        (void) setenv("FLEETCTL_ENDPOINT", "unix:///none/fleet.sock", 1);
        assert(before && chdir(scratch) == 0);
        set_up(&setup, c->shared, '%');
        set_up(&setup, c->given, '%');
        if (c->columns > 0) {
                setup.terminal = true;
                setup.columns = c->columns;
                setup.rows = TRANSCRIPT_ROWS;
        }
        if (c->plain)
                (void) setenv("NO_COLOR", "1", 1);
        tzset(); /* localtime_r() reads TZ only once */
        set_up(&setup, c->given, '>');
        set_up(&setup, c->shared, '>');
        for (size_t i = 0; i < c->argc; i++)
                argv[i] = words[i] = strdup(c->argv[i]);
        fake_curl_begin(setup.answers, setup.n_answers, sent_to);

        streams_begin(&streams, &setup, printed_to);
        stdin = fdopen(0, "r");
        assert(stdin);
        if (between)
                between(userdata, true);
        result.status = fleetctl_main((int) c->argc, argv);
        if (between)
                between(userdata, false);
        (void) fclose(stdin); /* closes 0, which the next line opens again */
        stdin = old_stdin;
        streams_end(&streams, &result);
        assert(fclose(sent_to) == 0 && fclose(printed_to) == 0);
        text_append_bytes(&result.sent, sent, sent_size);
        text_append_bytes(&result.out, printed, printed_size);
        free(sent);
        free(printed);

        for (size_t i = 0; i < c->argc; i++)
                free(words[i]);
        for (size_t i = setup.n_environment; i-- > 0;)
                (void) (setup.before[i] ? setenv(setup.environment[i], setup.before[i], 1) :
                                          unsetenv(setup.environment[i]));
        for (size_t i = 0; i < setup.n_held; i++)
                free(setup.held[i]);
        assert(chdir(before) == 0);
        (void) scratch_free(TAKE_PTR(scratch));
        return result;
}

/* -- Printing -- */

/* Return the columns of a character on a terminal. */
static unsigned character_width(const char *s, size_t size) {
        wchar_t c;

        return mbtowc(&c, s, size) > 0 ? (unsigned) MAX(wcwidth(c), 0) : 1;
}

/* Print a line. A terminal of 'columns' continues it in further rows; 0: it does not. */
static void print_line(Text *t, char mark, const char *line, size_t size, size_t columns) {
        static const char escaped[] = "\t\033\r\\", letters[] = "ter\\";
        bool in_sequence = false;
        size_t width, column = 0;

        text_printf(t, "%c ", mark);
        for (size_t at = 0, n; at < size; at += n) {
                unsigned char b = (unsigned char) line[at];
                const char *escape = b ? strchr(escaped, b) : NULL;

                n = MAX(utf8_length(line + at, size - at), (size_t) 1);
                in_sequence = in_sequence || b == '\033';
                width = in_sequence || b == '\r' ? 0 : character_width(line + at, n);
                if (b == '\t')
                        width = 8 - column % 8;
                in_sequence = in_sequence && !((b | 0x20) >= 'a' && (b | 0x20) <= 'z');
                if (columns > 0 && column + width > columns) {
                        text_append(t, "\n/ ");
                        column = 0;
                }
                column = b == '\r' ? 0 : column + width;
                if (n > 1)
                        text_append_bytes(t, line + at, n);
                else if (b >= ' ' && b != '\\' && b < 0x7f)
                        text_append_char(t, (char) b);
                else if (escape)
                        text_printf(t, "\\%c", letters[escape - escaped]);
                else
                        text_printf(t, "\\x%02x", b);
        }
}

static void print_lines(Text *t, char mark, const Text *lines, size_t columns) {
        for (size_t at = 0, end; at < lines->size; at = end + 1) {
                for (end = at; end < lines->size && lines->chars[end] != '\n';)
                        end++;
                print_line(t, mark, lines->chars + at, end - at, columns);
                text_append(t, end < lines->size ? "\n" : "\\c\n");
        }
}

/* Replace the names of temporary folders in the output. */
static void name_folders(Text *t) {
        static const char mark[] = "/fleetctl-";
        char *at = t->chars;

        while (at && (at = strstr(at, mark))) {
                char *begin = at;

                at += strlen(mark);
                while (begin > t->chars && !strchr(" \n(", begin[-1]))
                        begin--;
                if ((*begin != '/' && *begin != '.') || strlen(at) < 6)
                        continue;
                memset(at, 'X', 6);
        }
}

/* Replace what is between 'before' and 'after', at their first occurrence. */
static void name_part(Text *t, const char *before, const char *part, const char *after, const char *name) {
        char mark[64], *at;
        Text whole = {};

        snprintf(mark, sizeof(mark), "%s%s%s", before, part, after);
        at = t->chars ? strstr(t->chars, mark) : NULL;
        if (!at)
                return;
        at += strlen(before);
        text_append_bytes(&whole, t->chars, (size_t) (at - t->chars));
        text_append(&whole, name);
        text_append(&whole, at + strlen(part));
        text_done(t);
        *t = whole;
}

/* Replace the holder of a lock, "host PID". */
static void name_holder(Text *t) {
        char pid[24];

        snprintf(pid, sizeof(pid), "%ld", (long) getpid());
        name_part(t, "%20", pid, "&ttl=", "PID");
}

/* Replace the version by VERSION: a release must not change the files. */
static void name_version(Text *t) {
        name_part(t, "fleetctl version ", PACKAGE_VERSION, "\n", "VERSION");
        name_part(t, "VERSION:\n\t", PACKAGE_VERSION, "\n", "VERSION");
}

char *case_print(CaseResult *result) {
        Text t = {};

        name_holder(&result->sent);
        print_lines(&t, '<', &result->sent, 0);
        name_folders(&result->out);
        name_folders(&result->err);
        name_version(&result->out);
        print_lines(&t, '|', &result->out, 0);
        print_lines(&t, '!', &result->err, 0);
        text_printf(&t, "= %d\n", result->status);
        return text_take(&t, NULL);
}

/* -- Transcripts -- */

/* Keep only the last drawing of the progress lines. */
static void drop_drawings(Text *t) {
        static const char begin[] = "\r\033[?7l";
        char *first = t->chars ? strstr(t->chars, begin) : NULL, *last = first;

        for (char *next = first; next; next = strstr(next + 1, begin))
                last = next;
        if (!first)
                return;
        memmove(first, last, strlen(last) + 1);
        t->size -= (size_t) (last - first);
}

static char *case_screen(Case *c, unsigned columns, bool plain) {
        CaseResult result;
        Text t = {};

        c->columns = columns;
        c->plain = plain;
        result = case_run(c, NULL, NULL);
        name_folders(&result.out);
        name_version(&result.out);
        drop_drawings(&result.out);
        print_lines(&t, '|', &result.out, columns);
        text_printf(&t, "= %d\n", result.status);
        case_result_done(&result);
        return text_take(&t, NULL);
}

/* Append the lines that differ from those at the same places of 'plain'. */
static void append_coloured(Text *t, const char *coloured, const char *plain) {
        while (*coloured) {
                size_t size = strcspn(coloured, "\n"), plain_size = strcspn(plain, "\n");

                if (size != plain_size || memcmp(coloured, plain, size) != 0)
                        text_printf(t, "~%.*s\n", (int) size - 1, coloured + 1);
                coloured += size + 1;
                plain += plain_size + (plain[plain_size] == '\n');
        }
        assert(!*plain); /* colours change no line, and no exit status */
}

char *case_transcripts(Case *c) {
        static const unsigned widths[] = { 40, 80, 220 };
        Text t = {}, before = {};

        for (size_t i = 0; i < ELEMENTS(widths); i++) {
                _cleanup_free_ char *plain = case_screen(c, widths[i], true),
                                    *coloured = case_screen(c, widths[i], false);
                Text now = {};

                text_append(&now, plain);
                append_coloured(&now, coloured, plain);
                if (i > 0 && streq(now.chars, before.chars))
                        text_printf(&t, ", %u", widths[i]);
                else
                        text_printf(&t, "%s%s@ %u", i > 0 ? "\n" : "", before.chars ?: "", widths[i]);
                text_done(&before);
                before = now;
        }
        text_printf(&t, "\n%s", before.chars);
        text_done(&before);
        return text_take(&t, NULL);
}
