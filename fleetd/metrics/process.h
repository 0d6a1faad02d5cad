/* Figures of this process, from getrusage(2) and /proc/self (proc(5)). */
#pragma once

#include <stdint.h>

typedef struct MetricsProcess {
        uint64_t cpu_ns; /* of all threads */
        uint64_t resident_bytes;
        uint64_t open_fds;
        uint64_t started_ns; /* wall clock, since 1970; set by the caller */
} MetricsProcess;

/* Read all but the start. A figure that cannot be read is 0. Counts descriptors: call it off the loop. */
void metrics_process_read(MetricsProcess *ret);
