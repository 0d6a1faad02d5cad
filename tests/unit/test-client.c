/* fleetctl with recorded answers of a daemon: its requests, its output and its exit status
 * (tests/lib/fleetctl_cases.h). An argument selects titles; with CASES_WRITE=yes in the environment, the
 * results are written into the files. */
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/memory.h"
#include "tests/lib/fleetctl_cases.h"

static char *print_run(const Case *c) {
        CaseResult result = case_run(c, NULL, NULL);
        char *got = case_print(&result);

        case_result_done(&result);
        return got;
}

static void all_runs_are_as_written(void **state) {
        const CaseTitle *title = *state;
        unsigned n_wrong = 0;

        for (size_t i = 0; i < title->n; i++) {
                Case *c = &title->cases[i];
                char *got = c->transcripts ? case_transcripts(c) : print_run(c);

                assert_non_null(got);
                if (!streq(got, c->wanted)) {
                        if (!getenv("CASES_WRITE"))
                                print_error("%s%s-- and not --\n%s\n", c->given, got, c->wanted);
                        free(c->wanted);
                        c->wanted = TAKE_PTR(got);
                        n_wrong++;
                }
                free(got);
        }
        if (n_wrong > 0 && !getenv("CASES_WRITE"))
                fail_msg("%u of %zu runs differ", n_wrong, title->n);
}

/* -- Each verb has a transcript -- */

static bool case_is_of(const Case *c, const char *verb) {
        size_t size = strcspn(verb, " ");

        if (c->argc < 2 || strlen(c->argv[1]) != size || strncmp(c->argv[1], verb, size) != 0)
                return false;
        return !verb[size] || (c->argc > 2 && streq(c->argv[2], verb + size + 1));
}

static bool verb_has_transcript(const CaseFile *file, const char *verb) {
        for (size_t i = 0; i < file->n; i++)
                for (size_t k = 0; k < file->titles[i].n; k++)
                        if (file->titles[i].cases[k].transcripts &&
                            case_is_of(&file->titles[i].cases[k], verb))
                                return true;
        return false;
}

static void each_verb_is_seen_on_terminals_of_three_widths(void **state) {
        static const char *const exempt[] = {
                "kv exec-watch", /* its output is that of the program that it runs, as is that of */
                "kv lock", "web", "kv txn", /* it prints JSON only */
        };
        const CaseFile *file = *state;
        char nothing[] = "", fleetctl[] = "fleetctl", verb_help[] = "help", verbs[] = "--verbs";
        Case help = {
                .argv = { fleetctl, verb_help, verbs }, .argc = 3, .given = nothing, .shared = nothing
        };
        CaseResult result = case_run(&help, NULL, NULL);
        unsigned n_missing = 0;

        assert_int_equal(result.status, 0);
        for (char *verb = strtok(result.out.chars, "\n"); verb; verb = strtok(NULL, "\n")) {
                bool excused = false;

                for (size_t i = 0; i < ELEMENTS(exempt); i++)
                        excused |= streq(verb, exempt[i]);
                if (verb_has_transcript(file, verb) != excused)
                        continue;
                print_error(excused ? "%s has a session in transcripts, and needs no exemption\n" :
                                      "%s has no session in transcripts\n",
                            verb);
                n_missing++;
        }
        case_result_done(&result);
        assert_int_equal(n_missing, 0);
}

static int test_transcripts(CaseFile *file) {
        const struct CMUnitTest test = { .name = "each_verb_is_seen_on_terminals_of_three_widths",
                                         .test_func = each_verb_is_seen_on_terminals_of_three_widths,
                                         .initial_state = file };

        return _cmocka_run_group_tests("verbs", &test, 1, NULL, NULL);
}

static void write_back(const CaseFile *file) {
        FILE *f = fopen(file->path, "we");

        assert_non_null(f);
        for (size_t i = 0; i < file->n; i++) {
                const CaseTitle *title = &file->titles[i];

                fprintf(f, "%s# %s\n%s", i > 0 ? "\n" : "", title->name, title->shared);
                for (size_t k = 0; k < title->n; k++)
                        fprintf(f, "%s%s", title->cases[k].given, title->cases[k].wanted);
        }
        assert_int_equal(fclose(f), 0);
}

/* Listen like the ssh of a tunnel, in its own process. */
static int listen_at(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        (void) alarm(20);
        if (fd < 0 || bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 1) < 0)
                return 1;
        return pause();
}

int main(int argc, char **argv) {
        static const char *const names[] = { "lists",  "cluster",     "units",  "rollouts", "reboots",
                                             "moves",  "waits",       "events", "files",    "journal",
                                             "log",    "top",         "keys",   "words",    "states",
                                             "tokens", "transcripts", "data",   "secrets" };
        int n_failed = 0;

        if (argc == 3 && streq(argv[1], "listen"))
                return listen_at(argv[2]);
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                CaseFile *file = cases_read(names[i]);
                struct CMUnitTest *tests = calloc(file->n, sizeof(*tests));

                for (size_t k = 0; k < file->n; k++)
                        tests[k] = (struct CMUnitTest) { .name = file->titles[k].name,
                                                         .test_func = all_runs_are_as_written,
                                                         .initial_state = &file->titles[k] };
                n_failed += _cmocka_run_group_tests(names[i], tests, file->n, NULL, NULL);
                if (getenv("CASES_WRITE"))
                        write_back(file);
                if (streq(names[i], "transcripts"))
                        n_failed += test_transcripts(file);
                free(tests);
                (void) cases_free(file);
        }
        return n_failed > 0;
}
