#include "fleetd/metrics/scrape.h"

MetricsScrape *metrics_scrape_free(MetricsScrape *scrape) {
        if (!scrape)
                return NULL;
        text_done(&scrape->text);
        free(scrape->units);
        free(scrape);
        return NULL;
}
