/* The functions of libcurl that connection.c of fleetctl calls, with a daemon of recorded answers, and a
 * simulated clock. Time passes only in calls that sleep or wait for an answer. The hostname is $FAKE_HOST, or
 * "host", and names are resolved, unless $FAKE_RESOLVER has the next step. Link with --wrap of clock_gettime,
 * gethostname, nanosleep, resolver_append, sigtimedwait and usleep. */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct FakeAnswer {
        const char *method, *path; /* the path with its query; "*" at its end matches any rest */
        uint64_t at_ms; /* valid from this time on, instead of earlier ones; 0: valid once, the last one
                           always */
        long status;
        const char *index; /* X-Etcd-Index, NULL: none */
        const char *stale; /* X-Fleet-Stale, NULL: none */
        CURLcode code;     /* of the request; CURLE_OPERATION_TIMEDOUT: after its timeout */
        const char *
                body; /* lines that begin with "@MS " are delayed; "...": no end; SIGTERM: send this signal */
        size_t size;  /* of a 'body' of any bytes; 0: it is lines */
        bool used;
} FakeAnswer;

/* Set the answers, and the time to 0 (14 November 2023, 22:13:20). Write each request into 'sent'. All
 * arguments are borrowed. */
void fake_curl_begin(FakeAnswer *answers, size_t n, FILE *sent);
/* Let 'answer' return the answer to each request, in place of a list. */
void fake_curl_begin_with(FakeAnswer *(*answer)(const char *url));
