/* Names and answers of the zone: each row of fleet-dns(8). */
#include "tests/lib/test.h"
#include "tests/dns/asking.h"

static const char *const files[][2] = {
        /* Three endpoints on three hosts, of which the last has an IPv6 address and two ports. */
        { "shop", "alpha-00000001 10.0.0.1 20017 tcp http " OTHER_HOST " a shop@1.container\n"
                  "beta-00000002 10.0.0.2 8080 tcp http " THIRD_HOST " b shop@2.service\n"
                  "gamma-00000003 fd00::3 8443 tcp https " THIRD_HOST " b shop@Three.service\n"
                  "gamma-00000003 fd00::3 9000 udp http " THIRD_HOST " b shop@Three.service\n" },
        { "twice", "a-00000001 10.0.0.1 1 tcp x " THIS_HOST " a t@1.service\n"
                   "a-00000002 10.0.0.1 2 tcp x " THIS_HOST " a t@2.service\n"
                   "b-00000003 10.0.0.2 2 tcp x " OTHER_HOST " a t@3.service\n"
                   "b-00000003 10.0.0.1 3 tcp x " OTHER_HOST " a t@3.service\n" },
        { "move", "a-00000001 10.0.0.1 1 tcp x " THIS_HOST " a m@7.service\n"
                  "b-00000002 10.0.0.2 2 tcp x " OTHER_HOST " a m@7.service\n" },
        /* Instances that are no labels. */
        { "odd", "a-00000001 10.0.0.1 1 tcp x " THIS_HOST " a m@a-.service\n"
                 "b-00000002 10.0.0.2 2 tcp x " OTHER_HOST " a m@.service\n"
                 "c-00000003 10.0.0.3 2 tcp x " OTHER_HOST " a m.service\n" },
        /* Labels with several meanings. */
        { "same", "b-00000002 10.0.0.2 1 tcp x " THIS_HOST " a s@near.service\n"
                  "near 10.0.0.3 1 tcp x " OTHER_HOST " a s@b-00000002.service\n" },
        { "db", "a-00000001 10.0.0.1 1 tcp x " OTHER_HOST " - d@1.service\n"
                "b-00000002 10.0.0.2 1 tcp x " THIRD_HOST " b d@2.service\n" },
        { "job", "a-00000001 10.0.0.1 0 tcp - " THIS_HOST " a job.service\n" },
        /* Two endpoints of one label. */
        { "pair", "a-00000001 10.0.0.1 1 tcp x " THIS_HOST " a t.service\n"
                  "a-00000001 10.0.0.2 2 tcp x " OTHER_HOST " a u.service\n" },
        { "empty", "" },
};

static int setup_files(void **state) {
        setup(state);
        for (size_t i = 0; i < ELEMENTS(files); i++)
                table_file(&((Fixture *) *state)->table, files[i][0], files[i][1]);
        return 0;
}

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Return the data of the records of a section, sorted and separated by ", ". */
static const char *data(const Decoded *d, int section) {
        static char text[4096];
        const char *all[64];
        size_t n = 0;

        text[0] = 0;
        for (size_t i = 0; i < d->n; i++)
                if (d->records[i].section == section)
                        all[n++] = d->records[i].text;
        qsort(all, n, sizeof(*all), compare);
        for (size_t i = 0; i < n; i++) {
                strcat(text, i > 0 ? ", " : "");
                strcat(text, all[i]);
        }
        return text;
}

#define SOA "ns.fleet. hostmaster.fleet. 77 60 30 3600 1"

/* The answer has these records, whose owner is the question, and their TTL 1 s. */
static void has(const Decoded *d, const char *records) {
        assert_int_equal(d->rcode, ns_r_noerror);
        assert_true(d->flags & FLAG_AA);
        assert_string_equal(data(d, 1), records);
        for (size_t i = 0; i < d->n; i++) {
                assert_int_equal(d->records[i].ttl, 1);
                assert_int_equal(d->records[i].class, 1);
                if (d->records[i].section == 1)
                        assert_string_equal(d->records[i].name, d->question);
        }
        assert_string_equal(data(d, 2), "");
}

static void is_negative(const Decoded *d, unsigned rcode) {
        assert_int_equal(d->rcode, rcode);
        assert_true(d->flags & FLAG_AA);
        assert_false(d->flags & FLAG_TC);
        assert_int_equal(d->n, 1);
        assert_string_equal(data(d, 2), SOA);
        assert_string_equal(d->records[0].name, "fleet.");
        assert_int_equal(d->records[0].ttl, 1);
}

#define ALPHA "10 100 20017 alpha-00000001.shop.service.fleet."
#define BETA  "10 100 8080 beta-00000002.shop.service.fleet."
#define GAMMA "10 100 8443 gamma-00000003.shop.service.fleet."

/* A question, and the records of the answer; or one of: */
#define NODATA  "NODATA"
#define NO_NAME "NXDOMAIN"
typedef struct Row {
        const char *name;
        unsigned type;
        const char *records;
} Row;

static void check_rows(Fixture *f, const Row *rows, size_t n) {
        for (const Row *row = rows; row < rows + n; row++) {
                const Decoded *d = ask(f, row->name, row->type, 1232, false);

                if (streq(row->records, NODATA) || streq(row->records, NO_NAME))
                        is_negative(d, streq(row->records, NODATA) ? ns_r_noerror : ns_r_nxdomain);
                else
                        has(d, row->records);
        }
}

static void each_name_has_its_records(void **state) {
        static const Row rows[] = {
                /* A service: the addresses of all endpoints, each once; their first ports. */
                { "shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" },
                { "shop.service.fleet", ns_t_aaaa, "fd00::3" },
                { "shop.service.fleet", ns_t_srv, ALPHA ", " BETA ", " GAMMA },
                { "shop.service.fleet", ns_t_any, "\"RFC8482\" \"\"" },
                { "ShOp.SERVICE.fleeT", ns_t_a, "10.0.0.1, 10.0.0.2" },
                { "twice.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" },
                { "pair.service.fleet", ns_t_srv,
                  "10 100 1 a-00000001.pair.service.fleet., 10 100 2 a-00000001.pair.service.fleet." },
                { "job.service.fleet", ns_t_a, "10.0.0.1" },
                { "job.service.fleet", ns_t_srv, NODATA },
                { "shop.service.fleet", 65, NODATA },
                { "shop.service.fleet", 0, NODATA },
                { "shop.service.fleet", 65535, NODATA },
                { "shop.service.fleet", ns_t_ns, NODATA },
                { "shop.service.fleet", ns_t_soa, NODATA },
                { "empty.service.fleet", ns_t_a, NO_NAME },
                { "other.service.fleet", ns_t_any, NO_NAME },
                { "sho.service.fleet", ns_t_a, NO_NAME },
                { "shopp.service.fleet", ns_t_a, NO_NAME },
                { "service.fleet", ns_t_a, NODATA },
                { "service.fleet", ns_t_srv, NODATA },
                /* A port: the endpoints with this name and protocol. */
                { "_http._tcp.shop.service.fleet", ns_t_srv, ALPHA ", " BETA },
                { "_HTTP._UDP.shop.service.fleet", ns_t_srv,
                  "10 100 9000 gamma-00000003.shop.service.fleet." },
                { "_http._tcp.shop.service.fleet", ns_t_a, NODATA },
                { "_http._tcp.shop.service.fleet", ns_t_aaaa, NODATA },
                { "_tcp.shop.service.fleet", ns_t_srv, NODATA },
                { "_udp.shop.service.fleet", ns_t_a, NODATA },
                { "_https._udp.shop.service.fleet", ns_t_srv, NO_NAME },
                { "_._tcp.shop.service.fleet", ns_t_srv, NO_NAME },
                { "_sctp.shop.service.fleet", ns_t_a, NO_NAME },
                { "http._tcp.shop.service.fleet", ns_t_a, NO_NAME },
                { "_tcp.job.service.fleet", ns_t_srv, NO_NAME },
                { "_-._tcp.job.service.fleet", ns_t_srv, NO_NAME },
                /* An endpoint, and before it near; an instance after it. */
                { "beta-00000002.shop.service.fleet", ns_t_a, "10.0.0.2" },
                { "gamma-00000003.shop.service.fleet", ns_t_aaaa, "fd00::3" },
                { "gamma-00000003.shop.service.fleet", ns_t_a, NODATA },
                { "beta-00000002.shop.service.fleet", ns_t_srv, NODATA },
                { "x.beta-00000002.shop.service.fleet", ns_t_a, NO_NAME },
                { "near.same.service.fleet", ns_t_a, "10.0.0.2" },
                { "b-00000002.same.service.fleet", ns_t_a, "10.0.0.2" },
                { "b-00000002.same.service.fleet", ns_t_srv, NODATA },
                { "1.shop.service.fleet", ns_t_a, "10.0.0.1" },
                { "1.shop.service.fleet", ns_t_srv, ALPHA },
                { "1.shop.service.fleet", ns_t_aaaa, NODATA },
                { "_http._tcp.1.shop.service.fleet", ns_t_srv, NO_NAME },
                { "three.shop.service.fleet", ns_t_aaaa, NO_NAME },
                { "7.move.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" },
                { "a-.odd.service.fleet", ns_t_a, NO_NAME },
                { "m.odd.service.fleet", ns_t_a, NO_NAME },
                { "odd.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2, 10.0.0.3" },
                /* The zone itself, and other names in it. */
                { "fleet", ns_t_soa, SOA },
                { "fleet", ns_t_ns, "ns.fleet." },
                { "fleet", ns_t_any, "\"RFC8482\" \"\"" },
                { "fleet", ns_t_srv, NODATA },
                { "fleet", ns_t_a, NODATA },
                { "ns.fleet", ns_t_a, ZONE_ADDRESS },
                { "ns.fleet", ns_t_srv, NODATA },
                { "ns.fleet", ns_t_aaaa, NODATA },
                { "x.ns.fleet", ns_t_a, NO_NAME },
                { "other.fleet", ns_t_a, NO_NAME },
                { "near.service.fleet", ns_t_a, NO_NAME },
                { "a.b.c.d.e.f.g.h.i.shop.service.fleet", ns_t_a, NO_NAME },
                { "x._http._tcp.near.shop.service.fleet", ns_t_a, NO_NAME },
        };
        Fixture *f = *state;

        check_rows(f, rows, ELEMENTS(rows));
        has(ask(f, "shop.service.fleet", ns_t_srv, 1232, false), rows[2].records);
        assert_string_equal(data(&f->decoded, 3), "10.0.0.1, 10.0.0.2, fd00::3");
}

static void near_is_this_host_or_its_zone_or_all(void **state) {
        static const struct {
                const char *host;
                Row row;
        } rows[] = {
                { THIRD_HOST " here a", { "near.shop.service.fleet", ns_t_a, "10.0.0.2" } },
                { THIRD_HOST " here a", { "near.shop.service.fleet", ns_t_aaaa, "fd00::3" } },
                { THIS_HOST " here a", { "near.shop.service.fleet", ns_t_a, "10.0.0.1" } },
                { THIS_HOST " here a", { "near.shop.service.fleet", ns_t_srv, ALPHA } },
                { THIS_HOST " here a", { "_http._tcp.near.shop.service.fleet", ns_t_srv, ALPHA } },
                { THIS_HOST " here a", { "_https._tcp.near.shop.service.fleet", ns_t_srv, GAMMA } },
                { THIS_HOST " here a", { "_tcp.near.shop.service.fleet", ns_t_srv, NODATA } },
                { THIS_HOST " here a", { "1.near.shop.service.fleet", ns_t_a, NO_NAME } },
                { THIS_HOST " here c", { "near.shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" } },
                /* Hosts without a zone are in no zone. */
                { THIS_HOST " here -", { "near.db.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" } },
        };
        Fixture *f = *state;
        char host[128];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                snprintf(host, sizeof(host), "77 %s complete\n", rows[i].host);
                table_file(&f->table, ".host", host);
                check_rows(f, &rows[i].row, 1);
        }
}

/* Labels are compared by size, not as strings: of a byte 0, of a dot, and of 63 bytes. */
static void labels_of_any_bytes_are_compared_whole(void **state) {
        static const char *const labels[] = { "\4sh\0p", "\4sh.p", "\5shop", "\4.hos", "\4sho\xff" };
        static const size_t sizes[] = { 5, 5, 6, 5, 5 };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(labels); i++) {
                uint8_t bytes[512];
                size_t n;

                query_print(bytes, ".", ns_t_a, 0);
                n = 12;
                memcpy(bytes + n, labels[i], sizes[i]);
                n += sizes[i];
                memcpy(bytes + n, "\7service\5fleet\0\0\1\0\1", 19);
                is_negative(ask_bytes(f, bytes, n + 19, false), ns_r_nxdomain);
        }
}

static void what_the_files_do_not_say_yet_is_servfail(void **state) {
        static const Row known[] = {
                { "shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2" },
                { "shop.service.fleet", 65, NODATA },
                { "fleet", ns_t_soa, SOA },
                { "service.fleet", ns_t_a, NODATA },
                { "other.fleet", ns_t_a, NO_NAME },
        };
        static const char *const unknown[] = { "other.service.fleet", "_x._tcp.shop.service.fleet",
                                               "shop.service.fleet" };
        Fixture *f = *state;

        table_file(&f->table, ".host", "77 " THIS_HOST " here a partial\n");
        check_rows(f, known, ELEMENTS(known));
        for (size_t i = 0; i < ELEMENTS(unknown); i++) {
                if (i == 2)
                        table_done(&f->table); /* no folder yet */
                assert_int_equal(ask(f, unknown[i], ns_t_a, 1232, false)->rcode, ns_r_servfail);
                assert_int_equal(f->decoded.n, 0);
                assert_false(f->decoded.flags & FLAG_AA);
        }
        has(ask(f, "ns.fleet", ns_t_a, 1232, false), ZONE_ADDRESS);
}

static void other_classes_and_transfers_are_refused(void **state) {
        static const unsigned rows[][2] = { /* type, class */
                                            { ns_t_a, 3 },
                                            { ns_t_a, 255 },
                                            { ns_t_axfr, 1 },
                                            { ns_t_ixfr, 1 }
        };
        Fixture *f = *state;
        uint8_t bytes[512];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                size_t n = query_print(bytes, "fleet", rows[i][0], 0);

                bytes[n - 1] = (uint8_t) rows[i][1];
                assert_int_equal(ask_bytes(f, bytes, n, false)->rcode, ns_r_refused);
                assert_int_equal(f->decoded.n, 0);
        }
}

static void only_names_that_end_in_fleet_are_in_the_zone(void **state) {
        static const char *const names[] = { ".",      "com",  "fleet.com",
                                             "xfleet", "flee", "service.fleet.example.com" };
        uint8_t bytes[512];
        DnsQuery q;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                assert_int_equal(message_read(bytes, query_print(bytes, names[i], ns_t_a, 0), &q), 0);
                assert_int_equal(q.rcode, 0);
                assert_false(zone_contains(&q.question));
        }
}

/* 40 hosts: over UDP 16 of them without TC; each is first and selected sometimes. */
static void addresses_are_a_random_selection(void **state) {
        Fixture *f = *state;
        unsigned selected[40] = {}, first[40] = {};

        endpoints(f, "big", 40, false, 0);
        for (int run = 0; run < 400; run++) {
                const Decoded *d = ask(f, "big.service.fleet", ns_t_a, 1232, false);

                assert_int_equal(d->counts[1], 16);
                for (size_t i = 0; i < d->n; i++)
                        selected[atoi(strrchr(d->records[i].text, '.') + 1)]++;
                first[atoi(strrchr(d->records[0].text, '.') + 1)]++;
        }
        for (int i = 0; i < 40; i++) {
                assert_in_range(selected[i], 120, 200); /* 160 */
                assert_in_range(first[i], 1, 30);       /* 10 */
        }
}

/* At most 16 over UDP and 1,000 over TCP. The longest name of a service leaves no room for 16 AAAA in 512
 * bytes. */
static void addresses_that_are_too_many_are_left_out_without_tc(void **state) {
        static const char longest[] = "sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss";
        static const struct {
                const char *service;
                unsigned n_endpoints;
                bool ip6, tcp;
                unsigned n;
        } rows[] = {
                { "big", 40, false, false, 16 },
                { "big", 40, false, true, 40 },
                { "big", 1200, false, true, 1000 },
                { longest, 16, true, false, (512 - 12 - 84 - 4) / 28 },
        };
        Fixture *f = *state;
        char name[128];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                endpoints(f, rows[i].service, rows[i].n_endpoints, rows[i].ip6, 0);
                snprintf(name, sizeof(name), "near.%s.service.fleet", rows[i].service);
                assert_int_equal(ask(f, name, rows[i].ip6 ? ns_t_aaaa : ns_t_a, 0, rows[i].tcp)->counts[1],
                                 rows[i].n);
                assert_false(f->decoded.flags & FLAG_TC);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_files, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(each_name_has_its_records),
                TEST(near_is_this_host_or_its_zone_or_all),
                TEST(labels_of_any_bytes_are_compared_whole),
                TEST(what_the_files_do_not_say_yet_is_servfail),
                TEST(other_classes_and_transfers_are_refused),
                cmocka_unit_test(only_names_that_end_in_fleet_are_in_the_zone),
                TEST(addresses_are_a_random_selection),
                TEST(addresses_that_are_too_many_are_left_out_without_tc),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
