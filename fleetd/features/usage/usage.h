/* What the units of this host use: "fleetd --usage", a child of the daemon, which lives as long as a client
 * reads its lines. The daemon itself reads no cgroup, and keeps no figure. */
#pragma once

#include "base/error.h"
#include "base/text.h"

enum {
        USAGE_INTERVAL_MIN_MS = 1000,
        USAGE_INTERVAL_MAX_MS = 3600000,
};
#define USAGE_INTERVAL "2s" /* the default */

/* Read an interval as parse_span_ms(): 0 or -EINVAL, with a message. */
int usage_interval_parse(const char *text, uint64_t *ret_ms, Error *err);
/* Return the interval after a round that took this processor time: at most a tenth of it is used. */
uint64_t usage_interval_next(uint64_t interval_ms, uint64_t cpu_ns);

typedef struct UsageRoots {
        const char *units;   /* the folder of the unit files that are in force */
        const char *cgroups; /* the mount point of cgroup v2, or the folder above "unified" */
        const char *proc, *disk;
} UsageRoots;

/* Append a line: an object in JSON of the figures that the kernel provides now. 0 or -ENOMEM. */
int usage_append(Text *t, const UsageRoots *roots, uint64_t at_us);

/* Write a line per interval to standard output until that is closed. Return the exit status. */
int usage_run(const char *interval);
