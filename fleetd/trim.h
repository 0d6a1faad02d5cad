/* Return of freed memory to the system.
 *
 * What a burst allocates lies in small pieces between others that live longer: when it is freed, the allocator keeps the pages until it is
 * asked for them. That costs milliseconds, so it is done when much has become free since the last time, and not while it is
 * in use again. It covers all of the process: the tables of the registry as well as requests and the log. */
#pragma once

#include "io/loop.h"

enum {
        TRIM_MS = 5000,          /* between two looks */
        TRIM_BYTES = 512 * 1024, /* newly free: less is not worth it */
};

typedef struct Trim {
        Loop *loop;
        Timer timer;
        uint64_t free_bytes; /* that the allocator kept after the last look: their pages were returned, or are few */
        unsigned n;          /* how often memory was returned */
} Trim;

/* 0 or -ENOMEM. */
int trim_start(Trim *trim, Loop *loop);
void trim_stop(Trim *trim); /* harmless when it was not started */
