/* One scrape of the metrics: begun on the loop, completed off the loop.
 *
 * The families of the daemon's memory are written by metrics_begin(), within one turn. Those that are read
 * from files of the kernel (/proc, cgroups) follow in metrics_complete(), which blocks the loop of no
 * daemon: it runs in a worker. No scrape reads a disk or another host. */
#pragma once

#include "fleetd/metrics/process.h"
#include "fleetd/metrics/units.h"

typedef struct MetricsScrape {
        MetricsForm form;
        Text text; /* the answer; its failure is that of the scrape */
        MetricsProcess process;
        MetricsUnit *units; /* owned; of this host */
        size_t n_units, n_omitted;
        size_t first_read;            /* the unit whose cgroup is read again first */
        struct MetricsScrape *former; /* owned; its units are as it left them; NULL: none */
        /* Read the kernel's files, and write what is left. It touches the scrape only. */
        void (*complete)(struct MetricsScrape *scrape);
} MetricsScrape;

/* Begin with the figures of the scrape before, which this function takes over; NULL: none. */
void metrics_scrape_resume(MetricsScrape *scrape, MetricsScrape *former);

/* Read the cgroups of its units, below the mount point of cgroup v2. Call it off the loop. */
void metrics_scrape_read_units(MetricsScrape *scrape, const char *root);

/* Return the complete scrape, which the caller hands over, without its text for the next one to resume; NULL
 * if the next one reads all units in any case. */
MetricsScrape *metrics_scrape_keep(MetricsScrape *scrape);

/* NULL allowed; returns NULL. */
MetricsScrape *metrics_scrape_free(MetricsScrape *scrape);
DEFINE_CLEANUP(MetricsScrape *, metrics_scrape_free);
