/* fleetctl without memory: its output is complete, or it fails with an error message. */

#include "tests/lib/test.h"
#include "base/memory.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fleetctl_cases.h"
#include "tests/lib/size.h"

/* Fail the first allocation of each source line, and every STRIDE-th of the others. CHECK_ALL=yes in the
 * environment fails all, which takes minutes. */
enum { STRIDE_QUICK = 37, STRIDE = 11 };

typedef struct Point {
        unsigned n, count;
} Point;

static void fail_while_it_runs(void *userdata, bool runs) {
        const Point *point = userdata;

        if (runs)
                alloc_fail_span(point->n, point->count);
        else
                alloc_pause(true);
}

static void note_while_it_runs(void *userdata, bool runs) {
        if (runs)
                alloc_note_new();
        else
                alloc_pause(true);
}

/* Return false if the run has fewer allocations. 'first': it is the first allocation of its line; if the exit
 * status changes, the message has to be about memory. */
static bool try(const Case *c, const CaseResult *whole, Point *point, bool first) {
        CaseResult result = case_run(c, fail_while_it_runs, point);
        bool failed = alloc_has_failed(),
             same = result.status == whole->status && streq(result.out.chars ?: "", whole->out.chars ?: ""),
             reported;

        alloc_fail_at(0);
        reported = strstr(result.err.chars ?: "", "memory") ||
                   strstr(result.out.chars ?: "", "memory"); /* a terminal merges both */
        if (!same && !reported &&
            (result.status == 0 || (point->count == 1 && result.err.size == 0 && result.out.size == 0) ||
             (first && result.status != whole->status))) {
                print_error("%sallocation %u%s fails, and it ends with status %d:\n%s%s", c->given, point->n,
                            point->count == 1 ? "" : " and all behind it", result.status,
                            result.out.chars ?: "", result.err.chars ?: "");
                fail();
        }
        case_result_done(&result);
        return failed;
}

static void what_is_printed_is_whole_or_a_failure(void **state) {
        const CaseTitle *title = *state;
        unsigned stride = test_size(STRIDE_QUICK, STRIDE, 1);

        for (size_t i = 0; i < title->n; i++) {
                const Case *c = &title->cases[i];
                CaseResult whole = case_run(c, note_while_it_runs, NULL);
                const unsigned *lines;
                size_t n_lines = alloc_noted(&lines);

                for (size_t k = 0; k < n_lines; k++)
                        (void) try(c, &whole, &(Point) { lines[k], 1 }, true);
                for (unsigned n = 1 + (unsigned) i % stride; try(c, &whole, &(Point) { n, 1 }, false);
                     n += stride)
                        ;
                for (unsigned n = 1; try(c, &whole, &(Point) { n, UINT_MAX }, false); n += 3 * stride)
                        ;
                case_result_done(&whole);
                alloc_pause(false);
        }
}

int main(int argc, char **argv) {
        static const char *const names[] = { "lists", "cluster", "units", "events", "files", "journal",
                                             "log",   "top",     "keys",  "states", "tokens" };
        int n_failed = 0;

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                CaseFile *file = cases_read(names[i]);
                struct CMUnitTest *tests = calloc(file->n, sizeof(*tests));
                size_t n = 0;

                for (size_t k = 0; k < file->n; k++)
                        if (file->titles[k].n > 0 && file->titles[k].cases[0].memory)
                                tests[n++] = (struct CMUnitTest) {
                                        .name = file->titles[k].name,
                                        .test_func = what_is_printed_is_whole_or_a_failure,
                                        .initial_state = &file->titles[k]
                                };
                if (n > 0)
                        n_failed += _cmocka_run_group_tests(names[i], tests, n, NULL, NULL);
                free(tests);
                (void) cases_free(file);
        }
        return n_failed > 0;
}
