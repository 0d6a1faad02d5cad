/* Return of freed memory to the kernel.
 *
 * The allocator keeps freed pages until a call returns them, which takes milliseconds. So it is called when
 * much memory has become free since the last call, and not while that is used again. This covers the whole
 * process: requests, registry tables, the log. Objects that are kept in large numbers retain few pages
 * because they are allocated in blocks (base/blocks.h). Pages of programs are unmapped with each return, and
 * each minute: a handshake runs a megabyte of code, which an idle daemon does not use again. */
#pragma once

#include "io/loop.h"

enum {
        TRIM_MS = 5000,      /* between two checks, and ... */
        TRIM_SLACK_MS = 750, /* ... at most so much longer, until the daemon wakes up for something else */
        TRIM_SOON_MS = 500,  /* until the next check, after loop_freed() for many small objects */
        TRIM_BYTES = 128 * 1024, /* newly free bytes that trigger a return */
        TRIM_UNMAP_CHECKS = 12,  /* between two times when pages of programs are unmapped: a minute */
        TRIM_LARGE = 128 * 1024, /* larger blocks are mapped separately, and unmapped when freed */
};

/* Configure the allocator of this process, before its first thread. Otherwise glibc puts blocks of up to 32
 * MiB into its heaps once one of that size was freed, and gives each thread a heap. Free memory in heaps
 * counts against RLIMIT_DATA even without pages. */
void trim_init(void);

typedef struct Trim {
        Loop *loop;
        Timer timer;
        Deferred freed;
        uint64_t free_bytes;  /* minimum of the allocator's free bytes since the last return */
        int64_t unused_bytes; /* minimum of the unused bytes since then */
        unsigned n;           /* returns so far */
        unsigned n_checks;    /* since the last return */
} Trim;

/* Unmap the pages of this program and its libraries that are as in their files: code, constants, symbols. The
 * next access maps them again, without I/O while the kernel has them. Start and handshakes touch most of
 * them, an idle daemon few. */
void trim_unmap_programs(void);

/* 0 or -ENOMEM. */
int trim_start(Trim *trim, Loop *loop);
void trim_stop(Trim *trim); /* no effect before trim_start() */
