/* Arbitrary bytes as the value of an Accept field: one of the two forms, the same each time, and without
 * the name of OpenMetrics always the text format. */

#include "fleetd/metrics/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *accept = malloc(size + 1);
        MetricsForm form;

        assert(accept);
        if (size > 0)
                memcpy(accept, bytes, size);
        accept[size] = 0;
        form = metrics_form_accepted(accept);
        assert(form == METRICS_TEXT || form == METRICS_OPENMETRICS);
        assert(form == metrics_form_accepted(accept));
        assert(form == METRICS_TEXT || strcasestr(accept, "application/openmetrics-text"));
        return 0;
}
