#include "client/core/operation.h"

#include "base/clock.h"
#include "client/core/subprocess.h"

/* -- Lines that are printed again only for news -- */

static const char punctuation[] = ",;:()";

static bool is_unit_of_time(const char *word, size_t size) {
        static const char *const units[] = { "s", "min", "h", "d" };

        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (size == strlen(units[i]) && strncmp(word, units[i], size) == 0)
                        return true;
        return false;
}

/* Set the words of a line in the order of their bytes, without punctuation, and without the numbers of times
 * ("30 s"). 0 or -ENOMEM. */
static int line_words(const char *line, Names *ret) {
        const char *number = NULL; /* the word before */
        size_t number_size = 0;

        for (const char *s = line; *s;) {
                size_t n = strcspn(s, " "), begin = strspn(s, punctuation), size = n;

                while (size > begin && strchr(punctuation, s[size - 1]))
                        size--;
                if (number && !is_unit_of_time(s, size) && names_add(ret, number, number_size) < 0)
                        return -ENOMEM;
                number = NULL;
                if (size > begin && strspn(s, "0123456789") == size) {
                        number = s;
                        number_size = size;
                } else if (size > begin && names_add(ret, s + begin, size - begin) < 0)
                        return -ENOMEM;
                s += n + strspn(s + n, " ");
        }
        if (number && names_add(ret, number, number_size) < 0)
                return -ENOMEM;
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(*ret->items), text_compare);
        return 0;
}

/* Return whether the second line is no news. */
static bool operation_line_is_same(const char *a, const char *b) {
        _cleanup_names_ Names x = {}, y = {};

        return line_words(a, &x) >= 0 && line_words(b, &y) >= 0 && names_equal(&x, &y);
}

int operation_item(Operation *o, const char *name, size_t *ret) {
        size_t n = o->items.n;

        for (*ret = 0; *ret < n; (*ret)++)
                if (streq(o->items.items[*ret], name))
                        return 0;
        if (GROW(o->lines, o->capacity, n + 1) < 0 || names_add(&o->items, name, strlen(name)) < 0)
                return -ENOMEM;
        o->lines[n] = NULL;
        return 0;
}

int operation_has_news(Operation *o, const char *name, const Text *line) {
        size_t i;

        if (line->error < 0 || operation_item(o, name, &i) < 0)
                return -ENOMEM;
        if (o->lines[i] && operation_line_is_same(o->lines[i], line->chars))
                return 0;
        free(o->lines[i]);
        o->lines[i] = strdup(line->chars);
        return o->lines[i] ? 1 : -ENOMEM;
}

int operation_show(Operation *o, const char *name, ProgressMark mark, const char *place, const char *word,
                   const char *note) {
        bool prints = mark != PROGRESS_IDLE && !client_prints_json(o->client);
        _cleanup_text_ Text t = {};
        int r;

        text_printable(&t, "%s%s%s %s", name, *place ? " → " : "", place, word);
        if (*note)
                text_printable(&t, "%s%s", mark == PROGRESS_DONE ? " " : ": ", note);
        r = TRY(operation_has_news(o, name, &t));
        if (o->waits && !o->progress && !client_prints_json(o->client))
                o->progress = progress_new(&o->items);
        progress_set(o->progress, name, mark, place, word, note);
        if (r > 0 && prints && !o->progress) {
                puts(t.chars);
                (void) fflush(stdout);
        }
        return 0;
}

void operation_draw(const Operation *o) {
        progress_draw(o->progress);
}

void operation_append_elapsed(const Operation *o, Text *t) {
        uint64_t ms = clock_monotonic_ms() - o->began_ms;

        text_printf(t, "%llu.%llu s", (unsigned long long) ms / 1000, (unsigned long long) ms / 100 % 10);
}

Operation operation_begin(Client *c) {
        return (Operation) { .client = c, .began_ms = clock_monotonic_ms(), .limit_ms = client_limit_ms(c) };
}

void operation_done(Operation *o) {
        progress_free(o->progress);
        for (size_t i = 0; i < o->items.n; i++)
                free(o->lines[i]);
        free(o->lines);
        names_done(&o->items);
        stream_free(o->events);
}

/* -- The wait -- */

enum {
        OPERATION_POLL_MS = 300,
        LOST_MS = 3000, /* without an answer */
        TICK_MS = 200,  /* the longest pause before a time: signals and progress lines do not wait for it */
};

const char *operation_end(OperationEnd end) {
        static const char *const words[] = { "", "timed out: ", "no state from fleetd: " };

        return words[end];
}

static int operation_leave(const Operation *o, const OperationType *type, void *userdata, OperationEnd end) {
        progress_break(o->progress);
        type->left(userdata, end);
        return EXIT_CONTINUES;
}

/* Subscribe to the events of the cluster. What they report next is confirmed by the first one: it is time to
 * look again. */
static int operation_subscribe(Operation *o, const OperationType *type, void *userdata, Error *err) {
        uint64_t limit_ms = o->client->options.request_timeout_ms ?: (uint64_t) ATTEMPT_MS;
        int r;

        r = stream_new(o->client->connection, "GET", "/fleet/v1/events", type->on_event, userdata, &o->events,
                       err);
        if (r >= 0 && stream_wait(o->events, limit_ms, NULL) <= 0)
                o->events = stream_free(o->events);
        return r;
}

/* Wait for an event or the next look. Return the signal that ends the wait, or 0. */
static int operation_pause(Operation *o, const sigset_t *interrupts) {
        uint64_t now_ms = clock_monotonic_ms(), pause_ms = OPERATION_POLL_MS;

        if (o->next_ms > 0)
                pause_ms = MIN(MAX(o->next_ms, now_ms + 1) - now_ms, (uint64_t) TICK_MS);
        if (!o->events)
                return subprocess_wait_signal(interrupts, pause_ms);
        if (stream_wait(o->events, pause_ms, NULL) < 0)
                o->events = stream_free(o->events);
        return subprocess_wait_signal(interrupts, 0);
}

static int operation_poll(Operation *o, const OperationType *type, void *userdata, const sigset_t *interrupts,
                          Error *err) {
        uint64_t began_ms = clock_monotonic_ms(), answered_ms = began_ms;
        bool lost = false, subscribes = type->on_event;

        for (;;) {
                int r = type->look(userdata, err), signal;
                uint64_t now_ms = clock_monotonic_ms();

                if (r != -EAGAIN && r != -ENODATA)
                        return r;
                if (subscribes) {
                        subscribes = false;
                        r = TRY(operation_subscribe(o, type, userdata, err));
                        continue;
                }
                if (r == -EAGAIN) {
                        answered_ms = now_ms;
                        lost = false;
                } else if (!lost && now_ms - answered_ms > LOST_MS) {
                        progress_break(o->progress);
                        if (type->lost)
                                type->lost(userdata, error_text(err, r));
                        lost = true;
                } else if (now_ms - answered_ms > type->silent_ms)
                        return operation_leave(o, type, userdata, OPERATION_SILENT);
                if (o->limit_ms > 0 && now_ms - began_ms >= o->limit_ms)
                        return operation_leave(o, type, userdata, OPERATION_TIMED_OUT);
                signal = operation_pause(o, interrupts);
                if (signal > 0 && type->left)
                        return operation_leave(o, type, userdata, OPERATION_INTERRUPTED);
                if (signal > 0) {
                        o->client->signal = signal;
                        return -EINTR;
                }
        }
}

int operation_wait(Operation *o, const OperationType *type, void *userdata, Error *err) {
        sigset_t interrupts, before;
        int r;

        subprocess_ending_signals(&interrupts);
        if (type->left)
                sigdelset(&interrupts, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &interrupts, &before);
        o->waits = true;
        r = operation_poll(o, type, userdata, &interrupts, err);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}
