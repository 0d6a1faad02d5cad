/* What units and hosts use: lines of "GET /fleet/v1/usage", rates between two of them, and cells of tables.
 * Pure.
 *
 * A host sends counters and states, as the kernel has them; what is per second is computed here, between two
 * samples of one host, by the host's own clock. */
#pragma once

#include "base/error.h"
#include "units/json.h"

/* The figures of a sample. Of a unit; the host has those that say so, too. */
typedef enum UsageFigureKind {
        USAGE_CPU_US, /* counter */
        USAGE_MEMORY, /* bytes; of the host: of all its memory */
        USAGE_TASKS,
        USAGE_READ,              /* counter of bytes */
        USAGE_WRITTEN,           /* the same */
        USAGE_STALLED_US,        /* counters: some task waited for the processor, also of the host, */
        USAGE_STALLED_MEMORY_US, /* for memory, */
        USAGE_STALLED_IO_US,     /* for I/O */
        /* Of the host only. */
        USAGE_BUSY_US, /* counters of all its processors together */
        USAGE_IDLE_US,
        USAGE_AVAILABLE, /* bytes of memory */
        USAGE_DISK_SIZE, /* bytes of the file system of /var/lib */
        USAGE_DISK_FREE,
        _USAGE_FIGURE_MAX,
} UsageFigureKind;

typedef struct UsageFigure {
        uint64_t value;
        bool known; /* the host provides it */
} UsageFigure;

typedef struct UsageFigures {
        char *name; /* of the unit; NULL: the host. Owned by the sample. */
        UsageFigure figures[_USAGE_FIGURE_MAX];
} UsageFigures;

typedef struct UsageSample {
        uint64_t at_us; /* since the boot of the host */
        UsageFigures host;
        UsageFigures *units; /* owned, sorted by name */
        size_t n_units;
} UsageSample;

/* Read a line. Unknown members are ignored, and figures of another type are not known. -EBADMSG: it is no
 * sample. -EFBIG: it is longer than that of 2,000 units: one of other text would take 55 times its size. */
int usage_parse(const char *line, size_t size, UsageSample **ret);
UsageSample *usage_free(UsageSample *s); /* NULL allowed; returns NULL */
DEFINE_CLEANUP(UsageSample *, usage_free)
#define _cleanup_usage_ _cleanup_(usage_freep)

/* Append the figures that are known as members of a JSON object, as in a line. */
void usage_append_json(Text *t, const UsageFigures *figures);

typedef enum UsageColumn {
        USAGE_COLUMN_CPU,    /* 1/1000 of a processor; of the host: of 'total', all of them */
        USAGE_COLUMN_MEMORY, /* bytes, of the host: that are in use, of 'total' */
        USAGE_COLUMN_IO,     /* bytes per second that are read and written */
        USAGE_COLUMN_TASKS,
        USAGE_COLUMN_PRESSURE, /* 1/1000 of the time: the largest of the three shares, that of 'resource' */
        USAGE_COLUMN_DISK,     /* bytes that are in use, of 'total' */
        _USAGE_COLUMN_MAX,
} UsageColumn;

typedef enum UsageKnown {
        USAGE_ABSENT,  /* the host does not provide it: "–" */
        USAGE_PENDING, /* there is no former sample, or the counter fell: "" */
        USAGE_KNOWN,
} UsageKnown;

typedef struct UsageCell {
        UsageKnown known;
        uint64_t value, total; /* total 0: none */
        const char *resource;  /* "cpu", "memory" or "io" */
} UsageCell;

typedef struct UsageRow {
        UsageCell cells[_USAGE_COLUMN_MAX];
} UsageRow;

/* Compute the cells of a unit of 'now' (NULL: of the host) since 'former', an earlier sample of the same
 * host; NULL: there is none. */
void usage_row(const UsageSample *former, const UsageSample *now, const UsageFigures *unit, UsageRow *ret);

/* Append a cell of the row: "51.2 %", "44.1 M", "1.2 M", "12", "cpu 8 %"; of the disk, what is free. */
void usage_append_cell(Text *t, const UsageRow *row, UsageColumn column);
/* Return the share of 'total' that is in use, in 1/1000, for a meter; -1: it is not known. */
int usage_share(const UsageCell *cell);
