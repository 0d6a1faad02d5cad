/* Messages: answers of each size, and queries of any bytes. */
#include "tests/lib/test.h"
#include "tests/dns/asking.h"

enum { OPT = 11, HEAD = 12 };

/* Each SRV record is one of the endpoints, and once; each additional record is the address of one of them. */
static void check_records(const Decoded *d, bool ip6) {
        bool seen[2000] = {};
        unsigned number;

        for (size_t i = 0; i < d->n; i++) {
                const DecodedRecord *r = &d->records[i];
                const char *host = r->section == 1 ? strrchr(r->text, ' ') + 2 : r->name + 1;

                number = (unsigned) strtoul(host, NULL, 10);
                assert_in_range(number, 0, ELEMENTS(seen) - 1);
                assert_int_equal(r->type, r->section == 1 ? ns_t_srv : (ip6 ? ns_t_aaaa : ns_t_a));
                if (r->section == 1) {
                        assert_string_equal(r->name, "big.service.fleet.");
                        assert_false(seen[number]);
                        seen[number] = true;
                } else {
                        char address[64];

                        snprintf(address, sizeof(address), ip6 ? "fd00::%x" : "10.0.%u.%u",
                                 ip6 ? number + 1 : number / 250, number % 250);
                        assert_string_equal(r->text, address);
                        assert_true(seen[number]);
                }
        }
}

/* All numbers follow from the size: records of one length. */
static void check_size(Fixture *f, unsigned n, unsigned max, unsigned udp_size, bool ip6) {
        unsigned srv = 2 + 10 + 6 + 1 + 14 + 1 + 3 + 15, address = 2 + 10 + (ip6 ? 16 : 4);
        unsigned left = max - HEAD - (19 + 4) - (udp_size > 0 ? OPT : 0), n_srv = MIN(n, left / srv);
        unsigned n_addresses = MIN(n_srv, (left - n_srv * srv) / address);
        const Decoded *d = ask(f, "big.service.fleet", ns_t_srv, udp_size, max == NS_MAXMSG);

        assert_in_range(f->size, HEAD, max);
        assert_int_equal(d->counts[1], n_srv);
        assert_int_equal(d->counts[2], 0);
        assert_int_equal(d->counts[3], n_addresses + (udp_size > 0));
        assert_int_equal(!!(d->flags & FLAG_TC), n_srv < n);
        check_records(d, ip6);
}

static const unsigned numbers[] = { 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 500 };

/* Targets of 500 endpoints are beyond the offset of 16 KiB that a pointer can have. */
static void answers_have_as_many_srv_records_as_fit_and_else_tc(void **state) {
        static const struct {
                unsigned max, udp_size;
        } sizes[] = { { 512, 512 },    { 1232, 1232 }, { 4096, 4096 },
                      { 8192, 8192 },  { 512, 0 },     { NS_MAXMSG, 0 }, /* over TCP */
                      { 8192, 65535 }, { 512, 1 },     { 512, 511 } };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(numbers); i++)
                for (int ip6 = 0; ip6 < 2; ip6++) {
                        endpoints(f, "big", numbers[i], ip6, 0);
                        for (size_t k = 0; k < ELEMENTS(sizes); k++)
                                check_size(f, numbers[i], sizes[k].max, sizes[k].udp_size, ip6);
                }
}

static void answers_are_right_around_each_size_where_one_more_record_fits(void **state) {
        unsigned srv = 2 + 10 + 6 + 1 + 14 + 1 + 3 + 15, address = 16, head = HEAD + 23 + OPT;
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(numbers); i++) {
                unsigned n = numbers[i];

                endpoints(f, "big", n, false, 0);
                for (unsigned k = 1; k <= 2 * n; k++) {
                        /* The k-th SRV record, and then the addresses after all SRV records. */
                        unsigned point = k <= n ? head + k * srv : head + n * srv + (k - n) * address;

                        for (unsigned size = point - 2; size <= point + 1; size++)
                                if (size >= 512 && size <= 8192)
                                        check_size(f, n, size, size, false);
                }
        }
}

/* Names of different lengths: TC if and only if a record is absent, and then none of the absent ones fits. */
static void no_record_is_omitted_that_fits(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(numbers); i++) {
                endpoints(f, "big", numbers[i], false, 7);
                for (unsigned max = 512; max <= 8192; max += 97) {
                        size_t shortest = SIZE_MAX, all = 0;
                        bool seen[500] = {};
                        const Decoded *d = ask(f, "big.service.fleet", ns_t_srv, max, false);

                        assert_in_range(f->size, HEAD, max);
                        for (size_t k = 0; k < d->n; k++)
                                if (d->records[k].section == 1) {
                                        seen[strtoul(strrchr(d->records[k].text, ' ') + 2, NULL, 10)] = true;
                                        all += 18 + strlen(strrchr(d->records[k].text, ' '));
                                }
                        for (unsigned k = 0; k < numbers[i]; k++)
                                if (!seen[k])
                                        shortest = MIN(shortest, (size_t) (18 + 34 + k * 7 % 30));
                        assert_int_equal(!!(d->flags & FLAG_TC), shortest < SIZE_MAX);
                        if (shortest < SIZE_MAX)
                                assert_true(HEAD + 23 + OPT + all + shortest > max);
                        check_records(d, false);
                }
        }
}

static void more_srv_records_than_64_kib_set_tc_over_tcp(void **state) {
        Fixture *f = *state;

        endpoints(f, "big", 2000, false, 0);
        assert_true(ask(f, "big.service.fleet", ns_t_srv, 0, true)->flags & FLAG_TC);
        assert_in_range(f->size, NS_MAXMSG - 52, NS_MAXMSG);
        check_records(&f->decoded, false);
}

/* -- Queries -- */

static uint8_t query[512];

static unsigned rcode_of(const uint8_t *bytes, size_t size) {
        DnsQuery q;

        return message_read(bytes, size, &q) < 0 ? 99 : q.rcode;
}

static void a_query_cut_at_any_byte_is_malformed_or_has_no_header(void **state) {
        size_t size = query_print(query, "shop.service.fleet", ns_t_a, 1232);

        assert_int_equal(rcode_of(query, size), 0);
        for (size_t n = 0; n < size; n++)
                assert_int_equal(rcode_of(query, n), n < 12 ? 99 : ns_r_formerr);
        assert_int_equal(rcode_of(query, size + 1), ns_r_formerr); /* bytes behind it */
        query[2] |= 0x80;                                          /* an answer */
        assert_int_equal(rcode_of(query, size), 99);
}

static void other_counts_are_malformed(void **state) {
        static const struct {
                int at;
                uint8_t value;
        } rows[] = { { 5, 0 }, { 5, 2 }, { 4, 1 },  { 7, 1 },  { 6, 1 },
                     { 9, 1 }, { 8, 1 }, { 11, 0 }, { 11, 2 }, { 10, 1 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                size_t size = query_print(query, "shop.service.fleet", ns_t_a, 1232);

                query[rows[i].at] = rows[i].value;
                assert_int_equal(rcode_of(query, size), ns_r_formerr);
        }
}

static void two_opt_and_two_tsig_are_malformed(void **state) {
        static const uint8_t tsig[] = { 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0 };
        size_t size = query_print(query, "shop.service.fleet", ns_t_a, 1232);

        query[11] = 2;
        memcpy(query + size, query + size - 11, 11);
        assert_int_equal(rcode_of(query, size + 11), ns_r_formerr);
        size = query_print(query, "shop.service.fleet", ns_t_a, 0);
        query[11] = 2;
        memcpy(query + size, tsig, 11);
        memcpy(query + size + 11, tsig, 11);
        assert_int_equal(rcode_of(query, size + 22), ns_r_formerr);
        query[11] = 1; /* one of them has no meaning here */
        assert_int_equal(rcode_of(query, size + 11), 0);
}

static void names_with_loops_and_of_wrong_sizes_are_malformed(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
        } names[] = {
                { "\xc0\x0c", 2 },    /* to itself */
                { "\1a\xc0\x0c", 4 }, /* to its start */
                { "\xc0\x0e\xc0\x0c", 4 },
                { "\xc0\x00", 2 }, /* to the header */
                { "\xff\xff", 2 }, /* behind the end */
                { "\x40", 1 },     /* a label of 64 bytes */
                { "\x80\x00", 2 },
        };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                query_print(query, ".", ns_t_a, 0);
                memcpy(query + 12, names[i].bytes, names[i].size);
                memcpy(query + 12 + names[i].size, "\0\1\0\1", 4);
                assert_int_equal(rcode_of(query, 12 + names[i].size + 4), ns_r_formerr);
        }
        /* 255 bytes fit, 257 do not. */
        for (size_t n = 127; n <= 128; n++) {
                query_print(query, ".", ns_t_a, 0);
                for (size_t i = 0; i < n; i++)
                        memcpy(query + 12 + 2 * i, "\1a", 2);
                memcpy(query + 12 + 2 * n, "\0\0\1\0\1", 5);
                assert_int_equal(rcode_of(query, 12 + 2 * n + 5), n == 127 ? 0 : ns_r_formerr);
        }
}

static void opt_of_another_name_is_malformed(void **state) {
        size_t size = query_print(query, "shop.service.fleet", ns_t_a, 0);

        query[11] = 1;
        memcpy(query + size, "\1x\0\0\51\4\0\0\0\0\0\0\0", 13);
        assert_int_equal(rcode_of(query, size + 13), ns_r_formerr);
        query[size + 12] = 1; /* more data than there is */
        assert_int_equal(rcode_of(query, size + 13), ns_r_formerr);
}

static void other_opcodes_are_not_implemented(void **state) {
        for (unsigned opcode = 1; opcode < 16; opcode++) {
                size_t size = query_print(query, "shop.service.fleet", ns_t_a, 0);

                query[2] |= (uint8_t) (opcode << 3);
                assert_int_equal(rcode_of(query, size), ns_r_notimpl);
                assert_int_equal(rcode_of(query, size - 1), ns_r_notimpl);
        }
}

/* The header, and the question if it could be read. */
static void errors_have_the_header_and_the_question(void **state) {
        static Decoded d;
        static DnsAnswer formerr = { .rcode = ns_r_formerr }, badvers = { .rcode = ns_r_badvers };
        size_t size = query_print(query, "shop.service.fleet", ns_t_a, 1232), out_size;
        uint8_t *out;
        DnsQuery q;

        assert_int_equal(message_read(query, size - 1, &q), 0);
        assert_int_equal(message_write(&q, &formerr, false, false, &out, &out_size), 0);
        assert_null(decode(out, out_size, &d));
        assert_int_equal(d.rcode, ns_r_formerr);
        assert_string_equal(d.question, "shop.service.fleet.");
        assert_int_equal(d.flags & (FLAG_AA | FLAG_RA | FLAG_TC), 0);
        free(out);
        assert_int_equal(message_read(query, 20, &q), 0);
        assert_int_equal(message_write(&q, &formerr, false, false, &out, &out_size), 0);
        assert_int_equal(out_size, 12);
        free(out);
        query[size - 5] = 1; /* the version */
        assert_int_equal(message_read(query, size, &q), 0);
        assert_int_equal(q.edns_version, 1);
        assert_int_equal(message_write(&q, &badvers, false, false, &out, &out_size), 0);
        assert_null(decode(out, out_size, &d));
        assert_int_equal(d.rcode, ns_r_badvers);
        assert_true(d.has_opt && d.opt_version == 0);
        free(out);
}

static void an_answer_counts_with_the_id_and_the_question(void **state) {
        size_t size = query_print(query, "www.Example.com", ns_t_a, 1232);
        uint8_t answer[512];

        memcpy(answer, query, size);
        answer[2] |= 0x80;
        assert_true(message_answers(query, size, answer, size) >= 0);
        assert_true(message_answers(query, size, answer, size - 11) >= 0); /* without OPT */
        answer[17] ^= 0x20;                                                /* the case of a letter */
        assert_true(message_answers(query, size, answer, size) >= 0);
        for (size_t n = 12; n < size - 11; n++)
                assert_int_equal(message_answers(query, size, answer, n), -EBADMSG);
        for (size_t i = 0; i < size - 11; i++) {
                bool matters = i < 2 || (i >= 4 && i < 6) || i >= 12;

                answer[i] ^= 1;
                assert_int_equal(message_answers(query, size, answer, size) >= 0, !matters);
                answer[i] ^= 1;
        }
        answer[2] &= 0x7f;
        assert_int_equal(message_answers(query, size, answer, size), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(answers_have_as_many_srv_records_as_fit_and_else_tc),
                TEST(answers_are_right_around_each_size_where_one_more_record_fits),
                TEST(no_record_is_omitted_that_fits),
                TEST(more_srv_records_than_64_kib_set_tc_over_tcp),
                cmocka_unit_test(a_query_cut_at_any_byte_is_malformed_or_has_no_header),
                cmocka_unit_test(other_counts_are_malformed),
                cmocka_unit_test(two_opt_and_two_tsig_are_malformed),
                cmocka_unit_test(names_with_loops_and_of_wrong_sizes_are_malformed),
                cmocka_unit_test(opt_of_another_name_is_malformed),
                cmocka_unit_test(other_opcodes_are_not_implemented),
                cmocka_unit_test(errors_have_the_header_and_the_question),
                cmocka_unit_test(an_answer_counts_with_the_id_and_the_question),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
