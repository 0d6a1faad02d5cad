/* libcurl as far as client/connection.c goes, with a daemon that answers what is written down, and the clock
 * of the process. Time passes only during a call that sleeps or waits for an answer. The host is called
 * FAKE_HOST in the environment, or "host". Link with --wrap of clock_gettime, gethostname, nanosleep,
 * sigtimedwait and usleep. */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct FakeAnswer {
        const char *method,
                *path;  /* the path with its query; one that ends in "*" stands for all that begin so */
        uint64_t at_ms; /* from when on it is given, in place of those before; 0: once, the last one of these
                           always */
        long status;
        const char *index; /* X-Etcd-Index, NULL: none */
        CURLcode code;     /* how it ends; CURLE_OPERATION_TIMEDOUT: when its time is over */
        const char *body; /* its lines may begin with "@MS ": they come so much later; "...": it does not end;
                             SIGTERM: it comes now */
        bool used;
} FakeAnswer;

/* From now on these are the answers, and the time is 0 (14 November 2023, 22:13:20). Each request is written
 * into 'sent'. All is borrowed. */
void fake_curl_begin(FakeAnswer *answers, size_t n, FILE *sent);
