/* Return of freed memory to the system.
 *
 * The allocator keeps freed pages until it is asked for them. That takes milliseconds, so it is done when
 * much has become free since the last time, and not while it is in use again. It covers the whole process:
 * requests, the tables of the registry, the log. What is retained in large numbers keeps few pages because it
 * lies in blocks (base/blocks.h). */
#pragma once

#include "io/loop.h"

enum {
        TRIM_MS = 5000,          /* between two looks ... */
        TRIM_SOON_MS = 500,      /* ... and after many small pieces have been freed (loop_freed()) */
        TRIM_BYTES = 128 * 1024, /* newly free: less is not worth it */
        TRIM_LARGE = 128 * 1024, /* a larger block is mapped by itself, and unmapped when it is freed */
};

/* Configure the allocator of this process, before its first thread. Free memory that it keeps counts against
 * RLIMIT_DATA, page or no page: glibc would put blocks of up to 32 MiB into its heaps once one of that size
 * has been freed, and give each thread a heap. */
void trim_init(void);

typedef struct Trim {
        Loop *loop;
        Timer timer;
        Deferred freed;
        uint64_t free_bytes;  /* the least that the allocator kept since memory was returned last ... */
        int64_t unused_bytes; /* ... and the least that were there beyond those in use */
        unsigned n;           /* how often memory was returned */
} Trim;

/* 0 or -ENOMEM. */
int trim_start(Trim *trim, Loop *loop);
void trim_stop(Trim *trim); /* harmless when it was not started */
