#include "fleetd/metrics/scrape.h"

MetricsScrape *metrics_scrape_free(MetricsScrape *scrape) {
        if (!scrape)
                return NULL;
        text_done(&scrape->text);
        free(scrape->units);
        metrics_scrape_free(scrape->former);
        free(scrape);
        return NULL;
}

void metrics_scrape_resume(MetricsScrape *scrape, MetricsScrape *former) {
        if (former && scrape->n_units > 0)
                scrape->first_read = (former->first_read + METRICS_READ_MAX) % scrape->n_units;
        scrape->former = former;
}

MetricsScrape *metrics_scrape_keep(MetricsScrape *scrape) {
        scrape->former = metrics_scrape_free(scrape->former);
        if (scrape->n_units <= METRICS_READ_MAX)
                return metrics_scrape_free(scrape);
        text_done(&scrape->text);
        return scrape;
}

void metrics_scrape_read_units(MetricsScrape *scrape, const char *root) {
        if (scrape->former)
                metrics_units_resume(scrape->units, scrape->n_units, scrape->first_read,
                                     scrape->former->units, scrape->former->n_units);
        metrics_units_read(root, scrape->units, scrape->n_units);
}
