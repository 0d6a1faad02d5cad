/* Figures of the units of this host: of the agent, and of their cgroups (the kernel's
 * Documentation/admin-guide/cgroup-v2.rst). */
#pragma once

#include "fleetd/metrics/writer.h"
#include "units/quadlet.h"

typedef enum MetricsResource {
        METRICS_CPU,
        METRICS_MEMORY,
        METRICS_IO,
        _METRICS_RESOURCE_MAX,
} MetricsResource;

extern const char *const metrics_resource_names[_METRICS_RESOURCE_MAX];

/* A figure of the kernel; 'known' is false if the unit has no cgroup, or the kernel does not provide it. */
typedef struct MetricsFigure {
        uint64_t value;
        bool known;
} MetricsFigure;

typedef struct MetricsUnit {
        char name[UNIT_NAME_MAX + 1];
        char cgroup[UNIT_NAME_MAX + 32]; /* name of its unit in systemd */
        bool active, failed, inactive;
        uint64_t since_ms; /* wall clock of its last change of state; 0: unknown */
        uint64_t restarts; /* by systemd */
        MetricsFigure cpu_us, memory_bytes, tasks, read_bytes, written_bytes,
                stalled_us[_METRICS_RESOURCE_MAX];
        bool resumed; /* its figures are those of a former scrape */
} MetricsUnit;

/* Of more units, the cgroups are read in turn: a unit costs up to seven files of about 7 us (measured with
 * kernel 6.18), and a scrape of 1,000 units at most 20 ms. */
enum { METRICS_READ_MAX = 200 };

/* Bytes that are read of one file of the kernel; io.stat has a line of each device. */
enum { METRICS_FILE_MAX = 4096 };

/* Read the begin of a file into 'text'. False: it does not exist, or cannot be read. */
bool metrics_file_read(int dir_fd, const char *name, char text[static METRICS_FILE_MAX]);
/* Read the number after the first 'label'; "": the file has one number. */
void metrics_file_get(int dir_fd, const char *name, const char *label, MetricsFigure *ret);

/* Set the unit's names. */
void metrics_unit_init(MetricsUnit *unit, const char *name);

/* Take over the figures of 'former', the units of the scrape before, as metrics_units_read() left them,
 * except for METRICS_READ_MAX units from 'first' on (modulo 'n'), and for units whose state has changed. The
 * units are sorted by 'cgroup' afterwards. */
void metrics_units_resume(MetricsUnit *units, size_t n, size_t first, const MetricsUnit *former,
                          size_t n_former);

/* Read the cgroups of the units whose figures are not resumed; without a cgroup, a unit has no figures. The
 * units are sorted by 'cgroup' afterwards. 'root' is the mount point of cgroup v2. A unit is found in each
 * slice, also nested ones. A figure that cannot be read stays unknown. Call it off the loop. */
void metrics_units_read(const char *root, MetricsUnit *units, size_t n);

/* Write the samples of one family for a unit. */
typedef void (*MetricsUnitWrite)(MetricsWriter *w, const MetricsUnit *unit);

void metrics_write_active(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_failed(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_start(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_restarts(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_cpu(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_memory(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_tasks(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_read(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_written(MetricsWriter *w, const MetricsUnit *unit);
void metrics_write_pressure(MetricsWriter *w, const MetricsUnit *unit);
