/* Which units of this host have metrics of their own: those whose files are in force here. */
#pragma once

#include "fleetd/metrics_table.h"

/* Add the first host->settings->metrics_units of them to the scrape, and count the others. 0 or -ENOMEM. */
int metrics_units_collect(const ComponentHost *host, MetricsScrape *scrape);
