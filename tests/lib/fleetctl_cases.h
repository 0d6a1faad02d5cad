/* fleetctl run in this process, on the cases of a file (tests/client/cases): what is typed, what the daemon
 * answers, and all that comes of it.
 *
 *   # TITLE             of the runs that follow
 *   % file NAME TEXT    a file in the folder in which it runs; \n, \t, \e and \xNN stand for bytes here, and
 * in what is printed % env NAME=VALUE    in its environment % stdin TEXT        what it reads, and a
 * terminal's keys % terminal 80x24    its streams are a terminal % full              its output cannot be
 * written % memory            also where memory is short (test-client_memory) > [@MS] METHOD PATH
 * STATUS[/INDEX] BODY   an answer, from MS on (tests/lib/fake_curl.h); in the place of a status: refused,
 * timeout, gone, partial
 *   >> BODY             its next line
 *   $ VERB ARGUMENTS    a run; what stands before the first one is for all, what follows for this one
 *   < REQUEST           what it has asked for
 *   | OUTPUT            what it has printed; \c: without a newline
 *   ! ERROR             and on stderr; of a terminal both are output
 *   = STATUS            its exit status */
#pragma once

#include <stddef.h>

#include "base/text.h"
#include "tests/lib/fake_curl.h"

enum { CASE_WORDS_MAX = 40, CASE_ANSWERS_MAX = 60 };

typedef struct Case {
        const char *title;
        char *given, *wanted; /* its own lines in the file, up to and behind the point where it has run; ""
                                 for none */
        char *argv[CASE_WORDS_MAX + 1];
        size_t argc;
        char *shared; /* the lines of its title; borrowed */
        bool memory;
} Case;

typedef struct CaseTitle {
        char *name, *shared; /* its lines before the first run, and they as in the file */
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

/* What came of a run, as it stands in the file. Nothing of it is left in the process. The caller frees. */
typedef struct CaseResult {
        int status;
        Text out, err, sent;
} CaseResult;

void case_result_done(CaseResult *result);
CaseResult case_run(const Case *c, void (*between)(void *userdata, bool runs), void *userdata);
char *case_print(CaseResult *result);
