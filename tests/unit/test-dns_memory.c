/* fleet-dns without memory: each allocation fails once, and nothing is lost or left behind. */
#include "tests/lib/test.h"
#include "dns/forward.h"
#include "tests/dns/queries.h"
#include "tests/lib/alloc.h"

#include <sys/socket.h>

static const char shop[] = "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a shop@1.service\n"
                           "b-00000002 fd00::2 80 tcp http " OTHER_HOST " b shop@2.service\n";

/* The text of a file, which the test allocates, and not the code under test. */
static char *text_of(const char *text) {
        char *copy;

        alloc_pause(true);
        copy = strdup(text);
        alloc_pause(false);
        return copy;
}

static int take_files(void *userdata) {
        _cleanup_(table_done) Table table = {};

        TRY(table_take(&table, ".host", text_of("7 " THIS_HOST " alpha a complete\n")));
        TRY(table_take(&table, "shop", text_of(shop)));
        TRY(table_take(&table, "db", text_of(shop)));
        TRY(table_take(&table, "shop", text_of(shop)));
        return table_take(&table, "shop", NULL);
}

static int answer(void *userdata) {
        static const unsigned types[] = { ns_t_a, ns_t_srv, ns_t_any, 65 };
        uint8_t bytes[4096];
        Random random;

        random_seed(&random, 1);
        for (size_t i = 0; i < ELEMENTS(types); i++) {
                _cleanup_dns_answer_ DnsAnswer found = {};
                _cleanup_free_ uint8_t *out = NULL;
                size_t size;
                DnsQuery q;

                assert_int_equal(
                        message_read(bytes, query_print(bytes, "shop.service.fleet", types[i], 1232), &q), 0);
                TRY(zone_answer(userdata, &q.question, i % 2, &random, &found));
                TRY(message_write(&q, &found, true, i % 2, &out, &size));
        }
        return 0;
}

static int ends[8];
static size_t n_ends, n_answers;

static int pair_open(void *userdata, const Address *server, bool tcp) {
        int fds[2];

        assert_int_equal(
                socketpair(AF_UNIX, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                0);
        ends[n_ends++] = fds[1];
        return fds[0];
}

static uint16_t pair_id(void *userdata) {
        return 0x3412;
}

static void pair_answer(void *userdata, const ForwardClient *client, const uint8_t *bytes, size_t size) {
        n_answers++;
}

/* Two clients share a query. The first server fails, and the second one answers, or nothing does. A query
 * that was accepted is answered, or without memory for the answer it ends. */
static int forward(void *userdata) {
        static const ForwardOps ops = { pair_open, pair_id, pair_answer };
        _cleanup_(forward_freep) Forward *f = NULL;
        bool tcp = *(bool *) userdata, refused = false;
        ForwardClient client = { .kind = SOURCE_HOST, .connection = tcp };
        uint8_t bytes[4096 + 2] = {};
        size_t size = query_print(bytes + 2, "a.example", ns_t_a, 0);

        n_ends = n_answers = 0;
        TRY(forward_new(&ops, NULL, &f));
        (void) forward_read_servers(f, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n", NULL, 0);
        for (int i = 0; i < 2; i++)
                refused |= forward_query(f, &client, bytes + 2, size, 1) == ns_r_servfail;
        forward_process(f, 1);
        bytes[1] = (uint8_t) size;
        bytes[4] |= 0x80;
        bytes[5] = ns_r_servfail;
        if (n_ends > 0)
                assert_true(send(ends[0], bytes + (tcp ? 0 : 2), size + (tcp ? 2 : 0), MSG_NOSIGNAL) > 0);
        for (uint64_t now_ms = 1; now_ms < 9000; now_ms += 500)
                (void) forward_process(f, now_ms);
        assert_int_equal(forward_process(f, 9000), UINT64_MAX);
        for (size_t i = 0; i < n_ends; i++)
                close(ends[i]);
        assert_true(n_answers == 2 || refused || alloc_has_failed());
        return refused || alloc_has_failed() ? -ENOMEM : 0;
}

static void each_failure_is_survived(void **state) {
        Table table = {};
        bool udp = false, tcp = true;

        table_file(&table, ".host", "7 " THIS_HOST " alpha a complete\n");
        table_file(&table, "shop", shop);
        assert_true(alloc_fail_each("files", take_files, NULL, 1) >= 10);
        assert_true(alloc_fail_each("answers", answer, &table, 1) >= 6);
        assert_true(alloc_fail_each("forwarding over UDP", forward, &udp, 1) >= 4);
        assert_true(alloc_fail_each("forwarding over TCP", forward, &tcp, 1) >= 5);
        table_done(&table);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_failure_is_survived),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
