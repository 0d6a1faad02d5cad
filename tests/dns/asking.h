/* Questions to a table, and their decoded answers, for tests. */
#pragma once

#include "tests/dns/decoder.h"
#include "tests/dns/queries.h"

typedef struct Fixture {
        Table table;
        Random random;
        Decoded decoded; /* the last answer, and its bytes */
        size_t size;
} Fixture;

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        random_seed(&f->random, 1);
        table_file(&f->table, ".host", "77 " THIS_HOST " here a complete\n");
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        table_done(&f->table);
        free(f);
        return 0;
}

/* A service of n endpoints, whose names have 'growth' bytes more from one to the next. */
static void endpoints(Fixture *f, const char *service, unsigned n, bool ip6, unsigned growth) {
        _cleanup_text_ Text text = {};

        for (unsigned i = 0; i < n; i++) {
                char address[64];

                snprintf(address, sizeof(address), ip6 ? "fd00::%x" : "10.0.%u.%u", ip6 ? i + 1 : i / 250,
                         i % 250);
                text_printf(&text, "h%04u%.*s-00000001 %s 80 tcp http %s a big@%u.service\n", i,
                            (int) (i * growth % 30), "abcdefghijklmnopqrstuvwxyz012345", address, OTHER_HOST,
                            i);
        }
        table_file(&f->table, service, text.chars);
        assert_int_equal(table_find(&f->table, service, strlen(service))->n_lines, n);
}

/* Ask a query of these bytes. */
static const Decoded *ask_bytes(Fixture *f, const uint8_t *bytes, size_t size, bool tcp) {
        _cleanup_dns_answer_ DnsAnswer answer = {};
        _cleanup_free_ uint8_t *out = NULL;
        const char *wrong;
        DnsQuery q;

        assert_int_equal(message_read(bytes, size, &q), 0);
        assert_int_equal(q.rcode, ns_r_noerror);
        assert_true(zone_contains(&q.question));
        assert_int_equal(zone_answer(&f->table, &q.question, tcp, &f->random, &answer), 0);
        assert_int_equal(message_write(&q, &answer, true, tcp, &out, &f->size), 0);
        wrong = decode(out, f->size, &f->decoded);
        if (wrong)
                fail_msg("%s in an answer of %zu bytes", wrong, f->size);
        assert_memory_equal(out + 12, bytes + 12, q.question_size); /* echoed byte for byte */
        assert_true(f->decoded.flags & FLAG_QR && f->decoded.flags & FLAG_RD && f->decoded.flags & FLAG_RA);
        assert_int_equal(f->decoded.id, 0x1234);
        assert_int_equal(f->decoded.has_opt, q.has_edns);
        if (q.has_edns)
                assert_true(f->decoded.opt_size == MESSAGE_EDNS_SIZE && f->decoded.opt_do &&
                            f->decoded.opt_version == 0);
        return &f->decoded;
}

static const Decoded *ask(Fixture *f, const char *name, unsigned type, unsigned udp_size, bool tcp) {
        uint8_t bytes[4096];

        return ask_bytes(f, bytes, query_print(bytes, name, type, udp_size), tcp);
}
