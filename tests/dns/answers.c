/* zone.c as a process, for tests/dns/test-model.py. Standard input has commands:
 *
 *   new                  an empty table
 *   file NAME SIZE       a file of the folder; SIZE bytes follow
 *   ask NAME TYPE udp|tcp
 *
 * The answer to "ask" is a line: the response code, whether AA is set, the serial number of a negative answer
 * or "-", and the sorted records of the answer section. */
#include <arpa/inet.h>

#include "base/log.h"
#include "tests/dns/queries.h"

static void print_record(Text *t, const DnsRecord *r, uint32_t serial) {
        char address[INET6_ADDRSTRLEN] = "";
        const char *shown = r->line && IN6_IS_ADDR_V4MAPPED(&r->line->address) ? address + strlen("::ffff:") :
                                                                                 address;

        if (r->type == ns_t_a || r->type == ns_t_aaaa || r->type == ns_t_srv)
                inet_ntop(AF_INET6, &r->line->address, address, sizeof(address));
        switch (r->type) {
        case ns_t_srv:
                text_printf(t, "SRV %u %s.%s %s", r->line->endpoint.port, r->line->endpoint.endpoint,
                            r->service, shown);
                break;
        case ns_t_soa:
                text_printf(t, "SOA %u", serial);
                break;
        case ns_t_a:
        case ns_t_aaaa:
                text_append(t, shown);
                break;
        default:
                text_append(t, r->type == ns_t_ns ? "NS" : "HINFO");
        }
}

static void ask(const Table *table, Random *random, const char *name, unsigned type, bool tcp) {
        _cleanup_dns_answer_ DnsAnswer answer = {};
        char *lines[2000];
        uint8_t bytes[4096];
        DnsQuery q;

        if (message_read(bytes, query_print(bytes, name, type, 0), &q) < 0 || q.rcode != ns_r_noerror ||
            zone_answer(table, &q.question, tcp, random, &answer) < 0)
                abort();
        printf("%d %d", answer.rcode, answer.authoritative);
        if (answer.negative)
                printf(" %u", answer.serial);
        else
                printf(" -");
        for (size_t i = 0; i < answer.n_records; i++) {
                Text t = {};

                print_record(&t, &answer.records[i], answer.serial);
                lines[i] = text_take(&t, NULL);
        }
        qsort(lines, answer.n_records, sizeof(*lines), text_compare);
        for (size_t i = 0; i < answer.n_records; i++) {
                printf(";%s", lines[i]);
                free(lines[i]);
        }
        printf("\n");
}

int main(void) {
        Table table = {};
        char name[1024], protocol[8];
        unsigned type;
        size_t size;
        Random random;

        log_set_max_priority(LOG_CRIT);
        random_seed(&random, 1);
        while (scanf("%1023s", name) == 1)
                if (streq(name, "new"))
                        table_done(&table);
                else if (streq(name, "file") && scanf("%1023s %zu%*c", name, &size) == 2) {
                        char *text = malloc(size + 1);

                        if (!text || fread(text, 1, size, stdin) != size)
                                abort();
                        text[size] = 0;
                        if (table_take(&table, name, text) < 0)
                                abort();
                } else if (streq(name, "ask") && scanf("%1023s %u %7s", name, &type, protocol) == 3)
                        ask(&table, &random, name, type, streq(protocol, "tcp"));
                else
                        abort();
        table_done(&table);
        return 0;
}
