/* Names and answers of the zone: each row of fleet-dns(8). */
#include "tests/lib/test.h"
#include "dns/zone.h"
#include "tests/dns/decoder.h"
#include "tests/dns/queries.h"

#define LINE(endpoint, address, port, protocol, name, machine, zone, unit) \
        endpoint " " address " " port " " protocol " " name " " machine " " zone " " unit "\n"

/* Three endpoints on three hosts, of which the last has an IPv6 address and two ports; one without a port. */
static const char shop[] = LINE("alpha-00000001", "10.0.0.1", "20017", "tcp", "http", OTHER_HOST, "a",
                                "shop@1.container") LINE("beta-00000002", "10.0.0.2", "8080", "tcp", "http",
                                                         THIRD_HOST, "b", "shop@2.service")
        LINE("gamma-00000003", "fd00::3", "8443", "tcp", "https", THIRD_HOST, "b", "shop@Three.service") LINE(
                "gamma-00000003", "fd00::3", "9000", "udp", "http", THIRD_HOST, "b", "shop@Three.service");

typedef struct Fixture {
        Table table;
        Random random;
        Decoded decoded;
        size_t size;
} Fixture;

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        random_seed(&f->random, 1);
        table_file(&f->table, ".host", "77 " THIS_HOST " here a complete\n");
        table_file(&f->table, "shop", shop);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        table_done(&f->table);
        free(f);
        return 0;
}

/* Ask a query of these bytes. */
static const Decoded *ask_bytes(Fixture *f, const uint8_t *bytes, size_t size, bool tcp) {
        _cleanup_dns_answer_ DnsAnswer answer = {};
        _cleanup_free_ uint8_t *out = NULL;
        DnsQuery q;

        assert_int_equal(message_read(bytes, size, &q), 0);
        answer.rcode = q.rcode;
        if (q.rcode == 0) {
                assert_true(zone_contains(&q.question));
                assert_int_equal(zone_answer(&f->table, &q.question, tcp, &f->random, &answer), 0);
        }
        assert_int_equal(message_write(&q, &answer, true, tcp, &out, &f->size), 0);
        assert_null(decode(out, f->size, &f->decoded));
        /* The question is echoed byte for byte. */
        assert_memory_equal(out + 12, bytes + 12, q.question_size);
        assert_true(f->decoded.flags & FLAG_QR && f->decoded.flags & FLAG_RD && f->decoded.flags & FLAG_RA);
        assert_int_equal(f->decoded.id, 0x1234);
        return &f->decoded;
}

static const Decoded *ask(Fixture *f, const char *name, unsigned type) {
        uint8_t bytes[4096];

        return ask_bytes(f, bytes, query_print(bytes, name, type, 1232), false);
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

#define HAS(name, type, records) has(ask(f, name, type), records)
#define NODATA(name, type)       is_negative(ask(f, name, type), ns_r_noerror)
#define NO_NAME(name, type)      is_negative(ask(f, name, type), ns_r_nxdomain)

static void a_service_has_the_addresses_of_all_endpoints_each_once(void **state) {
        Fixture *f = *state;

        HAS("shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
        HAS("shop.service.fleet", ns_t_aaaa, "fd00::3");
        table_file(&f->table, "twice",
                   LINE("a-00000001", "10.0.0.1", "1", "tcp", "x", THIS_HOST, "a", "t@1.service")
                           LINE("a-00000002", "10.0.0.1", "2", "tcp", "x", THIS_HOST, "a", "t@2.service")
                                   LINE("b-00000003", "10.0.0.2", "2", "tcp", "x", OTHER_HOST, "a",
                                        "t@3.service") LINE("b-00000003", "10.0.0.1", "3", "tcp", "x",
                                                            OTHER_HOST, "a", "t@3.service"));
        HAS("twice.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
}

static void a_service_has_the_first_port_of_each_endpoint(void **state) {
        Fixture *f = *state;

        HAS("shop.service.fleet", ns_t_srv,
            "10 100 20017 alpha-00000001.shop.service.fleet., 10 100 8080 beta-00000002.shop.service.fleet., "
            "10 100 8443 gamma-00000003.shop.service.fleet.");
        assert_string_equal(data(&f->decoded, 3), "10.0.0.1, 10.0.0.2, fd00::3");
}

static void a_port_has_each_endpoint_with_this_name_and_protocol(void **state) {
        Fixture *f = *state;

        HAS("_http._tcp.shop.service.fleet", ns_t_srv,
            "10 100 20017 alpha-00000001.shop.service.fleet., 10 100 8080 beta-00000002.shop.service.fleet.");
        HAS("_http._udp.shop.service.fleet", ns_t_srv, "10 100 9000 gamma-00000003.shop.service.fleet.");
        NODATA("_http._tcp.shop.service.fleet", ns_t_a);
        NODATA("_http._tcp.shop.service.fleet", ns_t_aaaa);
        NO_NAME("_https._udp.shop.service.fleet", ns_t_srv);
        NO_NAME("_-._tcp.shop.service.fleet", ns_t_srv);
        NO_NAME("_._tcp.shop.service.fleet", ns_t_srv);
}

static void an_endpoint_has_its_address(void **state) {
        Fixture *f = *state;

        HAS("beta-00000002.shop.service.fleet", ns_t_a, "10.0.0.2");
        HAS("gamma-00000003.shop.service.fleet", ns_t_aaaa, "fd00::3");
        NODATA("gamma-00000003.shop.service.fleet", ns_t_a);
        NODATA("beta-00000002.shop.service.fleet", ns_t_srv);
}

static void an_instance_has_its_endpoints_and_their_first_ports(void **state) {
        Fixture *f = *state;

        HAS("1.shop.service.fleet", ns_t_a, "10.0.0.1");
        HAS("1.shop.service.fleet", ns_t_srv, "10 100 20017 alpha-00000001.shop.service.fleet.");
        NODATA("1.shop.service.fleet", ns_t_aaaa);
        NO_NAME("_http._tcp.1.shop.service.fleet", ns_t_srv);
        /* Two during a move. */
        table_file(&f->table, "move",
                   LINE("a-00000001", "10.0.0.1", "1", "tcp", "x", THIS_HOST, "a", "m@7.service")
                           LINE("b-00000002", "10.0.0.2", "2", "tcp", "x", OTHER_HOST, "a", "m@7.service"));
        HAS("7.move.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
}

static void an_instance_that_is_no_label_has_no_name(void **state) {
        Fixture *f = *state;

        NO_NAME("three.shop.service.fleet", ns_t_aaaa);
        table_file(&f->table, "odd",
                   LINE("a-00000001", "10.0.0.1", "1", "tcp", "x", THIS_HOST, "a", "m@a-.service") LINE(
                           "b-00000002", "10.0.0.2", "2", "tcp", "x", OTHER_HOST, "a", "m@.service")
                           LINE("c-00000003", "10.0.0.3", "2", "tcp", "x", OTHER_HOST, "a", "m.service"));
        NO_NAME("a-.odd.service.fleet", ns_t_a);
        NO_NAME("m.odd.service.fleet", ns_t_a);
        HAS("odd.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2, 10.0.0.3");
}

static void near_is_this_host_or_its_zone_or_all(void **state) {
        Fixture *f = *state;

        HAS("near.shop.service.fleet", ns_t_a, "10.0.0.1"); /* the zone of this host */
        HAS("near.shop.service.fleet", ns_t_srv, "10 100 20017 alpha-00000001.shop.service.fleet.");
        HAS("_http._tcp.near.shop.service.fleet", ns_t_srv,
            "10 100 20017 alpha-00000001.shop.service.fleet.");
        HAS("_https._tcp.near.shop.service.fleet", ns_t_srv,
            "10 100 8443 gamma-00000003.shop.service.fleet.");
        NODATA("_tcp.near.shop.service.fleet", ns_t_srv);
        NO_NAME("1.near.shop.service.fleet", ns_t_a);
        table_file(&f->table, ".host", "77 " THIRD_HOST " here a complete\n"); /* this host */
        HAS("near.shop.service.fleet", ns_t_a, "10.0.0.2");
        HAS("near.shop.service.fleet", ns_t_aaaa, "fd00::3");
        table_file(&f->table, ".host", "77 " THIS_HOST " here c complete\n"); /* all */
        HAS("near.shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
        /* Hosts without a zone are in no zone. */
        table_file(&f->table, ".host", "77 " THIS_HOST " here - complete\n");
        table_file(&f->table, "db",
                   LINE("a-00000001", "10.0.0.1", "1", "tcp", "x", OTHER_HOST, "-", "d@1.service")
                           LINE("b-00000002", "10.0.0.2", "1", "tcp", "x", THIRD_HOST, "b", "d@2.service"));
        HAS("near.db.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
}

static void near_comes_before_an_endpoint_and_this_before_an_instance(void **state) {
        Fixture *f = *state;

        table_file(&f->table, "same",
                   LINE("b-00000002", "10.0.0.2", "1", "tcp", "x", THIS_HOST, "a", "s@near.service") LINE(
                           "near", "10.0.0.3", "1", "tcp", "x", OTHER_HOST, "a", "s@b-00000002.service"));
        HAS("near.same.service.fleet", ns_t_a, "10.0.0.2");
        HAS("b-00000002.same.service.fleet", ns_t_a, "10.0.0.2");
        NODATA("b-00000002.same.service.fleet", ns_t_srv);
}

static void the_zone_has_soa_and_ns_and_ns_has_the_address(void **state) {
        Fixture *f = *state;

        HAS("fleet", ns_t_soa, SOA);
        HAS("fleet", ns_t_ns, "ns.fleet.");
        HAS("ns.fleet", ns_t_a, ZONE_ADDRESS);
        NODATA("fleet", ns_t_srv);
        NODATA("fleet", ns_t_a);
        NODATA("ns.fleet", ns_t_srv);
        NODATA("ns.fleet", ns_t_aaaa);
}

static void a_name_without_this_type_or_with_names_below_it_is_nodata(void **state) {
        static const unsigned types[] = { 65, 16, 15, 12, 5, 0, 65535, ns_t_ns, ns_t_soa };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(types); i++)
                NODATA("shop.service.fleet", types[i]);
        NODATA("service.fleet", ns_t_a);
        NODATA("service.fleet", ns_t_srv);
        NODATA("_tcp.shop.service.fleet", ns_t_srv);
        NODATA("_udp.shop.service.fleet", ns_t_a);
}

static void other_names_are_nxdomain(void **state) {
        static const char *const names[] = {
                "other.fleet",
                "shop.fleet",
                "near.service.fleet",
                "_sctp.shop.service.fleet",
                "http._tcp.shop.service.fleet",
                "x.beta-00000002.shop.service.fleet",
                "_tcp.1.shop.service.fleet",
                "ns.service.fleet",
                "service.service.fleet",
                "x.ns.fleet",
                "sho.service.fleet",
                "shopp.service.fleet",
                "a.b.c.d.e.f.g.h.i.shop.service.fleet",
                "\\000.service.fleet",
                "x._http._tcp.near.shop.service.fleet",
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                NO_NAME(names[i], ns_t_a);
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

static void a_service_without_endpoints_is_nxdomain(void **state) {
        Fixture *f = *state;

        table_file(&f->table, "empty", "");
        NO_NAME("empty.service.fleet", ns_t_a);
        table_file(&f->table, "shop", NULL);
        NO_NAME("shop.service.fleet", ns_t_a);
        NO_NAME("_http._tcp.shop.service.fleet", ns_t_srv);
}

static void an_endpoint_without_ports_has_addresses_only(void **state) {
        Fixture *f = *state;

        table_file(&f->table, "job",
                   LINE("a-00000001", "10.0.0.1", "0", "tcp", "-", THIS_HOST, "a", "job.service"));
        HAS("job.service.fleet", ns_t_a, "10.0.0.1");
        NODATA("job.service.fleet", ns_t_srv);
        NO_NAME("_tcp.job.service.fleet", ns_t_srv);
        NO_NAME("_-._tcp.job.service.fleet", ns_t_srv);
}

static void what_the_files_do_not_say_yet_is_servfail(void **state) {
        Fixture *f = *state;

        table_file(&f->table, ".host", "77 " THIS_HOST " here a partial\n");
        HAS("shop.service.fleet", ns_t_a, "10.0.0.1, 10.0.0.2");
        NODATA("shop.service.fleet", 65);
        assert_int_equal(ask(f, "other.service.fleet", ns_t_a)->rcode, ns_r_servfail);
        assert_int_equal(f->decoded.n, 0);
        assert_false(f->decoded.flags & FLAG_AA);
        assert_int_equal(ask(f, "_x._tcp.shop.service.fleet", ns_t_srv)->rcode, ns_r_servfail);
        HAS("fleet", ns_t_soa, SOA);
        NODATA("service.fleet", ns_t_a);
        NO_NAME("other.fleet", ns_t_a);

        table_done(&f->table); /* no folder yet */
        assert_int_equal(ask(f, "shop.service.fleet", ns_t_a)->rcode, ns_r_servfail);
        HAS("ns.fleet", ns_t_a, ZONE_ADDRESS);
}

static void other_classes_and_transfers_are_refused(void **state) {
        Fixture *f = *state;
        uint8_t bytes[512];
        size_t n;

        n = query_print(bytes, "shop.service.fleet", ns_t_a, 0);
        bytes[n - 1] = 3; /* CH */
        assert_int_equal(ask_bytes(f, bytes, n, false)->rcode, ns_r_refused);
        bytes[n - 1] = 255;
        assert_int_equal(ask_bytes(f, bytes, n, false)->rcode, ns_r_refused);
        assert_int_equal(ask(f, "fleet", ns_t_axfr)->rcode, ns_r_refused);
        assert_int_equal(ask(f, "fleet", ns_t_ixfr)->rcode, ns_r_refused);
        assert_int_equal(f->decoded.n, 0);
}

static void any_is_one_hinfo(void **state) {
        Fixture *f = *state;

        HAS("shop.service.fleet", ns_t_any, "\"RFC8482\" \"\"");
        HAS("fleet", ns_t_any, "\"RFC8482\" \"\"");
        NO_NAME("other.service.fleet", ns_t_any);
}

static void names_are_compared_without_case_and_echoed_with_it(void **state) {
        Fixture *f = *state;

        HAS("ShOp.SERVICE.fleeT", ns_t_a, "10.0.0.1, 10.0.0.2");
        assert_string_equal(f->decoded.question, "ShOp.SERVICE.fleeT.");
        HAS("_HTTP._TCP.NEAR.shop.service.fleet", ns_t_srv,
            "10 100 20017 alpha-00000001.shop.service.fleet.");
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

/* 40 hosts: over UDP 16 of them without TC, over TCP all; each is first and selected sometimes. */
static void addresses_are_a_random_selection_of_16_over_udp_without_tc(void **state) {
        _cleanup_text_ Text text = {};
        Fixture *f = *state;
        unsigned selected[40] = {}, first[40] = {};
        uint8_t bytes[512];

        for (int i = 0; i < 40; i++)
                text_printf(&text, "h%d-00000001 10.0.0.%d 80 tcp http %s a big@%d.service\n", i, i,
                            OTHER_HOST, i);
        table_file(&f->table, "big", text.chars);
        for (int run = 0; run < 400; run++) {
                const Decoded *d = ask(f, "big.service.fleet", ns_t_a);

                assert_int_equal(d->counts[1], 16);
                assert_false(d->flags & FLAG_TC);
                for (size_t i = 0; i < d->n; i++)
                        selected[atoi(strrchr(d->records[i].text, '.') + 1)]++;
                first[atoi(strrchr(d->records[0].text, '.') + 1)]++;
        }
        for (int i = 0; i < 40; i++) {
                assert_in_range(selected[i], 120, 200); /* 160 */
                assert_in_range(first[i], 1, 30);       /* 10 */
        }
        assert_int_equal(
                ask_bytes(f, bytes, query_print(bytes, "big.service.fleet", ns_t_a, 0), true)->counts[1], 40);
        assert_int_equal(
                ask_bytes(f, bytes, query_print(bytes, "big.service.fleet", ns_t_a, 0), false)->counts[1],
                16);
}

static void addresses_over_tcp_are_at_most_1000(void **state) {
        _cleanup_text_ Text text = {};
        Fixture *f = *state;
        uint8_t bytes[512];

        for (int i = 0; i < 1200; i++)
                text_printf(&text, "h%d-00000001 10.0.%d.%d 80 tcp http %s a big@%d.service\n", i, i / 250,
                            i % 250, OTHER_HOST, i);
        table_file(&f->table, "big", text.chars);
        assert_int_equal(
                ask_bytes(f, bytes, query_print(bytes, "big.service.fleet", ns_t_a, 0), true)->counts[1],
                1000);
        assert_false(f->decoded.flags & FLAG_TC);
}

/* The longest name of a service leaves no room for 16 AAAA in 512 bytes: fewer, without TC. */
static void addresses_that_do_not_fit_are_left_out_without_tc(void **state) {
        _cleanup_text_ Text text = {};
        Fixture *f = *state;
        char service[64], name[128];
        uint8_t bytes[512];
        const Decoded *d;

        memset(service, 's', 63);
        service[63] = 0;
        snprintf(name, sizeof(name), "near.%s.service.fleet", service);
        for (int i = 0; i < 16; i++)
                text_printf(&text, "h%d-00000001 fd00::%x 80 tcp http %s a big@%d.service\n", i, i + 1,
                            OTHER_HOST, i);
        table_file(&f->table, service, text.chars);
        d = ask_bytes(f, bytes, query_print(bytes, name, ns_t_aaaa, 0), false);
        assert_int_equal(d->counts[1], (512 - 12 - 84 - 4) / 28);
        assert_false(d->flags & FLAG_TC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_service_has_the_addresses_of_all_endpoints_each_once),
                TEST(a_service_has_the_first_port_of_each_endpoint),
                TEST(a_port_has_each_endpoint_with_this_name_and_protocol),
                TEST(an_endpoint_has_its_address),
                TEST(an_instance_has_its_endpoints_and_their_first_ports),
                TEST(an_instance_that_is_no_label_has_no_name),
                TEST(near_is_this_host_or_its_zone_or_all),
                TEST(near_comes_before_an_endpoint_and_this_before_an_instance),
                TEST(the_zone_has_soa_and_ns_and_ns_has_the_address),
                TEST(a_name_without_this_type_or_with_names_below_it_is_nodata),
                TEST(other_names_are_nxdomain),
                TEST(labels_of_any_bytes_are_compared_whole),
                TEST(a_service_without_endpoints_is_nxdomain),
                TEST(an_endpoint_without_ports_has_addresses_only),
                TEST(what_the_files_do_not_say_yet_is_servfail),
                TEST(other_classes_and_transfers_are_refused),
                TEST(any_is_one_hinfo),
                TEST(names_are_compared_without_case_and_echoed_with_it),
                TEST(only_names_that_end_in_fleet_are_in_the_zone),
                TEST(addresses_are_a_random_selection_of_16_over_udp_without_tc),
                TEST(addresses_over_tcp_are_at_most_1000),
                TEST(addresses_that_do_not_fit_are_left_out_without_tc),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
