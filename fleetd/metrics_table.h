/* The table of all metrics. fleetd(8) has the same table in section METRICS, and a test compares them.
 *
 * A new family is a row with a reader. Readers use the public accessors of components; no component includes
 * this file, except the daemon. */
#pragma once

#include "fleetd/agent/agent.h"
#include "fleetd/api/api.h"
#include "fleetd/engine/engine.h"
#include "fleetd/host/component.h"
#include "fleetd/metrics/scrape.h"

/* Return the family of row 'i' of the table, in the order of the answer; NULL: there are fewer. */
const MetricFamily *metrics_family(size_t i);

/* Write the families of the daemon's memory. 0, or -ENOMEM. The caller completes and frees *ret. */
int metrics_begin(const ComponentHost *host, MetricsForm form, MetricsScrape **ret);
