/* Run fleetctl in this process on the cases of a file (tests/client/cases): arguments, answers of the daemon,
 * and the expected output.
 *
 *   # TITLE             title of the following runs
 *   % file NAME TEXT    a file in the working folder; here and in output, \n, \t, \e and \xNN are bytes
 *   % env NAME=VALUE    a variable of the environment
 *   % stdin TEXT        input, also from a terminal
 *   % terminal 80x24    the streams are a terminal
 *   % full              stdout cannot be written
 *   % memory            test-client_memory runs the case, too
 *   % transcripts       each run is repeated on terminals of 40, 80 and 220 columns, without and with colours
 *   > [@MS] METHOD PATH STATUS[/INDEX][~STALE] BODY
 *                       an answer, valid from MS on (tests/lib/fake_curl.h); instead of a status: refused,
 *                       timeout, gone, partial
 *   >> BODY             the next line of the body
 *   $ VERB ARGUMENTS    a run; settings before the first run are for all runs, those after it for this run
 *   < REQUEST           a request of fleetctl
 *   | OUTPUT            a line on stdout; \c: without a newline
 *   ! ERROR             a line on stderr; of a terminal, both streams are stdout
 *   = STATUS            the exit status
 *
 * The results of a transcript, without its requests and all but the last drawing of progress lines:
 *
 *   @ WIDTH, ...        the terminals with the following output
 *   | OUTPUT            a line, without colours
 *   / OUTPUT            its next row on this terminal
 *   = STATUS            the exit status
 *   ~ OUTPUT            a line or row that colours change */
#pragma once

#include "base/text.h"
#include "tests/lib/fake_curl.h"

enum { CASE_WORDS_MAX = 40, CASE_ANSWERS_MAX = 120 };

typedef struct Case {
        const char *title;
        char *given,
                *wanted; /* lines of the file: settings with the run, and expected results; "" for none */
        char *argv[CASE_WORDS_MAX + 1];
        size_t argc;
        char *shared; /* settings of its title; borrowed */
        bool memory, transcripts;
        unsigned columns; /* of the terminal; 0: as the settings demand */
        bool plain;       /* without colours */
} Case;

typedef struct CaseTitle {
        char *name, *shared; /* the title, and the settings before its first run */
        Case *cases;
        size_t n, capacity;
} CaseTitle;

typedef struct CaseFile {
        char *path, *text;
        CaseTitle *titles;
        size_t n, capacity;
} CaseFile;

/* Read "tests/client/cases/NAME" of the sources. */
CaseFile *cases_read(const char *name);
CaseFile *cases_free(CaseFile *file);

/* The result of a run, in the form of the file. The process is unchanged after a run. The caller frees it. */
typedef struct CaseResult {
        int status;
        Text out, err, sent;
} CaseResult;

void case_result_done(CaseResult *result);
CaseResult case_run(const Case *c, void (*between)(void *userdata, bool runs), void *userdata);
char *case_print(CaseResult *result);

/* Run a case of "% transcripts" on all terminals. The caller frees the result, in the form of the file. */
char *case_transcripts(Case *c);
