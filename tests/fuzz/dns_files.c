/* Any bytes as a file of a service, of the host, and as resolv.conf: what is read from them is valid. */
#include "base/log.h"
#include "dns/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void take(Table *table, const char *name, const uint8_t *bytes, size_t size) {
        char *text = malloc(size + 1);

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;
        assert(table_take(table, name, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_(table_done) Table table = {};
        _cleanup_free_ char *text = malloc(size + 1);
        static const ForwardOps no_ops;
        _cleanup_(forward_freep) Forward *f = NULL;
        const TableService *s;

        if (!text)
                abort();
        log_set_max_priority(LOG_CRIT);
        take(&table, ".host", bytes, size);
        take(&table, "shop", bytes, size);
        take(&table, "shop", bytes, size);
        s = table_find(&table, "shop", 4);
        for (size_t i = 0; s && i < s->n_lines; i++) {
                const TableLine *line = &s->lines[i];

                assert(service_label_is_valid(line->endpoint.endpoint, ENDPOINT_NAME_SIZE - 1));
                assert(!*line->instance || service_label_is_valid(line->instance, SERVICE_NAME_MAX));
                assert(i == 0 || memcmp(&line[-1].address, &line->address, sizeof(line->address)) <= 0);
        }
        memcpy(text, bytes, size);
        text[size] = 0;
        assert(forward_new(&no_ops, NULL, &f) == 0);
        assert(forward_read_servers(f, text, NULL, 0) <= FORWARD_SERVERS_MAX);
        return 0;
}
