/* Requests that were denied for lack of a right, in the log: at most one line per principal and second;
 * further ones are counted, and their number follows. Within fleetd/api only. */
#pragma once

#include "base/sizes.h"
#include "fleetd/registry/principal.h"
#include "fleetd/registry/registry.h"
#include "io/loop.h"

enum {
        DENIALS_MAX = 16, /* principals with a line in the last second */
        DENIALS_MS = 1000,
        DENIED_WHAT_SIZE = 160,
        DENIALS_NOTED_MS = 60 * 1000, /* between two rows of the history: each is a replicated write */
};

typedef struct Denial {
        char principal[PRINCIPAL_TEXT_SIZE]; /* "": unused */
        uint64_t logged_ms;
        uint64_t n_more; /* since then */
        char last[DENIED_WHAT_SIZE];
} Denial;

/* Embedded. Zero, but for the loop, is a valid value before denials_init(). */
typedef struct Denials {
        Loop *loop;
        Registry *registry; /* borrowed; NULL: no row is written */
        uint64_t noted_ms;  /* the last row */
        Timer timer;
        Denial rows[DENIALS_MAX];
} Denials;

void denials_init(Denials *d, Loop *loop, Registry *registry);
void denials_done(Denials *d); /* logs what is counted */
/* A request of the principal was denied: method and path, which may contain any bytes. The history gets the
 * first part of the path, and no row of a principal that is not authenticated. 'host': the machine that has
 * forwarded the request, NULL: none. It may claim any user ID: all requests that it forwards have one limit.
 * 'sender' NULL: the host itself. */
void denials_add(Denials *d, const Principal *sender, const char *host, const char *method, const char *path);
