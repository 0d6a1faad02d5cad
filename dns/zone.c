#include "dns/zone.h"

enum { ZONE_LABELS_MAX = 8 }; /* of names that exist: _http._tcp.near.shop.service.fleet has 6 */

typedef struct Label {
        const char *text; /* not terminated */
        size_t size;
} Label;

/* A set of lines of a service. NULL: any. */
typedef struct ZoneFilter {
        const TableService *service;
        const char *machine_id, *zone; /* of near. */
        Label endpoint, instance, port;
        bool has_protocol;
        PortProtocol protocol;
        bool only_first; /* line of each endpoint, if it has a port */
        ns_type family;  /* A or AAAA: only such addresses, each once; otherwise 0 */
} ZoneFilter;

void dns_answer_done(DnsAnswer *answer) {
        free(answer->records);
        *answer = (DnsAnswer) {};
}

static bool label_is(Label label, const char *text) {
        return label.size == strlen(text) && memcmp(label.text, text, label.size) == 0;
}

/* Split the last labels of a name, the last one first. Return the number of all. */
static size_t zone_labels(const DnsQuestion *question, Label ret[static ZONE_LABELS_MAX]) {
        Label all[NS_MAXCDNAME / 2 + 1];
        size_t n = 0;

        for (size_t at = 0; question->name[at] > 0; at += 1 + question->name[at])
                all[n++] = (Label) { (const char *) question->name + at + 1, question->name[at] };
        for (size_t i = 0; i < n && i < ZONE_LABELS_MAX; i++)
                ret[i] = all[n - 1 - i];
        return n;
}

bool zone_contains(const DnsQuestion *question) {
        Label labels[ZONE_LABELS_MAX];

        return zone_labels(question, labels) > 0 && label_is(labels[0], "fleet");
}

static bool filter_takes(const ZoneFilter *f, const TableLine *line) {
        const EndpointLine *e = &line->endpoint;

        return (!f->machine_id || streq(f->machine_id, e->machine_id)) &&
               (!f->zone || streq(f->zone, e->zone)) &&
               (!f->endpoint.text || label_is(f->endpoint, e->endpoint)) &&
               (!f->instance.text || label_is(f->instance, line->instance)) &&
               (!f->has_protocol || (e->port > 0 && e->protocol == f->protocol)) &&
               (!f->port.text || label_is(f->port, e->port_name)) &&
               (!f->only_first || (line->is_first && e->port > 0)) &&
               (f->family == 0 || IN6_IS_ADDR_V4MAPPED(&line->address) == (f->family == ns_t_a));
}

static bool filter_takes_any(const ZoneFilter *f) {
        for (size_t i = 0; i < f->service->n_lines; i++)
                if (filter_takes(f, &f->service->lines[i]))
                        return true;
        return false;
}

/* Reduce the set to endpoints on this host; if there are none, to those in its zone, or to all. */
static void filter_near(ZoneFilter *f, const EndpointHost *host) {
        if (!host->machine_id)
                return;
        f->machine_id = host->machine_id;
        if (filter_takes_any(f))
                return;
        f->machine_id = NULL;
        f->zone = streq(host->zone, "-") ? NULL : host->zone;
        if (!filter_takes_any(f))
                f->zone = NULL;
}

/* Find what a name of 'n' labels stands for, of which the first is a service and the others are below it.
 * Return false if it does not exist. */
static bool zone_find(const Table *table, const Label *labels, size_t n, ZoneFilter *f) {
        bool near;

        f->service = table_find(table, labels[0].text, labels[0].size);
        if (!f->service)
                return false;
        labels++, n--;
        near = n > 0 && label_is(labels[0], "near");
        if (near)
                labels++, n--;
        if (n > 0 && (label_is(labels[0], "_tcp") || label_is(labels[0], "_udp"))) {
                f->has_protocol = true;
                f->protocol = labels[0].text[1] == 't' ? PORT_TCP : PORT_UDP;
                labels++, n--;
                if (n > 0 && labels[0].size > 1 && labels[0].text[0] == '_') {
                        f->port = (Label) { labels[0].text + 1, labels[0].size - 1 };
                        labels++, n--;
                }
        } else if (n > 0 && !near) {
                f->endpoint = labels[0];
                if (!filter_takes_any(f)) {
                        f->instance = f->endpoint;
                        f->endpoint = (Label) {};
                }
                labels++, n--;
        }
        if (near)
                filter_near(f, &table->host);
        return n == 0 && filter_takes_any(f);
}

/* Set the records to the lines of the set: at most 'n_max', a random selection in random order (Vitter's
 * algorithm R). */
static int zone_select(const ZoneFilter *f, ns_type type, size_t n_max, Random *random, DnsAnswer *ret) {
        size_t n_lines = f->service->n_lines, n_taken = 0;
        const TableLine *last = NULL;

        ret->records = NEW0(DnsRecord, MIN(n_max, n_lines));
        if (!ret->records)
                return -ENOMEM;
        for (const TableLine *line = f->service->lines; line < f->service->lines + n_lines; line++) {
                size_t at;

                /* The lines are sorted by address. */
                if (!filter_takes(f, line) ||
                    (f->family > 0 && last &&
                     memcmp(&last->address, &line->address, sizeof(line->address)) == 0))
                        continue;
                last = line;
                at = random_below(random, ++n_taken);
                if (ret->n_records < n_max)
                        ret->records[ret->n_records++] = ret->records[at];
                if (at < n_max)
                        ret->records[at] = (DnsRecord) { type, line, f->service->name, 0 };
        }
        return 0;
}

/* Answer what a name below a service has of this type. */
static int zone_answer_service(ZoneFilter *f, const DnsQuestion *q, bool tcp, Random *random,
                               DnsAnswer *ret) {
        if (q->type == ns_t_srv && !f->endpoint.text && (f->port.text || !f->has_protocol)) {
                f->only_first = !f->has_protocol;
                return zone_select(f, ns_t_srv, ZONE_SRV_MAX, random, ret);
        }
        if ((q->type == ns_t_a || q->type == ns_t_aaaa) && !f->has_protocol) {
                f->family = (ns_type) q->type;
                return zone_select(f, f->family, tcp ? ZONE_TCP_ADDRESSES_MAX : ZONE_UDP_ADDRESSES_MAX,
                                   random, ret);
        }
        return 0;
}

int zone_answer(const Table *table, const DnsQuestion *q, bool tcp, Random *random, DnsAnswer *ret) {
        static const TableLine ns = { .address.s6_addr = { [10] = 255, 255, 169, 254, 23, 79 } };
        Label labels[ZONE_LABELS_MAX];
        size_t n = zone_labels(q, labels);
        bool below_services = n > 1 && label_is(labels[1], "service"),
             is_ns = n == 2 && label_is(labels[1], "ns");
        bool exists = n == 1 || is_ns || (n == 2 && below_services), unknown;
        DnsRecord one = {}; /* of names that are in no file, and of ANY */
        ZoneFilter f = {};

        *ret = (DnsAnswer) { .serial = (uint32_t) table->host.index };
        if (q->class != ns_c_in || q->type == ns_t_axfr || q->type == ns_t_ixfr) {
                ret->rcode = ns_r_refused;
                return 0;
        }
        if (n > 2 && n <= ZONE_LABELS_MAX && below_services) {
                exists = zone_find(table, labels + 2, n - 2, &f);
                if (exists)
                        TRY(zone_answer_service(&f, q, tcp, random, ret));
        }
        if (n == 1 && (q->type == ns_t_soa || q->type == ns_t_ns))
                one.type = (ns_type) q->type;
        if (is_ns && q->type == ns_t_a)
                one = (DnsRecord) { ns_t_a, &ns, NULL, 0 };
        if (exists && q->type == ns_t_any)
                one.type = ns_t_hinfo;
        if (one.type > 0) {
                ret->records = NEW0(DnsRecord, 1);
                if (!ret->records)
                        return -ENOMEM;
                ret->records[ret->n_records++] = one;
        }

        /* What the files do not say is unknown, and not absent, until they are complete. */
        unknown = !exists && below_services && !(table->is_known && table->host.complete);
        if (!exists)
                ret->rcode = unknown ? ns_r_servfail : ns_r_nxdomain;
        ret->authoritative = !unknown;
        ret->negative = !unknown && ret->n_records == 0;
        return 0;
}
