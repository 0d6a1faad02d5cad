/* Any bytes as a query: it is dropped, or its answer is complete, fits, and another decoder reads it. */
#include "tests/dns/decoder.h"
#include "tests/dns/queries.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void fill(Table *table) {
        _cleanup_text_ Text text = {};

        table_file(table, ".host", "7 " THIS_HOST " alpha a complete\n");
        for (int i = 0; i < 90; i++)
                text_printf(&text, "h%d-00000001 %s%d 80 tcp http %s a shop@%d.service\n", i,
                            i % 3 ? "10.0.0." : "fd00::", i, i % 5 ? OTHER_HOST : THIS_HOST, i);
        table_file(table, "shop", text.chars);
}

static void check(const Table *table, const uint8_t *bytes, size_t size, bool tcp) {
        _cleanup_dns_answer_ DnsAnswer answer = {};
        _cleanup_free_ uint8_t *out = NULL;
        static Decoded d;
        size_t out_size, max;
        Random random;
        DnsQuery q;

        random_seed(&random, 1);
        if (message_read(bytes, size, &q) < 0) {
                assert(size < NS_HFIXEDSZ || bytes[2] & 0x80);
                return;
        }
        answer.rcode = q.rcode;
        if (q.rcode == ns_r_noerror && zone_contains(&q.question)) {
                assert(zone_answer(table, &q.question, tcp, &random, &answer) == 0);
                assert(answer.rcode != ns_r_noerror || answer.n_records > 0 || answer.negative);
        }
        assert(message_write(&q, &answer, true, tcp, &out, &out_size) == 0);
        max = q.has_edns ? MIN(MAX(q.udp_size, 512u), 8192u) : 512;
        assert(out_size <= (tcp ? NS_MAXMSG : max));
        assert(decode(out, out_size, &d) == NULL);
        assert(d.id == decode_u16(bytes) && d.flags & FLAG_QR && (d.rcode == answer.rcode));
        assert(memcmp(out + NS_HFIXEDSZ, bytes + NS_HFIXEDSZ, q.question_size) == 0);
        if (q.rcode == ns_r_noerror) {
                /* An answer to it counts, and to nothing else. */
                assert(message_answers(bytes, size, out, out_size) == (int) (answer.rcode & 0xf));
                out[NS_HFIXEDSZ + q.question_size - 1] ^= 1;
                assert(message_answers(bytes, size, out, out_size) < 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static Table table;

        if (!table.is_known)
                fill(&table);
        check(&table, bytes, size, false);
        check(&table, bytes, size, true);
        return 0;
}
