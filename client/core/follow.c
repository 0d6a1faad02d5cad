#include "client/core/follow.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/core/client.h"
#include "client/core/subprocess.h"
#include "client/core/wait.h"

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

bool follow_is_same(const char *a, const char *b) {
        _cleanup_names_ Names x = {}, y = {};

        return line_words(a, &x) >= 0 && line_words(b, &y) >= 0 && names_equal(&x, &y);
}

/* -- The wait -- */

enum { LOST_MS = 3000 }; /* without an answer */

static int follow_poll(const Follow *f, const sigset_t *interrupts, Error *err) {
        uint64_t began_ms = clock_monotonic_ms(), answered_ms = began_ms;
        bool lost = false;

        for (;;) {
                int r = f->look(f->userdata, err);
                uint64_t now_ms = clock_monotonic_ms();

                if (r != -EAGAIN && r != -ENODATA)
                        return r;
                if (r == -EAGAIN) {
                        answered_ms = now_ms;
                        lost = false;
                } else if (!lost && now_ms - answered_ms > LOST_MS) {
                        f->lost(f->userdata, error_text(err, r));
                        lost = true;
                } else if (now_ms - answered_ms > f->silent_ms) {
                        f->left(f->userdata, "no state from fleetd: ");
                        return EXIT_CONTINUES;
                }
                if (f->timeout_ms > 0 && now_ms - began_ms >= f->timeout_ms) {
                        f->left(f->userdata, "timed out: ");
                        return EXIT_CONTINUES;
                }
                if (subprocess_wait_signal(interrupts, f->poll_ms) > 0) {
                        f->left(f->userdata, "");
                        return EXIT_CONTINUES;
                }
        }
}

int follow(const Follow *f, Error *err) {
        sigset_t interrupts, before;
        int r;

        wait_ending_signals(&interrupts);
        sigdelset(&interrupts, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &interrupts, &before);
        r = follow_poll(f, &interrupts, err);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}
